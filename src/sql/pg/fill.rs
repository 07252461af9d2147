//! What is in the catalog relations: one entry of [`FILLS`] for each relation that has rows.

use super::{
    builtin,
    catalog::{CatalogSnapshot, ColumnInfo, DATABASE_OID, IndexInfo, PG_CATALOG_OID, RelationInfo, SYSTEM_ROLE_OID},
    fixed::{
        OPERATOR_CLASSES, access_methods, attribute, class, collations, languages, method_oid, operator_classes,
        own_attributes, own_classes, own_namespaces, own_procs, own_types, proc, tablespaces, type_row,
    },
    print,
    rows::{Rows, Value},
    types,
};
use crate::codec::pgtype::{PgType, Scalar};

/// How a relation gets its rows; one with neither is empty.
pub struct Fill {
    /// Its name in `pg_catalog`.
    pub relation: &'static str,
    /// Rows that are the same in every database.
    pub fixed: Option<fn(&mut Rows)>,
    /// Rows of this session's database.
    pub own: Option<fn(&CatalogSnapshot, &mut Rows)>,
}

const fn fixed(relation: &'static str, fill: fn(&mut Rows)) -> Fill {
    Fill {
        relation,
        fixed: Some(fill),
        own: None,
    }
}

const fn own(relation: &'static str, fill: fn(&CatalogSnapshot, &mut Rows)) -> Fill {
    Fill {
        relation,
        fixed: None,
        own: Some(fill),
    }
}

/// The relations of `pg_catalog` that have rows.
pub const FILLS: &[Fill] = &[
    Fill {
        relation: "pg_class",
        fixed: Some(own_classes),
        own: Some(classes),
    },
    Fill {
        relation: "pg_attribute",
        fixed: Some(own_attributes),
        own: Some(attributes),
    },
    Fill {
        relation: "pg_type",
        fixed: Some(own_types),
        own: Some(extension_types),
    },
    Fill {
        relation: "pg_proc",
        fixed: Some(own_procs),
        own: Some(procs),
    },
    Fill {
        relation: "pg_namespace",
        fixed: Some(own_namespaces),
        own: Some(namespaces),
    },
    fixed("pg_am", access_methods),
    fixed("pg_collation", collations),
    fixed("pg_language", languages),
    fixed("pg_tablespace", tablespaces),
    fixed("pg_opclass", operator_classes),
    own("pg_attrdef", defaults),
    own("pg_index", indexes),
    own("pg_constraint", constraints),
    own("pg_description", descriptions),
    own("pg_database", databases),
    own("pg_extension", extensions),
    own("pg_available_extensions", available_extensions),
    own("pg_roles", |s, rows| roles(s, rows, true)),
    own("pg_authid", |s, rows| roles(s, rows, false)),
    own("pg_user", users),
    own("pg_settings", settings),
    own("pg_tables", tables),
    own("pg_views", views),
    own("pg_indexes", index_texts),
    own("pg_stat_activity", super::fill_sessions::activity),
    own("pg_stat_progress_create_index", super::fill_sessions::builds),
    own("pg_stat_user_tables", table_statistics),
    own("pg_stat_all_tables", table_statistics),
    own("pg_prepared_statements", super::fill_sessions::prepared),
    own("pg_cursors", super::fill_sessions::cursors),
    own("pg_policy", super::fill_more::policies),
    own("pg_policies", super::fill_more::policy_texts),
    own("pg_sequence", super::fill_more::sequences),
    own("pg_sequences", super::fill_more::sequence_texts),
    own("pg_depend", super::fill_more::depends),
    own("pg_rewrite", super::fill_more::rules),
    own("pg_locks", super::fill_sessions::locks),
];

fn value(v: impl Into<Value>) -> Value {
    v.into()
}

