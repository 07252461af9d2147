//! Functions of text search: `to_tsvector`, `to_tsquery` and its kin, `@@`, `ts_rank`, `ts_headline`.

use datafusion::common::Result;

use super::{
    function::{Body, Function, fail},
    rows::Value,
    ts::{Configuration, Place, Query, Vector, join},
};
use crate::{
    ai::terms,
    codec::pgtype::{PgType, Scalar},
    error::Code,
};

const TSVECTOR: PgType = PgType::Scalar(Scalar::Tsvector);
const TSQUERY: PgType = PgType::Scalar(Scalar::Tsquery);
const FLOAT4: PgType = PgType::Scalar(Scalar::Float4);

const fn strict(name: &'static str, returns: PgType, body: fn(&[Value]) -> Result<Value>) -> Function {
    Function {
        name,
        returns,
        body: Body::Strict(body),
    }
}

/// The functions. Those that begin with `bulkhead_` stand behind operators and casts.
pub(super) const FUNCTIONS: &[Function] = &[
    strict("to_tsvector", TSVECTOR, |a| {
        let (configuration, text) = configured(a)?;
        Ok(Vector::of(text, configuration).text().into())
    }),
    strict("to_tsquery", TSQUERY, |a| {
        let (configuration, text) = configured(a)?;
        Ok(Query::parse(text, Some(configuration))?.text().into())
    }),
    strict("plainto_tsquery", TSQUERY, |a| {
        let (configuration, text) = configured(a)?;
        Ok(Query::all(configuration.words(text), false).text().into())
    }),
    strict("phraseto_tsquery", TSQUERY, |a| {
        let (configuration, text) = configured(a)?;
        Ok(Query::all(configuration.words(text), true).text().into())
    }),
    strict("websearch_to_tsquery", TSQUERY, |a| {
        let (configuration, text) = configured(a)?;
        Ok(Query::of_web(text, configuration).text().into())
    }),
    strict("bulkhead_tsvector", TSVECTOR, |a| {
        Ok(Vector::parse(text(a, 0)?)?.text().into())
    }),
    strict("bulkhead_tsquery", TSQUERY, |a| {
        Ok(Query::parse(text(a, 0)?, None)?.text().into())
    }),
    strict("bulkhead_ts_match", PgType::Scalar(Scalar::Bool), |a| {
        Ok(Query::parse(text(a, 1)?, None)?
            .matches(&Vector::parse(text(a, 0)?)?)
            .into())
    }),
    strict("bulkhead_tsvector_concat", TSVECTOR, |a| {
        let (left, right) = (Vector::parse(text(a, 0)?)?, Vector::parse(text(a, 1)?)?);
        Ok(left.followed_by(right).text().into())
    }),
    strict("tsquery_and", TSQUERY, |a| joined(a, Query::And)),
    strict("tsquery_or", TSQUERY, |a| joined(a, Query::Or)),
    strict("tsquery_not", TSQUERY, |a| {
        Ok(match Query::parse(text(a, 0)?, None)? {
            Query::Nothing => "".into(),
            query => Query::Not(Box::new(query)).text().into(),
        })
    }),
    strict("ts_rank", FLOAT4, |a| ranked(a, rank)),
    strict("ts_rank_cd", FLOAT4, |a| ranked(a, rank_covers)),
    strict("ts_headline", PgType::TEXT, headline),
    strict("strip", TSVECTOR, |a| {
        let mut vector = Vector::parse(text(a, 0)?)?;
        vector.0.values_mut().for_each(Vec::clear);
        Ok(vector.text().into())
    }),
    strict("setweight", TSVECTOR, |a| {
        let weight = text(a, 1)?.chars().next().map(|c| c.to_ascii_uppercase());
        let Some(weight @ 'A'..='D') = weight else {
            return Err(fail(
                Code::InvalidParameterValue,
                format!("unrecognized weight: \"{}\"", text(a, 1)?),
            ));
        };
        let mut vector = Vector::parse(text(a, 0)?)?;
        vector.0.values_mut().flatten().for_each(|place| place.1 = weight);
        Ok(vector.text().into())
    }),
    strict("tsvector_to_array", PgType::Array(Scalar::Text), |a| {
        Ok(Vector::parse(text(a, 0)?)?.0.into_keys().collect::<Vec<_>>().into())
    }),
    strict("numnode", PgType::Scalar(Scalar::Int4), |a| {
        fn nodes(query: &Query) -> i32 {
            match query {
                Query::Nothing => 0,
                Query::Word { .. } => 1,
                Query::Not(inner) => 1 + nodes(inner),
                Query::And(a, b) | Query::Or(a, b) | Query::Phrase(a, _, b) => 1 + nodes(a) + nodes(b),
            }
        }
        Ok(nodes(&Query::parse(text(a, 0)?, None)?).into())
    }),
];

