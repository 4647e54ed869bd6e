//! A link between two servers that a test can slow down, silence and cut.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use pgvitals::demo::cluster::Cluster;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::pair::ROLE;

/// What becomes of that which is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It arrives.
    Open,
    /// It arrives at a few hundred kilobytes a second.
    Slow,
    /// It arrives where there is a connection already; new ones are accepted and hear nothing.
    Established,
    /// What is asked arrives, and what is answered does not.
    Unheard,
    /// It does not arrive, and nobody is told: a firewall that drops packets.
    Silent,
    /// Connections are closed, and new ones too.
    Shut,
}

/// A proxy before a server; dropped, it is gone. It has threads of its own: a test that waits must not hold it up.
pub(crate) struct Link {
    pub(crate) address: SocketAddr,
    way: watch::Sender<Way>,
    runtime: Option<Runtime>,
}

impl Link {
    /// Leads to this server.
    pub(crate) fn to(server: &Cluster) -> Self {
        let socket = server.socket_dir().join(format!(".s.PGSQL.{}", server.port()));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (way, ways) = watch::channel(Way::Open);
        runtime.spawn(async move { serve(TcpListener::from_std(listener).unwrap(), socket, ways).await });
        Self { address, way, runtime: Some(runtime) }
    }

    /// The section of a configuration that watches the server through this link, under its name.
    pub(crate) fn watching(&self, server: &Cluster) -> String {
        let dsn = format!("host=127.0.0.1 port={} user={ROLE} dbname=postgres", self.address.port());
        format!("[discovery]\nenabled = false\n[[server]]\nname = {:?}\ndsn = {dsn:?}\n", server.name())
    }

    /// From now on.
    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for it is not allowed where a test is asynchronous, and not needed.
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: TcpListener, socket: PathBuf, ways: watch::Receiver<Way>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let (socket, mut ways) = (socket.clone(), ways.clone());
        connections.spawn(async move {
            match ways
                .wait_for(|way| !matches!(way, Way::Established | Way::Unheard | Way::Silent))
                .await
                .map(|way| *way)
            {
                Ok(Way::Open | Way::Slow) => {}
                _ => return,
            }
            let Ok(far) = UnixStream::connect(socket).await else { return };
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            tokio::select! {
                () = carry(from_near, to_far, ways.clone(), &[Way::Silent]) => {}
                () = carry(from_far, to_near, ways.clone(), &[Way::Silent, Way::Unheard]) => {}
                _ = ways.wait_for(|way| *way == Way::Shut) => {}
            }
        });
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut ways: watch::Receiver<Way>,
    held_by: &[Way],
) {
    let mut chunk = vec![0; 32 * 1024];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let Ok(way) = ways.wait_for(|way| !held_by.contains(way)).await.map(|way| *way) else { return };
        if way == Way::Slow {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}
