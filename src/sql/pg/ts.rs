//! `tsvector` and `tsquery`: the words of a text with their places, and what is looked for among them.
//!
//! Both are kept as the text that PostgreSQL prints. Words are cut and stemmed by [`crate::ai::terms`], as the keyword
//! index does it.

use std::collections::BTreeMap;

use datafusion::common::Result;

use super::function::fail;
use crate::{ai::terms, error::Code, limits::JSON_DEPTH};

/// Places that are told apart; later words are all at the last one.
const MAX_PLACE: u16 = 16_383;
/// Places kept of one word.
const MAX_PLACES: usize = 255;

/// A place with its weight: `A` to `D`, the plain one.
pub(super) type Place = (u16, char);

/// Words by the alphabet, each with its places.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Vector(pub(super) BTreeMap<String, Vec<Place>>);

/// What is looked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Query {
    /// Nothing: only words that do not count were asked for.
    Nothing,
    Word {
        word: String,
        prefix: bool,
        /// Empty: of any weight.
        weights: String,
    },
    Not(Box<Query>),
    And(Box<Query>, Box<Query>),
    /// The second so many words after the first.
    Phrase(Box<Query>, u16, Box<Query>),
    Or(Box<Query>, Box<Query>),
}

/// How words are brought into one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Configuration {
    English,
    Simple,
}

impl Configuration {
    /// The configuration of a name.
    pub(super) fn of(name: &str) -> Result<Self> {
        match name.strip_prefix("pg_catalog.").unwrap_or(name).to_lowercase().as_str() {
            "english" => Ok(Self::English),
            "simple" => Ok(Self::Simple),
            _ => {
                let message = format!("text search configuration \"{name}\" does not exist");
                Err(fail(Code::UndefinedObject, message))
            }
        }
    }

    /// The words that count of a text, each with its place from 1.
    pub(super) fn words(self, text: &str) -> Vec<(String, u16)> {
        let numbered = terms::words(text).zip(1_usize..);
        let kept = numbered.filter(|(word, _)| self == Self::Simple || !word.is_stop());
        kept.map(|(word, place)| {
            let lexeme = match self {
                Self::English => word.stem(),
                Self::Simple => word.raw.to_lowercase(),
            };
            (lexeme, u16::try_from(place).unwrap_or(MAX_PLACE).min(MAX_PLACE))
        })
        .collect()
    }
}

impl Vector {
    /// The words of a text.
    pub(super) fn of(text: &str, configuration: Configuration) -> Self {
        let mut vector = Self::default();
        for (word, place) in configuration.words(text) {
            vector.add(word, (place, 'D'));
        }
        vector
    }

    fn add(&mut self, word: String, place: Place) {
        let places = self.0.entry(word).or_default();
        if places.len() < MAX_PLACES && !places.iter().any(|(at, _)| *at == place.0) {
            places.push(place);
        }
    }

    /// Reads `'fat':2,4A rat cat:3`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            let shown: String = text.chars().take(60).collect();
            fail(Code::Syntax, format!("syntax error in tsvector: \"{shown}\""))
        };
        let mut vector = Self::default();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (word, after) = lexeme(rest, &[':']).ok_or_else(wrong)?;
            rest = after;
            vector.0.entry(word.clone()).or_default();
            if let Some(after) = rest.strip_prefix(':') {
                let end = after.find(char::is_whitespace).unwrap_or(after.len());
                for place in after[..end].split(',') {
                    let weight = place.chars().last().filter(char::is_ascii_alphabetic).unwrap_or('D');
                    let digits = place.trim_end_matches(|c: char| c.is_ascii_alphabetic());
                    let at: u32 = digits.parse().map_err(|_| wrong())?;
                    let weight = weight.to_ascii_uppercase();
                    if at == 0 || !('A'..='D').contains(&weight) {
                        return Err(wrong());
                    }
                    let at = u16::try_from(at).unwrap_or(MAX_PLACE).min(MAX_PLACE);
                    vector.add(word.clone(), (at, weight));
                }
                rest = &after[end..];
            }
            rest = rest.trim_start();
        }
        vector.0.values_mut().for_each(|places| places.sort_unstable());
        Ok(vector)
    }

    /// As PostgreSQL prints it.
    pub(super) fn text(&self) -> String {
        let word = |(word, places): (&String, &Vec<Place>)| {
            let place = |(at, weight): &Place| match weight {
                'D' => at.to_string(),
                weight => format!("{at}{weight}"),
            };
            let places: Vec<String> = places.iter().map(place).collect();
            match places.is_empty() {
                true => quoted(word),
                false => format!("{}:{}", quoted(word), places.join(",")),
            }
        };
        self.0.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    /// Both, the second's places after the first's.
    pub(super) fn followed_by(mut self, other: Self) -> Self {
        let last = self.0.values().flatten().map(|(at, _)| *at).max().unwrap_or(0);
        for (word, places) in other.0 {
            self.0.entry(word.clone()).or_default();
            for (at, weight) in places {
                self.add(word.clone(), (at.saturating_add(last).min(MAX_PLACE), weight));
            }
        }
        self
    }

    /// The places at which words stand that a word of a query means.
    pub(super) fn places(&self, word: &str, prefix: bool, weights: &str) -> Option<Vec<Place>> {
        let fits = |(_, weight): &&Place| weights.is_empty() || weights.contains(*weight);
        let mut found: Option<Vec<Place>> = None;
        let range = self.0.range(word.to_owned()..).take_while(|(w, _)| match prefix {
            true => w.starts_with(word),
            false => w.as_str() == word,
        });
        for (_, places) in range {
            let kept: Vec<Place> = places.iter().filter(fits).copied().collect();
            if weights.is_empty() || !kept.is_empty() {
                found.get_or_insert_default().extend(kept);
            }
        }
        if let Some(places) = &mut found {
            places.sort_unstable();
        }
        found
    }
}

