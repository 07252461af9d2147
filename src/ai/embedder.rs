//! The built-in embedder: feature hashing, so that the product works on a fresh machine.
//!
//! Words, pairs of neighbouring words and runs of 3 to 5 characters are hashed with signs into
//! [`limits::BUILTIN_DIMENSIONS`] numbers (Weinberger et al. 2009, "Feature Hashing for Large
//! Scale Multitask Learning"). It sees spelling, not meaning. Its vectors are stored, so its
//! output for a text must never change under the same [`MODEL`] name.

use super::chunking::PASSAGE_TITLE_BYTES;
use super::hash::{stable_hash, stable_pair};
use super::terms::words;
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::vector::Embedding;

/// The name under which its vectors are stored and its use is metered.
pub const MODEL: &str = "builtin-hash-1024";

// How much each kind of feature counts, chosen on the questions of XQuAD (English).
const WORD: f32 = 1.0;
const STOP_WORD: f32 = 0.05;
const PAIR: f32 = 0.25;
/// Shared among the runs of a word.
const RUNS: f32 = 1.5;
const RUN_LENGTHS: std::ops::RangeInclusive<usize> = 3..=5;

// A chunk of the widest characters, behind its title, can be embedded.
const _: () = assert!(limits::CHUNK_CHARS * 4 + PASSAGE_TITLE_BYTES + 2 <= limits::QUERY_BYTES);

/// The vector of a text, of unit length; all zeros for a text without words.
///
/// # Errors
/// [`Code::TooLarge`] for a text of more than [`limits::QUERY_BYTES`]: a long document is embedded
/// chunk by chunk.
pub fn embed(text: &str) -> Result<Embedding> {
    if text.len() > limits::QUERY_BYTES {
        let message = format!("a text to embed may have at most {} bytes", limits::QUERY_BYTES);
        return Err(Error::new(Code::TooLarge, message).with_hint("cut it into shorter texts"));
    }
    let mut features: Vec<(u64, f32)> = Vec::new();
    let mut previous: Option<u64> = None;
    let mut starts = Vec::new();
    let mut padded = String::new();
    for word in words(text) {
        let feature = stable_hash(b'w', word.stem().as_bytes());
        if word.is_stop() {
            features.push((feature, STOP_WORD));
            continue;
        }
        features.push((feature, WORD));
        if let Some(previous) = previous.replace(feature) {
            features.push((stable_pair(previous, feature), PAIR));
        }
        padded.clear();
        padded.push('^');
        padded.push_str(&word.folded);
        padded.push('$');
        starts.clear();
        starts.extend(padded.char_indices().map(|(at, _)| at));
        starts.push(padded.len());
        let characters = starts.len() - 1;
        let runs: usize = RUN_LENGTHS.map(|length| (characters + 1).saturating_sub(length)).sum();
        let weight = RUNS / (runs.max(1) as f32).sqrt();
        for length in RUN_LENGTHS {
            for ends in starts.windows(length + 1) {
                features.push((stable_hash(b'c', &padded.as_bytes()[ends[0]..ends[length]]), weight));
            }
        }
    }
    let mut vector = vec![0f64; limits::BUILTIN_DIMENSIONS];
    // Sorted, equal features are neighbours with the heaviest last, and are added up in an order
    // that does not depend on the text: sums of floats do.
    features.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    for same in features.chunk_by(|a, b| a.0 == b.0) {
        let (feature, weight) = same[same.len() - 1];
        let sign = if feature >> 63 == 0 { 1.0 } else { -1.0 };
        let place = (feature % limits::BUILTIN_DIMENSIONS as u64) as usize;
        vector[place] += sign * f64::from(weight) * (1.0 + (same.len() as f64).ln());
    }
    let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    Embedding::new(
        vector
            .into_iter()
            .map(|value| (value * scale) as f32)
            .collect::<Vec<_>>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::Metric;

    fn distance(a: &str, b: &str) -> f64 {
        Metric::Cosine.distance(embed(a).unwrap().as_slice(), embed(b).unwrap().as_slice())
    }

    #[test]
    fn like_texts_are_near() {
        let question = "How are refunds paid?";
        assert!(
            distance(question, "A refund is paid by bank transfer.") < distance(question, "The harbour opens at nine.")
        );
        assert!(distance("connection", "connections") < distance("connection", "ship"));
        assert!(distance("colour of the boat", "color of the boat") < 0.6);
        assert!(distance("Café Zürich", "cafe zurich").abs() < 1e-6);
    }

    #[test]
    fn vectors_have_unit_length_or_are_zero() {
        for text in ["word", "two words", &"many words and more ".repeat(1000), "東京", "x"] {
            let vector = embed(text).unwrap();
            let length: f64 = vector.as_slice().iter().map(|value| f64::from(*value).powi(2)).sum();
            assert!((length - 1.0).abs() < 1e-5, "{text}");
            assert_eq!(vector.dimensions(), limits::BUILTIN_DIMENSIONS);
        }
        assert_eq!(
            embed(&"a ".repeat(limits::QUERY_BYTES)).unwrap_err().code(),
            Code::TooLarge
        );
        for text in ["", " \n", "!?"] {
            assert!(embed(text).unwrap().as_slice().iter().all(|value| *value == 0.0));
        }
    }

    #[test]
    fn stored_vectors_depend_on_this() {
        let vector = embed("The ship's 12 bulkheads held; water stayed in one compartment. Über-café!").unwrap();
        let bits = vector.as_slice().iter().fold(0u64, |hash, value| {
            // To six digits: the last bits of a logarithm may differ between machines.
            let rounded = (f64::from(*value) * 1e6).round() as i64;
            stable_pair(hash, rounded as u64)
        });
        assert_eq!(
            bits, 9401897236610958208,
            "a change of the embedder needs a new MODEL name: stored vectors are of the old kind"
        );
    }
}
