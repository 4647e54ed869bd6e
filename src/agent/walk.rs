//! The walk over the databases, as readers see it: when the next one is due, what the last one gave and left out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::own::described;
use super::slot::{Outcome, RETRY_AFTER, RETRY_UNPRIVILEGED, Run, Skip, Slot};
use super::state::Shared;
use crate::metric::{Family, Table};
use crate::server::{Barrier, Databases};

/// A walk that takes longer is no longer waited for until one is quick again.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// A walk may take one part in so many of the time.
const SHARE: u32 = 100;
/// How many of the latest walks tell what one takes.
const RECENT: usize = 3;
/// The next walk need not wait longer for the last one, whatever that took.
const LONGEST_REST: Duration = Duration::from_secs(900);
/// A result is shown until it is so many intervals old: while readers come, the next walk replaces it long before.
const SHOWN_INTERVALS: u32 = 3;
/// How many databases are named that could not be asked: enough to look after, and no flood when none can.
const MOST_NAMED: usize = 100;

/// The walks over the databases of a server.
#[derive(Debug)]
pub(super) struct Walks {
    /// Which databases are wanted.
    pub(super) databases: Databases,
    /// The latest ones of one state of the server, the last one first.
    recent: Mutex<VecDeque<Walk>>,
    count: AtomicU64,
}

/// What a walk came to.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    /// The state of the server that it belongs to.
    pub(super) epoch: u64,
    pub(super) started: Instant,
    /// The time it took, without what ran between its steps.
    pub(super) spent: Duration,
    /// How many databases there are by what became of them.
    pub(super) states: BTreeMap<State, usize>,
}

/// What became of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// It was asked.
    Walked,
    /// It should have been.
    Failed,
    /// It was not to be entered.
    Barred(Barrier),
    /// There are more than are wanted at most.
    OverMax,
}

impl State {
    fn all() -> impl Iterator<Item = Self> {
        [Self::Walked, Self::Failed, Self::OverMax].into_iter().chain(Barrier::ALL.map(Self::Barred))
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Walked => "walked",
            Self::Failed => "failed",
            Self::Barred(barrier) => barrier.as_str(),
            Self::OverMax => "over_max",
        }
    }
}

impl Walks {
    pub(super) fn new(databases: Databases) -> Self {
        Self { databases, recent: Mutex::default(), count: AtomicU64::new(0) }
    }

    /// Notes a walk that came to its end.
    pub(super) fn note(&self, walk: Walk) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|other| other.epoch == walk.epoch);
        recent.truncate(RECENT - 1);
        recent.push_front(walk);
    }

    /// The latest walks of this state of the server, the last one first.
    fn recent(&self, epoch: u64) -> Vec<Walk> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().filter(|walk| walk.epoch == epoch).cloned().collect()
    }

    /// The least time between the beginnings of two walks. The quickest of the latest ones counts: how long sessions take to
    /// open on a machine that is busy with something else says nothing of what they cost.
    fn rest(&self, epoch: u64) -> Duration {
        let quickest = self.recent(epoch).into_iter().map(|walk| walk.spent).min();
        quickest.unwrap_or_default().saturating_mul(SHARE).min(LONGEST_REST)
    }
}

/// Whether a reader who came at `asked` needs another walk for the collector in this place.
pub(super) fn is_due(shared: &Shared, at: usize, asked: Instant, epoch: u64) -> bool {
    let Some((run, fresh_for)) = latest(shared, at, epoch) else { return true };
    let rest = shared.walks.rest(epoch);
    let again = match &run.outcome {
        // It did not take a walk to see that it does not apply.
        Outcome::Skipped { .. } if run.walked.is_none() => Duration::ZERO,
        Outcome::Skipped { why: Skip::Privilege, .. } => fresh_for.max(RETRY_UNPRIVILEGED),
        Outcome::Ok | Outcome::Skipped { .. } => fresh_for.max(rest),
        Outcome::Failed { .. } => fresh_for.min(RETRY_AFTER).max(rest),
    };
    run.finished < asked && run.started + again <= asked
}

/// What a reader who came at `asked` is shown: what the last walk gave, unless it is far too old.
pub(super) fn shown(shared: &Shared, at: usize, asked: Instant, epoch: u64) -> Option<Arc<Run>> {
    let (run, fresh_for) = latest(shared, at, epoch)?;
    let until = run.started + fresh_for.max(shared.walks.rest(epoch)) * SHOWN_INTERVALS;
    (run.finished >= asked || until > asked).then_some(run)
}

fn latest(shared: &Shared, at: usize, epoch: u64) -> Option<(Arc<Run>, Duration)> {
    let run = shared.slots.get(at).and_then(Slot::latest).filter(|run| run.epoch == epoch)?;
    Some((run, shared.definitions.get(at)?.fresh_for))
}

/// The families about the walks over a server's databases.
pub(super) fn families(shared: &Shared, epoch: u64) -> Vec<Family> {
    let Some(walk) = shared.walks.recent(epoch).into_iter().next() else { return Vec::new() };
    let (mut states, column) = Table::of(&described::DATABASES);
    for state in State::all() {
        states.row(&[state.as_str()]);
        states.set(column, walk.states.get(&state).copied().unwrap_or_default() as f64);
    }
    let mut families = states.into_families();
    let (mut failures, column) = Table::of(&described::DATABASE_FAILURE);
    let runs = (0..shared.slots.len()).filter_map(|at| {
        let definition = shared.definitions.get(at)?;
        Some((definition, latest(shared, at, epoch)?.0))
    });
    let mut left = MOST_NAMED;
    for (definition, run) in runs {
        let gaps = run.walked.as_ref().map(|walked| Arc::clone(&walked.gaps)).unwrap_or_default();
        for gap in gaps.iter().take(left) {
            failures.row(&[&gap.datname, &definition.name, gap.class]);
            failures.set(column, 1.0);
        }
        left = left.saturating_sub(gaps.len());
    }
    families.extend(failures.into_families());
    families.extend([
        described::WALK_DURATION.family(walk.spent.as_secs_f64()),
        described::WALK_AGE.family(walk.started.elapsed().as_secs_f64()),
        described::WALK_REST.family(shared.walks.rest(epoch).as_secs_f64()),
        described::WALKS.family(shared.walks.count.load(Ordering::Relaxed) as f64),
    ]);
    families
}
