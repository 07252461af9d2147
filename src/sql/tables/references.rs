//! What kept texts read: relations, columns and sequences by name.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, Expr, ObjectName, Query, Value, Visit, VisitMut, Visitor, VisitorMut};

use super::{cursor::fold, expressions};
use crate::{
    sql::pg::catalog::split_name,
    table::schema::{Catalog, Oid, PolicyDef, Relation, TableDef, ViewDef},
};

/// Columns of a table that a kept expression over it uses.
pub(super) fn columns_of_text(table: &TableDef, text: &str) -> Vec<u16> {
    let Ok(expr) = expressions::expression(text) else {
        return Vec::new();
    };
    let used = expressions::columns_in(&expr, Some(table));
    let columns = table.columns.iter().filter(|column| used.contains(&column.name));
    columns.map(|column| column.id).collect()
}

fn texts(policy: &PolicyDef) -> impl Iterator<Item = &str> {
    policy.using.iter().chain(&policy.check).map(String::as_str)
}

/// Columns of its own table that a policy uses.
pub(super) fn columns_of_policy(table: &TableDef, policy: &PolicyDef) -> Vec<u16> {
    texts(policy).flat_map(|text| columns_of_text(table, text)).collect()
}

/// Relations that queries in a policy read.
pub(super) fn relations_of_policy(catalog: &Catalog, policy: &PolicyDef) -> Vec<Oid> {
    let exprs = texts(policy).filter_map(|text| expressions::expression(text).ok());
    exprs.flat_map(|expr| relations_in(catalog, &expr)).collect()
}

/// Relations that qualified names in FROM mean.
pub(super) fn relations_in(catalog: &Catalog, part: &impl Visit) -> Vec<Oid> {
    let mut found = Vec::new();
    let _: ControlFlow<()> = ast::visit_relations(part, |name| {
        if let [schema, table] = name.0.as_slice()
            && let (Some(schema), Some(table)) = (schema.as_ident(), table.as_ident())
            && let Some(relation) = catalog.find(&fold(schema), &fold(table))
            && !found.contains(&relation.oid())
        {
            found.push(relation.oid());
        }
        ControlFlow::Continue(())
    });
    found
}

/// Columns that a view may read: those of its tables whose names stand in its text.
pub(super) fn columns_of_view(catalog: &Catalog, view: &ViewDef) -> Vec<(Oid, u16)> {
    let Ok(query) = expressions::query(&view.query) else {
        return Vec::new();
    };
    let names = names_in(&query);
    let tables = view.depends.iter().filter_map(|oid| catalog.table(*oid));
    tables
        .flat_map(|table| {
            let used = table.columns.iter().filter(|column| names.contains(&column.name));
            used.map(|column| (table.oid, column.id)).collect::<Vec<_>>()
        })
        .collect()
}

fn names_in(query: &Query) -> Vec<String> {
    struct Names(Vec<String>);
    impl Visitor for Names {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Identifier(ident) => self.0.push(fold(ident)),
                Expr::CompoundIdentifier(parts) => self.0.extend(parts.last().map(fold)),
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let mut names = Names(Vec::new());
    let _ = query.visit(&mut names);
    names.0
}

/// Sequences that calls of `nextval` in a default name.
pub(super) fn sequences_of_default(catalog: &Catalog, text: &str) -> Vec<Oid> {
    if !text.contains("nextval") {
        return Vec::new();
    }
    let Ok(expr) = expressions::expression(text) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let _: ControlFlow<()> = ast::visit_expressions(&expr, |expr| {
        if let Expr::Value(value) = expr
            && let Value::SingleQuotedString(name) = &value.value
            && let Some(parts) = split_name(name)
        {
            let relation = match parts.as_slice() {
                [name] => catalog.find("public", name),
                [schema, name] => catalog.find(schema, name),
                _ => None,
            };
            if let Some(Relation::Sequence(sequence)) = relation {
                found.push(sequence.oid);
            }
        }
        ControlFlow::Continue(())
    });
    found
}

/// Gives relations in FROM their schemas, so that the text means the same under any search path.
pub(super) fn qualify(part: &mut impl VisitMut, find: impl Fn(&str) -> Option<String>) {
    struct Qualify<F> {
        find: F,
        /// Names of WITH, which are no relations.
        with: Vec<String>,
    }
    impl<F: Fn(&str) -> Option<String>> VisitorMut for Qualify<F> {
        type Break = ();
        fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
            if let Some(with) = &query.with {
                self.with
                    .extend(with.cte_tables.iter().map(|cte| fold(&cte.alias.name)));
            }
            ControlFlow::Continue(())
        }
        fn pre_visit_relation(&mut self, name: &mut ObjectName) -> ControlFlow<()> {
            if let [only] = name.0.as_slice()
                && let Some(ident) = only.as_ident()
                && !self.with.contains(&fold(ident))
                && let Some(schema) = (self.find)(&fold(ident))
            {
                *name = ObjectName::from(vec![ast::Ident::with_quote('"', schema), ident.clone()]);
            }
            ControlFlow::Continue(())
        }
    }
    let mut visitor = Qualify { find, with: Vec::new() };
    let _ = part.visit(&mut visitor);
}
