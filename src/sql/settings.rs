//! `SET`, `RESET` and `SHOW`: one list of settings, and nothing outside it.
//!
//! A setting that is not listed cannot be set, whatever it is called (42501): DataFusion's own
//! options, which could lift memory limits or open directories, are not reachable at all.

use std::{collections::HashMap, time::Duration};

use crate::{
    error::{Code, Error, Result},
    ledger::money::Nano,
    limits,
};

/// How a setting may be changed.
enum Rule {
    /// Shown only.
    Fixed,
    /// Any text of bounded length.
    Text,
    /// One of these words, compared without case; the first is how it is stored.
    Words(&'static [&'static str]),
    /// On or off.
    Switch,
    /// One of these words, compared without case.
    Choice(&'static [&'static str]),
    /// Text of at most this many bytes, which is not cut.
    Exact(usize),
    /// Seconds or an interval; at most this many seconds.
    Seconds(u64),
    /// An amount of USD, or `none`.
    Usd,
    /// Milliseconds or a PostgreSQL interval such as `5s`; at most this many milliseconds (0 means the most).
    Millis(u64),
    /// A whole number between two bounds.
    Int(i64, i64),
    /// `search_path`.
    Path,
    /// Only users of role service.
    EndUser,
}

/// One setting.
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    rule: Rule,
    /// Sent as ParameterStatus at login and on change.
    pub(super) reported: bool,
    pub(super) description: &'static str,
}

/// [`Rule::Usd`] without a limit.
const NO_AMOUNT: &str = "none";
const ON: &[&str] = &["on", "true", "yes", "1"];
const OFF: &[&str] = &["off", "false", "no", "0"];
/// Isolation levels as they are shown.
const LEVELS: &[&str] = &["read committed", "read uncommitted", "repeatable read", "serializable"];
/// What stands for a setting of the transaction that was not made for it.
const OF_TRANSACTION: &[(&str, &str)] = &[
    ("transaction_deferrable", "default_transaction_deferrable"),
    ("transaction_isolation", "default_transaction_isolation"),
    ("transaction_read_only", "default_transaction_read_only"),
];
const UTC: &[&str] = &["UTC", "Etc/UTC", "GMT", "Z", "0", "Universal", "Zulu", "Etc/UCT", "UCT"];
const ISO: &[&str] = &[
    "ISO, MDY", "ISO", "ISO, DMY", "ISO, YMD", "ISO,MDY", "ISO,DMY", "ISO,YMD", "MDY", "DMY", "YMD",
];
const STATEMENT_TIMEOUT_MS: u64 = limits::STATEMENT_TIMEOUT.as_millis() as u64;
const LIMIT_WAIT_MS: u64 = limits::LIMIT_WAIT.as_millis() as u64;
const FOREVER_MS: u64 = i32::MAX as u64;

macro_rules! settings {
    ($( $name:literal = $default:expr, $rule:expr, $reported:literal, $description:literal; )*) => {
        /// Every setting there is.
        pub(super) const SETTINGS: &[Setting] = &[ $( Setting {
            name: $name, default: $default, rule: $rule, reported: $reported, description: $description,
        }, )* ];
    };
}

/// What `SHOW server_version` and the login say; `server_version_num` agrees with it.
pub(super) const SERVER_VERSION: &str = concat!("16.6 (Bulkhead ", env!("CARGO_PKG_VERSION"), ")");

