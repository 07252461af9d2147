//! Statements that change what exists, as far as they exist here: the result of [`super::parse`].
//!
//! Names are folded and cut to 63 bytes; expressions and queries are the parser's own.

use datafusion::sql::sqlparser::ast::{DataType, Expr, Query};

use crate::table::schema::{Identity, PolicyCommand, ReferentialAction};

/// A possibly qualified name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sql) struct Name {
    /// A database, which must be the session's own.
    pub(in crate::sql) database: Option<String>,
    pub(in crate::sql) schema: Option<String>,
    pub(in crate::sql) name: String,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// One statement.
#[derive(Clone, Debug)]
pub(in crate::sql) enum Ddl {
    CreateTable(CreateTable),
    CreateTableAs(CreateTableAs),
    AlterTable {
        name: Name,
        if_exists: bool,
        actions: Vec<Alter>,
    },
    CreateIndex(CreateIndex),
    CreateView(CreateView),
    CreateSequence {
        name: Name,
        if_not_exists: bool,
        temporary: bool,
        options: SequenceOptions,
    },
    AlterSequence {
        name: Name,
        if_exists: bool,
        options: SequenceOptions,
    },
    CreateSchema {
        name: Option<String>,
        owner: Option<Who>,
        if_not_exists: bool,
    },
    /// RENAME TO, SET SCHEMA and OWNER TO of what is no table.
    Alter {
        kind: Kind,
        name: Name,
        if_exists: bool,
        action: AlterAny,
    },
    Drop {
        kind: Kind,
        names: Vec<Name>,
        if_exists: bool,
        cascade: bool,
    },
    CreatePolicy(CreatePolicy),
    AlterPolicy {
        name: String,
        table: Name,
        rename: Option<String>,
        roles: Option<Vec<Who>>,
        using: Option<Expr>,
        check: Option<Expr>,
    },
    DropPolicy {
        name: String,
        table: Name,
        if_exists: bool,
    },
    Comment {
        on: CommentOn,
        text: Option<String>,
    },
    Grant(Grant),
    CreateExtension {
        name: String,
        if_not_exists: bool,
    },
    DropExtension {
        names: Vec<String>,
        if_exists: bool,
    },
    /// VACUUM, ANALYZE, REINDEX, CLUSTER: what they name must exist. Graphs of indexes are built anew by REINDEX;
    /// otherwise there is nothing to do.
    Maintain {
        tag: &'static str,
        kind: Kind,
        names: Vec<Name>,
    },
    Lock {
        names: Vec<Name>,
        mode: LockMode,
        nowait: bool,
    },
}

/// What a statement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sql) enum Kind {
    Table,
    View,
    Index,
    Sequence,
    Schema,
}

impl Kind {
    /// As PostgreSQL's messages call it.
    pub(in crate::sql) fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::View => "view",
            Self::Index => "index",
            Self::Sequence => "sequence",
            Self::Schema => "schema",
        }
    }

    /// As command tags call it.
    pub(in crate::sql) fn tag(self) -> &'static str {
        match self {
            Self::Table => "TABLE",
            Self::View => "VIEW",
            Self::Index => "INDEX",
            Self::Sequence => "SEQUENCE",
            Self::Schema => "SCHEMA",
        }
    }
}

/// A user or role as it is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sql) enum Who {
    Named(String),
    Public,
    CurrentUser,
}

/// `CREATE TABLE (...)`.
#[derive(Clone, Debug)]
pub(in crate::sql) struct CreateTable {
    pub(in crate::sql) name: Name,
    pub(in crate::sql) if_not_exists: bool,
    pub(in crate::sql) temporary: bool,
    /// ON COMMIT DROP.
    pub(in crate::sql) passing: bool,
    pub(in crate::sql) elements: Vec<Element>,
}

/// What stands between the brackets of a CREATE TABLE.
#[derive(Clone, Debug)]
pub(in crate::sql) enum Element {
    Column(Box<Column>),
    Constraint(Box<Constraint>),
    Like { table: Name, including: Including },
}

/// What LIKE copies beside names, types and NOT NULL.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::sql) struct Including {
    pub(in crate::sql) defaults: bool,
    pub(in crate::sql) constraints: bool,
    pub(in crate::sql) indexes: bool,
    pub(in crate::sql) identity: bool,
    pub(in crate::sql) generated: bool,
    pub(in crate::sql) comments: bool,
}

/// A column as declared.
#[derive(Clone, Debug)]
pub(in crate::sql) struct Column {
    pub(in crate::sql) name: String,
    pub(in crate::sql) data_type: DataType,
    pub(in crate::sql) not_null: Option<bool>,
    pub(in crate::sql) default: Option<Expr>,
    pub(in crate::sql) generated: Option<Expr>,
    pub(in crate::sql) identity: Option<(Identity, SequenceOptions)>,
    pub(in crate::sql) constraints: Vec<Constraint>,
}

