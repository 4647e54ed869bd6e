//! collectd's `postgresql` plugin (its `postgresql.c` and `db_query.c`): queries whose columns become values of collectd's types,
//! and the databases that they are asked in. A metric is named after the query and the type, and the label `type` is what
//! collectd calls the type instance.

mod servers;
mod syntax;
mod types;

use super::branch::{Branch, Column, Majors, Note, Place, Subject, Usage};
use super::pivot::{self, Pivot};
use super::statement::{self, literal};
use crate::catalog::{Role, Scope};
use crate::metric::Kind;
use crate::source::{Source, SourceError};
use servers::Database;
use syntax::Item;

/// It had no limit.
const TIMEOUT: f64 = 30.0;
/// What a `<Database>` without a `Query` asks.
const USUAL: [&str; 7] =
    ["backends", "transactions", "queries", "query_plans", "table_states", "disk_io", "disk_usage"];

/// What a file says: subjects, servers as a part of the configuration, and what has no place in either.
#[derive(Default)]
pub(super) struct Read {
    pub(super) subjects: Vec<Subject>,
    pub(super) servers: String,
    pub(super) notes: Vec<Note>,
}

/// Reads files as one configuration.
pub(super) fn read(sources: &[Source]) -> Result<Read, SourceError> {
    let mut read = Read::default();
    let mut queries: Vec<(&Source, Item)> = Vec::new();
    let mut databases: Vec<Database> = Vec::new();
    for source in sources {
        for item in syntax::read(source)? {
            let is_plugin = item.is("Plugin") && item.value().eq_ignore_ascii_case("postgresql");
            let inside = if is_plugin { item.items.clone() } else { vec![item.clone()] };
            for inner in inside {
                let place = Place::new(source, inner.line);
                if inner.is("Query") {
                    queries.push((source, inner));
                } else if inner.is("Database") {
                    databases.push(Database::read(source, &inner, &mut read.notes)?);
                } else if inner.is("Writer") {
                    let reason = "nothing is written to PostgreSQL here".to_owned();
                    read.notes.push(Note { place, reason });
                } else if inner.is("Include") {
                    let reason = "name this file too: what it includes is not looked up".to_owned();
                    read.notes.push(Note { place, reason });
                } else if is_plugin {
                    let reason = "a key that means nothing to collectd's postgresql plugin".to_owned();
                    read.notes.push(Note { place, reason });
                }
            }
        }
    }
    for (source, item) in &queries {
        let subject = subject(source, item, &databases)?;
        match read.subjects.iter_mut().find(|other| other.name == subject.name) {
            Some(other) => {
                other.branches.extend(subject.branches);
                let known: Vec<String> = other.notes.iter().map(|note| note.reason.clone()).collect();
                other.notes.extend(subject.notes.into_iter().filter(|note| !known.contains(&note.reason)));
            }
            None => read.subjects.push(subject),
        }
    }
    let known = |name: &str| queries.iter().any(|(_, item)| item.value().eq_ignore_ascii_case(name));
    for database in &databases {
        for name in database.queries.iter().filter(|name| !known(name)) {
            let reason = format!("asks the query {name}, which is in none of these files");
            read.notes.push(Note { place: database.place.clone(), reason });
        }
    }
    read.servers = servers::configuration(&databases);
    Ok(read)
}

