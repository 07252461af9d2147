//! The options of COPY, in both of PostgreSQL's spellings.

use datafusion::sql::sqlparser::tokenizer::Token;

use crate::{
    error::{Code, Error, Result},
    sql::{session::Column, words::Words},
};

/// Which of the three forms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CopyKind {
    /// Tabs and backslashes.
    #[default]
    Text,
    /// Commas and quotes.
    Csv,
    /// PostgreSQL's binary file.
    Binary,
}

/// Whether the first line names the columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Header {
    /// There is none.
    #[default]
    No,
    /// There is one; coming in it is not looked at.
    Yes,
    /// Coming in it must name the columns in their order.
    Match,
}

/// How the bytes of a COPY are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyFormat {
    /// Which form.
    pub kind: CopyKind,
    /// Between two values.
    pub delimiter: u8,
    /// What stands for NULL.
    pub null: String,
    /// Whether the first line names the columns.
    pub header: Header,
    /// Around a value, in CSV.
    pub quote: u8,
    /// Before a quote inside of quotes, in CSV.
    pub escape: u8,
    /// One for each column: whether its values are always quoted.
    pub force_quote: Vec<bool>,
    /// One for each column: whether what stands for NULL is text there.
    pub force_not_null: Vec<bool>,
    /// One for each column: whether what stands for NULL is NULL even in quotes.
    pub force_null: Vec<bool>,
}

/// Columns that an option is about.
#[derive(Clone, Debug, PartialEq)]
enum Columns {
    All,
    Named(Vec<String>),
}

/// The options as they were given.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    kind: Option<CopyKind>,
    freeze: Option<bool>,
    delimiter: Option<String>,
    null: Option<String>,
    header: Option<Header>,
    quote: Option<String>,
    escape: Option<String>,
    force_quote: Option<Columns>,
    force_not_null: Option<Columns>,
    force_null: Option<Columns>,
    encoding: Option<String>,
}

fn redundant() -> Error {
    Error::new(Code::Syntax, "conflicting or redundant options")
}

/// Sets what must not be set twice.
fn once<T>(slot: &mut Option<T>, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(redundant()),
    }
}

impl Options {
    /// `COPY BINARY ...`, the oldest spelling.
    pub(super) fn binary(&mut self) {
        self.kind = Some(CopyKind::Binary);
    }

    /// Reads what stands after the end point, to the end of the statement.
    pub(super) fn parse(&mut self, words: &mut Words<'_>) -> Result<()> {
        if words.keyword("USING") {
            words.must("DELIMITERS")?;
            once(&mut self.delimiter, words.string()?)?;
        }
        words.keyword("WITH");
        match words.symbol(&Token::LParen) {
            true => self.listed(words)?,
            false => self.spelled_out(words)?,
        }
        if words.word(0) == "WHERE" {
            return Err(Error::new(Code::Unsupported, "COPY FROM ... WHERE is not supported"));
        }
        words.end()
    }

    /// `(FORMAT csv, HEADER true)`.
    fn listed(&mut self, words: &mut Words<'_>) -> Result<()> {
        loop {
            let name = words.name()?;
            match name.as_str() {
                "format" => {
                    let format = value(words)?.unwrap_or_default();
                    let kind = match format.as_str() {
                        "text" => CopyKind::Text,
                        "csv" => CopyKind::Csv,
                        "binary" => CopyKind::Binary,
                        _ => {
                            let message = format!("COPY format \"{format}\" not recognized");
                            return Err(Error::new(Code::InvalidParameterValue, message));
                        }
                    };
                    once(&mut self.kind, kind)?;
                }
                "freeze" => once(&mut self.freeze, boolean("freeze", value(words)?)?)?,
                "delimiter" => once(&mut self.delimiter, text("delimiter", value(words)?)?)?,
                "null" => once(&mut self.null, text("null", value(words)?)?)?,
                "quote" => once(&mut self.quote, text("quote", value(words)?)?)?,
                "escape" => once(&mut self.escape, text("escape", value(words)?)?)?,
                "encoding" => once(&mut self.encoding, text("encoding", value(words)?)?)?,
                "header" => {
                    let header = match value(words)? {
                        Some(word) if word.eq_ignore_ascii_case("match") => Header::Match,
                        given => match boolean("header", given)? {
                            true => Header::Yes,
                            false => Header::No,
                        },
                    };
                    once(&mut self.header, header)?;
                }
                "force_quote" => once(&mut self.force_quote, columns(words)?)?,
                "force_not_null" => once(&mut self.force_not_null, columns(words)?)?,
                "force_null" => once(&mut self.force_null, columns(words)?)?,
                _ => {
                    let message = format!("option \"{name}\" not recognized");
                    return Err(Error::new(Code::Syntax, message));
                }
            }
            if words.symbol(&Token::RParen) {
                return Ok(());
            }
            if !words.symbol(&Token::Comma) {
                return Err(words.unexpected());
            }
        }
    }

