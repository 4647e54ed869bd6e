//! A lane: one connection of a server and the collectors that take turns on it.
//!
//! The fast lane probes and asks what answers in time. A collector that overran is asked on the slow lane, so that it
//! delays no other, until it answers in half its time; so is what has to be asked in every database. There is no third
//! connection.

mod walk;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, WeakUnboundedSender};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::census;
use super::facts::{Facts, LIBRARIES, Probe};
use super::queue::Queue;
use super::slot::{LOCKED, Outcome, Run, Skip, Slot};
use super::state::{Condition, Shared};
use crate::catalog::Definition;
use crate::collect::CollectError;
use crate::collect::sql::families_of;
use crate::panics::{self, caught};
use crate::server::{ConnectFailure, FailureClass, QueryFailure, RowSet, Session};

/// What a reader sends to a lane.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask {
    /// Is it up, and in which role? Of the slow lane: does it take new connections?
    Probe,
    /// Run the collector in this place.
    Collect(usize),
    /// Go on with the walk over the databases, or begin one.
    Walk,
}

/// The time a probe has on an open connection.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long anybody waits for a connection to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an attempt to connect goes on in the background; the DSN may say less. A server that hangs queues every
/// attempt and forks for each of them when it wakes, so there is one attempt at a time and not one for each reader.
const LONGEST_OPENING: Duration = Duration::from_secs(10);
/// The same on a socket of this host, where the kernel tells when the server goes: an attempt given up earlier would be
/// served in vain when a hanging server wakes, and so would every one after it.
const LONGEST_OPENING_OF_SOCKET: Duration = Duration::from_secs(86_400);
/// Each try to come in where we may not is a line in the server's log, and readers may be many.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How long a server's lanes wait after a reload for those of the configuration before to leave it.
const LONGEST_SUCCESSION: Duration = Duration::from_secs(2);
/// What any collector gets on the fast lane, whatever its own timeout is: the others wait behind it.
const FAST_LIMIT: Duration = Duration::from_secs(2);
/// More than connecting, cancelling and a probe after a loss take together, beside the query itself.
const BESIDE_THE_QUERY: Duration = Duration::from_secs(30);
/// How long a session has to end that is to be replaced.
const FAREWELL: Duration = Duration::from_secs(2);

