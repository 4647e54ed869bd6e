//! The walk over the databases: on the slow lane, one database after the other, each in a session of its own that is
//! closed before the next one opens. Between two databases whoever else waits for the lane has his turn.

mod entering;
mod round;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::debug;

use super::telling::{class_of, log_outcome, outcome_of};
use super::{Ask, BESIDE_THE_QUERY, FAST_LIMIT, Lane, PROBE_TIMEOUT, little_less_than};
use crate::agent::facts::Facts;
use crate::agent::slot::{Outcome, Run, Slot};
use crate::agent::state::{Condition, Shared};
use crate::agent::walk::{self, State};
use crate::catalog::{Definition, Scope};
use crate::server::{Database, Databases, FailureClass, Listing, QueryFailure};

pub(super) use entering::Refusals;
pub(super) use round::Walk;
use round::{Asked, End};

/// After this time a walk enters no more databases.
const LONGEST_WALK: Duration = Duration::from_secs(300);
/// A definition that ran out of time in so many databases in a row is not asked in the rest.
const MOST_LATE: u32 = 3;

impl Lane {
    /// Goes on with the walk, or begins one if somebody waits for it.
    pub(super) async fn walk(&mut self) {
        let Some(mut walk) = self.walk.take().or_else(|| self.begin_walk()) else { return };
        // As much time as the others had since its last step: neither starves behind the other.
        let (began, share) = (Instant::now(), walk.paused.elapsed());
        let goes_on = loop {
            self.shared.turn(self.slow).begin(self.longest_step(&walk));
            let goes_on = self.step(&mut walk).await;
            if !goes_on || began.elapsed() >= share {
                break goes_on;
            }
        };
        self.leave_database().await;
        walk.spent += began.elapsed();
        walk.paused = Instant::now();
        if goes_on {
            self.walk = Some(walk);
        } else {
            self.finish(walk);
        }
        // Who came too late for this walk waits for the next one.
        if (goes_on || claimed(&self.shared).next().is_some())
            && let Some(sender) = self.again.upgrade()
        {
            let _ = sender.send(Ask::Walk);
        }
    }

    /// How long one database takes at most.
    fn longest_step(&self, walk: &Walk) -> Duration {
        let definitions = walk.asked.iter().filter_map(|asked| self.shared.definitions.get(asked.at));
        let queries: Duration = definitions.map(|definition| definition.timeout + 2 * FAST_LIMIT).sum();
        queries + 2 * BESIDE_THE_QUERY
    }

    fn begin_walk(&mut self) -> Option<Walk> {
        let (epoch, condition) = self.shared.state();
        let facts = match condition {
            Condition::Up(facts) => facts,
            Condition::Down { class, reason } => {
                self.publish_to_all(epoch, &Outcome::server_down(class.as_str(), &reason));
                return None;
            }
            Condition::Unknown => {
                self.publish_to_all(epoch, &Outcome::server_down("unknown", "not probed yet"));
                return None;
            }
        };
        let mut walk = Walk::new(epoch, facts);
        self.take_along(&mut walk);
        (!walk.asked.is_empty()).then_some(walk)
    }

    /// Adds who waits by now; those whose definition does not apply know without a walk.
    fn take_along(&self, walk: &mut Walk) {
        for (at, slot, definition) in claimed(&self.shared) {
            if walk.asked.iter().any(|asked| asked.at == at) {
                continue;
            }
            match walk.facts.plan(definition) {
                Err(obstacle) if definition.extension.is_none() => {
                    let skipped = walk.facts.skipped(&obstacle);
                    slot.publish(Run::without_families(Instant::now(), walk.epoch, skipped));
                }
                _ => walk.asked.push(Asked::new(at, definition)),
            }
        }
    }

    pub(super) fn publish_to_all(&self, epoch: u64, outcome: &Outcome) {
        let shared = Arc::clone(&self.shared);
        for (_, slot, _) in claimed(&shared) {
            slot.publish(Run::without_families(Instant::now(), epoch, outcome.clone()));
        }
    }

