//! CREATE, ALTER and DROP POLICY.

use datafusion::sql::sqlparser::ast::Expr;

use super::{
    ddl::{CreatePolicy, Name, Who},
    definitions::Change,
    expressions::Place,
    rights,
};
use crate::{
    error::{Code, Error, Result},
    table::schema::{PolicyCommand, PolicyDef, TableDef},
};

fn missing(name: &str, table: &TableDef) -> Error {
    let text = format!("policy \"{name}\" for table \"{}\" does not exist", table.name);
    Error::new(Code::UndefinedObject, text)
}

impl Change<'_> {
    /// CREATE POLICY.
    pub(super) fn create_policy(&mut self, stmt: &CreatePolicy) -> Result<()> {
        let mut table = TableDef::clone(&*self.owned_table(&stmt.table)?);
        if table.policies.iter().any(|policy| policy.name == stmt.name) {
            let text = format!("policy \"{}\" for table \"{}\" already exists", stmt.name, table.name);
            return Err(Error::new(Code::DuplicateObject, text));
        }
        check_shape(stmt.command, stmt.using.is_some(), stmt.check.is_some())?;
        let policy = PolicyDef {
            oid: self.oid(),
            name: stmt.name.clone(),
            permissive: stmt.permissive,
            command: stmt.command,
            roles: self.policy_roles(&stmt.roles)?,
            using: self.policy_text(&table, stmt.using.as_ref())?,
            check: self.policy_text(&table, stmt.check.as_ref())?,
        };
        table.policies.push(policy);
        self.put_table(table);
        Ok(())
    }

    /// ALTER POLICY.
    pub(super) fn alter_policy(
        &mut self,
        name: &str,
        table: &Name,
        rename: Option<&str>,
        roles: Option<&[Who]>,
        using: Option<&Expr>,
        check: Option<&Expr>,
    ) -> Result<()> {
        let mut table = TableDef::clone(&*self.owned_table(table)?);
        let using = self.policy_text(&table, using)?;
        let check = self.policy_text(&table, check)?;
        let roles = roles.map(|roles| self.policy_roles(roles)).transpose()?;
        if let Some(to) = rename
            && table.policies.iter().any(|policy| policy.name == to)
        {
            let text = format!("policy \"{to}\" for table \"{}\" already exists", table.name);
            return Err(Error::new(Code::DuplicateObject, text));
        }
        let error = missing(name, &table);
        let Some(policy) = table.policies.iter_mut().find(|policy| policy.name == name) else {
            return Err(error);
        };
        check_shape(policy.command, using.is_some(), check.is_some())?;
        if let Some(to) = rename {
            to.clone_into(&mut policy.name);
        }
        if let Some(roles) = roles {
            policy.roles = roles;
        }
        policy.using = using.or(policy.using.take());
        policy.check = check.or(policy.check.take());
        self.put_table(table);
        Ok(())
    }

    /// DROP POLICY.
    pub(super) fn drop_policy(&mut self, name: &str, table: &Name, if_exists: bool) -> Result<()> {
        if if_exists && self.find(table)?.is_none() {
            self.notice("00000", format!("relation \"{table}\" does not exist, skipping"));
            return Ok(());
        }
        let mut table = TableDef::clone(&*self.owned_table(table)?);
        let before = table.policies.len();
        table.policies.retain(|policy| policy.name != name);
        if table.policies.len() == before {
            let error = missing(name, &table);
            if if_exists {
                self.notice("00000", format!("{}, skipping", error.message()));
                return Ok(());
            }
            return Err(error);
        }
        self.put_table(table);
        Ok(())
    }

    /// What is kept of TO. PUBLIC makes the others needless.
    fn policy_roles(&self, roles: &[Who]) -> Result<Vec<String>> {
        if roles.contains(&Who::Public) {
            if roles.len() > 1 {
                self.notice("01000", "ignoring specified roles other than PUBLIC");
            }
            return Ok(Vec::new());
        }
        roles.iter().map(|who| rights::kept(self.world, who)).collect()
    }

    /// A policy's condition as it is kept: with the relations that it reads named in full.
    fn policy_text(&self, table: &TableDef, expr: Option<&Expr>) -> Result<Option<String>> {
        let Some(expr) = expr else { return Ok(None) };
        let mut expr = expr.clone();
        self.qualify(&mut expr);
        self.check_expression(table, &expr, Place::Policy)?;
        Ok(Some(expr.to_string()))
    }
}

fn check_shape(command: PolicyCommand, using: bool, check: bool) -> Result<()> {
    match command {
        PolicyCommand::Select | PolicyCommand::Delete if check => Err(Error::new(
            Code::Syntax,
            "WITH CHECK cannot be applied to SELECT or DELETE",
        )),
        PolicyCommand::Insert if using => Err(Error::new(
            Code::Syntax,
            "only WITH CHECK expression allowed for INSERT",
        )),
        _ => Ok(()),
    }
}
