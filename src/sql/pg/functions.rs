//! PostgreSQL's own scalar functions about types, objects and the session.
//!
//! [`SHARED`] need no tenant and are made once; [`BOUND`] read the session's snapshot; [`super::function`]
//! makes DataFusion's functions of both. They are
//! registered under their bare names: [`super::dialect`] takes `pg_catalog.` off a call.

use datafusion::common::Result;

use super::{
    builtin,
    catalog::{CatalogSnapshot, quote_ident, split_name},
    function::{Body, Function, fail},
    print,
    rows::Value,
    types,
};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::Code,
};

const TEXT: PgType = PgType::TEXT;
const NAME: PgType = PgType::Scalar(Scalar::Name);
const BOOL: PgType = PgType::Scalar(Scalar::Bool);
const INT4: PgType = PgType::Scalar(Scalar::Int4);
const INT8: PgType = PgType::Scalar(Scalar::Int8);

const fn strict(name: &'static str, returns: PgType, body: fn(&[Value]) -> Result<Value>) -> Function {
    Function {
        name,
        returns,
        body: Body::Strict(body),
    }
}

const fn bound(name: &'static str, returns: PgType, body: fn(&CatalogSnapshot, &[Value]) -> Result<Value>) -> Function {
    Function {
        name,
        returns,
        body: Body::Bound(body),
    }
}

const fn null(name: &'static str, returns: PgType) -> Function {
    Function {
        name,
        returns,
        body: Body::Strict(|_| Ok(Value::Null)),
    }
}

const fn yes(name: &'static str) -> Function {
    Function {
        name,
        returns: BOOL,
        body: Body::Strict(|_| Ok(Value::Bool(true))),
    }
}

const fn zero(name: &'static str) -> Function {
    Function {
        name,
        returns: INT8,
        body: Body::Strict(|_| Ok(Value::Int(0))),
    }
}

/// Functions that need no tenant.
pub const SHARED: &[Function] = &[
    strict("version", TEXT, |_| Ok(version().into())),
    strict("chr", TEXT, |a| character(int(a, 0)?)),
    strict("pg_encoding_to_char", NAME, |a| {
        Ok(if int(a, 0)? == Some(6) {
            "UTF8".into()
        } else {
            "".into()
        })
    }),
    strict("pg_char_to_encoding", INT4, |a| {
        let utf8 = text(a, 0).is_some_and(|t| matches!(t.to_lowercase().replace('-', "").as_str(), "utf8" | "unicode"));
        Ok(Value::Int(if utf8 { 6 } else { -1 }))
    }),
    strict("pg_client_encoding", NAME, |_| Ok("UTF8".into())),
    strict("pg_is_in_recovery", BOOL, |_| Ok(false.into())),
    strict("pg_relation_is_publishable", BOOL, |_| Ok(false.into())),
    Function {
        name: "format_type",
        returns: TEXT,
        body: Body::Plain(format_type),
    },
    strict("to_regtype", PgType::Scalar(Scalar::Regtype), |a| {
        Ok(text(a, 0).and_then(types::type_oid).into())
    }),
    // Expressions are kept as their text.
    strict("pg_get_expr", TEXT, |a| Ok(a.first().cloned().unwrap_or(Value::Null))),
    strict("pg_size_pretty", TEXT, |a| Ok(int(a, 0)?.map(print::size).into())),
    strict("quote_ident", TEXT, |a| Ok(text(a, 0).map(quote_ident).into())),
    strict("quote_literal", TEXT, |a| Ok(a.first().map(quote_literal).into())),
    Function {
        name: "quote_nullable",
        returns: TEXT,
        body: Body::Plain(|a| {
            Ok(a.first()
                .filter(|v| **v != Value::Null)
                .map_or("NULL".into(), |v| quote_literal(v).into()))
        }),
    },
    strict("parse_ident", PgType::Array(Scalar::Text), |a| {
        match text(a, 0).map(split_name) {
            Some(None) => Err(fail(Code::InvalidParameterValue, "string is not a valid identifier")),
            parts => Ok(parts.flatten().into()),
        }
    }),
    strict("bulkhead_pattern", TEXT, |a| {
        Ok(text(a, 0).map(|p| pattern(p, text(a, 1).unwrap_or_default())).into())
    }),
    strict("array_lower", INT4, |a| Ok(bounds(a).map(|_| 1).into())),
    strict("array_upper", INT4, |a| Ok(bounds(a).into())),
    strict("pg_tablespace_location", TEXT, |_| Ok("".into())),
    strict("pg_get_function_arg_default", TEXT, |_| Ok(Value::Null)),
    null("pg_get_partkeydef", TEXT),
    null("pg_get_statisticsobjdef_columns", TEXT),
    null("pg_get_triggerdef", TEXT),
    null("pg_get_ruledef", TEXT),
    null("pg_get_function_sqlbody", TEXT),
    null("pg_partition_ancestors", PgType::Scalar(Scalar::Regclass)),
    null("pg_partition_root", PgType::Scalar(Scalar::Regclass)),
    null("shobj_description", TEXT),
    null("inet_server_addr", TEXT),
    null("inet_server_port", INT4),
    null("inet_client_addr", TEXT),
    null("inet_client_port", INT4),
    null("pg_relation_filenode", PgType::Scalar(Scalar::Oid)),
    zero("pg_table_size"),
    zero("pg_relation_size"),
    zero("pg_indexes_size"),
    zero("pg_total_relation_size"),
    zero("pg_database_size"),
    zero("pg_tablespace_size"),
    zero("pg_stat_get_numscans"),
    zero("pg_stat_get_live_tuples"),
    yes("pg_collation_is_visible"),
    yes("pg_conversion_is_visible"),
    yes("pg_opclass_is_visible"),
    yes("pg_operator_is_visible"),
    yes("pg_opfamily_is_visible"),
    yes("pg_ts_config_is_visible"),
    yes("pg_ts_dict_is_visible"),
    yes("pg_ts_parser_is_visible"),
    yes("pg_ts_template_is_visible"),
    yes("pg_statistics_obj_is_visible"),
    strict("pg_type_is_visible", BOOL, |a| {
        Ok(int(a, 0)?.and_then(|o| builtin::type_of(oid(o))).map(|_| true).into())
    }),
    yes("has_any_column_privilege"),
    yes("has_column_privilege"),
    yes("has_database_privilege"),
    yes("has_function_privilege"),
    yes("has_language_privilege"),
    yes("has_schema_privilege"),
    yes("has_sequence_privilege"),
    yes("has_type_privilege"),
];