fn text(arguments: &[Value], at: usize) -> Result<&str> {
    match arguments.get(at) {
        Some(Value::Text(text)) => Ok(text),
        _ => Err(fail(
            Code::UndefinedFunction,
            "a text, a tsvector or a tsquery is expected here",
        )),
    }
}

/// `([configuration,] text)`.
fn configured(arguments: &[Value]) -> Result<(Configuration, &str)> {
    match arguments {
        [_] => Ok((Configuration::English, text(arguments, 0)?)),
        _ => Ok((Configuration::of(text(arguments, 0)?)?, text(arguments, 1)?)),
    }
}

fn joined(arguments: &[Value], with: fn(Box<Query>, Box<Query>) -> Query) -> Result<Value> {
    let (left, right) = (
        Query::parse(text(arguments, 0)?, None)?,
        Query::parse(text(arguments, 1)?, None)?,
    );
    Ok(join(left, right, with).text().into())
}

/// Weights of places `D` to `A`.
type Weights = [f64; 4];

fn weight(weights: &Weights, place: &Place) -> f64 {
    let at = ('D' as usize).saturating_sub(place.1 as usize);
    weights.get(at).copied().unwrap_or(weights[0])
}

/// `([weights,] vector, query [, normalization])`.
fn ranked(arguments: &[Value], rank: fn(&Weights, &Vector, &Query) -> f64) -> Result<Value> {
    let mut weights = [0.1, 0.2, 0.4, 1.0];
    let mut rest = arguments;
    if let Some(Value::List(given)) = arguments.first() {
        for (place, value) in weights.iter_mut().zip(given) {
            match value {
                Value::Float(n) => *place = *n,
                Value::Int(n) => *place = *n as f64,
                Value::Text(n) => *place = n.parse().unwrap_or(*place),
                _ => {}
            }
        }
        rest = &arguments[1..];
    }
    let (vector, query) = (Vector::parse(text(rest, 0)?)?, Query::parse(text(rest, 1)?, None)?);
    let how = match rest.get(2) {
        Some(Value::Int(how)) => *how,
        _ => 0,
    };
    let mut result = rank(&weights, &vector, &query);
    let length = vector.0.values().map(|places| places.len().max(1)).sum::<usize>() as f64;
    let unique = vector.0.len() as f64;
    if length > 0.0 {
        if how & 1 != 0 {
            result /= (length + 1.0).ln() / 2_f64.ln();
        }
        if how & 2 != 0 {
            result /= length;
        }
        if how & 8 != 0 {
            result /= unique;
        }
        if how & 16 != 0 {
            result /= (unique + 1.0).ln() / 2_f64.ln();
        }
    }
    if how & 32 != 0 {
        result /= result + 1.0;
    }
    Ok(Value::Float(result))
}

/// Places of each word of a query; a word that has none counts as at a place of its own.
fn places(vector: &Vector, query: &Query) -> Vec<Vec<Place>> {
    let found = |(word, prefix, weights): (&str, bool, &str)| vector.places(word, prefix, weights);
    query.words().into_iter().filter_map(found).collect()
}

