//! Is the server up, in which role, and does it take new connections?

use std::sync::Arc;
use std::time::Instant;

use super::holding::FAREWELL;
use super::telling::{class_of, log_change};
use super::{FAST_LIMIT, Lane, PROBE_TIMEOUT, little_less_than};
use crate::agent::census;
use crate::agent::facts::{Facts, LIBRARIES, Probe};
use crate::agent::slot::{Outcome, Run};
use crate::agent::state::Condition;
use crate::server::{FailureClass, QueryFailure, RowSet, Session};

/// Under which names they are prepared.
const PROBE: &str = "probe";
const OF_ROLE: &str = "probe_role";

impl Lane {
    pub(super) async fn probe(&mut self) {
        if self.slow {
            self.knock().await;
            return;
        }
        let started = Instant::now();
        let before = self.shared.state().1;
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
        // That of the collectors which follow: setting another one each time would double the probe's round trips.
        let statement_timeout = little_less_than(FAST_LIMIT);
        self.connect().await.map_err(|failure| (failure.class, failure.message))?;
        let shared = Arc::clone(&self.shared);
        // What the role lacked the last time it most likely lacks now.
        let expected = match before {
            Condition::Up(facts) if !facts.lacks.is_empty() => Some(facts.sql_of_role()),
            _ => None,
        };
        let answer = match self.ask_probe(expected.as_deref()).await {
            // The server was restarted since we last asked: that is no outage if it takes a new connection.
            Err(QueryFailure::Lost { .. }) if was_open => {
                self.connect().await.map_err(|failure| (failure.class, failure.message))?;
                self.ask_probe(None).await
            }
            answer => answer,
        };
        let failed = |failure: QueryFailure| (class_of(&failure), failure.to_string());
        let (rows, of_role) = answer.map_err(failed)?;
        let version = self.session.as_ref().map_or(0, Session::version);
        let facts = shared.probing.read(version, &rows);
        let mut facts = facts.ok_or((FailureClass::Other, "the probe's answer has no row".to_owned()))?;
        if !facts.lacks.is_empty() {
            let sql = facts.sql_of_role();
            let rows = match of_role {
                Some(rows) if expected.is_some_and(|expected| expected == sql) => rows,
                _ => self.query_again(OF_ROLE, &sql, statement_timeout, PROBE_TIMEOUT).await.map_err(failed)?,
            };
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

    /// Asks the probe, and sends behind it at once what is expected to be asked next.
    async fn ask_probe(&mut self, next: Option<&str>) -> Result<(RowSet, Option<RowSet>), QueryFailure> {
        let (shared, begun, limit) = (Arc::clone(&self.shared), Instant::now(), little_less_than(FAST_LIMIT));
        let probe = shared.probing.sql();
        let mut answer = Ok((None, None));
        if let (Some(next), Some(session)) = (next, &mut self.session)
            && let Some(sent) = session.send(PROBE, probe, limit).await
        {
            let behind = session.send(OF_ROLE, next, limit).await;
            let rows = session.receive(sent, PROBE_TIMEOUT).await.1;
            shared.round_trip.note(begun.elapsed());
            let of_role = match behind {
                Some(behind) if !session.is_closed() => session.receive(behind, PROBE_TIMEOUT).await.1,
                _ => Ok(None),
            };
            answer = rows.and_then(|rows| Ok((rows, of_role?)));
            self.part_if_closed().await;
        }
        if let (Some(rows), of_role) = answer? {
            return Ok((rows, of_role));
        }
        let begun = Instant::now();
        let rows = self.query_again(PROBE, probe, limit, PROBE_TIMEOUT).await?;
        shared.round_trip.note(begun.elapsed());
        Ok((rows, None))
    }

    /// A failure is no news: the next probe asks again.
    async fn name_databases(&mut self, mark: &str) {
        if self.shared.census.has_changed(mark)
            && let Ok(names) = self.query(census::NAMES, little_less_than(FAST_LIMIT), PROBE_TIMEOUT).await
        {
            self.shared.census.note(mark, &names);
        }
    }
}
