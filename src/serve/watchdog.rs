//! The watchdog: the service manager hears a beat only while the agent itself goes round.
//!
//! Servers and mounts that hang stop no beat, since whatever waits for them has a limit. What does stop it is a history
//! that is no longer read, a lane that does not come back, and a web server that takes no connection.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{interval, timeout};
use tracing::{error, info};

use super::Notifier;
use crate::agent::Turn;
use crate::judge::Judge;

/// How long the web server may take to react.
const LONGEST_REACTION: Duration = Duration::from_secs(5);
/// Also a server that expects TLS or a password reacts to this, if only by hanging up.
const REQUEST: &[u8] = b"GET /healthz HTTP/1.0\r\n\r\n";

/// Who looks after the agent.
pub(super) struct Watchdog {
    pub(super) notifier: Arc<Notifier>,
    pub(super) judges: watch::Receiver<Arc<Judge>>,
    /// The history's readings.
    pub(super) rounds: Arc<Turn>,
    /// Where the web server listens.
    pub(super) web: Vec<SocketAddr>,
}

impl Watchdog {
    /// Looks often enough that two looks may fail before the service manager loses patience.
    pub(super) async fn run(&self, patience: Duration) {
        let mut looks = interval((patience / 3).max(Duration::from_millis(10)));
        let mut was_well = true;
        loop {
            looks.tick().await;
            let finding = self.look().await;
            match &finding {
                Ok(()) if !was_well => info!("the agent goes round again"),
                Err(reason) if was_well => error!(reason, "the agent is stuck, the watchdog gets no beat"),
                _ => {}
            }
            was_well = finding.is_ok();
        }
    }

    /// Sends a beat, or says why not.
    async fn look(&self) -> Result<(), String> {
        let now = Instant::now();
        if self.rounds.is_overdue(now) {
            return Err("the history is no longer read".to_owned());
        }
        let wedged = self.judges.borrow().agent().wedged(now);
        if let Some((server, lane)) = wedged {
            return Err(format!("the {lane} lane of {server} does not come back"));
        }
        for &address in &self.web {
            match timeout(LONGEST_REACTION, reaction(address)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(format!("the web server takes no connection: {error}")),
                Err(_) => return Err(format!("the web server does not react within {LONGEST_REACTION:?}")),
            }
        }
        self.notifier.beat();
        Ok(())
    }
}

/// Ends when the web server has answered or hung up. The kernel alone connects, so that connecting says nothing.
async fn reaction(web: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(web).await?;
    let asked = async {
        stream.write_all(REQUEST).await?;
        stream.read(&mut [0; 64]).await
    };
    match asked.await {
        Err(error) if !matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Err(error),
        _ => Ok(()),
    }
}

/// How a listener on this address is reached from here.
pub(super) fn from_here(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        ip if !ip.is_unspecified() => ip,
        ip if ip.is_ipv4() => Ipv4Addr::LOCALHOST.into(),
        _ => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listener.port())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::net::UnixDatagram;

    use tokio::net::TcpListener;

    use super::*;
    use crate::access::{Access, Policy};
    use crate::catalog::Catalog;
    use crate::config::Config;
    use crate::plan::{Plan, Servers};
    use crate::web;

    /// What the service manager of a test hears.
    struct Ear {
        socket: UnixDatagram,
        _folder: tempfile::TempDir,
    }

    impl Ear {
        fn open() -> (Self, Arc<Notifier>) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("notify");
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_nonblocking(true).unwrap();
            let notifier = Notifier::new(|name| (name == "NOTIFY_SOCKET").then(|| OsString::from(&path)));
            (Self { socket, _folder: folder }, Arc::new(notifier))
        }

        /// Everything since the last time.
        fn heard(&self) -> Vec<String> {
            let mut heard = Vec::new();
            let mut datagram = [0; 256];
            while let Ok(length) = self.socket.recv(&mut datagram) {
                heard.push(String::from_utf8(datagram[..length].to_vec()).unwrap());
            }
            heard
        }
    }

    #[tokio::test]
    async fn there_is_no_beat_once_something_does_not_come_back() {
        let (ear, notifier) = Ear::open();
        let plan = Plan::new(Config::default(), Arc::new(Catalog::built_in().unwrap()), Servers::Named(Vec::new()));
        let (_current, judges) = watch::channel(Arc::new(plan.start(&Arc::default(), None)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let web = listener.local_addr().unwrap();
        let access = Access::new(Policy::default(), Arc::default());
        let serving = tokio::spawn(web::serve(vec![listener], judges.clone(), access, std::future::pending()));
        let mut watchdog = Watchdog { notifier, judges, rounds: Arc::default(), web: vec![web] };
        watchdog.look().await.unwrap();
        assert_eq!(ear.heard(), ["WATCHDOG=1"]);

        watchdog.rounds.begin(Duration::ZERO);
        assert_eq!(watchdog.look().await.unwrap_err(), "the history is no longer read");
        assert_eq!(ear.heard(), [""; 0]);
        watchdog.rounds.begin(Duration::from_secs(60));
        watchdog.look().await.unwrap();
        assert_eq!(ear.heard(), ["WATCHDOG=1"]);

        // A listener that nobody accepts from: the kernel connects all the same.
        let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
        watchdog.web = vec![deaf.local_addr().unwrap()];
        assert!(watchdog.look().await.unwrap_err().starts_with("the web server does not react"));
        drop(deaf);
        assert!(watchdog.look().await.unwrap_err().starts_with("the web server takes no connection"));
        assert_eq!(ear.heard(), [""; 0]);
        serving.abort();
    }

    #[test]
    fn a_listener_on_all_addresses_is_reached_on_loopback() {
        for (listener, reached) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("10.0.0.7:3", "10.0.0.7:3"), ("[::1]:4", "[::1]:4")]
        {
            assert_eq!(from_here(listener.parse().unwrap()).to_string(), reached);
        }
    }
}