/// A word, quoted or not, and what follows it.
fn lexeme<'a>(text: &'a str, ends: &[char]) -> Option<(String, &'a str)> {
    let mut word = String::new();
    if let Some(inner) = text.strip_prefix('\'') {
        let mut chars = inner.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => word.push(chars.next()?.1),
                '\'' if chars.peek().is_some_and(|(_, c)| *c == '\'') => {
                    word.push('\'');
                    chars.next();
                }
                '\'' => return (!word.is_empty()).then_some((word, &inner[at + 1..])),
                c => word.push(c),
            }
        }
        return None;
    }
    let end = text
        .find(|c: char| c.is_whitespace() || ends.contains(&c))
        .unwrap_or(text.len());
    (end > 0).then(|| (text[..end].to_owned(), &text[end..]))
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\\', "\\\\").replace('\'', "''"))
}

impl Query {
    /// Of words that must all be there; `next` how many words after the last each must stand, where that matters.
    pub(super) fn all(words: Vec<(String, u16)>, phrase: bool) -> Self {
        let mut last = 0;
        let mut whole = Self::Nothing;
        for (word, place) in words {
            let one = Self::Word {
                word,
                prefix: false,
                weights: String::new(),
            };
            whole = match whole {
                Self::Nothing => one,
                before if phrase => Self::Phrase(Box::new(before), place - last, Box::new(one)),
                before => Self::And(Box::new(before), Box::new(one)),
            };
            last = place;
        }
        whole
    }

    /// Reads `fat & (rat | !cat:*) <-> 'x y'`; with a configuration, words are brought into its form.
    pub(super) fn parse(text: &str, configuration: Option<Configuration>) -> Result<Self> {
        let mut parser = Parser {
            rest: text,
            configuration,
            depth: 0,
            whole: text,
        };
        parser.space();
        if parser.rest.is_empty() {
            return Ok(Self::Nothing);
        }
        let query = parser.or()?;
        match parser.rest.is_empty() {
            true => Ok(query),
            false => Err(parser.wrong()),
        }
    }

    /// As people type into a search engine: `"a phrase" word -not or other`.
    pub(super) fn of_web(text: &str, configuration: Configuration) -> Self {
        let (mut either, mut every) = (Self::Nothing, Self::Nothing);
        let mut rest = text.trim_start();
        let mut negated = false;
        while let Some(first) = rest.chars().next() {
            let (part, after, phrase) = match (first, rest.get(1..).and_then(|r| r.find('"'))) {
                ('"', Some(end)) => (&rest[1..end + 1], &rest[end + 2..], true),
                _ => {
                    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                    (&rest[..end], &rest[end..], false)
                }
            };
            if !phrase && first == '-' && part.len() > 1 {
                negated = true;
                rest = &rest[1..];
                continue;
            }
            rest = after.trim_start();
            if !phrase && part.eq_ignore_ascii_case("or") {
                either = join(either, std::mem::replace(&mut every, Self::Nothing), Self::Or);
                continue;
            }
            let words = Self::all(configuration.words(part), phrase || part.contains('-'));
            let one = match (negated, words) {
                (_, Self::Nothing) => Self::Nothing,
                (true, words) => Self::Not(Box::new(words)),
                (false, words) => words,
            };
            every = join(every, one, Self::And);
            negated = false;
        }
        join(either, every, Self::Or)
    }

