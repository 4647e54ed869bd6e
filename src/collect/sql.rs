//! From the rows of a definition's query to families: the only code that reads rows.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::CollectError;
use crate::catalog::{Definition, MetricColumn, Top};
use crate::metric::{Column, Family, Metric, Table};
use crate::server::RowSet;

/// The label value of the row that holds what was too small to be shown alone.
pub const REMAINDER: &str = "other";

/// What a query gave.
#[derive(Debug, Default)]
pub struct Collected {
    /// The families with at least one sample.
    pub families: Vec<Family>,
    /// The rows the server sent.
    pub rows: usize,
    /// The rows that went into the remainder.
    pub folded: usize,
}

/// Turns rows into the families of a definition.
///
/// # Errors
///
/// A declared column is missing, or a value is no number.
pub fn families_of(definition: &Definition, rows: &RowSet) -> Result<Collected, CollectError> {
    let columns = Columns::of(definition, rows)?;
    let shown = definition.top.as_ref().map(|top| largest(definition, top, &columns, rows)).transpose()?.flatten();
    let mut shapes = shapes_of(definition, &columns)?;
    for row in 0..rows.len() {
        let folded = shown.as_ref().is_some_and(|shown| shown.get(row) == Some(&false));
        let row = Row { rows, row };
        for shape in &mut shapes {
            shape.add(row, folded)?;
        }
    }
    let folded = shown.map_or(0, |shown| shown.iter().filter(|shown| !**shown).count());
    let families = shapes.into_iter().flat_map(|shape| shape.table.into_families()).collect();
    Ok(Collected { families, rows: rows.len(), folded })
}

/// One row of an answer.
#[derive(Clone, Copy)]
struct Row<'a> {
    rows: &'a RowSet,
    row: usize,
}

impl<'a> Row<'a> {
    fn get(self, column: usize) -> Option<&'a str> {
        self.rows.value(self.row, column)
    }
}

/// Where the declared columns are in the rows.
struct Columns<'a>(HashMap<&'a str, usize>);

impl<'a> Columns<'a> {
    fn of(definition: &Definition, rows: &'a RowSet) -> Result<Self, CollectError> {
        let found = Self(rows.columns().iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect());
        definition.columns().into_iter().try_for_each(|column| found.find(column).map(drop))?;
        Ok(found)
    }

    fn find(&self, column: &str) -> Result<usize, CollectError> {
        self.0.get(column).copied().ok_or_else(|| CollectError::Column {
            column: column.to_owned(),
            reason: "the query does not return it".to_owned(),
        })
    }
}

/// Which rows stay; none where all do. Rows with the same labels are ranked as the one row that they will be.
fn largest(
    definition: &Definition,
    top: &Top,
    columns: &Columns<'_>,
    rows: &RowSet,
) -> Result<Option<Vec<bool>>, CollectError> {
    if rows.len() <= top.keep {
        return Ok(None);
    }
    let labels: BTreeSet<&str> =
        definition.metrics.iter().flat_map(|metric| &metric.labels).map(String::as_str).collect();
    let labels = labels.into_iter().map(|label| columns.find(label)).collect::<Result<Vec<_>, _>>()?;
    let rank = columns.find(&top.rank_by)?;
    let mut ranks: HashMap<Vec<Option<&str>>, (f64, usize)> = HashMap::new();
    let mut keys = Vec::with_capacity(rows.len());
    for index in 0..rows.len() {
        let row = Row { rows, row: index };
        let next = ranks.len();
        let (sum, key) = ranks.entry(labels.iter().map(|&label| row.get(label)).collect()).or_insert((0.0, next));
        *sum += number(row, rank, &top.rank_by)?.unwrap_or_default();
        keys.push(*key);
    }
    let mut ranked: Vec<(f64, usize)> = ranks.into_values().collect();
    ranked.sort_by(|(left, a), (right, b)| right.total_cmp(left).then(a.cmp(b)));
    let shown: HashSet<usize> = ranked.into_iter().take(top.keep).map(|(_, key)| key).collect();
    Ok(Some(keys.iter().map(|key| shown.contains(key)).collect()))
}

/// The metrics of a definition that have the same labels.
struct Shape<'a> {
    labels: Vec<usize>,
    metrics: Vec<Filled<'a>>,
    table: Table,
}

/// A metric being filled. With a name made of columns it is one family per distinct name.
struct Filled<'a> {
    source: &'a MetricColumn,
    value: usize,
    template: Vec<(&'a str, usize)>,
    columns: HashMap<String, Column>,
    plain: Option<Column>,
}

fn shapes_of<'a>(definition: &'a Definition, columns: &Columns<'_>) -> Result<Vec<Shape<'a>>, CollectError> {
    let mut shapes: Vec<(&[String], Shape<'a>)> = Vec::new();
    for source in &definition.metrics {
        let at = shapes.iter().position(|(labels, _)| *labels == source.labels);
        let at = if let Some(at) = at {
            at
        } else {
            let labels = source.labels.iter().map(|label| columns.find(label)).collect::<Result<_, _>>()?;
            shapes.push((&source.labels, Shape { labels, metrics: Vec::new(), table: Table::new(&source.labels) }));
            shapes.len() - 1
        };
        let Some((_, shape)) = shapes.get_mut(at) else { continue };
        let template = source.template_columns().map(|name| Ok((name, columns.find(name)?)));
        let template = template.collect::<Result<Vec<_>, CollectError>>()?;
        let plain = template.is_empty().then(|| shape.table.column_of(Arc::clone(&source.metric), source.merge));
        let value = columns.find(&source.column)?;
        shape.metrics.push(Filled { source, value, template, columns: HashMap::new(), plain });
    }
    Ok(shapes.into_iter().map(|(_, shape)| shape).collect())
}

impl Shape<'_> {
    fn add(&mut self, row: Row<'_>, folded: bool) -> Result<(), CollectError> {
        let label = |&at: &usize| if folded { REMAINDER } else { row.get(at).unwrap_or_default() };
        self.table.row(&self.labels.iter().map(label).collect::<Vec<_>>());
        for metric in &mut self.metrics {
            if let Some(value) = number(row, metric.value, &metric.source.column)? {
                let column = metric.column_in(&mut self.table, row);
                self.table.set(column, value);
            }
        }
        Ok(())
    }
}

