//! A definition that is being made, from what a file of another exporter says.

use std::collections::BTreeMap;

use super::branch::{Branch, Column, Majors, Note, Place, Subject, Usage};
use super::statement::{self, identifier, is_plain, mentions};
use super::taken::Taken;
use crate::catalog::{DATNAME, Role, Scope};
use crate::metric::Kind;

/// A definition as it will be written.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) subject: Subject,
    pub(super) role: Role,
    pub(super) queries: Vec<Asked>,
    pub(super) metrics: Vec<Shown>,
    pub(super) notes: Vec<Note>,
}

/// A query of a draft.
#[derive(Debug)]
pub(super) struct Asked {
    /// A version of the server, or of the extension.
    pub(super) since: String,
    pub(super) sql: String,
    /// Why there is nothing to ask.
    pub(super) remark: Option<&'static str>,
}

/// A metric of a draft.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) column: String,
    pub(super) help: String,
    pub(super) labels: Vec<String>,
    /// The upper bounds of a histogram; empty for what is none.
    pub(super) buckets: Vec<f64>,
}

/// The definitions of a subject: usually one, two where its queries differ by role, and none, but the reasons, where
/// nothing is left.
pub(super) fn drafts_of(mut subject: Subject, taken: &mut Taken<'_>) -> Result<Vec<Draft>, Vec<Note>> {
    let mut notes = std::mem::take(&mut subject.notes);
    if subject.scope == Scope::Database {
        ask_once_for_all(&mut subject, &mut notes);
    }
    leave_missing_columns(&mut subject, &mut notes);
    let plans = [Role::Primary, Role::Standby].map(|role| (role, plan(&subject.branches, role, &mut notes)));
    notes.dedup();
    let [(_, on_primary), (_, on_standby)] = &plans;
    let plans = if on_primary == on_standby { vec![(Role::Any, on_primary.clone())] } else { plans.to_vec() };
    let plans: Vec<_> = plans.into_iter().filter(|(_, plan)| !plan.is_empty()).collect();
    let mut drafts = Vec::new();
    let count = plans.len();
    for (role, plan) in plans {
        match draft_of(&subject, role, &plan, taken, &mut notes) {
            None => {}
            Some(mut draft) => {
                let suffix = match role {
                    Role::Primary if count > 1 => "_primary",
                    Role::Standby if count > 1 => "_standby",
                    _ => "",
                };
                draft.name = taken.name_for(&format!("{}{suffix}", subject.name));
                taken.add(&draft);
                drafts.push(draft);
            }
        }
    }
    match drafts.first_mut() {
        None => Err(notes),
        Some(first) => {
            first.notes = notes;
            Ok(drafts)
        }
    }
}

/// Rows that say of which database they are, and not that it is this one, are the same wherever they are asked for.
fn ask_once_for_all(subject: &mut Subject, notes: &mut Vec<Note>) {
    let names_database = |column: &&Column| matches!(&column.usage, Usage::Label(label) if label == DATNAME);
    let found = subject.branches.iter().find_map(|branch| {
        let column = branch.columns.iter().find(names_database)?;
        (!statement::is_of_database(&branch.sql)).then_some(column)
    });
    if let Some(column) = found {
        let reason = "the label datname is not of current_database(): asked once, for the rows of all databases";
        notes.push(Note { place: column.place.clone(), reason: reason.to_owned() });
        subject.scope = Scope::Server;
        subject.databases = None;
    }
}

/// Where a column was missing, other exporters went on without it; a definition would fail.
fn leave_missing_columns(subject: &mut Subject, notes: &mut Vec<Note>) {
    for branch in &mut subject.branches {
        let Branch { sql, columns, .. } = branch;
        columns.retain(|column| {
            let is_there = statement::may_return(sql, &column.name);
            if !is_there {
                let reason = format!("the query returns no column {}", column.name);
                notes.push(Note { place: column.place.clone(), reason });
            }
            is_there
        });
    }
}

/// From which major on which branch is asked; none where no branch is.
type Plan = Vec<(u32, Option<usize>)>;

