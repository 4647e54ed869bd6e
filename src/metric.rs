//! Families, samples and the snapshot: the form in which every fact travels.
//!
//! Families that come from one query share their label rows, and a snapshot shares the families of the runs it was made
//! from, so that 100,000 samples stay in a few megabytes. Nothing here knows where a value comes from or where it goes.

mod buckets;
mod described;
mod points;
mod rows;
mod snapshot;
mod table;

use std::sync::Arc;

pub use buckets::{Buckets, COUNT, Member, SUFFIXES};
pub use described::Described;
use points::Points;
pub use rows::{Rows, push_escaped};
pub use snapshot::{Group, Part, Snapshot};
pub use table::{Column, Table};

/// How a value behaves over time; the Prometheus type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows, but for a reset.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How many of the things that are there now have a value up to each of several bounds. All of it may fall.
    Histogram,
    /// A peer exports it without a type, and so do we.
    Unknown,
}

impl Kind {
    /// As Prometheus calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Unknown => "unknown",
        }
    }
}

/// What two values become when they would carry the same name and labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// They are added: counts, sizes, all counters.
    Sum,
    /// The larger one stays: ages, lags, most gauges.
    Max,
    /// The smaller one stays: what is left of something.
    Min,
}

impl Merge {
    /// Both values as one.
    pub fn apply(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Sum => left + right,
            Self::Max => left.max(right),
            Self::Min => left.min(right),
        }
    }
}

/// A metric's name, meaning and type, without any value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Full name as exported, such as `pg_stat_database_xact_commit`.
    pub name: String,
    /// One line of meaning, no final stop.
    pub help: String,
    /// How its values behave.
    pub kind: Kind,
}

/// One metric with its samples.
#[derive(Debug)]
pub struct Family {
    metric: Arc<Metric>,
    rows: Arc<Rows>,
    points: Points,
    /// Of a histogram.
    buckets: Option<Arc<Buckets>>,
}

impl Family {
    /// A family of one sample without labels.
    pub fn single(kind: Kind, name: &str, help: &str, value: f64) -> Self {
        let metric = Metric { name: name.to_owned(), help: help.to_owned(), kind };
        Self { metric: Arc::new(metric), rows: Arc::default(), points: Points::single(value), buckets: None }
    }

    /// Name, meaning and type.
    pub fn metric(&self) -> &Metric {
        &self.metric
    }

    /// The same, to make another family of it.
    pub fn shared_metric(&self) -> Arc<Metric> {
        Arc::clone(&self.metric)
    }

    /// How many samples it holds.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether it holds no sample; such a family is not shown at all.
    pub fn is_empty(&self) -> bool {
        self.points.len() == 0
    }

    /// About how many bytes [`Sample::label_text`] of all its samples has, and what stands beside it in a histogram.
    pub fn label_bytes(&self) -> usize {
        let beside = if self.buckets.is_some() { "_bucket,le=\"+Inf\"".len() } else { 0 };
        self.len() * (self.rows.mean_bytes() + beside)
    }

    /// The samples, without a server label.
    pub fn samples(&self) -> impl Iterator<Item = Sample<'_>> {
        self.samples_of(None)
    }

    /// The values of one label, row by row; none if it has no such label.
    pub fn values_of(&self, label: &str) -> impl Iterator<Item = &str> {
        let at = self.rows.names().iter().position(|name| name == label);
        self.points.rows().filter_map(move |row| self.rows.values(row).nth(at?))
    }

    /// The same metric with only the rows whose value of this label is kept.
    #[must_use]
    pub fn retain(&self, label: &str, keep: impl Fn(&str) -> bool) -> Self {
        let kept: Vec<bool> = self.values_of(label).map(keep).collect();
        Self {
            metric: Arc::clone(&self.metric),
            rows: Arc::clone(&self.rows),
            points: self.points.retain(|at| kept.get(at).is_none_or(|kept| *kept)),
            buckets: self.buckets.clone(),
        }
    }

    fn samples_of<'a>(&'a self, server: Option<&'a str>) -> impl Iterator<Item = Sample<'a>> {
        self.points.iter().map(move |(row, place, value)| self.sample(server, row, place, value))
    }

    fn sample<'a>(&'a self, server: Option<&'a str>, row: u32, place: u32, value: f64) -> Sample<'a> {
        let member = self.buckets.as_ref().map_or(Member::Whole, |buckets| buckets.member(place));
        Sample { server, rows: &self.rows, row, member, value }
    }
}

/// One value with its labels.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    server: Option<&'a str>,
    rows: &'a Rows,
    row: u32,
    /// What it is of its family.
    pub member: Member<'a>,
    /// The value, in the base unit that the metric's name says.
    pub value: f64,
}

impl<'a> Sample<'a> {
    /// What follows the family's name in that of the sample; nothing but in a histogram.
    pub fn suffix(&self) -> &'static str {
        self.member.suffix()
    }

    /// Label names and values: `server` first, then the family's own in their declared order, then a bucket's `le`.
    pub fn labels(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let own = self.rows.names().iter().map(String::as_str).zip(self.rows.values(self.row));
        self.server.map(|server| ("server", server)).into_iter().chain(own).chain(self.member.label())
    }

    /// The family's own labels as the text formats of Prometheus have them between braces: without `server` and `le`.
    pub fn label_text(&self) -> &'a str {
        self.rows.text(self.row)
    }

    /// The value of one label, if the sample has it.
    pub fn label(&self, name: &str) -> Option<&'a str> {
        self.labels().find(|(label, _)| *label == name).map(|(_, value)| value)
    }
}
