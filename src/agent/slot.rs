//! One collector of one server (or of the host) with its latest run, which all readers share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::cost::{Cost, RoundTrip};
use super::memory::Memory;
use super::tally::Tally;
use super::texts::Texts;
use crate::collect::shown::Shown;
use crate::metric::Family;
use crate::server::RowSet;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It gave what there is.
    Ok,
    /// It gave nothing, as was to be expected here.
    Skipped {
        /// What kind of reason.
        why: Skip,
        /// The reason.
        reason: String,
    },
    /// It should have given something and did not.
    Failed {
        /// What kind of failure, one word of a small set.
        class: &'static str,
        /// What happened.
        reason: String,
    },
}

/// Why a collector is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// There is nothing of its kind here: another role or version, no such hardware.
    Nothing,
    /// What could be seen here is not what is meant: the facts of this host are not those of a server elsewhere.
    Elsewhere,
    /// There may be something to see, and the server does not let us look.
    Privilege,
    /// There may be something to see, but not without an extension that is missing.
    Extension,
}

impl Outcome {
    /// Nothing can be asked of a server that does not answer.
    pub(super) fn server_down(class: &str, reason: &str) -> Self {
        Self::Failed { class: "server_down", reason: format!("{class}: {reason}") }
    }

    /// One word, for labels.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped { .. } => "skipped",
            Self::Failed { .. } => "failed",
        }
    }

    /// Why nothing came; none where something did.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Ok => None,
            Self::Skipped { reason, .. } | Self::Failed { reason, .. } => Some(reason),
        }
    }
}

/// One run of a collector.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) started: Instant,
    pub(super) finished: Instant,
    /// The state of the server that it belongs to; a run of another state says nothing about this one.
    pub(super) epoch: u64,
    pub(super) outcome: Outcome,
    pub(super) families: Vec<Arc<Family>>,
    /// Of a listing: its rows.
    pub(super) listed: Option<Arc<RowSet>>,
    pub(super) rows: usize,
    pub(super) folded: usize,
    /// By counter, what the folded rows have of it.
    pub(super) remainder: BTreeMap<String, f64>,
    /// How it fared in each database; none for a run in one session.
    pub(super) walked: Option<Walked>,
}

/// What is to be told of a run in many databases.
#[derive(Clone, Debug, Default)]
pub(super) struct Walked {
    /// The time that its queries took, without what ran between them.
    pub(super) spent: Duration,
    /// The databases of which it gives nothing although it should.
    pub(super) gaps: Arc<[Gap]>,
}

/// A database that a collector could not ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Its name.
    pub datname: String,
    /// What kind of failure, one word of a small set.
    pub class: &'static str,
    /// What happened.
    pub reason: String,
}

impl Run {
    /// A run that gave nothing.
    pub(super) fn without_families(started: Instant, epoch: u64, outcome: Outcome) -> Self {
        Self {
            started,
            finished: Instant::now(),
            epoch,
            outcome,
            families: Vec::new(),
            listed: None,
            rows: 0,
            folded: 0,
            remainder: BTreeMap::new(),
            walked: None,
        }
    }

    pub(super) fn duration(&self) -> Duration {
        let took = || self.finished.saturating_duration_since(self.started);
        self.walked.as_ref().map_or_else(took, |walked| walked.spent)
    }
}

/// A collector's place: what it gave last, and whether it is being asked.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) memory: Memory,
    tally: OnceLock<Arc<Tally>>,
    /// Of a definition of texts: those that are known.
    pub(super) texts: Mutex<Texts>,
    fresh_for: Duration,
    /// What its runs cost; none where that is no reason to ask less often.
    cost: Option<Mutex<Cost>>,
    latest: watch::Sender<Option<Arc<Run>>>,
    queued: AtomicBool,
    slow: AtomicBool,
    runs: AtomicU64,
    failures: AtomicU64,
    /// Which rows of a bounded definition were shown last, and in which state of the server.
    shown: Mutex<(u64, Shown)>,
}

/// The class of failure of who would have had to wait for a lock. Waiting costs a server nothing.
pub(super) const LOCKED: &str = "locked";
/// A result of a slow collector is shown this much longer than it is fresh; its age is a metric.
const SLOW_RESULT_AGE: Duration = Duration::from_secs(60);
/// A failure is asked again after this time, however long a good result may be kept.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(30);
/// What the server refused to show is asked again after this time.
pub(super) const RETRY_UNPRIVILEGED: Duration = Duration::from_secs(600);

impl Slot {
    /// For what costs nobody else anything: a result is used again for `fresh_for`.
    pub(super) fn new(fresh_for: Duration) -> Self {
        Self {
            memory: Memory::default(),
            tally: OnceLock::new(),
            texts: Mutex::default(),
            fresh_for,
            cost: None,
            latest: watch::Sender::new(None),
            queued: AtomicBool::new(false),
            slow: AtomicBool::new(false),
            runs: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            shown: Mutex::default(),
        }
    }

    /// For what costs a server its time: a result is used again for `fresh_for`, or longer if the run was that costly, but not
    /// for longer than `longest` because of that.
    pub(super) fn weighed(fresh_for: Duration, round_trip: Arc<RoundTrip>, longest: Duration) -> Self {
        Self { cost: Some(Mutex::new(Cost::new(round_trip, longest))), ..Self::new(fresh_for) }
    }

    /// How long a result is used again.
    pub(super) fn interval(&self) -> Duration {
        self.fresh_for.max(self.stretch())
    }

    /// The least time from one run to the next because of what they cost.
    pub(super) fn stretch(&self) -> Duration {
        let cost = self.cost.as_ref().map(|cost| cost.lock().unwrap_or_else(PoisonError::into_inner).interval());
        cost.unwrap_or_default()
    }

