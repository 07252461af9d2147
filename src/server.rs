//! The listener: accepts sockets, bounds how many there are, and stops in good order.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, lookup_host},
    sync::{oneshot, watch},
    task::JoinSet,
};

use crate::{
    error::{Code, Error, Result},
    limits,
    sql::Engine,
    wire::{Door, Stop, TlsFiles},
};

/// Connections the system keeps until they are accepted.
const BACKLOG: u32 = 1024;
/// How long to wait when a connection cannot be accepted (file descriptors are used up).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long interrupted sessions have to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

/// How to listen.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Address and port, such as `127.0.0.1:5432`; port 0 lets the system choose.
    pub listen: String,
    /// Certificate and key; without them there is no TLS.
    pub tls: Option<TlsFiles>,
    /// Whether logins over unencrypted sockets are refused.
    pub require_tls: bool,
}

/// A bound listener with everything it needs to serve.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    door: Door,
    stop: watch::Sender<Stop>,
}

impl Server {
    /// Binds the address and loads the TLS files.
    ///
    /// # Errors
    /// [`Code::Io`] naming the address or file that cannot be used.
    pub async fn bind(options: &ServerOptions, engine: Arc<Engine>) -> Result<Self> {
        let (stop, stopped) = watch::channel(Stop::No);
        let door = Door::new(engine, options.tls.as_ref(), options.require_tls, stopped)?;
        let listener = listen(&options.listen)
            .await
            .map_err(|error| cannot_listen(&options.listen, &error))?;
        let address = listener
            .local_addr()
            .map_err(|error| cannot_listen(&options.listen, &error))?;
        Ok(Self {
            listener,
            address,
            door,
            stop,
        })
    }

    /// The address bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is done. Then idle sessions end at once, running statements get
    /// [`limits::STOP_DEADLINE`], and it returns when the last connection is closed.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self {
            listener,
            door,
            stop: stopping,
            ..
        } = self;
        let door = Arc::new(door);
        let pending = Arc::new(Pending::default());
        let mut tasks = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(ended) = tasks.join_next() => log_panic(ended),
                accepted = listener.accept() => match accepted {
                    Ok((socket, peer)) => {
                        tasks.spawn(serve(door.clone(), pending.clone(), socket, peer));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        pending.evict_oldest();
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        stopping.send_replace(Stop::Idle);
        if !ended(&mut tasks, limits::STOP_DEADLINE).await {
            stopping.send_replace(Stop::Now);
            if !ended(&mut tasks, FAREWELL).await {
                tasks.shutdown().await;
            }
        }
    }
}

/// Waits for all connections to end; `false` when that takes longer than `patience`.
async fn ended(tasks: &mut JoinSet<()>, patience: Duration) -> bool {
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            log_panic(ended);
        }
    };
    tokio::time::timeout(patience, all).await.is_ok()
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection ended in a panic");
    }
}

async fn serve(door: Arc<Door>, pending: Arc<Pending>, socket: TcpStream, peer: SocketAddr) {
    // Without it small answers would wait for the client's acknowledgement of earlier ones.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "a socket was closed before it was served");
        return;
    }
    let (place, evicted) = pending.enter();
    // An address of version 4 that came over a socket of version 6 is still one address.
    door.serve(socket, peer.ip().to_canonical(), evicted, || pending.leave(place))
        .await;
}

async fn listen(listen: &str) -> io::Result<TcpListener> {
    let mut failed = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    for address in lookup_host(listen).await? {
        match bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it: a client whose machine is gone is noticed in the end.
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn cannot_listen(address: &str, error: &io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "another program uses it: stop that one or choose another port",
        io::ErrorKind::PermissionDenied => "choose a port above 1023 or another address",
        _ => "give an address of this machine and a port, such as 127.0.0.1:5432",
    };
    Error::new(Code::Io, format!("cannot listen on {address}: {error}")).with_hint(hint)
}

/// The logins under way. When there are too many, the oldest ends: real logins take milliseconds, so it
/// is most likely one that only holds a place.
#[derive(Default)]
struct Pending {
    logins: Mutex<Logins>,
}

#[derive(Default)]
struct Logins {
    next: u64,
    places: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Pending {
    /// Takes a place; the receiver ends when it is lost.
    fn enter(&self) -> (u64, oneshot::Receiver<()>) {
        let (sender, evicted) = oneshot::channel();
        let mut logins = self.lock();
        while logins.places.len() >= limits::PENDING_LOGINS {
            logins.places.pop_first();
        }
        let place = logins.next;
        logins.next += 1;
        logins.places.insert(place, sender);
        (place, evicted)
    }

    fn leave(&self, place: u64) {
        self.lock().places.remove(&place);
    }

    fn evict_oldest(&self) {
        self.lock().places.pop_first();
    }

    fn lock(&self) -> MutexGuard<'_, Logins> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c13_the_oldest_login_makes_place() {
        let pending = Pending::default();
        let mut entered: Vec<_> = (0..limits::PENDING_LOGINS).map(|_| pending.enter()).collect();
        assert!(
            entered[0]
                .1
                .try_recv()
                .is_err_and(|e| e == oneshot::error::TryRecvError::Empty)
        );
        let (place, mut newest) = pending.enter();
        assert!(
            entered[0]
                .1
                .try_recv()
                .is_err_and(|e| e == oneshot::error::TryRecvError::Closed)
        );
        assert!(
            entered[1]
                .1
                .try_recv()
                .is_err_and(|e| e == oneshot::error::TryRecvError::Empty)
        );
        assert!(
            newest
                .try_recv()
                .is_err_and(|e| e == oneshot::error::TryRecvError::Empty)
        );
        pending.leave(place);
        assert_eq!(pending.lock().places.len(), limits::PENDING_LOGINS - 1);
    }

    #[tokio::test]
    async fn an_address_in_use_is_named() {
        let first = listen("127.0.0.1:0").await.unwrap();
        let address = first.local_addr().unwrap().to_string();
        let error = cannot_listen(&address, &listen(&address).await.map(|_| ()).unwrap_err());
        assert_eq!(error.code(), Code::Io);
        assert!(error.message().contains(&address) && error.hint().is_some_and(|h| h.contains("another program")));
    }
}
