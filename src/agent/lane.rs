//! A lane: one connection of a server and the collectors that take turns on it.
//!
//! The fast lane probes and asks what answers in time. A collector that overran is asked on the slow lane, so that it
//! delays no other, until it answers in half its time; so is what has to be asked in every database. There is no third
//! connection.

mod ahead;
mod holding;
mod listing;
mod probing;
mod sampling;
mod telling;
mod texts;
mod walk;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, WeakUnboundedSender};
use tokio::task::JoinSet;
use tracing::info;

use super::facts::Facts;
use super::queue::Queue;
use super::slot::{Outcome, Run, Slot};
use super::state::{Condition, Shared};
use crate::catalog::Definition;
use crate::collect::sql::families_of;
use crate::panics::{self, caught};
use crate::server::{ConnectFailure, FailureClass, QueryFailure, RowSet, Session};
use ahead::Ahead;
use probing::OfRole;
use telling::{class_of, log_outcome, outcome_of};

/// What a reader sends to a lane.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask {
    /// Is it up, and in which role? Of the slow lane: does it take new connections?
    Probe,
    /// Run the collector in this place.
    Collect(usize),
    /// Ask for the rows of the listing in this place.
    List(usize),
    /// Take a sample with the collector in this place, unless this moment has passed.
    Sample { at: usize, until: Instant },
    /// Go on with the walk over the databases, or begin one.
    Walk,
}

/// The time a probe has on an open connection.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long anybody waits for a connection to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// What any collector gets on the fast lane, whatever its own timeout is: the others wait behind it.
const FAST_LIMIT: Duration = Duration::from_secs(2);
/// More than connecting, cancelling and a probe after a loss take together, beside the query itself.
const BESIDE_THE_QUERY: Duration = Duration::from_secs(30);

/// One of the two connections of a server.
pub(super) struct Lane {
    shared: Arc<Shared>,
    slow: bool,
    session: Option<Session>,
    /// What was sent on the session and is not answered yet.
    ahead: VecDeque<Ahead>,
    /// What was sent in vain.
    stranded: Vec<Ask>,
    opening: JoinSet<Result<Session, ConnectFailure>>,
    /// When the server last judged that we may not come in.
    refused: Option<(Instant, ConnectFailure)>,
    /// The libraries of the server that started at this time, which no later start can change.
    libraries: (String, BTreeSet<String>),
    of_role: Option<OfRole>,
    walk: Option<walk::Walk>,
    refusals: walk::Refusals,
    /// To itself: the walk goes on behind whoever waits.
    again: WeakUnboundedSender<Ask>,
}

impl Lane {
    /// The lane that probes, and asks what is quick.
    pub(super) fn fast(shared: Arc<Shared>, again: WeakUnboundedSender<Ask>) -> Self {
        Self::new(shared, again, false)
    }

    /// The lane for what overran, and for the walk over the databases.
    pub(super) fn slow(shared: Arc<Shared>, again: WeakUnboundedSender<Ask>) -> Self {
        Self::new(shared, again, true)
    }

    fn new(shared: Arc<Shared>, again: WeakUnboundedSender<Ask>, slow: bool) -> Self {
        Self {
            shared,
            slow,
            session: None,
            ahead: VecDeque::new(),
            stranded: Vec::new(),
            opening: JoinSet::new(),
            refused: None,
            libraries: Default::default(),
            of_role: None,
            walk: None,
            refusals: walk::Refusals::default(),
            again,
        }
    }

    /// Serves until the server is no longer watched.
    pub(super) async fn serve(mut self, asks: UnboundedReceiver<Ask>) {
        let mut queue = Queue::new(asks);
        while if self.ahead.is_empty() { queue.fill().await } else { queue.refill() } {
            if caught(self.send_ahead(&mut queue)).await.is_none() {
                self.forget_session();
            }
            let first = self.ahead.front().map(|ahead| Ask::Collect(ahead.at));
            let Some(ask) = first.or_else(|| queue.take(|ask| self.rank(*ask))) else { continue };
            self.shared.turn(self.slow).begin(self.longest(ask));
            if caught(self.answer(ask)).await.is_none() {
                self.begin_anew(ask);
            }
            self.stranded.drain(..).rev().for_each(|ask| queue.put_back(ask));
            self.shared.turn(self.slow).end();
            self.count_open();
        }
    }

