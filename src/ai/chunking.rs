//! A document's text is cut into chunks: what is embedded, ranked and quoted.

use text_splitter::{ChunkConfig, TextSplitter};

use crate::limits;

/// Most bytes given to the splitter at once: its work grows with the square of the line breaks in
/// its input. Chunks do not reach over the end of a block.
const BLOCK_BYTES: usize = 16 << 10;

/// Cuts a text into chunks of at most [`limits::CHUNK_CHARS`] characters at the best boundaries it
/// has (paragraphs, lines, sentences, words, then characters); neighbours share up to
/// [`limits::CHUNK_OVERLAP_CHARS`]. Chunks are trimmed of white space and in order. A text with
/// nothing in it makes one empty chunk, so that its document can be found by its title. Linear in
/// the length of the text.
pub fn chunk(content: &str) -> Vec<&str> {
    let config = ChunkConfig::new(limits::CHUNK_CHARS);
    // The limits are compared at compile time, so the overlap always fits.
    let config = config
        .with_overlap(limits::CHUNK_OVERLAP_CHARS)
        .unwrap_or_else(|_| ChunkConfig::new(limits::CHUNK_CHARS));
    let splitter = TextSplitter::new(config);
    let mut chunks = Vec::new();
    let mut rest = content;
    while !rest.is_empty() {
        let (block, after) = rest.split_at(block_end(rest));
        rest = after;
        chunks.extend(splitter.chunks(block));
    }
    if chunks.is_empty() {
        chunks.push("");
    }
    chunks
}

/// What is embedded for a chunk: its document's title, then its text.
pub fn passage(title: &str, chunk: &str) -> String {
    let title = &title[..title.floor_char_boundary(PASSAGE_TITLE_BYTES)];
    match (title.trim().is_empty(), chunk.is_empty()) {
        (true, _) => chunk.to_owned(),
        (false, true) => title.to_owned(),
        (false, false) => format!("{title}\n\n{chunk}"),
    }
}

/// How much of a title goes in front of each chunk; a title may be as long as many chunks.
pub(super) const PASSAGE_TITLE_BYTES: usize = 256;

fn block_end(text: &str) -> usize {
    if text.len() <= BLOCK_BYTES {
        return text.len();
    }
    let end = text.floor_char_boundary(BLOCK_BYTES);
    let half = text.floor_char_boundary(BLOCK_BYTES / 2);
    let late = &text[half..end];
    ["\n\n", "\n", ". ", " "]
        .iter()
        .find_map(|cut| Some(half + late.rfind(cut)? + cut.len()))
        .unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_document_without_text_has_one_empty_chunk() {
        assert_eq!(chunk(""), [""]);
        assert_eq!(chunk(" \n\t "), [""]);
        assert_eq!(chunk("one"), ["one"]);
        assert_eq!(passage("Title", ""), "Title");
        assert_eq!(passage(" ", "text"), "text");
        assert_eq!(passage("Title", "text"), "Title\n\ntext");
    }

    #[test]
    fn chunks_are_bounded_in_order_and_cover_the_text() {
        let text: String = (0..40_000)
            .map(|i| format!("Sentence {i} is here.{}", if i % 7 == 0 { "\n\n" } else { " " }))
            .collect();
        let chunks = chunk(&text);
        let mut at = 0;
        for chunk in &chunks {
            assert!(chunk.chars().count() <= limits::CHUNK_CHARS);
            let start = chunk.as_ptr() as usize - text.as_ptr() as usize;
            assert!(start <= at || text[at..start].trim().is_empty(), "a gap before {start}");
            at = at.max(start + chunk.len());
        }
        assert!(text[at..].trim().is_empty());
    }

    /// In quadratic time this would not end.
    #[test]
    fn hostile_texts_are_cut() {
        for unit in [
            "a",
            " ",
            "\n",
            "a\n",
            "\r\n",
            "\u{301}",
            "🏳️‍🌈",
            "...",
            "東",
            "word ",
            "a\n\n",
        ] {
            let text = unit.repeat((256 << 10) / unit.len());
            let chunks = chunk(&text);
            assert!(
                chunks.iter().all(|chunk| chunk.chars().count() <= limits::CHUNK_CHARS),
                "{unit:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_cut(text in "(\\PC|[ a-z.\n]{0,9}|\r\n){0,400}") {
            for chunk in chunk(&text) {
                prop_assert!(chunk.chars().count() <= limits::CHUNK_CHARS);
                prop_assert!(text.contains(chunk));
            }
        }
    }
}
