//! The answers of one query from many databases, put together in bounded memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::CollectError;
use super::shown::Shown;
use super::sql::{Collected, Columns, REMAINDER, Row, chosen, families_of_ranked, number};
use crate::catalog::{DATNAME, Definition, Top};
use crate::metric::Merge;
use crate::server::RowSet;

/// The rows of a definition in database scope, so far.
///
/// With a bound on its rows, only twice as many as will be shown are kept, with one sum of the others per database.
#[derive(Debug)]
pub struct Gathered {
    definition: Arc<Definition>,
    /// What the definition names of each row, with the database's name last.
    rows: RowSet,
    /// How the values of a column become one; none where that cannot be said.
    merges: Option<BTreeMap<String, Merge>>,
    /// The sums of what is not among the rows any more, in the order of `merges`, by database.
    remainders: BTreeMap<String, Vec<Option<f64>>>,
    received: usize,
    folded: usize,
}

impl Gathered {
    /// Nothing gathered yet.
    pub fn new(definition: Arc<Definition>) -> Self {
        let own = definition.columns().into_iter().filter(|column| *column != DATNAME);
        let columns = own.chain([DATNAME]).map(str::to_owned).collect();
        Self {
            rows: RowSet::new(columns),
            merges: merges(&definition),
            remainders: BTreeMap::new(),
            received: 0,
            folded: 0,
            definition,
        }
    }

    /// Adds what a database answered.
    ///
    /// # Errors
    ///
    /// A declared column is missing, a value is no number, or the rows are too many; nothing of this database is added.
    pub fn add(&mut self, datname: &str, answer: &RowSet) -> Result<(), CollectError> {
        let mut found = Vec::new();
        for column in self.rows.columns().iter().filter(|column| *column != DATNAME) {
            let at = answer.column(column).ok_or_else(|| CollectError::Column {
                column: column.clone(),
                reason: "the query does not return it".to_owned(),
            })?;
            found.push(at);
            let ranks = self.definition.top.as_ref().is_some_and(|top| top.rank_by == *column);
            if ranks || self.definition.metrics.iter().any(|metric| metric.column == *column) {
                (0..answer.len()).try_for_each(|row| number(Row { rows: answer, row }, at, column).map(drop))?;
            }
        }
        for row in 0..answer.len() {
            let values = found.iter().map(|&at| answer.value(row, at)).chain([Some(datname)]);
            push(&mut self.rows, values)?;
        }
        self.received += answer.len();
        self.fold()
    }

    /// The families of all databases.
    ///
    /// # Errors
    ///
    /// As [`Gathered::add`].
    pub fn into_collected(mut self, shown: &mut Shown) -> Result<Collected, CollectError> {
        let ranked = self.rows.len();
        let names = self.rows.columns().to_vec();
        for (datname, sums) in &self.remainders {
            let sums: BTreeMap<&String, Option<String>> =
                self.merges.iter().flat_map(BTreeMap::keys).zip(sums.iter().map(|sum| sum.map(text_of))).collect();
            let values = names.iter().map(|column| match sums.get(column) {
                Some(sum) => sum.as_deref(),
                None if column == DATNAME => Some(datname.as_str()),
                None if self.definition.top.as_ref().is_some_and(|top| top.rank_by == *column) => None,
                None => Some(REMAINDER),
            });
            push(&mut self.rows, values)?;
        }
        let collected = families_of_ranked(&self.definition, &self.rows, ranked, shown)?;
        let folded = self.folded + collected.folded;
        Ok(Collected { rows: self.received, folded, ..collected })
    }

    /// Keeps the rows that may still be shown, once there are far more.
    fn fold(&mut self) -> Result<(), CollectError> {
        let (Some(top), Some(merges)) = (&self.definition.top, &self.merges) else { return Ok(()) };
        let keep = top.keep.saturating_mul(2);
        if self.rows.len() <= keep.saturating_mul(2).max(1000) {
            return Ok(());
        }
        let columns = Columns(&self.rows);
        let top = Top { keep, rank_by: top.rank_by.clone() };
        let stays = chosen(&self.definition, &top, columns, &self.rows, self.rows.len(), &mut Shown::default())?;
        let places = merges.keys().map(|column| columns.find(column)).collect::<Result<Vec<_>, _>>()?;
        let mut rows = RowSet::new(self.rows.columns().to_vec());
        for (index, stays) in stays.into_iter().enumerate() {
            let row = Row { rows: &self.rows, row: index };
            if stays == Some(true) {
                push(&mut rows, (0..self.rows.columns().len()).map(|at| row.get(at)))?;
                continue;
            }
            self.folded += usize::from(stays == Some(false));
            let datname = columns.find(DATNAME).map(|at| row.get(at).unwrap_or_default().to_owned())?;
            let sums = self.remainders.entry(datname).or_insert_with(|| vec![None; places.len()]);
            for (((column, merge), &at), sum) in merges.iter().zip(&places).zip(sums) {
                if let Some(value) = number(row, at, column)? {
                    *sum = Some(sum.map_or(value, |sum| merge.apply(sum, value)));
                }
            }
        }
        self.rows = rows;
        Ok(())
    }
}

/// As PostgreSQL would print it.
fn text_of(value: f64) -> String {
    match value {
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        _ => value.to_string(),
    }
}

/// How each column with values is merged; none where a column is merged in two ways, names families, or is counted.
fn merges(definition: &Definition) -> Option<BTreeMap<String, Merge>> {
    let mut merges = BTreeMap::new();
    for metric in &definition.metrics {
        let other = merges.insert(metric.column.clone(), metric.merge);
        let is_differing = other.is_some_and(|other| other != metric.merge);
        if is_differing || metric.template_columns().next().is_some() || metric.buckets.is_some() {
            return None;
        }
    }
    Some(merges)
}

