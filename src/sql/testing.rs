//! What tests of sessions share: one statement, and the tenant behind a session.

use futures::StreamExt;

use super::{
    session::{Answer, Session},
    world::{TenantWorld, World},
};
use crate::error::Result;

/// Runs every statement of a text and reads its rows.
pub(super) async fn run(session: &mut Session, sql: &str) -> Result<()> {
    for parsed in session.parse(sql)? {
        let prepared = session.prepare(&parsed, &[]).await?;
        if let Answer::Rows { mut rows, .. } = session.execute(&prepared, &[]).await? {
            while let Some(batch) = rows.next().await {
                batch?;
            }
        }
    }
    Ok(())
}

/// The tenant whose session it is.
pub(super) fn tenant(session: &Session) -> &TenantWorld {
    let World::Tenant(world) = &*session.world else {
        panic!("a tenant's session")
    };
    world
}
