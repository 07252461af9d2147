//! Statements that are no query: settings, transactions, prepared statements, EXPLAIN.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch, StringArray},
        compute::{CastOptions, cast_with_options},
        datatypes::Schema,
        util::display::FormatOptions,
    },
    sql::sqlparser::ast::{
        self, ContextModifier, DiscardObject, Expr, Ident, Reset, Set, Statement, TransactionAccessMode,
        TransactionIsolationLevel, TransactionMode, Value,
    },
};

use super::{
    guard::{self, Kind, Parsed},
    planner::last_part,
    prepared::{Plan, text_column},
    session::{Answer, Column, RowTag, Session, Status},
    settings,
    users::UserStatement,
    world::World,
};
use crate::{
    codec::pgtype::PgType,
    error::{Code, Error, Result},
};

impl Session {
    pub(super) async fn run_command(&mut self, statement: &Statement) -> Result<Answer> {
        match statement {
            Statement::Set(set) => self.run_set(set),
            Statement::Reset(reset) => {
                match &reset.reset {
                    Reset::ALL => self.reset_all(),
                    Reset::ConfigurationParameter(name) => self.reset(&full_name(name))?,
                }
                done("RESET")
            }
            Statement::ShowVariable { variable } => self.show(variable),
            Statement::StartTransaction {
                modes,
                statements,
                begin,
                ..
            } if statements.is_empty() => {
                match self.status {
                    Status::Open => self.notice("WARNING", "25001", "there is already a transaction in progress"),
                    _ => self.status = Status::Open,
                }
                self.set_modes(modes)?;
                done(match begin {
                    true => "BEGIN",
                    false => "START TRANSACTION",
                })
            }
            Statement::Commit { chain, .. } => self.end(true, *chain).await,
            Statement::Rollback { savepoint: None, chain } => self.end(false, *chain).await,
            Statement::Savepoint { name } => {
                self.in_transaction("SAVEPOINT")?;
                self.savepoint(&fold(name));
                self.set_mark(&fold(name));
                done("SAVEPOINT")
            }
            Statement::ReleaseSavepoint { name } => {
                self.in_transaction("RELEASE SAVEPOINT")?;
                self.savepoint_exists(name, self.with_tx(|tx| tx.release(&fold(name))))?;
                self.marks.release(&fold(name));
                done("RELEASE")
            }
            Statement::Rollback {
                savepoint: Some(name), ..
            } => {
                self.in_transaction("ROLLBACK TO SAVEPOINT")?;
                let found = self.rollback_to(&fold(name))?;
                self.savepoint_exists(name, found)?;
                self.roll_back_to_mark(&fold(name));
                self.status = Status::Open;
                done("ROLLBACK")
            }
            Statement::Explain { describe_alias, .. } => match describe_alias {
                ast::DescribeAlias::Explain => self.explain(statement).await,
                _ => Err(Error::new(
                    Code::Syntax,
                    format!("syntax error at or near \"{describe_alias}\""),
                )),
            },
            Statement::Prepare {
                name,
                data_types,
                statement,
            } => {
                let types = data_types
                    .iter()
                    .map(|t| {
                        super::pg::types::resolve(t)
                            .map(|(t, _)| Some(t))
                            .ok_or_else(|| Error::new(Code::UndefinedObject, format!("type \"{t}\" does not exist")))
                    })
                    .collect::<Result<Vec<Option<PgType>>>>()?;
                let parsed = Parsed {
                    text: guard::keepable(&statement.to_string()),
                    kind: Kind::Sql(statement.clone()),
                };
                let prepared = self.prepare(&parsed, &types).await?;
                self.keep_statement(&fold(name), prepared)?;
                done("PREPARE")
            }
            Statement::Execute {
                name,
                parameters,
                using,
                ..
            } if using.is_empty() => {
                let prepared = self.named(name.as_ref())?;
                let params = self.constants(parameters, &prepared.parameters).await?;
                Box::pin(self.run(&prepared, &params)).await
            }
            Statement::Deallocate { name, .. } => {
                if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("all") {
                    self.drop_all_statements();
                    return done("DEALLOCATE ALL");
                }
                match self.drop_statement(&fold(name)) {
                    true => done("DEALLOCATE"),
                    false => Err(Error::new(
                        Code::InvalidStatementName,
                        format!("prepared statement \"{}\" does not exist", name.value),
                    )),
                }
            }
            Statement::Discard { object_type } => {
                if matches!(object_type, DiscardObject::ALL) {
                    if self.status == Status::Open {
                        return Err(Error::new(
                            Code::ActiveTransaction,
                            "DISCARD ALL cannot run inside a transaction block",
                        ));
                    }
                    self.discard_all();
                    self.discard_temporary().await?;
                    return done("DISCARD ALL");
                }
                if matches!(object_type, DiscardObject::TEMP) {
                    self.discard_temporary().await?;
                }
                done(match object_type {
                    DiscardObject::PLANS => "DISCARD PLANS",
                    DiscardObject::SEQUENCES => "DISCARD SEQUENCES",
                    _ => "DISCARD TEMP",
                })
            }
            Statement::Truncate(truncate) => {
                self.truncate(truncate).await?;
                if self.status == Status::Idle {
                    self.commit().await?;
                }
                done("TRUNCATE TABLE")
            }
            _ => Err(Error::new(Code::Unsupported, "this statement is not supported")),
        }
    }

