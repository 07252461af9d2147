//! Where the sentences of a text begin and end.

use unicode_segmentation::UnicodeSegmentation;

/// Words whose full stop ends no sentence. Sorted, in lower case.
const ABBREVIATIONS: &[&str] = &[
    "al", "approx", "art", "capt", "cf", "co", "col", "corp", "dr", "ed", "eq", "est", "fig", "gen", "gov", "inc",
    "jr", "lt", "ltd", "maj", "mr", "mrs", "ms", "mt", "no", "nos", "p", "pp", "prof", "rep", "rev", "sec", "sen",
    "sgt", "sr", "st", "vol", "vs",
];

/// The sentences of a text in order, trimmed, each a part of it as it stands. Unicode's sentence
/// boundaries (UAX 29), less those after an abbreviation or a single letter.
pub(super) fn sentences(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    for (at, part) in text.split_sentence_bound_indices() {
        let end = at + part.len();
        if end < text.len() && ends_in_abbreviation(part) {
            continue;
        }
        let sentence = text[start..end].trim();
        if !sentence.is_empty() {
            found.push(sentence);
        }
        start = end;
    }
    found
}

fn ends_in_abbreviation(part: &str) -> bool {
    // A line break ends a sentence whatever comes before it.
    let Some(before) = part.trim_end_matches(' ').strip_suffix('.') else {
        return false;
    };
    let last = before.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or("");
    last.chars().count() == 1 && last.chars().all(char::is_uppercase)
        || ABBREVIATIONS.binary_search(&last.to_lowercase().as_str()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abbreviations_and_initials_end_no_sentence() {
        assert!(ABBREVIATIONS.is_sorted());
        let text = "Dr. Smith met J. R. R. Tolkien in St. Ives. It rained! Did it? Yes\nA list\n\n- item no. 3  ";
        assert_eq!(
            sentences(text),
            [
                "Dr. Smith met J. R. R. Tolkien in St. Ives.",
                "It rained!",
                "Did it?",
                "Yes",
                "A list",
                "- item no. 3"
            ]
        );
        assert_eq!(sentences("Ends with Dr."), ["Ends with Dr."]);
        assert!(sentences(" \n ").is_empty());
        assert_eq!(sentences("日本語です。次の文。"), ["日本語です。", "次の文。"]);
    }
}
