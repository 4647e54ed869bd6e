//! Rows by name: what a check needs that no metric may carry. Nobody is asked before somebody wants them.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::cost::RoundTrip;
use super::slot::{Outcome, Slot};
use super::watched::Watched;
use super::{Agent, LONGEST_DEADLINE};
use crate::catalog::{Catalog, Definition};
use crate::server::{FailureClass, RowSet};

/// The same rows are given to all who want them within this time, even where a definition's metrics may be older.
const LONGEST_SHARED: Duration = Duration::from_secs(60);
/// A row set of more bytes is of no use to a check, and the agent shall not be the reason why memory runs out.
pub(super) const LARGEST: usize = 16 << 20;

/// Why the rows of a listing cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// No server of this name is watched.
    #[error("no server {0:?} is watched")]
    NoSuchServer(String),
    /// Neither a listing nor a definition is called so.
    #[error("no listing is called {0}")]
    NoSuchListing(String),
    /// The server does not answer now; nothing older is given in place of its answer.
    #[error("{}: {reason}", class.as_str())]
    Down {
        /// What kind of failure.
        class: FailureClass,
        /// What happened.
        reason: String,
    },
    /// The time was over before the answer came.
    #[error("not answered within {0:?}")]
    Late(Duration),
    /// It does not apply to this server, or our role may not.
    #[error("{0}")]
    Skipped(String),
    /// The server was asked and gave no answer that can be used.
    #[error("{reason}")]
    Failed {
        /// What kind of failure, one word of a small set.
        class: &'static str,
        /// What happened.
        reason: String,
    },
}

impl ListError {
    /// What the outcome of a run without rows amounts to.
    pub(super) fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok => Self::Failed { class: "rows", reason: "the rows are gone already".to_owned() },
            Outcome::Skipped { reason, .. } => Self::Skipped(reason),
            Outcome::Failed { class, reason } => Self::Failed { class, reason },
        }
    }
}

/// A row set that may be asked for, and its place once it was.
#[derive(Debug)]
pub(super) struct Listed {
    definition: Arc<Definition>,
    slot: OnceLock<Slot>,
}

impl Listed {
    /// Every row set of a catalog. What only exists together with another's answer, as texts do, is none.
    pub(super) fn all(catalog: &Catalog) -> Vec<Self> {
        let asked = catalog.definitions().iter().filter(|it| !it.queries.is_empty() && it.texts.is_none());
        let all = catalog.listings().iter().chain(asked);
        all.map(|definition| Self { definition: Arc::clone(definition), slot: OnceLock::new() }).collect()
    }

    /// What asks for it.
    pub(super) fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    /// Its place. Rows that cost the server much are given to more readers.
    pub(super) fn slot(&self, round_trip: &Arc<RoundTrip>) -> &Slot {
        let shared = || {
            let fresh_for = self.definition.fresh_for.min(LONGEST_SHARED);
            Slot::weighed(fresh_for, Arc::clone(round_trip), LONGEST_SHARED)
        };
        self.slot.get_or_init(shared)
    }
}

impl Agent {
    /// Whether a server answers now: its `server_version_num`, and whether it is in recovery.
    ///
    /// # Errors
    ///
    /// There is no such server, or it does not answer by the deadline.
    pub async fn look(&self, server: &str, deadline: Duration) -> Result<(u32, bool), ListError> {
        let asked = Instant::now();
        let facts = self.named(server)?.facts(asked, deadline.min(LONGEST_DEADLINE)).await?;
        Ok((facts.version, facts.in_recovery))
    }

    fn named(&self, server: &str) -> Result<Arc<Watched>, ListError> {
        let watched = self.watched().into_iter().find(|watched| *watched.shared.name == *server);
        watched.ok_or_else(|| ListError::NoSuchServer(server.to_owned()))
    }

    /// The rows of a listing, or of what a definition asks, on one server: asked now, or shared with those who asked within
    /// its `fresh_for`, which is a second unless the file says otherwise and never more than a minute. They come over the
    /// connections that are there; what is asked in a database is asked in the one that the server's DSN names, and in no
    /// other.
    ///
    /// # Errors
    ///
    /// There is no such server or listing; the server does not answer by the deadline, refuses, or has too much to say.
    pub async fn list(&self, server: &str, name: &str, deadline: Duration) -> Result<Arc<RowSet>, ListError> {
        let asked = Instant::now();
        self.named(server)?.list(name, asked, deadline.min(LONGEST_DEADLINE)).await
    }
}
