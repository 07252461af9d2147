//! What is in `information_schema`: one entry of [`INFO`] for each relation that has rows.

use super::{
    builtin,
    catalog::{CatalogSnapshot, ColumnInfo},
    fill::target_index,
    print,
    rows::{Rows, Value},
    types,
};
use crate::codec::pgtype::{PgType, Scalar};

/// How a relation of `information_schema` gets its rows.
pub type InfoFill = fn(&CatalogSnapshot, &mut Rows);

/// The relations of `information_schema` that have rows.
pub const INFO: &[(&str, InfoFill)] = &[
    ("information_schema_catalog_name", |s, rows| {
        rows.add(&[("catalog_name", value(&s.database))])
    }),
    ("schemata", schemata),
    ("tables", tables),
    ("columns", columns),
    ("views", views),
    ("table_constraints", table_constraints),
    ("key_column_usage", key_column_usage),
    ("constraint_column_usage", constraint_column_usage),
    ("referential_constraints", referential_constraints),
    ("check_constraints", check_constraints),
    ("routines", routines),
    ("enabled_roles", |s, rows| rows.add(&[("role_name", value(&s.user))])),
    ("table_privileges", table_privileges),
    ("role_table_grants", table_privileges),
    ("sequences", sequences),
];

fn value(v: impl Into<Value>) -> Value {
    v.into()
}

fn yes(b: bool) -> Value {
    value(if b { "YES" } else { "NO" })
}

fn schemata(s: &CatalogSnapshot, rows: &mut Rows) {
    let system = ["pg_catalog", "information_schema"].map(|name| (name, super::catalog::SYSTEM_ROLE));
    let owner = s.user_name(s.owner_oid()).unwrap_or_default();
    let of = |own: &str| {
        if own.is_empty() {
            owner.to_owned()
        } else {
            own.to_owned()
        }
    };
    let own = s.schemas.iter().map(|x| (x.name.as_str(), of(&x.owner)));
    for (name, owner) in own.chain(system.map(|(name, owner)| (name, owner.to_owned()))) {
        rows.add(&[
            ("catalog_name", value(&s.database)),
            ("schema_name", value(name)),
            ("schema_owner", value(owner)),
        ]);
    }
}

fn tables(s: &CatalogSnapshot, rows: &mut Rows) {
    let own = s
        .relations()
        .filter(|(_, r)| r.kind != 'S' && r.allowed != 0)
        .map(|(schema, r)| (schema.name.as_str(), r.name.as_str(), r.kind == 'r', r.temporary));
    let system = builtin::RELATIONS
        .iter()
        .map(|r| (r.schema, r.name, r.kind == "r", false));
    for (schema, name, is_table, temporary) in own.chain(system) {
        let system = matches!(schema, "pg_catalog" | "information_schema");
        rows.add(&[
            ("table_catalog", value(&s.database)),
            ("table_schema", value(schema)),
            ("table_name", value(name)),
            (
                "table_type",
                value(match (is_table, temporary) {
                    (true, true) => "LOCAL TEMPORARY",
                    (true, false) => "BASE TABLE",
                    _ => "VIEW",
                }),
            ),
            ("is_insertable_into", yes(is_table && !system)),
            ("is_typed", yes(false)),
        ]);
    }
}

fn columns(s: &CatalogSnapshot, rows: &mut Rows) {
    for (schema, r) in s.relations().filter(|(_, r)| r.kind != 'S' && r.allowed != 0) {
        for c in &r.columns {
            column(s, rows, [&schema.name, &r.name], c.number.into(), c, r.kind == 'r');
        }
    }
    for r in builtin::RELATIONS.iter() {
        for (number, c) in (1_i64..).zip(&r.columns) {
            let c = ColumnInfo {
                not_null: c.not_null,
                ..ColumnInfo::plain(number.try_into().unwrap_or(i16::MAX), c.name, c.pg_type)
            };
            column(s, rows, [r.schema, r.name], number, &c, false);
        }
    }
}

