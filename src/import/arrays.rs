//! Histograms that a query has counted by itself: `postgres_exporter` takes the bounds, the buckets, the sum and the count of
//! each row from the columns `x`, `x_bucket`, `x_sum` and `x_count`, of which the first two are arrays.

use super::branch::{Branch, Column, Note, Usage};
use super::statement::{identifier, may_return};
use crate::metric::Kind;

/// The label with the upper bound of a bucket.
const LE: &str = "le";

/// Makes the histograms of a branch three metrics each, and of each of their buckets a row.
pub(super) fn spread(branch: &mut Branch) -> Vec<Note> {
    let is_histogram = |column: &Column| matches!(&column.usage, Usage::Value { kind: Kind::Histogram, .. });
    let (histograms, others): (Vec<_>, Vec<_>) = branch.columns.drain(..).partition(is_histogram);
    let (found, notes) = readable(&branch.sql, histograms, &others);
    branch.columns = others;
    let Some(first) = found.first().cloned() else { return notes };
    let parts: Vec<String> = found.iter().flat_map(|column| parts_of(&column.name)).collect();
    branch.columns.retain(|column| matches!(column.usage, Usage::Label(_)) || !parts.contains(&column.name));
    let labels: Vec<String> = branch.columns.iter().filter_map(|column| label_of(column).map(str::to_owned)).collect();
    for column in &mut branch.columns {
        if let Usage::Value { labels: own, .. } = &mut column.usage {
            *own = Some(labels.clone());
            let value = column.expression.take().unwrap_or_else(|| format!("q.{}", identifier(&column.name)));
            column.expression = Some(once(&value));
        }
    }
    let (expression, usage) = (Some(format!("b.{LE}")), Usage::Label(LE.to_owned()));
    branch.columns.push(Column { expression, usage, ..first });
    branch.joined += "\n CROSS JOIN LATERAL (\nSELECT 0 AS histogram, NULL::pg_catalog.text AS le, \
                      NULL::pg_catalog.float8 AS bucket";
    for (number, column) in (1..).zip(found) {
        branch.joined += &buckets_of(&column.name, number);
        branch.columns.extend(metrics_of(&column, number, &labels));
    }
    branch.joined += ") AS b";
    notes
}

/// Those whose columns the query may return, and what is said of all.
fn readable(sql: &str, histograms: Vec<Column>, others: &[Column]) -> (Vec<Column>, Vec<Note>) {
    let mut notes = Vec::new();
    let has_le = others.iter().any(|column| label_of(column) == Some(LE));
    let found = histograms.into_iter().filter(|column| {
        let own = [column.name.clone()];
        let missing = own.into_iter().chain(parts_of(&column.name)).find(|part| !may_return(sql, part));
        let reason = match &missing {
            Some(missing) => format!("the query returns no column {missing}"),
            None if has_le => "a histogram has no label le but that of its buckets".to_owned(),
            None => "is three metrics of type unknown, as the query counts it".to_owned(),
        };
        notes.push(Note { place: column.place.clone(), reason });
        missing.is_none() && !has_le
    });
    (found.collect(), notes)
}

fn label_of(column: &Column) -> Option<&str> {
    match &column.usage {
        Usage::Label(label) => Some(label),
        Usage::Value { .. } => None,
    }
}

fn parts_of(name: &str) -> [String; 3] {
    ["bucket", "sum", "count"].map(|part| format!("{name}_{part}"))
}

/// Of all rows that come of one, only the first has what is not in buckets: counters of equal labels are added up.
fn once(value: &str) -> String {
    format!("CASE WHEN b.histogram = 0 THEN {value} END")
}

/// A row for each bucket. Whatever the arrays are of, as texts they look alike.
fn buckets_of(name: &str, number: usize) -> String {
    let column = |name: &str| format!("q.{}", identifier(name));
    let array = |name: &str| format!("{}::pg_catalog.text::pg_catalog.float8[]", column(name));
    let [bucket, _, count] = parts_of(name);
    format!(
        "\n UNION ALL\nSELECT {number}, u.le::pg_catalog.text, u.bucket\n  FROM unnest({},\n              {}) AS u(le, bucket)\n \
         WHERE u.le < 'Infinity'\n UNION ALL\nSELECT {number}, '+Inf', {}::pg_catalog.float8",
        array(name),
        array(&bucket),
        column(&count)
    )
}

fn metrics_of(column: &Column, number: usize, labels: &[String]) -> Vec<Column> {
    let Usage::Value { metric, help, .. } = &column.usage else { return Vec::new() };
    let [bucket, sum, count] = parts_of(&column.name);
    let with_le = labels.iter().cloned().chain([LE.to_owned()]).collect();
    let value = |name: &str| once(&format!("q.{}", identifier(name)));
    let of_bucket = format!("CASE WHEN b.histogram = {number} THEN b.bucket END");
    let parts = [
        (bucket, "bucket", of_bucket, "how many are up to le", with_le),
        (sum.clone(), "sum", value(&sum), "the sum of all", labels.to_vec()),
        (count.clone(), "count", value(&count), "how many there are", labels.to_vec()),
    ];
    let column_of = |(name, suffix, expression, what, labels)| Column {
        place: column.place.clone(),
        name,
        expression: Some(expression),
        usage: Usage::Value {
            metric: format!("{metric}_{suffix}"),
            kind: Kind::Unknown,
            help: format!("{}: {what}", help.trim().trim_end_matches('.')),
            labels: Some(labels),
            buckets: Vec::new(),
        },
    };
    parts.into_iter().map(column_of).collect()
}
