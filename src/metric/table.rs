//! Filling families row by row.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;

use super::points::Points;
use super::{Buckets, Family, Kind, Merge, Metric, Rows};

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
    /// Rows by the hash of their text, which is not stored twice.
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
    points: Points,
    buckets: Option<Arc<Buckets>>,
}

impl Table {
    /// An empty table with these label names.
    pub fn new<S: AsRef<str>>(labels: &[S]) -> Self {
        let names = labels.iter().map(|name| name.as_ref().to_owned()).collect();
        Self { rows: Rows::new(names), ..Self::default() }
    }

    /// Adds a family: counters are summed where rows coincide, all else keeps the larger value.
    pub fn column(&mut self, kind: Kind, name: &str, help: &str) -> Column {
        let merge = if kind == Kind::Counter { Merge::Sum } else { Merge::Max };
        self.column_of(Arc::new(Metric { name: name.to_owned(), help: help.to_owned(), kind }), merge)
    }

    /// Adds a family of a metric that is described already.
    pub fn column_of(&mut self, metric: Arc<Metric>, merge: Merge) -> Column {
        self.add(Filling { metric, merge, points: Points::default(), buckets: None })
    }

    /// Adds a histogram: each value that is set counts as one more thing in the current row.
    pub fn histogram_of(&mut self, metric: Arc<Metric>, buckets: Arc<Buckets>) -> Column {
        self.add(Filling { metric, merge: Merge::Sum, points: Points::default(), buckets: Some(buckets) })
    }

    fn add(&mut self, filling: Filling) -> Column {
        self.columns.push(filling);
        Column(self.columns.len() - 1)
    }

    /// Goes to the row with these label values, in the order of the names; values that are missing are empty.
    pub fn row<S: AsRef<str>>(&mut self, values: &[S]) {
        self.row_of(values.iter().map(AsRef::as_ref));
    }

    /// The same of values that come one by one.
    pub fn row_of<'a>(&mut self, values: impl IntoIterator<Item = &'a str>) {
        let Self { known, rows, hasher, .. } = self;
        let new = u32::try_from(known.len()).unwrap_or(u32::MAX);
        rows.push(values);
        let text = rows.text(new);
        let hash = hasher.hash_one(text);
        if let Some(&row) = known.find(hash, |&row| rows.text(row) == text) {
            rows.truncate(new);
            self.current = row;
            return;
        }
        known.insert_unique(hash, new, |&row| hasher.hash_one(rows.text(row)));
        self.current = new;
    }

    /// Sets a value in the current row.
    pub fn set(&mut self, column: Column, value: f64) {
        let row = self.current;
        let Some(filling) = self.columns.get_mut(column.0) else { return };
        let Filling { points, merge, buckets, .. } = filling;
        match buckets {
            None => points.set(row, std::iter::once(value), *merge),
            Some(buckets) => points.set(row, buckets.observe(value), *merge),
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
        rows.shrink_to_fit();
        let rows = Arc::new(rows);
        self.columns
            .into_iter()
            .filter(|filling| filling.points.len() > 0)
            .map(|mut filling| {
                filling.points.shrink_to_fit();
                let Filling { metric, points, buckets, .. } = filling;
                Family { metric, rows: Arc::clone(&rows), points, buckets }
            })
            .collect()
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