    async fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Probe => self.probe().await,
            Ask::Collect(at) => match self.ahead.pop_front() {
                Some(first) => self.land(first).await,
                None => self.collect(at).await,
            },
            Ask::List(at) => self.list_rows(at).await,
            Ask::Sample { at, until } => self.sample(at, until).await,
            Ask::Walk => self.walk().await,
        }
    }

    /// How long an answer takes at most: every wait in it has a limit.
    fn longest(&self, ask: Ask) -> Duration {
        match ask {
            // Each step of a walk begins a turn of its own.
            Ask::Probe | Ask::Walk => BESIDE_THE_QUERY,
            Ask::Collect(at) | Ask::Sample { at, .. } => {
                self.shared.definitions.get(at).map_or(Duration::ZERO, |it| it.timeout) + BESIDE_THE_QUERY
            }
            Ask::List(at) => self.shared.listing(at).map_or(Duration::ZERO, |(_, it)| it.timeout) + BESIDE_THE_QUERY,
        }
    }

    /// After a panic nobody knows what the connection is in the middle of, and readers wait for what they asked.
    fn begin_anew(&mut self, ask: Ask) {
        self.forget_session();
        self.opening = JoinSet::new();
        let reason = panics::REASON.to_owned();
        let outcome = Outcome::Failed { class: "panic", reason: reason.clone() };
        let epoch = self.shared.state().0;
        match ask {
            Ask::Probe if self.slow => {}
            Ask::Probe => {
                let epoch = self.shared.note(Condition::Down { class: FailureClass::Other, reason });
                self.shared.probe.publish(Run::without_families(Instant::now(), epoch, outcome));
            }
            Ask::Collect(at) | Ask::Sample { at, .. } => {
                let run = Run::without_families(Instant::now(), epoch, outcome);
                if let Some(slot) = self.shared.slots.get(at) {
                    slot.publish(run);
                }
            }
            Ask::List(at) => {
                if let Some((slot, _)) = self.shared.listing(at) {
                    slot.publish(Run::without_families(Instant::now(), epoch, outcome));
                }
            }
            Ask::Walk => {
                self.walk = None;
                self.publish_to_all(epoch, &outcome);
            }
        }
    }

    fn forget_session(&mut self) {
        self.session = None;
        self.strand();
    }

    /// On the fast lane the probe comes first, or a server would count as down because we are busy, and a sample, which is
    /// of this moment or none; then what was quick the last time, so that what takes long makes nobody late but itself. On the
    /// slow lane everybody takes turns.
    fn rank(&self, ask: Ask) -> Option<Duration> {
        let slot = match ask {
            Ask::Collect(at) if !self.slow => self.shared.slots.get(at)?,
            Ask::List(at) if !self.slow => self.shared.listing(at)?.0,
            _ => return None,
        };
        Some(slot.took())
    }

    async fn collect(&mut self, at: usize) {
        let shared = Arc::clone(&self.shared);
        let (Some(slot), Some(definition)) = (shared.slots.get(at), shared.definitions.get(at)) else { return };
        if !slot.is_claimed() {
            // Texts had it asked before its turn came.
            return;
        }
        let (epoch, condition) = shared.state();
        match condition.plan(definition) {
            Ok((facts, sql)) => {
                let run = if let Some(texts) = &definition.texts {
                    self.run_texts(slot, definition, texts, &sql, epoch).await
                } else {
                    self.run(slot, definition, &sql, epoch).await
                };
                self.complete(slot, definition, &facts, run).await;
            }
            Err(outcome) => self.settle(slot, definition, Run::without_families(Instant::now(), epoch, outcome)).await,
        }
    }

    /// Adds to a run what is remembered.
    async fn complete(&mut self, slot: &Slot, definition: &Definition, facts: &Facts, mut run: Run) {
        if run.outcome == Outcome::Ok {
            slot.memory.complete(definition, facts.in_recovery, &mut run.families);
        }
        self.settle(slot, definition, run).await;
    }

    /// Stores a run and tells of it.
    async fn settle(&mut self, slot: &Slot, definition: &Definition, run: Run) {
        let shared = Arc::clone(&self.shared);
        let before = slot.latest();
        let outcome = run.outcome.clone();
        let lost = self.session.is_none() && !self.slow && matches!(run.outcome, Outcome::Failed { .. });
        slot.publish(run);
        if lost && matches!(shared.state().1, Condition::Up(_)) {
            // One lost connection may be the collector's fault or the end of the server: the collectors that wait
            // behind this one should not each find out by a time-out of their own.
            self.probe().await;
        }
        // That a server went down is told once, and not by the collector that met it.
        if !matches!(shared.state().1, Condition::Down { .. }) {
            log_outcome(shared.server.name(), &definition.name, before.as_deref().map(|run| &run.outcome), &outcome);
        }
    }

    async fn run(&mut self, slot: &Slot, definition: &Definition, sql: &str, epoch: u64) -> Run {
        let answer = self.rows(slot, definition, sql).await;
        run_of_answer(slot, definition, answer, epoch)
    }

    /// What a definition's statement gives, and when it was asked; or how the run ends without it.
    async fn rows(&mut self, slot: &Slot, definition: &Definition, sql: &str) -> Answer {
        if let Some(reason) = self.pause() {
            return (Instant::now(), Err(Outcome::Failed { class: "timeout", reason }));
        }
        if let Err(failure) = self.connect().await {
            let outcome = Outcome::Failed { class: failure.class.as_str(), reason: failure.message };
            return (Instant::now(), Err(outcome));
        }
        let started = Instant::now();
        let answer = if self.slow {
            let limit = definition.timeout;
            self.query(sql, little_less_than(limit), limit).await
        } else {
            let limit = definition.timeout.min(FAST_LIMIT);
            // The limit that the server knows stays that of the others, or setting it would cost a round trip each time.
            let patience = if definition.sampled { limit.min(PROBE_TIMEOUT) } else { limit };
            self.query_again(&definition.name, sql, fast_statement_timeout(definition), patience).await
        };
        (started, self.weighed(slot, definition, started, answer))
    }

    /// What came of a statement, and with it the decision which lane asks it the next time.
    fn weighed(
        &self,
        slot: &Slot,
        definition: &Definition,
        started: Instant,
        answer: Result<RowSet, QueryFailure>,
    ) -> Result<RowSet, Outcome> {
        let took = started.elapsed();
        let overran =
            !definition.sampled && matches!(&answer, Err(failure) if class_of(failure) == FailureClass::Timeout);
        if slot.set_slow(overran || (slot.is_slow() && took > definition.timeout.min(FAST_LIMIT) / 2)) != slot.is_slow()
        {
            info!(
                server = self.shared.server.name(),
                collector = definition.name,
                slow = slot.is_slow(),
                "lane changed"
            );
        }
        answer.map_err(|failure| outcome_of(&failure))
    }
}

