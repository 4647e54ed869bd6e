//! What the samples of a definition add up to. The counters are the agent's: they go on when the server restarts or
//! changes its role, and when a reload watches it anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::collect::sql::REMAINDER;
use crate::metric::{Family, Merge, Metric, Table};

/// The most label sets of a metric, those that come first. What comes later is added to one row of its own, as none may
/// make room: a counter that vanishes and comes back has lost its past.
const MOST: usize = 500;

/// Why a sample was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Missed {
    /// The lane was at something else for too long.
    Busy,
    /// The server is down, or nobody has a session on it now.
    Down,
    /// The query failed.
    Failed,
    /// The agent itself was late.
    Late,
    /// The last one failed or cost too much: the server is left alone for a while.
    Resting,
    /// The definition does not apply here.
    Skipped,
}

impl Missed {
    /// All of them, each with the word for its label.
    pub(super) const ALL: [(Self, &'static str); 6] = [
        (Self::Busy, "busy"),
        (Self::Down, "down"),
        (Self::Failed, "failed"),
        (Self::Late, "late"),
        (Self::Resting, "resting"),
        (Self::Skipped, "skipped"),
    ];
}

/// The sums of one definition on one server.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Sums>);

#[derive(Debug, Default)]
struct Sums {
    taken: u64,
    missed: BTreeMap<Missed, u64>,
    /// By the metric's name.
    metrics: BTreeMap<String, Rows>,
}

#[derive(Debug)]
struct Rows {
    metric: Arc<Metric>,
    labels: Vec<String>,
    /// By the label values, each ended by a NUL, which no text of PostgreSQL has.
    sums: BTreeMap<Box<str>, f64>,
}

impl Tally {
    /// Adds a sample.
    pub(super) fn add(&self, families: &[Arc<Family>]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.taken += 1;
        for family in families {
            for sample in family.samples() {
                let rows = all.metrics.entry(family.metric().name.clone()).or_insert_with(|| Rows {
                    metric: family.shared_metric(),
                    labels: sample.labels().map(|(name, _)| name.to_owned()).collect(),
                    sums: BTreeMap::new(),
                });
                rows.add(sample.labels().map(|(_, value)| value), sample.value);
            }
        }
    }

    /// Counts samples that were not taken.
    pub(super) fn miss(&self, why: Missed, count: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *all.missed.entry(why).or_default() += count;
    }

    /// How many were taken, and how many were not for this reason.
    pub(super) fn counts(&self) -> (u64, impl Fn(Missed) -> u64) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let missed = all.missed.clone();
        (all.taken, move |why| missed.get(&why).copied().unwrap_or_default())
    }

    /// What all samples come to.
    pub(super) fn families(&self) -> Vec<Arc<Family>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.metrics.values().flat_map(Rows::families).map(Arc::new).collect()
    }
}

impl Rows {
    fn add<'a>(&mut self, values: impl Iterator<Item = &'a str>, value: f64) {
        let key: String = values.flat_map(|value| [value, "\0"]).collect();
        if let Some(sum) = self.sums.get_mut(key.as_str()) {
            *sum += value;
            return;
        }
        let key = if self.sums.len() < MOST { key } else { format!("{REMAINDER}\0").repeat(self.labels.len()) };
        *self.sums.entry(key.into()).or_default() += value;
    }

    fn families(&self) -> Vec<Family> {
        let mut table = Table::new(&self.labels);
        let column = table.column_of(Arc::clone(&self.metric), Merge::Sum);
        for (key, sum) in &self.sums {
            table.row(&key.split_terminator('\0').collect::<Vec<_>>());
            table.set(column, *sum);
        }
        table.into_families()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Kind;

    fn sample(rows: &[([&str; 2], f64)]) -> Vec<Arc<Family>> {
        let mut table = Table::new(&["type", "event"]);
        let column = table.column(Kind::Counter, "waits_total", "Waits");
        for (labels, value) in rows {
            table.row(labels);
            table.set(column, *value);
        }
        table.into_families().into_iter().map(Arc::new).collect()
    }

    fn shown(tally: &Tally) -> Vec<String> {
        let families = tally.families();
        let line = |family: &Arc<Family>| {
            let samples = family.samples().map(|it| {
                let labels: Vec<_> = it.labels().map(|(_, value)| value.to_owned()).collect();
                format!("{}={}", labels.join("."), it.value)
            });
            samples.collect::<Vec<_>>()
        };
        families.iter().flat_map(line).collect()
    }

    #[test]
    fn samples_are_added_up_and_what_is_gone_keeps_its_sum() {
        let tally = Tally::default();
        tally.add(&sample(&[(["Lock", "relation"], 2.0), (["", ""], 1.0)]));
        tally.add(&sample(&[(["Lock", "relation"], 3.0)]));
        tally.add(&[]);
        tally.miss(Missed::Busy, 2);
        assert_eq!(shown(&tally), [".=1", "Lock.relation=5"]);
        let (taken, missed) = tally.counts();
        assert_eq!((taken, missed(Missed::Busy), missed(Missed::Late)), (3, 2, 0));
    }

    #[test]
    fn what_comes_after_the_bound_is_one_row_that_only_grows() {
        let tally = Tally::default();
        let names: Vec<String> = (0..MOST + 10).map(|at| at.to_string()).collect();
        for _ in 0..2 {
            let rows: Vec<_> = names.iter().map(|name| (["IO", name.as_str()], 1.0)).collect();
            tally.add(&sample(&rows));
        }
        let shown = shown(&tally);
        assert_eq!(shown.len(), MOST + 1);
        assert!(shown.contains(&"IO.0=2".to_owned()) && shown.contains(&"other.other=20".to_owned()), "{shown:?}");
    }
}
