//! What can be set, and until when it holds.

use std::time::Duration;

use super::settings::{Asker, CallSettings, Memory, Settings, find};
use crate::{error::Code, ledger::money::Nano, limits};

const PLAIN: Asker = Asker {
    service: false,
    in_transaction: true,
};

#[test]
fn a_rolled_back_set_is_undone_and_a_local_one_always() {
    let mut s = Settings::default();
    s.set(
        "application_name",
        "a",
        false,
        Asker {
            in_transaction: false,
            ..PLAIN
        },
    )
    .unwrap();
    s.set("application_name", "b", false, PLAIN).unwrap();
    s.set("statement_timeout", "5s", true, PLAIN).unwrap();
    assert_eq!(s.statement_timeout(), Duration::from_secs(5));
    s.end_transaction(false);
    assert_eq!(s.get(find("application_name").unwrap()), "a");
    assert_eq!(s.statement_timeout(), limits::STATEMENT_TIMEOUT);
}

#[test]
fn what_a_model_call_is_asked() {
    let mut s = Settings::default();
    let plain = s.call();
    assert_eq!(
        (
            plain.cache,
            plain.cache_ttl,
            plain.limit_wait,
            plain.max_statement,
            plain.null_on_error
        ),
        (true, Duration::from_secs(3_600), Duration::ZERO, None, false)
    );
    assert_eq!((plain.memory, plain.idempotency_key), (Memory::Tokens, None));
    assert!(plain.memory_tokens > 0 && plain.memory_messages > 0);
    for (name, value, shown) in [
        ("ai.cache", "FALSE", "off"),
        ("ai.cache_ttl", "90", "90s"),
        ("bulkhead.limit_wait", "5s", "5s"),
        ("ai.max_statement_usd", "0.05", "0.050000000"),
        ("ai.on_error", "NULL", "null"),
        ("ai.idempotency_key", "order-7", "order-7"),
        ("ai.memory", "last_n", "last_n"),
        ("ai.memory_tokens", "100", "100"),
        ("ai.memory_messages", "3", "3"),
    ] {
        s.set(name, value, false, PLAIN).unwrap();
        assert_eq!(s.get(find(name).unwrap()), shown);
    }
    let asked = CallSettings {
        cache: false,
        cache_ttl: Duration::from_secs(90),
        limit_wait: Duration::from_secs(5),
        max_statement: Some(Nano(50_000_000)),
        null_on_error: true,
        idempotency_key: Some("order-7".to_owned()),
        memory: Memory::LastN,
        memory_tokens: 100,
        memory_messages: 3,
    };
    assert_eq!(s.call(), asked);
    for (name, value) in [
        ("ai.cache", "maybe"),
        ("ai.cache_ttl", "1500ms"),
        ("ai.cache_ttl", "-1"),
        ("ai.cache_ttl", "100000d"),
        ("bulkhead.limit_wait", "61s"),
        ("ai.max_statement_usd", "-1"),
        ("ai.max_statement_usd", "1e-9"),
        ("ai.max_statement_usd", "0.0000000001"),
        ("ai.on_error", "ignore"),
        ("ai.idempotency_key", &"k".repeat(1_000)),
        ("ai.memory", "all"),
        ("ai.memory_tokens", "0"),
        ("ai.memory_messages", "-3"),
    ] {
        let error = s.set(name, value, false, PLAIN).unwrap_err();
        assert_eq!(error.code(), Code::InvalidParameterValue, "{name} = {value}");
    }
    assert_eq!(s.call(), asked);
    s.set("ai.max_statement_usd", "none", false, PLAIN).unwrap();
    assert_eq!(s.call().max_statement, None);
}

#[test]
fn what_is_not_listed_does_not_exist() {
    let mut s = Settings::default();
    for name in ["datafusion.runtime.memory_limit", "bulkhead.tenant", "role", "nope"] {
        assert_eq!(
            s.set(name, "1", false, PLAIN).unwrap_err().code(),
            Code::InsufficientPrivilege,
            "{name}"
        );
        assert_eq!(
            s.reset(name, PLAIN).unwrap_err().code(),
            Code::InsufficientPrivilege,
            "{name}"
        );
    }
    assert_eq!(
        s.set("row_security", "off", false, PLAIN).unwrap_err().code(),
        Code::InsufficientPrivilege
    );
    assert_eq!(
        s.set("bulkhead.user", "u", false, PLAIN).unwrap_err().code(),
        Code::InsufficientPrivilege
    );
    assert!(
        s.set("bulkhead.user", "u", false, Asker { service: true, ..PLAIN })
            .is_ok()
    );
    assert_eq!(
        s.set("statement_timeout", "301s", false, PLAIN).unwrap_err().code(),
        Code::InvalidParameterValue
    );
}

#[test]
fn the_default_that_was_set_is_not_the_default() {
    let mut s = Settings::default();
    let ef = find("hnsw.ef_search").unwrap();
    assert_eq!((s.explicit(ef), s.get(ef).as_str()), (None, "40"));
    s.set("hnsw.ef_search", "40", false, PLAIN).unwrap();
    assert_eq!(s.explicit(ef), Some("40"));
    s.set("hnsw.ef_search", "DEFAULT", false, PLAIN).unwrap();
    assert_eq!(s.explicit(ef), None);
    s.set("hnsw.ef_search", "40", true, PLAIN).unwrap();
    assert_eq!(s.explicit(ef), Some("40"));
    s.end_transaction(true);
    assert_eq!(s.explicit(ef), None);
    s.set("hnsw.ef_search", "40", false, PLAIN).unwrap();
    s.reset("hnsw.ef_search", PLAIN).unwrap();
    assert_eq!(s.explicit(ef), None);
}
