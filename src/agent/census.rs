//! Which databases exist: what was read of one minutes ago is not shown once it is gone.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use super::slot::Run;
use crate::catalog::DATNAME;
use crate::collect::sql::REMAINDER;
use crate::metric::Family;
use crate::server::RowSet;

/// Asked only when the probe's mark of them is another.
pub(super) const NAMES: &str = "SELECT datname FROM pg_catalog.pg_database";

/// What is known of the databases of a server.
#[derive(Debug, Default)]
pub(super) struct Census(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    mark: Option<String>,
    /// Since when these are all; none as long as nothing has changed.
    names: Option<(Instant, HashSet<Box<str>>)>,
}

impl Census {
    /// Whether the names have to be asked for; the first mark is only noted.
    pub(super) fn has_changed(&self, mark: &str) -> bool {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.mark.get_or_insert_with(|| mark.to_owned()) != mark
    }

    /// Notes which there are now.
    pub(super) fn note(&self, mark: &str, names: &RowSet) {
        let names = (0..names.len()).filter_map(|row| names.value(row, 0)).map(Box::from).collect();
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.mark = Some(mark.to_owned());
        known.names = Some((Instant::now(), names));
    }

    /// The run without what it has of databases that are gone.
    pub(super) fn without_gone(&self, run: Arc<Run>) -> Arc<Run> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some((_, names)) = known.names.as_ref().filter(|(since, _)| run.started < *since) else { return run };
        let exists = |name: &str| name.is_empty() || name == REMAINDER || names.contains(name);
        let is_gone = |family: &Arc<Family>| !family.values_of(DATNAME).all(exists);
        if !run.families.iter().any(is_gone) {
            return run;
        }
        let kept = |family: &Arc<Family>| Arc::new(family.retain(DATNAME, exists));
        Arc::new(Run { families: run.families.iter().map(kept).collect(), ..Run::clone(&run) })
    }
}
