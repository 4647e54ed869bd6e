//! The host's collectors: run on a thread that may block, shared by readers like those of a server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::slot::{Outcome, Run, Skip, Slot};
use crate::collect::CollectError;
use crate::collect::host::{COLLECTORS, Roots};

const FRESH_FOR: Duration = Duration::from_secs(1);
/// A collector that takes longer is no longer waited for until it is quick again.
const PATIENCE: Duration = Duration::from_secs(2);

/// The host and its collectors' places.
#[derive(Debug)]
pub(super) struct Host {
    roots: Roots,
    pub(super) slots: Vec<Slot>,
}

impl Host {
    pub(super) fn new(roots: Roots) -> Arc<Self> {
        Arc::new(Self { roots, slots: COLLECTORS.iter().map(|_| Slot::new(FRESH_FOR)).collect() })
    }

    /// Has the wanted collectors run where their results are not fresh, and waits for them until the deadline.
    pub(super) async fn refresh(self: &Arc<Self>, asked: Instant, deadline: Instant, wanted: impl Fn(&str) -> bool) {
        let chosen: Vec<usize> = (0..COLLECTORS.len())
            .filter(|&at| COLLECTORS.get(at).is_some_and(|collector| wanted(collector.name)))
            .collect();
        let stale = |at: &usize| self.slots.get(*at).is_some_and(|slot| slot.fresh(asked, 0).is_none() && slot.claim());
        let mut stale: Vec<usize> = chosen.iter().copied().filter(stale).collect();
        // A collector known to be slow gets a thread of its own, so that it cannot delay the others.
        let slow = |at: &usize| self.slots.get(*at).is_some_and(Slot::is_slow);
        let apart: Vec<usize> = stale.extract_if(.., |at| slow(at)).collect();
        for group in apart.into_iter().map(|at| vec![at]).chain([stale]) {
            let host = Arc::clone(self);
            tokio::task::spawn_blocking(move || group.into_iter().for_each(|at| host.run(at)));
        }
        let patience = deadline.min(asked + PATIENCE);
        for slot in chosen.into_iter().filter_map(|at| self.slots.get(at)).filter(|slot| !slot.is_slow()) {
            let mut runs = slot.subscribe();
            while slot.fresh(asked, 0).is_none() {
                if timeout_at(patience.into(), runs.changed()).await.is_err() {
                    slot.set_slow(Instant::now() >= asked + PATIENCE);
                    break;
                }
            }
        }
    }

    /// The run of a collector that a reader who came at `asked` is shown, or why there is none.
    pub(super) fn shown(&self, at: usize, asked: Instant) -> Result<Arc<Run>, Outcome> {
        let run = self.slots.get(at).and_then(|slot| slot.shown(asked, 0));
        run.ok_or_else(|| Outcome::Failed { class: "timeout", reason: "the kernel did not answer in time".to_owned() })
    }

    fn run(&self, at: usize) {
        let (Some(collector), Some(slot)) = (COLLECTORS.get(at), self.slots.get(at)) else { return };
        let started = Instant::now();
        let run = match (collector.collect)(&self.roots) {
            Ok(families) => Run {
                finished: Instant::now(),
                rows: families.iter().map(crate::metric::Family::len).sum(),
                families: families.into_iter().map(Arc::new).collect(),
                ..Run::without_families(started, 0, Outcome::Ok)
            },
            Err(CollectError::Skipped(reason)) => {
                Run::without_families(started, 0, Outcome::Skipped { why: Skip::Nothing, reason })
            }
            Err(error) => {
                let class = if matches!(error, CollectError::Read { .. }) { "read" } else { "parse" };
                Run::without_families(started, 0, Outcome::Failed { class, reason: error.to_string() })
            }
        };
        slot.set_slow(run.duration() > PATIENCE);
        slot.publish(run);
    }
}