fn set(row: &mut Vec<(&'static str, Value)>, name: &'static str, v: impl Into<Value>) {
    row.retain(|(n, _)| *n != name);
    row.push((name, v.into()));
}

fn classes(s: &CatalogSnapshot, rows: &mut Rows) {
    for (schema, r) in s.relations() {
        let owner = s.owner_of(&r.owner);
        class(
            rows,
            r.oid,
            &r.name,
            schema.oid,
            owner,
            &r.kind.to_string(),
            r.columns.last().map_or(0, |c| c.number.unsigned_abs().into()),
            |row| {
                set(row, "reltuples", r.rows);
                set(row, "relforcerowsecurity", r.force_row_security);
                if r.temporary {
                    set(row, "relpersistence", "t");
                }
                set(row, "relacl", acl(r));
                set(row, "relhasindex", !r.indexes.is_empty());
                set(
                    row,
                    "relchecks",
                    r.constraints.iter().filter(|c| c.kind == 'c').count() as i64,
                );
                set(row, "relhasrules", r.kind == 'v');
                set(row, "relrowsecurity", r.row_security);
            },
        );
        for i in &r.indexes {
            class(rows, i.oid, &i.name, schema.oid, owner, "i", i.columns.len(), |row| {
                set(row, "relam", method_oid(&i.method));
                set(row, "reloptions", options(i));
                if r.temporary {
                    set(row, "relpersistence", "t");
                }
            });
        }
    }
}

fn attributes(s: &CatalogSnapshot, rows: &mut Rows) {
    for (_, r) in s.relations() {
        for c in &r.columns {
            attribute(rows, r.oid, c.number, c);
        }
        for i in &r.indexes {
            let all = i.columns.iter().chain(&i.include);
            for (number, &of) in (1_i16..).zip(all) {
                let plain = match r.column(of) {
                    Some(c) => ColumnInfo {
                        type_modifier: c.type_modifier,
                        ..ColumnInfo::plain(number, &c.name, c.pg_type)
                    },
                    None => ColumnInfo::plain(number, "expr", PgType::TEXT),
                };
                attribute(rows, i.oid, number, &plain);
            }
        }
    }
}

/// `{owner=arwdDxt/owner,reader=r/owner}`; NULL where nothing was granted.
fn acl(r: &RelationInfo) -> Value {
    if r.grants.is_empty() {
        return Value::Null;
    }
    let all = std::iter::once((r.owner.as_str(), 0x7f)).chain(r.grants.iter().map(|(to, bits)| (to.as_str(), *bits)));
    let items = all.map(|(to, bits)| {
        let letters = "arwdDxt".char_indices().filter(|(at, _)| {
            // The catalog's order is INSERT, SELECT, UPDATE, ...
            let bit = [1, 0, 2, 3, 4, 5, 6][*at];
            bits & (1 << bit) != 0
        });
        let letters: String = letters.map(|(_, letter)| letter).collect();
        format!("{to}={letters}/{}", r.owner)
    });
    value(items.collect::<Vec<_>>())
}

fn options(i: &IndexInfo) -> Value {
    match i.options.is_empty() {
        true => Value::Null,
        false => value(i.options.iter().map(|o| o.replace('\'', "")).collect::<Vec<_>>()),
    }
}

fn extension_types(s: &CatalogSnapshot, rows: &mut Rows) {
    let public = s.schema_oid("public").unwrap_or(PG_CATALOG_OID);
    let others = builtin::TYPES.iter().filter(|t| types::schema_of(t) != "pg_catalog");
    others.for_each(|t| type_row(rows, t, public));
}

fn procs(s: &CatalogSnapshot, rows: &mut Rows) {
    for f in &s.functions {
        let schema = s.schema_oid(&f.schema).unwrap_or(PG_CATALOG_OID);
        let result = types::type_oid(&f.result).unwrap_or(2249);
        proc(
            rows,
            f.oid,
            &f.name,
            schema,
            SYSTEM_ROLE_OID,
            result,
            &print::argument_types(&f.arguments),
        );
    }
}

fn namespaces(s: &CatalogSnapshot, rows: &mut Rows) {
    for schema in &s.schemas {
        rows.add(&[
            ("oid", value(schema.oid)),
            ("nspname", value(&schema.name)),
            ("nspowner", value(s.owner_of(&schema.owner))),
        ]);
    }
}

fn operator_class(relation: &RelationInfo, index: &IndexInfo, at: usize) -> i32 {
    let of = index
        .columns
        .get(at)
        .and_then(|&n| relation.column(n))
        .map(|c| c.pg_type);
    let named = index.keys.get(at).and_then(|key| key.operator_class.as_ref());
    let fits = |c: &&(i32, &str, i32, Scalar, bool)| match named {
        Some(name) => c.1 == name,
        None => c.4 && Some(PgType::Scalar(c.3)) == of,
    };
    OPERATOR_CLASSES.iter().find(fits).map_or(3126, |c| c.0)
}

fn defaults(s: &CatalogSnapshot, rows: &mut Rows) {
    for (_, r) in s.relations() {
        for c in &r.columns {
            if let Some(text) = &c.default {
                let number = c.number;
                let oid = print::default_oid(r.oid, number);
                let row = [
                    ("oid", value(oid)),
                    ("adrelid", value(r.oid)),
                    ("adnum", value(number)),
                    ("adbin", value(text)),
                ];
                rows.add(&row);
            }
        }
    }
}

fn indexes(s: &CatalogSnapshot, rows: &mut Rows) {
    for (_, r, i) in s.indexes() {
        let keys = i.columns.len();
        let each = |f: &dyn Fn(usize) -> i64| value((0..keys).map(f).collect::<Vec<i64>>());
        let numbers = i.columns.iter().chain(&i.include).map(|&n| i64::from(n));
        let option = |at: usize| {
            let key = i.keys.get(at);
            i64::from(key.is_some_and(|k| k.descending)) | i64::from(key.is_some_and(|k| k.nulls_first)) << 1
        };
        let expressions: Vec<&str> = i.keys.iter().filter_map(|k| k.expression.as_deref()).collect();
        rows.add(&[
            ("indexrelid", value(i.oid)),
            ("indrelid", value(r.oid)),
            ("indnatts", value((keys + i.include.len()) as i64)),
            ("indnkeyatts", value(keys as i64)),
            ("indisunique", value(i.unique || i.primary)),
            ("indnullsnotdistinct", value(i.nulls_not_distinct)),
            ("indisprimary", value(i.primary)),
            ("indimmediate", value(true)),
            ("indisvalid", value(true)),
            ("indisready", value(true)),
            ("indislive", value(true)),
            ("indkey", value(numbers.collect::<Vec<i64>>())),
            ("indcollation", each(&|_| 0)),
            ("indclass", each(&|at| operator_class(r, i, at).into())),
            ("indoption", each(&option)),
            (
                "indexprs",
                match expressions.is_empty() {
                    true => Value::Null,
                    false => value(expressions.join(", ")),
                },
            ),
            ("indpred", value(i.predicate.as_ref())),
        ]);
    }
}

fn constraints(s: &CatalogSnapshot, rows: &mut Rows) {
    for (schema, r, i) in s.indexes().filter(|(_, _, i)| i.constraint) {
        rows.add(&[
            ("oid", value(print::key_oid(i.oid))),
            ("conname", value(&i.name)),
            ("connamespace", value(schema.oid)),
            ("contype", value(if i.primary { "p" } else { "u" })),
            ("convalidated", value(true)),
            ("conrelid", value(r.oid)),
            ("conindid", value(i.oid)),
            ("confupdtype", value(" ")),
            ("confdeltype", value(" ")),
            ("confmatchtype", value(" ")),
            ("conislocal", value(true)),
            ("connoinherit", value(true)),
            ("conkey", value(i.columns.clone())),
        ]);
    }
    for (schema, r, c) in s.constraints() {
        let action = |letter: char| if c.kind == 'f' { letter } else { ' ' };
        let target = s
            .relation(c.references)
            .and_then(|(_, t)| target_index(t, &c.referenced_columns));
        rows.add(&[
            ("oid", value(c.oid)),
            ("conname", value(&c.name)),
            ("connamespace", value(schema.oid)),
            ("contype", value(c.kind)),
            ("condeferrable", value(c.deferrable)),
            ("condeferred", value(c.deferred)),
            ("convalidated", value(true)),
            ("conrelid", value(r.oid)),
            ("conindid", value(target.map_or(0, |i| i.oid))),
            ("confrelid", value(c.references)),
            ("confupdtype", value(action(c.on_update))),
            ("confdeltype", value(action(c.on_delete))),
            ("confmatchtype", value(action('s'))),
            ("conislocal", value(true)),
            ("connoinherit", value(c.kind == 'f')),
            ("conkey", value(c.columns.clone())),
            (
                "confkey",
                if c.kind == 'f' {
                    value(c.referenced_columns.clone())
                } else {
                    Value::Null
                },
            ),
            (
                "conbin",
                if c.kind == 'c' {
                    value(&c.definition)
                } else {
                    Value::Null
                },
            ),
        ]);
    }
}

/// The unique index that a foreign key's referenced columns are the key of.
pub(super) fn target_index<'r>(relation: &'r RelationInfo, columns: &[i16]) -> Option<&'r IndexInfo> {
    let fits = |i: &&IndexInfo| i.columns.len() == columns.len() && i.columns.iter().all(|n| columns.contains(n));
    let unique = |i: &&IndexInfo| (i.unique || i.primary) && i.predicate.is_none();
    relation.indexes.iter().filter(unique).find(fits)
}

