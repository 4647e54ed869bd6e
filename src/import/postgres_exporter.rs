//! `postgres_exporter`'s own queries, `queries.yaml` (its `queries.go` and `namespace.go`): a map from the beginning of the
//! names to a query and what its columns are.

use super::Choices;
use super::arrays;
use super::branch::{Branch, Column, Note, Place, Subject, Usage};
use super::statement::{identifier, is_epoch, literal};
use super::versions::majors_in;
use super::yaml::{self, Entry, Expecting};
use crate::catalog::Scope;
use crate::metric::Kind;
use crate::source::{Source, SourceError};

/// It had no limit; one is needed, and this is more than a page of metrics waits for.
const TIMEOUT: f64 = 30.0;

/// Reads a file.
pub(super) fn read(source: &Source, choices: Choices) -> Result<Vec<Subject>, SourceError> {
    let expecting = Expecting(source);
    let root = yaml::read(source)?;
    let entries = expecting.entries(&root, 1, "names of queries, each with its query and metrics")?;
    entries.iter().map(|entry| subject(&expecting, entry, choices)).collect()
}

fn subject(expecting: &Expecting<'_>, entry: &Entry, choices: Choices) -> Result<Subject, SourceError> {
    let place = |line| Place::new(expecting.0, line);
    let mut branch = Branch::new(place(entry.line));
    let mut subject = Subject::new(&entry.key, place(entry.line));
    subject.timeout = Some(TIMEOUT);
    if choices.every_database {
        subject.scope = Scope::Database;
    }
    let mut metrics = None;
    for key in expecting.map(entry, "a query and its metrics")? {
        let mut note = |reason: &str| subject.notes.push(Note { place: place(key.line), reason: reason.to_owned() });
        match key.key.as_str() {
            "query" => branch.sql = expecting.text(key)?,
            "cache_seconds" => subject.fresh_for = Some(expecting.number(key)?),
            "master" => {
                if expecting.flag(key)? {
                    subject.scope = Scope::Server;
                }
            }
            "runonserver" => match majors_in(&expecting.text(key)?) {
                Ok(majors) => branch.majors = majors,
                Err(reason) => return Err(expecting.mistake(key.line, format!("runonserver: {reason}"))),
            },
            "metrics" => metrics = Some(key),
            _ => note("a key that means nothing to postgres_exporter"),
        }
    }
    if let Some(key) = metrics {
        for item in expecting.list(key, "a list of columns")? {
            for column in expecting.entries(item, key.line, "columns with their usage")? {
                match self::column(expecting, &entry.key, &branch.sql, column)? {
                    Ok(read) => branch.columns.extend(read),
                    Err(reason) => subject.notes.push(Note { place: place(column.line), reason }),
                }
            }
        }
    }
    if branch.sql.trim().is_empty() {
        // Its way to switch a built-in query off.
        let reason = "has no query; to switch a collector off put a file of its name with only a help into checks.d";
        subject.notes.push(Note { place: place(entry.line), reason: reason.to_owned() });
    } else {
        subject.notes.extend(arrays::spread(&mut branch));
        subject.branches.push(branch);
    }
    Ok(subject)
}

/// A column, none if it is not used, or why it cannot be had.
type Read = Result<Option<Column>, String>;

