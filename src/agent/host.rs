//! The host's collectors: run on a thread that may block, shared by readers like those of a server.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::slot::{Outcome, Run, Skip, Slot};
use crate::collect::CollectError;
use crate::collect::host::{COLLECTORS, Files, Roots};
use crate::metric::Family;
use crate::panics;

const FRESH_FOR: Duration = Duration::from_secs(1);
/// A collector that takes longer is no longer waited for until it is quick again.
const PATIENCE: Duration = Duration::from_secs(2);

/// The host and its collectors' places.
#[derive(Debug)]
pub(super) struct Host {
    roots: Roots,
    /// Unless somebody reads.
    files: Mutex<Option<Files>>,
    pub(super) slots: Vec<Slot>,
}

impl Host {
    pub(super) fn new(roots: Roots) -> Arc<Self> {
        let slots = COLLECTORS.iter().map(|_| Slot::new(FRESH_FOR)).collect();
        Arc::new(Self { roots, files: Mutex::default(), slots })
    }

    /// What it reads.
    pub(super) fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Where it reads processes and the network.
    pub(super) fn proc(&self) -> &Path {
        &self.roots.proc
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
        for group in apart.into_iter().map(|at| vec![at]).chain([stale]).filter(|group| !group.is_empty()) {
            let host = Arc::clone(self);
            tokio::task::spawn_blocking(move || host.run_in_turn(&group));
        }
        let patience = deadline.min(asked + PATIENCE);
        // The one that runs last comes first: when it is there all others are, and the reader was woken once.
        for slot in chosen.into_iter().rev().filter_map(|at| self.slots.get(at)).filter(|slot| !slot.is_slow()) {
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

    /// One that hangs keeps the files that it reads, and the next round opens others.
    fn run_in_turn(&self, group: &[usize]) {
        let idle = self.files.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut files = idle.unwrap_or_else(|| Files::new(self.roots.clone()));
        files.begin();
        for &at in group {
            self.run(at, &mut files);
        }
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = Some(files);
    }

    fn run(&self, at: usize, files: &mut Files) {
        let (Some(collector), Some(slot)) = (COLLECTORS.get(at), self.slots.get(at)) else { return };
        let started = Instant::now();
        // One that panics must not keep the others of its thread from being run.
        let collected = catch_unwind(AssertUnwindSafe(|| (collector.collect)(files)));
        let run = run_of(started, collected);
        slot.set_slow(run.duration() > PATIENCE);
        slot.publish(run);
    }
}

fn run_of(started: Instant, collected: thread::Result<Result<Vec<Family>, CollectError>>) -> Run {
    let failed = |class, reason| Outcome::Failed { class, reason };
    let outcome = match collected {
        Ok(Ok(families)) => {
            return Run {
                finished: Instant::now(),
                rows: families.iter().map(Family::len).sum(),
                families: families.into_iter().map(Arc::new).collect(),
                ..Run::without_families(started, 0, Outcome::Ok)
            };
        }
        Ok(Err(CollectError::Skipped(reason))) => Outcome::Skipped { why: Skip::Nothing, reason },
        Ok(Err(error)) => failed(error.class(), error.to_string()),
        Err(_) => failed("panic", panics::REASON.to_owned()),
    };
    Run::without_families(started, 0, outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_that_panics_has_failed() {
        let run = run_of(Instant::now(), catch_unwind(|| panic!("this panic is wanted")));
        assert!(matches!(run.outcome, Outcome::Failed { class: "panic", .. }), "{run:?}");
    }
}
