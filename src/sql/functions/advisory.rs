//! Advisory locks: numbers that the sessions of a tenant lock by agreement.
//!
//! They are kept with the locks of rows and tables, so that whoever waits crosswise is found out, and like those
//! they are of one tenant: the same number in another one is another lock.

use std::sync::Arc;

use datafusion::common::ScalarValue;

use super::server::{Answer, NOTHING, ServerFunction, function, integer};
use crate::{
    codec::pgtype::Scalar,
    error::{Code, Error, Result},
    sql::world::{TenantWorld, World},
    table::{Mode, Resource},
};

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Lock,
    Try,
    Unlock,
}

/// How long a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    SessionEnd,
    TransactionEnd,
}

macro_rules! locking {
    ($name:literal, $returns:expr, $act:expr, $until:expr, $mode:expr) => {
        function($name, &[1, 2], $returns, |world, args| {
            Box::pin(async move { call(&world, $name, &args, $act, $until, $mode).await })
        })
        .with_effect(matches!($until, Until::TransactionEnd))
    };
}

/// All of them.
pub(super) const FUNCTIONS: &[ServerFunction] = &[
    locking!(
        "pg_advisory_lock",
        Scalar::Void,
        Act::Lock,
        Until::SessionEnd,
        Mode::Exclusive
    ),
    locking!(
        "pg_advisory_lock_shared",
        Scalar::Void,
        Act::Lock,
        Until::SessionEnd,
        Mode::Shared
    ),
    locking!(
        "pg_advisory_xact_lock",
        Scalar::Void,
        Act::Lock,
        Until::TransactionEnd,
        Mode::Exclusive
    ),
    locking!(
        "pg_advisory_xact_lock_shared",
        Scalar::Void,
        Act::Lock,
        Until::TransactionEnd,
        Mode::Shared
    ),
    locking!(
        "pg_try_advisory_lock",
        Scalar::Bool,
        Act::Try,
        Until::SessionEnd,
        Mode::Exclusive
    ),
    locking!(
        "pg_try_advisory_lock_shared",
        Scalar::Bool,
        Act::Try,
        Until::SessionEnd,
        Mode::Shared
    ),
    locking!(
        "pg_try_advisory_xact_lock",
        Scalar::Bool,
        Act::Try,
        Until::TransactionEnd,
        Mode::Exclusive
    ),
    locking!(
        "pg_try_advisory_xact_lock_shared",
        Scalar::Bool,
        Act::Try,
        Until::TransactionEnd,
        Mode::Shared
    ),
    locking!(
        "pg_advisory_unlock",
        Scalar::Bool,
        Act::Unlock,
        Until::SessionEnd,
        Mode::Exclusive
    ),
    locking!(
        "pg_advisory_unlock_shared",
        Scalar::Bool,
        Act::Unlock,
        Until::SessionEnd,
        Mode::Shared
    ),
    function("pg_advisory_unlock_all", &[0], Scalar::Void, unlock_all),
];

/// The operator's plane has no sessions that would agree on anything.
fn tenant(world: &World) -> Result<&TenantWorld> {
    world
        .tenant()
        .map_err(|_| Error::new(Code::Unsupported, "the operator's plane has no advisory locks"))
}

fn resource(name: &str, args: &[ScalarValue]) -> Result<Resource> {
    let first = integer(name, args, 0)?;
    if args.len() == 1 {
        return Ok(Resource::Advisory(first));
    }
    let small =
        |number: i64| i32::try_from(number).map_err(|_| Error::new(Code::NumericOutOfRange, "integer out of range"));
    Ok(Resource::AdvisoryPair(small(first)?, small(integer(name, args, 1)?)?))
}

async fn call(
    world: &World,
    name: &str,
    args: &[ScalarValue],
    act: Act,
    until: Until,
    mode: Mode,
) -> Result<ScalarValue> {
    let world = tenant(world)?;
    let resource = resource(name, args)?;
    world.tables().await?;
    let owner = world.owner()?;
    let truth = |truth| Ok(ScalarValue::Boolean(Some(truth)));
    match (act, until) {
        (Act::Lock, Until::SessionEnd) => {
            owner.lock_session(resource, mode, world.wait()).await?;
            Ok(NOTHING)
        }
        (Act::Lock, Until::TransactionEnd) => {
            owner.lock(resource, mode, world.wait()).await?;
            Ok(NOTHING)
        }
        (Act::Try, Until::SessionEnd) => truth(owner.try_lock_session(resource, mode)),
        (Act::Try, Until::TransactionEnd) => truth(owner.try_lock(resource, mode)),
        (Act::Unlock, _) => {
            let held = owner.unlock_session(&resource, mode);
            if !held {
                let kind = if mode == Mode::Shared {
                    "ShareLock"
                } else {
                    "ExclusiveLock"
                };
                world.desk.warn(format!("you don't own a lock of type {kind}"));
            }
            truth(held)
        }
    }
}

fn unlock_all(world: Arc<World>, _: Vec<ScalarValue>) -> Answer {
    Box::pin(async move {
        // What was never locked is free: pools ask for this on every plane.
        if let World::Tenant(world) = &*world
            && world.state.tables.get().is_some()
        {
            world.owner()?.unlock_session_all();
        }
        Ok(NOTHING)
    })
}
