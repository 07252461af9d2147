//! How many tokens a model would count: OpenAI's encodings, `o200k_base` where nothing else is known.

use std::collections::HashSet;

use tiktoken_rs::{CoreBPE, tokenizer};

/// Most bytes encoded at once. The encoder's work grows faster than its input where a text has no
/// spaces, so a longer one is cut, before a space if there is one. Each cut may add a token.
const PIECE_BYTES: usize = 4 << 10;

/// How a model cuts text into tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// OpenAI's models since GPT-4o; also what is counted for models whose encoding is unknown.
    O200k,
    /// GPT-4, GPT-3.5 and the embedding models.
    Cl100k,
}

impl Encoding {
    /// That of a provider's model, by its name.
    pub fn of_model(model: &str) -> Self {
        match tokenizer::get_tokenizer(model) {
            Some(tokenizer::Tokenizer::Cl100kBase) => Self::Cl100k,
            _ => Self::O200k,
        }
    }

    /// Tokens in a text. Exact up to 4 KiB, beyond that too high by at most one per 4 KiB. Linear in
    /// the length of the text, whatever it holds; special tokens in it are plain text.
    pub fn count(self, text: &str) -> usize {
        pieces(text)
            .map(|piece| self.encode(piece).map_or(piece.len(), |tokens| tokens.len()))
            .sum()
    }

    /// Loaded on first use and kept.
    fn table(self) -> &'static CoreBPE {
        match self {
            Self::O200k => tiktoken_rs::o200k_base_singleton(),
            Self::Cl100k => tiktoken_rs::cl100k_base_singleton(),
        }
    }

    fn encode(self, piece: &str) -> Option<Vec<u32>> {
        // An error means that the pattern gave up; the caller then counts bytes, which is never too low.
        self.table()
            .encode(piece, &HashSet::new())
            .ok()
            .map(|(tokens, _)| tokens)
    }
}

/// [`Encoding::count`] of `o200k_base`.
pub fn count_tokens(text: &str) -> usize {
    Encoding::O200k.count(text)
}

/// The longest beginning of a text, to the character, that this function can show to have at most
/// `budget` tokens.
pub fn cut_to_tokens(text: &str, budget: usize) -> &str {
    let mut left = budget;
    let mut end = 0;
    for piece in pieces(text) {
        let tokens = Encoding::O200k.encode(piece);
        let count = tokens.as_ref().map_or(piece.len(), Vec::len);
        if count <= left {
            left -= count;
            end += piece.len();
            continue;
        }
        let kept = &tokens.unwrap_or_default()[..left];
        let bytes = Encoding::O200k
            .table()
            .decode_bytes(kept)
            .map_or(0, |bytes| bytes.len());
        end += piece.floor_char_boundary(bytes);
        break;
    }
    // A beginning may encode differently on its own, hence the check; a step back is rare.
    while count_tokens(&text[..end]) > budget {
        end = text.floor_char_boundary(end - 1);
    }
    &text[..end]
}

fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = rest.floor_char_boundary(PIECE_BYTES);
        if end < rest.len() {
            // A token begins with its space, so a cut before one changes nothing.
            end = rest[..end].rfind(' ').filter(|space| *space > 0).unwrap_or(end);
        }
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_counts() {
        for (text, tokens) in [("", 0), ("hello world", 2), ("<|endoftext|>", 7), ("東京", 1)] {
            assert_eq!(count_tokens(text), tokens, "{text}");
        }
        let text = "The quick brown fox jumps over the lazy dog. ".repeat(1000);
        let whole = Encoding::O200k.encode(&text).unwrap().len();
        let counted = count_tokens(&text);
        assert!(
            counted >= whole && counted <= whole + text.len() / PIECE_BYTES + 1,
            "{counted} {whole}"
        );
    }

    #[test]
    fn models_are_counted_by_their_own_encoding() {
        for (model, encoding) in [
            ("gpt-4o-mini", Encoding::O200k),
            ("gpt-4-0613", Encoding::Cl100k),
            ("gpt-3.5-turbo", Encoding::Cl100k),
            ("text-embedding-3-small", Encoding::Cl100k),
            ("llama3.2:3b", Encoding::O200k),
        ] {
            assert_eq!(Encoding::of_model(model), encoding, "{model}");
        }
        let text = "東京は今日も雨です";
        assert!(Encoding::Cl100k.count(text) > Encoding::O200k.count(text));
    }

    /// In quadratic time this would not end.
    #[test]
    fn hostile_texts_are_counted() {
        for unit in [
            "a", " ", "\n", "\t ", "A", "\u{301}", "1", "!", "\r\n", "ab ", "𝔘", "東", "'s",
        ] {
            let text = unit.repeat((256 << 10) / unit.len());
            assert!(count_tokens(&text) <= text.len());
            assert!(count_tokens(cut_to_tokens(&text, 100)) <= 100);
        }
    }

    proptest! {
        #[test]
        fn a_cut_keeps_its_budget(text in "(\\PC|[ a-z\n]|é̈){0,200}", budget in 0usize..60) {
            let cut = cut_to_tokens(&text, budget);
            prop_assert!(text.starts_with(cut));
            prop_assert!(count_tokens(cut) <= budget);
            if count_tokens(&text) <= budget {
                prop_assert_eq!(cut, &*text);
            }
        }
    }
}
