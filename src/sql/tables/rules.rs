//! What a table asks of its rows, planned once for a definition of it: defaults, generated columns, checks.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, RecordBatch},
        datatypes::{DataType, Field, Schema, SchemaRef},
        util::display::{ArrayFormatter, FormatOptions},
    },
    common::{DFSchema, DFSchemaRef},
    logical_expr::{Expr, ExprSchemable},
    sql::sqlparser::ast::{Expr as SqlExpr, SelectItem},
};

use super::{
    assign::{self, From},
    compute::{Compute, no_columns},
    pieces::{self, Pieces, from_named},
    security,
};
use crate::{
    codec::pgtype::PgType,
    error::{Code, Error, Result},
    sql::{complaints::from_datafusion, session::Session},
    table::schema::{ColumnDef, IndexDef, KeyOf, Oid, TableDef},
};

/// See the module.
pub(in crate::sql) struct Rules {
    pub(in crate::sql) def: Arc<TableDef>,
    /// All columns in order.
    pub(in crate::sql) schema: SchemaRef,
    defaults: Vec<Default>,
    /// Columns by place, computed of the others.
    generated: Vec<(usize, From)>,
    generate: Compute,
    checks: Compute,
    /// Unique indexes whose keys are computed, or that are of some rows only: their keys, then whether a row is one.
    pub(super) computed: Vec<(Oid, Compute)>,
}

enum Default {
    Null,
    /// The next number of a sequence.
    Next(Oid),
    /// Constants are computed of no column.
    Value(Compute, From),
}

/// Where the values of a planned expression come from, as far as a column cares.
pub(in crate::sql) fn origin(sql: &SqlExpr, planned: &Expr, schema: &DFSchema) -> Result<From> {
    if pieces::is_unknown(sql) {
        return Ok(From::Unknown);
    }
    let (_, field) = planned.to_field(schema).map_err(from_datafusion)?;
    // A parameter stands for a value of its column's type.
    Ok(match field.data_type() {
        DataType::Null => From::Unknown,
        _ => From::Typed(PgType::of(&field)),
    })
}

/// A table's columns under its name.
pub(in crate::sql) fn qualified(def: &TableDef, alias: &str) -> Result<DFSchemaRef> {
    let schema = DFSchema::try_from_qualified_schema(alias, &def.arrow()).map_err(from_datafusion)?;
    Ok(Arc::new(schema))
}

impl Rules {
    fn new(session: &Session, def: &Arc<TableDef>) -> Result<Self> {
        let schema = def.arrow();
        let empty = Arc::new(DFSchema::empty());
        let mut defaults = Vec::with_capacity(def.columns.len());
        for column in &def.columns {
            defaults.push(default_of(session, column, &empty)?);
        }
        let over = qualified(def, &def.name)?;
        let mut generated = Vec::new();
        let mut texts = Vec::new();
        for (place, column) in def.columns.iter().enumerate() {
            if let Some(text) = &column.generated {
                generated.push(place);
                texts.push(pieces::parse_expression(text)?);
            }
        }
        let exprs = plan_over(session, def, texts.clone())?;
        let generated = generated
            .into_iter()
            .zip(texts.iter().zip(&exprs))
            .map(|(place, (sql, expr))| Ok((place, origin(sql, expr, &over)?)))
            .collect::<Result<_>>()?;
        let generate = Compute::new(&session.state, exprs, &over, &[])?;
        let texts = def.checks.iter().map(|c| pieces::parse_expression(&c.condition));
        let exprs = plan_over(session, def, texts.collect::<Result<_>>()?)?;
        let checks = Compute::new(&session.state, exprs, &over, &[])?;
        let mut computed = Vec::new();
        for index in def.indexes.iter().filter(|i| i.unique && is_computed(i)) {
            let key = |key: &KeyOf| match key {
                KeyOf::Column(id) => def
                    .column_of(*id)
                    .map(|column| SqlExpr::Identifier(pieces::quoted(&column.name)))
                    .ok_or_else(|| Error::internal("an index names a column that is gone")),
                KeyOf::Expression(text) => pieces::parse_expression(text),
            };
            let mut texts = index.keys.iter().map(|k| key(&k.key)).collect::<Result<Vec<_>>>()?;
            texts.push(pieces::parse_expression(index.predicate.as_deref().unwrap_or("TRUE"))?);
            let exprs = plan_over(session, def, texts)?;
            computed.push((index.oid, Compute::new(&session.state, exprs, &over, &[])?));
        }
        Ok(Self {
            def: def.clone(),
            schema,
            defaults,
            generated,
            generate,
            checks,
            computed,
        })
    }

