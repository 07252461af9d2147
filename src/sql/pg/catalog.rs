//! What one session may see of its database: the snapshot behind every catalog relation.
//!
//! A [`CatalogSnapshot`] is made by the session from its own tenant and holds no name of another.
//! Everything in this folder is a pure function of it and of constants.

use std::{fmt::Debug, sync::Arc};

use datafusion::common::DataFusionError;

use super::builtin;
use crate::{
    codec::pgtype::{PgType, Scalar},
    sql::{
        backends::{Activity, HeldLock},
        cursor::CursorInfo,
    },
};

/// OID of the one database a session can see.
pub const DATABASE_OID: i32 = 16_384;
/// OID of the owner of what PostgreSQL itself brings along.
pub const SYSTEM_ROLE_OID: i32 = 10;
/// Its name; it cannot log in.
pub const SYSTEM_ROLE: &str = "bulkhead";
/// OID of the schema `pg_catalog`.
pub const PG_CATALOG_OID: i32 = 11;
/// OID of the schema `information_schema`.
pub const INFORMATION_SCHEMA_OID: i32 = 13_000;

/// Makes snapshots when a relation is scanned or a function asks; implemented by the session.
pub trait Snapshots: Send + Sync + Debug {
    /// The catalog as it is now, for this session.
    fn snapshot(&self) -> Result<Arc<CatalogSnapshot>, DataFusionError>;
}

/// All that the catalog relations and functions tell, as it was at one moment.
#[derive(Clone, Debug, Default)]
pub struct CatalogSnapshot {
    /// The tenant's name, which is the database's.
    pub database: String,
    /// The user of this session.
    pub user: String,
    /// Every user of the tenant.
    pub users: Vec<UserInfo>,
    /// The schemas of the tenant, without `pg_catalog` and `information_schema`.
    pub schemas: Vec<SchemaInfo>,
    /// Schemas searched for bare names, first first, without `pg_catalog`.
    pub search_path: Vec<String>,
    /// Functions a user may call that are not PostgreSQL's own.
    pub functions: Vec<FunctionInfo>,
    /// Settings of this session.
    pub settings: Vec<SettingInfo>,
    /// Prepared statements of this session: name and text.
    pub prepared: Vec<(String, String)>,
    /// Cursors of this session.
    pub cursors: Vec<CursorInfo>,
    /// Channels this session listens to.
    pub channels: Vec<String>,
    /// The sessions it may know of, itself included.
    pub activity: Vec<Activity>,
    /// The tenant's locks.
    pub locks: Vec<HeldLock>,
    /// Builds of the tenant's indexes that go on.
    pub builds: Vec<BuildInfo>,
    /// The number given to the client for cancelling.
    pub pid: i32,
    /// When the session began, in microseconds since 1970.
    pub started_micros: i64,
    /// `application_name` as the client set it.
    pub application_name: String,
}

/// A build of an index of vectors. What the user may not know is `None`.
#[derive(Clone, Debug, Default)]
pub struct BuildInfo {
    /// The session that wanted it.
    pub pid: Option<i32>,
    /// The table's number.
    pub table: Option<u32>,
    /// The index's number.
    pub index: Option<u32>,
    /// As pgvector calls it.
    pub phase: Option<&'static str>,
    /// Blocks of 8 kB of vectors: done, and all.
    pub blocks: [Option<i64>; 2],
    /// Rows: done, and all.
    pub tuples: [Option<i64>; 2],
}

/// A user of the tenant.
#[derive(Clone, Debug, Default)]
pub struct UserInfo {
    /// Login name.
    pub name: String,
    /// Stable within the tenant; at least 16,384.
    pub oid: i32,
    /// May create objects and users.
    pub is_owner: bool,
}

/// A schema and what is in it.
#[derive(Clone, Debug, Default)]
pub struct SchemaInfo {
    /// Its name.
    pub name: String,
    /// Name of the owning user; empty is the tenant's owner.
    pub owner: String,
    /// `COMMENT ON SCHEMA`.
    pub comment: Option<String>,
    /// Stable within the tenant; `public` is 2200 in PostgreSQL.
    pub oid: i32,
    /// Tables and views. Indexes are listed with their table.
    pub relations: Vec<RelationInfo>,
}

