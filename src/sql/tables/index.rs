//! CREATE INDEX.

use datafusion::sql::sqlparser::ast::Expr;

use super::{
    builds::Ask,
    constraint::{Added, check_ordered, no_class},
    cursor::fold,
    ddl::{CreateIndex, Kind},
    definitions::{Change, wrong_kind},
    expressions::{self, Place},
    names,
    rights::require_owner,
    shard::dimensions,
};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error, Result},
    table::schema::{IndexDef, IndexKey, IndexMethod, KeyOf, Oid, Relation, TableDef},
};

/// Operator classes of vectors: their name without the type's.
const VECTOR_CLASSES: &[&str] = &["l2_ops", "ip_ops", "cosine_ops", "l1_ops"];

/// pgvector's defaults.
const M: u16 = 16;
const EF_CONSTRUCTION: u16 = 64;
const LISTS: u32 = 100;

impl Change<'_> {
    /// CREATE INDEX. The table and what was added; `None` where it exists already and that is no error.
    pub(super) async fn create_index(&mut self, stmt: &CreateIndex) -> Result<Option<(Oid, Vec<Added>)>> {
        let mut table = match self.relation(&stmt.table)? {
            Relation::Table(table) => {
                require_owner(self.world, Kind::Table, &table.owner, &table.name)?;
                TableDef::clone(table)
            }
            Relation::View(_) | Relation::Sequence(_) => {
                let error = wrong_kind(&stmt.table.name, Kind::Table);
                let text = format!("cannot create index on relation \"{}\"", stmt.table.name);
                return Err(Error::new(Code::WrongObjectType, text).with_detail(error.message()));
            }
        };
        if let Some(name) = &stmt.name {
            if self.skip_existing(&table.schema, name, stmt.if_not_exists)? {
                return Ok(None);
            }
        } else if stmt.if_not_exists {
            return Err(Error::new(Code::Syntax, "syntax error at or near \"ON\""));
        }
        self.lock_table(table.oid).await?;
        let method = method(&stmt.method, &stmt.options)?;
        let vectors = matches!(method, IndexMethod::Hnsw { .. } | IndexMethod::Ivfflat { .. });
        if stmt.unique && method != IndexMethod::Btree {
            let text = format!("access method \"{}\" does not support unique indexes", stmt.method);
            return Err(Error::new(Code::Unsupported, text));
        }
        if stmt.keys.len() > 1 && (vectors || method == IndexMethod::Hash) {
            let text = format!("access method \"{}\" does not support multicolumn indexes", stmt.method);
            return Err(Error::new(Code::Unsupported, text));
        }
        if !stmt.include.is_empty() && method != IndexMethod::Btree {
            let text = format!("access method \"{}\" does not support included columns", stmt.method);
            return Err(Error::new(Code::Unsupported, text));
        }
        let mut keys = Vec::with_capacity(stmt.keys.len());
        for key in &stmt.keys {
            let (of, pg_type) = self.index_key(&table, &key.expr)?;
            check_class(stmt, pg_type, key.operator_class.as_deref())?;
            if let KeyOf::Column(id) = &of
                && vectors
                && table.column_of(*id).and_then(dimensions).is_none()
            {
                return Err(Error::new(
                    Code::InvalidParameterValue,
                    "column does not have dimensions",
                ));
            }
            keys.push(IndexKey {
                key: of,
                descending: key.descending,
                nulls_first: key.nulls_first.unwrap_or(key.descending),
                operator_class: key.operator_class.clone(),
            });
        }
        let mut include = Vec::new();
        for name in &stmt.include {
            include.push(column(&table, name)?.0);
        }
        let predicate = match &stmt.predicate {
            Some(expr) => {
                self.check_expression(&table, expr, Place::IndexPredicate)?;
                Some(expr.to_string())
            }
            None => None,
        };
        let mut index = IndexDef {
            oid: self.oid(),
            name: stmt.name.clone().unwrap_or_default(),
            keys,
            include,
            unique: stmt.unique,
            nulls_not_distinct: stmt.nulls_not_distinct,
            primary: false,
            constraint: false,
            method,
            predicate,
            comment: None,
        };
        if stmt.name.is_none() {
            index.name = self.index_name(&table, &index);
        }
        let added = stmt.unique.then_some(Added::Unique(index.oid)).into_iter().collect();
        self.world.ask(Ask::of(table.oid, &index, false));
        table.indexes.push(index);
        let oid = table.oid;
        self.put_table(table);
        Ok(Some((oid, added)))
    }

    /// The name that an index gets which is given none.
    pub(super) fn index_name(&self, table: &TableDef, index: &IndexDef) -> String {
        let parts: Vec<String> = index
            .keys
            .iter()
            .map(|key| match &key.key {
                KeyOf::Column(id) => table.column_of(*id).map(|c| c.name.clone()).unwrap_or_default(),
                KeyOf::Expression(text) => match expressions::expression(text) {
                    Ok(Expr::Function(call)) => super::super::planner::last_part(&call.name),
                    _ => "expr".to_owned(),
                },
            })
            .collect();
        let taken = |name: &str| {
            self.taken(&table.schema, name)
                || table.name == name
                || table
                    .indexes
                    .iter()
                    .any(|other| other.oid != index.oid && other.name == name)
        };
        match (index.primary, index.constraint) {
            (true, _) => names::generated(&table.name, "", "pkey", taken),
            (_, true) => names::generated(&table.name, &parts.join("_"), "key", taken),
            _ => names::generated(&table.name, &parts.join("_"), "idx", taken),
        }
    }

    /// `ALTER INDEX ... SET (...)` and `RESET (...)`. A graph is built again with what is new.
    pub(super) fn set_options(
        &mut self,
        table: &TableDef,
        index: &IndexDef,
        set: &[(String, String)],
        reset: &[String],
    ) -> Result<()> {
        let (name, mut options) = options_of(&index.method);
        options.retain(|(name, _)| !reset.contains(name) && !set.iter().any(|(other, _)| other == name));
        options.extend_from_slice(set);
        // What is reset must be an option of the method, too.
        let known = reset.iter().map(|name| (name.clone(), String::new()));
        check_known(name, &known.collect::<Vec<_>>())?;
        let method = method(name, &options)?;
        if method == index.method {
            return Ok(());
        }
        let mut table = TableDef::clone(table);
        for changed in table.indexes.iter_mut().filter(|other| other.oid == index.oid) {
            changed.method = method.clone();
        }
        self.world.ask(Ask::of(table.oid, index, false));
        self.put_table(table);
        Ok(())
    }

    fn index_key(&self, table: &TableDef, expr: &Expr) -> Result<(KeyOf, PgType)> {
        if let Expr::Identifier(ident) = expr {
            let (id, pg_type) = column(table, &fold(ident))?;
            return Ok((KeyOf::Column(id), pg_type));
        }
        let pg_type = self.check_expression(table, expr, Place::Index)?;
        Ok((KeyOf::Expression(expr.to_string()), pg_type))
    }
}

