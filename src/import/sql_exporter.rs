//! Queries of `sql_exporter` (justwatch; its `config.go`, `query.go` and `job.go`), also as Elephant Shed keeps them: a list of
//! queries without jobs. The metric of a query is `sql_NAME`, and the label `col` says which column a value is of.

use std::collections::BTreeMap;

use super::branch::{Branch, Column, Majors, Note, Place, Subject, Usage};
use super::pattern;
use super::pivot::{self, Pivot};
use super::statement::{is_plain, literal, may_return};
use super::versions::seconds;
use super::yaml::{self, Entry, Expecting, Node};
use crate::catalog::Scope;
use crate::metric::Kind;
use crate::server::{matches, parse_dsn};
use crate::source::{Source, SourceError};

/// It had no limit.
const TIMEOUT: f64 = 30.0;
/// The label that says which column a value is of.
const COL: &str = "col";

/// What the queries of a job have in common.
struct Job {
    place: Place,
    scope: Scope,
    databases: Option<Vec<String>>,
    interval: Option<f64>,
    /// What its iterator puts into queries.
    placeholder: Option<String>,
    notes: Vec<Note>,
    /// Why its queries cannot be asked.
    hindrance: Option<Note>,
}

/// Reads a file, and puts its queries beside those of other files.
pub(super) fn read(source: &Source, subjects: &mut Vec<Subject>) -> Result<(), SourceError> {
    let expecting = Expecting(source);
    let root = yaml::read(source)?;
    let nothing = |place| Job {
        place,
        scope: Scope::Server,
        databases: None,
        interval: None,
        placeholder: None,
        notes: Vec::new(),
        hindrance: None,
    };
    let mut queries = BTreeMap::new();
    if let Node::List(items) = &root {
        let job = nothing(Place::new(source, 1));
        for item in items {
            add(subjects, query(&expecting, item, 1, &job, &queries)?);
        }
        return Ok(());
    }
    let mut jobs = None;
    for entry in expecting.entries(&root, 1, "jobs, or a list of queries")? {
        match entry.key.as_str() {
            "jobs" => jobs = Some(expecting.list(entry, "a list of jobs")?),
            "queries" => {
                for named in expecting.map(entry, "names of queries, each with its text")? {
                    queries.insert(named.key.clone(), expecting.text(named)?);
                }
            }
            _ => {}
        }
    }
    // Another program of this name has collectors, each metric with its own query.
    let jobs = jobs.ok_or_else(|| expecting.mistake(1, "expected jobs, as justwatch's sql_exporter has them"))?;
    for item in jobs {
        let entries = expecting.entries(item, 1, "a job with its queries")?;
        let first = entries.first().map_or(1, |entry| entry.line);
        let mut job = nothing(Place::new(source, first));
        let mut asked: &[Node] = &[];
        let mut line = first;
        for entry in entries {
            match entry.key.as_str() {
                "queries" => (asked, line) = (expecting.list(entry, "a list of queries")?, entry.line),
                _ => job.take(&expecting, entry)?,
            }
        }
        for item in asked {
            add(subjects, query(&expecting, item, line, &job, &queries)?);
        }
    }
    Ok(())
}

impl Job {
    fn take(&mut self, expecting: &Expecting<'_>, entry: &Entry) -> Result<(), SourceError> {
        let place = Place::new(expecting.0, entry.line);
        let mut note = |reason: &str| self.notes.push(Note { place: place.clone(), reason: reason.to_owned() });
        match entry.key.as_str() {
            "name" | "keepalive" => {}
            "interval" => self.interval = Some(interval(expecting, entry)?),
            "cron_schedule" => note("is asked when somebody reads, not by the clock"),
            "startup_sql" => note("sessions have limits of their own: nothing is said before the query"),
            "connections" => self.connect(expecting, entry)?,
            "iterator" => {
                for key in expecting.map(entry, "sql, placeholder and label")? {
                    if key.key == "placeholder" {
                        self.placeholder = Some(expecting.text(key)?);
                    }
                }
            }
            _ => note("a key that means nothing here"),
        }
        Ok(())
    }

