//! The login: SASL with SCRAM-SHA-256, bound to the TLS channel where there is one.
//!
//! Who exists and which password is right is known by [`crate::tenant`] only. Whatever fails here ends the
//! connection; nothing in this file can lead to ReadyForQuery.

use std::net::IpAddr;

use bytes::Bytes;
use pgwire::messages::startup::{Authentication, NegotiateProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Trouble,
    channel::Channel,
    frame::{self, Stage},
    startup::Startup,
};
use crate::{
    sql::Engine,
    tenant::{Binding, Login},
};

/// Proves who the client is. `server_end_point` is that of the certificate the client has seen.
pub(super) async fn login<S: AsyncRead + AsyncWrite + Unpin>(
    channel: &mut Channel<S>,
    engine: &Engine,
    startup: &Startup,
    peer: IpAddr,
    server_end_point: Option<Vec<u8>>,
) -> Result<Login, Trouble> {
    if let Some(refused) = &startup.negotiate {
        let version = startup.version.cast_signed();
        channel.put(&NegotiateProtocolVersion::new(version, refused.clone()))?;
    }
    let binding = match server_end_point {
        Some(server_end_point) => Binding::Tls { server_end_point },
        None => Binding::Plain,
    };
    let mut attempt = engine.directory().attempt(&startup.database, &startup.user, peer);
    let mechanisms = attempt.mechanisms(&binding);
    channel.put(&Authentication::SASL(
        mechanisms.iter().map(|m| (*m).to_owned()).collect(),
    ))?;

    let (mechanism, client_first) = frame::sasl_first(answer(channel).await?)?;
    if !mechanisms.contains(&mechanism.as_str()) {
        return Err(frame::violation("client selected an invalid SASL authentication mechanism").into());
    }
    let server_first = attempt.first(&mechanism, &client_first, binding)?;
    channel.put(&Authentication::SASLContinue(server_first.into()))?;

    let client_final = answer(channel).await?;
    let verdict = attempt.last(&client_final);
    // Nothing is held here but the socket, whose place among the pending logins is given to others
    // when they need it.
    if !verdict.delay.is_zero() {
        // Even a sleep of nothing would last until the timer's next tick, up to a millisecond.
        tokio::time::sleep(verdict.delay).await;
    }
    let (login, server_final) = verdict.outcome?;
    channel.put(&Authentication::SASLFinal(server_final.into()))?;
    Ok(login)
}

/// The client's next answer.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(channel: &mut Channel<S>) -> Result<Bytes, Trouble> {
    channel.flush().await?;
    let (_, body) = channel.frame(Stage::Login).await?.ok_or(Trouble::Gone)?;
    Ok(body)
}