    /// One step of the walk; false after the last one.
    async fn step(&mut self, walk: &mut Walk) -> bool {
        if self.shared.state().0 != walk.epoch {
            walk.end = Some(End::Void);
        } else if self.shared.stuck.load(Ordering::Relaxed) > 0 {
            let reason = "a session that could not be ended is still open on the server".to_owned();
            walk.end = Some(End::Broken { class: FailureClass::Timeout.as_str(), reason });
        } else if walk.begun.elapsed() > LONGEST_WALK {
            let reason = format!("the walk over the databases takes longer than {LONGEST_WALK:?}");
            walk.end = Some(End::Broken { class: "over_time", reason });
        } else if let Some(left) = &mut walk.left {
            match left.pop_front() {
                None => return false,
                Some(database) => self.visit(walk, database).await,
            }
        } else {
            self.list(walk).await;
            // We are there already.
            let is_first = |left: &VecDeque<Database>| left.front().is_some_and(|first| first.is_current);
            if let Some(here) = walk.left.as_mut().filter(|left| is_first(left)).and_then(VecDeque::pop_front) {
                self.visit(walk, here).await;
            }
        }
        walk.end.is_none() && walk.left.as_ref().is_some_and(|left| !left.is_empty())
    }

    /// Finds out which databases there are, in the database that the server's DSN names.
    async fn list(&mut self, walk: &mut Walk) {
        let was_open = self.session.is_some();
        let mut listed = self.try_list(walk).await;
        if was_open && self.session.is_none() {
            // The server was restarted since we last asked.
            listed = self.try_list(walk).await;
        }
        self.take_along(walk);
        let databases = match listed {
            Ok(Listing { state: Some(state), databases }) if state.in_recovery == walk.facts.in_recovery => {
                walk.server = Some(state);
                databases
            }
            Ok(_) => {
                walk.end = Some(End::Void);
                return;
            }
            Err((class, reason)) => {
                walk.end = Some(End::Broken { class: class.as_str(), reason });
                return;
            }
        };
        self.refusals.renew(walk.epoch);
        let mut left = VecDeque::new();
        for database in databases {
            if let Some(barrier) = database.barrier {
                walk.count(State::Barred(barrier));
            } else if !walk.asked.iter().any(|asked| asked.wants(&database.name)) {
                // Nothing keeps us out, and there is nothing to ask.
                walk.count(State::Walked);
            } else if left.len() >= self.shared.walks.databases.max {
                walk.count(State::OverMax);
            } else if let Some(refusal) = self.refusals.find(None, database.oid) {
                walk.miss(&database.name, refusal.class, &refusal.reason);
            } else if database.is_current {
                left.push_front(database);
            } else {
                left.push_back(database);
            }
        }
        walk.left = Some(left);
    }

    async fn try_list(&mut self, walk: &Walk) -> Result<Listing, (FailureClass, String)> {
        self.connect().await.map_err(|failure| (failure.class, failure.message))?;
        self.ask_databases(walk, None).await.map_err(|failure| (class_of(&failure), failure.to_string()))
    }

    async fn ask_databases(&mut self, walk: &Walk, oid: Option<u32>) -> Result<Listing, QueryFailure> {
        let rows = self.query(&Databases::statement(oid), walk.statement_timeout(&self.shared), FAST_LIMIT).await?;
        Ok(self.shared.walks.databases.read(&rows))
    }

    async fn visit(&mut self, walk: &mut Walk, database: Database) {
        let is_there = database.is_current && self.session.as_ref().is_some_and(|session| !session.is_closed());
        if !is_there && let Err(failure) = self.enter(&database).await {
            return self.refused(walk, &database, failure);
        }
        walk.crowded = 0;
        match self.facts_there(walk).await {
            Ok(facts) => {
                walk.count(State::Walked);
                for at in 0..walk.asked.len() {
                    if let Some(asked) = walk.asked.get_mut(at) {
                        self.ask_there(asked, &database, &facts).await;
                    }
                }
                self.confirm_next(walk, database.oid).await;
            }
            Err(failure) => walk.miss(&database.name, class_of(&failure).as_str(), &failure.to_string()),
        }
        self.leave_database().await;
    }