fn descriptions(s: &CatalogSnapshot, rows: &mut Rows) {
    let mut add = |oid: i32, part: i16, catalog: &str, text: &str| {
        let class = builtin::relation_oid("pg_catalog", catalog).unwrap_or(0);
        rows.add(&[
            ("objoid", value(oid)),
            ("classoid", value(class)),
            ("objsubid", value(part)),
            ("description", value(text)),
        ]);
    };
    let vector = "vector data type and hnsw access method";
    add(print::EXTENSION_OID, 0, "pg_extension", vector);
    for schema in &s.schemas {
        let text = schema.comment.iter();
        text.for_each(|text| add(schema.oid, 0, "pg_namespace", text));
    }
    for (_, r) in s.relations() {
        r.comment.iter().for_each(|text| add(r.oid, 0, "pg_class", text));
        for c in &r.columns {
            c.comment.iter().for_each(|text| add(r.oid, c.number, "pg_class", text));
        }
        for i in &r.indexes {
            i.comment.iter().for_each(|text| add(i.oid, 0, "pg_class", text));
        }
    }
    for f in &s.functions {
        f.description.iter().for_each(|text| add(f.oid, 0, "pg_proc", text));
    }
}

fn databases(s: &CatalogSnapshot, rows: &mut Rows) {
    rows.add(&[
        ("oid", value(DATABASE_OID)),
        ("datname", value(&s.database)),
        ("datdba", value(s.owner_oid())),
        ("encoding", value(6)),
        ("datlocprovider", value("c")),
        ("datallowconn", value(true)),
        ("datconnlimit", value(-1)),
        ("dattablespace", value(1663)),
        ("datcollate", value("C.UTF-8")),
        ("datctype", value("C.UTF-8")),
    ]);
}