/// Functions that read the session's snapshot.
pub const BOUND: &[Function] = &[
    bound("current_database", NAME, |s, _| Ok((&s.database).into())),
    bound("current_catalog", NAME, |s, _| Ok((&s.database).into())),
    bound("current_user", NAME, |s, _| Ok((&s.user).into())),
    bound("session_user", NAME, |s, _| Ok((&s.user).into())),
    bound("user", NAME, |s, _| Ok((&s.user).into())),
    bound("current_role", NAME, |s, _| Ok((&s.user).into())),
    bound("current_schema", NAME, |s, _| Ok(existing(s).next().into())),
    bound("current_schemas", PgType::Array(Scalar::Name), |s, a| {
        let implicit = (a.first() == Some(&Value::Bool(true))).then_some("pg_catalog");
        Ok(implicit.into_iter().chain(existing(s)).collect::<Vec<_>>().into())
    }),
    // In FROM and in the SELECT list it is a set: see `from` and `dialect`.
    bound("pg_listening_channels", PgType::Array(Scalar::Text), |s, _| {
        Ok(s.channels.clone().into())
    }),
    bound("pg_backend_pid", INT4, |s, _| Ok(s.pid.into())),
    bound(
        "pg_postmaster_start_time",
        PgType::Scalar(Scalar::Timestamptz),
        |s, _| Ok(s.started_micros.into()),
    ),
    bound("pg_get_userbyid", NAME, |s, a| {
        let user = int(a, 0)?.map(oid);
        Ok(user
            .map(|o| {
                s.user_name(o)
                    .map_or_else(|| format!("unknown (OID={o})"), str::to_owned)
            })
            .into())
    }),
    bound("pg_table_is_visible", BOOL, |s, a| {
        Ok(int(a, 0)?.and_then(|o| s.class_visible(oid(o))).into())
    }),
    bound("pg_function_is_visible", BOOL, |s, a| {
        let Some(o) = int(a, 0)?.map(oid) else {
            return Ok(Value::Null);
        };
        let builtin = builtin::function_name(o).map(|_| true);
        let own = s.function(o).map(|f| s.search_path.contains(&f.schema));
        Ok(builtin.or(own).into())
    }),
    bound("pg_get_indexdef", TEXT, |s, a| {
        let Some((schema, relation, index)) = int(a, 0)?.and_then(|o| s.indexes().find(|x| x.2.oid == oid(o))) else {
            return Ok(Value::Null);
        };
        Ok(match int(a, 1)?.unwrap_or(0) {
            0 => print::index(schema, relation, index).into(),
            n => usize::try_from(n)
                .ok()
                .and_then(|n| print::key(relation, index, n.checked_sub(1)?))
                .into(),
        })
    }),
    bound("pg_get_constraintdef", TEXT, |s, a| {
        Ok(int(a, 0)?.and_then(|o| print::constraint(s, oid(o))).into())
    }),
    bound("pg_get_viewdef", TEXT, |s, a| {
        let found = class(s, a)?
            .and_then(|o| s.relation(o))
            .and_then(|(_, r)| r.definition.clone());
        Ok(found.as_deref().map(print::view).into())
    }),
    bound("pg_get_serial_sequence", TEXT, |s, a| {
        let Some(of) = text(a, 0).map(|name| class(s, &[name.into()])).transpose()?.flatten() else {
            let name = text(a, 0).unwrap_or_default();
            return Err(fail(
                Code::UndefinedTable,
                format!("relation \"{name}\" does not exist"),
            ));
        };
        let name = text(a, 1).unwrap_or_default();
        let Some(column) = s
            .relation(of)
            .and_then(|(_, r)| r.columns.iter().find(|c| c.name == name))
        else {
            let text = format!("column \"{name}\" of relation \"{}\" does not exist", s.print_class(of));
            return Err(fail(Code::UndefinedColumn, text));
        };
        let owns = |r: &super::catalog::RelationInfo| {
            r.sequence
                .as_ref()
                .is_some_and(|q| q.owned_by == Some((of, column.number)))
        };
        let found = s.relations().find(|(_, r)| owns(r));
        Ok(found
            .map(|(n, r)| format!("{}.{}", quote_ident(&n.name), quote_ident(&r.name)))
            .into())
    }),
    bound("has_table_privilege", BOOL, |s, a| {
        let (of, kinds) = match a {
            [of, kinds] | [_, of, kinds] => (of, kinds),
            _ => return Ok(Value::Null),
        };
        let Some((_, r)) = class(s, std::slice::from_ref(of))?.and_then(|o| s.relation(o)) else {
            return Ok(true.into());
        };
        let user = if a.len() == 3 { text(a, 0) } else { None };
        let bits = match user.filter(|user| *user != s.user) {
            None => r.allowed,
            Some(user) if user == r.owner => 0x7f,
            Some(user) => r
                .grants
                .iter()
                .filter(|(to, _)| to == user || to == "public")
                .fold(0, |all, g| all | g.1),
        };
        let Value::Text(kinds) = kinds else {
            return Ok(Value::Null);
        };
        let kinds = kinds.split(',').map(|kind| kind.trim().to_uppercase());
        let known = [
            "SELECT",
            "INSERT",
            "UPDATE",
            "DELETE",
            "TRUNCATE",
            "REFERENCES",
            "TRIGGER",
        ];
        let has = |kind: String| {
            known
                .iter()
                .position(|k| *k == kind)
                .is_some_and(|bit| bits & (1 << bit) != 0)
        };
        Ok(kinds.into_iter().any(has).into())
    }),
    bound("row_security_active", BOOL, |s, a| {
        let active = class(s, a)?.and_then(|o| s.relation(o)).map(|(_, r)| {
            let owner = r.owner == s.user || s.users.iter().any(|u| u.name == s.user && u.is_owner);
            r.row_security && (r.force_row_security || !owner)
        });
        Ok(active.into())
    }),
    bound("pg_get_function_arguments", TEXT, |s, a| {
        Ok(function(s, a, |f| f.arguments.clone(), |f| print_types(&f.arguments))?.into())
    }),
    bound("pg_get_function_identity_arguments", TEXT, |s, a| {
        Ok(function(
            s,
            a,
            |f| print::identity_arguments(&f.arguments),
            |f| print_types(&f.arguments),
        )?
        .into())
    }),
    bound("pg_get_function_result", TEXT, |s, a| {
        Ok(function(s, a, |f| f.result.clone(), |f| print_types(&[f.result.into()]))?.into())
    }),
    bound("pg_get_functiondef", TEXT, |s, a| {
        let print = |f: &super::catalog::FunctionInfo| {
            let (schema, name) = (quote_ident(&f.schema), quote_ident(&f.name));
            let (arguments, result) = (&f.arguments, &f.result);
            format!("CREATE OR REPLACE FUNCTION {schema}.{name}({arguments})\n RETURNS {result}\n LANGUAGE internal\n")
        };
        Ok(int(a, 0)?.and_then(|o| s.function(oid(o))).map(print).into())
    }),
    bound("obj_description", TEXT, |s, a| {
        let Some(o) = int(a, 0)?.map(oid) else {
            return Ok(Value::Null);
        };
        let wanted = |catalog| text(a, 1).is_none_or(|c| c == catalog);
        let class = s
            .relation(o)
            .filter(|_| wanted("pg_class"))
            .and_then(|(_, r)| r.comment.clone());
        let class = class.or_else(|| {
            let mut indexes = s.indexes().filter(|_| wanted("pg_class"));
            indexes.find(|x| x.2.oid == o).and_then(|x| x.2.comment.clone())
        });
        let class = class.or_else(|| {
            let mut schemas = s.schemas.iter().filter(|_| wanted("pg_namespace"));
            schemas.find(|x| x.oid == o).and_then(|x| x.comment.clone())
        });
        Ok(class
            .or_else(|| {
                s.function(o)
                    .filter(|_| wanted("pg_proc"))
                    .and_then(|f| f.description.clone())
            })
            .into())
    }),
    bound("col_description", TEXT, |s, a| {
        let (Some(of), Some(number)) = (int(a, 0)?.map(oid), int(a, 1)?) else {
            return Ok(Value::Null);
        };
        let column = s.relation(of).and_then(|(_, r)| r.column(i16::try_from(number).ok()?));
        Ok(column.and_then(|c| c.comment.clone()).into())
    }),
    bound("to_regclass", PgType::Scalar(Scalar::Regclass), |s, a| {
        Ok(text(a, 0).and_then(split_name).and_then(|n| s.find_class(&n)).into())
    }),
    bound("to_regproc", PgType::Scalar(Scalar::Regproc), |s, a| {
        Ok(text(a, 0).and_then(split_name).and_then(|n| s.find_function(&n)).into())
    }),
    bound("to_regnamespace", PgType::Scalar(Scalar::Oid), |s, a| {
        Ok(text(a, 0).and_then(|n| s.schema_oid(n)).into())
    }),
    bound("to_regrole", PgType::Scalar(Scalar::Oid), |s, a| {
        Ok(text(a, 0).and_then(|n| s.user_oid(n)).into())
    }),
    bound("bulkhead_regclass", PgType::Scalar(Scalar::Regclass), |s, a| {
        alias(
            a,
            |n| s.find_class(n),
            Code::UndefinedTable,
            |n| format!("relation \"{n}\" does not exist"),
        )
    }),
    bound("bulkhead_regproc", PgType::Scalar(Scalar::Regproc), |s, a| {
        alias(
            a,
            |n| s.find_function(n),
            Code::UndefinedFunction,
            |n| format!("function \"{n}\" does not exist"),
        )
    }),
    bound("bulkhead_regtype", PgType::Scalar(Scalar::Regtype), |_, a| {
        match a.first() {
            Some(Value::Text(name)) if name.parse::<u32>().is_err() => match types::type_oid(name) {
                Some(found) => Ok(found.into()),
                None => Err(fail(Code::UndefinedObject, format!("type \"{name}\" does not exist"))),
            },
            _ => Ok(int(a, 0)?.into()),
        }
    }),
    bound("bulkhead_regnamespace", PgType::Scalar(Scalar::Oid), |s, a| {
        let find = |n: &[String]| n.first().and_then(|n| s.schema_oid(n));
        alias(a, find, Code::UndefinedObject, |n| {
            format!("schema \"{n}\" does not exist")
        })
    }),
    bound("bulkhead_regrole", PgType::Scalar(Scalar::Oid), |s, a| {
        let find = |n: &[String]| n.first().and_then(|n| s.user_oid(n));
        alias(a, find, Code::UndefinedObject, |n| {
            format!("role \"{n}\" does not exist")
        })
    }),
    // bulkhead_regtext(oid, 'regclass'): what `oid::regclass::text` prints.
    bound("bulkhead_regtext", TEXT, |s, a| {
        let Some(o) = int(a, 0)?.map(oid) else {
            return Ok(Value::Null);
        };
        Ok(match text(a, 1) {
            Some("regnamespace") => s.schema_name(o).map_or_else(|| o.to_string(), quote_ident),
            Some("regrole") => s.user_name(o).map_or_else(|| o.to_string(), quote_ident),
            Some("regtype") => s.print_reg(Scalar::Regtype, o),
            Some("regproc" | "regprocedure") => s.print_reg(Scalar::Regproc, o),
            _ => s.print_reg(Scalar::Regclass, o),
        }
        .into())
    }),
];