/// One of the two connections of a server.
pub(super) struct Lane {
    shared: Arc<Shared>,
    slow: bool,
    session: Option<Session>,
    opening: JoinSet<Result<Session, ConnectFailure>>,
    /// When the server last judged that we may not come in.
    refused: Option<(Instant, ConnectFailure)>,
    /// The libraries of the server that started at this time, which no later start can change.
    libraries: (String, BTreeSet<String>),
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
            opening: JoinSet::new(),
            refused: None,
            libraries: Default::default(),
            walk: None,
            refusals: walk::Refusals::default(),
            again,
        }
    }

    /// Serves until the server is no longer watched.
    pub(super) async fn serve(mut self, asks: UnboundedReceiver<Ask>) {
        let mut queue = Queue::new(asks);
        while queue.fill().await {
            let Some(ask) = queue.take(|ask| self.rank(*ask)) else { continue };
            self.shared.turn(self.slow).begin(self.longest(ask));
            if caught(self.answer(ask)).await.is_none() {
                self.begin_anew(ask);
            }
            self.shared.turn(self.slow).end();
            self.count_open();
        }
    }

    async fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Probe => self.probe().await,
            Ask::Collect(at) => self.collect(at).await,
            Ask::Walk => self.walk().await,
        }
    }

    /// How long an answer takes at most: every wait in it has a limit.
    fn longest(&self, ask: Ask) -> Duration {
        match ask {
            // Each step of a walk begins a turn of its own.
            Ask::Probe | Ask::Walk => BESIDE_THE_QUERY,
            Ask::Collect(at) => {
                self.shared.definitions.get(at).map_or(Duration::ZERO, |it| it.timeout) + BESIDE_THE_QUERY
            }
        }
    }

    /// After a panic nobody knows what the connection is in the middle of, and readers wait for what they asked.
    fn begin_anew(&mut self, ask: Ask) {
        self.session = None;
        self.opening = JoinSet::new();
        let reason = || panics::REASON.to_owned();
        let run = |epoch| {
            let outcome = Outcome::Failed { class: "panic", reason: reason() };
            Run::without_families(Instant::now(), epoch, outcome)
        };
        match ask {
            Ask::Probe if self.slow => {}
            Ask::Walk => {
                self.walk = None;
                self.publish_to_all(self.shared.state().0, &Outcome::Failed { class: "panic", reason: reason() });
            }
            Ask::Probe => {
                let epoch = self.shared.note(Condition::Down { class: FailureClass::Other, reason: reason() });
                self.shared.probe.publish(run(epoch));
            }
            Ask::Collect(at) => {
                let epoch = self.shared.state().0;
                self.shared.slots.get(at).inspect(|slot| slot.publish(run(epoch)));
            }
        }
    }

    /// On the fast lane the probe comes first, or a server would count as down because we are busy; then what was quick the
    /// last time, so that what takes long makes nobody late but itself. On the slow lane everybody takes turns.
    fn rank(&self, ask: Ask) -> Option<Duration> {
        match ask {
            Ask::Collect(at) if !self.slow => {
                let latest = self.shared.slots.get(at).and_then(Slot::latest);
                Some(latest.map(|run| run.duration()).unwrap_or_default())
            }
            _ => None,
        }
    }

    async fn probe(&mut self) {
        if self.slow {
            self.knock().await;
            return;
        }
        let started = Instant::now();
        let before = self.shared.state().1;
        let found = match self.ask_facts().await {
            Ok(facts) => Condition::Up(Arc::new(facts)),
            Err((class, reason)) => Condition::Down { class, reason },
        };
        log_change(self.shared.server.name(), &before, &found);
        let outcome = match &found {
            Condition::Down { class, reason } => Outcome::Failed { class: class.as_str(), reason: reason.clone() },
            _ => Outcome::Ok,
        };
        let epoch = self.shared.note(found);
        self.shared.probe.publish(Run::without_families(started, epoch, outcome));
    }

    /// Opens a connection only to see that it can be done. While the slow lane needs its own, that one has shown it.
    async fn knock(&mut self) {
        if self.session.is_none() && self.pause().is_none() {
            // How it went is noted there.
            let _ = self.connect().await;
            if let Some(session) = self.session.take() {
                session.close(FAREWELL).await;
            }
        }
    }

    async fn ask_facts(&mut self) -> Result<Facts, (FailureClass, String)> {
        let was_open = self.session.is_some();
        // That of the collectors which follow: setting another one each time would double the probe's round trips.
        let statement_timeout = little_less_than(FAST_LIMIT);
        self.connect().await.map_err(|failure| (failure.class, failure.message))?;
        let shared = Arc::clone(&self.shared);
        let probe = shared.probing.sql();
        let begun = Instant::now();
        let answer = match self.query(probe, statement_timeout, PROBE_TIMEOUT).await {
            // The server was restarted since we last asked: that is no outage if it takes a new connection.
            Err(QueryFailure::Lost { .. }) if was_open => {
                self.connect().await.map_err(|failure| (failure.class, failure.message))?;
                self.query(probe, statement_timeout, PROBE_TIMEOUT).await
            }
            answer => answer,
        };
        let failed = |failure: QueryFailure| (class_of(&failure), failure.to_string());
        let rows = answer.map_err(failed)?;
        self.shared.round_trip.note(begun.elapsed());
        let version = self.session.as_ref().map_or(0, Session::version);
        let facts = shared.probing.read(version, &rows);
        let mut facts = facts.ok_or((FailureClass::Other, "the probe's answer has no row".to_owned()))?;
        if !facts.lacks.is_empty() {
            let rows = self.query(&facts.sql_of_role(), statement_timeout, PROBE_TIMEOUT).await.map_err(failed)?;
            facts.add_role(&rows);
        }
        if shared.probing.asks_libraries() && self.libraries.0 != facts.started {
            let rows = self.query(LIBRARIES, statement_timeout, PROBE_TIMEOUT).await.map_err(failed)?;
            let names = (0..rows.len()).filter_map(|row| rows.value(row, 0)).map(str::to_owned).collect();
            self.libraries = (facts.started.clone(), names);
        }
        facts.libraries.clone_from(&self.libraries.1);
        self.name_databases(Probe::mark_of_databases(&rows)).await;
        Ok(facts)
    }

    /// A failure is no news: the next probe asks again.
    async fn name_databases(&mut self, mark: &str) {
        if self.shared.census.has_changed(mark)
            && let Ok(names) = self.query(census::NAMES, little_less_than(FAST_LIMIT), PROBE_TIMEOUT).await
        {
            self.shared.census.note(mark, &names);
        }
    }

    async fn collect(&mut self, at: usize) {
        let shared = Arc::clone(&self.shared);
        let (Some(slot), Some(definition)) = (shared.slots.get(at), shared.definitions.get(at)) else { return };
        let (epoch, condition) = shared.state();
        let before = slot.latest();
        let run = match condition {
            Condition::Up(facts) => match facts.plan(definition) {
                Ok(sql) => {
                    let mut run = self.run(slot, definition, &sql, epoch).await;
                    if run.outcome == Outcome::Ok {
                        slot.memory.complete(definition, facts.in_recovery, &mut run.families);
                    }
                    run
                }
                Err(obstacle) => Run::without_families(Instant::now(), epoch, facts.skipped(&obstacle)),
            },
            Condition::Down { class, reason } => {
                Run::without_families(Instant::now(), epoch, Outcome::server_down(class.as_str(), &reason))
            }
            Condition::Unknown => {
                Run::without_families(Instant::now(), epoch, Outcome::server_down("unknown", "not probed yet"))
            }
        };
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
        if let Some(reason) = self.pause() {
            return Run::without_families(Instant::now(), epoch, Outcome::Failed { class: "timeout", reason });
        }
        if let Err(failure) = self.connect().await {
            let outcome = Outcome::Failed { class: failure.class.as_str(), reason: failure.message };
            return Run::without_families(Instant::now(), epoch, outcome);
        }
        let started = Instant::now();
        let limit = if self.slow { definition.timeout } else { definition.timeout.min(FAST_LIMIT) };
        let answer = self.query(sql, little_less_than(limit), limit).await;
        let took = started.elapsed();
        let overran = matches!(&answer, Err(failure) if class_of(failure) == FailureClass::Timeout);
        if slot.set_slow(overran || (slot.is_slow() && took > definition.timeout.min(FAST_LIMIT) / 2)) != slot.is_slow()
        {
            info!(
                server = self.shared.server.name(),
                collector = definition.name,
                slow = slot.is_slow(),
                "lane changed"
            );
        }
        let rows = match answer {
            Ok(rows) => rows,
            Err(failure) => return Run::without_families(started, epoch, outcome_of(&failure)),
        };
        match slot.choose(epoch, |shown| families_of(definition, &rows, shown)) {
            Ok(collected) => Run {
                started,
                finished: Instant::now(),
                epoch,
                outcome: Outcome::Ok,
                families: collected.families.into_iter().map(Arc::new).collect(),
                rows: collected.rows,
                folded: collected.folded,
                remainder: collected.remainder,
                walked: None,
            },
            Err(error) => {
                let class = if matches!(error, CollectError::TooLarge { .. }) { "too_large" } else { "column" };
                let outcome = Outcome::Failed { class, reason: error.to_string() };
                Run::without_families(started, epoch, outcome)
            }
        }
    }

    /// Makes sure of an open connection.
    async fn connect(&mut self) -> Result<(), ConnectFailure> {
        let longest = self.shared.server.options().longest_session();
        if self.session.as_ref().is_some_and(|session| !session.is_closed() && session.age() < longest) {
            return Ok(());
        }
        if let Some((_, failure)) = self.refused.as_ref().filter(|(at, _)| at.elapsed() < ASK_AGAIN_AFTER) {
            return Err(failure.clone());
        }
        // Gone before the next one opens: two lanes are two connections at any moment.
        if let Some(session) = self.session.take() {
            session.close(FAREWELL).await;
        }
        self.shared.wait_for_predecessor(LONGEST_SUCCESSION).await;
        if self.opening.is_empty() {
            let shared = Arc::clone(&self.shared);
            let is_socket = shared.server.options().is_one_socket();
            let limit = if is_socket { LONGEST_OPENING_OF_SOCKET } else { LONGEST_OPENING };
            self.opening.spawn(async move { shared.server.open(limit).await });
        }
        let other = |class, message| ConnectFailure { class, message, sqlstate: None };
        let opened = match timeout(CONNECT_TIMEOUT, self.opening.join_next()).await {
            Ok(Some(Ok(opened))) => opened,
            Ok(_) => Err(other(FailureClass::Other, "the attempt to connect ended early".to_owned())),
            Err(_) => Err(other(FailureClass::Timeout, format!("connect: no answer within {CONNECT_TIMEOUT:?}"))),
        };
        self.shared.door.note(Instant::now(), opened.as_ref().err().map(|failure| failure.class));
        self.refused =
            opened.as_ref().err().filter(|failure| failure.is_judgement()).map(|it| (Instant::now(), it.clone()));
        self.session = Some(opened?);
        self.shared.connects.fetch_add(1, Ordering::Relaxed);
        self.count_open();
        Ok(())
    }

    /// Runs a statement that the server ends after `statement_timeout`, and we give up after `timeout`.
    async fn query(
        &mut self,
        sql: &str,
        statement_timeout: Duration,
        timeout: Duration,
    ) -> Result<RowSet, QueryFailure> {
        let Some(session) = &mut self.session else { return Err(no_connection()) };
        let answer = session.query(sql, statement_timeout, timeout).await;
        if session.is_closed()
            && let Some(session) = self.session.take()
        {
            if !session.is_stuck() {
                session.close(FAREWELL).await;
                return answer;
            }
            let count = Arc::clone(&self.shared.stuck);
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                session.ended().await;
                count.fetch_sub(1, Ordering::Relaxed);
            });
        }
        answer
    }

    /// Why the slow lane opens no connection now: the budget of two counts processes that are still busy with what we
    /// gave up.
    fn pause(&self) -> Option<String> {
        let stuck = self.slow && self.session.is_none() && self.shared.stuck.load(Ordering::Relaxed) > 0;
        stuck.then(|| "a query that could not be stopped is still running on the server".to_owned())
    }

    fn count_open(&self) {
        let open = self.session.as_ref().is_some_and(|session| !session.is_closed());
        if let Some(count) = self.shared.open.get(usize::from(self.slow)) {
            count.store(u64::from(open), Ordering::Relaxed);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // Who comes after us waits until nothing of us is left, and for as long as that takes we are not.
        if let (Some(session), Ok(runtime)) = (self.session.take(), Handle::try_current()) {
            let shared = Arc::clone(&self.shared);
            runtime.spawn(async move {
                session.close(FAREWELL).await;
                drop(shared);
            });
        }
    }
}