fn subject(source: &Source, item: &Item, databases: &[Database]) -> Result<Subject, SourceError> {
    let wrong =
        |line: usize, reason: &str| SourceError::Mistake { file: source.file.clone(), line, reason: reason.to_owned() };
    let name = item.value();
    if name.is_empty() {
        return Err(wrong(item.line, "Query: expected a name"));
    }
    let place = Place::new(source, item.line);
    let mut subject = Subject::new(&format!("collectd_{name}"), place.clone());
    subject.timeout = Some(TIMEOUT);
    let asking: Vec<&Database> = databases.iter().filter(|database| database.asks(name)).collect();
    match asking.as_slice() {
        // The queries that collectd brings along, as a file of their own.
        [] if databases.is_empty() => subject.scope = Scope::Database,
        [] => {
            subject.notes.push(Note { place, reason: "no <Database> asks it".to_owned() });
            return Ok(subject);
        }
        // The one that the server's DSN names.
        [_] if databases.len() == 1 => {}
        several => {
            subject.scope = Scope::Database;
            let mut names: Vec<String> = several.iter().map(|database| database.name.clone()).collect();
            names.sort();
            names.dedup();
            subject.databases = Some(names);
        }
    }
    let intervals = asking.iter().filter_map(|database| database.interval);
    subject.fresh_for = intervals.reduce(f64::min);
    let (mut sql, mut parameters, mut from, mut until) = (String::new(), Vec::new(), 0, 0);
    let (mut results, mut instance) = (Vec::new(), None);
    for key in &item.items {
        let number = || key.value().parse::<u32>().map_err(|_| wrong(key.line, "expected a number such as 90600"));
        let place = Place::new(source, key.line);
        match key.key.to_lowercase().as_str() {
            "statement" => key.value().clone_into(&mut sql),
            "param" => parameters.push(parameter(key, &asking).ok_or_else(|| {
                wrong(key.line, "Param: expected hostname, database, username, interval or instance")
            })?),
            "minversion" => from = number()?,
            "maxversion" => until = number()?.saturating_add(1),
            "plugininstancefrom" => instance = Some(key.value().to_lowercase()),
            "result" => results.push(key),
            _ => subject.notes.push(Note { place, reason: "a key that means nothing in a Query".to_owned() }),
        }
    }
    if sql.trim().is_empty() {
        return Err(wrong(item.line, "expected a Statement"));
    }
    let sql = statement::with_parameters(&sql, &parameters);
    let majors = Majors::between(from, until);
    let (joined, columns) = (String::new(), Vec::new());
    let mut branch = Branch { place: place.clone(), majors, role: Role::Any, sql, joined, columns };
    match pivoted(&mut branch, (source, name), &results, instance.as_ref(), &mut subject.notes) {
        Ok(()) => {
            let reason = "in Graphite no longer HOST.postgresql-INSTANCE.TYPE-NAME but HOST.SERVER.METRIC.NAME, and the \
                          number itself where collectd stored its rate";
            subject.notes.insert(0, Note { place, reason: reason.to_owned() });
            subject.branches.push(branch);
        }
        Err(reason) => subject.notes.push(Note { place, reason }),
    }
    Ok(subject)
}

/// What collectd puts in the place of `$1` and so on.
fn parameter(key: &Item, asking: &[&Database]) -> Option<String> {
    let first = asking.first();
    Some(match key.value().to_lowercase().as_str() {
        "database" => "pg_catalog.current_database()".to_owned(),
        "username" => "CURRENT_USER".to_owned(),
        "hostname" => literal(first.and_then(|database| database.host.as_deref()).unwrap_or("localhost")),
        "interval" => literal(&format!("{:.3}", first.and_then(|database| database.interval).unwrap_or(10.0))),
        "instance" => match asking {
            [only] => literal(&only.instance),
            _ => "pg_catalog.current_database()".to_owned(),
        },
        _ => return None,
    })
}

/// A value that a result gives.
struct Value {
    metric: String,
    kind: Kind,
    /// The expression of the label `type`; none if it has none.
    r#type: Option<String>,
    column: String,
    place: Place,
    /// What is said of the metric.
    collectd_type: String,
}

/// The label that collectd's type instance becomes, and that of its plugin instance.
const TYPE: &str = "type";
const PLUGIN: &str = "postgresql";