fn rank(weights: &Weights, vector: &Vector, query: &Query) -> f64 {
    let count = query.words().len();
    let near = match query {
        Query::And(..) | Query::Phrase(..) if count >= 2 => rank_near(weights, &places(vector, query)),
        _ => None,
    };
    near.unwrap_or_else(|| {
        let each = places(vector, query).into_iter().map(|places| {
            let mut sum = 0.0;
            let (mut most, mut most_at) = (-1.0, 0.0);
            for (at, place) in places.iter().enumerate() {
                let (weight, at) = (weight(weights, place), (at + 1) as f64);
                sum += weight / (at * at);
                if weight > most {
                    (most, most_at) = (weight, at);
                }
            }
            match places.is_empty() {
                true => weights[0] / 1.644_934_066_85,
                false => (most + sum - most / (most_at * most_at)) / 1.644_934_066_85,
            }
        });
        let sum: f64 = each.sum();
        if count > 0 { sum / count as f64 } else { 0.0 }
    })
}

/// How near to each other words stand, pair by pair.
fn rank_near(weights: &Weights, places: &[Vec<Place>]) -> Option<f64> {
    let mut result: Option<f64> = None;
    for (i, first) in places.iter().enumerate() {
        for second in &places[..i] {
            for a in first {
                for b in second {
                    let distance = f64::from(a.0.abs_diff(b.0));
                    if distance == 0.0 {
                        continue;
                    }
                    let nearness = match distance > 100.0 {
                        true => 1e-30,
                        false => 1.0 / (1.005 + 0.05 * (distance / 1.5 - 2.0).exp()),
                    };
                    let pair = (weight(weights, a) * weight(weights, b) * nearness).sqrt();
                    result = Some(match result {
                        Some(result) => 1.0 - (1.0 - result) * (1.0 - pair),
                        None => pair,
                    });
                }
            }
        }
    }
    result
}

/// Cover density: the shortest stretches that have what is looked for (Clarke, Cormack and Tudhope 1999).
fn rank_covers(weights: &Weights, vector: &Vector, query: &Query) -> f64 {
    let mut all: Vec<(u16, f64, String)> = Vec::new();
    for (word, prefix, of) in query.words() {
        for place in vector.places(word, prefix, of).unwrap_or_default() {
            all.push((place.0, weight(weights, &place), word.to_owned()));
        }
    }
    all.sort_by_key(|(at, ..)| *at);
    let covers = |from: usize, to: usize| {
        let mut part = Vector::default();
        for (at, _, word) in &all[from..=to] {
            part.0.entry(word.clone()).or_default().push((*at, 'D'));
        }
        query.matches(&part)
    };
    let (mut sum, mut from) = (0.0, 0);
    for to in 0..all.len() {
        if !covers(from, to) {
            continue;
        }
        while from < to && covers(from + 1, to) {
            from += 1;
        }
        let words = &all[from..=to];
        let harmonic: f64 = words.iter().map(|(_, weight, _)| 1.0 / weight).sum();
        let density = words.len() as f64 / harmonic;
        let stretch = f64::from(all[to].0 - all[from].0);
        let noise = (stretch - (words.len() as f64 - 1.0)).max(0.0);
        sum += density / (1.0 + noise);
        from += 1;
        if from > to {
            from = to + 1;
        }
        if from >= all.len() {
            break;
        }
    }
    sum
}