impl Filled<'_> {
    fn column_in(&mut self, table: &mut Table, row: Row<'_>) -> Column {
        if let Some(column) = self.plain {
            return column;
        }
        let fill = |text: &str, escape: fn(&str) -> String| {
            self.template.iter().fold(text.to_owned(), |text, (name, at)| {
                text.replace(&format!("{{{name}}}"), &escape(row.get(*at).unwrap_or_default()))
            })
        };
        let name = fill(&self.source.metric.name, name_part);
        let metric = &self.source.metric;
        *self.columns.entry(name.clone()).or_insert_with(|| {
            let metric = Metric { name, help: fill(&metric.help, str::to_owned), kind: metric.kind };
            table.column_of(Arc::new(metric), self.source.merge)
        })
    }
}

/// What the server calls something, in the letters that a metric name may have.
fn name_part(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// A value as PostgreSQL prints it; NULL is not known.
fn number(row: Row<'_>, at: usize, column: &str) -> Result<Option<f64>, CollectError> {
    let Some(text) = row.get(at) else { return Ok(None) };
    match text {
        "t" => Ok(Some(1.0)),
        "f" => Ok(Some(0.0)),
        _ => text.parse().map(Some).map_err(|_| CollectError::Column {
            column: column.to_owned(),
            reason: format!("expected a number or a boolean, got {:?}", text.chars().take(40).collect::<String>()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(columns: &[&str], rows: &[&[Option<&str>]]) -> RowSet {
        let mut answer = RowSet::new(columns.iter().map(|&column| column.to_owned()).collect());
        assert!(rows.iter().copied().flatten().all(|&value| answer.push(value)));
        answer
    }

    fn collect(head: &str, columns: &[&str], rows: &[&[Option<&str>]]) -> Result<Vec<String>, String> {
        let sql = format!("SELECT {}", columns.join(", "));
        let text = format!("help = \"x\"\n{head}\n[[query]]\nsince = 10\nsql = \"{sql}\"\n{METRICS}");
        let definition = Definition::parse("x", &text).unwrap();
        let rows = answer(columns, rows);
        let families = families_of(&definition, &rows).map_err(|error| error.to_string())?.families;
        let line = |family: &Family| {
            let samples = family.samples().map(|sample| {
                let labels = sample.labels().map(|(_, value)| value).collect::<Vec<_>>().join(",");
                format!("{labels}={}", sample.value)
            });
            format!("{}: {}", family.metric().name, samples.collect::<Vec<_>>().join(" "))
        };
        Ok(families.iter().map(line).collect())
    }

    const METRICS: &str = r#"
[[metric]]
name = "pg_size_bytes"
type = "gauge"
column = "size"
help = "Size"
merge = "sum"
labels = ["datname"]

[[metric]]
name = "pg_{datname}"
type = "gauge"
column = "flag"
help = "Flag of {datname}"
labels = []
"#;

    #[test]
    fn null_is_no_sample_and_booleans_are_numbers() {
        let rows: &[&[Option<&str>]] =
            &[&[Some("a-b"), Some("7"), Some("t")], &[Some("c"), None, Some("f")], &[None, Some("1"), None]];
        let families = collect("", &["datname", "size", "flag"], rows).unwrap();
        assert_eq!(families, ["pg_size_bytes: a-b=7 =1", "pg_a_b: =1", "pg_c: =0"]);
    }

    #[test]
    fn the_largest_rows_stay_and_the_rest_is_one_row_so_that_the_sum_stays_true() {
        let rows: &[&[Option<&str>]] = &[
            &[Some("small"), Some("1"), None],
            &[Some("large"), Some("9"), None],
            &[Some("null"), None, None],
            &[Some("middle"), Some("2"), None],
            &[Some("tiny"), Some("0.5"), None],
            &[Some("other one"), Some("4"), None],
            &[Some("middle"), Some("3"), None],
        ];
        let families = collect("max_series = 2\nrank_by = \"size\"", &["datname", "size", "flag"], rows).unwrap();
        assert_eq!(families, ["pg_size_bytes: other=5.5 large=9 middle=5"]);
    }

    #[test]
    fn a_missing_column_or_a_text_is_an_error_that_names_the_column() {
        let definition = format!("help = \"x\"\n[[query]]\nsince = 10\nsql = \"datname size flag\"\n{METRICS}");
        let definition = Definition::parse("x", &definition).unwrap();
        let error = families_of(&definition, &answer(&["datname", "flag"], &[])).unwrap_err();
        assert_eq!(error.to_string(), "column `size`: the query does not return it");
        let error = collect("", &["datname", "size", "flag"], &[&[Some("a"), Some("big"), None]]).unwrap_err();
        assert_eq!(error, "column `size`: expected a number or a boolean, got \"big\"");
    }
}
