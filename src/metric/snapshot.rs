//! All families at one moment.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Family, Kind, Metric, SUFFIXES, Sample};

/// All families at one moment, in the order of their names.
///
/// A family that several servers have is one [`Group`], so that a name has one HELP and one TYPE.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was put together.
    pub taken: SystemTime,
    groups: BTreeMap<ByName, Vec<Part>>,
    runs: BTreeMap<Arc<str>, String>,
}

/// The share of one server (or of the host) in a group.
#[derive(Clone, Debug)]
pub struct Part {
    /// The server's name; none for facts of the host and of the agent.
    pub server: Option<Arc<str>>,
    /// Its samples.
    pub family: Arc<Family>,
}

/// A metric that is found by its name.
#[derive(Clone, Debug)]
struct ByName(Arc<Metric>);

/// All samples of one name.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    parts: &'a [Part],
    metric: &'a Metric,
}

impl Snapshot {
    /// An empty snapshot of this moment.
    pub fn new(taken: SystemTime) -> Self {
        Self { taken, groups: BTreeMap::new(), runs: BTreeMap::new() }
    }

    /// Adds what one server (or the host) has of a family. What it has of that name already stays, and is all it has:
    /// two collectors that make the same name, such as one made of a setting's name, cannot make duplicate series.
    pub fn add(&mut self, server: Option<&Arc<str>>, family: &Arc<Family>) {
        if family.is_empty() || self.is_taken(&family.metric) {
            return;
        }
        let parts = self.groups.entry(ByName(family.shared_metric())).or_default();
        if !parts.iter().any(|part| part.server.as_ref() == server) {
            parts.push(Part { server: server.cloned(), family: Arc::clone(family) });
        }
    }

    /// Notes which run of a server the facts are of, such as the time of its start: counters of two runs have nothing to do
    /// with each other.
    pub fn note_run(&mut self, server: &Arc<str>, run: &str) {
        self.runs.insert(Arc::clone(server), run.to_owned());
    }

    /// Which run of each server the facts are of, as far as known.
    pub fn runs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.runs.iter().map(|(server, run)| (&**server, run.as_str()))
    }

    /// The groups, ordered by name.
    pub fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        self.groups.values().filter_map(|parts| Group::of(parts))
    }

    /// The samples of one name.
    pub fn find(&self, name: &str) -> Option<Group<'_>> {
        self.groups.get(name).and_then(|parts| Group::of(parts))
    }

    /// The samples of this very name, those of a histogram's buckets, sums and counts too.
    pub fn samples_of(&self, name: &str) -> impl Iterator<Item = Sample<'_>> {
        let stem = SUFFIXES.iter().find_map(|suffix| Some((name.strip_suffix(suffix)?, *suffix)));
        let (group, suffix) = match (self.find(name), stem) {
            (None, Some((stem, suffix))) => (self.find(stem), suffix),
            (found, _) => (found, ""),
        };
        group.into_iter().flat_map(|group| group.samples()).filter(move |sample| sample.suffix() == suffix)
    }

    /// Whether a sample of this metric would have the name of one that is of another metric.
    fn is_taken(&self, metric: &Metric) -> bool {
        let is_histogram = |name: &str| self.find(name).is_some_and(|group| group.metric.kind == Kind::Histogram);
        let mut stems = SUFFIXES.iter().filter_map(|suffix| metric.name.strip_suffix(suffix));
        let mut own = SUFFIXES.iter().map(|suffix| format!("{}{suffix}", metric.name));
        stems.any(is_histogram)
            || (metric.kind == Kind::Histogram && own.any(|name| self.groups.contains_key(name.as_str())))
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.groups.values().flatten().map(|part| part.family.len()).sum()
    }

    /// Whether it has no sample.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        &self.0.name
    }
}

impl Ord for ByName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.name.cmp(&other.0.name)
    }
}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ByName {}

