//! `nextval`, `currval`, `lastval` and `setval`, on the tenant's own sequences.

use std::{collections::HashMap, sync::Arc};

use datafusion::arrow::{
    array::{Int64Array, RecordBatch},
    datatypes::Schema,
};
use futures::future::BoxFuture;

use super::{Args, Function, Kind, Plane, Returns, parameter, t};
use crate::{
    codec::pgtype::Scalar,
    error::{Code, Error, Result},
    sql::{
        pg::catalog::split_name,
        tables::rights::{self, Privilege},
        world::{TenantWorld, World},
    },
    table::schema::{Oid, Relation, SequenceDef},
    tenant::Role,
};

type Answer = BoxFuture<'static, Result<RecordBatch>>;

const ALL_ROLES: &[Role] = &[Role::Owner, Role::Member, Role::Service, Role::Analyst];

/// Their names: they are called for each row, and give something else each time.
pub(in crate::sql) const NAMES: &[&str] = &["nextval", "currval", "lastval", "setval"];

/// These functions. A sequence is given by its name, or by its number as `'name'::regclass` gives it.
pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "nextval",
        parameters: &[parameter("regclass", Kind::Text, None)],
        returns: Returns::Value(t(Scalar::Int8)),
        plane: Plane::Tenant(ALL_ROLES),
        effect: false,
        call: nextval,
    },
    Function {
        name: "currval",
        parameters: &[parameter("regclass", Kind::Text, None)],
        returns: Returns::Value(t(Scalar::Int8)),
        plane: Plane::Tenant(ALL_ROLES),
        effect: false,
        call: currval,
    },
    Function {
        name: "lastval",
        parameters: &[],
        returns: Returns::Value(t(Scalar::Int8)),
        plane: Plane::Tenant(ALL_ROLES),
        effect: false,
        call: lastval,
    },
    Function {
        name: "setval",
        parameters: &[
            parameter("regclass", Kind::Text, None),
            parameter("value", Kind::BigInt, None),
            parameter("is_called", Kind::Bool, Some("true")),
        ],
        returns: Returns::Value(t(Scalar::Int8)),
        plane: Plane::Tenant(ALL_ROLES),
        effect: false,
        call: setval,
    },
];

/// What a session has got of sequences.
#[derive(Debug, Default)]
pub(in crate::sql) struct Given {
    last: Option<Oid>,
    of: HashMap<Oid, i64>,
}

impl Given {
    /// A sequence gave a number.
    pub(in crate::sql) fn note(&mut self, sequence: Oid, value: i64) {
        self.last = Some(sequence);
        self.of.insert(sequence, value);
    }
}

fn one(value: i64) -> Result<RecordBatch> {
    let schema = Schema::new(vec![t(Scalar::Int8).field("value", true)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(vec![value]))]).map_err(Error::internal)
}

/// The sequence that a name or number means.
fn find(world: &TenantWorld, named: &str) -> Result<Arc<SequenceDef>> {
    let view = world.view()?;
    let catalog = view.catalog();
    let missing = || Error::new(Code::UndefinedTable, format!("relation \"{named}\" does not exist"));
    let found = match named.parse::<Oid>() {
        Ok(oid) => catalog.relations.get(&oid),
        Err(_) => {
            let parts = split_name(named).ok_or_else(missing)?;
            match parts.as_slice() {
                [schema, name] => catalog.find(schema, name),
                [name] => {
                    let path = world.desk.settings.lock().path();
                    path.iter().find_map(|schema| catalog.find(schema, name))
                }
                _ => None,
            }
        }
    };
    match found {
        Some(relation @ Relation::Sequence(sequence)) => {
            rights::require(world, relation, Privilege::Update)?;
            Ok(sequence.clone())
        }
        Some(relation) => {
            let text = format!("\"{}\" is not a sequence", relation.name().1);
            Err(Error::new(Code::WrongObjectType, text))
        }
        None => Err(missing()),
    }
}

fn nextval(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        world.check_writable("nextval()")?;
        world.tables().await?;
        let sequence = find(world, args.text(0)?)?;
        let numbers = world.opened()?.sequences().next(&sequence, 1).await?;
        let value = numbers
            .first()
            .copied()
            .ok_or_else(|| Error::internal("a sequence gave nothing"))?;
        world.given.lock().note(sequence.oid, value);
        one(value)
    })
}

fn currval(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        world.tables().await?;
        let sequence = find(world, args.text(0)?)?;
        let known = world.given.lock().of.get(&sequence.oid).copied();
        one(known.ok_or_else(|| {
            let text = format!(
                "currval of sequence \"{}\" is not yet defined in this session",
                sequence.name
            );
            Error::new(Code::NotReady, text)
        })?)
    })
}

fn lastval(world: Arc<World>, _args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        let known = {
            let given = world.given.lock();
            given.last.and_then(|last| given.of.get(&last).copied())
        };
        one(known.ok_or_else(|| Error::new(Code::NotReady, "lastval is not yet defined in this session"))?)
    })
}

fn setval(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        world.check_writable("setval()")?;
        world.tables().await?;
        let sequence = find(world, args.text(0)?)?;
        let (value, is_called) = (args.bigint(1)?, args.bool(2)?);
        world.opened()?.sequences().set(&sequence, value, is_called).await?;
        if is_called {
            world.given.lock().of.insert(sequence.oid, value);
        }
        one(value)
    })
}
