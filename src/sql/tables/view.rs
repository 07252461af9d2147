//! Views: queries by name, read with the rights and policies of whoever reads them.

use std::{collections::BTreeSet, sync::Arc};

use datafusion::{
    common::Column,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder},
    sql::sqlparser::ast::{self, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement},
};

use super::{
    cursor::fold,
    ddl::{CreateView, Kind},
    definitions::{Change, wrong_kind},
    expressions::{self, stored_path, type_name},
    references,
    rights::require_owner,
    temporary::is_temporary,
};
use crate::{
    error::{Code, Error, Result},
    limits,
    sql::{
        complaints::from_datafusion,
        planner::Context,
        prepared::{self, columns_of},
        session::Session,
    },
    table::schema::{Catalog, Oid, Relation, ViewDef},
};

/// The plan of a view's query, with the view's column names.
///
/// # Errors
/// 54001 for views over too many views; those of planning.
pub(super) fn plan(context: &Context<'_>, view: &ViewDef) -> Result<LogicalPlan> {
    if context.depth >= limits::VIEW_DEPTH {
        return Err(Error::new(Code::TooComplex, "views are nested too deeply"));
    }
    let query = expressions::query(&view.query)?;
    let inner = Context {
        names: context.names,
        path: stored_path(),
        options: context.options,
        extra: &[],
        within: context.within.clone(),
        depth: context.depth + 1,
    };
    let plan = prepared::plan_with(&inner, Statement::Query(query))?;
    let columns = plan.schema().columns();
    let named = columns.into_iter().zip(&view.columns);
    let exprs: Vec<Expr> = named
        .map(|(column, (name, ..))| Expr::Column(column).alias(name))
        .collect();
    LogicalPlanBuilder::from(plan)
        .project(exprs)
        .and_then(LogicalPlanBuilder::build)
        .map_err(from_datafusion)
}

impl Session {
    /// Where the session's own queries are planned.
    pub(super) fn context(&self) -> Context<'_> {
        Context {
            names: &self.names,
            path: self.settings.lock().path(),
            options: self.state.config_options(),
            extra: &[],
            within: Vec::new(),
            depth: 0,
        }
    }
}

impl Change<'_> {
    /// CREATE VIEW.
    pub(super) fn create_view(&mut self, stmt: &CreateView) -> Result<()> {
        let schema = self.creation_schema(&stmt.name, stmt.temporary)?;
        let former = match self.catalog.find(&schema, &stmt.name.name) {
            None => None,
            Some(Relation::View(view)) if stmt.or_replace => {
                require_owner(self.world, Kind::View, &view.owner, &view.name)?;
                Some(view.clone())
            }
            Some(_) if stmt.or_replace => return Err(wrong_kind(&stmt.name.name, Kind::View)),
            Some(_) => None,
        };
        if former.is_none() {
            self.check_free(&schema, &stmt.name.name)?;
        }
        let mut query = stmt.query.clone();
        self.qualify(&mut query);
        let context = self.session.context();
        expand(&context, &mut query)?;
        let plan = prepared::plan_with(&context, Statement::Query(query.clone()))?;
        let mut columns: Vec<_> = columns_of(&plan)
            .into_iter()
            .map(|column| (column.name, column.pg_type, column.type_modifier))
            .collect();
        if stmt.columns.len() > columns.len() {
            return Err(Error::new(
                Code::Syntax,
                "CREATE VIEW specifies more column names than columns",
            ));
        }
        for (column, name) in columns.iter_mut().zip(&stmt.columns) {
            column.0.clone_from(name);
        }
        let mut seen = BTreeSet::new();
        if let Some((name, ..)) = columns.iter().find(|(name, ..)| !seen.insert(name.as_str())) {
            let text = format!("column \"{name}\" specified more than once");
            return Err(Error::new(Code::DuplicateColumn, text));
        }
        let depends = references::relations_in(&self.catalog, &query);
        let reads_temporary = |oid: &Oid| {
            let relation = self.catalog.relations.get(oid);
            relation.is_some_and(|relation| is_temporary(relation.name().0))
        };
        let mut schema = schema;
        if !is_temporary(&schema) && depends.iter().any(reads_temporary) {
            if stmt.name.schema.is_some() || former.is_some() {
                let text = "cannot create a view of temporary tables in a schema that is not temporary";
                return Err(Error::new(Code::InvalidTableDefinition, text));
            }
            schema = self.world.temp_schema().to_owned();
            self.notice("00000", format!("view \"{}\" will be a temporary view", stmt.name.name));
        }
        let mut view = ViewDef {
            oid: former.as_ref().map_or_else(|| self.oid(), |view| view.oid),
            schema,
            name: stmt.name.name.clone(),
            owner: self.world.user.name.clone(),
            query: query.to_string(),
            columns,
            depends,
            comment: None,
            grants: Vec::new(),
        };
        if let Some(former) = former {
            check_replaced(&former, &view)?;
            if reaches(&self.catalog, &view.depends, view.oid) {
                let text = format!("infinite recursion detected in rules for relation \"{}\"", view.name);
                return Err(Error::new(Code::InvalidObjectDefinition, text));
            }
            view.owner.clone_from(&former.owner);
            view.comment.clone_from(&former.comment);
            view.grants.clone_from(&former.grants);
        }
        self.catalog.relations.insert(view.oid, Relation::View(Arc::new(view)));
        Ok(())
    }

    /// Gives relations in FROM the schemas in which the session finds them.
    pub(super) fn qualify(&self, part: &mut impl ast::VisitMut) {
        let own = self.world.temp_schema_if_any();
        let path = self.session.settings.lock().path();
        let schemas: Vec<String> = own.into_iter().chain(["pg_catalog".to_owned()]).chain(path).collect();
        references::qualify(part, |name| {
            schemas.iter().find(|schema| self.holds(schema, name)).cloned()
        });
    }

    /// Whether a schema has a relation of this name, the server's own included.
    fn holds(&self, schema: &str, name: &str) -> bool {
        self.catalog.find(schema, name).is_some() || self.is_fixed(schema, name)
    }
}