    /// As PostgreSQL prints it.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        self.put(0, &mut out);
        out
    }

    fn put(&self, outside: u8, out: &mut String) {
        let (own, left, operator, right) = match self {
            Self::Nothing => return,
            Self::Word { word, prefix, weights } => {
                out.push_str(&quoted(word));
                if *prefix || !weights.is_empty() {
                    out.push(':');
                    out.push_str(if *prefix { "*" } else { "" });
                    out.push_str(weights);
                }
                return;
            }
            Self::Not(inner) => {
                out.push('!');
                inner.put(4, out);
                return;
            }
            Self::Or(a, b) => (1, a, " | ".to_owned(), b),
            Self::And(a, b) => (2, a, " & ".to_owned(), b),
            Self::Phrase(a, 1, b) => (3, a, " <-> ".to_owned(), b),
            Self::Phrase(a, n, b) => (3, a, format!(" <{n}> "), b),
        };
        let brackets = own < outside;
        out.push_str(if brackets { "( " } else { "" });
        left.put(own, out);
        out.push_str(&operator);
        right.put(own, out);
        out.push_str(if brackets { " )" } else { "" });
    }

    /// Whether a vector has what is looked for.
    pub(super) fn matches(&self, vector: &Vector) -> bool {
        match self {
            Self::Nothing => false,
            Self::Word { word, prefix, weights } => vector.places(word, *prefix, weights).is_some(),
            Self::Not(inner) => !inner.matches(vector),
            Self::And(a, b) => a.matches(vector) && b.matches(vector),
            Self::Or(a, b) => a.matches(vector) || b.matches(vector),
            Self::Phrase(..) => !self.ends(vector).is_empty(),
        }
    }

    /// The places at which a phrase ends.
    fn ends(&self, vector: &Vector) -> Vec<u16> {
        match self {
            Self::Nothing | Self::Not(_) => Vec::new(),
            Self::Word { word, prefix, weights } => {
                let places = vector.places(word, *prefix, weights).unwrap_or_default();
                places.into_iter().map(|(at, _)| at).collect()
            }
            Self::Or(a, b) => [a.ends(vector), b.ends(vector)].concat(),
            Self::And(a, b) => {
                let second = b.ends(vector);
                a.ends(vector).into_iter().filter(|at| second.contains(at)).collect()
            }
            Self::Phrase(a, distance, b) => {
                let first = a.ends(vector);
                let follows = |at: &u16| at.checked_sub(*distance).is_some_and(|from| first.contains(&from));
                b.ends(vector).into_iter().filter(follows).collect()
            }
        }
    }

    /// The words that are looked for, those that must be absent left out.
    pub(super) fn words(&self) -> Vec<(&str, bool, &str)> {
        match self {
            Self::Nothing | Self::Not(_) => Vec::new(),
            Self::Word { word, prefix, weights } => vec![(word, *prefix, weights)],
            Self::And(a, b) | Self::Or(a, b) | Self::Phrase(a, _, b) => {
                let mut words = a.words();
                for word in b.words() {
                    if !words.contains(&word) {
                        words.push(word);
                    }
                }
                words
            }
        }
    }
}

/// Two queries as one; nothing beside a query is that query.
pub(super) fn join(a: Query, b: Query, with: fn(Box<Query>, Box<Query>) -> Query) -> Query {
    match (a, b) {
        (Query::Nothing, other) | (other, Query::Nothing) => other,
        (a, b) => with(Box::new(a), Box::new(b)),
    }
}

struct Parser<'a> {
    rest: &'a str,
    whole: &'a str,
    configuration: Option<Configuration>,
    depth: usize,
}

