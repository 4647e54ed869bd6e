//! Sessions on their way out: what was dropped still has to take leave of its server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// Connections of this process that are being driven.
static DRIVEN: AtomicUsize = AtomicUsize::new(0);
static ENDED: Notify = Notify::const_new();

/// Counts a connection as long as it is driven.
pub(super) struct Driven(());

impl Driven {
    pub(super) fn begin() -> Self {
        DRIVEN.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        DRIVEN.fetch_sub(1, Ordering::Relaxed);
        ENDED.notify_waiters();
    }
}

/// Waits until all sessions of this process have taken leave, for a program that has dropped them and is about to end: the
/// server counts who just goes away as abandoned (`pg_stat_database.sessions_abandoned`, since 14).
pub async fn farewell(limit: Duration) {
    let all = async {
        loop {
            let ended = ENDED.notified();
            if DRIVEN.load(Ordering::Relaxed) == 0 {
                return;
            }
            ended.await;
        }
    };
    // A server that does not even take this is left without a word.
    let _ = timeout(limit, all).await;
}