/// A constraint of a table; one of a column names that column.
#[derive(Clone, Debug)]
pub(in crate::sql) struct Constraint {
    pub(in crate::sql) name: Option<String>,
    pub(in crate::sql) kind: ConstraintKind,
}

#[derive(Clone, Debug)]
pub(in crate::sql) enum ConstraintKind {
    /// PRIMARY KEY or UNIQUE.
    Key {
        primary: bool,
        nulls_not_distinct: bool,
        columns: Vec<String>,
    },
    /// ADD PRIMARY KEY or UNIQUE USING INDEX.
    UsingIndex {
        primary: bool,
        index: String,
    },
    Check(Expr),
    ForeignKey(ForeignKey),
}

/// REFERENCES.
#[derive(Clone, Debug)]
pub(in crate::sql) struct ForeignKey {
    pub(in crate::sql) columns: Vec<String>,
    pub(in crate::sql) table: Name,
    /// Empty: its primary key.
    pub(in crate::sql) referenced: Vec<String>,
    pub(in crate::sql) on_delete: ReferentialAction,
    pub(in crate::sql) on_update: ReferentialAction,
    pub(in crate::sql) deferrable: bool,
    pub(in crate::sql) deferred: bool,
}

/// `CREATE TABLE AS` and `SELECT INTO`.
#[derive(Clone, Debug)]
pub(in crate::sql) struct CreateTableAs {
    pub(in crate::sql) name: Name,
    pub(in crate::sql) if_not_exists: bool,
    pub(in crate::sql) temporary: bool,
    pub(in crate::sql) columns: Vec<String>,
    pub(in crate::sql) query: Box<Query>,
    pub(in crate::sql) with_data: bool,
    /// ON COMMIT DROP.
    pub(in crate::sql) passing: bool,
}

/// One action of ALTER TABLE.
#[derive(Clone, Debug)]
pub(in crate::sql) enum Alter {
    AddColumn {
        if_not_exists: bool,
        column: Box<Column>,
    },
    DropColumn {
        if_exists: bool,
        name: String,
        cascade: bool,
    },
    RenameColumn {
        from: String,
        to: String,
    },
    RenameTo(String),
    RenameConstraint {
        from: String,
        to: String,
    },
    SetSchema(String),
    OwnerTo(Who),
    SetDefault {
        column: String,
        value: Expr,
    },
    DropDefault(String),
    SetNotNull(String),
    DropNotNull(String),
    SetType {
        column: String,
        data_type: DataType,
        using: Option<Expr>,
    },
    AddIdentity {
        column: String,
        identity: Identity,
        options: SequenceOptions,
    },
    DropIdentity {
        column: String,
        if_exists: bool,
    },
    DropExpression {
        column: String,
        if_exists: bool,
    },
    AddConstraint(Constraint),
    DropConstraint {
        if_exists: bool,
        name: String,
        cascade: bool,
    },
    RowSecurity(bool),
    ForceRowSecurity(bool),
    /// Storage parameters and the like, which change nothing here; the column, if any, must exist.
    Nothing(Option<String>),
    /// VALIDATE CONSTRAINT: they always are.
    Validate(String),
}

/// See [`Ddl::Alter`].
#[derive(Clone, Debug)]
pub(in crate::sql) enum AlterAny {
    RenameTo(String),
    SetSchema(String),
    OwnerTo(Who),
    /// `SET (name = value, ...)` of an index.
    SetOptions(Vec<(String, String)>),
    /// `RESET (name, ...)` of an index.
    ResetOptions(Vec<String>),
    /// Options without an effect here.
    Nothing,
}

/// `CREATE INDEX`.
#[derive(Clone, Debug)]
pub(in crate::sql) struct CreateIndex {
    pub(in crate::sql) name: Option<String>,
    pub(in crate::sql) table: Name,
    pub(in crate::sql) if_not_exists: bool,
    pub(in crate::sql) concurrently: bool,
    pub(in crate::sql) unique: bool,
    pub(in crate::sql) method: String,
    pub(in crate::sql) keys: Vec<Key>,
    pub(in crate::sql) include: Vec<String>,
    pub(in crate::sql) nulls_not_distinct: bool,
    /// WITH: lower-case names.
    pub(in crate::sql) options: Vec<(String, String)>,
    pub(in crate::sql) predicate: Option<Expr>,
}

/// One key of a CREATE INDEX.
#[derive(Clone, Debug)]
pub(in crate::sql) struct Key {
    pub(in crate::sql) expr: Expr,
    pub(in crate::sql) operator_class: Option<String>,
    pub(in crate::sql) descending: bool,
    pub(in crate::sql) nulls_first: Option<bool>,
}

/// `CREATE VIEW`.
#[derive(Clone, Debug)]
pub(in crate::sql) struct CreateView {
    pub(in crate::sql) name: Name,
    pub(in crate::sql) or_replace: bool,
    pub(in crate::sql) temporary: bool,
    pub(in crate::sql) columns: Vec<String>,
    pub(in crate::sql) query: Box<Query>,
}

