//! Collectors of `pg_exporter` (pgsty; its `query.go`, `column.go` and `server.go`): a map from branches to queries. Branches of
//! one name are one subject for different versions or roles.

use super::branch::{Branch, Column, Majors, Note, Place, Subject, Usage};
use super::postgres_exporter::epoch_of;
use super::statement::identifier;
use super::yaml::{self, Entry, Expecting};
use crate::catalog::{Role, Scope, wrong_bounds};
use crate::metric::Kind;
use crate::source::{Source, SourceError};

/// For a query whose limit was switched off.
const NO_TIMEOUT: f64 = 30.0;

/// Reads a file, and puts its branches beside those of other files.
pub(super) fn read(source: &Source, subjects: &mut Vec<Subject>) -> Result<(), SourceError> {
    let expecting = Expecting(source);
    let root = yaml::read(source)?;
    for entry in expecting.entries(&root, 1, "branches, each with its query and metrics")? {
        let mut subject = subject(&expecting, entry)?;
        let alike = subjects.iter_mut().find(|other| {
            let is_asked_alike = other.scope == subject.scope && other.databases == subject.databases;
            other.name == subject.name && other.extension == subject.extension && is_asked_alike
        });
        match alike {
            Some(other) => {
                other.branches.append(&mut subject.branches);
                other.notes.append(&mut subject.notes);
                other.fresh_for = other.fresh_for.or(subject.fresh_for);
                other.timeout = other.timeout.or(subject.timeout);
            }
            None => subjects.push(subject),
        }
    }
    Ok(())
}

fn subject(expecting: &Expecting<'_>, entry: &Entry) -> Result<Subject, SourceError> {
    let place = |line| Place::new(expecting.0, line);
    let mut subject = Subject::new(&entry.key, place(entry.line));
    let mut branch = Branch::new(place(entry.line));
    // In every database, unless it says otherwise.
    subject.scope = Scope::Database;
    let (mut from, mut until, mut metrics, mut hindrance) = (0, 0, None, None);
    for key in expecting.map(entry, "a query and its metrics")? {
        let mut note = |reason: &str| subject.notes.push(Note { place: place(key.line), reason: reason.to_owned() });
        let mut hinder = |reason: String| {
            hindrance.get_or_insert(Note { place: place(key.line), reason });
        };
        match key.key.as_str() {
            "name" => subject.name = Some(expecting.text(key)?).filter(|name| !name.is_empty()).unwrap_or(subject.name),
            "desc" => subject.help = expecting.text(key)?,
            "query" => branch.sql = expecting.text(key)?,
            "ttl" => subject.fresh_for = Some(expecting.number(key)?),
            "timeout" => {
                let timeout = expecting.number(key)?;
                subject.timeout = if timeout < 0.0 { Some(NO_TIMEOUT) } else { Some(timeout).filter(|it| *it > 0.0) };
            }
            "min_version" => from = version(expecting, key)?,
            "max_version" => until = version(expecting, key)?,
            "tags" => {
                for tag in expecting.words(key)? {
                    if let Some(reason) = apply(&tag, &mut subject, &mut branch) {
                        hindrance.get_or_insert(Note { place: place(key.line), reason });
                    }
                }
            }
            "skip" if expecting.flag(key)? => hinder("was switched off".to_owned()),
            "fatal" if expecting.flag(key)? => note("one collector that fails takes no other with it here"),
            "skip" | "fatal" | "priority" => {}
            "predicate_queries" => {
                let reason = "is asked only when another query says so, which a definition cannot ask for";
                hinder(reason.to_owned());
            }
            "metrics" => metrics = Some(key),
            _ => note("a key that means nothing to pg_exporter"),
        }
    }
    if branch.sql.trim().is_empty() {
        return Err(expecting.mistake(entry.line, "expected a query"));
    }
    branch.majors = Majors::between(from, until);
    let metrics = metrics.ok_or_else(|| expecting.mistake(entry.line, "expected metrics"))?;
    for item in expecting.list(metrics, "a list of columns")? {
        for column in expecting.entries(item, metrics.line, "columns with their usage")? {
            match self::column(expecting, &subject.name, &branch.sql, column)? {
                Ok(read) => branch.columns.extend(read),
                Err(reason) => subject.notes.push(Note { place: place(column.line), reason }),
            }
        }
    }
    match hindrance {
        None => subject.branches.push(branch),
        Some(Note { place, reason }) => {
            subject.notes.push(Note { place, reason: format!("{} {reason}", entry.key) });
        }
    }
    Ok(subject)
}

fn version(expecting: &Expecting<'_>, key: &Entry) -> Result<u32, SourceError> {
    let version = expecting.text(key)?;
    let expected = || expecting.mistake(key.line, format!("{}: expected a number such as 130000", key.key));
    version.trim().parse().map_err(|_| expected())
}