/// A table, view or sequence.
#[derive(Clone, Debug, Default)]
pub struct RelationInfo {
    /// Its name.
    pub name: String,
    /// Stable within the tenant.
    pub oid: i32,
    /// `r` table, `v` view, `S` sequence.
    pub kind: char,
    /// Name of the owning user.
    pub owner: String,
    /// `COMMENT ON` or the built-in description.
    pub comment: Option<String>,
    /// The text after `AS` of a view.
    pub definition: Option<String>,
    /// In order of their numbers.
    pub columns: Vec<ColumnInfo>,
    /// Indexes on it; those with `primary` or `unique` also stand for constraints.
    pub indexes: Vec<IndexInfo>,
    /// Checks and references, whose text PostgreSQL's `pg_get_constraintdef` would print.
    pub constraints: Vec<ConstraintInfo>,
    /// Whether row level security is on.
    pub row_security: bool,
    /// Whether it is for the owner too.
    pub force_row_security: bool,
    /// Row policies.
    pub policies: Vec<PolicyInfo>,
    /// Estimated rows, -1 when not known.
    pub rows: f32,
    /// What a sequence is like.
    pub sequence: Option<SequenceInfo>,
    /// Privileges by grantee: bits 0 to 6 are SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER.
    pub grants: Vec<(String, u8)>,
    /// What this session's user may do, as the same bits.
    pub allowed: u8,
    /// Whether it is this session's alone.
    pub temporary: bool,
    /// OIDs of relations that a view reads.
    pub depends: Vec<i32>,
}

/// A row policy.
#[derive(Clone, Debug, Default)]
pub struct PolicyInfo {
    /// Its name.
    pub name: String,
    /// Stable within the tenant.
    pub oid: i32,
    /// PERMISSIVE or RESTRICTIVE.
    pub permissive: bool,
    /// `*` all, `r` SELECT, `a` INSERT, `w` UPDATE, `d` DELETE.
    pub command: char,
    /// Names of users and roles; empty is PUBLIC.
    pub roles: Vec<String>,
    /// USING.
    pub using: Option<String>,
    /// WITH CHECK.
    pub check: Option<String>,
}

/// A sequence.
#[derive(Clone, Debug)]
pub struct SequenceInfo {
    /// Of its numbers.
    pub pg_type: PgType,
    /// START.
    pub start: i64,
    /// INCREMENT.
    pub increment: i64,
    /// MINVALUE.
    pub min: i64,
    /// MAXVALUE.
    pub max: i64,
    /// CYCLE.
    pub cycle: bool,
    /// The relation and column number that own it.
    pub owned_by: Option<(i32, i16)>,
    /// Whether the owning column is an identity column.
    pub identity: bool,
}

/// A column.
#[derive(Clone, Debug)]
pub struct ColumnInfo {
    /// `attnum`: it stays when others are dropped.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// Its type.
    pub pg_type: PgType,
    /// As in `pg_attribute.atttypmod`; -1 for none.
    pub type_modifier: i32,
    /// Declared NOT NULL or part of the primary key.
    pub not_null: bool,
    /// Text of the default, or of the generation expression.
    pub default: Option<String>,
    /// Whether [`ColumnInfo::default`] is a generation expression.
    pub generated: bool,
    /// `a` GENERATED ALWAYS AS IDENTITY, `d` BY DEFAULT.
    pub identity: Option<char>,
    /// `COMMENT ON COLUMN`.
    pub comment: Option<String>,
}

impl ColumnInfo {
    /// A column of which no more is known.
    pub fn plain(number: i16, name: &str, pg_type: PgType) -> Self {
        Self {
            number,
            name: name.to_owned(),
            pg_type,
            type_modifier: -1,
            not_null: false,
            default: None,
            generated: false,
            identity: None,
            comment: None,
        }
    }
}

