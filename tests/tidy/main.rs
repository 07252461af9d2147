//! Style is a test: what a reviewer would say twice, this says, with the repair.
//!
//! Reads the source tree with the standard library only. Every rule is a function from sources to
//! complaints, and `samples` shows each rule a violation that it must catch.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use self::code::{after, blank, idents, names, test_modules, without_tests};

mod code;
mod samples;

/// Longest source file.
const FILE_LINES: usize = 600;
/// The wall is small enough to be reviewed in one sitting. Lines of code: comments, blank lines and
/// tests are not counted, so that nobody saves on comments.
const WALL_LINES: usize = 3_300;

/// The modules of the crate, ground to top. A module uses only those before it. `main` and what only
/// `main` declares see the library from outside and may use all of it.
const LAYERS: &[&str] = &[
    "error", "limits", "codec", "tenant", "ledger", "policy", "table", "vector", "ai", "sql", "wire", "server",
    "config", "bench", "demo", "main",
];
/// Both are the ground: an error may tell a limit.
const GROUND: &[&str] = &["error", "limits"];

/// Foreign crates that only one folder may name.
const HOMES: &[(&str, &str)] = &[
    ("sled", "src/tenant/"),
    ("pgwire", "src/wire/"),
    ("datafusion", "src/sql/"),
    ("hnsw_rs", "src/vector/"),
    ("anndists", "src/vector/"),
    ("async_openai", "src/ai/"),
    ("reqwest", "src/ai/"),
];

/// What non-test code does not say: the text, where it is allowed, the repair.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    ("todo!", &[], "finish it, or return Code::Unsupported"),
    ("unimplemented!", &[], "finish it, or return Code::Unsupported"),
    ("dbg!", &[], "remove it, or use tracing"),
    (
        ".unwrap()",
        &[],
        "return an Error, or match; bytes from disk, network and SQL are never trusted",
    ),
    (
        "process::exit",
        &["src/main.rs"],
        "return an Error up to main, which chooses the exit code",
    ),
    (
        "println!",
        &["src/main.rs", "src/demo/"],
        "use tracing; stdout belongs to main and the demo",
    ),
    (
        "print!",
        &["src/main.rs", "src/demo/"],
        "use tracing; stdout belongs to main and the demo",
    ),
    (
        "env::var",
        &["src/config/"],
        "make it a setting of config, which alone reads the environment",
    ),
    (
        "env::args",
        &["src/config/"],
        "make it a setting of config, which alone reads arguments",
    ),
    (
        "env::temp_dir",
        &["src/config/"],
        "be given the directory; config alone reads the environment",
    ),
];

/// Every rule that looks at sources.
/// From sources to complaints.
type Rule = fn(&[Source]) -> Vec<String>;

const RULES: &[Rule] = &[opening, length, forbidden, homes, layers, wall];

/// One file of Rust.
struct Source {
    path: String,
    text: String,
    /// The same with comments, strings and characters blanked, and, in `src`, tests removed.
    code: String,
    is_test: bool,
}

impl Source {
    fn new(path: &str, text: &str, is_test: bool) -> Self {
        let code = if is_test {
            String::new()
        } else {
            without_tests(&blank(text))
        };
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            is_test,
        }
    }

    fn is_src(&self) -> bool {
        self.path.starts_with("src/")
    }

    fn module(&self) -> &str {
        let inner = self.path.trim_start_matches("src/");
        inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs")
    }
}

/// Integration tests, benches, and files whose name says that they hold the tests of a module.
fn is_test_file(path: &str) -> bool {
    let stem = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".rs");
    !path.starts_with("src/") || stem == "tests" || stem.ends_with("_tests") || path.contains("/tests/")
}

#[test]
fn the_tree_is_tidy() {
    let sources = tree();
    let complaints: Vec<String> = RULES.iter().flat_map(|rule| rule(&sources)).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_sql_file_is_embedded() {
    let found = files(Path::new("sql"), "sql").into_keys().collect::<Vec<_>>();
    let complaints = not_embedded(&found, &tree());
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_error_is_used_and_tested() {
    let mut tests = String::new();
    for (path, text) in files(Path::new("tests"), "") {
        if !path.starts_with("tests/tidy/") {
            tests.push_str(&text);
        }
    }
    let complaints = unreached_codes(&tree(), &tests);
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn opening(sources: &[Source]) -> Vec<String> {
    let silent = sources.iter().filter(|s| !s.text.starts_with("//!"));
    silent
        .map(|s| format!("{}:1: open the file with `//!` and say what it is for", s.path))
        .collect()
}

fn length(sources: &[Source]) -> Vec<String> {
    let long = sources
        .iter()
        .map(|s| (s, s.text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES);
    long.map(|(s, lines)| format!("{}: {lines} lines, at most {FILE_LINES}; split it by idea", s.path))
        .collect()
}

fn forbidden(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|s| s.is_src()) {
        for (n, line) in source.code.lines().enumerate() {
            for (words, allowed, repair) in FORBIDDEN {
                let home = allowed.iter().any(|place| source.path.starts_with(place));
                if !home && names(line, words) {
                    complaints.push(format!("{}:{}: `{words}`: {repair}", source.path, n + 1));
                }
            }
        }
    }
    complaints
}

fn homes(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|s| s.is_src()) {
        for (n, line) in source.code.lines().enumerate() {
            for (foreign, home) in HOMES {
                let used = idents(line).any(|ident| ident == *foreign || ident.starts_with(&format!("{foreign}_")));
                if used && !source.path.starts_with(home) {
                    complaints.push(format!(
                        "{}:{}: only {home} names the crate {foreign}; give that folder a function for this",
                        source.path,
                        n + 1
                    ));
                }
            }
        }
    }
    complaints
}

fn layers(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    let height = |module: &str| LAYERS.iter().position(|layer| *layer == module);
    for source in sources.iter().filter(|s| s.is_src() && s.path != "src/lib.rs") {
        let own = source.module();
        let Some(at) = height(own) else {
            complaints.push(format!(
                "{}: module `{own}` has no place in LAYERS of tests/tidy/main.rs; give it one",
                source.path
            ));
            continue;
        };
        if ["main", "demo", "bench"].contains(&own) {
            continue;
        }
        for used in crate_paths(&source.code) {
            let ground = GROUND.contains(&own) && GROUND.contains(&used.as_str());
            if let Some(other) = height(&used)
                && other > at
                && !ground
            {
                complaints.push(format!(
                    "{}: `{own}` uses crate::{used}, which stands above it; pass the thing in as an argument, or move it \
                     down",
                    source.path
                ));
            }
        }
    }
    complaints
}

/// The first segments of all paths that begin with `crate::`, groups included.
fn crate_paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut fresh) = (0, true);
            for (i, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => fresh = true,
                    c if c.is_whitespace() => {}
                    _ if depth == 0 && fresh => {
                        found.extend(idents(&group[i..]).next().map(str::to_owned));
                        fresh = false;
                    }
                    _ => {}
                }
            }
        } else {
            found.extend(idents(rest).next().map(str::to_owned));
        }
    }
    found
}

