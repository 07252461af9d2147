//! More of the catalog relations: policies, sequences, and what depends on what.

use super::{
    builtin,
    catalog::{CatalogSnapshot, PolicyInfo, RelationInfo},
    print,
    rows::{Rows, Value},
};

fn value(v: impl Into<Value>) -> Value {
    v.into()
}

pub(super) fn policies(s: &CatalogSnapshot, rows: &mut Rows) {
    for (_, r) in s.relations() {
        for p in &r.policies {
            let roles: Vec<i32> = match p.roles.is_empty() {
                true => vec![0],
                false => p.roles.iter().map(|name| s.user_oid(name).unwrap_or(0)).collect(),
            };
            rows.add(&[
                ("oid", value(p.oid)),
                ("polname", value(&p.name)),
                ("polrelid", value(r.oid)),
                ("polcmd", value(p.command)),
                ("polpermissive", value(p.permissive)),
                ("polroles", value(roles)),
                ("polqual", value(p.using.as_ref())),
                ("polwithcheck", value(p.check.as_ref())),
            ]);
        }
    }
}

fn command(p: &PolicyInfo) -> &'static str {
    match p.command {
        'r' => "SELECT",
        'a' => "INSERT",
        'w' => "UPDATE",
        'd' => "DELETE",
        _ => "ALL",
    }
}

pub(super) fn policy_texts(s: &CatalogSnapshot, rows: &mut Rows) {
    for (schema, r) in s.relations() {
        for p in &r.policies {
            let roles = match p.roles.is_empty() {
                true => vec!["public".to_owned()],
                false => p.roles.clone(),
            };
            rows.add(&[
                ("schemaname", value(&schema.name)),
                ("tablename", value(&r.name)),
                ("policyname", value(&p.name)),
                (
                    "permissive",
                    value(if p.permissive { "PERMISSIVE" } else { "RESTRICTIVE" }),
                ),
                ("roles", value(roles)),
                ("cmd", value(command(p))),
                ("qual", value(p.using.as_ref().map(|text| format!("({text})")))),
                ("with_check", value(p.check.as_ref().map(|text| format!("({text})")))),
            ]);
        }
    }
}

pub(super) fn sequences(s: &CatalogSnapshot, rows: &mut Rows) {
    for (_, r) in s.relations() {
        let Some(q) = &r.sequence else { continue };
        rows.add(&[
            ("seqrelid", value(r.oid)),
            ("seqtypid", value(q.pg_type.oid().cast_signed())),
            ("seqstart", value(q.start)),
            ("seqincrement", value(q.increment)),
            ("seqmax", value(q.max)),
            ("seqmin", value(q.min)),
            ("seqcache", value(1)),
            ("seqcycle", value(q.cycle)),
        ]);
    }
}

pub(super) fn sequence_texts(s: &CatalogSnapshot, rows: &mut Rows) {
    for (schema, r) in s.relations() {
        let Some(q) = &r.sequence else { continue };
        rows.add(&[
            ("schemaname", value(&schema.name)),
            ("sequencename", value(&r.name)),
            ("sequenceowner", value(&r.owner)),
            ("data_type", value(q.pg_type.oid().cast_signed())),
            ("start_value", value(q.start)),
            ("min_value", value(q.min)),
            ("max_value", value(q.max)),
            ("increment_by", value(q.increment)),
            ("cycle", value(q.cycle)),
            ("cache_size", value(1_i64)),
        ]);
    }
}

/// The rule of a view, by the view: derived, so that nothing need store it.
fn rule_oid(view: i32) -> i32 {
    0x1000_0000 | view & 0x0fff_ffff
}

pub(super) fn rules(s: &CatalogSnapshot, rows: &mut Rows) {
    for (_, r) in s.relations().filter(|(_, r)| r.kind == 'v') {
        rows.add(&[
            ("oid", value(rule_oid(r.oid))),
            ("rulename", value("_RETURN")),
            ("ev_class", value(r.oid)),
            ("ev_type", value("1")),
            ("ev_enabled", value("O")),
            ("is_instead", value(true)),
        ]);
    }
}

/// What clients ask of it: sequences of columns, views of relations, constraints and defaults of tables.
pub(super) fn depends(s: &CatalogSnapshot, rows: &mut Rows) {
    let class = |name: &str| builtin::relation_oid("pg_catalog", name).unwrap_or(0);
    let (pg_class, pg_constraint) = (class("pg_class"), class("pg_constraint"));
    let (pg_rewrite, pg_attrdef, pg_policy) = (class("pg_rewrite"), class("pg_attrdef"), class("pg_policy"));
    let mut add = |of: (i32, i32), on: (i32, i16), kind: &str| {
        rows.add(&[
            ("classid", value(of.0)),
            ("objid", value(of.1)),
            ("objsubid", value(0)),
            ("refclassid", value(pg_class)),
            ("refobjid", value(on.0)),
            ("refobjsubid", value(on.1)),
            ("deptype", value(kind)),
        ]);
    };
    for (_, r) in s.relations() {
        if let Some(q) = &r.sequence
            && let Some((table, column)) = q.owned_by
        {
            add((pg_class, r.oid), (table, column), if q.identity { "i" } else { "a" });
        }
        if r.kind == 'v' {
            add((pg_rewrite, rule_oid(r.oid)), (r.oid, 0), "i");
        }
        r.depends
            .iter()
            .for_each(|on| add((pg_rewrite, rule_oid(r.oid)), (*on, 0), "n"));
        for c in r.columns.iter().filter(|c| c.default.is_some()) {
            add(
                (pg_attrdef, print::default_oid(r.oid, c.number)),
                (r.oid, c.number),
                "a",
            );
        }
        for p in &r.policies {
            add((pg_policy, p.oid), (r.oid, 0), "a");
        }
        part_depends(r, pg_class, pg_constraint, &mut add);
    }
}

fn part_depends(
    r: &RelationInfo,
    pg_class: i32,
    pg_constraint: i32,
    add: &mut impl FnMut((i32, i32), (i32, i16), &str),
) {
    for c in &r.constraints {
        c.columns
            .iter()
            .for_each(|n| add((pg_constraint, c.oid), (r.oid, *n), "a"));
        if c.kind == 'f' {
            let on = c.referenced_columns.iter();
            on.for_each(|n| add((pg_constraint, c.oid), (c.references, *n), "n"));
        }
    }
    for i in &r.indexes {
        let of = match i.constraint {
            true => (pg_constraint, print::key_oid(i.oid)),
            false => (pg_class, i.oid),
        };
        let columns = i.columns.iter().filter(|n| **n != 0);
        columns.for_each(|n| add(of, (r.oid, *n), "a"));
    }
}