/// Says where the query is asked; gives the reason why it cannot be.
fn apply(tag: &str, subject: &mut Subject, branch: &mut Branch) -> Option<String> {
    let named = |prefix: &str| tag.strip_prefix(prefix).map(str::to_owned);
    match tag {
        "cluster" => subject.scope = Scope::Server,
        "primary" | "master" => branch.role = Role::Primary,
        "standby" | "replica" => branch.role = Role::Standby,
        "pgbouncer" => return Some("asks PgBouncer, which is no server".to_owned()),
        _ => {
            if let Some(name) = named("extension:") {
                if subject.extension.is_some() {
                    return Some(format!("needs two extensions, {name} is one too many for a definition"));
                }
                subject.extension = Some(name);
            } else if let Some(name) = named("dbname:") {
                subject.scope = Scope::Database;
                subject.databases = Some(vec![name]);
            } else if let Some(name) = named("schema:") {
                return Some(format!("is asked where there is a schema {name}, which a definition cannot ask for"));
            } else if let Some(name) = named("username:") {
                return Some(format!("is asked as {name} only, which a definition cannot say"));
            } else if named("not:").is_none() {
                return Some(format!("is asked where pg_exporter was started with the tag {tag} only"));
            }
        }
    }
    None
}

/// A column, none if it is not used, or why it cannot be had.
type Read = Result<Option<Column>, String>;

fn column(expecting: &Expecting<'_>, prefix: &str, sql: &str, entry: &Entry) -> Result<Read, SourceError> {
    let mut name = entry.key.clone();
    let (mut usage, mut rename, mut help) = (None, None, String::new());
    let (mut scale, mut default, mut buckets) = (None, None, None);
    for key in expecting.map(entry, "usage and description")? {
        match key.key.as_str() {
            "name" => name = expecting.text(key)?,
            "usage" => usage = Some(expecting.text(key)?),
            "rename" => rename = Some(expecting.text(key)?).filter(|text| !text.is_empty()),
            "description" => help = expecting.text(key)?,
            "scale" => scale = Some(expecting.number(key)?),
            "default" => default = Some(expecting.number(key)?),
            "bucket" => buckets = Some(bounds(expecting, key)?),
            _ => {
                let name = yaml::shortened(&key.key);
                let expected = "expected usage, rename, default, scale, bucket or description";
                return Err(expecting.mistake(key.line, format!("`{name}`: {expected}")));
            }
        }
    }
    let expected = "DISCARD, LABEL, COUNTER, GAUGE or HISTOGRAM";
    let usage = usage.ok_or_else(|| expecting.mistake(entry.line, format!("usage: expected {expected}")))?;
    if help.trim().is_empty() {
        help = format!("Column {name} of the query");
    }
    let shown = rename.unwrap_or_else(|| name.clone());
    let place = Place::new(expecting.0, entry.line);
    let metric = format!("{prefix}_{shown}");
    let value = |kind, buckets| Usage::Value { metric, kind, help, labels: None, buckets };
    let (usage, expression) = match usage.trim().to_uppercase().as_str() {
        "DISCARD" => return Ok(Ok(None)),
        "LABEL" => (Usage::Label(shown), None),
        "COUNTER" => (value(Kind::Counter, Vec::new()), expression(sql, &name, scale, default)),
        "GAUGE" => (value(Kind::Gauge, Vec::new()), expression(sql, &name, scale, default)),
        "HISTOGRAM" => {
            let missing =
                || expecting.mistake(entry.line, "bucket: expected the upper bounds that a HISTOGRAM counts by");
            let buckets = buckets.ok_or_else(missing)?;
            if let Some(reason) = wrong_bounds(&buckets) {
                return Ok(Err(format!("bucket: {reason}; what is above them is counted in +Inf anyway")));
            }
            (value(Kind::Histogram, buckets), expression(sql, &name, scale, default))
        }
        _ => return Err(expecting.mistake(entry.line, format!("usage: expected {expected}"))),
    };
    Ok(Ok(Some(Column { place, name, expression, usage })))
}

fn bounds(expecting: &Expecting<'_>, key: &Entry) -> Result<Vec<f64>, SourceError> {
    let expected = || expecting.mistake(key.line, "bucket: expected a list of numbers");
    let bounds = expecting.words(key)?;
    bounds.iter().map(|bound| bound.trim().parse().map_err(|_| expected())).collect()
}

/// The value with its default, and then its factor.
fn expression(sql: &str, name: &str, scale: Option<f64>, default: Option<f64>) -> Option<String> {
    let moment = epoch_of(sql, name);
    let column = format!("q.{}", identifier(name));
    let value = match (&moment, default) {
        (None, None) => column,
        // The type of the column is that of the default too.
        (None, Some(default)) if default.fract() == 0.0 => format!("COALESCE({column}, '{default}')"),
        (None, Some(default)) => format!("COALESCE({column}::pg_catalog.float8, {default})"),
        (Some(moment), None) => moment.clone(),
        (Some(moment), Some(default)) => format!("COALESCE({moment}, {default})"),
    };
    match scale {
        Some(scale) if moment.is_none() => Some(format!("{value} * {scale}")),
        _ => (moment.is_some() || default.is_some()).then_some(value),
    }
}