/// The text of `version()`.
pub fn version() -> String {
    let (own, arch) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    format!("PostgreSQL 16.6 (Bulkhead {own}) on {arch}-pc-linux-gnu, compiled by rustc, 64-bit")
}

fn existing(s: &CatalogSnapshot) -> impl Iterator<Item = &str> {
    s.search_path
        .iter()
        .map(String::as_str)
        .filter(|n| s.schema_oid(n).is_some())
}

pub(super) fn text(arguments: &[Value], at: usize) -> Option<&str> {
    match arguments.get(at) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

/// An integer argument; text is read as one, as PostgreSQL does with a literal of no type.
/// `chr()`. No text may hold a NUL, so that none reaches a client that ends its strings there.
fn character(code: Option<i64>) -> Result<Value> {
    let Some(code) = code else { return Ok(Value::Null) };
    match u32::try_from(code).ok().and_then(char::from_u32) {
        Some('\0') => Err(fail(Code::TooLarge, "null character not permitted")),
        Some(character) => Ok(character.to_string().as_str().into()),
        None => Err(fail(Code::TooLarge, format!("{code} is not the number of a character"))),
    }
}

pub(super) fn int(arguments: &[Value], at: usize) -> Result<Option<i64>> {
    match arguments.get(at) {
        Some(Value::Int(i)) => Ok(Some(*i)),
        Some(Value::Text(text)) => match text.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(fail(Code::InvalidText, "invalid input syntax for type oid")),
        },
        _ => Ok(None),
    }
}