impl Parser<'_> {
    fn wrong(&self) -> datafusion::common::DataFusionError {
        let shown: String = self.whole.chars().take(60).collect();
        fail(Code::Syntax, format!("syntax error in tsquery: \"{shown}\""))
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, token: char) -> bool {
        self.space();
        self.rest.strip_prefix(token).map(|rest| self.rest = rest).is_some()
    }

    fn or(&mut self) -> Result<Query> {
        let mut left = self.and()?;
        while self.take('|') {
            left = join(left, self.and()?, Query::Or);
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Query> {
        let mut left = self.phrase()?;
        while self.take('&') {
            left = join(left, self.phrase()?, Query::And);
        }
        Ok(left)
    }

    fn phrase(&mut self) -> Result<Query> {
        let mut left = self.not()?;
        loop {
            self.space();
            let Some(after) = self.rest.strip_prefix('<') else {
                return Ok(left);
            };
            let (distance, after) = after.split_once('>').ok_or_else(|| self.wrong())?;
            let distance = match distance {
                "-" => 1,
                n => n.parse().map_err(|_| self.wrong())?,
            };
            self.rest = after;
            left = match (left, self.not()?) {
                (Query::Nothing, other) | (other, Query::Nothing) => other,
                (a, b) => Query::Phrase(Box::new(a), distance, Box::new(b)),
            };
        }
    }

    fn not(&mut self) -> Result<Query> {
        self.depth += 1;
        if self.depth > JSON_DEPTH {
            return Err(fail(Code::TooComplex, "the tsquery is nested too deeply"));
        }
        let made = if self.take('!') {
            match self.not()? {
                Query::Nothing => Query::Nothing,
                inner => Query::Not(Box::new(inner)),
            }
        } else if self.take('(') {
            let inner = self.or()?;
            if !self.take(')') {
                return Err(self.wrong());
            }
            inner
        } else {
            self.word()?
        };
        self.depth -= 1;
        Ok(made)
    }

    fn word(&mut self) -> Result<Query> {
        self.space();
        let ends = [':', '&', '|', '!', '(', ')', '<'];
        let (word, rest) = lexeme(self.rest, &ends).ok_or_else(|| self.wrong())?;
        self.rest = rest;
        let (mut prefix, mut weights) = (false, String::new());
        if let Some(after) = self.rest.strip_prefix(':') {
            let end = after
                .find(|c: char| !matches!(c, '*' | 'a'..='d' | 'A'..='D'))
                .unwrap_or(after.len());
            prefix = after[..end].contains('*');
            weights = after[..end]
                .chars()
                .filter(char::is_ascii_alphabetic)
                .collect::<String>()
                .to_uppercase();
            self.rest = &after[end..];
        }
        let Some(configuration) = self.configuration else {
            return Ok(Query::Word { word, prefix, weights });
        };
        let mut query = Query::all(configuration.words(&word), true);
        mark(&mut query, prefix, &weights);
        Ok(query)
    }
}

fn mark(query: &mut Query, as_prefix: bool, of_weights: &str) {
    match query {
        Query::Word { prefix, weights, .. } => {
            *prefix = as_prefix;
            of_weights.clone_into(weights);
        }
        Query::Phrase(a, _, b) => {
            mark(a, as_prefix, of_weights);
            mark(b, as_prefix, of_weights);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_and_queries_are_read_and_printed() {
        let english = Configuration::English;
        let vector = Vector::of("The fat cats sat on the mat, a fat cat", english);
        assert_eq!(vector.text(), "'cat':3,10 'fat':2,9 'mat':7 'sat':4");
        assert_eq!(Vector::parse(&vector.text()).ok(), Some(vector.clone()));
        let query = |text| Query::parse(text, Some(english)).map(|q| q.text()).unwrap_or_default();
        assert_eq!(query("fat & (rats | !cat:*)"), "'fat' & ( 'rat' | !'cat':* )");
        assert_eq!(query("fat <-> rats"), "'fat' <-> 'rat'");
        assert_eq!(query("the"), "");
        assert!(Query::parse("fat rat", Some(english)).is_err() && Query::parse("(a", None).is_err());
        assert_eq!(
            Query::of_web("\"fat rat\" -cat or dogs", english).text(),
            "'fat' <-> 'rat' & !'cat' | 'dog'"
        );
        assert!(Configuration::of("klingon").is_err());
        for (text, wanted) in [
            ("fat & cat", true),
            ("cat <-> fat", false),
            ("fat <-> cat", true),
            ("fat <2> sat", true),
            ("ma:*", true),
            ("dog | !mat", false),
            ("!dog", true),
        ] {
            let query = Query::parse(text, None).expect("a query");
            assert_eq!(query.matches(&vector), wanted, "{text}");
        }
    }
}
