//! Words of a text, folded and stemmed: what keyword search and the built-in models compare.

use std::borrow::Cow;
use std::collections::HashMap;

use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

use super::hash::stable_hash;
use super::stemmer::stem;

/// Longest word that is looked at, in bytes; the rest of a longer one (a key, an encoded file) is
/// ignored.
const WORD_BYTES: usize = 64;

/// Words that say how a sentence is built rather than what it is about. Sorted.
const STOP_WORDS: &[&str] = &[
    "a", "about", "after", "again", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "because",
    "been", "before", "being", "between", "both", "but", "by", "can", "could", "did", "do", "does", "doing", "during",
    "each", "for", "from", "had", "has", "have", "having", "he", "her", "here", "hers", "him", "his", "how", "i", "if",
    "in", "into", "is", "it", "its", "just", "many", "may", "me", "might", "more", "most", "much", "must", "my", "no",
    "nor", "not", "of", "off", "on", "once", "one", "only", "or", "other", "our", "out", "over", "own", "same", "she",
    "should", "so", "some", "such", "than", "that", "the", "their", "theirs", "them", "then", "there", "these", "they",
    "this", "those", "through", "to", "too", "under", "until", "up", "very", "was", "we", "were", "what", "when",
    "where", "which", "while", "who", "whom", "whose", "why", "will", "with", "would", "you", "your", "yours",
];

/// One word of a text.
#[derive(Debug, PartialEq)]
pub struct Word<'a> {
    /// As it stands in the text.
    pub raw: &'a str,
    /// Where it begins, in bytes.
    pub start: usize,
    /// Lower case, without accents, possessive 's or the commas of a number.
    pub folded: Cow<'a, str>,
}

impl Word<'_> {
    /// Whether it is among the words that keyword search ignores.
    pub fn is_stop(&self) -> bool {
        STOP_WORDS.binary_search(&self.folded.as_ref()).is_ok()
    }

    /// The folded word without its English ending; words of other letters are left alone.
    pub fn stem(&self) -> String {
        stem(&self.folded)
    }
}

/// The words of a text in order: Unicode's word boundaries (UAX 29; an ideograph is a word),
/// further cut at `.`, `_` and `:` except inside numbers and between single letters (`U.S.`).
pub fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    text.unicode_word_indices().flat_map(|(start, word)| {
        let whole = is_number(word) || is_initials(word);
        let mut at = start;
        word.split_inclusive(move |c| !whole && matches!(c, '.' | '_' | ':'))
            .filter_map(move |part| {
                let start = at;
                at += part.len();
                let raw = if whole {
                    part
                } else {
                    part.trim_end_matches(['.', '_', ':'])
                };
                (!raw.is_empty()).then(|| Word {
                    raw,
                    start,
                    folded: fold(raw),
                })
            })
    })
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
        && word
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b','))
}

fn is_initials(word: &str) -> bool {
    word.contains('.') && word.split('.').all(|part| part.chars().count() <= 1)
}

fn fold(raw: &str) -> Cow<'_, str> {
    let raw = &raw[..raw.floor_char_boundary(WORD_BYTES)];
    let raw = ["'s", "\u{2019}s", "'S", "\u{2019}S"]
        .iter()
        .find_map(|end| raw.strip_suffix(end))
        .unwrap_or(raw);
    if raw.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return Cow::Borrowed(raw);
    }
    if raw.is_ascii() {
        let kept = raw
            .chars()
            .filter(|c| !matches!(c, '.' | ',') || is_decimal_point(raw, *c));
        return Cow::Owned(kept.map(|c| c.to_ascii_lowercase()).collect());
    }
    // Accents only: the marks of other scripts are letters to their readers.
    let without_accents = raw.nfkd().filter(|c| !('\u{300}'..='\u{36f}').contains(c));
    Cow::Owned(without_accents.flat_map(char::to_lowercase).nfkc().collect())
}

/// A number's comma separates thousands and goes; its point stays; the points of initials go.
fn is_decimal_point(raw: &str, c: char) -> bool {
    c == '.' && raw.starts_with(|first: char| first.is_ascii_digit())
}

/// A text as keyword search sees it: how often each word that matters occurs, by hash of its stem.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Terms {
    /// Sorted by hash.
    counts: Box<[(u64, u16)]>,
    length: u32,
}

impl Terms {
    /// Of a whole text.
    pub fn of(text: &str) -> Self {
        Self::of_words(words(text))
    }

    /// Of the first words of a text, for a title that may be absurdly long.
    pub fn of_first(text: &str, most: usize) -> Self {
        Self::of_words(words(text).take(most))
    }

    fn of_words<'a>(words: impl Iterator<Item = Word<'a>>) -> Self {
        let mut counts: HashMap<u64, u16> = HashMap::new();
        let mut length = 0u32;
        for word in words.filter(|word| !word.is_stop()) {
            let count = counts.entry(term_hash(&word.stem())).or_default();
            *count = count.saturating_add(1);
            length = length.saturating_add(1);
        }
        let mut counts: Box<[(u64, u16)]> = counts.into_iter().collect();
        counts.sort_unstable();
        Self { counts, length }
    }

    /// Each distinct term's hash and how often it occurs, in the order of hashes.
    pub fn counts(&self) -> &[(u64, u16)] {
        &self.counts
    }

    /// How many words that matter the text has, repetitions included.
    pub fn length(&self) -> u32 {
        self.length
    }
}

/// The hash under which a stem is indexed.
pub(super) fn term_hash(stem: &str) -> u64 {
    stable_hash(b't', stem.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> Vec<String> {
        words(text).map(|word| word.folded.into_owned()).collect()
    }

    #[test]
    fn words_are_folded_and_split_where_a_reader_would() {
        for (text, expected) in [
            ("Tesla's café, TESLA\u{2019}S", "tesla cafe tesla"),
            ("1,190 of 3.50 in the U.S.A. today", "1190 of 3.50 in the usa today"),
            (
                "see example.com max_open_files std::mem",
                "see example com max open files std mem",
            ),
            ("naïve Straße ﬁne Ⅷ", "naive straße fine viii"),
            ("東京 タワー", "東 京 タワー"),
            ("हिन्दी", "हिन्दी"),
            ("... --- !!!", ""),
        ] {
            assert_eq!(folded(text).join(" "), expected, "{text}");
        }
        for word in words("The naïve 1,190 U.S. foo.bar_baz") {
            assert_eq!(
                &"The naïve 1,190 U.S. foo.bar_baz"[word.start..][..word.raw.len()],
                word.raw
            );
        }
    }

    #[test]
    fn terms_are_stems_without_stop_words() {
        let a = Terms::of("The connected connections of connecting");
        assert_eq!((a.counts().len(), a.length()), (1, 3));
        assert_eq!(a.counts(), Terms::of("CONNECT connect connect").counts());
        assert_eq!(Terms::of("what is the"), Terms::default());
        assert_eq!(Terms::of_first("alpha beta gamma", 2), Terms::of("alpha beta"));
        assert!(STOP_WORDS.is_sorted());
    }

    #[test]
    fn hostile_words_are_bounded() {
        assert_eq!(folded(&"x".repeat(1 << 20))[0].len(), WORD_BYTES);
        assert_eq!(Terms::of(&"a\u{301}".repeat(100_000)).length(), 1);
        assert_eq!(Terms::of(&"word ".repeat(100_000)).counts()[0].1, u16::MAX);
        Terms::of(&"a.".repeat(100_000));
        Terms::of(&"\u{0}\u{202e}\u{feff}".repeat(1000));
    }
}
