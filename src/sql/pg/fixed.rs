//! Rows that every database has alike: what PostgreSQL itself brings along.

use super::{
    builtin,
    catalog::{ColumnInfo, INFORMATION_SCHEMA_OID, PG_CATALOG_OID, SYSTEM_ROLE_OID},
    rows::{Rows, Value},
    types,
};
use crate::codec::pgtype::{PgType, Scalar};

fn value(v: impl Into<Value>) -> Value {
    v.into()
}

pub(super) fn own_classes(rows: &mut Rows) {
    for r in builtin::RELATIONS.iter() {
        let namespace = if r.schema == "pg_catalog" {
            PG_CATALOG_OID
        } else {
            INFORMATION_SCHEMA_OID
        };
        class(
            rows,
            r.oid,
            r.name,
            namespace,
            SYSTEM_ROLE_OID,
            r.kind,
            r.columns.len(),
            |_| {},
        );
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "the columns that every kind of pg_class row sets"
)]
pub(super) fn class(
    rows: &mut Rows,
    oid: i32,
    name: &str,
    namespace: i32,
    owner: i32,
    kind: &str,
    columns: usize,
    more: impl FnOnce(&mut Vec<(&'static str, Value)>),
) {
    let method = match kind {
        "r" => 2,
        "i" => 403,
        _ => 0,
    };
    let mut row = vec![
        ("oid", value(oid)),
        ("relname", value(name)),
        ("relnamespace", value(namespace)),
        ("relowner", value(owner)),
        ("relam", value(method)),
        ("relpersistence", value("p")),
        ("relkind", value(kind)),
        ("relnatts", value(columns as i64)),
        ("relispopulated", value(true)),
        ("relreplident", value(if kind == "r" { "d" } else { "n" })),
    ];
    more(&mut row);
    rows.add(&row);
}

pub(super) fn own_attributes(rows: &mut Rows) {
    for r in builtin::RELATIONS.iter() {
        for (number, c) in (1_i16..).zip(&r.columns) {
            let plain = ColumnInfo {
                not_null: c.not_null,
                ..ColumnInfo::plain(number, c.name, c.pg_type)
            };
            attribute(rows, r.oid, number, &plain);
        }
    }
}

/// A column, under a number that may be another in an index.
pub(super) fn attribute(rows: &mut Rows, relation: i32, number: i16, c: &ColumnInfo) {
    let pg_type = c.pg_type;
    let ty = builtin::type_of(pg_type.oid().cast_signed());
    let word = |i: usize| ty.and_then(|t| t.words.get(i)).copied().unwrap_or_default();
    rows.add(&[
        ("attrelid", value(relation)),
        ("attname", value(&c.name)),
        ("atttypid", value(pg_type.oid().cast_signed())),
        ("attlen", value(pg_type.size())),
        ("attnum", value(number)),
        ("attcacheoff", value(-1)),
        ("atttypmod", value(c.type_modifier)),
        ("attndims", value(i16::from(matches!(pg_type, PgType::Array(_))))),
        ("attbyval", value(word(1) == "t")),
        ("attalign", value(word(13))),
        ("attstorage", value(word(14))),
        ("attnotnull", value(c.not_null)),
        ("atthasdef", value(c.default.is_some())),
        ("attidentity", value(c.identity.map_or(String::new(), String::from))),
        ("attgenerated", value(if c.generated { "s" } else { "" })),
        ("attislocal", value(true)),
        ("attstattarget", value(-1)),
        ("attcollation", Value::Int(word(15).parse().unwrap_or(0))),
    ]);
}

pub(super) fn own_types(rows: &mut Rows) {
    let own = builtin::TYPES.iter().filter(|t| types::schema_of(t) == "pg_catalog");
    own.for_each(|t| type_row(rows, t, PG_CATALOG_OID));
}

pub(super) fn type_row(rows: &mut Rows, t: &builtin::Type, namespace: i32) {
    let word = |i: usize| t.words.get(i).copied().unwrap_or_default();
    let number = |i: usize| Value::Int(word(i).parse().unwrap_or(0));
    // 6179 is array_subscript_handler.
    let subscript = if word(3) == "A" && word(0) == "-1" { 6179 } else { 0 };
    rows.add(&[
        ("oid", value(t.oid)),
        ("typname", value(t.name)),
        ("typnamespace", value(namespace)),
        ("typowner", value(SYSTEM_ROLE_OID)),
        ("typlen", number(0)),
        ("typbyval", value(word(1) == "t")),
        ("typtype", value(word(2))),
        ("typcategory", value(word(3))),
        ("typispreferred", value(word(4) == "t")),
        ("typisdefined", value(true)),
        ("typdelim", value(",")),
        ("typsubscript", value(subscript)),
        ("typelem", number(5)),
        ("typarray", number(6)),
        ("typinput", number(7)),
        ("typoutput", number(8)),
        ("typreceive", number(9)),
        ("typsend", number(10)),
        ("typmodin", number(11)),
        ("typmodout", number(12)),
        ("typalign", value(word(13))),
        ("typstorage", value(word(14))),
        ("typtypmod", value(-1)),
        ("typcollation", number(15)),
    ]);
}

pub(super) fn own_procs(rows: &mut Rows) {
    for f in builtin::FUNCTIONS.iter() {
        proc(
            rows,
            f.oid,
            f.name,
            PG_CATALOG_OID,
            SYSTEM_ROLE_OID,
            f.result,
            &f.arguments,
        );
    }
}

pub(super) fn proc(rows: &mut Rows, oid: i32, name: &str, schema: i32, owner: i32, result: i32, arguments: &[i64]) {
    rows.add(&[
        ("oid", value(oid)),
        ("proname", value(name)),
        ("pronamespace", value(schema)),
        ("proowner", value(owner)),
        ("prolang", value(12)),
        ("procost", value(1)),
        ("prokind", value("f")),
        ("provolatile", value("s")),
        ("proparallel", value("s")),
        ("pronargs", value(arguments.len() as i64)),
        ("prorettype", value(result)),
        ("proargtypes", value(arguments.to_vec())),
        ("prosrc", value(name)),
    ]);
}

pub(super) fn own_namespaces(rows: &mut Rows) {
    for (oid, name) in [
        (PG_CATALOG_OID, "pg_catalog"),
        (INFORMATION_SCHEMA_OID, "information_schema"),
    ] {
        rows.add(&[
            ("oid", value(oid)),
            ("nspname", value(name)),
            ("nspowner", value(SYSTEM_ROLE_OID)),
        ]);
    }
}

/// OID, name, kind (`t` of tables, `i` of indexes).
const METHODS: &[(i32, &str, &str)] = &[
    (2, "heap", "t"),
    (403, "btree", "i"),
    (405, "hash", "i"),
    (16_410, "hnsw", "i"),
    (16_411, "ivfflat", "i"),
    (2742, "gin", "i"),
];

pub(super) fn method_oid(name: &str) -> i32 {
    METHODS.iter().find(|m| m.1 == name).map_or(403, |m| m.0)
}

pub(super) fn access_methods(rows: &mut Rows) {
    for &(oid, name, kind) in METHODS {
        rows.add(&[("oid", value(oid)), ("amname", value(name)), ("amtype", value(kind))]);
    }
}

pub(super) fn collations(rows: &mut Rows) {
    for (oid, name, provider) in [(100, "default", "d"), (950, "C", "c"), (951, "POSIX", "c")] {
        rows.add(&[
            ("oid", value(oid)),
            ("collname", value(name)),
            ("collnamespace", value(PG_CATALOG_OID)),
            ("collowner", value(SYSTEM_ROLE_OID)),
            ("collprovider", value(provider)),
            ("collisdeterministic", value(true)),
            ("collencoding", value(-1)),
        ]);
    }
}

pub(super) fn languages(rows: &mut Rows) {
    for (oid, name) in [(12, "internal"), (14, "sql")] {
        rows.add(&[
            ("oid", value(oid)),
            ("lanname", value(name)),
            ("lanowner", value(SYSTEM_ROLE_OID)),
        ]);
    }
}

pub(super) fn tablespaces(rows: &mut Rows) {
    for (oid, name) in [(1663, "pg_default"), (1664, "pg_global")] {
        rows.add(&[
            ("oid", value(oid)),
            ("spcname", value(name)),
            ("spcowner", value(SYSTEM_ROLE_OID)),
        ]);
    }
}

/// OID, name, access method, type, whether it is the type's default.
pub(super) const OPERATOR_CLASSES: &[(i32, &str, i32, Scalar, bool)] = &[
    (1978, "int4_ops", 403, Scalar::Int4, true),
    (1979, "int2_ops", 403, Scalar::Int2, true),
    (3124, "int8_ops", 403, Scalar::Int8, true),
    (3126, "text_ops", 403, Scalar::Text, true),
    (10_003, "bool_ops", 403, Scalar::Bool, true),
    (10_065, "uuid_ops", 403, Scalar::Uuid, true),
    (3122, "date_ops", 403, Scalar::Date, true),
    (3127, "timestamptz_ops", 403, Scalar::Timestamptz, true),
    (3128, "timestamp_ops", 403, Scalar::Timestamp, true),
    (3125, "numeric_ops", 403, Scalar::Numeric, true),
    (3123, "float8_ops", 403, Scalar::Float8, true),
    (4217, "text_pattern_ops", 403, Scalar::Text, false),
    (4218, "varchar_pattern_ops", 403, Scalar::Varchar, false),
    (10_009, "jsonb_ops", 2742, Scalar::Jsonb, true),
    (10_010, "jsonb_path_ops", 2742, Scalar::Jsonb, false),
    (16_412, "vector_l2_ops", 16_410, Scalar::Vector, false),
    (16_413, "vector_ip_ops", 16_410, Scalar::Vector, false),
    (16_414, "vector_cosine_ops", 16_410, Scalar::Vector, false),
    (16_415, "vector_l1_ops", 16_410, Scalar::Vector, false),
    (16_416, "halfvec_cosine_ops", 16_410, Scalar::Halfvec, false),
    (16_417, "halfvec_l2_ops", 16_410, Scalar::Halfvec, false),
];

pub(super) fn operator_classes(rows: &mut Rows) {
    for &(oid, name, method, of, default) in OPERATOR_CLASSES {
        rows.add(&[
            ("oid", value(oid)),
            ("opcmethod", value(method)),
            ("opcname", value(name)),
            ("opcnamespace", value(PG_CATALOG_OID)),
            ("opcowner", value(SYSTEM_ROLE_OID)),
            ("opcintype", value(of.oid().cast_signed())),
            ("opcdefault", value(default)),
        ]);
    }
}