/// An OID as it is kept: 32 bits, the upper half negative.
fn oid(number: i64) -> i32 {
    number as i32
}

/// A relation given as OID or as name.
fn class(s: &CatalogSnapshot, arguments: &[Value]) -> Result<Option<i32>> {
    match text(arguments, 0).filter(|t| t.parse::<u32>().is_err()) {
        Some(name) => Ok(split_name(name).and_then(|n| s.find_class(&n))),
        None => Ok(int(arguments, 0)?.map(oid)),
    }
}

fn alias(
    arguments: &[Value],
    find: impl Fn(&[String]) -> Option<i32>,
    code: Code,
    missing: impl Fn(&str) -> String,
) -> Result<Value> {
    match text(arguments, 0) {
        Some("-") => Ok(Value::Int(0)),
        Some(name) if name.parse::<u32>().is_err() => {
            let split = split_name(name).ok_or_else(|| fail(Code::InvalidParameterValue, "invalid name syntax"))?;
            find(&split).map(Value::from).ok_or_else(|| fail(code, missing(name)))
        }
        _ => Ok(int(arguments, 0)?.map(oid).into()),
    }
}

fn function(
    s: &CatalogSnapshot,
    arguments: &[Value],
    own: impl Fn(&super::catalog::FunctionInfo) -> String,
    builtin: impl Fn(&builtin::Function) -> String,
) -> Result<Option<String>> {
    let Some(o) = int(arguments, 0)?.map(oid) else {
        return Ok(None);
    };
    let system = || builtin::FUNCTIONS.iter().find(|f| f.oid == o).map(builtin);
    Ok(s.function(o).map(own).or_else(system))
}

