//! From a host to an authenticated connection: name, socket, TLS, password.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::config::{self, SslNegotiation};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect as _};
use tokio_postgres::{CancelToken, Client, Config, Connection};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::failure::{ConnectFailure, FailureClass};
use super::options::{ChannelBinding, ConnectOptions, Host, SslMode};
use super::password;
use super::tls::TlsCache;
use super::wire::{Established, Transport, Wire};

/// Asks whether the server speaks TLS: a length of 8 and the code 1234.5679.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// An authenticated connection that nobody drives yet.
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) connection: Connection<Wire, Wire>,
    pub(super) route: Route,
    /// When this is set, the connection ends only when the server's process is gone.
    pub(super) lingers: Arc<AtomicBool>,
    process_id: Arc<AtomicI32>,
}

impl Link {
    /// The process that the server claims to serve us with.
    pub(super) fn process_id(&self) -> i32 {
        self.process_id.load(Ordering::Relaxed)
    }
}

/// The way that led to a server, so that a cancel request takes the same.
#[derive(Clone)]
pub(super) struct Route {
    address: Address,
    encryption: Option<Encryption>,
}

#[derive(Clone)]
enum Address {
    Socket(PathBuf),
    Tcp(SocketAddr),
}

#[derive(Clone)]
struct Encryption {
    connect: MakeRustlsConnect,
    name: String,
    /// Without TLS if the server has none.
    optional: bool,
    /// Without asking whether it has.
    direct: bool,
}

impl Route {
    /// Opens a socket, and TLS on it if that is agreed.
    async fn open(&self) -> Result<Wire, ConnectFailure> {
        let dialled = |error: io::Error| ConnectFailure::of_io("connect", &error);
        let mut stream = match &self.address {
            Address::Socket(path) => {
                return UnixStream::connect(path).await.map(Transport::Unix).map(Wire::new).map_err(dialled);
            }
            Address::Tcp(address) => TcpStream::connect(address).await.map_err(dialled)?,
        };
        stream.set_nodelay(true).map_err(dialled)?;
        let Some(Encryption { connect, name, optional, direct }) = &self.encryption else {
            return Ok(Wire::new(Transport::Tcp(stream)));
        };
        if !direct {
            let negotiated = |error: io::Error| ConnectFailure::of_io("ask for TLS", &error);
            stream.write_all(&SSL_REQUEST).await.map_err(negotiated)?;
            match stream.read_u8().await.map_err(negotiated)? {
                b'S' => {}
                b'N' if *optional => return Ok(Wire::new(Transport::Tcp(stream))),
                b'N' => return Err(ConnectFailure::new(FailureClass::Tls, "the server does not offer TLS")),
                _ => return Err(ConnectFailure::new(FailureClass::Other, "this is not a PostgreSQL server")),
            }
        }
        let Ok(handshake) = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut connect.clone(), name);
        match handshake.connect(stream).await {
            Ok(stream) => Ok(Wire::new(Transport::Tls(Box::new(stream)))),
            Err(error) => Err(ConnectFailure::new(FailureClass::Tls, format!("TLS: {error}"))),
        }
    }

    /// Asks the server to cancel what the session does. That it is done, only the session's end tells.
    pub(super) async fn cancel(&self, token: &CancelToken) -> Result<(), ConnectFailure> {
        let wire = self.open().await?;
        token.cancel_query_raw(wire, Established).await.map_err(|error| ConnectFailure::of_driver("cancel", &error))
    }
}

/// Connects to one host, at the latest at the deadline; its addresses share the time.
pub(super) async fn connect(
    options: &ConnectOptions,
    host: &Host,
    tls: &TlsCache,
    deadline: Instant,
) -> Result<Link, ConnectFailure> {
    let started = Instant::now();
    let late = || ConnectFailure::timeout("connect", deadline - started);
    let attempt = async {
        let addresses = addresses(host).await?;
        let mut failure = ConnectFailure::new(FailureClass::Unreachable, "the name has no address");
        let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        for address in addresses {
            let share = deadline.saturating_duration_since(Instant::now()) / left;
            left -= 1;
            match timeout_at(Instant::now() + share, with_modes(options, host, tls, address)).await {
                Ok(Ok(link)) => return Ok(link),
                Ok(Err(refused)) if !refused.class.may_differ_on_another_host() => return Err(refused),
                Ok(Err(other)) => failure = other,
                Err(_) => failure = late(),
            }
        }
        Err(failure)
    };
    let outcome = timeout_at(deadline, attempt).await.unwrap_or_else(|_| Err(late()));
    outcome.map_err(|failure| ConnectFailure { message: format!("{host}: {}", failure.message), ..failure })
}

