//! Takes keys out of whatever a provider says.

use crate::{ledger::provider::Secret, limits};

/// What stands for a key in a text.
const HIDDEN: &str = "[hidden]";
/// So many characters in a row of a key betray it.
const TELLING: usize = 8;
/// How providers begin keys and the names of accounts.
const PREFIXES: &[&str] = &["sk-", "org-", "proj_", "proj-"];

/// A provider's text as it may be shown: without the key and parts of it, without other keys and
/// accounts, without control characters, and not longer than [`limits::PROVIDER_MESSAGE_CHARS`].
pub(super) fn scrub(text: &str, key: Option<&Secret>) -> String {
    let visible: String = text
        .chars()
        .take(limits::PROVIDER_COMPLAINT_BYTES)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    // The whole key first: it may hold what separates words.
    let without = match key {
        Some(key) if key.expose().len() >= TELLING => visible.replace(key.expose(), HIDDEN),
        _ => visible,
    };
    let mut clean = String::with_capacity(without.len());
    for piece in without.split_inclusive(separates) {
        let word = piece.trim_end_matches(separates);
        if betrays(word, key) {
            clean.push_str(HIDDEN);
            clean.push_str(&piece[word.len()..]);
        } else {
            clean.push_str(piece);
        }
    }
    let mut shown: String = clean.chars().take(limits::PROVIDER_MESSAGE_CHARS).collect();
    if shown.len() < clean.len() {
        shown.push('…');
    }
    shown.trim().to_owned()
}

fn separates(c: char) -> bool {
    c.is_whitespace() || "\"'`<>(){}[],;".contains(c)
}

fn betrays(word: &str, key: Option<&Secret>) -> bool {
    // Providers repeat a wrong key with its middle starred out.
    if word.contains("***") || PREFIXES.iter().any(|prefix| word.contains(prefix)) {
        return true;
    }
    let Some(key) = key.map(|key| key.expose().as_bytes()) else {
        return false;
    };
    let word = word.as_bytes();
    if key.len() < TELLING {
        return word.windows(key.len()).any(|run| run == key);
    }
    word.windows(TELLING)
        .any(|run| key.windows(TELLING).any(|part| part == run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_lose_the_key_and_its_parts() {
        let key = Secret::new("k9(z)Qw7Er5Ty3Ui1").unwrap();
        for text in [
            "wrong key k9(z)Qw7Er5Ty3Ui1!",
            "wrong key \"k9(z)Qw7Er5Ty3Ui1\", see above",
            "Bearer k9(z)Qw7Er5Ty3Ui1",
            "it begins with Qw7Er5Ty",
            "sent=xxQw7Er5Ty3Uixx",
        ] {
            let shown = scrub(text, Some(&key));
            assert!(!shown.contains("Qw7Er5Ty"), "{shown}");
            assert!(shown.contains(HIDDEN), "{shown}");
        }
        // Cut at every separator, no part of this one would be long enough to tell.
        let bracketed = Secret::new("ab(cd)ef(gh)ij").unwrap();
        assert_eq!(scrub("key ab(cd)ef(gh)ij!", Some(&bracketed)), "key [hidden]!");
        assert_eq!(scrub("Incorrect key: ab12***yz.", None), "Incorrect key: [hidden]");
        assert_eq!(scrub("limit of org-Ab12 reached", None), "limit of [hidden] reached");
        assert_eq!(scrub("a\u{0}b\r\nc", Secret::new("x").ok().as_ref()), "a b  c");
        assert_eq!(
            scrub("key xy is wrong", Secret::new("xy").ok().as_ref()),
            "key [hidden] is wrong"
        );
        assert_eq!(scrub("plain words stay", Some(&key)), "plain words stay");
        let long = scrub(&"é ".repeat(10_000), Some(&key));
        assert!(long.chars().count() <= limits::PROVIDER_MESSAGE_CHARS + 1);
    }
}