/// The server should end a query by itself before we give it up, which costs the connection.
fn little_less_than(timeout: Duration) -> Duration {
    timeout.saturating_sub((timeout / 10).min(Duration::from_millis(200)))
}

fn no_connection() -> QueryFailure {
    QueryFailure::Lost { class: FailureClass::Unreachable, message: "no connection".to_owned() }
}

fn class_of(failure: &QueryFailure) -> FailureClass {
    match failure {
        QueryFailure::Deadline(_) | QueryFailure::StatementTimeout(_) => FailureClass::Timeout,
        QueryFailure::Lost { class, .. } => *class,
        // insufficient_privilege
        QueryFailure::Server { sqlstate, .. } if sqlstate == "42501" => FailureClass::Permission,
        _ => FailureClass::Other,
    }
}

fn outcome_of(failure: &QueryFailure) -> Outcome {
    match class_of(failure) {
        _ if matches!(failure, QueryFailure::TooLarge(_)) => {
            Outcome::Failed { class: "too_large", reason: failure.to_string() }
        }
        _ if matches!(failure, QueryFailure::LockTimeout) => {
            Outcome::Failed { class: LOCKED, reason: failure.to_string() }
        }
        FailureClass::Permission => Outcome::Skipped { why: Skip::Privilege, reason: failure.to_string() },
        class => Outcome::Failed { class: class.as_str(), reason: failure.to_string() },
    }
}