/// Precision, radix and scale of a numeric type.
fn precision(c: &ColumnInfo) -> (Option<i32>, Option<i32>, Option<i32>) {
    match c.pg_type {
        PgType::Scalar(Scalar::Int2) => (Some(16), Some(2), Some(0)),
        PgType::Scalar(Scalar::Int4) => (Some(32), Some(2), Some(0)),
        PgType::Scalar(Scalar::Int8) => (Some(64), Some(2), Some(0)),
        PgType::Scalar(Scalar::Float4) => (Some(24), Some(2), None),
        PgType::Scalar(Scalar::Float8) => (Some(53), Some(2), None),
        PgType::Scalar(Scalar::Numeric) if c.type_modifier >= 4 => {
            let packed = c.type_modifier - 4;
            (Some(packed >> 16), Some(10), Some(packed & 0x7ff))
        }
        PgType::Scalar(Scalar::Numeric) => (None, Some(10), None),
        _ => (None, None, None),
    }
}

/// What `data_type` says of a type.
fn data_type(pg_type: PgType) -> String {
    match pg_type {
        PgType::Array(_) => "ARRAY".to_owned(),
        PgType::Scalar(Scalar::Vector | Scalar::Halfvec) => "USER-DEFINED".to_owned(),
        PgType::Scalar(Scalar::Bpchar) => "character".to_owned(),
        PgType::Scalar(s) => types::format_type(s.oid().cast_signed(), -1).unwrap_or_default(),
    }
}

fn column(s: &CatalogSnapshot, rows: &mut Rows, of: [&str; 2], number: i64, c: &ColumnInfo, updatable: bool) {
    let (precision, radix, scale) = precision(c);
    let text = matches!(c.pg_type, PgType::Scalar(Scalar::Varchar | Scalar::Bpchar));
    let length = (text && c.type_modifier > 4).then_some(c.type_modifier - 4);
    let time = match c.pg_type {
        PgType::Scalar(Scalar::Date) => Some(0),
        PgType::Scalar(Scalar::Time | Scalar::Timestamp | Scalar::Timestamptz) => {
            Some(if c.type_modifier < 0 { 6 } else { c.type_modifier })
        }
        _ => None,
    };
    let udt_schema = builtin::type_of(c.pg_type.oid().cast_signed()).map_or("pg_catalog", types::schema_of);
    rows.add(&[
        ("table_catalog", value(&s.database)),
        ("table_schema", value(of[0])),
        ("table_name", value(of[1])),
        ("column_name", value(&c.name)),
        ("ordinal_position", value(number)),
        (
            "column_default",
            value(c.default.clone().filter(|_| !c.generated && c.identity.is_none())),
        ),
        ("is_nullable", yes(!c.not_null)),
        ("data_type", value(data_type(c.pg_type))),
        ("character_maximum_length", value(length)),
        ("character_octet_length", value(length.map(|n| n.saturating_mul(4)))),
        ("numeric_precision", value(precision)),
        ("numeric_precision_radix", value(radix)),
        ("numeric_scale", value(scale)),
        ("datetime_precision", value(time)),
        ("udt_catalog", value(&s.database)),
        ("udt_schema", value(udt_schema)),
        ("udt_name", value(c.pg_type.name())),
        ("dtd_identifier", value(number.to_string())),
        ("is_self_referencing", yes(false)),
        ("is_identity", yes(c.identity.is_some())),
        (
            "identity_generation",
            match c.identity {
                Some('a') => value("ALWAYS"),
                Some(_) => value("BY DEFAULT"),
                None => Value::Null,
            },
        ),
        ("identity_cycle", yes(false)),
        ("is_generated", value(if c.generated { "ALWAYS" } else { "NEVER" })),
        (
            "generation_expression",
            value(c.default.clone().filter(|_| c.generated)),
        ),
        ("is_updatable", yes(updatable && !c.generated)),
    ]);
}

fn views(s: &CatalogSnapshot, rows: &mut Rows) {
    for (schema, r) in s.relations().filter(|(_, r)| r.kind == 'v') {
        rows.add(&[
            ("table_catalog", value(&s.database)),
            ("table_schema", value(&schema.name)),
            ("table_name", value(&r.name)),
            ("view_definition", value(r.definition.as_deref().map(print::view))),
            ("check_option", value("NONE")),
            ("is_updatable", yes(false)),
            ("is_insertable_into", yes(false)),
            ("is_trigger_updatable", yes(false)),
            ("is_trigger_deletable", yes(false)),
            ("is_trigger_insertable_into", yes(false)),
        ]);
    }
}