/// An index.
#[derive(Clone, Debug, Default)]
pub struct IndexInfo {
    /// Its name.
    pub name: String,
    /// Stable within the tenant.
    pub oid: i32,
    /// Numbers of the indexed columns, 0 for an expression; those of INCLUDE are not among them.
    pub columns: Vec<i16>,
    /// What is said of each of them, where anything is.
    pub keys: Vec<KeyInfo>,
    /// INCLUDE.
    pub include: Vec<i16>,
    /// Whether it forbids equal keys.
    pub unique: bool,
    /// NULLS NOT DISTINCT.
    pub nulls_not_distinct: bool,
    /// Whether it is the primary key.
    pub primary: bool,
    /// Whether it is a constraint's.
    pub constraint: bool,
    /// `btree`, `hnsw`.
    pub method: String,
    /// WITH, as `m='16'`.
    pub options: Vec<String>,
    /// WHERE.
    pub predicate: Option<String>,
    /// `COMMENT ON INDEX`.
    pub comment: Option<String>,
}

/// A key of an index.
#[derive(Clone, Debug, Default)]
pub struct KeyInfo {
    /// Text of an expression.
    pub expression: Option<String>,
    /// DESC.
    pub descending: bool,
    /// NULLS FIRST.
    pub nulls_first: bool,
    /// Operator class where it is not the default, e.g. `vector_cosine_ops`.
    pub operator_class: Option<String>,
}

/// A CHECK or FOREIGN KEY constraint.
#[derive(Clone, Debug, Default)]
pub struct ConstraintInfo {
    /// Its name.
    pub name: String,
    /// Stable within the tenant.
    pub oid: i32,
    /// `c` check, `f` foreign key.
    pub kind: char,
    /// Numbers of the columns it is about.
    pub columns: Vec<i16>,
    /// OID of the referenced relation, 0 for none.
    pub references: i32,
    /// Numbers of the referenced columns.
    pub referenced_columns: Vec<i16>,
    /// `CHECK ((n > 0))`; empty for a foreign key, which is printed from its parts.
    pub definition: String,
    /// ON UPDATE: `a` no action, `r` restrict, `c` cascade, `n` set null, `d` set default.
    pub on_update: char,
    /// ON DELETE, alike.
    pub on_delete: char,
    /// DEFERRABLE.
    pub deferrable: bool,
    /// INITIALLY DEFERRED.
    pub deferred: bool,
}

/// A function.
#[derive(Clone, Debug, Default)]
pub struct FunctionInfo {
    /// Schema it is in.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Stable.
    pub oid: i32,
    /// `query text, k integer DEFAULT 5`.
    pub arguments: String,
    /// `text`, `TABLE(rank integer, ...)`.
    pub result: String,
    /// One sentence.
    pub description: Option<String>,
}

/// A setting.
#[derive(Clone, Debug, Default)]
pub struct SettingInfo {
    /// Its name.
    pub name: String,
    /// Its value as SHOW prints it.
    pub value: String,
    /// What `RESET` gives back.
    pub reset: String,
    /// One sentence.
    pub description: String,
}

impl RelationInfo {
    /// The column of a number.
    pub fn column(&self, number: i16) -> Option<&ColumnInfo> {
        self.columns.iter().find(|column| column.number == number)
    }
}

impl CatalogSnapshot {
    /// Every relation with its schema, in the snapshot's order.
    pub fn relations(&self) -> impl Iterator<Item = (&SchemaInfo, &RelationInfo)> {
        self.schemas
            .iter()
            .flat_map(|s| s.relations.iter().map(move |r| (s, r)))
    }

    /// Every index with its relation and schema.
    pub fn indexes(&self) -> impl Iterator<Item = (&SchemaInfo, &RelationInfo, &IndexInfo)> {
        self.relations()
            .flat_map(|(s, r)| r.indexes.iter().map(move |i| (s, r, i)))
    }

    /// Every CHECK and FOREIGN KEY constraint with its relation and schema.
    pub fn constraints(&self) -> impl Iterator<Item = (&SchemaInfo, &RelationInfo, &ConstraintInfo)> {
        self.relations()
            .flat_map(|(s, r)| r.constraints.iter().map(move |c| (s, r, c)))
    }