    /// So many default values of a column.
    ///
    /// # Errors
    /// Those of the expression and of the cast.
    pub(in crate::sql) async fn default(&self, session: &Session, place: usize, rows: usize) -> Result<ArrayRef> {
        let column = &self.def.columns[place];
        let values = match &self.defaults[place] {
            Default::Null => {
                return Ok(datafusion::arrow::array::new_null_array(
                    self.schema.field(place).data_type(),
                    rows,
                ));
            }
            Default::Next(sequence) => {
                let values = session.next_values(*sequence, rows).await?;
                return assign::assign(&values, From::Typed(crate::codec::pgtype::Scalar::Int8.into()), column);
            }
            Default::Value(compute, from) => (compute.run(session, &no_columns(rows), &[]).await?, *from),
        };
        match values {
            (values, from) if values.len() == 1 => assign::assign(&values[0], from, column),
            _ => Err(Error::internal("a default is no single value")),
        }
    }

    /// Fills in the columns that are computed of the others.
    ///
    /// # Errors
    /// Those of the expressions and casts.
    pub(in crate::sql) async fn generate(&self, session: &Session, rows: RecordBatch) -> Result<RecordBatch> {
        if self.generated.is_empty() || rows.num_rows() == 0 {
            return Ok(rows);
        }
        let values = self.generate.run(session, &rows, &[]).await?;
        let mut columns = rows.columns().to_vec();
        for ((place, from), values) in self.generated.iter().zip(&values) {
            columns[*place] = assign::assign(values, *from, &self.def.columns[*place])?;
        }
        RecordBatch::try_new(self.schema.clone(), columns).map_err(Error::internal)
    }

    /// Refuses rows that lack what a column must have or break a CHECK.
    ///
    /// # Errors
    /// 23502, 23514 and those of the conditions.
    pub(in crate::sql) async fn check(&self, session: &Session, rows: &RecordBatch) -> Result<()> {
        let def = &self.def;
        for (column, values) in def.columns.iter().zip(rows.columns()) {
            if column.not_null && values.null_count() > 0 {
                let at = (0..values.len()).find(|&at| values.is_null(at)).unwrap_or(0);
                let text = format!(
                    "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                    column.name, def.name
                );
                let error = Error::new(Code::NotNull, text)
                    .with_table(&def.schema, &def.name)
                    .with_column(&column.name);
                return Err(self.with_row(session, error, rows, at)?);
            }
        }
        if self.checks.len() == 0 || rows.num_rows() == 0 {
            return Ok(());
        }
        let verdicts = self.checks.run(session, rows, &[]).await?;
        for (check, verdict) in def.checks.iter().zip(&verdicts) {
            // NULL is no violation.
            let broken = verdict
                .as_boolean_opt()
                .and_then(|v| v.iter().position(|v| v == Some(false)));
            if let Some(at) = broken {
                let text = format!(
                    "new row for relation \"{}\" violates check constraint \"{}\"",
                    def.name, check.name
                );
                let error = Error::new(Code::CheckViolation, text)
                    .with_table(&def.schema, &def.name)
                    .with_constraint(&check.name);
                return Err(self.with_row(session, error, rows, at)?);
            }
        }
        Ok(())
    }

    /// The error with the row that it is about, where the session's user may see that.
    fn with_row(&self, session: &Session, error: Error, rows: &RecordBatch, at: usize) -> Result<Error> {
        Ok(match security::may_show(session.world.tenant()?, &self.def) {
            true => error.with_detail(failing_row(rows, at)?),
            false => error,
        })
    }
}

