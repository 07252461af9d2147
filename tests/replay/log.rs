//! The decoded wire logs of `../shared/clients`: from lines to messages of clients and servers.
//!
//! A captured line is `-- [c7] >> Parse stmt='s' param_oids=[23]`; what a `Query` or a `Parse` says follows in the lines
//! after it, up to the next such line. Values are written as Python prints them, or as `bin:` and hexadecimal digits;
//! long ones are cut, and [`mend`] makes whole values of the same shape from them.

/// A message of a client.
#[derive(Clone, Debug)]
pub enum Said {
    Startup(Vec<(String, String)>),
    Query(String),
    Parse {
        name: String,
        oids: Vec<u32>,
        sql: String,
    },
    Bind {
        portal: String,
        statement: String,
        formats: Vec<i16>,
        results: Vec<i16>,
        values: Vec<Option<Vec<u8>>>,
    },
    Describe(u8, String),
    Execute(String, i32),
    Close(u8, String),
    CopyData(Vec<u8>),
    CopyDone(usize),
    Sync,
}

/// What the log shows of a server's answer. A row is its cells as printed.
#[derive(Clone, Debug)]
pub enum Heard {
    Parameters(Vec<u32>),
    Columns(Vec<(String, u32)>),
    NoData,
    Row(Vec<String>),
    Complete(String),
    Suspended,
    Empty,
    CopyIn,
    CopyOut,
    Error(String),
    Ready(char),
}

/// One message: who (the number of the connection), in which line, what.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    pub who: u32,
    pub line: usize,
    pub what: T,
}

/// A whole file.
#[derive(Debug, Default)]
pub struct Log {
    pub said: Vec<Entry<Said>>,
    pub heard: Vec<Entry<Heard>>,
}

/// Parameters of a startup message that the files have.
const STARTUP: &[&str] = &[
    "user",
    "database",
    "application_name",
    "client_encoding",
    "options",
    "DateStyle",
    "TimeZone",
    "extra_float_digits",
    "search_path",
    "statement_timeout",
];

/// Reads a captured file.
pub fn captured(text: &str) -> Log {
    let mut log = Log { ..Log::default() };
    let lines: Vec<&str> = text.lines().collect();
    let mut at = 0;
    while at < lines.len() {
        let line = at + 1;
        let Some((who, message)) = marked(lines[at]) else {
            at += 1;
            continue;
        };
        at += 1;
        let mut sql = Vec::new();
        while at < lines.len() && marked(lines[at]).is_none() {
            sql.push(lines[at]);
            at += 1;
        }
        let sql = sql.join("\n");
        if let Some(message) = message.strip_prefix(">> ") {
            let what = said(message, sql);
            log.said.extend(what.map(|what| Entry { who, line, what }));
        } else if let Some(message) = message.strip_prefix("<< ") {
            let what = heard(message);
            log.heard.extend(what.map(|what| Entry { who, line, what }));
        }
    }
    log
}

/// Reads a file that was taken from a client's source: statements only, each as a simple query, or, with parameters, as
/// a statement that is prepared.
pub fn from_source(text: &str, split: bool) -> Log {
    let mut log = Log::default();
    let startup = Said::Startup(vec![]);
    log.said.push(Entry {
        who: 0,
        line: 0,
        what: startup,
    });
    let mut add = |line: usize, sql: &str| {
        let sql = sql.trim();
        if sql.contains('\u{2026}') {
            return; // cut by whoever wrote the file
        }
        if sql.contains("$1") {
            let name = format!("s{line}");
            let parse = Said::Parse {
                name: name.clone(),
                oids: vec![],
                sql: sql.to_owned(),
            };
            for what in [parse, Said::Describe(b'S', name), Said::Sync] {
                log.said.push(Entry { who: 0, line, what });
            }
        } else if !sql.is_empty() {
            log.said.push(Entry {
                who: 0,
                line,
                what: Said::Query(sql.to_owned()),
            });
        }
    };
    let (mut begun, mut sql) = (1, String::new());
    for (n, line) in text.lines().enumerate() {
        let heading = line.starts_with("-- >> ") || line.starts_with("-- source") || (split && line.starts_with("-- "));
        if heading && !sql.is_empty() && split && !sql.contains('\u{2026}') {
            continue; // a comment within the statement
        }
        if heading || (sql.is_empty() && line.starts_with("-- ")) {
            add(begun, &std::mem::take(&mut sql));
            continue;
        }
        if sql.is_empty() {
            begun = n + 1;
        }
        sql.push_str(line);
        sql.push('\n');
        if split && line.ends_with(';') {
            add(begun, &std::mem::take(&mut sql));
        }
    }
    add(begun, &sql);
    log
}