fn extensions(s: &CatalogSnapshot, rows: &mut Rows) {
    rows.add(&[
        ("oid", value(print::EXTENSION_OID)),
        ("extname", value("vector")),
        ("extowner", value(SYSTEM_ROLE_OID)),
        ("extnamespace", value(s.schema_oid("public").unwrap_or(PG_CATALOG_OID))),
        ("extversion", value(print::VECTOR_VERSION)),
    ]);
}

fn available_extensions(_: &CatalogSnapshot, rows: &mut Rows) {
    let version = value(print::VECTOR_VERSION);
    let row = [
        ("name", value("vector")),
        ("default_version", version.clone()),
        ("installed_version", version),
    ];
    rows.add(&row);
}

fn roles(s: &CatalogSnapshot, rows: &mut Rows, view: bool) {
    for u in &s.users {
        let mut row = vec![
            ("rolname", value(&u.name)),
            ("rolinherit", value(true)),
            ("rolsuper", value(false)),
            ("rolcreaterole", value(u.is_owner)),
            ("rolcreatedb", value(false)),
            ("rolcanlogin", value(true)),
            ("rolreplication", value(false)),
            ("rolconnlimit", value(-1)),
            ("rolbypassrls", value(false)),
            ("oid", value(u.oid)),
        ];
        if view {
            row.push(("rolpassword", value("********")));
        }
        rows.add(&row);
    }
}

fn users(s: &CatalogSnapshot, rows: &mut Rows) {
    for u in &s.users {
        rows.add(&[
            ("usename", value(&u.name)),
            ("usesysid", value(u.oid)),
            ("usecreatedb", value(false)),
            ("usesuper", value(false)),
            ("userepl", value(false)),
            ("usebypassrls", value(false)),
            ("passwd", value("********")),
        ]);
    }
}

fn settings(s: &CatalogSnapshot, rows: &mut Rows) {
    for x in &s.settings {
        rows.add(&[
            ("name", value(&x.name)),
            ("setting", value(&x.value)),
            ("category", value("Bulkhead")),
            ("short_desc", value(&x.description)),
            ("context", value("user")),
            ("vartype", value("string")),
            ("source", value(if x.value == x.reset { "default" } else { "session" })),
            ("boot_val", value(&x.reset)),
            ("reset_val", value(&x.reset)),
            ("pending_restart", value(false)),
        ]);
    }
}

fn tables(s: &CatalogSnapshot, rows: &mut Rows) {
    for (schema, r) in s.relations().filter(|(_, r)| r.kind == 'r') {
        rows.add(&[
            ("schemaname", value(&schema.name)),
            ("tablename", value(&r.name)),
            ("tableowner", value(&r.owner)),
            ("hasindexes", value(!r.indexes.is_empty())),
            ("hasrules", value(false)),
            ("hastriggers", value(false)),
            ("rowsecurity", value(r.row_security)),
        ]);
    }
}

fn views(s: &CatalogSnapshot, rows: &mut Rows) {
    for (schema, r) in s.relations().filter(|(_, r)| r.kind == 'v') {
        rows.add(&[
            ("schemaname", value(&schema.name)),
            ("viewname", value(&r.name)),
            ("viewowner", value(&r.owner)),
            ("definition", value(r.definition.as_deref().map(print::view))),
        ]);
    }
}

fn index_texts(s: &CatalogSnapshot, rows: &mut Rows) {
    for (schema, r, i) in s.indexes() {
        rows.add(&[
            ("schemaname", value(&schema.name)),
            ("tablename", value(&r.name)),
            ("indexname", value(&i.name)),
            ("indexdef", value(print::index(schema, r, i))),
        ]);
    }
}

fn table_statistics(s: &CatalogSnapshot, rows: &mut Rows) {
    for (schema, r) in s.relations().filter(|(_, r)| r.kind == 'r') {
        rows.add(&[
            ("relid", value(r.oid)),
            ("schemaname", value(&schema.name)),
            ("relname", value(&r.name)),
            ("n_live_tup", value(r.rows.max(0.0) as i64)),
        ]);
    }
}
