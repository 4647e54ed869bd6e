//! What is known of one server: its state, its collectors' places, and which query applies.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::slot::{Outcome, Skip, Slot};
use super::turn::Turn;
use crate::catalog::{Catalog, Definition, Role, Version};
use crate::server::{ConnectOptions, FailureClass, Server};

/// What is known of a server for as long as one state of it lasts.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// Nobody asked yet.
    Unknown,
    /// It answered the last probe.
    Up(Arc<Facts>),
    /// It did not.
    Down { class: FailureClass, reason: String },
}

/// What decides which query of a definition runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// `server_version_num`, read anew on every connection.
    pub(super) version: u32,
    /// `pg_postmaster_start_time()` as the server writes it: behind an address there may be another server now.
    pub(super) started: String,
    /// `pg_is_in_recovery()`, read anew by every probe.
    pub(super) in_recovery: bool,
    /// Whether our role has the privileges of `pg_read_all_stats`, without which views hide what is not our own.
    pub(super) sees_all: bool,
    /// Version and quoted schema of each extension in the database we are connected to.
    pub(super) extensions: HashMap<String, (Version, String)>,
}

/// What the readers and the lanes of a server share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) server: Server,
    /// The definitions that ask something, in the order of their slots.
    pub(super) definitions: Vec<Arc<Definition>>,
    pub(super) slots: Vec<Slot>,
    pub(super) probe: Slot,
    /// Connections opened since the start, and open now by lane.
    pub(super) connects: AtomicU64,
    pub(super) open: [AtomicU64; 2],
    pub(super) turns: [Turn; 2],
    /// Connections that we gave up, and that the server is still busy with.
    pub(super) stuck: Arc<AtomicU64>,
    state: RwLock<(u64, Condition)>,
}

impl Shared {
    /// A server of which nothing is known yet.
    pub(super) fn new(name: Arc<str>, options: ConnectOptions, catalog: &Catalog) -> Self {
        let definitions: Vec<_> = catalog.asking().cloned().collect();
        Self {
            server: Server::new(&*name, options),
            name,
            slots: definitions.iter().map(|definition| Slot::weighed(definition.fresh_for)).collect(),
            definitions,
            probe: Slot::new(Duration::ZERO),
            connects: AtomicU64::new(0),
            open: Default::default(),
            turns: Default::default(),
            stuck: Arc::default(),
            state: RwLock::new((0, Condition::Unknown)),
        }
    }

    /// The number of the present state, and the state.
    pub(super) fn state(&self) -> (u64, Condition) {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what a probe found. Another start, version, role or availability begins a new epoch: older runs are void.
    pub(super) fn note(&self, now: Condition) -> u64 {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let same = match (&state.1, &now) {
            (Condition::Up(old), Condition::Up(new)) => old == new,
            (Condition::Down { .. }, Condition::Down { .. }) => true,
            _ => false,
        };
        if !same {
            state.0 += 1;
        }
        state.1 = now;
        state.0
    }

    /// Whether it is known to hang: nobody waits for such a server again.
    pub(super) fn hangs(&self) -> bool {
        matches!(self.state().1, Condition::Down { class: FailureClass::Timeout, .. })
    }

    /// What the fast or the slow lane is at.
    pub(super) fn turn(&self, slow: bool) -> &Turn {
        let [fast, other] = &self.turns;
        if slow { other } else { fast }
    }

    /// Sessions open now.
    pub(super) fn open_sessions(&self, lane: usize) -> u64 {
        self.open.get(lane).map_or(0, |open| open.load(Ordering::Relaxed))
    }
}

/// The statement to run, or why there is none.
pub(super) fn plan(definition: &Definition, facts: &Facts) -> Result<String, Outcome> {
    let skipped = |why, reason| Err(Outcome::Skipped { why, reason });
    match (definition.role, facts.in_recovery) {
        (Role::Primary, true) => return skipped(Skip::Nothing, "runs on a primary only".to_owned()),
        (Role::Standby, false) => return skipped(Skip::Nothing, "runs on a standby only".to_owned()),
        _ => {}
    }
    if definition.sees_all && !facts.sees_all {
        let reason = "hidden from our role, needs: GRANT pg_monitor or pg_read_all_stats".to_owned();
        return skipped(Skip::Privilege, reason);
    }
    let (version, schema) = match &definition.extension {
        None => (Version::of_server(facts.version), None),
        Some(name) => match facts.extensions.get(name) {
            None => {
                let reason = format!("extension {name} is not installed in the database we connect to");
                return skipped(Skip::Extension, reason);
            }
            Some((version, schema)) => (*version, Some(schema)),
        },
    };
    let Some(query) = definition.query_for(version) else {
        let of = definition.extension.as_deref().unwrap_or("PostgreSQL");
        let first = definition.queries.first().map(|query| query.since.to_string()).unwrap_or_default();
        return skipped(Skip::Nothing, format!("needs {of} {first}, this is {version}"));
    };
    Ok(schema.map_or_else(|| query.sql.clone(), |schema| query.sql.replace("{schema}", schema)))
}