/// When a statement was asked, and its rows, or how the run ends without them.
type Answer = (Instant, Result<RowSet, Outcome>);

fn run_of_answer(slot: &Slot, definition: &Definition, (started, answer): Answer, epoch: u64) -> Run {
    match answer {
        Ok(rows) => run_of(slot, definition, &rows, epoch, started),
        Err(outcome) => Run::without_families(started, epoch, outcome),
    }
}

/// A run from the rows that came.
fn run_of(slot: &Slot, definition: &Definition, rows: &RowSet, epoch: u64, started: Instant) -> Run {
    match slot.choose(epoch, |shown| families_of(definition, rows, shown)) {
        Ok(collected) => Run {
            started,
            finished: Instant::now(),
            epoch,
            outcome: Outcome::Ok,
            families: collected.families.into_iter().map(Arc::new).collect(),
            listed: None,
            rows: collected.rows,
            folded: collected.folded,
            remainder: collected.remainder,
            walked: None,
        },
        Err(error) => {
            let outcome = Outcome::Failed { class: error.class(), reason: error.to_string() };
            Run::without_families(started, epoch, outcome)
        }
    }
}

/// The server should end a query by itself before we give it up, which costs the connection.
fn little_less_than(timeout: Duration) -> Duration {
    timeout.saturating_sub((timeout / 10).min(Duration::from_millis(200)))
}

/// What the server is told of a definition's limit on the fast lane.
fn fast_statement_timeout(definition: &Definition) -> Duration {
    little_less_than(definition.timeout.min(FAST_LIMIT))
}
