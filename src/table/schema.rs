//! What a tenant has made: schemas, tables, views, sequences and what hangs on them, as plain data.
//!
//! Expressions (defaults, checks, policies, views) are kept as SQL text and planned where they are
//! used. Columns are known by an id that is never used again, so that rows written before an
//! `ALTER TABLE` are read rightly after it.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::{Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::codec::pgtype::PgType;

/// Number of an object within its tenant; never used again.
pub type Oid = u32;

/// The first OID given to what a tenant makes; lower ones are fixed.
pub const FIRST_OID: Oid = 100_000;

/// Number of a row within its table; never used again.
pub type RowId = u64;

/// All that exists in a tenant at one moment.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Grows with every change; plans made under another one are made again.
    pub version: u64,
    /// Schemas that were created, by name. `public`, `ai`, `bulkhead` and PostgreSQL's are not among them.
    pub schemas: BTreeMap<String, Arc<SchemaDef>>,
    /// Tables, views and sequences by OID.
    pub relations: BTreeMap<Oid, Relation>,
}

/// A relation that a tenant made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Relation {
    /// Rows.
    Table(Arc<TableDef>),
    /// A named query.
    View(Arc<ViewDef>),
    /// Numbers, each given once.
    Sequence(Arc<SequenceDef>),
}

/// `CREATE SCHEMA`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SchemaDef {
    /// Its number.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// The user that owns it.
    pub owner: String,
    /// `COMMENT ON SCHEMA`.
    pub comment: Option<String>,
}

/// `CREATE TABLE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableDef {
    /// Its number; its rows are stored under it.
    pub oid: Oid,
    /// The schema it is in.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The user that owns it.
    pub owner: String,
    /// Those that were not dropped, in order.
    pub columns: Vec<ColumnDef>,
    /// The id that the next added column gets.
    pub next_column: u16,
    /// Its indexes, those of constraints among them.
    pub indexes: Vec<IndexDef>,
    /// CHECK constraints.
    pub checks: Vec<CheckDef>,
    /// REFERENCES.
    pub foreign_keys: Vec<ForeignKeyDef>,
    /// Row policies.
    pub policies: Vec<PolicyDef>,
    /// `ENABLE ROW LEVEL SECURITY`.
    pub row_security: bool,
    /// `FORCE ROW LEVEL SECURITY`: for its owner too.
    pub force_row_security: bool,
    /// Which roles may do what; see [`Grant`].
    pub grants: Vec<Grant>,
    /// `COMMENT ON TABLE`.
    pub comment: Option<String>,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnDef {
    /// Its number within the table: `attnum`, and what its values are stored under. From 1.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// Its type.
    pub pg_type: PgType,
    /// `atttypmod`; -1 for none.
    pub type_modifier: i32,
    /// NOT NULL, declared or by the primary key.
    pub not_null: bool,
    /// DEFAULT, as SQL text.
    pub default: Option<String>,
    /// GENERATED ALWAYS AS (...) STORED, as SQL text.
    pub generated: Option<String>,
    /// GENERATED { ALWAYS | BY DEFAULT } AS IDENTITY.
    pub identity: Option<Identity>,
    /// The sequence that it owns: of `serial` and identity columns.
    pub sequence: Option<Oid>,
    /// What rows have that were written before the column was added: a row of this one column, in the
    /// form of `super::row`; `None` is NULL.
    pub missing: Option<Vec<u8>>,
    /// `COMMENT ON COLUMN`.
    pub comment: Option<String>,
}

/// Kinds of identity columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// A value of the user's is refused unless OVERRIDING SYSTEM VALUE.
    Always,
    /// A value of the user's is taken.
    ByDefault,
}

/// An index, or the index of a PRIMARY KEY or UNIQUE constraint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexDef {
    /// Its number.
    pub oid: Oid,
    /// Its name, unique in the schema.
    pub name: String,
    /// What is indexed, in order.
    pub keys: Vec<IndexKey>,
    /// Columns of INCLUDE: kept for `pg_get_indexdef` only.
    pub include: Vec<u16>,
    /// Whether it forbids equal keys.
    pub unique: bool,
    /// NULLS NOT DISTINCT.
    pub nulls_not_distinct: bool,
    /// Whether it is a PRIMARY KEY.
    pub primary: bool,
    /// Whether a constraint made it: it is dropped by DROP CONSTRAINT, not by DROP INDEX.
    pub constraint: bool,
    /// How it is built.
    pub method: IndexMethod,
    /// WHERE of a partial index, as SQL text.
    pub predicate: Option<String>,
    /// `COMMENT ON INDEX`.
    pub comment: Option<String>,
}

/// One key of an index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexKey {
    /// The column, or an expression over columns as SQL text.
    pub key: KeyOf,
    /// DESC.
    pub descending: bool,
    /// NULLS FIRST.
    pub nulls_first: bool,
    /// Operator class where it is named: `vector_cosine_ops`, `text_pattern_ops`.
    pub operator_class: Option<String>,
}

/// See [`IndexKey::key`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum KeyOf {
    /// A column by id.
    Column(u16),
    /// An expression; such an index is kept in the catalog and answers no lookups unless it is unique.
    Expression(String),
}

/// Index methods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum IndexMethod {
    /// Ordered keys.
    Btree,
    /// Equality; kept as a btree.
    Hash,
    /// pgvector's graph index.
    Hnsw {
        /// Neighbours of a node.
        m: u16,
        /// Candidates while building.
        ef_construction: u16,
    },
    /// pgvector's list index: served by the same search as [`IndexMethod::Hnsw`].
    Ivfflat {
        /// As given.
        lists: u32,
    },
    /// Named in the catalog; searched by scan.
    Gin,
}

