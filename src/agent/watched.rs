//! One watched server: who wants to know sends to its lanes and waits for them.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::timeout_at;

use super::lane::{Ask, Lane};
use super::slot::Slot;
use super::state::{Condition, Shared};
use crate::catalog::Catalog;
use crate::server::ConnectOptions;

/// A server and the senders that keep its lanes running; dropping it ends them.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) shared: Arc<Shared>,
    fast: UnboundedSender<Ask>,
    slow: UnboundedSender<Ask>,
}

impl Watched {
    /// Begins to watch a server; nothing is asked before the first reader comes.
    pub(super) fn start(name: Arc<str>, options: ConnectOptions, catalog: &Catalog) -> Self {
        let shared = Arc::new(Shared::new(name, options, catalog));
        let (fast, asks) = unbounded_channel();
        tokio::spawn(Lane::fast(Arc::clone(&shared)).serve(asks));
        let (slow, asks) = unbounded_channel();
        tokio::spawn(Lane::slow(Arc::clone(&shared)).serve(asks));
        Self { shared, fast, slow }
    }

    /// Has the wanted collectors asked where their results are not fresh, and waits for them until the deadline.
    pub(super) async fn refresh(&self, asked: Instant, deadline: Instant, wanted: impl Fn(&str) -> bool) {
        let hangs = self.shared.hangs();
        if self.shared.probe.claim() {
            self.send(&self.fast, Ask::Probe);
        }
        if hangs {
            return;
        }
        let probed = || self.shared.probe.fresh(asked, self.shared.state().0).is_some();
        wait(&self.shared.probe, deadline, probed, || self.send(&self.fast, Ask::Probe)).await;
        let (epoch, condition) = self.shared.state();
        if !matches!(condition, Condition::Up(_)) {
            return;
        }
        let chosen = self.shared.slots.iter().zip(&self.shared.definitions).enumerate();
        let chosen: Vec<_> = chosen.filter(|(_, (_, definition))| wanted(&definition.name)).collect();
        for &(at, (slot, _)) in &chosen {
            if slot.fresh(asked, epoch).is_none() && slot.claim() {
                self.ask(at, slot);
            }
        }
        for &(at, (slot, _)) in &chosen {
            let settled = || {
                let (epoch, condition) = self.shared.state();
                slot.fresh(asked, epoch).is_some()
                    || !slot.is_awaited(asked, epoch, deadline)
                    || matches!(condition, Condition::Down { .. })
            };
            wait(slot, deadline, settled, || self.ask(at, slot)).await;
        }
    }

    fn ask(&self, at: usize, slot: &Slot) {
        self.send(if slot.is_slow() { &self.slow } else { &self.fast }, Ask::Collect(at));
    }

    #[expect(clippy::unused_self, reason = "reads as what it is: this server sends to its lane")]
    fn send(&self, lane: &UnboundedSender<Ask>, ask: Ask) {
        // A lane ends only when this server is dropped, so nobody is left to miss the answer.
        let _ = lane.send(ask);
    }
}

/// Waits until a slot is settled, asking again when it ran without that, or until the deadline.
async fn wait(slot: &Slot, deadline: Instant, settled: impl Fn() -> bool, again: impl Fn()) {
    let mut runs = slot.subscribe();
    while !settled() {
        if slot.claim() {
            again();
        }
        if timeout_at(deadline.into(), runs.changed()).await.is_err() {
            return;
        }
    }
}
