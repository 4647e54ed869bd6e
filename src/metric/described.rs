//! Metrics that Rust code gives, described before there is a value: what is shown and what is documented is the same.

use std::sync::Arc;

use super::{Column, Family, Kind, Merge, Metric, Table};

/// Name, type, labels and meaning of a metric. A `{}` in name and meaning stands for a word that only its source knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// Full name as exported.
    pub name: &'static str,
    /// How its values behave.
    pub kind: Kind,
    /// Its own labels, in their order.
    pub labels: &'static [&'static str],
    /// One line of meaning, no final stop.
    pub help: &'static str,
}

impl Described {
    /// One that only ever grows.
    pub const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, labels, help }
    }

    /// One that goes up and down.
    pub const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, labels, help }
    }

    /// One that a peer exports without a type.
    pub const fn unknown(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Unknown, labels, help }
    }

    /// Whether a family of this name is this metric.
    pub fn makes(&self, family: &str) -> bool {
        match self.name.split_once("{}") {
            None => self.name == family,
            Some((start, end)) => {
                family.len() > start.len() + end.len() && family.starts_with(start) && family.ends_with(end)
            }
        }
    }

    /// A family of one sample without labels.
    pub fn family(&self, value: f64) -> Family {
        Family::single(self.kind, self.name, self.help, value)
    }

    /// The same of one of many names: `word` stands for the `{}` of the name, `source` for that of the meaning.
    pub fn family_of(&self, word: &str, source: &str, value: f64) -> Family {
        Family::single(self.kind, &self.name.replace("{}", word), &self.help.replace("{}", source), value)
    }
}

impl Table {
    /// An empty table with the labels of this metric, which becomes its first column.
    pub fn of(described: &Described) -> (Self, Column) {
        let mut table = Self::new(described.labels);
        let column = table.describe(described);
        (table, column)
    }

    /// Adds a family; its labels are those of the table.
    pub fn describe(&mut self, described: &Described) -> Column {
        let Described { name, kind, help, .. } = *described;
        let merge = if kind == Kind::Counter { Merge::Sum } else { Merge::Max };
        self.column_of(Arc::new(Metric { name: name.to_owned(), help: help.to_owned(), kind }), merge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_gap_makes_every_family_that_fills_it() {
        const FIELD: Described = Described::gauge("node_memory_{}_bytes", &[], "Field {} of /proc/meminfo");
        assert!(FIELD.makes("node_memory_Cached_bytes"));
        assert!(!FIELD.makes("node_memory_bytes") && !FIELD.makes("node_memory_HugePages_Free"));
        let family = FIELD.family_of("Active_file", "Active(file)", 1.0);
        assert_eq!(family.metric().name, "node_memory_Active_file_bytes");
        assert_eq!(family.metric().help, "Field Active(file) of /proc/meminfo");
    }
}
