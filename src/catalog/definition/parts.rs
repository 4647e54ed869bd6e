//! What the parts of a file come to, each by itself.

use std::time::Duration;

use toml::Spanned;

use super::super::format::{FileSpec, MetricSpec, QuerySpec, Scope, TextsSpec, TypeSpec, Version};
use super::super::fragment;
use super::super::need::Need;
use super::{DATNAME, Mistake, Query, Texts, Top, WANTED};
use crate::check::Rule;
use crate::unit::Span;

const TIMEOUT: Duration = Duration::from_secs(2);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(300);

pub(super) fn extension(spec: &FileSpec) -> Result<Option<String>, Mistake> {
    let Some(name) = &spec.extension else { return Ok(None) };
    identifier(name)?;
    Ok(Some(name.get_ref().clone()))
}

pub(super) fn preload(spec: &FileSpec) -> Result<bool, Mistake> {
    match (&spec.preload, &spec.extension) {
        (Some(preload), None) => Err(Mistake::at(preload, "expected `extension`: the one that is to be preloaded")),
        (preload, _) => Ok(preload.as_ref().is_some_and(|preload| *preload.get_ref())),
    }
}

pub(super) fn sampled(spec: &FileSpec) -> Result<bool, Mistake> {
    let Some(sampled) = spec.sampled.as_ref().filter(|sampled| *sampled.get_ref()) else { return Ok(false) };
    if spec.scope == Scope::Database || spec.max_series.is_some() {
        let reason = "what is sampled is asked once per server, and has a bound already: expected no `scope = \"database\"` and no `max_series`";
        return Err(Mistake::at(sampled, reason));
    }
    let is_added_up = |metric: &MetricSpec| matches!(metric.r#type.get_ref(), TypeSpec::Counter) && !metric.remember;
    match spec.metric.iter().find(|metric| !is_added_up(metric.get_ref())) {
        Some(other) => {
            let reason = "expected `type = \"counter\"` without `remember`: what is sampled is added up";
            Err(Mistake::at(&other.get_ref().r#type, reason))
        }
        None => Ok(true),
    }
}

/// What the file says, and what goes with it: to look up anything in a schema, the schema must be open.
pub(super) fn needs(spec: &FileSpec) -> Result<Vec<Need>, Mistake> {
    let extension = spec.extension.as_ref().map(|name| name.get_ref().as_str());
    let names_schema = spec.query.iter().any(|query| query.get_ref().sql.get_ref().contains("{schema}"));
    let mut needs: Vec<Need> = extension.filter(|_| names_schema).map(Need::usage_of).into_iter().collect();
    for written in &spec.needs {
        let need = Need::parse(written.get_ref(), extension).map_err(|reason| Mistake::at(written, reason))?;
        needs.extend(need.usage().filter(|usage| !needs.contains(usage)));
        needs.push(need);
    }
    Ok(needs)
}

pub(super) fn timeout(spec: &FileSpec) -> Result<Duration, Mistake> {
    let Some(written) = &spec.timeout else { return Ok(TIMEOUT) };
    let Span(timeout) = *written.get_ref();
    if timeout.is_zero() || timeout > LONGEST_TIMEOUT {
        return Err(Mistake::at(written, "expected a timeout above 0 and up to 5min: every query is bounded"));
    }
    Ok(timeout)
}

pub(super) fn top(spec: &FileSpec) -> Result<Option<Top>, Mistake> {
    match (&spec.max_series, &spec.rank_by) {
        (None, None) => Ok(None),
        (Some(keep), Some(rank_by)) => {
            identifier(rank_by)?;
            Ok(Some(Top { keep: *keep.get_ref(), rank_by: rank_by.get_ref().clone() }))
        }
        (Some(keep), None) => Err(Mistake::at(keep, "expected `rank_by`: the column that says which rows stay")),
        (None, Some(rank_by)) => Err(Mistake::at(rank_by, "expected `max_series`: how many rows stay")),
    }
}

pub(super) fn databases(spec: &FileSpec) -> Result<Option<Vec<String>>, Mistake> {
    let Some(databases) = &spec.databases else { return Ok(None) };
    let patterns = databases.get_ref();
    if spec.scope != Scope::Database {
        return Err(Mistake::at(databases, "expected `scope = \"database\"`: in server scope one database is asked"));
    }
    if patterns.is_empty() {
        return Err(Mistake::at(databases, "expected at least one name, in which `*` stands for any text"));
    }
    Ok(Some(patterns.clone()))
}

pub(super) fn search_path(spec: &FileSpec) -> Result<Vec<String>, Mistake> {
    let is_wrong = |name: &&Spanned<String>| name.get_ref().is_empty() || name.get_ref().contains(['{', '}', '\0']);
    match spec.search_path.iter().find(is_wrong) {
        Some(name) => Err(Mistake::at(name, format!("expected the name of a schema, got \"{}\"", name.get_ref()))),
        None => Ok(spec.search_path.iter().map(|name| name.get_ref().clone()).collect()),
    }
}

pub(super) fn texts(spec: &FileSpec) -> Result<Option<Texts>, Mistake> {
    let Some(written) = &spec.texts else { return Ok(None) };
    let TextsSpec { of, key, text, at_most_every: Span(at_most_every) } = written.get_ref();
    for column in [key, text] {
        if !spec.labels.iter().any(|label| label.get_ref() == column.get_ref()) {
            return Err(Mistake::at(column, format!("expected one of the labels, got \"{}\"", column.get_ref())));
        }
    }
    if let Some(query) = spec.query.iter().find(|query| !query.get_ref().sql.get_ref().contains(WANTED)) {
        return Err(Mistake::at(&query.get_ref().sql, format!("expected {WANTED}: the keys that are asked for")));
    }
    if spec.scope == Scope::Database {
        return Err(Mistake::at(written, "expected no `texts` in database scope"));
    }
    let (of, key, text) = (of.get_ref().clone(), key.get_ref().clone(), text.get_ref().clone());
    Ok(Some(Texts { of, key, text, at_most_every: *at_most_every }))
}

pub(super) fn queries(text: &str, spec: &FileSpec) -> Result<Vec<Query>, Mistake> {
    let mut before: Option<Version> = None;
    for spec in &spec.query {
        let QuerySpec { since, sql } = spec.get_ref();
        if let Some(before) = before.filter(|before| before >= since.get_ref()) {
            let reason = format!("expected a version above {before}: queries stand oldest first");
            return Err(Mistake::at(since, reason));
        }
        if sql.get_ref().trim().is_empty() {
            return Err(Mistake::at(sql, "expected a SELECT"));
        }
        before = Some(*since.get_ref());
    }
    let reserved: &[&str] = match (&spec.extension, &spec.texts) {
        (None, None) => &[],
        (Some(_), None) => &["schema"],
        (None, Some(_)) => &["wanted"],
        (Some(_), Some(_)) => &["schema", "wanted"],
    };
    fragment::expand(text, &spec.query, &spec.fragment, reserved)
}

pub(super) fn rules(spec: &FileSpec) -> Result<Vec<Rule>, Mistake> {
    spec.rule
        .iter()
        .map(|rule| Rule::try_from(rule.get_ref().clone()).map_err(|error| Mistake::at(rule, error.to_string())))
        .collect()
}

/// The names as they are written; in database scope after the one that every sample gets.
pub(in crate::catalog) fn label_names(names: &[Spanned<String>], scope: Scope) -> Result<Vec<String>, Mistake> {
    let mut all = Vec::with_capacity(names.len() + 1);
    if scope == Scope::Database {
        if let Some(name) = names.iter().find(|name| name.get_ref() == DATNAME) {
            let reason = "expected another name: in database scope every sample gets the label `datname` already";
            return Err(Mistake::at(name, reason));
        }
        all.push(DATNAME.to_owned());
    }
    for name in names {
        identifier(name)?;
        all.push(name.get_ref().clone());
    }
    Ok(all)
}

pub(in crate::catalog) fn identifier(name: &Spanned<String>) -> Result<(), Mistake> {
    let text = name.get_ref();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if text == "server" {
        return Err(Mistake::at(name, "expected another name: every sample gets the label `server` already"));
    }
    if text.is_empty() || text.starts_with(|c: char| c.is_ascii_digit()) || !text.chars().all(plain) {
        let reason = format!("expected an SQL identifier of a-z, 0-9 and _ that is no number first, got \"{text}\"");
        return Err(Mistake::at(name, reason));
    }
    Ok(())
}