fn plan(branches: &[Branch], role: Role, notes: &mut Vec<Note>) -> Plan {
    let mut plan = Plan::new();
    for major in Majors::each() {
        let mut fitting = branches
            .iter()
            .enumerate()
            .filter(|(_, branch)| (branch.role == Role::Any || branch.role == role) && branch.majors.contains(major));
        let first = fitting.next();
        if let (Some((_, first)), Some((_, other))) = (first, fitting.next()) {
            let reason = format!("is for versions that {} is for; that one is asked there", first.place.at);
            let note = Note { place: other.place.clone(), reason };
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        let chosen = first.map(|(at, _)| at);
        if plan.last().map_or(chosen.is_some(), |(_, last)| *last != chosen) {
            plan.push((major, chosen));
        }
    }
    for branch in branches.iter().filter(|branch| branch.majors.is_empty()) {
        let reason = "is for none of the versions that pgvitals reads: 10 and newer".to_owned();
        let note = Note { place: branch.place.clone(), reason };
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    plan
}

/// A column of a definition, and what it is of each branch.
struct Selected {
    alias: String,
    of: Vec<Option<Column>>,
}

fn draft_of(subject: &Subject, role: Role, plan: &Plan, taken: &Taken<'_>, notes: &mut Vec<Note>) -> Option<Draft> {
    let mut used: Vec<usize> = plan.iter().filter_map(|(_, at)| *at).collect();
    used.sort_unstable();
    used.dedup();
    let branches: Vec<&Branch> = used.iter().filter_map(|at| subject.branches.get(*at)).collect();
    let mut note = |place: &Place, reason: String| {
        let note = Note { place: place.clone(), reason };
        if !notes.contains(&note) {
            notes.push(note);
        }
    };
    let mut selected: Vec<Selected> = Vec::new();
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    let mut metrics: Vec<Shown> = Vec::new();
    for (at, branch) in branches.iter().enumerate() {
        for column in &branch.columns {
            let Usage::Label(written) = &column.usage else { continue };
            let Some((label, reason)) = label_name(written, subject.scope) else {
                note(&column.place, "every sample has the label datname in database scope".to_owned());
                continue;
            };
            if let Some(reason) = reason {
                note(&column.place, reason);
            }
            labels.insert(written.clone(), label.clone());
            if !order.contains(&label) {
                order.push(label.clone());
            }
            select(&mut selected, &label, at, branches.len(), column);
        }
    }
    for (at, branch) in branches.iter().enumerate() {
        for column in &branch.columns {
            let Usage::Value { metric, kind, help, labels: own, buckets } = &column.usage else { continue };
            let own = own.as_ref().map(|own| own.iter().filter_map(|name| labels.get(name).cloned()).collect());
            let shown = Shown {
                name: metric.clone(),
                kind: *kind,
                column: alias_for(column, &selected, at),
                help: help.clone(),
                labels: own.unwrap_or_else(|| order.clone()),
                buckets: buckets.clone(),
            };
            if let Some(reason) = taken.objection(&shown, role).or_else(|| shown.objection_beside(&metrics)) {
                note(&column.place, reason);
                continue;
            }
            if let Some(known) = metrics.iter().find(|known| known.name == *metric) {
                select(&mut selected, &known.column, at, branches.len(), column);
            } else {
                select(&mut selected, &shown.column, at, branches.len(), column);
                metrics.push(shown);
            }
        }
    }
    if metrics.is_empty() {
        return None;
    }
    let mut statements: BTreeMap<usize, String> = BTreeMap::new();
    for (place, (at, branch)) in used.iter().zip(&branches).enumerate() {
        match statement_of(branch, &selected, place) {
            Ok(sql) => drop(statements.insert(*at, sql)),
            Err(reason) => note(&branch.place, reason.to_owned()),
        }
    }
    let nothing = selected.iter().map(|it| format!("NULL AS {}", identifier(&it.alias))).collect::<Vec<_>>().join(", ");
    let nothing = format!("SELECT {nothing} WHERE false");
    let mut queries: Vec<Asked> = Vec::new();
    for (major, at) in plan {
        let sql = at.and_then(|at| statements.get(&at));
        let Some(since) = since(*major, plan, subject.extension.as_deref()) else { continue };
        let asked = match sql {
            Some(sql) => Asked { since, sql: sql.clone(), remark: None },
            None if queries.is_empty() => continue,
            None => Asked { since, sql: nothing.clone(), remark: Some("not asked from here on") },
        };
        // Two majors may have one version of an extension; the query for the newer one is right for both.
        queries.retain(|query| query.since != asked.since);
        queries.push(asked);
    }
    let subject = Subject { branches: Vec::new(), ..subject.clone() };
    let is_empty = queries.is_empty();
    (!is_empty).then(|| Draft { name: String::new(), subject, role, queries, metrics, notes: Vec::new() })
}

/// What a label is called here, and why if it is another name; none for the label that there is anyway.
fn label_name(written: &str, scope: Scope) -> Option<(String, Option<String>)> {
    if written == DATNAME && scope == Scope::Database {
        return None;
    }
    let name = if written == "server" { "exported_server".to_owned() } else { statement::plain(written) };
    let reason = match written {
        _ if name == written => None,
        "server" => Some("every sample has the label server: this one is exported_server".to_owned()),
        _ => Some(format!("labels are of a-z, 0-9 and _: this one is {name}")),
    };
    Some((name, reason))
}

fn select(selected: &mut Vec<Selected>, alias: &str, at: usize, branches: usize, column: &Column) {
    if !selected.iter().any(|it| it.alias == alias) {
        selected.push(Selected { alias: alias.to_owned(), of: vec![None; branches] });
    }
    let place = selected.iter_mut().find(|it| it.alias == alias).and_then(|it| it.of.get_mut(at));
    if let Some(place) = place.filter(|place| place.is_none()) {
        *place = Some(column.clone());
    }
}

/// A name for a metric's column that means nothing else.
fn alias_for(column: &Column, selected: &[Selected], at: usize) -> String {
    let plain = statement::plain(&column.name);
    let stem = if plain == "server" { "server_value" } else { &plain };
    let mut name = stem.to_owned();
    for count in 2.. {
        let Some(known) = selected.iter().find(|it| it.alias == name) else { break };
        let same = known.of.get(at).and_then(Option::as_ref);
        if same.is_some_and(|same| same.name == column.name && same.expression == column.expression) {
            break;
        }
        name = format!("{stem}_{count}");
    }
    name
}

/// The statement of a branch with all columns that are selected.
fn statement_of(branch: &Branch, selected: &[Selected], at: usize) -> Result<String, &'static str> {
    let own = |it: &Selected| it.of.get(at).cloned().flatten();
    let as_it_is = |it: &Selected| {
        let is_same = |column: Column| column.expression.is_none() && column.name == it.alias;
        own(it).is_some_and(is_same) && is_plain(&it.alias) && mentions(&branch.sql, &it.alias)
    };
    if selected.iter().all(as_it_is) {
        return Ok(statement::without_fragments(branch.sql.trim()));
    }
    let inner = statement::only_statement(&branch.sql).filter(|inner| statement::is_query(inner));
    let inner = inner.ok_or(
        "expected one SELECT: its columns need other names or values, and only a SELECT can be put \
                             into another one",
    )?;
    let columns = selected.iter().map(|it| {
        let alias = identifier(&it.alias);
        match own(it) {
            None => format!("NULL AS {alias}"),
            Some(Column { expression: Some(expression), .. }) => format!("{expression} AS {alias}"),
            Some(column) if column.name == it.alias => format!("q.{}", identifier(&column.name)),
            Some(column) => format!("q.{} AS {alias}", identifier(&column.name)),
        }
    });
    let columns = statement::filled(columns);
    let joined = &branch.joined;
    Ok(statement::without_fragments(&format!("SELECT {columns}\n  FROM (\n{inner}\n) AS q{joined}")))
}

/// The version from which on a query of this plan is asked; none where the version of an extension cannot be told from the
/// server's.
fn since(major: u32, plan: &Plan, extension: Option<&str>) -> Option<String> {
    match extension {
        None => Some(major.to_string()),
        Some("pg_stat_statements") => Some(format!("\"{}\"", statements_of(major))),
        Some(_) => plan.iter().all(|(other, _)| *other <= major).then(|| "\"0\"".to_owned()),
    }
}

/// The version of `pg_stat_statements` that came with a major (its control files).
fn statements_of(major: u32) -> &'static str {
    match major {
        ..=11 => "1.4",
        12 => "1.7",
        13 => "1.8",
        14 => "1.9",
        15 | 16 => "1.10",
        17 => "1.11",
        18 => "1.12",
        _ => "1.13",
    }
}
