//! EXPLAIN in PostgreSQL's shape.
//!
//! The plan is DataFusion's; [`plan`] says it in PostgreSQL's words and [`print`] writes it as text or JSON. Costs
//! and row counts of a plan are rules of thumb over its shape alone: nothing of what is stored goes into them, so
//! that they tell nothing of rows that somebody may not see.

mod expression;
mod plan;
mod print;

use std::{sync::Arc, time::Instant};

use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch, StringArray},
        datatypes::Schema,
    },
    physical_plan::{ExecutionPlan, placeholder_row::PlaceholderRowExec},
    sql::sqlparser::ast::{AnalyzeFormat, AnalyzeFormatKind, Expr, Statement, UtilityOption, Value},
};
use futures::StreamExt;

use super::{
    guard::{Kind, Parsed},
    prepared::{Plan, Prepared},
    session::{Answer, Column, RowTag, Session},
};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error, Result},
};
use plan::Node;

/// How EXPLAIN answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Format {
    #[default]
    Text,
    Json,
}

/// What EXPLAIN is asked for.
#[derive(Clone, Copy, Debug)]
struct Options {
    format: Format,
    analyze: bool,
    verbose: bool,
    costs: bool,
    timing: bool,
    summary: bool,
}

/// Milliseconds of a plan's making and running.
struct Times {
    planning: f64,
    execution: Option<f64>,
}

fn boolean(option: &UtilityOption) -> Result<bool> {
    let word = match &option.arg {
        None => return Ok(true),
        Some(Expr::Identifier(word)) => word.value.to_lowercase(),
        Some(Expr::Value(value)) => match &value.value {
            Value::Boolean(b) => b.to_string(),
            Value::Number(number, _) => number.to_string(),
            other => other.clone().into_string().unwrap_or_default().to_lowercase(),
        },
        Some(_) => String::new(),
    };
    match word.as_str() {
        "true" | "on" | "1" => Ok(true),
        "false" | "off" | "0" => Ok(false),
        _ => Err(Error::new(
            Code::Syntax,
            format!("{} requires a Boolean value", option.name.value.to_lowercase()),
        )),
    }
}

fn format_of(word: &str) -> Result<Format> {
    match word.to_lowercase().as_str() {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        "xml" | "yaml" => Err(Error::new(
            Code::Unsupported,
            format!("EXPLAIN in the format {} is not supported", word.to_lowercase()),
        )
        .with_hint("formats are TEXT and JSON")),
        _ => Err(Error::new(
            Code::InvalidParameterValue,
            format!("unrecognized value for EXPLAIN option \"format\": \"{word}\""),
        )),
    }
}

impl Options {
    /// The options of an EXPLAIN.
    fn of(statement: &Statement) -> Result<Self> {
        let Statement::Explain {
            analyze,
            verbose,
            format,
            options,
            ..
        } = statement
        else {
            return Err(Error::internal("not an EXPLAIN"));
        };
        let mut all = Self {
            format: Format::Text,
            analyze: *analyze,
            verbose: *verbose,
            costs: true,
            timing: true,
            summary: *analyze,
        };
        match format {
            None => {}
            Some(AnalyzeFormatKind::Keyword(format) | AnalyzeFormatKind::Assignment(format)) => {
                all.format = match format {
                    AnalyzeFormat::TEXT => Format::Text,
                    AnalyzeFormat::JSON => Format::Json,
                    other => format_of(&other.to_string())?,
                };
            }
        }
        let (mut timing, mut summary) = (None, None);
        for option in options.iter().flatten() {
            match option.name.value.to_lowercase().as_str() {
                "analyze" => all.analyze = boolean(option)?,
                "verbose" => all.verbose = boolean(option)?,
                "costs" => all.costs = boolean(option)?,
                "timing" => timing = Some(boolean(option)?),
                "summary" => summary = Some(boolean(option)?),
                "wal" if boolean(option)? && !all.analyze => {
                    let message = "EXPLAIN option WAL requires ANALYZE";
                    return Err(Error::new(Code::InvalidParameterValue, message));
                }
                // There are no buffers, settings and log of PostgreSQL's kind to tell of.
                "buffers" | "settings" | "generic_plan" | "wal" => {
                    boolean(option)?;
                }
                "format" => {
                    let word = match &option.arg {
                        Some(Expr::Identifier(word)) => word.value.clone(),
                        Some(Expr::Value(value)) => value.value.clone().into_string().unwrap_or_default(),
                        _ => String::new(),
                    };
                    all.format = format_of(&word)?;
                }
                other => {
                    let message = format!("unrecognized EXPLAIN option \"{other}\"");
                    return Err(Error::new(Code::Syntax, message));
                }
            }
        }
        if timing == Some(true) && !all.analyze {
            let message = "EXPLAIN option TIMING requires ANALYZE";
            return Err(Error::new(Code::InvalidParameterValue, message));
        }
        all.timing = timing.unwrap_or(true) && all.analyze;
        all.summary = summary.unwrap_or(all.analyze);
        Ok(all)
    }

    fn column(&self) -> Column {
        Column {
            name: "QUERY PLAN".to_owned(),
            pg_type: match self.format {
                Format::Text => PgType::TEXT,
                Format::Json => PgType::Scalar(Scalar::Json),
            },
            type_modifier: -1,
            origin: None,
        }
    }
}

/// The column that an EXPLAIN will give.
pub(super) fn explain_column(statement: &Statement) -> Result<Column> {
    Ok(Options::of(statement)?.column())
}