/// The connection's number and the message of a marked line.
fn marked(line: &str) -> Option<(u32, &str)> {
    let (who, message) = line.strip_prefix("-- [c")?.split_once("] ")?;
    Some((who.parse().ok()?, message))
}

/// What follows `key` in the text, up to one of the ends.
fn after<'a>(text: &'a str, key: &str) -> &'a str {
    text.split_once(key).map_or("", |(_, rest)| rest)
}

/// The quoted word after `key`.
fn word(text: &str, key: &str) -> String {
    after(text, key)
        .strip_prefix('\'')
        .and_then(|r| r.split('\'').next())
        .unwrap_or("")
        .to_owned()
}

/// The numbers in brackets after `key`.
fn numbers<T: std::str::FromStr>(text: &str, key: &str) -> Vec<T> {
    let inner = after(text, key)
        .strip_prefix('[')
        .and_then(|r| r.split(']').next())
        .unwrap_or("");
    inner.split(',').filter_map(|n| n.trim().parse().ok()).collect()
}

fn said(message: &str, sql: String) -> Option<Said> {
    let kind = |rest: &str| if rest.starts_with("statement") { b'S' } else { b'P' };
    let (first, rest) = message.split_once(' ').unwrap_or((message, ""));
    Some(match first {
        "StartupMessage" => Said::Startup(startup(rest)),
        "Query" => Said::Query(sql),
        "Parse" => Said::Parse {
            name: word(rest, "stmt="),
            oids: numbers(rest, "param_oids="),
            sql,
        },
        "Bind" => Said::Bind {
            portal: word(rest, "portal="),
            statement: word(rest, "stmt="),
            formats: numbers(rest, "param_formats="),
            results: numbers(rest, "result_formats="),
            values: values(after(rest, "params=[")),
        },
        "Describe" => Said::Describe(kind(rest), word(rest, " ")),
        "Close" => Said::Close(kind(rest), word(rest, " ")),
        "Execute" => Said::Execute(
            word(rest, "portal="),
            after(rest, "max_rows=").trim().parse().unwrap_or(0),
        ),
        "CopyData" => Said::CopyData(value(rest).0.unwrap_or_default()),
        "CopyDone" => Said::CopyDone(
            after(rest, "after ")
                .split(' ')
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(1),
        ),
        "Sync" => Said::Sync,
        // TLS and passwords are the login's; cancelling what has ended, and flushing, change no answer.
        _ => return None,
    })
}

/// `user=postgres options=-c search_path=public application_name=x`: values may hold spaces and equals signs.
fn startup(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for part in text.split(' ').skip(1) {
        let known = part.split_once('=').filter(|(key, _)| STARTUP.contains(key));
        let in_options = found
            .last()
            .is_some_and(|(key, value)| key == "options" && value.ends_with("-c"));
        match (known, found.last_mut()) {
            (Some((key, value)), _) if !in_options => found.push((key.to_owned(), value.to_owned())),
            (_, Some((_, value))) => {
                value.push(' ');
                value.push_str(part);
            }
            _ => {}
        }
    }
    found
}

fn values(mut text: &str) -> Vec<Option<Vec<u8>>> {
    let mut all = Vec::new();
    while !text.is_empty() && !text.starts_with(']') {
        let (value, used) = value(text);
        all.push(value);
        text = text[used..].trim_start_matches([',', ' ']);
    }
    all
}

