//! Each rule against a sample that breaks it and one that does not.

use super::*;

fn sample(path: &str, text: &str) -> Vec<Source> {
    vec![Source::new(path, text, is_test_file(path))]
}

#[test]
fn a_silent_or_long_file() {
    assert_eq!(opening(&sample("src/a.rs", "fn a() {}")).len(), 1);
    assert_eq!(opening(&sample("src/a.rs", "//! A.\n")).len(), 0);
    assert_eq!(length(&sample("tests/a.rs", &"x\n".repeat(601))).len(), 1);
    assert_eq!(length(&sample("tests/a.rs", &"x\n".repeat(600))).len(), 0);
}

#[test]
fn forbidden_words() {
    let count = |path: &str, text: &str| forbidden(&sample(path, text)).len();
    for (words, ..) in FORBIDDEN {
        let lead = if words.starts_with('.') { "x" } else { "" };
        let text = format!("fn a() {{ {lead}{words}; }}");
        assert_eq!(count("src/a/b.rs", &text), 1, "{words}");
    }
    assert_eq!(
        count(
            "src/a.rs",
            "// x.unwrap()\n/* dbg!(1) /* todo!() */ todo!() */ let s = \"todo!() \\\" dbg!\";"
        ),
        0
    );
    assert_eq!(
        count(
            "src/a.rs",
            "let s = r#\"a \"todo!()\" b\"#; let c = '\"'; x.unwrap(); let d = '\\'';"
        ),
        1
    );
    assert_eq!(
        count(
            "src/a.rs",
            "#[cfg(test)]\nmod tests { fn a() { x.unwrap(); } }\nfn b() { y.unwrap_or(1) }"
        ),
        0
    );
    assert_eq!(count("src/a.rs", "#[cfg(test)]\nmod tests;\nfn b() { y.unwrap() }"), 1);
    assert_eq!(count("src/a.rs", "fn a<'a>(x: &'a str) { eprintln!(); x.unwrap() }"), 1);
    assert_eq!(count("src/main.rs", "println!()"), 0);
    assert_eq!(count("src/config/mod.rs", "std::env::vars_os()"), 0);
    assert_eq!(count("src/a/tests.rs", "x.unwrap()"), 0);
}

#[test]
fn a_foreign_crate_outside_of_its_folder() {
    let count = |path: &str, text: &str| homes(&sample(path, text)).len();
    assert_eq!(count("src/sql/mod.rs", "use sled::Tree;"), 1);
    assert_eq!(count("src/tenant/vault.rs", "use sled::Tree;"), 0);
    assert_eq!(count("src/wire/mod.rs", "fn a(x: datafusion_common::X) {}"), 1);
    assert_eq!(count("src/wire/mod.rs", "// datafusion\nlet handsled = 1;"), 0);
}

#[test]
fn a_use_that_goes_up() {
    let count = |path: &str, text: &str| layers(&sample(path, text)).len();
    assert_eq!(count("src/tenant/mod.rs", "use crate::sql::Engine;"), 1);
    assert_eq!(
        count(
            "src/tenant/mod.rs",
            "use crate::{codec::{key, pgtype}, error::Result, wire::frame};"
        ),
        1
    );
    assert_eq!(count("src/tenant/mod.rs", "fn a(x: crate::server::Server) {}"), 1);
    assert_eq!(
        count(
            "src/sql/mod.rs",
            "use crate::{\n    ai::x,\n    tenant::{Tenant, wire},\n};"
        ),
        0
    );
    assert_eq!(count("src/new.rs", ""), 1);
    assert_eq!(count("src/error.rs", "use crate::limits;"), 0);
    assert_eq!(
        count(
            "src/tenant/mod.rs",
            "#[cfg(test)]\nmod tests { use crate::sql::Engine; }"
        ),
        0
    );
}

#[test]
fn a_wall_that_grew() {
    assert_eq!(wall(&sample("src/tenant/a.rs", &"x\n".repeat(WALL_LINES + 1))).len(), 1);
    let tested = format!("x\n#[cfg(test)]\nmod tests {{\n{}}}\n", "x\n".repeat(WALL_LINES));
    assert_eq!(wall(&sample("src/tenant/a.rs", &tested)).len(), 0);
}

#[test]
fn a_sql_file_that_nobody_embeds() {
    let list = ["sql/demo/a.sql".to_owned()];
    let embedding = "const A: &str = include_str!(\"../../sql/demo/a.sql\");";
    assert_eq!(not_embedded(&list, &sample("src/demo/mod.rs", embedding)).len(), 0);
    assert_eq!(
        not_embedded(&list, &sample("src/demo/mod.rs", "// sql/demo/a.sql")).len(),
        1
    );
}

#[test]
fn a_code_that_is_not_used_or_not_tested() {
    let errors = "codes! {\n    /// Doc.\n    Used = \"42P01\", Fix;\n    Idle = \"42P02\", Fix;\n}";
    let sources = |user: &str| {
        vec![
            Source::new("src/error.rs", errors, false),
            Source::new("src/a.rs", user, false),
        ]
    };
    let using = "fn a() { Error::new(Code::Used, x) }";
    assert_eq!(unreached_codes(&sources(using), "ERROR 42P01").len(), 1);
    assert_eq!(unreached_codes(&sources(using), "ERROR 42P02").len(), 2);
    assert_eq!(
        unreached_codes(&sources("// Code::Used Code::Idle"), "42P01 42P02").len(),
        2
    );
    let own = format!("{using} fn b() {{ Code::Idle }}\n#[cfg(test)]\nmod tests {{ Code::Used; Code::Idle }}");
    assert_eq!(unreached_codes(&sources(&own), "").len(), 0);
}

#[test]
fn modules_that_are_declared_for_tests_only() {
    let found = |path: &str, text: &str| test_modules(path, text).join(" ");
    assert_eq!(
        found("src/a/mod.rs", "#[cfg(test)]\npub(crate) mod fakes;\nmod real;"),
        "src/a/fakes.rs src/a/fakes/mod.rs"
    );
    assert_eq!(
        found("src/a.rs", "#[cfg(test)]\nmod fakes;"),
        "src/a/fakes.rs src/a/fakes/mod.rs"
    );
    assert_eq!(
        found("src/a.rs", "#[cfg(test)]\nmod tests { fn a() {} }\nmod real;"),
        ""
    );
}