/// A constraint as `information_schema` sees it: with its kind and columns.
struct Constraint<'a> {
    schema: &'a str,
    table: &'a str,
    name: &'a str,
    kind: &'static str,
    columns: Vec<&'a str>,
    deferrable: bool,
    deferred: bool,
    nulls_distinct: bool,
    /// Of a foreign key: the place of each column in the key that it references.
    places: Vec<Option<i64>>,
}

fn all_constraints(s: &CatalogSnapshot) -> Vec<Constraint<'_>> {
    let mut all = Vec::new();
    for (schema, relation) in s.relations() {
        let of = |name, kind, numbers: &[i16]| Constraint {
            schema: schema.name.as_str(),
            table: relation.name.as_str(),
            name,
            kind,
            columns: numbers
                .iter()
                .filter_map(|&n| relation.column(n))
                .map(|c| c.name.as_str())
                .collect(),
            deferrable: false,
            deferred: false,
            nulls_distinct: true,
            places: Vec::new(),
        };
        for i in relation.indexes.iter().filter(|i| i.constraint) {
            let kind = if i.primary { "PRIMARY KEY" } else { "UNIQUE" };
            all.push(Constraint {
                nulls_distinct: !i.nulls_not_distinct,
                ..of(i.name.as_str(), kind, &i.columns)
            });
        }
        for c in &relation.constraints {
            let kind = if c.kind == 'f' { "FOREIGN KEY" } else { "CHECK" };
            let target = s
                .relation(c.references)
                .and_then(|(_, t)| target_index(t, &c.referenced_columns));
            let place = |n: &i16| Some(target?.columns.iter().position(|at| at == n)? as i64 + 1);
            all.push(Constraint {
                deferrable: c.deferrable,
                deferred: c.deferred,
                places: c.referenced_columns.iter().map(place).collect(),
                ..of(c.name.as_str(), kind, &c.columns)
            });
        }
    }
    all
}

fn table_constraints(s: &CatalogSnapshot, rows: &mut Rows) {
    for c in all_constraints(s) {
        rows.add(&[
            ("constraint_catalog", value(&s.database)),
            ("constraint_schema", value(c.schema)),
            ("constraint_name", value(c.name)),
            ("table_catalog", value(&s.database)),
            ("table_schema", value(c.schema)),
            ("table_name", value(c.table)),
            ("constraint_type", value(c.kind)),
            ("is_deferrable", yes(c.deferrable)),
            ("initially_deferred", yes(c.deferred)),
            ("enforced", yes(true)),
            (
                "nulls_distinct",
                match c.kind {
                    "UNIQUE" => yes(c.nulls_distinct),
                    _ => Value::Null,
                },
            ),
        ]);
    }
}

fn key_column_usage(s: &CatalogSnapshot, rows: &mut Rows) {
    for c in all_constraints(s).into_iter().filter(|c| c.kind != "CHECK") {
        for (at, (position, column)) in (1_i64..).zip(&c.columns).enumerate() {
            rows.add(&[
                ("constraint_catalog", value(&s.database)),
                ("constraint_schema", value(c.schema)),
                ("constraint_name", value(c.name)),
                ("table_catalog", value(&s.database)),
                ("table_schema", value(c.schema)),
                ("table_name", value(c.table)),
                ("column_name", value(*column)),
                ("ordinal_position", value(position)),
                (
                    "position_in_unique_constraint",
                    value(c.places.get(at).copied().flatten()),
                ),
            ]);
        }
    }
}

fn constraint_column_usage(s: &CatalogSnapshot, rows: &mut Rows) {
    let mut add = |schema: &str, table: &str, column: &str, constraint: &str| {
        rows.add(&[
            ("table_catalog", value(&s.database)),
            ("table_schema", value(schema)),
            ("table_name", value(table)),
            ("column_name", value(column)),
            ("constraint_catalog", value(&s.database)),
            ("constraint_schema", value(schema)),
            ("constraint_name", value(constraint)),
        ]);
    };
    for c in all_constraints(s).into_iter().filter(|c| c.kind != "FOREIGN KEY") {
        c.columns
            .iter()
            .for_each(|column| add(c.schema, c.table, column, c.name));
    }
    for (_, _, c) in s.constraints().filter(|(_, _, c)| c.kind == 'f') {
        if let Some((schema, r)) = s.relation(c.references) {
            let columns = print::columns(r, &c.referenced_columns);
            columns
                .iter()
                .for_each(|column| add(&schema.name, &r.name, column, &c.name));
        }
    }
}

