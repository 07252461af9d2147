//! The protocol as clients and attackers speak it: frames, logins, the extended protocol, values, bad input.
//! Rows of THREATS.md part C are named by their ids.

mod common;

#[path = "wire/copy.rs"]
mod copy;
#[path = "wire/cursors.rs"]
mod cursors;
#[path = "wire/extended.rs"]
mod extended;
#[path = "wire/frames.rs"]
mod frames;
#[path = "wire/input.rs"]
mod input;
#[path = "wire/listening.rs"]
mod listening;
#[path = "wire/logins.rs"]
mod logins;
#[path = "wire/running.rs"]
mod running;
#[path = "wire/sessions.rs"]
mod sessions;
#[path = "wire/tls.rs"]
mod tls;
#[path = "wire/values.rs"]
mod values;

use common::server::Server;

/// The tenant of these tests.
const T: &str = "acme";

/// A server with one tenant.
async fn served() -> Server {
    let server = Server::start("wire");
    server.create_tenants(&[T]).await;
    server
}