fn column(expecting: &Expecting<'_>, namespace: &str, sql: &str, entry: &Entry) -> Result<Read, SourceError> {
    let (mut usage, mut help, mut mapping, mut unknown) = (None, String::new(), None, None);
    for key in expecting.map(entry, "usage and description")? {
        match key.key.as_str() {
            "usage" => usage = Some(expecting.text(key)?),
            "description" => help = expecting.text(key)?,
            "metric_mapping" => mapping = Some(self::mapping(expecting, key)?),
            "supported_versions" | "pg_version" => {}
            _ => unknown = Some(key),
        }
    }
    let expected = "DISCARD, LABEL, COUNTER, GAUGE, MAPPEDMETRIC, DURATION or HISTOGRAM";
    let usage = usage.ok_or_else(|| expecting.mistake(entry.line, format!("usage: expected {expected}")))?;
    if let Some(key) = unknown {
        let name = yaml::shortened(&key.key);
        return Err(expecting.mistake(key.line, format!("`{name}`: expected usage, description or metric_mapping")));
    }
    let name = entry.key.clone();
    if help.trim().is_empty() {
        help = format!("Column {name} of the query");
    }
    let metric = format!("{namespace}_{name}");
    let value = |kind| Usage::Value { metric, kind, help, labels: None, buckets: Vec::new() };
    let place = Place::new(expecting.0, entry.line);
    let column = |expression, usage| Column { place: place.clone(), name: name.clone(), expression, usage };
    let read = match usage.trim() {
        "DISCARD" => Ok(None),
        "LABEL" => Ok(Some(column(None, Usage::Label(name.clone())))),
        "COUNTER" => Ok(Some(column(epoch_of(sql, &name), value(Kind::Counter)))),
        "GAUGE" => Ok(Some(column(epoch_of(sql, &name), value(Kind::Gauge)))),
        "MAPPEDMETRIC" => match mapping {
            Some(cases) if !cases.is_empty() => {
                let expression = format!("CASE q.{} {cases} END", identifier(&name));
                Ok(Some(column(Some(expression), value(Kind::Gauge))))
            }
            _ => Err(format!("{name} has no metric_mapping that says which number stands for which text")),
        },
        "DURATION" => Err(format!(
            "{name} is a text such as 1h30m, which SQL cannot read: select seconds, as EXTRACT(EPOCH FROM an interval)"
        )),
        "HISTOGRAM" => Ok(Some(column(None, value(Kind::Histogram)))),
        _ => return Err(expecting.mistake(entry.line, format!("usage: expected {expected}"))),
    };
    Ok(read)
}

/// The cases of an expression that gives the number of each text.
fn mapping(expecting: &Expecting<'_>, entry: &Entry) -> Result<String, SourceError> {
    let cases = expecting.map(entry, "texts with their numbers")?.iter().map(|case| {
        let number = expecting.number(case)?;
        Ok(format!("WHEN {} THEN {number}", literal(&case.key)))
    });
    Ok(cases.collect::<Result<Vec<_>, _>>()?.join(" "))
}

/// Both exporters make a moment seconds since the epoch, whichever column it comes in. SQL has to be asked, and only its
/// name says that a column may hold one.
pub(super) fn epoch_of(sql: &str, name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    let ends = ["_at", "_since", "_start", "_reset", "_timestamp", "_ts", "_date"];
    // Of these a `_time` is one that something took.
    let took = "read write sync exec total plan io lag wait blk vacuum analyze active idle session delay elapsed self cpu \
                user sys gen inlining optimization emission deform mean max min stddev avg writeback extend fsync \
                autovacuum autoanalyze";
    let took = |word: &str| took.split_whitespace().any(|known| known == word);
    let may_be_moment = lower.starts_with("last_")
        || lower.contains("_last_")
        || ends.iter().any(|end| lower.ends_with(end))
        || (lower.ends_with("_time") && !lower.split('_').any(took))
        || ["time", "timestamp", "date"].contains(&lower.as_str());
    let may_be_moment = may_be_moment && !is_epoch(sql, name);
    let column = identifier(name);
    may_be_moment.then(|| {
        format!(
            "CASE WHEN pg_catalog.pg_typeof(q.{column})::pg_catalog.text ~ '^(timestamp|date)'\n            \
             THEN EXTRACT(EPOCH FROM q.{column}::pg_catalog.text::pg_catalog.timestamptz)\n            \
             ELSE q.{column}::pg_catalog.text::pg_catalog.float8 END"
        )
    })
}
