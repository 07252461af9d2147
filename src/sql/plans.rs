//! Plans that a session keeps of texts that come again.
//!
//! A plan belongs to a text, to the search path and to the user it was made for, and is used while what exists is what
//! it was made for ([`Session::is_current`]), as that of a prepared statement is. Of a text with values in it the plan
//! is that of its shape ([`super::lift`]), made when the shape comes a second time.

use std::{collections::HashMap, sync::Arc};

use datafusion::sql::sqlparser::ast::Statement;

use super::{
    guard::{Kind, Parsed},
    lift::{self, Constant},
    prepared::{Plan, Prepared},
    session::{Column, Session},
    world::World,
};
use crate::{
    codec::pgtype::PgType,
    error::{Code, Error, Result},
    limits,
};

/// How often a shape comes before a plan is made for it. Tests take every shape through it.
const SIGHTS: usize = if cfg!(debug_assertions) { 1 } else { 2 };

/// The plans of one session.
#[derive(Default)]
pub(super) struct Plans {
    known: HashMap<String, Known>,
    uses: u64,
}

struct Known {
    used: u64,
    shape: Shape,
}

#[derive(Clone)]
enum Shape {
    /// Came once, and gave these columns.
    Seen(Vec<Column>),
    Ready(Arc<Prepared>),
    /// Means something else with parameters than with its constants.
    Unfit,
}

impl Plans {
    fn get(&mut self, key: &str) -> Option<Shape> {
        let known = self.known.get_mut(key)?;
        self.uses += 1;
        known.used = self.uses;
        Some(known.shape.clone())
    }

    fn put(&mut self, key: String, shape: Shape) {
        if key.len() > limits::PLAN_TEXT_BYTES {
            return;
        }
        if self.known.len() >= limits::SESSION_PLANS && !self.known.contains_key(&key) {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.known.remove(&oldest);
            }
        }
        self.uses += 1;
        let used = self.uses;
        self.known.insert(key, Known { used, shape });
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
    }
}

impl Session {
    /// Plans the one statement of a text, for a client that gives its parameters later.
    ///
    /// # Errors
    /// 42601 for several statements, and whatever is wrong with the one.
    pub async fn prepare_text(&mut self, sql: &str, types: &[Option<PgType>]) -> Result<Arc<Prepared>> {
        self.check_alive()?;
        let key = (sql.len() <= limits::PLAN_TEXT_BYTES).then(|| self.key(&format!("{types:?}{sql}")));
        if let Some(key) = &key
            && let Some(Shape::Ready(prepared)) = self.plans.get(key)
        {
            self.check_not_failed(&prepared.parsed)?;
            self.trail_clear();
            self.look().await?;
            if self.is_current(&prepared)? {
                // Another one: clients close each by itself.
                return Ok(Arc::new(Prepared::clone(&prepared)));
            }
        }
        let mut statements = self.parse(sql)?;
        let prepared = match (statements.pop(), statements.is_empty()) {
            (None, _) => return Ok(Prepared::empty()),
            (Some(statement), true) => self.prepare(&statement, types).await?,
            _ => {
                let message = "cannot insert multiple commands into a prepared statement";
                return Err(Error::new(Code::Syntax, message));
            }
        };
        if let Some(key) = key.filter(|_| is_kept(&prepared)) {
            self.plans.put(key, Shape::Ready(prepared.clone()));
        }
        Ok(prepared)
    }

    /// Plans a statement that has its values in it; with the constants that are the values of its parameters, if they
    /// were taken out of it.
    ///
    /// # Errors
    /// Whatever is wrong with the statement.
    pub async fn prepare_lifted(&mut self, parsed: &Parsed) -> Result<(Arc<Prepared>, Vec<Constant>)> {
        let lifted = match &parsed.kind {
            Kind::Sql(statement) => lift::lift(statement),
            _ => None,
        };
        let Some((statement, constants)) = lifted else {
            return Ok((self.prepare(parsed, &[]).await?, Vec::new()));
        };
        self.check_alive()?;
        self.check_not_failed(parsed)?;
        self.trail_clear();
        self.look().await?;
        let key = self.key(&statement.to_string());
        let columns = match self.plans.get(&key) {
            Some(Shape::Ready(prepared)) if self.is_current(&prepared)? => {
                return match fit(&constants, &prepared) {
                    true => {
                        let mut prepared = Prepared::clone(&prepared);
                        prepared.parsed.text.clone_from(&parsed.text);
                        Ok((Arc::new(prepared), constants))
                    }
                    false => Ok((self.planned(parsed)?, Vec::new())),
                };
            }
            Some(Shape::Unfit) => return Ok((self.planned(parsed)?, Vec::new())),
            Some(Shape::Seen(columns)) => columns,
            Some(Shape::Ready(_)) | None => {
                let prepared = self.planned(parsed)?;
                if !is_kept(&prepared) {
                    return Ok((prepared, Vec::new()));
                }
                self.plans.put(key.clone(), Shape::Seen(prepared.columns.clone()));
                if SIGHTS > 1 {
                    return Ok((prepared, Vec::new()));
                }
                prepared.columns.clone()
            }
        };
        let shape = self.shaped(statement, parsed, &constants, &columns);
        let unfit = shape.is_none();
        self.plans.put(key, shape.clone().map_or(Shape::Unfit, Shape::Ready));
        match shape {
            Some(prepared) if !unfit && fit(&constants, &prepared) => Ok((prepared, constants)),
            _ => Ok((self.planned(parsed)?, Vec::new())),
        }
    }

    /// The plan of a statement without its constants, if it gives the same columns as with them.
    fn shaped(
        &self,
        statement: Statement,
        parsed: &Parsed,
        constants: &[Constant],
        columns: &[Column],
    ) -> Option<Arc<Prepared>> {
        let lifted = Parsed {
            kind: Kind::Sql(Box::new(statement)),
            text: parsed.text.clone(),
        };
        let prepared = self.plan(&lifted, &[]).ok()?;
        let types = &prepared.parameters;
        let same = types.len() == constants.len()
            && constants.iter().zip(types).all(|(constant, of)| constant.may_be(*of))
            && prepared.columns == columns
            && is_kept(&prepared);
        same.then(|| Arc::new(prepared))
    }

    fn planned(&self, parsed: &Parsed) -> Result<Arc<Prepared>> {
        let planned = self.plan(parsed, &[]);
        Ok(Arc::new(
            planned.inspect_err(|error| self.trail_unplanned(parsed, error))?,
        ))
    }

    /// Under what the plan of a text is kept.
    fn key(&self, text: &str) -> String {
        let user = match &*self.world {
            World::Tenant(world) => world.acting_user(),
            World::Operator(_) => String::new(),
        };
        format!("{user}\0{:?}\0{text}", self.settings.lock().path())
    }
}

/// Whether each constant is a value of its parameter.
fn fit(constants: &[Constant], prepared: &Prepared) -> bool {
    let types = &prepared.parameters;
    constants.len() == types.len() && constants.iter().zip(types).all(|(constant, of)| constant.fits(*of))
}

/// Whether the plan of a text is worth keeping, and means the same at its next run.
fn is_kept(prepared: &Prepared) -> bool {
    match &prepared.plan {
        Plan::Query(query) => !query.effect,
        Plan::TableWrite(_) | Plan::Locking(_) => true,
        Plan::Write(_) | Plan::Chain(_) | Plan::Command => false,
    }
}