fn wall(sources: &[Source]) -> Vec<String> {
    let of_the_wall = sources.iter().filter(|s| s.path.starts_with("src/tenant/"));
    let lines: usize = of_the_wall
        .map(|s| s.code.lines().filter(|line| !line.trim().is_empty()).count())
        .sum();
    if lines <= WALL_LINES {
        return Vec::new();
    }
    vec![format!(
        "src/tenant: {lines} lines of code, at most {WALL_LINES}; move out what is not about the wall"
    )]
}

fn not_embedded(sql: &[String], sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for path in sql {
        let embedded = sources.iter().filter(|s| s.is_src()).any(|s| {
            let mentions = s.text.match_indices("include_str!(").map(|(at, _)| &s.text[at..]);
            mentions
                .filter_map(|m| m.split('"').nth(1))
                .any(|named| named.ends_with(path.as_str()))
        });
        if !embedded {
            complaints.push(format!(
                "{path}: no include_str! embeds it; add it to its list, or delete it"
            ));
        }
    }
    complaints
}

/// `tests` is the text of everything below `tests/`.
fn unreached_codes(sources: &[Source], tests: &str) -> Vec<String> {
    let Some(errors) = sources.iter().find(|s| s.path == "src/error.rs") else {
        return vec!["src/error.rs: is missing".to_owned()];
    };
    let others = || sources.iter().filter(|s| s.is_src() && s.path != "src/error.rs");
    let used: BTreeSet<&str> = sources
        .iter()
        .filter(|s| s.is_src())
        .flat_map(|s| after(&s.code, "Code::"))
        .collect();
    let mut tested: BTreeSet<&str> = after(tests, "Code::").chain(idents(tests)).collect();
    for source in others() {
        let own_tests = if source.is_test {
            0
        } else {
            source.text.find("#[cfg(test)]").unwrap_or(usize::MAX)
        };
        if let Some(text) = source.text.get(own_tests..) {
            tested.extend(after(text, "Code::").chain(idents(text)));
        }
    }
    let mut complaints = Vec::new();
    for (name, state) in codes(&errors.text) {
        if !used.contains(name) {
            complaints.push(format!(
                "src/error.rs: Code::{name} ({state}) is used nowhere; delete it"
            ));
        } else if !tested.contains(name) && !tested.contains(state) {
            complaints.push(format!(
                "src/error.rs: no test reaches Code::{name} ({state}); write the one that does"
            ));
        }
    }
    complaints
}

/// `Name = "12345", Action;`
fn codes(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let (name, rest) = line.trim().split_once(" = \"")?;
        let (state, action) = rest.split_once("\", ")?;
        let plain = |word: &str| word.chars().all(char::is_alphanumeric);
        (plain(name) && plain(state) && state.len() == 5 && action.ends_with(';')).then_some((name, state))
    })
}

fn tree() -> Vec<Source> {
    let texts = ["src", "tests", "benches"].map(|folder| files(Path::new(folder), "rs"));
    let texts: BTreeMap<String, String> = texts.into_iter().flatten().collect();
    let of_tests: BTreeSet<String> = texts.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    texts
        .iter()
        .map(|(path, text)| Source::new(path, text, is_test_file(path) || of_tests.contains(path)))
        .collect()
}

/// Text files below a folder, by path from the crate's root; all of them if `extension` is empty.
fn files(folder: &Path, extension: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let Ok(entries) = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)) else {
        return found;
    };
    for entry in entries {
        let name = entry.expect("a readable folder").file_name();
        let path = folder.join(&name);
        let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(&path);
        if full.is_dir() {
            found.extend(files(&path, extension));
        } else if extension.is_empty() || path.extension().is_some_and(|e| e == extension) {
            let bytes = fs::read(&full).expect("a readable file");
            found.insert(
                path.to_string_lossy().into_owned(),
                String::from_utf8_lossy(&bytes).into_owned(),
            );
        }
    }
    found
}