impl Session {
    /// `EXPLAIN`, with all of its options.
    pub(super) async fn explain(&mut self, explain: &Statement) -> Result<Answer> {
        let options = Options::of(explain)?;
        let Statement::Explain { statement, .. } = explain else {
            return Err(Error::internal("not an EXPLAIN"));
        };
        let begun = Instant::now();
        let (prepared, params) = match &**statement {
            Statement::Execute { name, parameters, .. } => {
                let prepared = self.named(name.as_ref())?;
                let params = self.constants(parameters, &prepared.parameters).await?;
                (prepared, params)
            }
            statement => {
                let parsed = Parsed {
                    text: String::new(),
                    kind: Kind::Sql(Box::new(statement.clone())),
                };
                let prepared = Arc::new(self.plan(&parsed, &[])?);
                if !prepared.parameters.is_empty() {
                    return Err(Error::new(Code::UndefinedParameter, "there is no parameter $1"));
                }
                (prepared, Vec::new())
            }
        };
        let (node, physical, execution) = match &prepared.plan {
            Plan::Query(query) => {
                let physical = self.physical(query, &params).await?;
                match options.analyze {
                    false => (Node::of(&physical, options.verbose), Some(physical), None),
                    true => {
                        let started = Instant::now();
                        let rows = self.analyze(&physical, query.effect, query.alone).await?;
                        let elapsed = started.elapsed();
                        let node = Node::of(&physical, options.verbose).measured(&physical, rows, elapsed);
                        (node, None, Some(elapsed))
                    }
                }
            }
            Plan::Write(write) => {
                let (verb, relation) = write.verb();
                let physical = self.physical_of(write.input(), true).await?;
                let mut node = Node::write(verb, relation, Node::of(&physical, options.verbose));
                let mut execution = None;
                if options.analyze {
                    let started = Instant::now();
                    self.drain(&prepared, &params).await?;
                    let elapsed = started.elapsed();
                    node.actual(elapsed, 0);
                    execution = Some(elapsed);
                }
                (node, Some(physical).filter(|_| !options.analyze), execution)
            }
            Plan::TableWrite(write) => {
                let (verb, relation) = write.verb();
                let physical = match write.input() {
                    Some((plan, optimized)) => self.physical_of(plan, optimized).await?,
                    None => Arc::new(PlaceholderRowExec::new(Arc::new(Schema::empty()))),
                };
                let mut node = Node::write(verb, relation, Node::of(&physical, options.verbose));
                let mut execution = None;
                if options.analyze {
                    let started = Instant::now();
                    self.drain(&prepared, &params).await?;
                    let elapsed = started.elapsed();
                    node.actual(elapsed, 0);
                    execution = Some(elapsed);
                }
                (node, Some(physical).filter(|_| !options.analyze), execution)
            }
            Plan::Locking(query) => {
                let (plan, optimized) = query.input();
                let physical = self.physical_of(plan, optimized).await?;
                let node = Node::of(&physical, options.verbose);
                (node, Some(physical), None)
            }
            Plan::Chain(_) | Plan::Command => {
                return Err(Error::new(
                    Code::Unsupported,
                    "EXPLAIN of this statement is not supported",
                ));
            }
        };
        let notes = match &physical {
            Some(physical) => self.model_calls(physical).await?,
            None => Vec::new(),
        };
        let millis = |elapsed: std::time::Duration| elapsed.as_secs_f64() * 1_000.0;
        let times = Times {
            planning: millis(begun.elapsed()) - execution.map_or(0.0, millis),
            execution: execution.map(millis),
        };
        let lines = match options.format {
            Format::Text => print::text(&node, options, &times, &notes),
            Format::Json => vec![print::json(&node, options, &times, &notes)],
        };
        answer(&options, lines)
    }

    /// Runs a plan for what it takes; gives the number of its rows.
    async fn analyze(&mut self, physical: &Arc<dyn ExecutionPlan>, effect: bool, alone: bool) -> Result<u64> {
        if alone {
            let error = Error::new(Code::Unsupported, "EXPLAIN ANALYZE of this function is not supported");
            return Err(error.with_hint("call it, or leave out ANALYZE"));
        }
        let mut stream = self.stream(physical.clone())?;
        let mut rows = 0;
        while let Some(batch) = stream.next().await {
            rows += batch?.num_rows() as u64;
        }
        drop(stream);
        if effect && self.is_idle() {
            self.commit().await?;
        }
        Ok(rows)
    }

    /// Runs a prepared statement to its end.
    async fn drain(&mut self, prepared: &Arc<Prepared>, params: &[ArrayRef]) -> Result<()> {
        if let Answer::Rows { mut rows, .. } = Box::pin(self.run(prepared, params)).await? {
            while let Some(batch) = rows.next().await {
                batch?;
            }
        }
        Ok(())
    }
}

fn answer(options: &Options, lines: Vec<String>) -> Result<Answer> {
    let column = options.column();
    let schema = Arc::new(Schema::new(vec![column.pg_type.field(&column.name, true)]));
    let array: ArrayRef = Arc::new(StringArray::from(lines));
    let batch = RecordBatch::try_new(schema, vec![array]).map_err(Error::internal)?;
    Ok(Answer::Rows {
        columns: vec![column],
        rows: Box::pin(futures::stream::iter([Ok(batch)])),
        tag: RowTag("EXPLAIN"),
    })
}