fn log_change(server: &str, before: &Condition, now: &Condition) {
    match (before, now) {
        (Condition::Up(old), Condition::Up(new)) if old.in_recovery != new.in_recovery => {
            info!(server, role = role(new), "server changed its role");
        }
        (Condition::Unknown | Condition::Down { .. }, Condition::Up(facts)) => {
            info!(server, version = facts.version, role = role(facts), "server is up");
        }
        (Condition::Unknown | Condition::Up(_), Condition::Down { class, reason }) => {
            warn!(server, class = class.as_str(), reason, "server is down");
        }
        _ => {}
    }
}

fn role(facts: &Facts) -> &'static str {
    if facts.in_recovery { "standby" } else { "primary" }
}

fn log_outcome(server: &str, collector: &str, before: Option<&Outcome>, now: &Outcome) {
    let failed = |outcome: Option<&Outcome>| matches!(outcome, Some(Outcome::Failed { .. }));
    match now {
        Outcome::Failed { class: "server_down", .. } => {}
        Outcome::Failed { class, reason } if !failed(before) => {
            warn!(server, collector, class, reason, "collector failed");
        }
        Outcome::Ok if failed(before) => info!(server, collector, "collector recovered"),
        Outcome::Skipped { reason, .. } => debug!(server, collector, reason, "collector skipped"),
        _ => {}
    }
}
