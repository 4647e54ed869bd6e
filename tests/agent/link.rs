//! A link to a cluster that can be cut without either end being told.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use pgvitals::demo::cluster::Cluster;

use crate::pair::ROLE;

/// What gets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passing {
    /// Everything.
    All,
    /// What belongs to connections that are there; new ones are accepted and hear nothing.
    Established,
    /// Nothing. Connections are accepted and kept.
    Nothing,
}

/// Listens in place of a cluster and hands on what may pass; what may not waits until it may.
pub(crate) struct Link {
    port: u16,
    passing: watch::Sender<Passing>,
    serving: JoinHandle<()>,
}

impl Link {
    pub(crate) async fn to(cluster: &Cluster) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let socket = cluster.socket_dir().join(format!(".s.PGSQL.{}", cluster.port()));
        let (passing, passes) = watch::channel(Passing::All);
        let serving = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (socket, mut passes) = (socket.clone(), passes.clone());
                tokio::spawn(async move {
                    if passes.wait_for(|passing| *passing == Passing::All).await.is_err() {
                        return;
                    }
                    let Ok(far) = UnixStream::connect(socket).await else { return };
                    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                    // The first end to close its side closes both.
                    tokio::select! {
                        () = hand_on(near_in, far_out, passes.clone()) => {}
                        () = hand_on(far_in, near_out, passes) => {}
                    }
                });
            }
        });
        Self { port, passing, serving }
    }

    /// From now on this passes.
    pub(crate) fn pass(&self, passing: Passing) {
        self.passing.send_replace(passing);
    }

    /// The section of a configuration that watches the cluster through this link, under its name.
    pub(crate) fn watching(&self, cluster: &Cluster) -> String {
        let dsn = format!("host=127.0.0.1 port={} user={ROLE} dbname=postgres", self.port);
        format!("[discovery]\nenabled = false\n[[server]]\nname = {:?}\ndsn = {dsn:?}\n", cluster.name())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn hand_on(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    mut passes: watch::Receiver<Passing>,
) {
    let mut chunk = [0; 8192];
    while let Ok(length) = from.read(&mut chunk).await {
        let flows = passes.wait_for(|passing| *passing != Passing::Nothing).await.is_ok();
        if !flows || length == 0 || to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}
