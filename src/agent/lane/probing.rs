//! Is the server up, in which role, and does it take new connections?

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::holding::FAREWELL;
use super::telling::{class_of, log_change};
use super::{Ask, FAST_LIMIT, Lane, PROBE_TIMEOUT, little_less_than};
use crate::agent::census;
use crate::agent::facts::{Facts, LIBRARIES, Probe};
use crate::agent::slot::{Outcome, Run};
use crate::agent::state::Condition;
use crate::server::{FailureClass, QueryFailure, RowSet, Session};

/// Under which names they are prepared.
const PROBE: &str = "probe";
const OF_ROLE: &str = "probe_role";
/// For how long what was said of our role is said again, as long as it lacks the same: it is for words only.
const KEPT_OF_ROLE: Duration = Duration::from_secs(1);

/// What a session answered to the question for our role.
pub(super) struct OfRole {
    asked: Instant,
    sql: String,
    rows: RowSet,
}

impl Lane {
    pub(super) async fn probe(&mut self) {
        if self.slow {
            self.knock().await;
            return;
        }
        let started = Instant::now();
        let (known, before) = self.shared.state();
        let found = match self.ask_facts(&before).await {
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
        if epoch == known {
            return;
        }
        self.recall().await;
        if matches!(self.shared.state().1, Condition::Down { .. }) {
            // Nobody waits for a server that is down, and that it is down is no failure of theirs.
            for ask in self.stranded.drain(..) {
                if let Ask::Collect(slot) = ask
                    && let Some(slot) = self.shared.slots.get(slot)
                {
                    slot.release();
                }
            }
        }
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

    async fn ask_facts(&mut self, before: &Condition) -> Result<Facts, (FailureClass, String)> {
        let was_open = self.session.is_some();
        let next = self.shared.take_expected().filter(|_| matches!(before, Condition::Up(_)));
        // That of the collectors which follow: setting another one each time would double the probe's round trips.
        let statement_timeout = little_less_than(FAST_LIMIT);
        self.connect().await.map_err(|failure| (failure.class, failure.message))?;
        let shared = Arc::clone(&self.shared);
        // What the role lacked the last time it most likely lacks now.
        let expected = match before {
            Condition::Up(facts) if !facts.lacks.is_empty() => Some(facts.sql_of_role()),
            _ => None,
        };
        let behind = expected.as_deref().filter(|sql| self.of_role(sql).is_none());
        let answer = match self.ask_probe(behind, next).await {
            // The server was restarted since we last asked: that is no outage if it takes a new connection.
            Err(QueryFailure::Lost { .. }) if was_open => {
                self.connect().await.map_err(|failure| (failure.class, failure.message))?;
                self.ask_probe(None, None).await
            }
            answer => answer,
        };
        let failed = |failure: QueryFailure| (class_of(&failure), failure.to_string());
        let (rows, of_role) = answer.map_err(failed)?;
        let version = self.session.as_ref().map_or(0, Session::version);
        let facts = shared.probing.read(version, &rows);
        let mut facts = facts.ok_or((FailureClass::Other, "the probe's answer has no row".to_owned()))?;
        if let (Some(rows), Some(sql)) = (of_role, expected) {
            self.of_role = Some(OfRole { asked: Instant::now(), sql, rows });
        }
        if !facts.lacks.is_empty() {
            let sql = facts.sql_of_role();
            if self.of_role(&sql).is_none() {
                self.recall().await;
                let rows = self.query_again(OF_ROLE, &sql, statement_timeout, PROBE_TIMEOUT).await.map_err(failed)?;
                self.of_role = Some(OfRole { asked: Instant::now(), sql: sql.clone(), rows });
            }
            if let Some(rows) = self.of_role(&sql) {
                facts.add_role(rows);
            }
        }
        if shared.probing.asks_libraries() && self.libraries.0 != facts.started {
            self.recall().await;
            let rows = self.query(LIBRARIES, statement_timeout, PROBE_TIMEOUT).await.map_err(failed)?;
            let names = (0..rows.len()).filter_map(|row| rows.value(row, 0)).map(str::to_owned).collect();
            self.libraries = (facts.started.clone(), names);
        }
        facts.libraries.clone_from(&self.libraries.1);
        self.name_databases(Probe::mark_of_databases(&rows)).await;
        Ok(facts)
    }

    /// What this session answered to that question of late.
    fn of_role(&self, sql: &str) -> Option<&RowSet> {
        let known = self.of_role.as_ref().filter(|known| known.sql == sql && known.asked.elapsed() < KEPT_OF_ROLE);
        known.map(|known| &known.rows)
    }

    /// Asks the probe, and sends behind it at once what is expected to be asked next.
    async fn ask_probe(
        &mut self,
        of_role: Option<&str>,
        next: Option<(Instant, Vec<usize>)>,
    ) -> Result<(RowSet, Option<RowSet>), QueryFailure> {
        let (shared, begun, limit) = (Arc::clone(&self.shared), Instant::now(), little_less_than(FAST_LIMIT));
        let probe = shared.probing.sql();
        if let Some(session) = &mut self.session
            && let Some(sent) = session.send(PROBE, probe, limit).await
        {
            let behind = match of_role {
                Some(of_role) => session.send(OF_ROLE, of_role, limit).await,
                None => None,
            };
            if let Some(next) = next.filter(|_| behind.is_some() == of_role.is_some()) {
                self.send_expected(next).await;
            }
            let rows = self.receive(sent, PROBE_TIMEOUT).await;
            shared.round_trip.note(begun.elapsed());
            let of_role = match behind {
                Some(behind) => self.receive(behind, PROBE_TIMEOUT).await,
                None => Ok(None),
            };
            if let Some(rows) = rows? {
                return Ok((rows, of_role?));
            }
            self.recall().await;
        }
        let begun = Instant::now();
        let rows = self.query_again(PROBE, probe, limit, PROBE_TIMEOUT).await?;
        shared.round_trip.note(begun.elapsed());
        Ok((rows, None))
    }

    /// A failure is no news: the next probe asks again.
    async fn name_databases(&mut self, mark: &str) {
        if !self.shared.census.has_changed(mark) {
            return;
        }
        self.recall().await;
        if let Ok(names) = self.query(census::NAMES, little_less_than(FAST_LIMIT), PROBE_TIMEOUT).await {
            self.shared.census.note(mark, &names);
        }
    }
}
