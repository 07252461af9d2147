//! The built-in answerer behind the gate: it quotes, and needs no network.

use uuid::Uuid;

use super::provider::Message;
use crate::ai::{
    answerer::{self, Answered},
    prompt::{self, Packed, Passage},
    sentences::sentences,
    tokens::{count_tokens, cut_to_tokens},
};

/// Said to a prompt in which there is nothing to quote from.
const NOTHING_TO_QUOTE: &str =
    "The built-in answerer quotes from the text it is given, and this prompt holds a question only.";

/// Answers from the packed passages, or else from what stands before the question: earlier messages, the lines
/// above the last one, the sentences before it.
pub(super) fn answer(question: &str, packed: Option<&Packed>, earlier: &[Message], max_tokens: usize) -> Answered {
    if let Some(packed) = packed {
        return answerer::answer(question, packed, max_tokens);
    }
    let (above, asked) = split(question);
    let passage = |content: &str| Passage {
        document: Uuid::nil(),
        chunk: Uuid::nil(),
        title: String::new(),
        content: content.to_owned(),
        score: 1.0,
    };
    let texts = earlier.iter().map(|message| &*message.content).chain([above]);
    let passages: Vec<Passage> = texts.filter(|text| !text.trim().is_empty()).map(passage).collect();
    let text = match passages.is_empty() {
        true => NOTHING_TO_QUOTE.to_owned(),
        false => {
            let packed = prompt::pack(asked, &passages, usize::MAX);
            let quotes = answerer::answer(asked, &packed, max_tokens).citations;
            quotes.iter().map(|quote| &*quote.quote).collect::<Vec<_>>().join(" ")
        }
    };
    let text = cut_to_tokens(&text, max_tokens).to_owned();
    Answered {
        completion_tokens: count_tokens(&text),
        text,
        citations: Vec::new(),
        prompt_tokens: 0,
    }
}

/// What stands before the last line, or else before the last sentence; and that.
fn split(prompt: &str) -> (&str, &str) {
    let prompt = prompt.trim();
    if let Some((above, last)) = prompt.rsplit_once('\n') {
        return (above, last);
    }
    match sentences(prompt).last() {
        Some(last) if last.len() < prompt.len() => {
            let at = last.as_ptr() as usize - prompt.as_ptr() as usize;
            prompt.split_at(at)
        }
        _ => ("", prompt),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_quotes_from_the_prompt_and_from_what_was_said() {
        let text = |prompt: &str, earlier: &[Message]| answer(prompt, None, earlier, 100).text;
        let prompt = "The kettle is on the second floor. Tea is free.\nWhere is the kettle?";
        assert!(text(prompt, &[]).contains("The kettle is on the second floor."));
        let prompt = "The kettle is on the second floor. Where is the kettle?";
        assert!(text(prompt, &[]).contains("second floor"));
        let said = [Message::user("My name is Ada and I like trains.")];
        assert!(text("What is my name?", &said).contains("Ada"));
        assert_eq!(text("Where is the kettle?", &[]), NOTHING_TO_QUOTE);
        assert_eq!(text("", &[]), NOTHING_TO_QUOTE);
        assert!(answer(&"long text. ".repeat(100), None, &[], 3).completion_tokens <= 3);
    }
}