/// One value and how many bytes of the text it takes.
fn value(text: &str) -> (Option<Vec<u8>>, usize) {
    if let Some(hex) = text.strip_prefix("bin:") {
        let digits = hex.len() - hex.trim_start_matches(|c: char| c.is_ascii_hexdigit()).len();
        let bytes = (0..digits / 2).filter_map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok());
        let mut used = 4 + digits;
        let cut = hex[digits..].starts_with('\u{2026}');
        if cut {
            used += hex[digits..].find(')').map_or(0, |n| n + 1);
        }
        let bytes: Vec<u8> = bytes.collect();
        return (Some(if cut { mend_copy(&bytes) } else { bytes }), used);
    }
    let Some(quote) = text.chars().next().filter(|c| "'\"".contains(*c)) else {
        return (None, text.find([',', ']']).unwrap_or(text.len()));
    };
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    let mut used = text.len();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            used = at + 1;
            break;
        }
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some((_, 't')) => out.push('\t'),
            Some((_, 'n')) => out.push('\n'),
            Some((_, 'r')) => out.push('\r'),
            Some((at, 'x')) => {
                let code = text.get(at + 1..at + 3).and_then(|h| u8::from_str_radix(h, 16).ok());
                out.push(code.unwrap_or(0) as char);
                chars.nth(1);
            }
            // The log writes a newline as backslash and n before Python escapes the backslash.
            Some((at, '\\')) if text[at + 1..].starts_with('n') => {
                out.push('\n');
                chars.next();
            }
            Some((_, other)) => out.push(other),
            None => {}
        }
    }
    (Some(mend(&out).into_bytes()), used)
}

/// A whole value for a cut one: a vector with all of its eight dimensions, or a JSON object.
pub fn mend(text: &str) -> String {
    let Some((kept, _)) = text.split_once('\u{2026}') else {
        return text.to_owned();
    };
    match kept.strip_prefix('[') {
        Some(numbers) => {
            let mut whole: Vec<&str> = numbers.split(',').map(str::trim).collect();
            whole.pop();
            whole.resize(8, "0.5");
            format!("[{}]", whole.join(","))
        }
        None => r#"{"type": "ai"}"#.to_owned(),
    }
}

/// Binary COPY data with as many columns as the cut one: those of `billing.costs`, or fifty rows of `(int4, vector(4))`.
fn mend_copy(cut: &[u8]) -> Vec<u8> {
    let mut out = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    let field = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        out.extend_from_slice(bytes);
    };
    if cut.get(20) == Some(&2) {
        for n in 0..50_i32 {
            out.extend_from_slice(&2_i16.to_be_bytes());
            field(&mut out, &n.to_be_bytes());
            let mut vector = vec![0, 4, 0, 0];
            (0..4).for_each(|i| vector.extend_from_slice(&((n + i) as f32 / 50.0).to_be_bytes()));
            field(&mut out, &vector);
        }
    } else {
        out.extend_from_slice(&5_i16.to_be_bytes());
        field(&mut out, cut.get(25..27).unwrap_or(b"zz"));
        field(&mut out, &9497_i32.to_be_bytes());
        field(&mut out, b"m");
        field(&mut out, &1_i64.to_be_bytes());
        field(&mut out, &[0, 1, 0xff, 0xff, 0, 0, 0, 1, 0x03, 0xe8]);
    }
    out.extend_from_slice(&(-1_i16).to_be_bytes());
    out
}

fn heard(message: &str) -> Option<Heard> {
    let (first, rest) = message.split_once(' ').unwrap_or((message, ""));
    Some(match first {
        "ParameterDescription" => Heard::Parameters(numbers(message, "ParameterDescription ")),
        "RowDescription" => Heard::Columns(columns(rest)),
        "NoData" => Heard::NoData,
        "first" => Heard::Row(after(rest, "row: ").split(" | ").map(str::to_owned).collect()),
        "CommandComplete" => Heard::Complete(rest.to_owned()),
        "PortalSuspended" => Heard::Suspended,
        "EmptyQueryResponse" => Heard::Empty,
        "CopyInResponse" => Heard::CopyIn,
        "CopyOutResponse" => Heard::CopyOut,
        "ErrorResponse" => Heard::Error(rest.split([' ', ':']).nth(1).unwrap_or("").to_owned()),
        "ReadyForQuery" => Heard::Ready(rest.chars().next().unwrap_or('I')),
        _ => return None,
    })
}

/// `name:oid(typmod):bin, ...`, where a name may hold commas and colons.
fn columns(text: &str) -> Vec<(String, u32)> {
    let mut all = Vec::new();
    let mut name = String::new();
    for part in text.split(", ") {
        name.push_str(part);
        let plain = name.strip_suffix(":bin").unwrap_or(&name);
        let plain = plain
            .strip_suffix(')')
            .and_then(|p| p.rsplit_once('('))
            .map_or(plain, |(p, _)| p);
        match plain.rsplit_once(':').map(|(n, oid)| (n.to_owned(), oid.parse())) {
            Some((n, Ok(oid))) => {
                all.push((n, oid));
                name.clear();
            }
            _ => name.push_str(", "),
        }
    }
    all
}