    /// What is known of the databases from connection strings; they may hold passwords and are not repeated.
    fn connect(&mut self, expecting: &Expecting<'_>, entry: &Entry) -> Result<(), SourceError> {
        let place = Place { text: String::new(), ..Place::new(expecting.0, entry.line) };
        let mut databases = Vec::new();
        let mut others = 0;
        let dsns = expecting.words(entry)?;
        for dsn in &dsns {
            match dsn.split_once("://") {
                Some((scheme, _)) if !["postgres", "postgresql"].contains(&scheme.trim()) => others += 1,
                _ => {
                    let named =
                        parse_dsn(dsn).ok().and_then(|keywords| keywords.get("dbname").map(ToString::to_string));
                    databases.extend(named.filter(|name| !name.contains(['*', '?', '{'])));
                }
            }
        }
        if others > 0 && others == dsns.len() {
            let reason = "its connections are not PostgreSQL's".to_owned();
            self.hindrance = Some(Note { place, reason });
            return Ok(());
        }
        let reason = "its connections are not carried over: [[server]] names the servers".to_owned();
        self.notes.push(Note { place, reason });
        databases.sort();
        databases.dedup();
        if databases.iter().any(|name| name != "postgres") {
            self.scope = Scope::Database;
            self.databases = Some(databases);
        }
        Ok(())
    }
}

fn interval(expecting: &Expecting<'_>, entry: &Entry) -> Result<f64, SourceError> {
    let text = expecting.text(entry)?;
    let expected = || expecting.mistake(entry.line, "interval: expected a time such as 5m or 1h30m");
    seconds(text.trim()).ok_or_else(expected)
}

/// A query of several versions, or one that several jobs ask, is one subject.
fn add(subjects: &mut Vec<Subject>, mut subject: Subject) {
    let alike = subjects.iter_mut().find(|other| {
        other.name == subject.name && other.scope == subject.scope && other.databases == subject.databases
    });
    match alike {
        Some(other) => {
            let known =
                |branch: &Branch| other.branches.iter().any(|it| it.sql == branch.sql && it.majors == branch.majors);
            subject.branches.retain(|branch| !known(branch));
            other.branches.append(&mut subject.branches);
            other.notes.append(&mut subject.notes);
        }
        None => subjects.push(subject),
    }
}

fn query(
    expecting: &Expecting<'_>,
    item: &Node,
    line: usize,
    job: &Job,
    queries: &BTreeMap<String, String>,
) -> Result<Subject, SourceError> {
    let entries = expecting.entries(item, line, "a query with name, labels, values and query")?;
    let line = entries.first().map_or(line, |entry| entry.line);
    let place = |line| Place::new(expecting.0, line);
    let named = entries.iter().find(|entry| entry.key == "name");
    let name = named.map(|entry| expecting.text(entry)).transpose()?.unwrap_or_default();
    if name.trim().is_empty() {
        return Err(expecting.mistake(line, "expected a name"));
    }
    let mut subject = Subject::new(&format!("sql_{name}"), place(line));
    (subject.scope, subject.databases) = (job.scope, job.databases.clone());
    (subject.fresh_for, subject.timeout) = (job.interval, Some(TIMEOUT));
    subject.notes.clone_from(&job.notes);
    let mut hindrance = job.hindrance.clone();
    let (mut sql, mut labels, mut values, mut kind, mut help) = (String::new(), None, None, Kind::Gauge, String::new());
    let (mut from, mut until, mut majors) = (0, u32::MAX, None);
    for entry in entries {
        let mut note = |reason: &str| subject.notes.push(Note { place: place(entry.line), reason: reason.to_owned() });
        let mut hinder = |reason: &str| {
            hindrance.get_or_insert(Note { place: place(entry.line), reason: reason.to_owned() });
        };
        match entry.key.as_str() {
            "name" | "allow_zero_rows" => {}
            "help" => help = expecting.text(entry)?,
            "labels" => labels = Some((entry.line, expecting.words(entry)?)),
            "values" => values = Some((entry.line, expecting.words(entry)?)),
            "query" => sql = expecting.text(entry)?,
            "query_ref" => {
                let name = expecting.text(entry)?;
                match queries.get(&name) {
                    Some(text) if sql.is_empty() => sql.clone_from(text),
                    Some(_) => {}
                    None => return Err(expecting.mistake(entry.line, "query_ref: expected the name of a query")),
                }
            }
            "timestamp" => note("samples have no time of their own here"),
            // Elephant Shed's keys.
            "scope" => match expecting.text(entry)?.as_str() {
                "database" => subject.scope = Scope::Database,
                "cluster" => subject.scope = Scope::Server,
                _ => return Err(expecting.mistake(entry.line, "scope: expected cluster or database")),
            },
            "type" => match expecting.text(entry)?.as_str() {
                "counter" => kind = Kind::Counter,
                "gauge" => {}
                _ => return Err(expecting.mistake(entry.line, "type: expected counter or gauge")),
            },
            "min_version" => from = major(expecting, entry)?,
            "max_version" => until = major(expecting, entry)?,
            "version" => match pattern::globs(&expecting.text(entry)?) {
                Some(globs) => {
                    let fits = |major: u32| globs.iter().any(|glob| matches(glob, &major.to_string()));
                    majors = Some(Majors::where_true(fits));
                }
                None => hinder("is for versions that a pattern chooses, which a definition cannot say"),
            },
            "database" => match pattern::globs(&expecting.text(entry)?) {
                Some(globs) => subject.databases = Some(globs),
                None => hinder("is asked in databases that a pattern chooses, which `databases` cannot say"),
            },
            "cluster" => hinder("is asked in some clusters only: put it into the checks.d of those"),
            "interval" => subject.fresh_for = Some(interval(expecting, entry)?),
            _ => note("a key that means nothing here"),
        }
    }
    if subject.databases.is_some() {
        subject.scope = Scope::Database;
    }
    if sql.trim().is_empty() {
        return Err(expecting.mistake(line, "expected a query"));
    }
    if job.placeholder.as_ref().is_some_and(|placeholder| sql.contains(&format!("{{{{{placeholder}}}}}"))) {
        let reason = "is repeated for what another query gives, which a definition cannot ask for".to_owned();
        hindrance.get_or_insert(Note { place: job.place.clone(), reason });
    }
    if !help.trim().is_empty() {
        subject.help = help;
    }
    let majors = majors.unwrap_or_else(|| Majors::where_true(|major| major >= from && major <= until));
    let mut branch = Branch { majors, ..Branch::new(place(line)) };
    let metric = format!("sql_{}", name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>());
    if hindrance.is_none() {
        let reason = pivoted(&mut branch, &mut subject, &sql, expecting, labels, values, (metric, kind));
        hindrance = reason.map(|reason| Note { place: place(line), reason });
    }
    match hindrance {
        None => subject.branches.push(branch),
        Some(note) => subject.notes.push(note),
    }
    Ok(subject)
}