/// Whether an index is not just over columns of all rows.
pub(super) fn is_computed(index: &IndexDef) -> bool {
    index.predicate.is_some() || index.keys.iter().any(|key| matches!(key.key, KeyOf::Expression(_)))
}

fn default_of(session: &Session, column: &ColumnDef, empty: &DFSchemaRef) -> Result<Default> {
    let Some(text) = &column.default else {
        return Ok(match (column.identity, column.sequence) {
            (Some(_), Some(sequence)) => Default::Next(sequence),
            _ => Default::Null,
        });
    };
    if let Some(sequence) = column.sequence
        && text.trim_start().starts_with("nextval(")
    {
        return Ok(Default::Next(sequence));
    }
    let sql = pieces::parse_expression(text)?;
    let mut pieces = Pieces::new(session, &[]);
    let (mut exprs, _) = pieces.expressions(vec![pieces::item(sql.clone(), "v", 0)], Vec::new())?;
    let Some(expr) = exprs.pop() else {
        return Err(Error::internal("a default is no expression"));
    };
    let from = origin(&sql, &expr, empty)?;
    Ok(Default::Value(
        Compute::new(&session.state, vec![expr], empty, &[])?,
        from,
    ))
}

/// Expressions over a table's columns.
fn plan_over(session: &Session, def: &TableDef, texts: Vec<SqlExpr>) -> Result<Vec<Expr>> {
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let mut pieces = Pieces::new(session, &[]);
    let name = pieces.shape(def.arrow());
    let items: Vec<SelectItem> = texts
        .into_iter()
        .enumerate()
        .map(|(i, sql)| pieces::item(sql, "v", i))
        .collect();
    Ok(pieces.expressions(items, vec![from_named(&name, &def.name)])?.0)
}

impl Session {
    /// What a table asks of its rows, planned at first use of its definition.
    ///
    /// # Errors
    /// Those of planning.
    pub(in crate::sql) fn rules(&self, def: &Arc<TableDef>) -> Result<Arc<Rules>> {
        if let Some(known) = self.rules.lock().get(&def.oid)
            && Arc::ptr_eq(&known.def, def)
        {
            return Ok(known.clone());
        }
        let rules = Arc::new(Rules::new(self, def)?);
        let mut kept = self.rules.lock();
        if kept.len() >= crate::limits::SESSION_RULES {
            kept.clear();
        }
        kept.insert(def.oid, rules.clone());
        Ok(rules)
    }
}

/// `Failing row contains (1, null).`
fn failing_row(rows: &RecordBatch, at: usize) -> Result<String> {
    let values = rows
        .columns()
        .iter()
        .map(|column| shown(column, at))
        .collect::<Result<Vec<_>>>()?;
    Ok(format!("Failing row contains ({}).", values.join(", ")))
}

/// A value for a message: cut, as PostgreSQL cuts it.
pub(in crate::sql) fn shown(column: &ArrayRef, at: usize) -> Result<String> {
    const LONGEST: usize = 64;
    if column.is_null(at) {
        return Ok("null".to_owned());
    }
    if let Some(truth) = column.as_boolean_opt() {
        return Ok(if truth.value(at) { "t" } else { "f" }.to_owned());
    }
    let options = FormatOptions::default()
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f+00"));
    let formatter = ArrayFormatter::try_new(column, &options).map_err(Error::internal)?;
    let text = formatter.value(at).to_string();
    let end = text.char_indices().nth(LONGEST).map_or(text.len(), |(end, _)| end);
    Ok(match end < text.len() {
        true => format!("{}...", &text[..end]),
        false => text,
    })
}

/// Fields of a table's columns with that of the rows' numbers before.
pub(in crate::sql) fn with_rows(def: &TableDef, row_column: &str) -> SchemaRef {
    let rows = Field::new(row_column, DataType::UInt64, true);
    let columns = def.columns.iter().map(ColumnDef::field);
    Arc::new(Schema::new([rows].into_iter().chain(columns).collect::<Vec<_>>()))
}