/// Makes one row of each result.
fn pivoted(
    branch: &mut Branch,
    (source, query): (&Source, &str),
    results: &[&Item],
    instance: Option<&String>,
    notes: &mut Vec<Note>,
) -> Result<(), String> {
    let mut values: Vec<Value> = Vec::new();
    for result in results {
        values.extend(read_result((source, query), result, &branch.sql, notes));
    }
    if values.is_empty() {
        return Err("it has no results".to_owned());
    }
    let mut metrics: Vec<&Value> = Vec::new();
    for value in &values {
        if !metrics.iter().any(|known| known.metric == value.metric) {
            metrics.push(value);
        }
    }
    let has_type = values.iter().any(|value| value.r#type.is_some());
    let columns: Vec<String> = (0..metrics.len()).map(|at| format!("value_{}", at + 1)).collect();
    let rows = values.iter().map(|value| {
        let of_type = value.r#type.clone().unwrap_or_else(|| "''".to_owned());
        let numbers = metrics.iter().map(|metric| {
            let is_this = metric.metric == value.metric;
            if is_this { pivot::number(&value.column) } else { "NULL".to_owned() }
        });
        has_type.then_some(of_type).into_iter().chain(numbers).collect::<Vec<_>>()
    });
    let pivot = Pivot {
        kept: instance.into_iter().cloned().collect(),
        made: has_type.then(|| TYPE.to_owned()).into_iter().chain(columns.iter().cloned()).collect(),
        rows: rows.collect(),
    };
    let sql = pivot.statement(&branch.sql);
    branch.sql =
        sql.ok_or("expected one SELECT: its columns become rows, and only a SELECT can be put into another one")?;
    let column =
        |name: &str, usage| Column { place: branch.place.clone(), name: name.to_owned(), expression: None, usage };
    if let Some(instance) = instance {
        branch.columns.push(column(instance, Usage::Label(PLUGIN.to_owned())));
    }
    if has_type {
        branch.columns.push(column(TYPE, Usage::Label(TYPE.to_owned())));
    }
    for (metric, name) in metrics.iter().zip(&columns) {
        let plugin = instance.into_iter().map(|_| PLUGIN.to_owned());
        let of_type = values.iter().any(|value| value.metric == metric.metric && value.r#type.is_some());
        let labels = plugin.chain(of_type.then(|| TYPE.to_owned())).collect();
        let total = if metric.kind == Kind::Counter { ", the number that it makes a rate of" } else { "" };
        let help = format!("Values of collectd's type {}{total}", metric.collectd_type);
        let (name_of, kind) = (metric.metric.clone(), metric.kind);
        let usage = Usage::Value { metric: name_of, kind, help, labels: Some(labels), buckets: Vec::new() };
        branch.columns.push(Column { place: metric.place.clone(), ..column(name, usage) });
    }
    Ok(())
}

fn read_result((source, query): (&Source, &str), result: &Item, sql: &str, notes: &mut Vec<Note>) -> Vec<Value> {
    let place = Place::new(source, result.line);
    let (mut name, mut prefix, mut instances, mut columns) = (String::new(), None, Vec::new(), Vec::new());
    let mut note = |line: usize, reason: String| notes.push(Note { place: Place::new(source, line), reason });
    for key in &result.items {
        // Columns are found in any case.
        let lower = || key.values.iter().map(|value| value.to_lowercase());
        match key.key.to_lowercase().as_str() {
            "type" => key.value().clone_into(&mut name),
            "instanceprefix" => prefix = Some(key.value()),
            "instancesfrom" => instances.extend(lower()),
            "valuesfrom" => columns.extend(lower()),
            "metadatafrom" => note(key.line, "metadata went into no graph, and is no label here".to_owned()),
            _ => note(key.line, "a key that means nothing in a Result".to_owned()),
        }
    }
    let Some(known) = types::values(&name) else {
        note(result.line, format!("the type {name:.60} is not known here: is it a gauge or a counter?"));
        return Vec::new();
    };
    if known.len() != columns.len() {
        note(result.line, format!("the type {name:.60} has {} values, and ValuesFrom {}", known.len(), columns.len()));
        return Vec::new();
    }
    if let Some(missing) = columns.iter().chain(&instances).find(|column| !statement::may_return(sql, column)) {
        note(result.line, format!("the query returns no column {missing:.60}"));
        return Vec::new();
    }
    let of_type = type_instance(prefix, &instances);
    let values = known.into_iter().zip(columns).map(|((of, kind), column)| {
        let of = if of == "value" { String::new() } else { format!("_{of}") };
        let total = if kind == Kind::Counter { "_total" } else { "" };
        Value {
            // Many queries share a type, and a metric has one definition.
            metric: format!("collectd_{}_{}{of}{total}", statement::plain(query), statement::plain(&name)),
            kind,
            r#type: of_type.clone(),
            column,
            place: place.clone(),
            collectd_type: name.clone(),
        }
    });
    values.collect()
}

/// The expression of what collectd calls the type instance: the prefix and the columns, with `-` between them.
fn type_instance(prefix: Option<&str>, instances: &[String]) -> Option<String> {
    let mut parts: Vec<String> = prefix.map(literal).into_iter().collect();
    for instance in instances {
        if !parts.is_empty() {
            parts.push("'-'".to_owned());
        }
        parts.push(format!("q.{}", statement::identifier(instance)));
    }
    match parts.as_slice() {
        [] => None,
        [only] if instances.is_empty() => Some(only.clone()),
        _ => Some(format!("pg_catalog.concat({})", parts.join(", "))),
    }
}