/// Options of sequences; `None` is what was not said. The inner `None` of a bound is `NO`.
#[derive(Clone, Debug, Default)]
pub(in crate::sql) struct SequenceOptions {
    pub(in crate::sql) data_type: Option<DataType>,
    pub(in crate::sql) start: Option<i64>,
    pub(in crate::sql) increment: Option<i64>,
    pub(in crate::sql) min: Option<Option<i64>>,
    pub(in crate::sql) max: Option<Option<i64>>,
    pub(in crate::sql) cycle: Option<bool>,
    /// RESTART; the inner `None` is with the start value.
    pub(in crate::sql) restart: Option<Option<i64>>,
    /// OWNED BY; the inner `None` is NONE.
    pub(in crate::sql) owned_by: Option<Option<(Name, String)>>,
}

/// `CREATE POLICY`.
#[derive(Clone, Debug)]
pub(in crate::sql) struct CreatePolicy {
    pub(in crate::sql) name: String,
    pub(in crate::sql) table: Name,
    pub(in crate::sql) permissive: bool,
    pub(in crate::sql) command: PolicyCommand,
    pub(in crate::sql) roles: Vec<Who>,
    pub(in crate::sql) using: Option<Expr>,
    pub(in crate::sql) check: Option<Expr>,
}

/// What a comment is on.
#[derive(Clone, Debug)]
pub(in crate::sql) enum CommentOn {
    Relation(Kind, Name),
    Column(Name, String),
    /// A constraint or policy of a table: accepted for what exists, and not kept.
    Part(&'static str, String, Name),
    /// The database or an extension: accepted and not kept.
    Nothing,
}

/// `GRANT` and `REVOKE`.
#[derive(Clone, Debug)]
pub(in crate::sql) struct Grant {
    pub(in crate::sql) revoke: bool,
    /// Bits as in [`crate::table::schema::Grant`].
    pub(in crate::sql) privileges: u8,
    pub(in crate::sql) on: GrantOn,
    pub(in crate::sql) to: Vec<Who>,
}

/// What is granted on.
#[derive(Clone, Debug)]
pub(in crate::sql) enum GrantOn {
    /// Tables and views.
    Tables(Vec<Name>),
    AllTables(Vec<String>),
    Sequences(Vec<Name>),
    AllSequences(Vec<String>),
    Schemas(Vec<String>),
    /// The database this session is in.
    Database(Vec<String>),
}

/// Modes of LOCK TABLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sql) enum LockMode {
    /// ACCESS SHARE and ROW SHARE: writers go on.
    None,
    /// ROW EXCLUSIVE: as writers do.
    Write,
    /// SHARE: no writers.
    Share,
    /// SHARE UPDATE EXCLUSIVE and above: nobody else who locks.
    Exclusive,
}

impl Ddl {
    /// Queries in the statement, to be judged like any other.
    pub(in crate::sql) fn queries(&self) -> impl Iterator<Item = &Query> {
        let query = match self {
            Self::CreateTableAs(stmt) => Some(&*stmt.query),
            Self::CreateView(stmt) => Some(&*stmt.query),
            _ => None,
        };
        query.into_iter()
    }

    /// Expressions in the statement, to be judged like any other.
    pub(in crate::sql) fn expressions(&self) -> impl Iterator<Item = &Expr> {
        let mut all: Vec<&Expr> = Vec::new();
        match self {
            Self::CreateTable(stmt) => {
                for element in &stmt.elements {
                    match element {
                        Element::Column(column) => column.expressions(&mut all),
                        Element::Constraint(constraint) => constraint.expressions(&mut all),
                        Element::Like { .. } => {}
                    }
                }
            }
            Self::AlterTable { actions, .. } => {
                for action in actions {
                    match action {
                        Alter::AddColumn { column, .. } => column.expressions(&mut all),
                        Alter::AddConstraint(constraint) => constraint.expressions(&mut all),
                        Alter::SetDefault { value, .. } => all.push(value),
                        Alter::SetType { using, .. } => all.extend(using),
                        _ => {}
                    }
                }
            }
            Self::CreateIndex(stmt) => {
                all.extend(stmt.keys.iter().map(|key| &key.expr));
                all.extend(&stmt.predicate);
            }
            Self::CreatePolicy(stmt) => all.extend(stmt.using.iter().chain(&stmt.check)),
            Self::AlterPolicy { using, check, .. } => all.extend(using.iter().chain(check)),
            _ => {}
        }
        all.into_iter()
    }
}

impl Column {
    fn expressions<'a>(&'a self, all: &mut Vec<&'a Expr>) {
        all.extend(self.default.iter().chain(&self.generated));
        self.constraints
            .iter()
            .for_each(|constraint| constraint.expressions(all));
    }
}

impl Constraint {
    fn expressions<'a>(&'a self, all: &mut Vec<&'a Expr>) {
        if let ConstraintKind::Check(expr) = &self.kind {
            all.push(expr);
        }
    }
}