/// What may be replaced: columns stay, more may come.
fn check_replaced(former: &ViewDef, view: &ViewDef) -> Result<()> {
    let refuse = |text: String| Err(Error::new(Code::InvalidTableDefinition, text));
    if view.columns.len() < former.columns.len() {
        return refuse("cannot drop columns from view".to_owned());
    }
    for ((was, was_type, was_modifier), (is, is_type, is_modifier)) in former.columns.iter().zip(&view.columns) {
        if was != is {
            return refuse(format!("cannot change name of view column \"{was}\" to \"{is}\""));
        }
        if (was_type, was_modifier) != (is_type, is_modifier) {
            return refuse(format!(
                "cannot change data type of view column \"{was}\" from {} to {}",
                type_name(*was_type, *was_modifier),
                type_name(*is_type, *is_modifier)
            ));
        }
    }
    Ok(())
}

/// Whether one of these relations is, or reads, another.
fn reaches(catalog: &Catalog, from: &[Oid], to: Oid) -> bool {
    let mut seen = BTreeSet::new();
    let mut next: Vec<Oid> = from.to_vec();
    while let Some(oid) = next.pop() {
        if oid == to {
            return true;
        }
        if seen.insert(oid)
            && let Some(Relation::View(view)) = catalog.relations.get(&oid)
        {
            next.extend(&view.depends);
        }
    }
    false
}

/// Spells out `*`, so that columns which are added later are not the view's.
fn expand(context: &Context<'_>, query: &mut Query) -> Result<()> {
    let with = query.with.clone();
    expand_set(context, &with, &mut query.body)
}

fn expand_set(context: &Context<'_>, with: &Option<ast::With>, body: &mut SetExpr) -> Result<()> {
    match body {
        SetExpr::Select(select) => expand_select(context, with, select),
        SetExpr::Query(query) => expand(context, query),
        SetExpr::SetOperation { left, right, .. } => {
            expand_set(context, with, left)?;
            expand_set(context, with, right)
        }
        _ => Ok(()),
    }
}

fn expand_select(context: &Context<'_>, with: &Option<ast::With>, select: &mut Select) -> Result<()> {
    let is_star = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    if !select.projection.iter().any(is_star) {
        return Ok(());
    }
    let mut items = Vec::with_capacity(select.projection.len());
    for item in std::mem::take(&mut select.projection) {
        if !is_star(&item) {
            items.push(item);
            continue;
        }
        // What the star stands for here is what the query of it alone gives.
        let mut alone = select.clone();
        alone.projection = vec![item.clone()];
        alone.group_by = ast::GroupByExpr::Expressions(Vec::new(), Vec::new());
        (alone.having, alone.distinct, alone.selection) = (None, None, None);
        let query = Query {
            with: with.clone(),
            body: Box::new(SetExpr::Select(Box::new(alone))),
            ..*expressions::query("SELECT 1")?
        };
        let plan = prepared::plan_with(context, Statement::Query(Box::new(query)))?;
        let of = match &item {
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                name.0.last().and_then(|part| part.as_ident()).map(fold)
            }
            _ => None,
        };
        for Column { relation, name, .. } in plan.schema().columns() {
            let of = of
                .clone()
                .or_else(|| relation.map(|relation| relation.table().to_owned()));
            let parts = of
                .into_iter()
                .chain([name])
                .map(|part| ast::Ident::with_quote('"', part));
            let parts: Vec<ast::Ident> = parts.collect();
            items.push(SelectItem::UnnamedExpr(match parts.as_slice() {
                [only] => ast::Expr::Identifier(only.clone()),
                _ => ast::Expr::CompoundIdentifier(parts),
            }));
        }
    }
    select.projection = items;
    Ok(())
}