/// `9.6` is of no major that is asked; `13` and `13.4` are of 13.
fn major(expecting: &Expecting<'_>, entry: &Entry) -> Result<u32, SourceError> {
    let text = expecting.text(entry)?;
    let major = text.trim().split('.').next().and_then(|major| major.parse().ok());
    major.ok_or_else(|| expecting.mistake(entry.line, format!("{}: expected a version such as 9.6 or 13", entry.key)))
}

type Named = Option<(usize, Vec<String>)>;

/// Fills the branch; gives the reason why it cannot.
fn pivoted(
    branch: &mut Branch,
    subject: &mut Subject,
    sql: &str,
    expecting: &Expecting<'_>,
    labels: Named,
    values: Named,
    (metric, kind): (String, Kind),
) -> Option<String> {
    let mut pivot = Pivot { kept: Vec::new(), made: vec![COL.to_owned(), "value".to_owned()], rows: Vec::new() };
    let mut taken = vec![COL.to_owned(), "value".to_owned()];
    for (line, label) in labels.into_iter().flat_map(|(line, names)| names.into_iter().map(move |name| (line, name))) {
        let place = Place::new(expecting.0, line);
        if !may_return(sql, &label) {
            let reason = format!("the query returns no column {label}: the label was always empty");
            subject.notes.push(Note { place, reason });
        } else if taken.contains(&label) || !is_plain(&label) {
            let reason = format!("{label} cannot be a label beside {COL} and value");
            subject.notes.push(Note { place, reason });
        } else {
            taken.push(label.clone());
            pivot.kept.push(label.clone());
            let usage = Usage::Label(label.clone());
            branch.columns.push(Column { place, name: label, expression: None, usage });
        }
    }
    let place = Place::new(expecting.0, values.as_ref().map_or(1, |(line, _)| *line));
    for value in values.into_iter().flat_map(|(_, names)| names) {
        if may_return(sql, &value) {
            pivot.rows.push(vec![literal(&value), pivot::number(&value)]);
        } else {
            let reason = format!("the query returns no column {value}");
            subject.notes.push(Note { place: place.clone(), reason });
        }
    }
    if pivot.rows.is_empty() {
        return Some("it has no values".to_owned());
    }
    let Some(statement) = pivot.statement(sql) else {
        return Some(
            "expected one SELECT: its columns become rows, and only a SELECT can be put into another one".to_owned(),
        );
    };
    branch.sql = statement;
    let help = subject.help.clone();
    let value = Usage::Value { metric, kind, help, labels: None, buckets: Vec::new() };
    for (name, usage) in [(COL, Usage::Label(COL.to_owned())), ("value", value)] {
        branch.columns.push(Column { place: place.clone(), name: name.to_owned(), expression: None, usage });
    }
    None
}