settings! {
    "ai.cache" = "on", Rule::Switch, false, "Whether an answer given before may be given again.";
    "ai.cache_ttl" = "1h", Rule::Seconds(limits::CACHE_TTL_SECONDS), false, "How long an answer may be given again.";
    "ai.idempotency_key" = "", Rule::Exact(limits::IDEMPOTENCY_KEY_BYTES), false, "Calls with the same key and content are made once.";
    "ai.max_statement_usd" = "none", Rule::Usd, false, "What the model calls of one statement may cost.";
    "ai.memory" = "tokens", Rule::Choice(&["tokens", "last_n", "summary"]), false, "What a model is told of a conversation so far.";
    "ai.memory_messages" = "20", Rule::Int(1, limits::MEMORY_MESSAGES), false, "Messages that it is told of with last_n.";
    "ai.memory_tokens" = "2000", Rule::Int(1, limits::MEMORY_TOKENS), false, "Tokens of the conversation that it is told.";
    "ai.on_error" = "error", Rule::Choice(&["error", "null"]), false, "What a failed model call gives: an error, or NULL.";
    "application_name" = "", Rule::Text, true, "Name of the application that opened the session.";
    "bulkhead.limit_wait" = "0", Rule::Millis(LIMIT_WAIT_MS), false, "How long a call waits for a rate limit before it fails.";
    "bulkhead.user" = "", Rule::EndUser, false, "End user of this tenant for whom a service acts.";
    "bytea_output" = "hex", Rule::Words(&["hex"]), false, "Text form of bytea.";
    "client_encoding" = "UTF8", Rule::Words(&["UTF8", "UTF-8", "unicode"]), true, "Encoding of the client.";
    "client_min_messages" = "notice", Rule::Words(&["notice", "warning", "error", "log", "debug", "debug1", "info"]), false, "Least level of messages sent.";
    "DateStyle" = "ISO, MDY", Rule::Words(ISO), true, "Form of dates.";
    "default_table_access_method" = "heap", Rule::Fixed, false, "Kind of tables; there is one.";
    "default_transaction_deferrable" = "off", Rule::Switch, false, "Whether new transactions may wait before they begin; none does.";
    "default_transaction_isolation" = "read committed", Rule::Choice(LEVELS), false, "Isolation of new transactions.";
    "default_transaction_read_only" = "off", Rule::Switch, true, "Whether new transactions are read-only.";
    "extra_float_digits" = "1", Rule::Int(-15, 3), false, "Digits of floats; the shortest exact form is always used.";
    "idle_in_transaction_session_timeout" = "0", Rule::Millis(FOREVER_MS), false, "Longest idle time in a transaction.";
    "idle_session_timeout" = "0", Rule::Millis(FOREVER_MS), false, "Longest idle time; 0 is the server's.";
    "in_hot_standby" = "off", Rule::Fixed, true, "Whether this is a standby.";
    "integer_datetimes" = "on", Rule::Fixed, true, "Datetimes are integers.";
    "IntervalStyle" = "postgres", Rule::Words(&["postgres"]), true, "Form of intervals.";
    "is_superuser" = "off", Rule::Fixed, true, "Nobody is.";
    "hnsw.ef_search" = "40", Rule::Int(1, 1000), false, "Rows an index looks at; every search here promises its recall by itself.";
    "hnsw.iterative_scan" = "off", Rule::Choice(&["off", "relaxed_order", "strict_order"]), false, "Filters are applied before ranking here.";
    "ivfflat.probes" = "1", Rule::Int(1, 32768), false, "Lists an index looks at; there are none here.";
    "jit" = "off", Rule::Switch, false, "Nothing is compiled at run time.";
    "lc_collate" = "C", Rule::Fixed, false, "Order of text.";
    "lc_ctype" = "C", Rule::Fixed, false, "Classes of characters.";
    "lc_messages" = "C", Rule::Words(&["C", "en_US.UTF-8", "en_US.utf8"]), false, "Language of messages.";
    "lock_timeout" = "0", Rule::Millis(FOREVER_MS), false, "Longest wait for a lock; 0 is no limit but statement_timeout.";
    "maintenance_work_mem" = "64MB", Rule::Text, false, "Memory for building indexes; the tenant's own bound holds.";
    "max_identifier_length" = "63", Rule::Fixed, false, "Longest identifier in bytes.";
    "max_index_keys" = "32", Rule::Fixed, false, "Most columns of a key.";
    "password_encryption" = "scram-sha-256", Rule::Words(&["scram-sha-256"]), false, "How passwords are kept.";
    "row_security" = "on", Rule::Words(ON), false, "Isolation cannot be switched off.";
    "search_path" = "\"$user\", public, ai, bulkhead", Rule::Path, true, "Schemas searched for unqualified names.";
    "server_encoding" = "UTF8", Rule::Fixed, true, "Encoding of the server.";
    "server_version" = SERVER_VERSION, Rule::Fixed, true, "Version of the server.";
    "server_version_num" = "160006", Rule::Fixed, false, "Version as a number.";
    "session_authorization" = "", Rule::Fixed, true, "The user of the session.";
    "standard_conforming_strings" = "on", Rule::Words(ON), true, "Backslashes in '...' are plain.";
    "statement_timeout" = "0", Rule::Millis(STATEMENT_TIMEOUT_MS), false, "Longest run of a statement; 0 is the server's cap of 300 s.";
    "synchronous_commit" = "on", Rule::Words(ON), false, "A commit is on disk before it is acknowledged.";
    "TimeZone" = "UTC", Rule::Words(UTC), true, "Time zone of displayed times.";
    "transaction_deferrable" = "off", Rule::Switch, false, "Whether this transaction may wait before it begins; none does.";
    "transaction_isolation" = "read committed", Rule::Choice(LEVELS), false, "Isolation of this transaction.";
    "transaction_read_only" = "off", Rule::Switch, false, "Whether this transaction is read-only.";
}

