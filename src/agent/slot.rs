//! One collector of one server (or of the host) with its latest run, which all readers share.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::metric::Family;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It gave what there is.
    Ok,
    /// It did not apply here: another version, role or platform, nothing to see, no privilege to look.
    Skipped(String),
    /// It should have given something and did not.
    Failed {
        /// What kind of failure, one word of a small set.
        class: &'static str,
        /// What happened.
        reason: String,
    },
}

/// Begins the reason of a skip for want of a privilege.
const NO_PRIVILEGE: &str = "no privilege: ";

impl Outcome {
    /// The server does not let us look.
    pub fn no_privilege(reason: impl Display) -> Self {
        Self::Skipped(format!("{NO_PRIVILEGE}{reason}"))
    }

    /// Whether there may be something to see that the server does not let us look at.
    pub fn lacks_privilege(&self) -> bool {
        matches!(self, Self::Skipped(reason) if reason.starts_with(NO_PRIVILEGE))
    }

    /// One word, for labels.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped(_) => "skipped",
            Self::Failed { .. } => "failed",
        }
    }

    /// Why nothing came; none where something did.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Ok => None,
            Self::Skipped(reason) | Self::Failed { reason, .. } => Some(reason),
        }
    }
}

/// One run of a collector.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) started: Instant,
    pub(super) finished: Instant,
    /// The state of the server that it belongs to; a run of another state says nothing about this one.
    pub(super) epoch: u64,
    pub(super) outcome: Outcome,
    pub(super) families: Vec<Arc<Family>>,
    pub(super) rows: usize,
    pub(super) folded: usize,
}

impl Run {
    /// A run that gave nothing.
    pub(super) fn without_families(started: Instant, epoch: u64, outcome: Outcome) -> Self {
        Self { started, finished: Instant::now(), epoch, outcome, families: Vec::new(), rows: 0, folded: 0 }
    }

    pub(super) fn duration(&self) -> Duration {
        self.finished.saturating_duration_since(self.started)
    }
}

/// A collector's place: what it gave last, and whether it is being asked.
#[derive(Debug)]
pub(super) struct Slot {
    fresh_for: Duration,
    latest: watch::Sender<Option<Arc<Run>>>,
    queued: AtomicBool,
    slow: AtomicBool,
    runs: AtomicU64,
    failures: AtomicU64,
}

/// A failure is asked again after this time, however long a good result may be kept.
const RETRY_AFTER: Duration = Duration::from_secs(30);

impl Slot {
    pub(super) fn new(fresh_for: Duration) -> Self {
        Self {
            fresh_for,
            latest: watch::Sender::new(None),
            queued: AtomicBool::new(false),
            slow: AtomicBool::new(false),
            runs: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// The latest run, if a reader who came at `asked` may have it.
    pub(super) fn fresh(&self, asked: Instant, epoch: u64) -> Option<Arc<Run>> {
        let latest = self.latest.borrow();
        let run = latest.as_ref()?;
        let fresh_for = match run.outcome {
            Outcome::Ok => self.fresh_for,
            // A promotion or a new extension makes it apply, and looking costs nothing.
            Outcome::Skipped(_) => Duration::ZERO,
            Outcome::Failed { .. } => self.fresh_for.min(RETRY_AFTER),
        };
        let fresh = run.finished >= asked || run.started + fresh_for > asked;
        (fresh && run.epoch == epoch).then(|| Arc::clone(run))
    }

    /// The latest run if it is not older than `age`: what a slow collector is served from.
    pub(super) fn recent(&self, asked: Instant, epoch: u64, age: Duration) -> Option<Arc<Run>> {
        let latest = self.latest.borrow();
        let run = latest.as_ref().filter(|run| run.epoch == epoch && run.finished + age > asked)?;
        Some(Arc::clone(run))
    }

    /// The latest run, fresh or not.
    pub(super) fn latest(&self) -> Option<Arc<Run>> {
        self.latest.borrow().clone()
    }

    /// Takes the turn to queue this slot: true for the first who asks until it ran.
    pub(super) fn claim(&self) -> bool {
        !self.queued.swap(true, Ordering::AcqRel)
    }

    /// Stores a run and wakes the readers that wait for it.
    pub(super) fn publish(&self, run: Run) {
        self.runs.fetch_add(1, Ordering::Relaxed);
        if matches!(run.outcome, Outcome::Failed { .. }) {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        self.queued.store(false, Ordering::Release);
        self.latest.send_replace(Some(Arc::new(run)));
    }

    /// Waits until the next run is stored.
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Arc<Run>>> {
        self.latest.subscribe()
    }

    /// Whether it overran its time and is served from the slow lane.
    pub(super) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    pub(super) fn set_slow(&self, slow: bool) -> bool {
        self.slow.swap(slow, Ordering::Relaxed)
    }

    /// Runs and failed runs since the start.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.runs.load(Ordering::Relaxed), self.failures.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(started: Instant, epoch: u64, outcome: Outcome) -> Run {
        Run { finished: started, ..Run::without_families(started, epoch, outcome) }
    }

    #[test]
    fn a_result_is_used_again_as_long_as_it_is_fresh_and_the_server_is_the_same() {
        let (slot, start) = (Slot::new(Duration::from_secs(60)), Instant::now());
        assert!(slot.fresh(start, 1).is_none());
        slot.publish(run(start, 1, Outcome::Ok));
        assert!(slot.fresh(start + Duration::from_secs(59), 1).is_some());
        assert!(slot.fresh(start + Duration::from_secs(60), 1).is_none());
        assert!(slot.fresh(start + Duration::from_secs(1), 2).is_none());
    }

    #[test]
    fn a_failure_is_asked_again_soon_and_what_did_not_apply_at_once() {
        let (slot, start) = (Slot::new(Duration::from_secs(600)), Instant::now());
        slot.publish(run(start, 1, Outcome::Failed { class: "x", reason: String::new() }));
        assert!(slot.fresh(start + Duration::from_secs(29), 1).is_some());
        assert!(slot.fresh(start + Duration::from_secs(31), 1).is_none());
        slot.publish(run(start, 1, Outcome::Skipped("x".to_owned())));
        assert!(slot.fresh(start + Duration::from_millis(1), 1).is_none());
        assert!(slot.fresh(start, 1).is_some());
    }

    #[test]
    fn only_the_first_reader_queues_a_slot() {
        let slot = Slot::new(Duration::ZERO);
        assert!(slot.claim());
        assert!(!slot.claim());
        slot.publish(run(Instant::now(), 0, Outcome::Ok));
        assert!(slot.claim());
    }
}