    pub(super) async fn run_user(&mut self, statement: &UserStatement) -> Result<Answer> {
        if self.status == Status::Open {
            return Err(Error::new(
                Code::ActiveTransaction,
                "users cannot be changed inside a transaction block",
            ));
        }
        match &*self.world {
            World::Tenant(world) => {
                if let UserStatement::Drop { names, .. } = statement {
                    world.check_owns_nothing(names).await?;
                }
                self.point_of_no_return();
                statement.run(world).await?;
                if statement.is_own_password(&world.user) {
                    self.admit_again()?;
                }
            }
            World::Operator(_) => return Err(UserStatement::refuse_operator()),
        }
        done(statement.tag())
    }

    async fn discard_temporary(&self) -> Result<()> {
        match &*self.world {
            World::Tenant(_) if self.status != Status::Idle => Err(Error::new(
                Code::ActiveTransaction,
                "temporary tables cannot be discarded inside a transaction block",
            )),
            World::Tenant(world) => world.discard_temporary().await,
            World::Operator(_) => Ok(()),
        }
    }

    fn run_set(&mut self, set: &Set) -> Result<Answer> {
        match set {
            Set::SingleAssignment {
                scope,
                hivevar: false,
                variable,
                values,
            } => {
                let value = values.iter().map(value_text).collect::<Result<Vec<_>>>()?.join(", ");
                self.set(
                    &full_name(variable),
                    &value,
                    matches!(scope, Some(ContextModifier::Local)),
                )?;
            }
            Set::SetTimeZone { local, value } => self.set("TimeZone", &value_text(value)?, *local)?,
            Set::SetNames { charset_name, .. } => self.set("client_encoding", &charset_name.value, false)?,
            Set::SetTransaction {
                modes,
                snapshot: None,
                session: true,
            } => {
                for (name, value) in mode_settings(modes) {
                    self.set(&format!("default_{name}"), value, false)?;
                }
            }
            Set::SetTransaction {
                modes,
                snapshot: None,
                session: false,
            } => match self.status {
                Status::Idle => self.notice(
                    "WARNING",
                    "25P01",
                    "SET TRANSACTION can only be used in transaction blocks",
                ),
                _ => self.set_modes(modes)?,
            },
            // Back to who logged in, which nobody can have left.
            Set::SetSessionAuthorization(ast::SetSessionAuthorizationParam {
                kind: ast::SetSessionAuthorizationParamKind::Default,
                ..
            }) => {}
            Set::SetRole { .. } | Set::SetSessionAuthorization(_) => {
                return Err(
                    Error::new(Code::InsufficientPrivilege, "a session keeps the user it logged in as")
                        .with_hint("log in as the other user"),
                );
            }
            _ => return Err(Error::new(Code::Unsupported, "this form of SET is not supported")),
        }
        done("SET")
    }

