//! From the rows of a definition's query to families: the only code that reads rows.

mod template;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use hashbrown::HashTable;

use super::CollectError;
use super::shown::Shown;
use crate::catalog::{DATNAME, Definition, MetricColumn, Scope, Top};
use crate::metric::{Column, Family, Kind, Metric, Table};
use crate::server::RowSet;
use template::Template;

/// The label value of the row that holds what was too small to be shown alone; of gauges only.
pub const REMAINDER: &str = "other";

/// A definition without `max_series` may have this many rows. A page of more is of no use to anybody, and each row costs the
/// agent, Prometheus and Graphite memory.
const MOST_ROWS: usize = 100_000;

/// What a query gave.
#[derive(Debug, Default)]
pub struct Collected {
    /// The families with at least one sample.
    pub families: Vec<Family>,
    /// The rows the server sent.
    pub rows: usize,
    /// The rows that went into the remainder.
    pub folded: usize,
    /// By metric, what the rows in the remainder have of it. As rows come to be shown and cease to be, it falls and leaps:
    /// as a series of a counter's family it would be taken for resets and growth, so it is no sample of it.
    pub remainder: BTreeMap<String, f64>,
}

/// Turns rows into the families of a definition; `last` is what was shown of it before, and then what is shown now.
///
/// # Errors
///
/// A declared column is missing, a value is no number, or there are too many rows.
pub fn families_of(definition: &Definition, rows: &RowSet, last: &mut Shown) -> Result<Collected, CollectError> {
    if definition.top.is_none() && rows.len() > MOST_ROWS {
        return Err(CollectError::TooLarge { rows: rows.len(), most: MOST_ROWS });
    }
    families_of_ranked(definition, rows, rows.len(), last)
}

/// The same, where only the first `ranked` rows may stay: those after them are sums of what was too small already.
pub(super) fn families_of_ranked(
    definition: &Definition,
    rows: &RowSet,
    ranked: usize,
    last: &mut Shown,
) -> Result<Collected, CollectError> {
    let columns = Columns(rows);
    let mut shapes = shapes_of(definition, columns)?;
    let choose = |top: &Top| chosen(definition, top, columns, rows, ranked, last);
    let shown = definition.top.as_ref().map(choose).transpose()?;
    for row in 0..rows.len() {
        let folded = shown.as_ref().is_some_and(|shown| shown.get(row) != Some(&Some(true)));
        let row = Row { rows, row };
        for shape in &mut shapes {
            shape.add(row, folded)?;
        }
    }
    let folded = shown.map_or(0, |shown| shown.iter().filter(|shown| **shown == Some(false)).count());
    let mut collected = Collected { rows: rows.len(), folded, ..Collected::default() };
    for shape in shapes {
        collected.remainder.extend(shape.metrics.into_iter().flat_map(|metric| metric.remainder));
        collected.families.extend(shape.table.into_families());
    }
    Ok(collected)
}

/// One row of an answer.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) rows: &'a RowSet,
    pub(super) row: usize,
}

impl<'a> Row<'a> {
    pub(super) fn get(self, column: usize) -> Option<&'a str> {
        self.rows.value(self.row, column)
    }
}

/// Where the declared columns are in the rows.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a>(pub(super) &'a RowSet);

impl Columns<'_> {
    pub(super) fn find(self, column: &str) -> Result<usize, CollectError> {
        self.0.column(column).ok_or_else(|| CollectError::Column {
            column: column.to_owned(),
            reason: "the query does not return it".to_owned(),
        })
    }
}

/// Which rows stay; nothing is said of those that are not ranked. A row without labels is none of those listed and takes no
/// place: it brings the 0 of a count where there is nothing to list. Rows with the same labels are ranked as the one row that
/// they will be.
pub(super) fn chosen(
    definition: &Definition,
    top: &Top,
    columns: Columns<'_>,
    rows: &RowSet,
    ranked: usize,
    last: &mut Shown,
) -> Result<Vec<Option<bool>>, CollectError> {
    let labels: BTreeSet<&str> =
        definition.metrics.iter().flat_map(|metric| &metric.labels).map(String::as_str).collect();
    let given = |label: &&str| definition.scope != Scope::Database || *label != DATNAME;
    let own = labels.iter().copied().filter(given).map(|label| columns.find(label)).collect::<Result<Vec<_>, _>>()?;
    let labels = labels.into_iter().map(|label| columns.find(label)).collect::<Result<Vec<_>, _>>()?;
    let rank = columns.find(&top.rank_by)?;
    let mut ranks: Vec<(f64, u64)> = Vec::new();
    let mut places: HashTable<usize> = HashTable::new();
    let mut place_of_row = Vec::with_capacity(rows.len());
    for index in 0..ranked {
        let row = Row { rows, row: index };
        if !own.is_empty() && own.iter().all(|&label| row.get(label).is_none()) {
            place_of_row.push(None);
            continue;
        }
        // Of the same labels the same number, from one reading to the next.
        let mut hasher = DefaultHasher::new();
        for &label in &labels {
            row.get(label).unwrap_or_default().hash(&mut hasher);
        }
        let key = hasher.finish();
        let value = number(row, rank, &top.rank_by)?.unwrap_or_default();
        let key_of = |place: usize| ranks.get(place).map(|(_, key)| *key);
        let place = if let Some(&place) = places.find(key, |&place| key_of(place) == Some(key)) {
            place
        } else {
            places.insert_unique(key, ranks.len(), |&place| key_of(place).unwrap_or_default());
            ranks.push((0.0, key));
            ranks.len() - 1
        };
        if let Some((sum, _)) = ranks.get_mut(place) {
            *sum += value;
        }
        place_of_row.push(Some(place));
    }
    let shown = last.choose(top.keep, &ranks);
    let stay = |place: Option<usize>| place.map_or(Some(true), |place| shown.get(place).copied());
    let mut stays: Vec<_> = place_of_row.into_iter().map(stay).collect();
    stays.resize(rows.len(), None);
    Ok(stays)
}

