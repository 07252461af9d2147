//! Names of types: as SQL writes them, as `format_type` prints them, as DataFusion plans them.

use std::{collections::HashMap, sync::Arc};

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::{
    common::Result,
    logical_expr::planner::TypePlanner,
    sql::sqlparser::ast::{
        ArrayElemTypeDef, CharacterLength, DataType as SqlType, ExactNumberInfo, ObjectName, TimezoneInfo,
    },
};

use super::builtin;
use crate::codec::pgtype::{PG_TYPE, PgType, Scalar};

/// Plans the types of casts and literals, with the PostgreSQL type in the field's metadata.
#[derive(Debug)]
pub struct PgTypes;

impl TypePlanner for PgTypes {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        if super::literals::is_literal_type(sql_type) {
            return Ok(Some(Arc::new(PgType::from(Scalar::Int4).field("", true))));
        }
        Ok(resolve(sql_type).map(|(pg_type, modifier)| Arc::new(field(pg_type, modifier))))
    }
}

/// The Arrow field, named nothing, of a type with its modifier (`numeric(p,s)` has its own scale).
pub fn field(pg_type: PgType, modifier: i32) -> Field {
    let plain = pg_type.field("", true);
    match numeric(modifier) {
        Some((precision, scale)) if pg_type == PgType::Scalar(Scalar::Numeric) => {
            let (precision, scale) = (precision.clamp(1, 38) as u8, scale.clamp(0, 38) as i8);
            plain.with_data_type(DataType::Decimal128(precision, scale.min(precision as i8)))
        }
        // Named even where Arrow's type alone would tell it: a cast of a jsonb, which is text in Arrow,
        // to text must not keep the type it came from.
        _ => plain.with_metadata(HashMap::from([(PG_TYPE.to_owned(), pg_type.name())])),
    }
}

/// Precision and scale in the type modifier of a numeric.
fn numeric(modifier: i32) -> Option<(i32, i32)> {
    (modifier >= 4).then(|| ((modifier - 4) >> 16, (modifier - 4) & 0x7ff))
}

fn numeric_modifier(info: &ExactNumberInfo) -> i32 {
    let pack = |precision: u64, scale: i64| {
        let (precision, scale) = (precision.min(1000) as i32, scale.clamp(0, 1000) as i32);
        (precision << 16 | scale) + 4
    };
    match *info {
        ExactNumberInfo::None => -1,
        ExactNumberInfo::Precision(p) => pack(p, 0),
        ExactNumberInfo::PrecisionAndScale(p, s) => pack(p, s),
    }
}