    fn show(&self, variable: &[Ident]) -> Result<Answer> {
        let name = shown_name(variable);
        let settings = self.settings.lock();
        if name == "all" {
            let all = settings::SETTINGS.iter();
            let (names, (values, about)): (Vec<_>, (Vec<_>, Vec<_>)) = all
                .map(|s| (s.name.to_owned(), (settings.get(s), s.description.to_owned())))
                .unzip();
            return texts(&["name", "setting", "description"], vec![names, values, about], "SHOW");
        }
        let setting = settings::find(&name)?;
        texts(&[setting.name], vec![vec![settings.get(setting)]], "SHOW")
    }

    async fn end(&mut self, commit: bool, chain: bool) -> Result<Answer> {
        if chain && !matches!(self.status, Status::Open | Status::Failed) {
            let word = if commit { "COMMIT" } else { "ROLLBACK" };
            return Err(Error::new(
                Code::NoActiveTransaction,
                format!("{word} AND CHAIN can only be used in transaction blocks"),
            ));
        }
        let modes = chain.then(|| self.modes());
        let answer = self.end_now(commit).await?;
        if let Some(modes) = modes {
            // The next one is as the one that ended.
            self.status = Status::Open;
            for (name, value) in modes {
                self.set(name, &value, true)?;
            }
        }
        Ok(answer)
    }

    async fn end_now(&mut self, commit: bool) -> Result<Answer> {
        let failed = self.status == Status::Failed;
        if matches!(self.status, Status::Idle) {
            self.notice("WARNING", "25P01", "there is no transaction in progress");
        }
        if commit && !failed {
            self.commit().await?;
            return done("COMMIT");
        }
        self.rollback();
        done("ROLLBACK")
    }

    fn in_transaction(&self, what: &str) -> Result<()> {
        match self.status {
            Status::Open | Status::Failed => Ok(()),
            Status::Idle | Status::Implicit => Err(Error::new(
                Code::NoActiveTransaction,
                format!("{what} can only be used in transaction blocks"),
            )),
        }
    }

    pub(super) fn with_tx<T: Default>(&self, change: impl FnOnce(&mut super::tx::Tx) -> T) -> T {
        match &*self.world {
            World::Tenant(world) => change(&mut world.tx.lock()),
            World::Operator(_) => T::default(),
        }
    }

    fn savepoint_exists(&self, name: &Ident, found: bool) -> Result<()> {
        match found || matches!(*self.world, World::Operator(_)) {
            true => Ok(()),
            false => Err(Error::new(
                Code::InvalidSavepoint,
                format!("savepoint \"{}\" does not exist", name.value),
            )),
        }
    }

    /// The constant arguments of EXECUTE, as arrays of the parameters' types.
    pub(super) async fn constants(&mut self, values: &[Expr], types: &[PgType]) -> Result<Vec<ArrayRef>> {
        if values.len() != types.len() {
            return Err(Error::new(
                Code::Syntax,
                format!(
                    "wrong number of parameters: expected {} parameters but got {}",
                    types.len(),
                    values.len()
                ),
            ));
        }
        let mut arrays = Vec::with_capacity(values.len());
        for (value, wanted) in values.iter().zip(types) {
            let text = format!("SELECT {value}");
            let parsed = guard::parse(&text)?;
            let [parsed] = parsed.as_slice() else {
                return Err(Error::new(Code::Syntax, "a parameter is no expression"));
            };
            let prepared = self.plan(parsed, &[])?;
            let Plan::Query(query) = &prepared.plan else {
                return Err(Error::new(Code::Syntax, "a parameter is no expression"));
            };
            let rows = super::run::gather(self.stream(self.physical(query, &[]).await?)?).await?;
            let row = rows
                .iter()
                .find(|b| b.num_rows() == 1)
                .ok_or_else(|| Error::new(Code::Syntax, "a parameter must be one value"))?;
            let input = row.column(0);
            // Text is read as the parameter's type is written.
            let array = match super::pg::casts::convert(input, *wanted, None) {
                Some(converted) => converted,
                None => cast_with_options(input, &wanted.arrow(), &STRICT).map_err(Into::into),
            };
            arrays.push(array.map_err(super::complaints::from_datafusion)?);
        }
        Ok(arrays)
    }
}

