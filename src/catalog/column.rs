//! A column that becomes a metric: its name, its type, and what becomes of rows that look alike.

use std::sync::Arc;

use toml::Spanned;

use super::definition::Mistake;
use super::definition::parts::{identifier, label_names};
use super::format::{MergeSpec, MetricSpec, Scope, TypeSpec};
use crate::metric::{Buckets, Kind, Merge, Metric, SUFFIXES};

/// Each bucket is a series of its own for every set of labels.
const MOST_BUCKETS: usize = 30;

/// A column that becomes a metric.
#[derive(Debug)]
pub struct MetricColumn {
    /// Name, help and type. Name and help may hold `{column}`: one family per distinct value.
    pub metric: Arc<Metric>,
    /// The column with the value.
    pub column: String,
    /// The columns that become labels.
    pub labels: Vec<String>,
    /// What becomes of two rows with the same labels.
    pub merge: Merge,
    /// Whether labels that were seen go on with 0 when their row is gone, until a reload.
    pub remember: bool,
    /// Of a histogram: each row is one of the things that are counted.
    pub buckets: Option<Arc<Buckets>>,
}

impl MetricColumn {
    /// The columns that the name and the help are made with; none for nearly all metrics.
    pub fn template_columns(&self) -> impl Iterator<Item = &str> {
        placeholders(&self.metric.name).chain(placeholders(&self.metric.help))
    }

    /// Whether samples of this name come from this column.
    pub fn makes(&self, name: &str) -> bool {
        match self.metric.name.split_once('{') {
            None if self.buckets.is_some() => self.names().any(|own| own == name),
            None => self.metric.name == name,
            Some((stem, _)) => name.starts_with(stem),
        }
    }

    /// The names of its samples, as far as they are known before it is asked.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let suffixes: &[&str] = if self.buckets.is_some() { &SUFFIXES } else { &[""] };
        suffixes.iter().map(|suffix| format!("{}{suffix}", self.metric.name))
    }
}

/// Reads a metric whose file has these labels.
///
/// # Errors
///
/// The first mistake found.
pub(super) fn metric_column(
    spec: &Spanned<MetricSpec>,
    labels: &[String],
    scope: Scope,
) -> Result<MetricColumn, Mistake> {
    let spec = spec.get_ref();
    metric_name(&spec.name)?;
    identifier(&spec.column)?;
    let kind = match spec.r#type.get_ref() {
        TypeSpec::Counter => Kind::Counter,
        TypeSpec::Gauge => Kind::Gauge,
        TypeSpec::Histogram => Kind::Histogram,
        TypeSpec::Unknown => Kind::Unknown,
    };
    let merge = match spec.merge.as_ref().map(Spanned::get_ref) {
        Some(MergeSpec::Sum) => Merge::Sum,
        Some(MergeSpec::Min) => Merge::Min,
        None if matches!(kind, Kind::Counter | Kind::Histogram) => Merge::Sum,
        Some(MergeSpec::Max) | None => Merge::Max,
    };
    let labels = spec.labels.as_deref().map_or_else(|| Ok(labels.to_vec()), |labels| label_names(labels, scope))?;
    Ok(MetricColumn {
        metric: Arc::new(Metric { name: spec.name.get_ref().clone(), help: spec.help.clone(), kind }),
        column: spec.column.get_ref().clone(),
        buckets: buckets(spec, kind, &labels)?,
        labels,
        merge,
        remember: spec.remember,
    })
}

/// The bounds of a histogram, which has the sums of its rows and nothing else to be said about it.
fn buckets(spec: &MetricSpec, kind: Kind, labels: &[String]) -> Result<Option<Arc<Buckets>>, Mistake> {
    let bounds = match (&spec.buckets, kind == Kind::Histogram) {
        (None, false) => return Ok(None),
        (Some(bounds), false) => return Err(Mistake::at(bounds, "expected no `buckets`: only a histogram has them")),
        (None, true) => {
            let reason = "expected `buckets`: the upper bounds to count by, such as [1, 5, 60]";
            return Err(Mistake::at(&spec.r#type, reason));
        }
        (Some(bounds), true) => bounds,
    };
    let values = bounds.get_ref();
    if let Some(reason) = wrong_bounds(values) {
        return Err(Mistake::at(bounds, reason));
    }
    if let Some(merge) = &spec.merge {
        return Err(Mistake::at(merge, "expected no `merge`: a histogram counts its rows"));
    }
    if spec.remember || labels.iter().any(|label| label == "le") || spec.name.get_ref().contains('{') {
        let reason = "a histogram has no `remember`, no label `le` and no column in its name";
        return Err(Mistake::at(&spec.name, reason));
    }
    Ok(Some(Arc::new(Buckets::new(values.clone()))))
}

/// Why a histogram cannot count by these upper bounds.
pub(crate) fn wrong_bounds(bounds: &[f64]) -> Option<String> {
    let rise = bounds.is_sorted_by(|left, right| left < right);
    let fit = bounds.iter().all(|bound| bound.is_finite() && *bound >= 0.0);
    let is_right = rise && fit && (1..=MOST_BUCKETS).contains(&bounds.len());
    (!is_right).then(|| format!("expected up to {MOST_BUCKETS} rising numbers from 0 on"))
}

fn metric_name(name: &Spanned<String>) -> Result<(), Mistake> {
    let text = name.get_ref();
    let fixed: String = text.split('{').map(|piece| piece.split_once('}').map_or(piece, |(_, rest)| rest)).collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if fixed.is_empty() || fixed.starts_with(|c: char| c.is_ascii_digit()) || !fixed.chars().all(plain) {
        let reason =
            format!("expected a metric name of letters, digits, _ and : (with {{column}} at most), got \"{text}\"");
        return Err(Mistake::at(name, reason));
    }
    for reserved in ["pgvitals_", "node_"] {
        if text.starts_with(reserved) {
            let reason = format!("expected another name: {reserved}* is the agent's own");
            return Err(Mistake::at(name, reason));
        }
    }
    Ok(())
}

fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|piece| piece.split_once('}').map(|(name, _)| name))
}