    /// `CSV HEADER DELIMITER AS ','`, as before PostgreSQL 9.0.
    fn spelled_out(&mut self, words: &mut Words<'_>) -> Result<()> {
        const KEYWORDS: &[&str] = &[
            "BINARY",
            "CSV",
            "FREEZE",
            "DELIMITER",
            "NULL",
            "HEADER",
            "QUOTE",
            "ESCAPE",
            "FORCE",
            "ENCODING",
        ];
        fn string(words: &mut Words<'_>) -> Result<String> {
            words.keyword("AS");
            words.string()
        }
        while let Some(keyword) = words.one_of(KEYWORDS) {
            match keyword {
                "BINARY" => once(&mut self.kind, CopyKind::Binary)?,
                "CSV" => once(&mut self.kind, CopyKind::Csv)?,
                "FREEZE" => once(&mut self.freeze, true)?,
                "DELIMITER" => once(&mut self.delimiter, string(words)?)?,
                "NULL" => once(&mut self.null, string(words)?)?,
                "HEADER" => once(&mut self.header, Header::Yes)?,
                "QUOTE" => once(&mut self.quote, string(words)?)?,
                "ESCAPE" => once(&mut self.escape, string(words)?)?,
                "ENCODING" => once(&mut self.encoding, words.string()?)?,
                _ => match words.one_of(&["QUOTE", "NOT", "NULL"]) {
                    Some("QUOTE") => once(&mut self.force_quote, bare_columns(words)?)?,
                    Some("NOT") => {
                        words.must("NULL")?;
                        once(&mut self.force_not_null, bare_columns(words)?)?;
                    }
                    Some(_) => once(&mut self.force_null, bare_columns(words)?)?,
                    None => return Err(words.unexpected()),
                },
            }
        }
        Ok(())
    }

    /// The format, for a COPY of these columns, out or in.
    pub(super) fn format(&self, out: bool, columns: &[Column]) -> Result<CopyFormat> {
        let kind = self.kind.unwrap_or_default();
        let unsupported = |message: &str| Err(Error::new(Code::Unsupported, message));
        let invalid = |message: &str| Err(Error::new(Code::InvalidParameterValue, message));
        if kind == CopyKind::Binary {
            for (given, name) in [(self.delimiter.is_some(), "DELIMITER"), (self.null.is_some(), "NULL")] {
                if given {
                    return Err(Error::new(
                        Code::Syntax,
                        format!("cannot specify {name} in BINARY mode"),
                    ));
                }
            }
            if self.header.is_some_and(|h| h != Header::No) {
                return unsupported("cannot specify HEADER in BINARY mode");
            }
        }
        let csv = kind == CopyKind::Csv;
        let delimiter = self.delimiter.as_deref().unwrap_or(if csv { "," } else { "\t" });
        let null = self.null.as_deref().unwrap_or(if csv { "" } else { "\\N" });
        let [delimiter] = *delimiter.as_bytes() else {
            return unsupported("COPY delimiter must be a single one-byte character");
        };
        if matches!(delimiter, b'\n' | b'\r') {
            return invalid("COPY delimiter cannot be newline or carriage return");
        }
        if null.contains(['\n', '\r']) {
            return invalid("COPY null representation cannot use newline or carriage return");
        }
        if !csv && b"\\.abcdefghijklmnopqrstuvwxyz0123456789".contains(&delimiter) {
            let message = format!("COPY delimiter cannot be \"{}\"", char::from(delimiter));
            return invalid(&message);
        }
        for (given, name) in [(self.quote.is_some(), "quote"), (self.escape.is_some(), "escape")] {
            if given && !csv {
                return unsupported(&format!("COPY {name} available only in CSV mode"));
            }
        }
        let quote = self.quote.as_deref().unwrap_or("\"");
        let [quote] = *quote.as_bytes() else {
            return unsupported("COPY quote must be a single one-byte character");
        };
        if csv && delimiter == quote {
            return invalid("COPY delimiter and quote must be different");
        }
        let escape = match self.escape.as_deref().map(str::as_bytes) {
            None => quote,
            Some([escape]) => *escape,
            Some(_) => return unsupported("COPY escape must be a single one-byte character"),
        };
        let forced = [
            (&self.force_quote, "force quote", true),
            (&self.force_not_null, "force not null", false),
            (&self.force_null, "force null", false),
        ];
        for (given, name, goes_out) in forced {
            match given {
                Some(_) if !csv => return unsupported(&format!("COPY {name} available only in CSV mode")),
                Some(_) if goes_out != out => {
                    let direction = if goes_out { "COPY TO" } else { "COPY FROM" };
                    return unsupported(&format!("COPY {name} only available using {direction}"));
                }
                _ => {}
            }
        }
        if null.as_bytes().contains(&delimiter) {
            return unsupported("COPY delimiter must not appear in the NULL specification");
        }
        if csv && null.as_bytes().contains(&quote) {
            return unsupported("CSV quote character must not appear in the NULL specification");
        }
        if out && self.header == Some(Header::Match) {
            return Err(Error::new(
                Code::Unsupported,
                "cannot use \"match\" with HEADER in COPY TO",
            ));
        }
        if out && self.freeze == Some(true) {
            return unsupported("COPY freeze only available using COPY FROM");
        }
        if let Some(encoding) = &self.encoding {
            check_encoding(encoding)?;
        }
        Ok(CopyFormat {
            kind,
            delimiter,
            null: null.to_owned(),
            header: self.header.unwrap_or_default(),
            quote,
            escape,
            force_quote: marked("FORCE_QUOTE", self.force_quote.as_ref(), columns)?,
            force_not_null: marked("FORCE_NOT_NULL", self.force_not_null.as_ref(), columns)?,
            force_null: marked("FORCE_NULL", self.force_null.as_ref(), columns)?,
        })
    }
}