/// A CHECK constraint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckDef {
    /// Its number.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// The condition as SQL text.
    pub condition: String,
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForeignKeyDef {
    /// Its number.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// Referencing columns by id.
    pub columns: Vec<u16>,
    /// The referenced table.
    pub references: Oid,
    /// Referenced columns by id.
    pub referenced: Vec<u16>,
    /// ON DELETE.
    pub on_delete: ReferentialAction,
    /// ON UPDATE.
    pub on_update: ReferentialAction,
    /// DEFERRABLE: checked at commit when also initially deferred.
    pub deferrable: bool,
    /// INITIALLY DEFERRED.
    pub deferred: bool,
}

/// What happens to referencing rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReferentialAction {
    /// Refused at the end of the statement (or transaction).
    NoAction,
    /// Refused at once.
    Restrict,
    /// They go too.
    Cascade,
    /// Their columns become NULL.
    SetNull,
    /// Their columns take their defaults.
    SetDefault,
}

/// A row policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyDef {
    /// Its number.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// PERMISSIVE (any of them lets a row pass) or RESTRICTIVE (all of them must).
    pub permissive: bool,
    /// FOR.
    pub command: PolicyCommand,
    /// TO: users and roles; empty is PUBLIC.
    pub roles: Vec<String>,
    /// USING, as SQL text.
    pub using: Option<String>,
    /// WITH CHECK, as SQL text.
    pub check: Option<String>,
}

/// What a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "SQL's own words")]
pub enum PolicyCommand {
    All,
    Select,
    Insert,
    Update,
    Delete,
}

/// `GRANT ... ON t TO who`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// A user's or role's name; `public` is everyone of the tenant.
    pub to: String,
    /// SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER as bits 0 to 6.
    pub privileges: u8,
}

/// `CREATE VIEW`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewDef {
    /// Its number.
    pub oid: Oid,
    /// The schema it is in.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The user that owns it.
    pub owner: String,
    /// The query as SQL text, with every relation's name qualified.
    pub query: String,
    /// Name, type and modifier of each column.
    pub columns: Vec<(String, PgType, i32)>,
    /// Relations that it reads, so that these are not dropped under it.
    pub depends: Vec<Oid>,
    /// `COMMENT ON VIEW`.
    pub comment: Option<String>,
    /// Which roles may do what.
    pub grants: Vec<Grant>,
}

/// `CREATE SEQUENCE`. The numbers given are kept beside it, see `super::sequence`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequenceDef {
    /// Its number.
    pub oid: Oid,
    /// The schema it is in.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The user that owns it.
    pub owner: String,
    /// smallint, integer or bigint.
    pub pg_type: PgType,
    /// START WITH.
    pub start: i64,
    /// INCREMENT BY; not 0.
    pub increment: i64,
    /// MINVALUE.
    pub min: i64,
    /// MAXVALUE.
    pub max: i64,
    /// CYCLE.
    pub cycle: bool,
    /// The column that owns it.
    pub owned_by: Option<(Oid, u16)>,
    /// `COMMENT ON SEQUENCE`.
    pub comment: Option<String>,
}

impl Relation {
    /// Its number.
    pub fn oid(&self) -> Oid {
        match self {
            Self::Table(table) => table.oid,
            Self::View(view) => view.oid,
            Self::Sequence(sequence) => sequence.oid,
        }
    }

    /// Schema and name.
    pub fn name(&self) -> (&str, &str) {
        match self {
            Self::Table(table) => (&table.schema, &table.name),
            Self::View(view) => (&view.schema, &view.name),
            Self::Sequence(sequence) => (&sequence.schema, &sequence.name),
        }
    }

    /// The user that owns it.
    pub fn owner(&self) -> &str {
        match self {
            Self::Table(table) => &table.owner,
            Self::View(view) => &view.owner,
            Self::Sequence(sequence) => &sequence.owner,
        }
    }
}

impl Catalog {
    /// The relation of a name.
    pub fn find(&self, schema: &str, name: &str) -> Option<&Relation> {
        self.relations.values().find(|r| r.name() == (schema, name))
    }

    /// The table of a number.
    pub fn table(&self, oid: Oid) -> Option<&Arc<TableDef>> {
        match self.relations.get(&oid) {
            Some(Relation::Table(table)) => Some(table),
            Some(Relation::View(_) | Relation::Sequence(_)) | None => None,
        }
    }

    /// Every table.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<TableDef>> {
        self.relations.values().filter_map(|relation| match relation {
            Relation::Table(table) => Some(table),
            Relation::View(_) | Relation::Sequence(_) => None,
        })
    }
}

impl TableDef {
    /// The column of a name.
    pub fn column(&self, name: &str) -> Option<&ColumnDef> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The column of an id.
    pub fn column_of(&self, id: u16) -> Option<&ColumnDef> {
        self.columns.iter().find(|column| column.id == id)
    }

    /// The primary key.
    pub fn primary_key(&self) -> Option<&IndexDef> {
        self.indexes.iter().find(|index| index.primary)
    }

    /// Its columns as Arrow fields, all nullable: what is checked is checked before a row is written.
    pub fn arrow(&self) -> SchemaRef {
        Arc::new(Schema::new(
            self.columns.iter().map(ColumnDef::field).collect::<Vec<_>>(),
        ))
    }
}

impl ColumnDef {
    /// The Arrow field of its values; see [`PgType::field_of`].
    pub fn field(&self) -> Field {
        self.pg_type.field_of(&self.name, true, self.type_modifier)
    }
}