    /// The facts of the database we are in, which differ from the server's only by the extensions.
    async fn facts_there(&mut self, walk: &Walk) -> Result<Arc<Facts>, QueryFailure> {
        let definitions = walk.asked.iter().filter_map(|asked| self.shared.definitions.get(asked.at));
        if definitions.into_iter().all(|definition| definition.extension.is_none()) {
            return Ok(Arc::clone(&walk.facts));
        }
        let shared = Arc::clone(&self.shared);
        let rows = self.query(shared.probing.sql(), walk.statement_timeout(&shared), PROBE_TIMEOUT).await?;
        let found = shared.probing.read(walk.facts.version, &rows);
        let libraries = walk.facts.libraries.clone();
        Ok(found.map_or_else(|| Arc::clone(&walk.facts), |facts| Arc::new(Facts { libraries, ..facts })))
    }

    /// Asks one definition in the database we are in.
    async fn ask_there(&mut self, asked: &mut Asked, database: &Database, facts: &Facts) {
        let shared = Arc::clone(&self.shared);
        let Some(definition) = shared.definitions.get(asked.at) else { return };
        let datname = &database.name;
        if !asked.wants(datname) {
            return;
        }
        if let Some(refusal) = self.refusals.find(Some(asked.at), database.oid) {
            return asked.miss(datname, refusal.class, &refusal.reason);
        }
        if asked.late >= MOST_LATE {
            let reason = format!("out of time in {MOST_LATE} databases before this one");
            return asked.miss(datname, FailureClass::Timeout.as_str(), &reason);
        }
        let sql = match facts.plan(definition) {
            Ok(sql) => sql,
            Err(obstacle) => {
                asked.skipped = Some(facts.skipped(&obstacle));
                return;
            }
        };
        // The definition before this one may have cost the session.
        if self.session.is_none()
            && let Err(failure) = self.enter(database).await
        {
            return asked.miss(datname, failure.class.as_str(), &failure.message);
        }
        let began = Instant::now();
        let answer = self.query(&sql, little_less_than(definition.timeout), definition.timeout).await;
        asked.spent += began.elapsed();
        match answer {
            Ok(rows) => {
                asked.late = 0;
                if let Err(error) = asked.add(datname, &rows) {
                    asked.miss(datname, error.class(), &error.to_string());
                }
            }
            Err(failure) => {
                let class = class_of(&failure);
                asked.late = if class == FailureClass::Timeout { asked.late + 1 } else { 0 };
                asked.miss(datname, class.as_str(), &failure.to_string());
                if matches!(outcome_of(&failure), Outcome::Skipped { .. }) {
                    self.refusals.note(Some(asked.at), database.oid, class, &failure.to_string());
                }
            }
        }
    }

    fn finish(&mut self, mut walk: Walk) {
        if let Some(End::Broken { class, reason }) = &walk.end {
            let (class, reason) = (*class, reason.clone());
            for database in walk.left.take().unwrap_or_default() {
                walk.miss(&database.name, class, &reason);
            }
        }
        let shared = Arc::clone(&self.shared);
        let took = walk.begun.elapsed();
        debug!(server = shared.server.name(), ?took, spent = ?walk.spent, states = ?walk.states, "walk over the databases");
        let is_void = matches!(walk.end, Some(End::Void));
        if !is_void {
            let (epoch, started, spent) = (walk.epoch, walk.begun, walk.spent);
            let states = std::mem::take(&mut walk.states);
            shared.walks.note(walk::Walk { epoch, started, spent, states });
        }
        for asked in walk.asked {
            let (Some(slot), Some(definition)) = (shared.slots.get(asked.at), shared.definitions.get(asked.at)) else {
                continue;
            };
            let before = slot.latest();
            let run = asked.into_run(slot, walk.epoch, walk.begun, walk.end.as_ref());
            let before = before.as_deref().map(|run| &run.outcome);
            log_outcome(shared.server.name(), &definition.name, before, &run.outcome);
            slot.set_slow(took > walk::PATIENCE || (slot.is_slow() && took > walk::PATIENCE / 2));
            slot.publish(run);
        }
    }
}

/// The collectors in database scope that somebody waits for.
fn claimed(shared: &Shared) -> impl Iterator<Item = (usize, &Slot, &Arc<Definition>)> {
    let all = shared.slots.iter().zip(&shared.definitions).enumerate();
    let all = all.map(|(at, (slot, definition))| (at, slot, definition));
    all.filter(|(_, slot, definition)| definition.scope == Scope::Database && slot.is_claimed())
}
