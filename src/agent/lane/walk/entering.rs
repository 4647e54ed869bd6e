//! Into a database and out of it again, without a line in the server's log and without a third session.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::round::{End, Walk};
use crate::agent::lane::{CONNECT_TIMEOUT, Lane};
use crate::agent::slot::RETRY_UNPRIVILEGED;
use crate::agent::walk::State;
use crate::server::{ConnectFailure, Database, FailureClass};

/// How long the server may take to end a session that took leave.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// How long we stay with a session that comes or goes when nobody waits for it any more.
const LONGEST_STUCK: Duration = Duration::from_secs(600);

/// Whom not to ask again for a while: each refusal is a line in the server's log, and each time-out a session that we cannot
/// end. Another state of the server is another chance.
#[derive(Default)]
pub(in crate::agent::lane) struct Refusals {
    epoch: u64,
    known: HashMap<(Option<usize>, u32), Refusal>,
}

/// What a database answered to a definition, or to us at its door.
#[derive(Clone)]
pub(super) struct Refusal {
    until: Instant,
    pub(super) class: &'static str,
    pub(super) reason: String,
}

impl Refusals {
    /// Forgets those of another state of the server, and those that were long ago.
    pub(super) fn renew(&mut self, epoch: u64) {
        let is_same = self.epoch == epoch;
        self.known.retain(|_, refusal| is_same && refusal.until > Instant::now());
        self.epoch = epoch;
    }

    /// Notes that a database does not let us in, or does not let us ask the definition in this place.
    pub(super) fn note(&mut self, at: Option<usize>, oid: u32, class: FailureClass, reason: &str) {
        let until = Instant::now() + RETRY_UNPRIVILEGED;
        self.known.insert((at, oid), Refusal { until, class: class.as_str(), reason: reason.to_owned() });
    }

    /// What is known against asking.
    pub(super) fn find(&self, at: Option<usize>, oid: u32) -> Option<Refusal> {
        self.known.get(&(at, oid)).cloned()
    }
}

impl Lane {
    /// Looks once more whether the next database may be entered, right before that happens: who connects to one that is
    /// gone, or that is closed to us, leaves a line in the server's log, and to one that is locked waits. Also looks
    /// whether this is still the server that it was, and so is asked of this database when it is the last.
    pub(super) async fn confirm_next(&mut self, walk: &mut Walk, here: u32) {
        loop {
            let next = walk.left.as_ref().and_then(|left| left.front()).map(|next| next.oid);
            let Ok(found) = self.ask_databases(walk, Some(next.unwrap_or(here))).await else { return };
            if found.state != walk.server {
                walk.end = Some(End::Void);
            }
            let Some(left) = walk.left.as_mut().filter(|_| next.is_some()) else { return };
            left.pop_front();
            match found.databases.into_iter().next() {
                // Dropped meanwhile.
                None => {}
                Some(Database { barrier: Some(barrier), .. }) => walk.count(State::Barred(barrier)),
                Some(database) => {
                    left.push_front(database);
                    return;
                }
            }
        }
    }

    /// Opens a session in a database in place of the one we have.
    pub(super) async fn enter(&mut self, database: &Database) -> Result<(), ConnectFailure> {
        let late = |message: String| ConnectFailure { class: FailureClass::Timeout, message, sqlstate: None };
        if !self.opening.is_empty() {
            return Err(late("an attempt to connect is still under way".to_owned()));
        }
        if !self.leave_database().await {
            return Err(late(format!("the session before is still there after {CLOSE_LIMIT:?}")));
        }
        let (shared, name) = (Arc::clone(&self.shared), database.name.clone());
        let mut opening = tokio::spawn(async move { shared.server.open_in(&name, LONGEST_STUCK).await });
        let Ok(opened) = timeout(CONNECT_TIMEOUT, &mut opening).await else {
            // Its process is there already and waits for something.
            self.count_until(async {
                if let Ok(Ok(session)) = opening.await {
                    session.close(LONGEST_STUCK).await;
                }
            });
            let failure = late(format!("connect: no answer within {CONNECT_TIMEOUT:?}"));
            self.refusals.note(None, database.oid, failure.class, &failure.message);
            return Err(failure);
        };
        let ended = |_| ConnectFailure {
            class: FailureClass::Other,
            message: "the attempt to connect ended early".to_owned(),
            sqlstate: None,
        };
        self.hold(opened.map_err(ended)??);
        Ok(())
    }

    /// Closes the session we have; false when the server does not end it.
    pub(super) async fn leave_database(&mut self) -> bool {
        let Some(session) = self.session.take().filter(|session| !session.is_closed()) else { return true };
        let mut closing = tokio::spawn(session.close(LONGEST_STUCK));
        let is_gone = timeout(CLOSE_LIMIT, &mut closing).await.is_ok();
        if !is_gone {
            self.count_until(async { drop(closing.await) });
        }
        self.count_open();
        is_gone
    }

    /// A database could not be entered. What would be the same in all others ends the walk.
    pub(super) fn refused(&mut self, walk: &mut Walk, database: &Database, failure: ConnectFailure) {
        let ConnectFailure { class, message, .. } = failure;
        walk.miss(&database.name, class.as_str(), &message);
        match class {
            FailureClass::NoPgHbaEntry | FailureClass::UnknownDatabase | FailureClass::Permission => {
                self.refusals.note(None, database.oid, class, &message);
            }
            FailureClass::TooManyConnections if walk.crowded == 0 => walk.crowded += 1,
            FailureClass::Timeout | FailureClass::Other => {}
            _ => walk.end = Some(End::Broken { class: class.as_str(), reason: message }),
        }
    }
}
