//! What a metric with `remember` was seen to have: a label set that is gone goes on with 0 until somebody says so.
//!
//! Of a standby that vanished nothing is left in `pg_stat_replication`, so that every graph ends and no alert fires. Its
//! absence shows only to who remembers it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::catalog::{Definition, MetricColumn};
use crate::collect::sql::REMAINDER;
use crate::metric::{Family, Table};

/// The most label sets remembered of a metric; what comes later is shown while it is there, as any other.
const MOST: usize = 1000;

/// The label sets seen of one collector on one server.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    in_recovery: bool,
    /// By the metric's name.
    labels: BTreeMap<String, BTreeSet<Vec<String>>>,
}

impl Memory {
    /// Remembers what is there, and adds what is gone with the value 0.
    ///
    /// An outage leaves the memory as it is. A change of role empties it: who followed this server follows another one.
    pub(super) fn complete(&self, definition: &Definition, in_recovery: bool, families: &mut Vec<Arc<Family>>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.in_recovery != in_recovery {
            *seen = Seen { in_recovery, ..Seen::default() };
        }
        for source in definition.metrics.iter().filter(|source| source.remember) {
            let at = families.iter().position(|family| family.metric().name == source.metric.name);
            let known = seen.labels.entry(source.metric.name.clone()).or_default();
            let completed = complete(source, known, at.and_then(|at| families.get(at)).map(Arc::as_ref));
            if let Some(at) = at {
                families.remove(at);
            }
            families.extend(completed.into_iter().map(Arc::new));
        }
    }

    /// Forgets everything: whatever is gone was meant to go.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).labels.clear();
    }
}

fn complete(source: &MetricColumn, known: &mut BTreeSet<Vec<String>>, now: Option<&Family>) -> Vec<Family> {
    let mut table = Table::new(&source.labels);
    let column = table.column_of(Arc::clone(&source.metric), source.merge);
    let mut present = BTreeSet::new();
    for sample in now.into_iter().flat_map(Family::samples) {
        let labels: Vec<String> = sample.labels().map(|(_, value)| value.to_owned()).collect();
        table.row(&labels);
        table.set(column, sample.value);
        // What was folded into the remainder may be shown alone the next time.
        if known.len() < MOST && labels.iter().any(|label| label != REMAINDER) {
            known.insert(labels.clone());
        }
        present.insert(labels);
    }
    for labels in known.difference(&present) {
        table.row(labels);
        table.set(column, 0.0);
    }
    table.into_families()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Kind;

    const DEFINITION: &str = r#"
help = "Standbys"
labels = ["name"]
[[query]]
since = 10
sql = "SELECT name, 1 AS one, age"
[[metric]]
name = "pg_here"
type = "gauge"
column = "one"
remember = true
help = "1 while it is there"
[[metric]]
name = "pg_age"
type = "gauge"
column = "age"
help = "Age"
"#;

    fn shown(memory: &Memory, in_recovery: bool, names: &[&str]) -> Vec<String> {
        let definition = Definition::parse("standbys", DEFINITION).unwrap();
        let mut table = Table::new(&["name"]);
        let here = table.column(Kind::Gauge, "pg_here", "");
        let age = table.column(Kind::Gauge, "pg_age", "");
        for name in names {
            table.row(&[name]);
            table.set(here, 1.0);
            table.set(age, 7.0);
        }
        let mut families = table.into_families().into_iter().map(Arc::new).collect();
        memory.complete(&definition, in_recovery, &mut families);
        let line = |family: &Arc<Family>| {
            let samples = family.samples().map(|it| format!("{}={}", it.label("name").unwrap(), it.value));
            format!("{} {}", family.metric().name, samples.collect::<Vec<_>>().join(" "))
        };
        families.iter().map(line).collect()
    }

    #[test]
    fn what_is_gone_goes_on_with_zero_until_it_is_forgotten() {
        let memory = Memory::default();
        assert_eq!(shown(&memory, false, &["a", "b"]), ["pg_age a=7 b=7", "pg_here a=1 b=1"]);
        assert_eq!(shown(&memory, false, &["b"]), ["pg_age b=7", "pg_here b=1 a=0"]);
        assert_eq!(shown(&memory, false, &[]), ["pg_here a=0 b=0"]);
        memory.forget();
        assert_eq!(shown(&memory, false, &["b"]), ["pg_age b=7", "pg_here b=1"]);
        assert_eq!(shown(&memory, true, &["c"]), ["pg_age c=7", "pg_here c=1"], "a change of role");
    }

    #[test]
    fn the_remainder_is_not_expected_and_the_memory_is_bounded() {
        let memory = Memory::default();
        shown(&memory, false, &["a", REMAINDER]);
        assert_eq!(shown(&memory, false, &[]), ["pg_here a=0"]);
        for first in (0..=MOST).step_by(100) {
            let names: Vec<String> = (first..first + 100).map(|at| at.to_string()).collect();
            shown(&memory, false, &names.iter().map(String::as_str).collect::<Vec<_>>());
        }
        assert_eq!(shown(&memory, false, &[])[0].split(' ').count(), 1 + MOST);
    }
}