fn referential_constraints(s: &CatalogSnapshot, rows: &mut Rows) {
    for (schema, _, c) in s.constraints().filter(|(_, _, c)| c.kind == 'f') {
        let target = s.relation(c.references);
        let key = target.and_then(|(_, r)| target_index(r, &c.referenced_columns));
        rows.add(&[
            ("constraint_catalog", value(&s.database)),
            ("constraint_schema", value(&schema.name)),
            ("constraint_name", value(&c.name)),
            ("unique_constraint_catalog", value(&s.database)),
            ("unique_constraint_schema", value(target.map(|(t, _)| &t.name))),
            ("unique_constraint_name", value(key.map(|i| &i.name))),
            ("match_option", value("NONE")),
            ("update_rule", value(print::rule(c.on_update))),
            ("delete_rule", value(print::rule(c.on_delete))),
        ]);
    }
}

fn check_constraints(s: &CatalogSnapshot, rows: &mut Rows) {
    for (schema, _, c) in s.constraints().filter(|(_, _, c)| c.kind == 'c') {
        let clause = c.definition.strip_prefix("CHECK ").unwrap_or(&c.definition);
        rows.add(&[
            ("constraint_catalog", value(&s.database)),
            ("constraint_schema", value(&schema.name)),
            ("constraint_name", value(&c.name)),
            ("check_clause", value(clause)),
        ]);
    }
}

fn routines(s: &CatalogSnapshot, rows: &mut Rows) {
    for f in &s.functions {
        let known = types::type_oid(&f.result).and_then(|oid| PgType::from_oid(oid.cast_unsigned()));
        rows.add(&[
            ("specific_catalog", value(&s.database)),
            ("specific_schema", value(&f.schema)),
            ("specific_name", value(format!("{}_{}", f.name, f.oid))),
            ("routine_catalog", value(&s.database)),
            ("routine_schema", value(&f.schema)),
            ("routine_name", value(&f.name)),
            ("routine_type", value("FUNCTION")),
            ("data_type", value(known.map_or_else(|| "record".to_owned(), data_type))),
            ("routine_body", value("EXTERNAL")),
            ("external_language", value("INTERNAL")),
            ("security_type", value("INVOKER")),
        ]);
    }
}

fn table_privileges(s: &CatalogSnapshot, rows: &mut Rows) {
    const KINDS: [&str; 7] = [
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "TRUNCATE",
        "REFERENCES",
        "TRIGGER",
    ];
    for (schema, r) in s.relations().filter(|(_, r)| r.kind != 'S') {
        let own = r.owner == s.user;
        let me = (s.user.as_str(), r.allowed);
        let others = r
            .grants
            .iter()
            .map(|(to, bits)| (to.as_str(), *bits))
            .filter(|(to, _)| own && *to != s.user);
        for (grantee, bits) in std::iter::once(me).chain(others) {
            let kinds = KINDS.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0);
            for (_, kind) in kinds {
                rows.add(&[
                    ("grantor", value(&r.owner)),
                    ("grantee", value(if grantee == "public" { "PUBLIC" } else { grantee })),
                    ("table_catalog", value(&s.database)),
                    ("table_schema", value(&schema.name)),
                    ("table_name", value(&r.name)),
                    ("privilege_type", value(*kind)),
                    ("is_grantable", yes(own && grantee == s.user)),
                    ("with_hierarchy", yes(*kind == "SELECT")),
                ]);
            }
        }
    }
}

fn sequences(s: &CatalogSnapshot, rows: &mut Rows) {
    for (schema, r) in s.relations() {
        let Some(q) = r.sequence.as_ref().filter(|q| !q.identity) else {
            continue;
        };
        let bits = q.pg_type.size().saturating_mul(8);
        rows.add(&[
            ("sequence_catalog", value(&s.database)),
            ("sequence_schema", value(&schema.name)),
            ("sequence_name", value(&r.name)),
            ("data_type", value(data_type(q.pg_type))),
            ("numeric_precision", value(bits)),
            ("numeric_precision_radix", value(2)),
            ("numeric_scale", value(0)),
            ("start_value", value(q.start.to_string())),
            ("minimum_value", value(q.min.to_string())),
            ("maximum_value", value(q.max.to_string())),
            ("increment", value(q.increment.to_string())),
            ("cycle_option", yes(q.cycle)),
        ]);
    }
}