/// The metrics of a definition that have the same labels.
struct Shape<'a> {
    labels: Vec<usize>,
    /// Whether rows are folded: not where the only label is the database, of which there is a bounded number.
    folds: bool,
    metrics: Vec<Filled<'a>>,
    table: Table,
}

/// A metric being filled. With a name made of columns it is one family per distinct name.
struct Filled<'a> {
    source: &'a MetricColumn,
    value: usize,
    /// Name and help, if columns are in them.
    templates: Option<[Template<'a>; 2]>,
    columns: HashMap<String, Column>,
    plain: Option<Column>,
    remainder: BTreeMap<String, f64>,
}

fn shapes_of<'a>(definition: &'a Definition, columns: Columns<'_>) -> Result<Vec<Shape<'a>>, CollectError> {
    let mut shapes: Vec<(&[String], Shape<'a>)> = Vec::new();
    for source in &definition.metrics {
        let at = shapes.iter().position(|(labels, _)| *labels == source.labels);
        let at = if let Some(at) = at {
            at
        } else {
            let labels = source.labels.iter().map(|label| columns.find(label)).collect::<Result<_, _>>()?;
            let folds = definition.scope != Scope::Database || source.labels.len() > 1;
            let table = Table::new(&source.labels);
            shapes.push((&source.labels, Shape { labels, folds, metrics: Vec::new(), table }));
            shapes.len() - 1
        };
        let Some((_, shape)) = shapes.get_mut(at) else { continue };
        let named = source.template_columns().map(|name| Ok((name, columns.find(name)?)));
        let named = named.collect::<Result<Vec<_>, CollectError>>()?;
        let texts = [&source.metric.name, &source.metric.help];
        let templates = (!named.is_empty()).then(|| texts.map(|text| Template::new(text, &named)));
        let plain = templates.is_none().then(|| {
            let metric = Arc::clone(&source.metric);
            match &source.buckets {
                Some(buckets) => shape.table.histogram_of(metric, Arc::clone(buckets)),
                None => shape.table.column_of(metric, source.merge),
            }
        });
        let value = columns.find(&source.column)?;
        shape.metrics.push(Filled {
            source,
            value,
            templates,
            columns: HashMap::new(),
            plain,
            remainder: BTreeMap::new(),
        });
    }
    Ok(shapes.into_iter().map(|(_, shape)| shape).collect())
}

impl Shape<'_> {
    fn add(&mut self, row: Row<'_>, folded: bool) -> Result<(), CollectError> {
        let label = |&at: &usize| if folded && self.folds { REMAINDER } else { row.get(at).unwrap_or_default() };
        self.table.row_of(self.labels.iter().map(label));
        for metric in &mut self.metrics {
            let Some(value) = number(row, metric.value, &metric.source.column)? else { continue };
            // What has no labels is one value however many rows there are.
            if folded && !self.labels.is_empty() && metric.is_counted_apart() {
                metric.add_remainder(row, value);
            } else if let Some(column) = metric.column_in(&mut self.table, row) {
                self.table.set(column, value);
            }
        }
        Ok(())
    }
}

impl Filled<'_> {
    /// Whether what is folded of it is told elsewhere: it may not fall, as what is there now may.
    fn is_counted_apart(&self) -> bool {
        !matches!(self.source.metric.kind, Kind::Gauge | Kind::Histogram)
    }

    fn column_in(&mut self, table: &mut Table, row: Row<'_>) -> Option<Column> {
        let Some([name, help]) = &self.templates else { return self.plain };
        let name = name.fill_name(row);
        if let Some(column) = self.columns.get(&name) {
            return Some(*column);
        }
        let described = Arc::new(Metric { name: name.clone(), help: help.fill(row), kind: self.source.metric.kind });
        let column = table.column_of(described, self.source.merge);
        self.columns.insert(name, column);
        Some(column)
    }

    fn add_remainder(&mut self, row: Row<'_>, value: f64) {
        let filled = self.templates.as_ref().map(|[name, _]| name.fill_name(row));
        let name = filled.as_deref().unwrap_or(&self.source.metric.name);
        if let Some(sum) = self.remainder.get_mut(name) {
            *sum = self.source.merge.apply(*sum, value);
        } else {
            self.remainder.insert(name.to_owned(), value);
        }
    }
}

/// A value as PostgreSQL prints it; NULL is not known. Texts that only Rust takes for numbers, and numbers too large to be
/// kept, are errors: a value is never made up.
pub(super) fn number(row: Row<'_>, at: usize, column: &str) -> Result<Option<f64>, CollectError> {
    let Some(text) = row.get(at) else { return Ok(None) };
    // Most are whole, and what fits into 64 bits is rounded as any other text would be.
    if let Ok(whole) = text.parse::<i64>() {
        return Ok(Some(whole as f64));
    }
    let parsed = match text {
        "t" => Some(1.0),
        "f" => Some(0.0),
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok().filter(|value: &f64| value.is_finite()),
    };
    parsed.map(Some).ok_or_else(|| CollectError::Column {
        column: column.to_owned(),
        reason: format!("expected a number or a boolean, got {:?}", text.chars().take(40).collect::<String>()),
    })
}

#[cfg(test)]
mod tests;
