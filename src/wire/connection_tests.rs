//! A connection over a pipe: when a client that listens is told, and when not.

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::{Semaphore, watch},
};

use super::{
    Stop,
    cancel::Cancels,
    channel::Channel,
    connection::{Connection, Parts},
    presence::Presence,
};
use crate::{
    ledger,
    sql::{Engine, Session},
    tenant::{Directory, testing},
};

/// The client's end, with what keeps the server's end alive.
struct Client {
    pipe: DuplexStream,
    _stop: watch::Sender<Stop>,
}

async fn session(engine: &Arc<Engine>, directory: &Arc<Directory>, tenant: &str) -> Session {
    let login = testing::log_in(directory, tenant, "owner", "secret").unwrap();
    Session::open(engine.clone(), login, &[]).await.unwrap()
}

impl Client {
    async fn of(session: Session) -> Self {
        let (pipe, server) = duplex(1 << 20);
        let (sender, stop) = watch::channel(Stop::No);
        let parts = Parts {
            session,
            ticket: Arc::new(Cancels::default()).register(false),
            stop,
            place: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
        };
        tokio::spawn(Connection::new(Channel::new(server), parts, Presence::unknown()).run());
        let mut client = Self { pipe, _stop: sender };
        client.until(b'Z').await;
        client
    }

    async fn send(&mut self, tag: u8, body: &[u8]) {
        self.pipe.write_u8(tag).await.unwrap();
        self.pipe.write_u32(body.len() as u32 + 4).await.unwrap();
        self.pipe.write_all(body).await.unwrap();
    }

    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let tag = self.pipe.read_u8().await.unwrap();
        let mut body = vec![0; self.pipe.read_u32().await.unwrap() as usize - 4];
        self.pipe.read_exact(&mut body).await.unwrap();
        (tag, body)
    }

    /// The tags up to this one; with the payload behind that of a notification.
    async fn until(&mut self, last: u8) -> String {
        let mut heard = String::new();
        loop {
            let (tag, body) = self.frame().await;
            heard.push(char::from(tag));
            if tag == b'A' {
                let text = String::from_utf8(body[4..].to_vec()).unwrap();
                let (channel, payload) = text.split_once('\0').unwrap();
                assert_eq!(channel, "bulkhead_alerts");
                heard.push_str(&format!("({})", payload.trim_end_matches('\0')));
            }
            if tag == last {
                return heard;
            }
        }
    }

    async fn query(&mut self, sql: &str) -> String {
        self.send(b'Q', format!("{sql}\0").as_bytes()).await;
        self.until(b'Z').await
    }
}

#[tokio::test]
async fn a_client_that_listens_is_told_between_its_transactions() {
    let directory = testing::directory(&["acme", "umbra"]).await;
    directory.seed(ledger::defaults().unwrap()).unwrap();
    let engine = Engine::new(directory.clone()).unwrap();
    let teller = session(&engine, &directory, "acme").await;
    let mut client = Client::of(session(&engine, &directory, "acme").await).await;
    let mut other = Client::of(session(&engine, &directory, "umbra").await).await;
    assert_eq!(other.query("LISTEN bulkhead_alerts").await, "CZ");
    teller.alert("0");
    assert_eq!(client.query("LISTEN bulkhead_alerts").await, "CZ");

    // While it waits.
    teller.alert("1");
    assert_eq!(client.until(b'A').await, "A(1)");
    // At the next ReadyForQuery, if it came before it.
    client.send(b'Q', b"BEGIN\0").await;
    assert_eq!(client.until(b'Z').await, "CZ");
    teller.alert("2");
    assert_eq!(client.query("SELECT 1").await, "TDCZ", "not inside of a transaction");
    assert_eq!(client.query("nonsense").await, "EZ", "nor in one that failed");
    teller.alert("3");
    assert_eq!(client.query("ROLLBACK").await, "CA(2)A(3)Z");
    // A cycle of the extended protocol is one.
    client.send(b'P', b"\0SELECT 1\0\0\0").await;
    client.send(b'H', b"").await;
    assert_eq!(client.until(b'1').await, "1");
    teller.alert("4");
    client.send(b'D', b"S\0").await;
    client.send(b'H', b"").await;
    assert_eq!(client.until(b'T').await, "tT");
    client.send(b'S', b"").await;
    assert_eq!(client.until(b'Z').await, "A(4)Z");

    // LISTEN and UNLISTEN belong to their transaction.
    assert_eq!(client.query("BEGIN; UNLISTEN *; ROLLBACK").await, "CCCZ");
    teller.alert("5");
    assert_eq!(client.until(b'A').await, "A(5)");
    assert_eq!(client.query("UNLISTEN bulkhead_alerts").await, "CZ");
    teller.alert("6");
    assert_eq!(client.query("BEGIN; LISTEN bulkhead_alerts; ROLLBACK").await, "CCCZ");
    teller.alert("7");
    assert_eq!(client.query("SELECT 1").await, "TDCZ");
    assert_eq!(client.query("BEGIN; LISTEN bulkhead_alerts; COMMIT").await, "CCCZ");
    teller.alert("8\0x");
    assert_eq!(client.until(b'A').await, "A(8\u{fffd}x)");
    // Settings that are reported anew come with it.
    assert_eq!(client.query("DISCARD ALL").await.replace('S', ""), "CZ");
    teller.alert("9");
    assert_eq!(client.query("SELECT 1").await, "TDCZ");
    assert_eq!(other.query("SELECT 1").await, "TDCZ", "another tenant hears nothing");
}
