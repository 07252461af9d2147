//! Whether the user of a session is still one.
//!
//! A user who was dropped, whose password was changed or whose role was lowered is told so at the next statement,
//! and the connection ends.

use super::{
    session::Session,
    world::{TenantWorld, World},
};
use crate::{
    error::{Code, Error, Result},
    tenant::User,
};

/// What a session's login was worth when it was last looked at.
pub(super) struct Admission {
    /// The user with what the login proved; `None` on the operator's plane.
    user: Option<User>,
    /// Changes of users at that time.
    seen: u64,
    over: bool,
}

impl Admission {
    pub(super) fn of(world: &World) -> Self {
        let user = match world {
            World::Tenant(world) => Some(world.user.clone()),
            World::Operator(_) => None,
        };
        // The first statement looks for itself: users may have changed since the login.
        Self {
            user,
            seen: u64::MAX,
            over: false,
        }
    }

    fn check(&mut self, world: &TenantWorld) -> Result<()> {
        let changes = world.tenant.users_changed();
        if self.seen != changes
            && let Some(user) = &self.user
        {
            self.over |= !world.tenant.admits(user)?;
            self.seen = changes;
        }
        match self.over {
            false => Ok(()),
            true => Err(Error::new(
                Code::InvalidAuthorization,
                "terminating connection because its user was dropped or changed",
            )
            .with_hint("log in again")),
        }
    }
}

impl Session {
    /// A dropped or suspended tenant ends its sessions' statements, and so does what happened to their user.
    ///
    /// # Errors
    /// 28000; where [`Session::is_over`] says so afterwards, the connection ends with it. 55000 when suspended.
    pub fn check_alive(&mut self) -> Result<()> {
        match &*self.world {
            World::Tenant(world) => {
                world.tenant.check_open()?;
                self.admission.check(world)
            }
            World::Operator(_) => Ok(()),
        }
    }

    /// Whether the session's user may not go on with it.
    pub fn is_over(&self) -> bool {
        self.admission.over
    }

    /// The user has just changed their own password: this session of theirs goes on.
    pub(super) fn admit_again(&mut self) -> Result<()> {
        if let (World::Tenant(world), Some(user)) = (&*self.world, &mut self.admission.user)
            && let Some(again) = world.tenant.admitted_again(user)?
        {
            *user = again;
        }
        Ok(())
    }
}