fn column(table: &TableDef, name: &str) -> Result<(u16, PgType)> {
    match table.column(name) {
        Some(column) => Ok((column.id, column.pg_type)),
        None => Err(Error::new(
            Code::UndefinedColumn,
            format!("column \"{name}\" does not exist"),
        )),
    }
}

/// A method's name, and those of its options that are kept.
fn options_of(method: &IndexMethod) -> (&'static str, Vec<(String, String)>) {
    match method {
        IndexMethod::Btree => ("btree", Vec::new()),
        IndexMethod::Hash => ("hash", Vec::new()),
        IndexMethod::Gin => ("gin", Vec::new()),
        IndexMethod::Hnsw { m, ef_construction } => (
            "hnsw",
            vec![
                ("m".to_owned(), m.to_string()),
                ("ef_construction".to_owned(), ef_construction.to_string()),
            ],
        ),
        IndexMethod::Ivfflat { lists } => ("ivfflat", vec![("lists".to_owned(), lists.to_string())]),
    }
}

/// # Errors
/// 22023 for an option that the method does not have.
fn check_known(method: &str, options: &[(String, String)]) -> Result<()> {
    let known: &[&str] = match method {
        "btree" => &["fillfactor", "deduplicate_items"],
        "hash" => &["fillfactor"],
        "gin" => &["fastupdate", "gin_pending_list_limit"],
        "hnsw" => &["m", "ef_construction"],
        "ivfflat" => &["lists"],
        _ => &[],
    };
    match options.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        Some((name, _)) => Err(Error::new(
            Code::InvalidParameterValue,
            format!("unrecognized parameter \"{name}\""),
        )),
        None => Ok(()),
    }
}