/// What cannot be cast is an error, not NULL.
const STRICT: CastOptions<'static> = CastOptions {
    safe: false,
    format_options: FormatOptions::new(),
};

fn done(tag: &str) -> Result<Answer> {
    Ok(Answer::Done { tag: tag.to_owned() })
}

/// An answer of text columns.
fn texts(names: &[&str], columns: Vec<Vec<String>>, tag: &'static str) -> Result<Answer> {
    let fields: Vec<_> = names.iter().map(|n| PgType::TEXT.field(n, true)).collect();
    let arrays = columns
        .into_iter()
        .map(|c| Arc::new(StringArray::from(c)) as ArrayRef)
        .collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(Error::internal)?;
    Ok(Answer::Rows {
        columns: names.iter().map(|n| text_column(n)).collect(),
        rows: Box::pin(futures::stream::iter([Ok(batch)])),
        tag: RowTag(tag),
    })
}

/// The columns SHOW will give.
pub(super) fn show_columns(variable: &[Ident]) -> Vec<Column> {
    match shown_name(variable).as_str() {
        "all" => ["name", "setting", "description"].map(text_column).to_vec(),
        name => vec![text_column(settings::find(name).map_or(name, |s| s.name))],
    }
}

/// `SHOW TRANSACTION ISOLATION LEVEL` and `SHOW TIME ZONE` are old names of settings.
fn shown_name(variable: &[Ident]) -> String {
    let words: Vec<String> = variable.iter().map(|i| i.value.to_lowercase()).collect();
    match words.join(" ").as_str() {
        "transaction isolation level" => "transaction_isolation".to_owned(),
        "time zone" => "timezone".to_owned(),
        "session authorization" => "session_authorization".to_owned(),
        _ => words.join("."),
    }
}

fn full_name(name: &ast::ObjectName) -> String {
    match name.0.len() {
        1 => last_part(name),
        _ => name.to_string(),
    }
}

pub(super) fn fold(name: &Ident) -> String {
    if name.quote_style.is_some() {
        name.value.clone()
    } else {
        name.value.to_lowercase()
    }
}

/// A setting's value as text: a word, a string, a number or DEFAULT.
fn value_text(value: &Expr) -> Result<String> {
    match value {
        Expr::Identifier(ident) => Ok(ident.value.clone()),
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => Ok(number.to_string()),
            Value::Boolean(b) => Ok(if *b { "on" } else { "off" }.to_owned()),
            other => other
                .clone()
                .into_string()
                .ok_or_else(|| Error::new(Code::Syntax, "syntax error in the value of SET")),
        },
        Expr::UnaryOp {
            op: ast::UnaryOperator::Minus,
            expr,
        } => Ok(format!("-{}", value_text(expr)?)),
        _ => Err(Error::new(Code::Syntax, "syntax error in the value of SET")),
    }
}

/// The settings that the modes of a transaction are, with their values.
pub(super) fn mode_settings(modes: &[TransactionMode]) -> impl Iterator<Item = (&'static str, &'static str)> {
    modes.iter().map(|mode| match mode {
        TransactionMode::AccessMode(TransactionAccessMode::ReadOnly) => ("transaction_read_only", "on"),
        TransactionMode::AccessMode(TransactionAccessMode::ReadWrite) => ("transaction_read_only", "off"),
        TransactionMode::IsolationLevel(level) => (
            "transaction_isolation",
            match level {
                TransactionIsolationLevel::ReadUncommitted => "read uncommitted",
                TransactionIsolationLevel::ReadCommitted => "read committed",
                TransactionIsolationLevel::RepeatableRead => "repeatable read",
                // SNAPSHOT is another server's word for less; what is given is never less than what was asked.
                TransactionIsolationLevel::Serializable | TransactionIsolationLevel::Snapshot => "serializable",
            },
        ),
    })
}