fn print_types(oids: &[i64]) -> String {
    let print = |&o: &i64| types::format_type(oid(o), -1).unwrap_or_default();
    oids.iter().map(print).collect::<Vec<_>>().join(", ")
}

fn format_type(arguments: &[Value]) -> Result<Value> {
    let Some(ty) = int(arguments, 0)?.map(oid) else {
        return Ok(Value::Null);
    };
    let modifier = int(arguments, 1)?;
    Ok(match ty {
        0 => "-".into(),
        1042 if modifier.is_none() => "character".into(),
        _ => types::format_type(ty, modifier.map_or(-1, oid))
            .unwrap_or_else(|| "???".to_owned())
            .into(),
    })
}

/// A LIKE pattern with this escape character, written anew with a backslash as its escape.
fn pattern(pattern: &str, escape: &str) -> String {
    let escape = escape.chars().next();
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            out.push('\\');
            out.extend(chars.next());
        } else if c == '\\' {
            out.push_str("\\\\");
        } else {
            out.push(c);
        }
    }
    out
}

pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Int(i) => i.to_string(),
        Value::Float(f) => f.to_string(),
        Value::Bool(b) => if *b { "t" } else { "f" }.to_owned(),
        Value::Null | Value::List(_) => String::new(),
    }
}

pub(super) fn quote_literal(value: &Value) -> String {
    let text = match value {
        Value::Bool(b) => b.to_string(),
        other => plain(other),
    };
    let escape = if text.contains('\\') { "E" } else { "" };
    format!("{escape}'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The upper bound of an array with elements, in its only dimension.
fn bounds(arguments: &[Value]) -> Option<i64> {
    match (arguments.first(), arguments.get(1)) {
        (Some(Value::List(elements)), Some(Value::Int(1))) if !elements.is_empty() => Some(elements.len() as i64),
        _ => None,
    }
}