/// The served type that SQL's type means, and its modifier as in `atttypmod` (-1: none). `None` for
/// a type that is not served.
pub fn resolve(sql_type: &SqlType) -> Option<(PgType, i32)> {
    let length = |scalar: Scalar, length: &Option<CharacterLength>| {
        let modifier = match length {
            Some(CharacterLength::IntegerLength { length, .. }) => i32::try_from(*length).unwrap_or(i32::MAX - 4) + 4,
            _ => -1,
        };
        (scalar, modifier)
    };
    let precision = |p: &Option<u64>| p.map_or(-1, |p| p.min(6) as i32);
    let (scalar, modifier) = match sql_type {
        SqlType::Boolean | SqlType::Bool => (Scalar::Bool, -1),
        SqlType::SmallInt(_) | SqlType::Int2(_) => (Scalar::Int2, -1),
        SqlType::Int(_) | SqlType::Integer(_) | SqlType::Int4(_) => (Scalar::Int4, -1),
        SqlType::BigInt(_) | SqlType::Int8(_) => (Scalar::Int8, -1),
        SqlType::Real | SqlType::Float4 => (Scalar::Float4, -1),
        SqlType::Float(ExactNumberInfo::Precision(p)) if *p <= 24 => (Scalar::Float4, -1),
        SqlType::Float(_) | SqlType::Float8 | SqlType::Double(_) | SqlType::DoublePrecision => (Scalar::Float8, -1),
        SqlType::Numeric(info) | SqlType::Decimal(info) | SqlType::Dec(info) => {
            (Scalar::Numeric, numeric_modifier(info))
        }
        SqlType::Text | SqlType::String(None) => (Scalar::Text, -1),
        SqlType::Varchar(n) | SqlType::CharacterVarying(n) | SqlType::CharVarying(n) => length(Scalar::Varchar, n),
        SqlType::Char(None) | SqlType::Character(None) => (Scalar::Bpchar, 5),
        SqlType::Char(n) | SqlType::Character(n) => length(Scalar::Bpchar, n),
        SqlType::Bytea => (Scalar::Bytea, -1),
        SqlType::Uuid => (Scalar::Uuid, -1),
        SqlType::JSON => (Scalar::Json, -1),
        SqlType::JSONB => (Scalar::Jsonb, -1),
        SqlType::Regclass => (Scalar::Regclass, -1),
        SqlType::Date => (Scalar::Date, -1),
        SqlType::Time(p, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => (Scalar::Time, precision(p)),
        SqlType::Timestamp(p, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => (Scalar::Timestamp, precision(p)),
        SqlType::Timestamp(p, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => (Scalar::Timestamptz, precision(p)),
        SqlType::Interval { .. } => (Scalar::Interval, -1),
        SqlType::Custom(name, modifiers) => return custom(name, modifiers),
        SqlType::Array(ArrayElemTypeDef::SquareBracket(inner, _) | ArrayElemTypeDef::AngleBracket(inner)) => {
            return match resolve(inner)? {
                (PgType::Scalar(scalar), modifier) => Some((PgType::Array(scalar), modifier)),
                nested => Some(nested),
            };
        }
        _ => return None,
    };
    Some((scalar.into(), modifier))
}

/// The last part of a type's name where its schema is one that holds types, folded unless quoted.
pub fn custom_name(name: &ObjectName) -> Option<String> {
    let fold = |part: &datafusion::sql::sqlparser::ast::ObjectNamePart| {
        let ident = part.as_ident()?;
        Some(if ident.quote_style.is_some() {
            ident.value.clone()
        } else {
            ident.value.to_lowercase()
        })
    };
    match name.0.as_slice() {
        [only] => fold(only),
        [schema, last] if matches!(fold(schema)?.as_str(), "pg_catalog" | "public") => fold(last),
        _ => None,
    }
}

fn custom(name: &ObjectName, modifiers: &[String]) -> Option<(PgType, i32)> {
    let known = custom_name(name)?;
    let pg_type = match known.as_str() {
        "char"
            if name
                .0
                .last()
                .and_then(|p| p.as_ident())
                .is_some_and(|i| i.quote_style.is_none()) =>
        {
            Scalar::Bpchar.into()
        }
        "cstring" | "citext" | "regconfig" => PgType::TEXT,
        "xid" | "cid" => Scalar::Oid.into(),
        other => named(other).or_else(|| PgType::from_name(other))?,
    };
    let first = modifiers.first().and_then(|m| m.parse::<i32>().ok());
    let modifier = match (pg_type, first) {
        (PgType::Scalar(Scalar::Vector | Scalar::Halfvec), Some(n)) => n,
        (PgType::Scalar(Scalar::Varchar | Scalar::Bpchar), Some(n)) => n.saturating_add(4),
        _ => -1,
    };
    Some((pg_type, modifier))
}

/// SQL's names where they differ from `typname`.
const NAMES: &[(&str, Scalar)] = &[
    ("boolean", Scalar::Bool),
    ("smallint", Scalar::Int2),
    ("integer", Scalar::Int4),
    ("int", Scalar::Int4),
    ("bigint", Scalar::Int8),
    ("real", Scalar::Float4),
    ("double precision", Scalar::Float8),
    ("float", Scalar::Float8),
    ("decimal", Scalar::Numeric),
    ("character varying", Scalar::Varchar),
    ("character", Scalar::Bpchar),
    ("timestamp without time zone", Scalar::Timestamp),
    ("timestamp with time zone", Scalar::Timestamptz),
    ("time without time zone", Scalar::Time),
];

fn named(name: &str) -> Option<PgType> {
    NAMES.iter().find(|(n, _)| *n == name).map(|&(_, scalar)| scalar.into())
}

/// The OID that `to_regtype` finds for a type written in SQL, with or without schema, length, `[]`.
/// `None` when there is no such type here.
pub fn type_oid(text: &str) -> Option<i32> {
    let mut name = text.trim();
    let mut arrays = 0;
    while let Some(shorter) = name.strip_suffix("[]") {
        name = shorter.trim_end();
        arrays += 1;
    }
    if let Some((before, after)) = name.split_once('(') {
        let (_, tail) = after.split_once(')')?;
        name = if tail.is_empty() {
            before.trim_end()
        } else {
            return type_oid(&format!("{}{tail}", before.trim_end()));
        };
    }
    let element = if name.contains(' ') && !name.contains('"') {
        let words: Vec<String> = name.split_ascii_whitespace().map(str::to_lowercase).collect();
        named(&words.join(" "))?.oid().cast_signed()
    } else {
        let parts = super::catalog::split_name(name)?;
        let (schema, last) = match parts.as_slice() {
            [last] => (None, last),
            [schema, last] => (Some(schema.as_str()), last),
            _ => return None,
        };
        let own = |t: &&builtin::Type| t.name == last && schema.is_none_or(|s| s == schema_of(t));
        let quoted = name.ends_with('"');
        let sql = named(last).filter(|_| schema.is_none() && !quoted);
        let sql = sql.or((last == "char" && !quoted).then_some(Scalar::Bpchar.into()));
        sql.map(|t| t.oid().cast_signed())
            .or_else(|| builtin::TYPES.iter().find(own).map(|t| t.oid))?
    };
    match arrays {
        0 => Some(element),
        _ => builtin::type_of(element)?
            .words
            .get(6)?
            .parse()
            .ok()
            .filter(|&oid: &i32| oid != 0),
    }
}

/// The schema a type is in: an extension's are where `CREATE EXTENSION` would have put them.
pub fn schema_of(ty: &builtin::Type) -> &'static str {
    if ty.oid >= 16_384 { "public" } else { "pg_catalog" }
}

/// What `format_type(oid, modifier)` prints; `None` for an OID that is no type.
pub fn format_type(oid: i32, modifier: i32) -> Option<String> {
    let ty = builtin::type_of(oid)?;
    let element: i32 = ty.words.get(5)?.parse().ok()?;
    if element != 0 && ty.words.first() == Some(&"-1") && ty.name.starts_with('_') {
        return Some(format!("{}[]", format_type(element, modifier)?));
    }
    let Some(scalar) = Scalar::ALL.iter().copied().find(|s| s.oid().cast_signed() == oid) else {
        return Some(match ty.name {
            "timetz" => "time with time zone".to_owned(),
            "varbit" => "bit varying".to_owned(),
            "any" => "\"any\"".to_owned(),
            name => name.to_owned(),
        });
    };
    let some = modifier >= 0;
    Some(match scalar {
        Scalar::Char => "\"char\"".to_owned(),
        Scalar::Varchar if modifier > 4 => format!("character varying({})", modifier - 4),
        Scalar::Bpchar if modifier > 4 => format!("character({})", modifier - 4),
        Scalar::Timestamp if some => format!("timestamp({modifier}) without time zone"),
        Scalar::Timestamptz if some => format!("timestamp({modifier}) with time zone"),
        Scalar::Time if some => format!("time({modifier}) without time zone"),
        Scalar::Vector | Scalar::Halfvec if modifier > 0 => format!("{}({modifier})", scalar.name()),
        Scalar::Numeric => match numeric(modifier) {
            Some((precision, scale)) => format!("numeric({precision},{scale})"),
            None => "numeric".to_owned(),
        },
        _ => {
            // The last of several names is the one printed, except for the short ones.
            let long = NAMES
                .iter()
                .find(|(n, s)| *s == scalar && *n != "decimal")
                .map(|(n, _)| *n);
            long.unwrap_or(scalar.name()).to_owned()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_named_as_postgresql_does() {
        let print = |oid: u32, modifier| format_type(oid.cast_signed(), modifier).unwrap_or_default();
        assert_eq!(print(23, -1), "integer");
        assert_eq!(print(701, -1), "double precision");
        assert_eq!(print(1043, 14), "character varying(10)");
        assert_eq!(print(1700, 655_366), "numeric(10,2)");
        assert_eq!(print(1184, 3), "timestamp(3) with time zone");
        assert_eq!(print(1009, -1), "text[]");
        assert_eq!(print(18, -1), "\"char\"");
        assert_eq!(print(16385, 384), "vector(384)");
        assert_eq!(print(22, -1), "int2vector");
        assert_eq!(format_type(1, -1), None);
    }

    #[test]
    fn types_are_found_by_every_name() {
        let oid = |text| type_oid(text).unwrap_or(0);
        assert_eq!(oid("int"), 23);
        assert_eq!(oid("INTEGER"), 23);
        assert_eq!(oid("pg_catalog.int4"), 23);
        assert_eq!(oid("character varying(10)"), 1043);
        assert_eq!(oid("timestamp(3) with time zone"), 1184);
        assert_eq!(oid("text[]"), 1009);
        assert_eq!(oid("_text"), 1009);
        assert_eq!(oid("\"char\""), 18);
        assert_eq!(oid("char"), 1042);
        assert_eq!(oid("vector"), 16385);
        assert_eq!(oid("public.vector"), 16385);
        assert_eq!(oid("hstore"), 0);
    }
}
