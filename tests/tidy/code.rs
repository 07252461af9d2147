//! Just enough of Rust's grammar: comments, strings, test items and names.

/// The identifiers that directly follow `prefix`.
pub fn after<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(prefix)
        .filter_map(move |(at, _)| idents(&text[at + prefix.len()..]).next())
}

pub fn idents(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

/// Whether `line` holds `words`, not as the end of a longer name.
pub fn names(line: &str, words: &str) -> bool {
    line.match_indices(words).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        words.starts_with('.') || !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// Blanks comments, strings and character literals; lines stay where they are.
pub fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let start = i;
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= chars.len() {
                        break;
                    }
                }
            }
            'r' if !out.ends_with(|c: char| c.is_alphanumeric() || c == '_') && raw_string(&chars, i).is_some() => {
                i = raw_string(&chars, i).unwrap_or(i + 1);
            }
            '"' => {
                i += 1;
                while i < chars.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i += 1;
            }
            '\'' if at(i + 1) == '\\' => {
                i += 3;
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            '\'' if at(i + 2) == '\'' => i += 3,
            c => {
                out.push(c);
                i += 1;
                continue;
            }
        }
        out.extend(
            chars[start..i.min(chars.len())]
                .iter()
                .map(|c| if *c == '\n' { '\n' } else { ' ' }),
        );
    }
    out
}

/// The end of the raw string that begins at `start`, if one does.
pub fn raw_string(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    let body = start + 1 + hashes + 1;
    if chars.get(body - 1) != Some(&'"') {
        return None;
    }
    let end = (body..chars.len())
        .find(|&i| chars[i] == '"' && chars[i + 1..].iter().take_while(|c| **c == '#').count() >= hashes)?;
    Some(end + 1 + hashes)
}

/// Blanks every item that follows `#[cfg(test)]` in blanked code.
pub fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let body = start + "#[cfg(test)]".len();
        let mut depth = 0;
        let mut end = out.len();
        for (i, c) in out[body..].char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 && (c == '}' || c == ';') {
                end = body + i + 1;
                break;
            }
        }
        let blanked: String = out[start..end]
            .chars()
            .map(|c| if c == '\n' { '\n' } else { ' ' })
            .collect();
        out.replace_range(start..end, &blanked);
    }
    out
}

/// The files that a file declares with `#[cfg(test)] mod name;`.
pub fn test_modules(path: &str, text: &str) -> Vec<String> {
    let stem = path.trim_end_matches(".rs");
    let folder = stem
        .strip_suffix("/mod")
        .or(stem.strip_suffix("/lib"))
        .or(stem.strip_suffix("/main"))
        .unwrap_or(stem);
    let code = blank(text);
    let mut found = Vec::new();
    for (at, attribute) in code.match_indices("#[cfg(test)]") {
        let item = code[at + attribute.len()..]
            .split([';', '{'])
            .next()
            .unwrap_or_default();
        let declared = code[at + attribute.len() + item.len()..].starts_with(';');
        if let (true, Some(name)) = (declared, after(item, "mod ").next()) {
            found.push(format!("{folder}/{name}.rs"));
            found.push(format!("{folder}/{name}/mod.rs"));
        }
    }
    found
}