    /// The relation of an OID.
    pub fn relation(&self, oid: i32) -> Option<(&SchemaInfo, &RelationInfo)> {
        self.relations().find(|(_, r)| r.oid == oid)
    }

    /// Schema and name of the relation or index of an OID, PostgreSQL's own included.
    pub fn class_name(&self, oid: i32) -> Option<(&str, &str)> {
        builtin::relation_name(oid)
            .or_else(|| self.relation(oid).map(|(s, r)| (s.name.as_str(), r.name.as_str())))
            .or_else(|| {
                self.indexes()
                    .find(|x| x.2.oid == oid)
                    .map(|(s, _, i)| (s.name.as_str(), i.name.as_str()))
            })
    }

    /// OID of the relation or index of this name in this schema.
    pub fn class_oid(&self, schema: &str, name: &str) -> Option<i32> {
        builtin::relation_oid(schema, name)
            .or_else(|| {
                self.relations()
                    .find(|(s, r)| s.name == schema && r.name == name)
                    .map(|(_, r)| r.oid)
            })
            .or_else(|| {
                self.indexes()
                    .find(|(s, _, i)| s.name == schema && i.name == name)
                    .map(|(_, _, i)| i.oid)
            })
    }

    /// The schemas searched for a bare name, `pg_catalog` first as in PostgreSQL.
    pub fn searched(&self) -> impl Iterator<Item = &str> {
        std::iter::once("pg_catalog").chain(self.search_path.iter().map(String::as_str))
    }

    /// OID of a relation named bare or with its schema (already split).
    pub fn find_class(&self, name: &[String]) -> Option<i32> {
        match name {
            [relation] => self.searched().find_map(|schema| self.class_oid(schema, relation)),
            [schema, relation] => self.class_oid(schema, relation),
            [database, schema, relation] if *database == self.database => self.class_oid(schema, relation),
            _ => None,
        }
    }

    /// Whether a bare name finds this relation, index or function.
    pub fn visible(&self, schema: &str, finds: impl Fn(&str) -> bool) -> bool {
        self.searched().find(|s| finds(s)) == Some(schema)
    }

    /// Whether the relation or index of this OID is found by its bare name; `None` when there is none.
    pub fn class_visible(&self, oid: i32) -> Option<bool> {
        let (schema, name) = self.class_name(oid)?;
        Some(self.visible(schema, |s| self.class_oid(s, name).is_some()))
    }

    /// OID of a schema, PostgreSQL's own included.
    pub fn schema_oid(&self, name: &str) -> Option<i32> {
        match name {
            "pg_catalog" => Some(PG_CATALOG_OID),
            "information_schema" => Some(INFORMATION_SCHEMA_OID),
            _ => self.schemas.iter().find(|s| s.name == name).map(|s| s.oid),
        }
    }

    /// OID of the owner of something, where an empty name is the tenant's owner.
    pub fn owner_of(&self, name: &str) -> i32 {
        self.user_oid(name).unwrap_or_else(|| self.owner_oid())
    }

    /// Name of the schema of an OID.
    pub fn schema_name(&self, oid: i32) -> Option<&str> {
        match oid {
            PG_CATALOG_OID => Some("pg_catalog"),
            INFORMATION_SCHEMA_OID => Some("information_schema"),
            _ => self.schemas.iter().find(|s| s.oid == oid).map(|s| s.name.as_str()),
        }
    }

    /// OID of a user of this tenant; the system role's name gives its own.
    pub fn user_oid(&self, name: &str) -> Option<i32> {
        let found = self.users.iter().find(|u| u.name == name).map(|u| u.oid);
        found.or((name == SYSTEM_ROLE).then_some(SYSTEM_ROLE_OID))
    }

    /// Name of the user of an OID.
    pub fn user_name(&self, oid: i32) -> Option<&str> {
        let found = self.users.iter().find(|u| u.oid == oid).map(|u| u.name.as_str());
        found.or((oid == SYSTEM_ROLE_OID).then_some(SYSTEM_ROLE))
    }