/// The values of one session.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    session: HashMap<&'static str, String>,
    /// `SET LOCAL`: gone at the end of the transaction.
    local: HashMap<&'static str, String>,
    /// What `SET` in a transaction replaced, to be restored if it rolls back.
    undo: Vec<(&'static str, Option<String>)>,
    /// Who runs the current statement, for `set_config`.
    pub(super) asker: Asker,
    /// Settings that `set_config` changed and clients must be told of.
    pub(super) reported: Vec<&'static str>,
}

/// What the settings of the moment ask of a model call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallSettings {
    /// `ai.cache`.
    pub(super) cache: bool,
    /// `ai.cache_ttl`.
    pub(super) cache_ttl: Duration,
    /// `bulkhead.limit_wait`.
    pub(super) limit_wait: Duration,
    /// `ai.max_statement_usd`; `None` is no limit.
    pub(super) max_statement: Option<Nano>,
    /// Whether `ai.on_error` is `null`.
    pub(super) null_on_error: bool,
    /// `ai.idempotency_key`, where one is set.
    pub(super) idempotency_key: Option<String>,
    /// `ai.memory`.
    pub(super) memory: Memory,
    /// `ai.memory_tokens`.
    pub(super) memory_tokens: usize,
    /// `ai.memory_messages`.
    pub(super) memory_messages: usize,
}

/// What a model is told of a conversation so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// As many of the newest messages as fit into a number of tokens.
    Tokens,
    /// A number of the newest messages.
    LastN,
    /// A summary of the older ones, then the newest.
    Summary,
}

/// Who asks, as far as it decides what may be set.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asker {
    pub(super) service: bool,
    pub(super) in_transaction: bool,
}

/// The setting of a name, compared without case.
pub(super) fn find(name: &str) -> Result<&'static Setting> {
    SETTINGS
        .iter()
        .find(|s| s.name.eq_ignore_ascii_case(name))
        .ok_or_else(|| {
            Error::new(
                Code::InsufficientPrivilege,
                format!("setting \"{}\" cannot be read or set here", shorten(name)),
            )
            .with_hint("SHOW ALL lists the settings of a session")
        })
}

fn shorten(name: &str) -> String {
    name.chars().take(64).collect()
}

impl Settings {
    /// The value of a setting in force now.
    pub(super) fn get(&self, setting: &Setting) -> String {
        let set = self.local.get(setting.name).or_else(|| self.session.get(setting.name));
        let default = || {
            let (_, default) = OF_TRANSACTION.iter().find(|(name, _)| *name == setting.name)?;
            self.local.get(default).or_else(|| self.session.get(default))
        };
        set.or_else(default).map_or(setting.default, String::as_str).to_owned()
    }

    /// Whether a setting is on.
    pub(super) fn is_on(&self, name: &str) -> bool {
        find(name).is_ok_and(|setting| self.get(setting) == ON[0])
    }

    /// Whether a setting is one of the transaction alone, however it is set.
    pub(super) fn is_of_transaction(name: &str) -> bool {
        OF_TRANSACTION.iter().any(|(of, _)| of.eq_ignore_ascii_case(name))
    }