fn push<'a>(rows: &mut RowSet, values: impl Iterator<Item = Option<&'a str>>) -> Result<(), CollectError> {
    for value in values {
        if !rows.push(value) {
            return Err(CollectError::TooMuch);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: &str = r#"
help = "x"
scope = "database"
labels = ["relname"]
max_series = 2
rank_by = "size"

[[query]]
since = 10
sql = "SELECT relname, size, age, locked"

[[metric]]
name = "pg_size_bytes"
type = "gauge"
merge = "sum"
column = "size"
help = "Size"

[[metric]]
name = "pg_age_seconds"
type = "gauge"
column = "age"
help = "Age"

[[metric]]
name = "pg_locked"
type = "gauge"
merge = "sum"
column = "locked"
labels = []
help = "Locked"
"#;

    fn definition() -> Arc<Definition> {
        Arc::new(Definition::parse("tables", TABLES).unwrap())
    }

    /// An answer of which the first table is as large as the number says, and each next one smaller by 1.
    fn answer(prefix: &str, count: usize, size: usize) -> RowSet {
        let mut rows = RowSet::new(["age", "relname", "locked", "size"].map(str::to_owned).to_vec());
        for at in 0..count {
            let (name, size) = (format!("{prefix}{at}"), (size - at).to_string());
            for value in [Some("7"), Some(&name), Some("t"), Some(&size)] {
                assert!(rows.push(value));
            }
        }
        rows
    }

    fn lines(collected: &Collected) -> Vec<String> {
        let of_family = |family: &crate::metric::Family| {
            let samples = family.samples().map(|sample| {
                let labels = sample.labels().map(|(_, value)| value).collect::<Vec<_>>().join(".");
                format!("{labels}={}", sample.value)
            });
            let mut samples: Vec<_> = samples.collect();
            samples.sort();
            format!("{}: {}", family.metric().name, samples.join(" "))
        };
        let mut lines: Vec<_> = collected.families.iter().map(of_family).collect();
        lines.sort();
        lines
    }

    #[test]
    fn the_largest_of_all_databases_stay_and_the_sums_stay_true() {
        let mut gathered = Gathered::new(definition());
        gathered.add("a", &answer("a", 3, 10)).unwrap();
        gathered.add("b", &answer("b", 2, 100)).unwrap();
        let collected = gathered.into_collected(&mut Shown::default()).unwrap();
        assert_eq!((collected.rows, collected.folded), (5, 3));
        assert_eq!(
            lines(&collected),
            [
                "pg_age_seconds: b.b0=7 b.b1=7 other.other=7",
                "pg_locked: a=3 b=2",
                "pg_size_bytes: b.b0=100 b.b1=99 other.other=27",
            ]
        );
    }

    #[test]
    fn many_rows_are_kept_as_few_and_the_sums_stay_true() {
        let mut gathered = Gathered::new(definition());
        for (datname, size) in [("a", 10_000), ("b", 100_000), ("c", 20_000)] {
            gathered.add(datname, &answer(datname, 5_000, size)).unwrap();
            assert!(gathered.rows.len() <= 1000, "{} rows", gathered.rows.len());
        }
        let collected = gathered.into_collected(&mut Shown::default()).unwrap();
        assert_eq!((collected.rows, collected.folded), (15_000, 14_998));
        let sum = |size: u32| (0..5_000).map(|at| f64::from(size - at)).sum::<f64>();
        let rest = sum(10_000) + sum(100_000) + sum(20_000) - 199_999.0;
        let lines = lines(&collected);
        assert!(lines.contains(&format!("pg_size_bytes: b.b0=100000 b.b1=99999 other.other={rest}")), "{lines:?}");
        assert!(lines.contains(&"pg_locked: a=5000 b=5000 c=5000".to_owned()), "{lines:?}");
    }

    #[test]
    fn a_count_of_nothing_takes_no_place_in_the_list() {
        let mut gathered = Gathered::new(definition());
        let mut nothing = RowSet::new(["age", "relname", "locked", "size"].map(str::to_owned).to_vec());
        assert!([None, None, Some("0"), None].into_iter().all(|value| nothing.push(value)));
        for n in 0..1500 {
            gathered.add(&format!("empty{n}"), &nothing).unwrap();
        }
        gathered.add("a", &answer("a", 3, 2)).unwrap();
        let collected = gathered.into_collected(&mut Shown::default()).unwrap();
        assert_eq!((collected.rows, collected.folded), (1503, 1));
        let lines = lines(&collected);
        assert_eq!(lines[0], "pg_age_seconds: a.a0=7 a.a1=7 other.other=7");
        assert!(lines[1].starts_with("pg_locked: a=3 empty0=0 "), "{}", lines[1]);
        assert_eq!(lines[2], "pg_size_bytes: a.a0=2 a.a1=1 other.other=0");
    }

    #[test]
    fn a_wrong_answer_adds_nothing() {
        let mut gathered = Gathered::new(definition());
        let mut wrong = answer("a", 1, 10);
        assert!([None, Some("x"), None, Some("large")].into_iter().all(|value| wrong.push(value)));
        assert_eq!(
            gathered.add("a", &wrong).unwrap_err().to_string(),
            "column `size`: expected a number or a boolean, got \"large\""
        );
        let missing = RowSet::new(vec!["relname".to_owned()]);
        assert_eq!(gathered.add("a", &missing).unwrap_err().to_string(), "column `age`: the query does not return it");
        assert!(gathered.into_collected(&mut Shown::default()).unwrap().families.is_empty());
    }
}
