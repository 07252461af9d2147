//! Embeddings of a batch of texts.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    exchange::{Reply, Unread, Upstream},
    failure::{Failure, Kind},
    usage::Report,
};
use crate::{ledger::provider::Secret, limits};

/// The vectors of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    /// One per text in the order of the texts, all of one dimension, finite.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens that the provider says it read; absent if it does not say, or cannot be believed.
    pub usage: Option<i64>,
    /// A usage was reported that cannot be true.
    pub usage_absurd: bool,
    /// The model that the provider says has answered.
    pub model: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: &'a [&'a str],
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    data: Vec<Item>,
    #[serde(default)]
    usage: Value,
    #[serde(default)]
    model: Value,
    #[serde(default)]
    error: Value,
}

#[derive(Deserialize)]
struct Item {
    index: Option<usize>,
    embedding: Vec<f32>,
}

/// Bytes of one number in a reply, generously.
const NUMBER_BYTES: usize = 32;

pub(super) async fn embed(
    upstream: &Upstream,
    key: Option<&Secret>,
    model: &str,
    inputs: &[&str],
    deadline: Instant,
) -> Result<Embedded, Failure> {
    let api = upstream.api(key, deadline);
    let body = Body { model, input: inputs };
    let sent = api.embeddings().create_byot::<_, Unread>(&body).await;
    let most = inputs
        .len()
        .saturating_mul(limits::VECTOR_DIMENSIONS * NUMBER_BYTES)
        .saturating_add(limits::PROVIDER_REPLY_BASE_BYTES);
    let mut reply = Reply::of(sent, key, deadline, most).await?;
    let body = reply.whole().await?;
    let malformed = || Failure {
        status: Some(reply.status()),
        ..Failure::new(Kind::Malformed)
    };
    let answer: Answer = serde_json::from_slice(&body).map_err(|_| malformed())?;
    if !answer.error.is_null() {
        return Err(Failure::of_error_object(reply.status(), &answer.error, key));
    }
    let report = Report::read(&answer.usage);
    Ok(Embedded {
        vectors: in_order(answer.data, inputs.len()).ok_or_else(malformed)?,
        usage: report.believed().map(|usage| usage.prompt),
        usage_absurd: report == Report::Absurd,
        model: answer
            .model
            .as_str()
            .map(|model| model.chars().take(limits::PROVIDER_ID_BYTES).collect()),
    })
}

/// One vector for each text, by index; without an index, by place. `None` if any is missing, there
/// twice, not finite, or of another dimension.
fn in_order(items: Vec<Item>, texts: usize) -> Option<Vec<Vec<f32>>> {
    if items.len() != texts {
        return None;
    }
    let dimensions = items.first().map_or(1, |item| item.embedding.len());
    if !(1..=limits::VECTOR_DIMENSIONS).contains(&dimensions) {
        return None;
    }
    let mut vectors = vec![Vec::new(); texts];
    for (place, item) in items.into_iter().enumerate() {
        let slot = vectors.get_mut(item.index.unwrap_or(place))?;
        let sound = item.embedding.len() == dimensions && item.embedding.iter().all(|value| value.is_finite());
        if !sound || !slot.is_empty() {
            return None;
        }
        *slot = item.embedding;
    }
    Some(vectors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(index: impl Into<Option<usize>>, embedding: &[f32]) -> Item {
        Item {
            index: index.into(),
            embedding: embedding.to_vec(),
        }
    }

    #[test]
    fn vectors_find_their_texts() {
        let (a, b): (&[f32], &[f32]) = (&[1.0, 2.0], &[3.0, 4.0]);
        let both = Some(vec![a.to_vec(), b.to_vec()]);
        assert_eq!(in_order(vec![item(0, a), item(1, b)], 2), both);
        assert_eq!(in_order(vec![item(1, b), item(0, a)], 2), both);
        assert_eq!(in_order(vec![item(None, a), item(None, b)], 2), both);
        assert_eq!(in_order(Vec::new(), 0), Some(Vec::new()));
        for wrong in [
            vec![item(0, a)],
            vec![item(0, a), item(1, b), item(2, b)],
            vec![item(0, a), item(0, b)],
            vec![item(0, a), item(2, b)],
            vec![item(0, a), item(1, &[3.0])],
            vec![item(0, a), item(1, &[3.0, f32::INFINITY])],
            vec![item(0, &[]), item(1, &[])],
        ] {
            assert_eq!(in_order(wrong, 2), None);
        }
        let widest = vec![0.5; limits::VECTOR_DIMENSIONS + 1];
        assert!(in_order(vec![item(0, &widest[1..])], 1).is_some());
        assert_eq!(in_order(vec![item(0, &widest)], 1), None);
    }
}