    /// The first user with the role owner: it owns what has no other owner.
    pub fn owner_oid(&self) -> i32 {
        self.users
            .iter()
            .find(|u| u.is_owner)
            .or(self.users.first())
            .map_or(SYSTEM_ROLE_OID, |u| u.oid)
    }

    /// The function of an OID.
    pub fn function(&self, oid: i32) -> Option<&FunctionInfo> {
        self.functions.iter().find(|f| f.oid == oid)
    }

    /// The first function of this name, bare or with its schema.
    pub fn find_function(&self, name: &[String]) -> Option<i32> {
        let (schema, function) = match name {
            [function] => (None, function),
            [schema, function] => (Some(schema), function),
            _ => return None,
        };
        let builtin = builtin::function_oid(function).filter(|_| schema.is_none_or(|s| s == "pg_catalog"));
        builtin.or_else(|| {
            let fits = |f: &&FunctionInfo| f.name == *function && schema.is_none_or(|s| *s == f.schema);
            self.functions.iter().find(fits).map(|f| f.oid)
        })
    }

    /// What `'name'::regclass::text` prints: with the schema where the bare name finds something else.
    pub fn print_class(&self, oid: i32) -> String {
        match self.class_name(oid) {
            None => print_oid(oid),
            Some((_, name)) if self.class_visible(oid) == Some(true) => quote_ident(name),
            Some((schema, name)) => format!("{}.{}", quote_ident(schema), quote_ident(name)),
        }
    }

    /// What a value of an OID alias type (`regclass`, `regtype`, `regproc`) prints as text.
    pub fn print_reg(&self, kind: Scalar, oid: i32) -> String {
        match kind {
            Scalar::Regclass => self.print_class(oid),
            Scalar::Regtype => match oid {
                0 => "-".to_owned(),
                _ => super::types::format_type(oid, -1).unwrap_or_else(|| oid.to_string()),
            },
            Scalar::Regproc => match (builtin::function_name(oid), self.function(oid)) {
                (Some(name), _) => name.to_owned(),
                (None, Some(f)) if self.search_path.contains(&f.schema) => quote_ident(&f.name),
                (None, Some(f)) => format!("{}.{}", quote_ident(&f.schema), quote_ident(&f.name)),
                (None, None) => print_oid(oid),
            },
            _ => oid.to_string(),
        }
    }
}

fn print_oid(oid: i32) -> String {
    if oid == 0 {
        "-".to_owned()
    } else {
        oid.cast_unsigned().to_string()
    }
}

/// An identifier as it must be written: quoted unless plain and no keyword.
pub fn quote_ident(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$')
        && !builtin::is_reserved(name);
    if plain {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// Splits `a."B c".d` into its parts, folding what is not quoted; `None` where it is malformed.
pub fn split_name(text: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let mut part = String::new();
                let mut from = quoted;
                loop {
                    let end = from.find('"')?;
                    part.push_str(&from[..end]);
                    from = &from[end + 1..];
                    match from.strip_prefix('"') {
                        Some(more) => (part.push('"'), from = more).1,
                        None => break,
                    }
                }
                (part, from.trim_start())
            }
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                let part = rest[..end].trim();
                let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
                if !part.chars().all(plain) {
                    return None;
                }
                (part.to_lowercase(), &rest[end..])
            }
        };
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        match after.strip_prefix('.') {
            Some(more) => rest = more.trim_start(),
            None if after.is_empty() => return Some(parts),
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_and_quoted_as_postgresql_does() {
        let split = |text| split_name(text).map(|parts| parts.join("|"));
        assert_eq!(split("docs").as_deref(), Some("docs"));
        assert_eq!(split(" Public . \"My \"\"t\" ").as_deref(), Some("public|My \"t"));
        assert_eq!(split("\"a.b\".c").as_deref(), Some("a.b|c"));
        assert_eq!(split("a b"), None);
        assert_eq!(split("a."), None);
        assert_eq!(split("\"a"), None);
        assert_eq!(quote_ident("docs"), "docs");
        assert_eq!(quote_ident("Docs"), "\"Docs\"");
        assert_eq!(quote_ident("select"), "\"select\"");
    }
}
