//! What PostgreSQL itself brings to every database: its relations, types, type functions, keywords.
//!
//! The lists are data, taken from PostgreSQL 16 with pgvector, in `data/`. Nothing of a tenant is here.
//! - `relations.txt`: `schema.name oid kind column:type! ...`; `!` marks NOT NULL.
//! - `types.txt`: `oid name len byval type category preferred elem array input output receive send
//!   modin modout align storage collation` as in `pg_type`.
//! - `procs.txt`: `oid name result [argument,...]`, the functions that `types.txt` names.
//! - `keywords.txt`: `word category` pairs as `pg_get_keywords()` tells them.

use std::{collections::HashMap, sync::Arc, sync::LazyLock};

use arrow::datatypes::{Schema, SchemaRef};

use crate::codec::pgtype::{PgType, Scalar};

/// A relation of `pg_catalog` or `information_schema`.
#[derive(Debug)]
pub struct Relation {
    /// `pg_catalog` or `information_schema`.
    pub schema: &'static str,
    /// Its name.
    pub name: &'static str,
    /// PostgreSQL's OID.
    pub oid: i32,
    /// `r` or `v`.
    pub kind: &'static str,
    /// In order.
    pub columns: Vec<Column>,
    /// The same as an Arrow schema.
    pub arrow: SchemaRef,
}

/// A column of a [`Relation`].
#[derive(Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// The type it is served as.
    pub pg_type: PgType,
    /// Whether a value not given is the type's zero rather than NULL.
    pub not_null: bool,
}

/// A row of `pg_type`.
#[derive(Debug)]
pub struct Type {
    /// `typname`.
    pub name: &'static str,
    /// `oid`.
    pub oid: i32,
    /// The other words of the line, in the order of the module's text.
    pub words: Vec<&'static str>,
}

/// A function that belongs to a type.
#[derive(Debug)]
pub struct Function {
    /// `oid`.
    pub oid: i32,
    /// `proname`.
    pub name: &'static str,
    /// `prorettype`.
    pub result: i32,
    /// `proargtypes`.
    pub arguments: Vec<i64>,
}

/// Every relation, `pg_catalog` first, by name.
pub static RELATIONS: LazyLock<Vec<Relation>> = LazyLock::new(|| {
    include_str!("data/relations.txt")
        .lines()
        .filter_map(relation)
        .collect()
});

/// Every type, by OID.
pub static TYPES: LazyLock<Vec<Type>> =
    LazyLock::new(|| include_str!("data/types.txt").lines().filter_map(ty).collect());

/// Every function of a type, by OID.
pub static FUNCTIONS: LazyLock<Vec<Function>> =
    LazyLock::new(|| include_str!("data/procs.txt").lines().filter_map(function).collect());

/// Every keyword with its category: `U` unreserved, `C` column name, `T` type or function name, `R` reserved.
pub static KEYWORDS: LazyLock<Vec<(&'static str, char)>> = LazyLock::new(|| {
    let words: Vec<&str> = include_str!("data/keywords.txt").split_ascii_whitespace().collect();
    words
        .chunks_exact(2)
        .map(|pair| (pair[0], pair[1].chars().next().unwrap_or('U')))
        .collect()
});

static BY_NAME: LazyLock<HashMap<(&'static str, &'static str), usize>> = LazyLock::new(|| {
    RELATIONS
        .iter()
        .enumerate()
        .map(|(i, r)| ((r.schema, r.name), i))
        .collect()
});

fn relation(line: &'static str) -> Option<Relation> {
    let mut words = line.split(' ');
    let (schema, name) = words.next()?.split_once('.')?;
    let (oid, kind) = (words.next()?.parse().ok()?, words.next()?);
    let columns: Vec<Column> = words.filter_map(column).collect();
    let arrow = Schema::new(
        columns
            .iter()
            .map(|c| c.pg_type.field(c.name, true))
            .collect::<Vec<_>>(),
    );
    Some(Relation {
        schema,
        name,
        oid,
        kind,
        columns,
        arrow: Arc::new(arrow),
    })
}

fn column(word: &'static str) -> Option<Column> {
    let (name, of) = word.split_once(':')?;
    let (of, not_null) = of.strip_suffix('!').map_or((of, false), |of| (of, true));
    let pg_type = match of {
        "xid" => Scalar::Oid.into(),
        "_pg_statistic" => PgType::TEXT,
        _ => PgType::from_name(of).unwrap_or(PgType::TEXT),
    };
    Some(Column {
        name,
        pg_type,
        not_null,
    })
}

fn ty(line: &'static str) -> Option<Type> {
    let mut words = line.split(' ');
    let oid = words.next()?.parse().ok()?;
    Some(Type {
        oid,
        name: words.next()?,
        words: words.collect(),
    })
}

fn function(line: &'static str) -> Option<Function> {
    let mut words = line.split(' ');
    let (oid, name, result) = (words.next()?.parse().ok()?, words.next()?, words.next()?.parse().ok()?);
    let arguments = words
        .next()
        .map(|list| list.split(',').filter_map(|o| o.parse().ok()).collect());
    Some(Function {
        oid,
        name,
        result,
        arguments: arguments.unwrap_or_default(),
    })
}

/// The relation of this schema and name.
pub fn find(schema: &str, name: &str) -> Option<&'static Relation> {
    BY_NAME.get(&(schema, name)).and_then(|&i| RELATIONS.get(i))
}

/// Schema and name of PostgreSQL's own relation of this OID.
pub fn relation_name(oid: i32) -> Option<(&'static str, &'static str)> {
    RELATIONS.iter().find(|r| r.oid == oid).map(|r| (r.schema, r.name))
}

/// OID of PostgreSQL's own relation of this name.
pub fn relation_oid(schema: &str, name: &str) -> Option<i32> {
    find(schema, name).map(|r| r.oid)
}

/// OID of PostgreSQL's own function of this name.
pub fn function_oid(name: &str) -> Option<i32> {
    FUNCTIONS.iter().find(|f| f.name == name).map(|f| f.oid)
}

/// Name of PostgreSQL's own function of this OID.
pub fn function_name(oid: i32) -> Option<&'static str> {
    FUNCTIONS.iter().find(|f| f.oid == oid).map(|f| f.name)
}

/// The type of this OID.
pub fn type_of(oid: i32) -> Option<&'static Type> {
    TYPES.iter().find(|t| t.oid == oid)
}

/// Whether a name must be quoted where it is an identifier.
pub fn is_reserved(word: &str) -> bool {
    KEYWORDS
        .binary_search_by(|(k, _)| (*k).cmp(word))
        .is_ok_and(|i| KEYWORDS[i].1 != 'U')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read() {
        assert_eq!(RELATIONS.len(), include_str!("data/relations.txt").lines().count());
        assert_eq!(TYPES.len(), include_str!("data/types.txt").lines().count());
        assert_eq!(FUNCTIONS.len(), include_str!("data/procs.txt").lines().count());
        assert!(KEYWORDS.is_sorted() && KEYWORDS.len() > 450);
        assert!(
            TYPES.iter().all(|t| t.words.len() == 16),
            "every type has all its columns"
        );
        assert!(RELATIONS.iter().all(|r| !r.columns.is_empty()));
        for scalar in Scalar::ALL {
            assert_eq!(type_of(scalar.oid().cast_signed()).map(|t| t.name), Some(scalar.name()));
        }
        assert!(is_reserved("select") && !is_reserved("name"));
    }
}