    /// `SET [LOCAL] name = value`; gives the name where clients must be told of the change.
    pub(super) fn set(&mut self, name: &str, value: &str, local: bool, asker: Asker) -> Result<Option<&'static str>> {
        let setting = find(name)?;
        let value = setting.check(value, asker)?;
        let local = local || Self::is_of_transaction(setting.name);
        self.put(setting, Some(value), local && asker.in_transaction, local, asker);
        Ok(setting.reported.then_some(setting.name))
    }

    /// `RESET name`.
    pub(super) fn reset(&mut self, name: &str, asker: Asker) -> Result<Option<&'static str>> {
        let setting = find(name)?;
        if matches!(setting.rule, Rule::Fixed) {
            return Err(setting.fixed());
        }
        self.put(setting, None, false, false, asker);
        Ok(setting.reported.then_some(setting.name))
    }

    fn put(&mut self, setting: &'static Setting, value: Option<String>, to_local: bool, local: bool, asker: Asker) {
        if local {
            // Outside a transaction SET LOCAL has no effect, as in PostgreSQL.
            if let (true, Some(value)) = (to_local, value) {
                self.local.insert(setting.name, value);
            }
            return;
        }
        self.local.remove(setting.name);
        let old = match value {
            Some(value) => self.session.insert(setting.name, value),
            None => self.session.remove(setting.name),
        };
        if asker.in_transaction {
            self.undo.push((setting.name, old));
        }
    }

    /// `RESET ALL`, except what the login fixed.
    pub(super) fn reset_all(&mut self) {
        self.session.retain(|name, _| *name == "session_authorization");
        self.local.clear();
        self.undo.clear();
    }

    /// Values that the login decides.
    pub(super) fn fix(&mut self, name: &'static str, value: String) {
        self.session.insert(name, value);
    }

    /// `ROLLBACK TO`: everything as it was at the savepoint.
    pub(super) fn return_to(&mut self, then: Settings) {
        let asker = self.asker;
        *self = then;
        self.asker = asker;
    }

    /// The transaction ended.
    pub(super) fn end_transaction(&mut self, committed: bool) {
        self.local.clear();
        let undo = std::mem::take(&mut self.undo);
        if committed {
            return;
        }
        for (name, old) in undo.into_iter().rev() {
            match old {
                Some(value) => self.session.insert(name, value),
                None => self.session.remove(name),
            };
        }
    }

    /// The end user a service acts for, if one is set.
    pub(super) fn end_user(&self) -> Option<String> {
        let set = self
            .local
            .get("bulkhead.user")
            .or_else(|| self.session.get("bulkhead.user"));
        set.filter(|u| !u.is_empty()).cloned()
    }

    /// What the settings ask of a model call made now.
    pub(super) fn call(&self) -> CallSettings {
        let text = |name| find(name).map(|s| self.get(s)).unwrap_or_default();
        let count = |name| text(name).parse().unwrap_or_default();
        CallSettings {
            cache: text("ai.cache") == ON[0],
            cache_ttl: self.duration("ai.cache_ttl").unwrap_or_default(),
            limit_wait: self.duration("bulkhead.limit_wait").unwrap_or_default(),
            max_statement: Nano::from_text(&text("ai.max_statement_usd")).ok(),
            null_on_error: text("ai.on_error") == "null",
            idempotency_key: Some(text("ai.idempotency_key")).filter(|key| !key.is_empty()),
            memory: match text("ai.memory").as_str() {
                "last_n" => Memory::LastN,
                "summary" => Memory::Summary,
                _ => Memory::Tokens,
            },
            memory_tokens: count("ai.memory_tokens"),
            memory_messages: count("ai.memory_messages"),
        }
    }

    /// Schemas in the order of `search_path`, lower case, `$user` left out.
    pub(super) fn path(&self) -> Vec<String> {
        let path = find("search_path").map(|s| self.get(s)).unwrap_or_default();
        path.split(',')
            .map(|p| p.trim().trim_matches('"').to_owned())
            .filter(|p| p != "$user" && !p.is_empty())
            .collect()
    }

    /// The longest a statement may run.
    pub(super) fn statement_timeout(&self) -> Duration {
        self.duration("statement_timeout")
            .map_or(limits::STATEMENT_TIMEOUT, |set| set.min(limits::STATEMENT_TIMEOUT))
    }

    /// A setting of time; `None` where it is 0, which leaves it to the server.
    pub(super) fn duration(&self, name: &str) -> Option<Duration> {
        let set = find(name).map(|s| self.get(s)).unwrap_or_default();
        millis(&set).filter(|ms| *ms > 0).map(Duration::from_millis)
    }
}

impl Setting {
    fn fixed(&self) -> Error {
        Error::new(
            Code::InsufficientPrivilege,
            format!("parameter \"{}\" cannot be changed", self.name),
        )
    }

