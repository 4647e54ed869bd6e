//! Filling families row by row.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;

use super::{Buckets, Family, Kind, Merge, Metric, Point, Rows};

/// Families that share their label rows, while they are being filled.
///
/// Two rows with the same labels are one row, and a value set twice is merged by the column's rule: duplicate series
/// cannot be made.
///
/// ```
/// use pgvitals::metric::{Kind, Table};
///
/// let mut disks = Table::new(&["device"]);
/// let reads = disks.column(Kind::Counter, "node_disk_reads_completed_total", "Reads completed");
/// disks.row(&["sda"]);
/// disks.set(reads, 42.0);
/// let families = disks.into_families();
/// assert_eq!(families[0].samples().next().unwrap().label("device"), Some("sda"));
/// ```
#[derive(Debug, Default)]
pub struct Table {
    rows: Rows,
    /// Rows by the hash of their values, which are not stored twice.
    known: HashTable<u32>,
    hasher: RandomState,
    current: u32,
    columns: Vec<Filling>,
}

/// One family of a [`Table`].
#[derive(Clone, Copy, Debug)]
pub struct Column(usize);

#[derive(Debug)]
struct Filling {
    metric: Arc<Metric>,
    merge: Merge,
    points: Vec<Point>,
    buckets: Option<Arc<Buckets>>,
}

impl Table {
    /// An empty table with these label names.
    pub fn new<S: AsRef<str>>(labels: &[S]) -> Self {
        let names = labels.iter().map(|name| name.as_ref().to_owned()).collect();
        Self { rows: Rows { names, ..Rows::default() }, ..Self::default() }
    }

    /// Adds a family: counters are summed where rows coincide, all else keeps the larger value.
    pub fn column(&mut self, kind: Kind, name: &str, help: &str) -> Column {
        let merge = if kind == Kind::Counter { Merge::Sum } else { Merge::Max };
        self.column_of(Arc::new(Metric { name: name.to_owned(), help: help.to_owned(), kind }), merge)
    }

    /// Adds a family of a metric that is described already.
    pub fn column_of(&mut self, metric: Arc<Metric>, merge: Merge) -> Column {
        self.add(Filling { metric, merge, points: Vec::new(), buckets: None })
    }

    /// Adds a histogram: each value that is set counts as one more thing in the current row.
    pub fn histogram_of(&mut self, metric: Arc<Metric>, buckets: Arc<Buckets>) -> Column {
        self.add(Filling { metric, merge: Merge::Sum, points: Vec::new(), buckets: Some(buckets) })
    }

    fn add(&mut self, filling: Filling) -> Column {
        self.columns.push(filling);
        Column(self.columns.len() - 1)
    }

    /// Goes to the row with these label values, in the order of the names; values that are missing are empty.
    pub fn row<S: AsRef<str>>(&mut self, values: &[S]) {
        let mut values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
        values.resize(self.rows.names.len(), "");
        let hash = self.hasher.hash_one(values.as_slice());
        if let Some(&row) = self.known.find(hash, |&row| self.rows.values(row).eq(values.iter().copied())) {
            self.current = row;
            return;
        }
        self.current = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        self.rows.push(&values);
        let Self { known, rows, hasher, current, .. } = self;
        known.insert_unique(hash, *current, |&row| hasher.hash_one(rows.values(row).collect::<Vec<_>>().as_slice()));
    }

    /// Sets a value in the current row.
    pub fn set(&mut self, column: Column, value: f64) {
        let row = self.current;
        let Some(filling) = self.columns.get_mut(column.0) else { return };
        let Some(buckets) = filling.buckets.clone() else { return filling.put(row, 0, value) };
        for (place, value) in (0..).zip(buckets.observe(value)) {
            filling.put(row, place, value);
        }
    }

    /// Sets a value in the current row if there is one: what is not known stays absent.
    pub fn set_known(&mut self, column: Column, value: Option<f64>) {
        if let Some(value) = value {
            self.set(column, value);
        }
    }

    /// The families that got a sample.
    pub fn into_families(self) -> Vec<Family> {
        let mut rows = self.rows;
        rows.text.shrink_to_fit();
        rows.ends.shrink_to_fit();
        let rows = Arc::new(rows);
        self.columns
            .into_iter()
            .filter(|filling| !filling.points.is_empty())
            .map(|mut filling| {
                filling.points.shrink_to_fit();
                let Filling { metric, points, buckets, .. } = filling;
                Family { metric, rows: Arc::clone(&rows), points, buckets }
            })
            .collect()
    }
}

impl Filling {
    fn put(&mut self, row: u32, place: u32, value: f64) {
        // Rows come in order but for duplicates, so the row sought is nearly always the last one.
        match self.points.binary_search_by_key(&(row, place), |point| (point.row, point.place)) {
            Ok(at) => {
                if let Some(point) = self.points.get_mut(at) {
                    point.value = self.merge.apply(point.value, value);
                }
            }
            Err(at) => self.points.insert(at, Point { row, place, value }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(family: &Family) -> Vec<(String, f64)> {
        family
            .samples()
            .map(|s| (s.labels().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(","), s.value))
            .collect()
    }

    #[test]
    fn rows_with_equal_labels_become_one_by_the_rule_of_the_column() {
        let mut table = Table::new(&["a", "b"]);
        let count = table.column(Kind::Counter, "c_total", "");
        let age = table.column(Kind::Gauge, "age_seconds", "");
        for (labels, value) in [(["x", ""], 1.0), (["", "x"], 5.0), (["x", ""], 2.0)] {
            table.row(&labels);
            table.set(count, value);
            table.set(age, value);
        }
        let families = table.into_families();
        assert_eq!(values(&families[0]), [("a=x,b=".to_owned(), 3.0), ("a=,b=x".to_owned(), 5.0)]);
        assert_eq!(values(&families[1]), [("a=x,b=".to_owned(), 2.0), ("a=,b=x".to_owned(), 5.0)]);
    }

    #[test]
    fn a_histogram_counts_what_is_up_to_each_bound() {
        let mut table = Table::new(&["state"]);
        let metric = Metric { name: "age_seconds".to_owned(), help: String::new(), kind: Kind::Histogram };
        let ages = table.histogram_of(Arc::new(metric), Arc::new(Buckets::new(vec![0.5, 1.0, 5.0])));
        for (state, age) in [("idle", 0.5), ("active", 7.0), ("idle", 2.0), ("idle", f64::INFINITY)] {
            table.row(&[state]);
            table.set(ages, age);
        }
        let families = table.into_families();
        let shown = families[0].samples().map(|sample| {
            let labels: Vec<_> = sample.labels().map(|(_, value)| value).collect();
            format!("{}{} {}", sample.suffix(), labels.join(","), sample.value)
        });
        let shown: Vec<_> = shown.collect();
        assert_eq!(
            shown[..6],
            [
                "_bucketidle,0.5 1",
                "_bucketidle,1 1",
                "_bucketidle,5 2",
                "_bucketidle,+Inf 3",
                "_sumidle inf",
                "_countidle 3"
            ]
        );
        assert_eq!(shown[9..], ["_bucketactive,+Inf 1", "_sumactive 7", "_countactive 1"]);
    }

    #[test]
    fn a_family_without_a_sample_is_not_made() {
        let mut table = Table::new::<&str>(&[]);
        let column = table.column(Kind::Gauge, "known", "");
        table.column(Kind::Gauge, "unknown", "");
        table.row::<&str>(&[]);
        table.set(column, 1.0);
        assert_eq!(table.into_families().len(), 1);
    }
}