impl Part {
    /// Its samples, with their server label.
    pub fn samples(&self) -> impl Iterator<Item = Sample<'_>> {
        self.family.samples_of(self.server.as_deref())
    }
}

impl<'a> Group<'a> {
    fn of(parts: &'a [Part]) -> Option<Self> {
        parts.first().map(|part| Self { parts, metric: part.family.metric() })
    }

    /// Name, meaning and type.
    pub fn metric(&self) -> &'a Metric {
        self.metric
    }

    /// What each server has of it.
    pub fn parts(&self) -> &'a [Part] {
        self.parts
    }

    /// All samples, with their server label.
    pub fn samples(&self) -> impl Iterator<Item = Sample<'a>> + use<'a> {
        self.parts.iter().flat_map(Part::samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{Buckets, Table};

    #[test]
    fn a_family_of_two_servers_is_one_group() {
        let mut snapshot = Snapshot::new(SystemTime::now());
        for server in ["15/main", "17/main"] {
            snapshot.add(Some(&Arc::from(server)), &Arc::new(Family::single(Kind::Gauge, "pg_up", "", 1.0)));
        }
        let groups: Vec<_> = snapshot.groups().collect();
        assert_eq!(groups.len(), 1);
        let servers: Vec<_> = groups[0].samples().filter_map(|sample| sample.label("server")).collect();
        assert_eq!(servers, ["15/main", "17/main"]);
    }

    #[test]
    fn a_second_family_of_the_same_name_and_server_is_left_out() {
        let mut snapshot = Snapshot::new(SystemTime::now());
        for value in [1.0, 2.0] {
            snapshot.add(None, &Arc::new(Family::single(Kind::Gauge, "same", "", value)));
        }
        let values: Vec<_> = snapshot.find("same").unwrap().samples().map(|sample| sample.value).collect();
        assert_eq!(values, [1.0]);
    }

    #[test]
    fn the_samples_of_a_histogram_are_found_by_their_names_and_are_of_no_other_metric() {
        let mut table = Table::new(&["state"]);
        let metric = Metric { name: "age".to_owned(), help: String::new(), kind: Kind::Histogram };
        let ages = table.histogram_of(Arc::new(metric), Arc::new(Buckets::new(vec![1.0, 5.0])));
        table.row(&["idle"]);
        table.set(ages, 3.0);
        let mut snapshot = Snapshot::new(SystemTime::now());
        for family in table.into_families() {
            snapshot.add(None, &Arc::new(family));
        }
        for (name, value) in [("age_count", 9.0), ("other_count", 7.0)] {
            snapshot.add(None, &Arc::new(Family::single(Kind::Gauge, name, "", value)));
        }
        let values = |name| snapshot.samples_of(name).map(|sample| sample.value).collect::<Vec<_>>();
        assert_eq!(values("age_bucket"), [0.0, 1.0, 1.0]);
        assert_eq!((values("age_sum"), values("age_count"), values("other_count")), (vec![3.0], vec![1.0], vec![7.0]));
        assert_eq!((values("age"), values("age_max")), (vec![], vec![]));
    }

    #[test]
    fn samples_are_stored_in_a_few_bytes_each() {
        let mut table = Table::new(&["datname", "schemaname", "relname"]);
        let columns: Vec<_> = (0..20).map(|n| table.column(Kind::Counter, &format!("pg_{n}"), "")).collect();
        for n in 0..5_000 {
            table.row(&["a_database", "a_schema", &format!("a_table_of_some_length_{n}")]);
            for &column in &columns {
                table.set(column, f64::from(n));
            }
        }
        let families = table.into_families();
        let samples: usize = families.iter().map(Family::len).sum();
        assert_eq!(samples, 100_000);
        let bytes = families[0].rows.capacity() + families.iter().map(|family| family.points.capacity()).sum::<usize>();
        assert!(bytes < 1_400_000, "{bytes} bytes");
    }
}