/// `([configuration,] document, query [, options])`: the document, or a part around the first match, matches in `<b>`.
fn headline(arguments: &[Value]) -> Result<Value> {
    let (configuration, rest) = match arguments.len() {
        0..=2 => (Configuration::English, arguments),
        3 if Configuration::of(text(arguments, 0)?).is_err() => (Configuration::English, arguments),
        _ => (Configuration::of(text(arguments, 0)?)?, &arguments[1..]),
    };
    let (document, query) = (text(rest, 0)?, Query::parse(text(rest, 1)?, None)?);
    let options = match rest.get(2) {
        Some(Value::Text(options)) => options.as_str(),
        _ => "",
    };
    let option = |name: &str| {
        let found = options.split(',').filter_map(|o| o.split_once('='));
        let mut found = found.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim().trim_matches('"'))
    };
    let (open, close) = (option("StartSel").unwrap_or("<b>"), option("StopSel").unwrap_or("</b>"));
    let most: usize = option("MaxWords").and_then(|n| n.parse().ok()).unwrap_or(35);
    let words: Vec<_> = terms::words(document).collect();
    let wanted = query.words();
    let is_match = |word: &terms::Word<'_>| {
        let lexeme = match configuration {
            Configuration::English => word.stem(),
            Configuration::Simple => word.raw.to_lowercase(),
        };
        wanted
            .iter()
            .any(|(w, prefix, _)| if *prefix { lexeme.starts_with(w) } else { lexeme == *w })
    };
    let all = option("HighlightAll").is_some_and(|v| v.eq_ignore_ascii_case("true"));
    let first = words.iter().position(is_match).unwrap_or(0);
    let (from, to) = match all || words.len() <= most {
        true => (0, words.len()),
        false => {
            let from = first.min(words.len() - most);
            (from, from + most)
        }
    };
    let begin = if from == 0 { 0 } else { words[from].start };
    let end = match words.get(to.saturating_sub(1)) {
        Some(last) if to < words.len() => last.start + last.raw.len(),
        _ => document.len(),
    };
    let mut out = String::new();
    let mut at = begin;
    for word in words.get(from..to).unwrap_or_default().iter().filter(|w| is_match(w)) {
        out.push_str(&document[at..word.start]);
        out.push_str(open);
        out.push_str(word.raw);
        out.push_str(close);
        at = word.start + word.raw.len();
    }
    out.push_str(&document[at..end]);
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, arguments: &[Value]) -> String {
        let function = FUNCTIONS
            .iter()
            .find(|f| f.name == name)
            .expect("a function of the list");
        let Body::Strict(body) = function.body else {
            unreachable!()
        };
        match body(arguments) {
            Ok(Value::Text(text)) => text,
            Ok(Value::Float(n)) => format!("{n:.6}"),
            Ok(other) => format!("{other:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn texts_are_searched_as_in_postgresql() {
        // Ranks as PostgreSQL 15 gives them.
        let vector = run("to_tsvector", &["a fat cat sat on a mat and ate a fat rat".into()]);
        // But for "ate", which Snowball's English stemmer leaves alone and Porter's of 1980 does not.
        assert_eq!(vector, "'at':9 'cat':3 'fat':2,11 'mat':7 'rat':12 'sat':4");
        let query = |text: &str| Value::Text(run("to_tsquery", &["english".into(), text.into()]));
        assert_eq!(
            run("bulkhead_ts_match", &[vector.clone().into(), query("fat & rats")]),
            "Bool(true)"
        );
        assert_eq!(
            run("bulkhead_ts_match", &[vector.clone().into(), query("dog")]),
            "Bool(false)"
        );
        assert_eq!(run("ts_rank", &[vector.clone().into(), query("rat")]), "0.060793");
        assert_eq!(run("ts_rank", &[vector.clone().into(), query("fat")]), "0.075991");
        assert_eq!(run("ts_rank_cd", &[vector.into(), query("rat")]), "0.100000");
        assert_eq!(run("plainto_tsquery", &["The Fat Rats".into()]), "'fat' & 'rat'");
        assert_eq!(
            run("ts_headline", &["The fat rats ran".into(), query("rat")]),
            "The fat <b>rats</b> ran"
        );
        assert!(run("to_tsvector", &["klingon".into(), "x".into()]).contains("does not exist"));
        assert_eq!(run("setweight", &["'a':1".into(), "B".into()]), "'a':1B");
    }
}
