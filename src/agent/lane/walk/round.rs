//! One walk from its beginning to its end: which definitions are on it, what they were told, what is left.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::agent::facts::Facts;
use crate::agent::lane::{FAST_LIMIT, little_less_than};
use crate::agent::slot::{Gap, Outcome, Run, Skip, Slot, Walked};
use crate::agent::state::Shared;
use crate::agent::walk::State;
use crate::catalog::Definition;
use crate::collect::CollectError;
use crate::collect::gathered::Gathered;
use crate::server::{Database, RowSet, ServerState, matches};

/// A walk under way.
pub(in crate::agent::lane) struct Walk {
    pub(super) epoch: u64,
    pub(super) facts: Arc<Facts>,
    /// What tells the server that the walk began on from any other.
    pub(super) server: Option<ServerState>,
    pub(super) asked: Vec<Asked>,
    /// The databases to come; none before they are known.
    pub(super) left: Option<VecDeque<Database>>,
    pub(super) states: BTreeMap<State, usize>,
    pub(super) begun: Instant,
    /// When its last step ended.
    pub(super) paused: Instant,
    pub(super) spent: Duration,
    /// How many databases in a row refused us because there were too many connections.
    pub(super) crowded: u32,
    pub(super) end: Option<End>,
}

/// Why a walk ends before its last database.
pub(super) enum End {
    /// The server is not what it was when the walk began.
    Void,
    /// What is left cannot be asked either.
    Broken { class: &'static str, reason: String },
}

/// A definition on its walk.
pub(super) struct Asked {
    pub(super) at: usize,
    definition: Arc<Definition>,
    gathered: Gathered,
    answered: usize,
    pub(super) skipped: Option<Outcome>,
    gaps: Vec<Gap>,
    pub(super) spent: Duration,
    pub(super) late: u32,
}

impl Walk {
    /// A walk that has not entered any database.
    pub(super) fn new(epoch: u64, facts: Arc<Facts>) -> Self {
        let now = Instant::now();
        Self {
            epoch,
            facts,
            server: None,
            asked: Vec::new(),
            left: None,
            states: BTreeMap::new(),
            begun: now,
            paused: now,
            spent: Duration::ZERO,
            crowded: 0,
            end: None,
        }
    }

    /// For what is asked between the definitions: the same as theirs, because setting another one is a round trip.
    pub(super) fn statement_timeout(&self, shared: &Shared) -> Duration {
        let definition = self.asked.last().and_then(|asked| shared.definitions.get(asked.at));
        little_less_than(definition.map_or(FAST_LIMIT, |definition| definition.timeout))
    }

    pub(super) fn count(&mut self, state: State) {
        *self.states.entry(state).or_default() += 1;
    }

    /// Notes a database of which none of the definitions gives anything.
    pub(super) fn miss(&mut self, datname: &str, class: &'static str, reason: &str) {
        self.count(State::Failed);
        for asked in &mut self.asked {
            asked.miss(datname, class, reason);
        }
    }
}

impl Asked {
    pub(super) fn new(at: usize, definition: &Arc<Definition>) -> Self {
        Self {
            at,
            definition: Arc::clone(definition),
            gathered: Gathered::new(Arc::clone(definition)),
            answered: 0,
            skipped: None,
            gaps: Vec::new(),
            spent: Duration::ZERO,
            late: 0,
        }
    }

    /// Whether it has a question to a database of this name.
    pub(super) fn wants(&self, datname: &str) -> bool {
        self.definition.databases.as_ref().is_none_or(|patterns| patterns.iter().any(|it| matches(it, datname)))
    }

    /// Takes what a database answered.
    pub(super) fn add(&mut self, datname: &str, rows: &RowSet) -> Result<(), CollectError> {
        self.gathered.add(datname, rows)?;
        self.answered += 1;
        Ok(())
    }

    /// Notes a database of which it gives nothing although it should.
    pub(super) fn miss(&mut self, datname: &str, class: &'static str, reason: &str) {
        if self.wants(datname) {
            self.gaps.push(Gap { datname: datname.to_owned(), class, reason: reason.to_owned() });
        }
    }

    /// What it came to.
    pub(super) fn into_run(self, slot: &Slot, epoch: u64, started: Instant, end: Option<&End>) -> Run {
        let outcome = match (end, self.gaps.first()) {
            (Some(End::Void), _) => {
                let reason = "the server changed its state during the walk over its databases".to_owned();
                Outcome::Skipped { why: Skip::Nothing, reason }
            }
            _ if self.answered > 0 => Outcome::Ok,
            (Some(End::Broken { class, reason }), None) => Outcome::Failed { class, reason: reason.clone() },
            (_, Some(gap)) => Outcome::Failed { class: gap.class, reason: format!("{}: {}", gap.datname, gap.reason) },
            (None, None) => self.skipped.unwrap_or_else(|| {
                let reason = "no database that is wanted may be entered, see pgvitals_databases".to_owned();
                Outcome::Skipped { why: Skip::Nothing, reason }
            }),
        };
        let walked = Some(Walked { spent: self.spent, gaps: self.gaps.into() });
        let run = Run { walked, ..Run::without_families(started, epoch, outcome) };
        if run.outcome != Outcome::Ok {
            return run;
        }
        match slot.choose(epoch, |shown| self.gathered.into_collected(shown)) {
            Ok(collected) => Run {
                families: collected.families.into_iter().map(Arc::new).collect(),
                rows: collected.rows,
                folded: collected.folded,
                remainder: collected.remainder,
                ..run
            },
            Err(error) => Run { outcome: Outcome::Failed { class: error.class(), reason: error.to_string() }, ..run },
        }
    }
}