    /// The latest run, if a reader who came at `asked` may have it.
    pub(super) fn fresh(&self, asked: Instant, epoch: u64) -> Option<Arc<Run>> {
        let latest = self.latest.borrow();
        let run = latest.as_ref()?;
        let fresh_for = match run.outcome {
            Outcome::Ok => self.interval(),
            // Each try is an ERROR in the server's log. A GRANT of `pg_monitor` begins an epoch, so it is seen at once.
            Outcome::Skipped { why: Skip::Privilege, .. } => RETRY_UNPRIVILEGED,
            // A promotion or a new extension makes it apply, and looking costs nothing.
            Outcome::Skipped { .. } => Duration::ZERO,
            Outcome::Failed { .. } => self.fresh_for.min(RETRY_AFTER).max(self.stretch()),
        };
        let fresh = run.finished >= asked || run.started + fresh_for > asked;
        (fresh && run.epoch == epoch).then(|| Arc::clone(run))
    }

    /// What a reader who came at `asked` is shown: a fresh run, or of a slow collector a recent one.
    pub(super) fn shown(&self, asked: Instant, epoch: u64) -> Option<Arc<Run>> {
        self.fresh(asked, epoch).or_else(|| {
            let latest = self.latest().filter(|_| self.is_slow())?;
            let until = latest.started + self.interval() + SLOW_RESULT_AGE;
            (latest.epoch == epoch && until > asked).then_some(latest)
        })
    }

    /// Whether a reader who came at `asked` waits for it: for a slow collector only one who would see nothing of it
    /// otherwise, and who has the time that it took before.
    pub(super) fn is_awaited(&self, asked: Instant, epoch: u64, deadline: Instant) -> bool {
        let in_time = |run: Arc<Run>| run.outcome == Outcome::Ok && Instant::now() + run.duration() < deadline;
        !self.is_slow() || (self.shown(asked, epoch).is_none() && self.latest().is_some_and(in_time))
    }

    /// The latest run, fresh or not.
    pub(super) fn latest(&self) -> Option<Arc<Run>> {
        self.latest.borrow().clone()
    }

    /// How long the latest run took; nothing where there is none.
    pub(super) fn took(&self) -> Duration {
        self.latest.borrow().as_ref().map(|run| run.duration()).unwrap_or_default()
    }

    /// Forgets the rows of the run that began then, unless there is a later one.
    pub(super) fn drop_rows(&self, started: Instant) {
        self.latest.send_if_modified(|latest| {
            if let Some(run) = latest.as_mut().filter(|run| run.started == started) {
                *run = Arc::new(Run { listed: None, ..(**run).clone() });
            }
            // Nobody waits for that.
            false
        });
    }

    /// Takes the turn to queue this slot: true for the first who asks until it ran.
    pub(super) fn claim(&self) -> bool {
        !self.queued.swap(true, Ordering::AcqRel)
    }

    /// Whether somebody waits for it to be asked.
    pub(super) fn is_claimed(&self) -> bool {
        self.queued.load(Ordering::Acquire)
    }

    /// Gives back the turn without a run, and has those who wait for it look again.
    pub(super) fn release(&self) {
        self.queued.store(false, Ordering::Release);
        self.latest.send_modify(|_| ());
    }

    /// What its samples add up to.
    pub(super) fn tally(&self) -> &Tally {
        self.tally.get_or_init(Arc::default)
    }

    /// Goes on with what the samples of another place add up to.
    pub(super) fn continue_tally(&self, other: &Self) {
        let _ = self.tally.set(Arc::clone(other.tally.get_or_init(Arc::default)));
    }

    /// Stores a run and wakes the readers that wait for it.
    pub(super) fn publish(&self, run: Run) {
        self.runs.fetch_add(1, Ordering::Relaxed);
        if matches!(run.outcome, Outcome::Failed { .. }) {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        let waited = matches!(run.outcome, Outcome::Failed { class: LOCKED, .. });
        if let Some(cost) = self.cost.as_ref().filter(|_| !waited) {
            cost.lock().unwrap_or_else(PoisonError::into_inner).note(run.epoch, run.duration());
        }
        self.queued.store(false, Ordering::Release);
        self.latest.send_replace(Some(Arc::new(run)));
    }

    /// Lets a run of this epoch choose the rows it shows, beside those that the one before has shown.
    pub(super) fn choose<T>(&self, epoch: u64, choose: impl FnOnce(&mut Shown) -> T) -> T {
        let mut last = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != epoch {
            *last = (epoch, Shown::default());
        }
        choose(&mut last.1)
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
        slot.publish(run(start, 1, Outcome::Skipped { why: Skip::Nothing, reason: String::new() }));
        assert!(slot.fresh(start + Duration::from_millis(1), 1).is_none());
        assert!(slot.fresh(start, 1).is_some());
    }

    #[test]
    fn a_slow_result_is_shown_a_minute_longer_than_it_is_fresh_and_then_waited_for() {
        let (slot, start) = (Slot::new(Duration::from_secs(60)), Instant::now());
        slot.publish(run(start, 1, Outcome::Ok));
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(slot.shown(after(61), 1).is_none() && slot.is_awaited(after(61), 1, after(62)));
        slot.set_slow(true);
        assert!(slot.shown(after(119), 1).is_some() && !slot.is_awaited(after(119), 1, after(200)));
        assert!(slot.shown(after(61), 2).is_none(), "of another state of the server");
        assert!(slot.shown(after(121), 1).is_none() && slot.is_awaited(after(121), 1, after(200)));
        let long = Run { finished: after(100), ..run(start, 1, Outcome::Ok) };
        slot.publish(long);
        assert!(!slot.is_awaited(after(121), 1, start + Duration::from_secs(50)), "he has not the time");
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