    fn invalid(&self, value: &str, allowed: &str) -> Error {
        Error::new(
            Code::InvalidParameterValue,
            format!("invalid value for parameter \"{}\": \"{}\"", self.name, shorten(value)),
        )
        .with_hint(format!("allowed: {allowed}"))
    }

    /// The value as it is stored.
    fn check(&self, value: &str, asker: Asker) -> Result<String> {
        if value.eq_ignore_ascii_case("default") && !matches!(self.rule, Rule::Fixed) {
            return Ok(self.default.to_owned());
        }
        match &self.rule {
            Rule::Fixed => Err(self.fixed()),
            Rule::Text if value.len() <= limits::NAME_BYTES => Ok(value.to_owned()),
            // PostgreSQL cuts long application names rather than refusing them.
            Rule::Text => Ok(value.chars().take(limits::NAME_BYTES / 4).collect()),
            Rule::Words(words) => match listed(words, value) {
                Some(_) => Ok(words[0].to_owned()),
                None if self.name == "row_security" => Err(Error::new(
                    Code::InsufficientPrivilege,
                    "row_security cannot be switched off",
                )),
                None => Err(self.invalid(value, &words.join(", "))),
            },
            Rule::Millis(most) => match millis(value) {
                Some(ms) if ms <= *most => Ok(interval(ms)),
                _ => Err(self.invalid(value, &format!("0 to {most} milliseconds, or an interval such as '5s'"))),
            },
            Rule::Int(low, high) => match value.parse::<i64>() {
                Ok(n) if (*low..=*high).contains(&n) => Ok(n.to_string()),
                _ => Err(self.invalid(value, &format!("{low} to {high}"))),
            },
            Rule::Switch if listed(ON, value).is_some() => Ok(ON[0].to_owned()),
            Rule::Switch if listed(OFF, value).is_some() => Ok(OFF[0].to_owned()),
            Rule::Switch => Err(self.invalid(value, "on, off")),
            Rule::Choice(words) => match listed(words, value) {
                Some(word) => Ok(word.to_owned()),
                None => Err(self.invalid(value, &words.join(", "))),
            },
            Rule::Exact(most) if value.len() <= *most => Ok(value.to_owned()),
            Rule::Exact(most) => Err(self.invalid(value, &format!("at most {most} bytes"))),
            Rule::Seconds(most) => match seconds(value) {
                Some(seconds) if seconds <= *most => Ok(interval(seconds * 1_000)),
                _ => Err(self.invalid(value, &format!("0 to {most} seconds, or an interval such as '10min'"))),
            },
            Rule::Usd if value.eq_ignore_ascii_case(NO_AMOUNT) => Ok(NO_AMOUNT.to_owned()),
            Rule::Usd => match Nano::from_text(value) {
                Ok(amount) if amount >= Nano::ZERO => Ok(amount.to_string()),
                _ => Err(self.invalid(value, "an amount of USD such as 0.05, or none")),
            },
            Rule::Path if value.len() <= 1024 => Ok(value.to_owned()),
            Rule::Path => Err(self.invalid(value, "a list of schemas")),
            Rule::EndUser if !asker.service => Err(Error::new(
                Code::InsufficientPrivilege,
                "only a user of role service may act for another user",
            )),
            Rule::EndUser if value.len() <= limits::NAME_BYTES => Ok(value.to_owned()),
            Rule::EndUser => Err(self.invalid(value, "a name of at most 63 bytes")),
        }
    }
}

fn listed(words: &[&'static str], value: &str) -> Option<&'static str> {
    words.iter().find(|w| w.eq_ignore_ascii_case(value)).copied()
}

/// Milliseconds as PostgreSQL shows them, in the largest unit that divides them.
fn interval(ms: u64) -> String {
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "min"),
        (1_000, "s"),
        (1, "ms"),
    ];
    match units.iter().find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None => "0".to_owned(),
    }
}

/// Whole seconds of `3600`, `90s`, `10min`, `1h`, `1d`.
fn seconds(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(seconds);
    }
    let ms = millis(text)?;
    ms.is_multiple_of(1_000).then_some(ms / 1_000)
}

/// Milliseconds of `250`, `250ms`, `5s`, `2min`, `1h`, `1d`.
fn millis(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let factor = match text[digits..].trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
