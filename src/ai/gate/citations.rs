//! Which passages an answer rests on.

use std::collections::HashSet;

use crate::ai::{
    answerer::Citation,
    prompt::{Packed, Passage},
    sentences::sentences,
    terms::words,
};

/// The passages that a model's answer names as `[1]`, in the order it names them. A model that names none has
/// still been shown them all, and all are given. Numbers of passages that were not shown are ignored.
pub fn cited(answer: &str, question: &str, packed: &Packed) -> Vec<Citation> {
    let mut order: Vec<usize> = Vec::new();
    let mut rest = answer;
    while let Some(start) = rest.find('[') {
        rest = &rest[start + 1..];
        let Some(end) = rest.find(']') else { break };
        // `[1]`, `[1, 3]`
        for number in rest[..end].split(',') {
            if let Ok(n) = number.trim().parse::<usize>()
                && (1..=packed.passages.len()).contains(&n)
                && !order.contains(&n)
            {
                order.push(n);
            }
        }
    }
    if order.is_empty() {
        order = (1..=packed.passages.len()).collect();
    }
    order
        .into_iter()
        .map(|n| {
            let passage = &packed.passages[n - 1];
            Citation {
                n,
                document_id: passage.document,
                chunk_id: passage.chunk,
                title: passage.title.clone(),
                score: passage.score,
                quote: quote(passage, answer, question),
            }
        })
        .collect()
}

/// The sentence of the passage that shares most words with the answer, then with the question.
fn quote(passage: &Passage, answer: &str, question: &str) -> String {
    let stems = |text: &str| -> HashSet<String> {
        words(text)
            .filter(|word| !word.is_stop())
            .map(|word| word.stem())
            .collect()
    };
    let (answered, asked) = (stems(answer), stems(question));
    let best = sentences(&passage.content).into_iter().rev().max_by_key(|sentence| {
        let own = stems(sentence);
        (own.intersection(&answered).count(), own.intersection(&asked).count())
    });
    best.unwrap_or(&passage.content).to_owned()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ai::prompt;

    fn packed() -> Packed {
        let passage = |n: u128, content: &str| Passage {
            document: Uuid::from_u128(n),
            chunk: Uuid::from_u128(n),
            title: format!("T{n}"),
            content: content.to_owned(),
            score: 1.0,
        };
        let passages = [
            passage(1, "Backups are kept for 35 days. Lifts close at nine."),
            passage(2, "Refunds take a week."),
        ];
        prompt::pack("How long are backups kept?", &passages, 500)
    }

    #[test]
    fn the_named_passages_are_cited_once_and_in_order() {
        let numbers = |answer: &str| cited(answer, "q", &packed()).iter().map(|c| c.n).collect::<Vec<_>>();
        assert_eq!(numbers("A week [2]. And 35 days [1][2]."), [2, 1]);
        assert_eq!(numbers("Both [1, 2]"), [1, 2]);
        assert_eq!(numbers("Nobody [7] knows [x] [0] [-1] ["), [1, 2]);
        assert_eq!(numbers("no number"), [1, 2]);
    }

    #[test]
    fn the_quote_is_the_sentence_that_was_used() {
        let found = cited("For 35 days [1].", "How long are backups kept?", &packed());
        assert_eq!(found[0].quote, "Backups are kept for 35 days.");
    }
}