async fn addresses(host: &Host) -> Result<Vec<Address>, ConnectFailure> {
    match host {
        Host::Socket { directory, port } => Ok(vec![Address::Socket(directory.join(format!(".s.PGSQL.{port}")))]),
        Host::Tcp { address: Some(address), port, .. } => Ok(vec![Address::Tcp((*address, *port).into())]),
        Host::Tcp { name, port, .. } => match lookup_host((name.as_str(), *port)).await {
            Ok(found) => Ok(found.map(Address::Tcp).collect()),
            Err(error) => Err(ConnectFailure::new(FailureClass::Unreachable, format!("look up the name: {error}"))),
        },
    }
}

/// Tries with and without TLS, in the order that the mode says.
///
/// As in libpq `prefer` and `allow` take a second way, but only where it can help: when TLS itself fails or
/// `pg_hba.conf` tells the ways apart, not after a wrong password, which would be two failures in the server's log.
async fn with_modes(
    options: &ConnectOptions,
    host: &Host,
    tls: &TlsCache,
    address: Address,
) -> Result<Link, ConnectFailure> {
    let plain = Route { address: address.clone(), encryption: None };
    let encrypted = |optional| {
        let connect = tls
            .connector(&options.tls)
            .map_err(|failure| ConnectFailure::new(FailureClass::Tls, format!("TLS: {failure}")))?;
        let name = match host {
            Host::Tcp { name, .. } => name.clone(),
            Host::Socket { .. } => String::new(),
        };
        let encryption = Encryption { connect, name, optional, direct: options.tls.direct };
        Ok(Route { address: address.clone(), encryption: Some(encryption) })
    };
    let joined = |first: ConnectFailure, second: ConnectFailure| ConnectFailure {
        message: format!("{}; {}", first.message, second.message),
        ..second
    };
    let refused_by_rule = |failure: &ConnectFailure| failure.sqlstate.as_deref() == Some("28000");
    match (&address, options.tls.mode) {
        (Address::Socket(_), _) | (_, SslMode::Disable) => log_in(options, host, &plain, plain.open().await?).await,
        (_, SslMode::Allow) => match log_in(options, host, &plain, plain.open().await?).await {
            Err(first) if refused_by_rule(&first) => {
                let route = encrypted(false)?;
                let second = async { log_in(options, host, &route, route.open().await?).await };
                second.await.map_err(|second| joined(first, second))
            }
            outcome => outcome,
        },
        (_, SslMode::Prefer) => {
            let first = async {
                let route = encrypted(true).map_err(|failure| (true, failure))?;
                let wire = route.open().await.map_err(|failure| (failure.class == FailureClass::Tls, failure))?;
                let encrypted = wire.is_encrypted();
                let outcome = log_in(options, host, &route, wire).await;
                outcome.map_err(|failure| {
                    (encrypted && (failure.class == FailureClass::Tls || refused_by_rule(&failure)), failure)
                })
            };
            match first.await {
                Ok(link) => Ok(link),
                Err((true, first)) => {
                    let second = async { log_in(options, host, &plain, plain.open().await?).await };
                    second.await.map_err(|second| joined(first, second))
                }
                Err((false, failure)) => Err(failure),
            }
        }
        (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => {
            let route = encrypted(false)?;
            log_in(options, host, &route, route.open().await?).await
        }
    }
}

async fn log_in(options: &ConnectOptions, host: &Host, route: &Route, wire: Wire) -> Result<Link, ConnectFailure> {
    let mut config = Config::new();
    config.user(&options.user).dbname(&options.database);
    if let Some(password) = password::find(options, host).await? {
        config.password(password.reveal());
    }
    config.channel_binding(match options.channel_binding {
        ChannelBinding::Disable => config::ChannelBinding::Disable,
        ChannelBinding::Prefer => config::ChannelBinding::Prefer,
        ChannelBinding::Require => config::ChannelBinding::Require,
    });
    // TLS is there already if it is wanted: `Direct` keeps the driver from asking the server for it once more.
    if wire.is_encrypted() {
        config.ssl_mode(config::SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
    } else {
        config.ssl_mode(config::SslMode::Disable);
    }
    let (process_id, lingers) = (wire.process_id(), wire.lingers());
    match config.connect_raw(wire, Established).await {
        Ok((client, connection)) => Ok(Link { client, connection, route: route.clone(), lingers, process_id }),
        Err(error) => Err(ConnectFailure::of_driver("log in", &error)),
    }
}

/// The moment at which one of so many hosts has had its share of the time.
pub(super) fn share(deadline: Instant, hosts_left: usize, limit: Option<Duration>) -> Instant {
    let now = Instant::now();
    let left = deadline.saturating_duration_since(now);
    let share = left / u32::try_from(hosts_left.max(1)).unwrap_or(u32::MAX);
    now + limit.map_or(share, |limit| share.min(limit))
}