/// Text is UTF-8 here; plain ASCII is that, too.
fn check_encoding(name: &str) -> Result<()> {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    match plain.to_ascii_lowercase().as_str() {
        "utf8" | "unicode" | "sqlascii" => Ok(()),
        _ => Err(Error::new(
            Code::InvalidParameterValue,
            "argument to option \"encoding\" must be a valid encoding name",
        )
        .with_hint("texts are UTF8")),
    }
}

fn marked(option: &str, named: Option<&Columns>, columns: &[Column]) -> Result<Vec<bool>> {
    let names = match named {
        None => return Ok(vec![false; columns.len()]),
        Some(Columns::All) => return Ok(vec![true; columns.len()]),
        Some(Columns::Named(names)) => names,
    };
    if let Some(name) = names.iter().find(|name| !columns.iter().any(|c| c.name == **name)) {
        let message = format!("{option} column \"{name}\" not referenced by COPY");
        return Err(Error::new(Code::InvalidColumnReference, message));
    }
    Ok(columns.iter().map(|column| names.contains(&column.name)).collect())
}

/// The value of a listed option: a word, a text, a number or nothing.
fn value(words: &mut Words<'_>) -> Result<Option<String>> {
    match words.peek() {
        Some(Token::Comma | Token::RParen) => Ok(None),
        Some(Token::Word(_)) => words.name().map(Some),
        Some(Token::Number(..) | Token::Minus | Token::Plus) => words.integer().map(|n| Some(n.to_string())),
        _ => words.string().map(Some),
    }
}

fn text(option: &str, given: Option<String>) -> Result<String> {
    given.ok_or_else(|| Error::new(Code::Syntax, format!("{option} requires a parameter")))
}

fn boolean(option: &str, given: Option<String>) -> Result<bool> {
    match given.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("true" | "on" | "1") => Ok(true),
        Some("false" | "off" | "0") => Ok(false),
        Some(_) => Err(Error::new(Code::Syntax, format!("{option} requires a Boolean value"))),
    }
}

fn columns(words: &mut Words<'_>) -> Result<Columns> {
    match words.symbol(&Token::Mul) {
        true => Ok(Columns::All),
        false => words.names().map(Columns::Named),
    }
}

/// The older spelling's list, without brackets.
fn bare_columns(words: &mut Words<'_>) -> Result<Columns> {
    if words.symbol(&Token::Mul) {
        return Ok(Columns::All);
    }
    let mut names = vec![words.name()?];
    while words.symbol(&Token::Comma) {
        names.push(words.name()?);
    }
    Ok(Columns::Named(names))
}