/// A method by its name, with options.
fn method(method: &str, options: &[(String, String)]) -> Result<IndexMethod> {
    let number = |wanted: &str, default: i64, range: std::ops::RangeInclusive<i64>| -> Result<i64> {
        let Some((_, text)) = options.iter().find(|(name, _)| name == wanted) else {
            return Ok(default);
        };
        let Ok(value) = text.parse::<i64>() else {
            let text = format!("invalid value for integer option \"{wanted}\": {text}");
            return Err(Error::new(Code::InvalidParameterValue, text));
        };
        match range.contains(&value) {
            true => Ok(value),
            false => Err(Error::new(
                Code::InvalidParameterValue,
                format!("value {value} out of bounds for option \"{wanted}\""),
            )
            .with_detail(format!(
                "Valid values are between \"{}\" and \"{}\".",
                range.start(),
                range.end()
            ))),
        }
    };
    let found = match method {
        "btree" => IndexMethod::Btree,
        "hash" => IndexMethod::Hash,
        "gin" => IndexMethod::Gin,
        "hnsw" => {
            let (m, ef) = (
                number("m", M.into(), 2..=100)?,
                number("ef_construction", EF_CONSTRUCTION.into(), 4..=1000)?,
            );
            if ef < 2 * m {
                let text = "ef_construction must be greater than or equal to 2 * m";
                return Err(Error::new(Code::InvalidParameterValue, text));
            }
            let (m, ef_construction) = (m.try_into().unwrap_or(M), ef.try_into().unwrap_or(EF_CONSTRUCTION));
            IndexMethod::Hnsw { m, ef_construction }
        }
        "ivfflat" => {
            let lists = number("lists", LISTS.into(), 1..=32_768)?.try_into().unwrap_or(LISTS);
            IndexMethod::Ivfflat { lists }
        }
        "gist" | "spgist" | "brin" => {
            let text = format!("access method \"{method}\" is not supported");
            return Err(Error::new(Code::Unsupported, text));
        }
        other => {
            let text = format!("access method \"{other}\" does not exist");
            return Err(Error::new(Code::UndefinedObject, text));
        }
    };
    check_known(method, options)?;
    Ok(found)
}

/// Judges a key's type and operator class.
fn check_class(stmt: &CreateIndex, pg_type: PgType, class: Option<&str>) -> Result<()> {
    let method = stmt.method.as_str();
    let undefined = |class: &str| {
        let text = format!("operator class \"{class}\" does not exist for access method \"{method}\"");
        Err(Error::new(Code::UndefinedObject, text))
    };
    let mismatch = |class: &str| {
        let text = format!(
            "operator class \"{class}\" does not accept data type {}",
            expressions::type_name(pg_type, -1)
        );
        Err(Error::new(Code::DatatypeMismatch, text))
    };
    match method {
        "hnsw" | "ivfflat" => {
            let Some(class) = class else {
                // pgvector has a default for ivfflat and none for hnsw.
                return match (method, pg_type) {
                    ("ivfflat", PgType::Scalar(Scalar::Vector)) => Ok(()),
                    _ => Err(no_class(pg_type, method)),
                };
            };
            let Some((of, rest)) = class.split_once('_') else {
                return undefined(class);
            };
            let scalar = match of {
                "vector" => Scalar::Vector,
                "halfvec" => Scalar::Halfvec,
                _ => return undefined(class),
            };
            if !VECTOR_CLASSES.contains(&rest) || (rest == "l1_ops" && method == "ivfflat") {
                return undefined(class);
            }
            match pg_type == PgType::Scalar(scalar) {
                true => Ok(()),
                false => mismatch(class),
            }
        }
        "gin" => match (class, pg_type) {
            (Some("jsonb_ops" | "jsonb_path_ops"), PgType::Scalar(Scalar::Jsonb)) => Ok(()),
            (Some("array_ops"), PgType::Array(_)) => Ok(()),
            (Some(class @ ("jsonb_ops" | "jsonb_path_ops" | "array_ops")), _) => mismatch(class),
            (Some(class), _) => undefined(class),
            (None, PgType::Scalar(Scalar::Jsonb) | PgType::Array(_)) => Ok(()),
            (None, _) => Err(no_class(pg_type, method)),
        },
        _ => {
            check_ordered(pg_type, method)?;
            let text = |t| matches!(t, PgType::Scalar(Scalar::Text | Scalar::Varchar | Scalar::Bpchar));
            match class {
                None => Ok(()),
                Some(
                    "text_pattern_ops" | "varchar_pattern_ops" | "bpchar_pattern_ops" | "text_ops" | "varchar_ops",
                ) if text(pg_type) => Ok(()),
                Some(class) => match class.strip_suffix("_ops") {
                    Some(of) if PgType::from_name(of) == Some(pg_type) => Ok(()),
                    Some("array") if matches!(pg_type, PgType::Array(_)) => Ok(()),
                    Some(of) if PgType::from_name(of).is_some() || of.ends_with("_pattern") => mismatch(class),
                    _ => undefined(class),
                },
            }
        }
    }
}
