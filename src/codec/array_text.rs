//! Array literals: `{1,NULL,"a \"quoted\" item"}`.

use crate::error::{Code, Error, Result};

/// The items of a literal of one dimension; `None` is NULL. Wrong text is 22P02.
pub fn items(text: &str) -> Result<Vec<Option<String>>> {
    let wrong = || Error::new(Code::InvalidText, format!("malformed array literal: \"{text}\""));
    let inner = text
        .trim_matches(space)
        .strip_prefix('{')
        .and_then(|t| t.strip_suffix('}'))
        .ok_or_else(wrong)?;
    let mut items = vec![];
    let mut rest = inner.trim_start_matches(space);
    if rest.is_empty() {
        return Ok(items);
    }
    loop {
        let (item, after) = item(rest).ok_or_else(wrong)?;
        items.push(item);
        rest = match after.trim_start_matches(space).strip_prefix(',') {
            Some(next) => next.trim_start_matches(space),
            None if after.trim_matches(space).is_empty() => return Ok(items),
            None => return Err(wrong()),
        };
    }
}

/// White space around items. Of Unicode's other spaces each is a part of its item.
fn space(character: char) -> bool {
    matches!(character, ' ' | '\t'..='\r')
}

/// One item and what follows it.
fn item(text: &str) -> Option<(Option<String>, &str)> {
    let quoted = text.starts_with('"');
    let mut item = String::new();
    let mut escaped = false;
    // Where the item's last character that is not to be trimmed ends.
    let mut solid = 0;
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => {
                item.push(characters.next()?.1);
                escaped = true;
                solid = item.len();
            }
            '"' if quoted => return Some((Some(item), &text[at + 1..])),
            '{' | '}' | '"' if !quoted => return None,
            ',' if !quoted => return finish(item, solid, escaped, &text[at..]),
            other => {
                item.push(other);
                if !space(other) {
                    solid = item.len();
                }
            }
        }
    }
    if quoted { None } else { finish(item, solid, escaped, "") }
}

fn finish(mut item: String, solid: usize, escaped: bool, rest: &str) -> Option<(Option<String>, &str)> {
    item.truncate(solid);
    match item.as_str() {
        "" => None,
        null if !escaped && null.eq_ignore_ascii_case("null") => Some((None, rest)),
        _ => Some((Some(item), rest)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn literals_are_read_as_in_postgresql() {
        let some = |texts: &[&str]| texts.iter().map(|t| Some((*t).to_owned())).collect::<Vec<_>>();
        assert_eq!(items("{}").unwrap(), vec![]);
        assert_eq!(items(" { 1 , 2 } ").unwrap(), some(&["1", "2"]));
        assert_eq!(
            items(r#"{"a,b","",\"x,"NULL","q\"\\"}"#).unwrap(),
            some(&["a,b", "", "\"x", "NULL", "q\"\\"])
        );
        assert_eq!(items("{\u{a0}, \u{2003}\x0b}").unwrap(), some(&["\u{a0}", "\u{2003}"]));
        assert_eq!(items("{null,a b}").unwrap(), vec![None, Some("a b".to_owned())]);
        for wrong in [
            "", "{", "1", "{1", "{1,}", "{,1}", "{{1}}", "{\"a}", "{\"a\"b}", "{a\\}", "{\\}",
        ] {
            assert_eq!(items(wrong).unwrap_err().code(), Code::InvalidText, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in r#"[{}",\\ a\u{e9}]{0,20}"#) {
            let _ = items(&text);
        }
    }
}
