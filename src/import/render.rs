//! A draft as the text of a definition.

use super::branch::Note;
use super::draft::{Asked, Draft, Shown};
use super::statement::BRACE;
use crate::catalog::{Role, Scope};

/// So many rows of all databases together are shown when nobody said how many.
const MAX_SERIES: usize = 1000;
/// Longer than that no query may take.
const LONGEST_TIMEOUT: f64 = 300.0;
const LONGEST_FRESH_FOR: f64 = 86_400.0;

/// The text of a definition.
pub(super) fn definition(draft: &Draft) -> String {
    let subject = &draft.subject;
    let mut text = format!("# Imported from {}.\n", comment(&subject.place.at));
    text += &notes(&draft.notes);
    text += &format!("help = {}\n", quoted(&sentence(&subject.help)));
    let shared = shared_labels(&draft.metrics);
    if let Some(labels) = shared.filter(|labels| !labels.is_empty()) {
        text += &format!("labels = {}\n", list(labels));
    }
    if subject.scope == Scope::Database {
        text += "scope = \"database\"\n";
    }
    if let Some(databases) = &subject.databases {
        text += &format!("databases = {}\n", list(databases));
    }
    match draft.role {
        Role::Any => {}
        Role::Primary => text += "role = \"primary\"\n",
        Role::Standby => text += "role = \"standby\"\n",
    }
    if let Some(extension) = &subject.extension {
        text += &format!("extension = {}\n", quoted(extension));
        if extension == "pg_stat_statements" {
            text += "preload = true\n";
        }
    }
    text += "search_path = [\"public\"]\n";
    if let Some(fresh_for) = subject.fresh_for.filter(|seconds| *seconds > 0.0) {
        text += &format!("fresh_for = \"{}\"\n", span(fresh_for.min(LONGEST_FRESH_FOR)));
    }
    if let Some(timeout) = subject.timeout.filter(|seconds| *seconds > 0.0) {
        text += &format!("timeout = \"{}\"\n", span(timeout.min(LONGEST_TIMEOUT)));
    }
    let has_labels = draft.metrics.iter().any(|metric| !metric.labels.is_empty());
    if let Some(first) = draft.metrics.first().filter(|_| has_labels && subject.scope == Scope::Database) {
        text += "# Labels in each database need a bound: so many rows, the largest by this column. Choose both.\n";
        text += &format!("max_series = {MAX_SERIES}\nrank_by = {}\n", quoted(&first.column));
    }
    for query in &draft.queries {
        text += &self::query(query);
    }
    if let Some(first) = draft.queries.first().filter(|_| draft.queries.iter().any(|it| has_brace(&it.sql))) {
        text += &format!("\n# A brace before what would be the name of a fragment.\n[fragment.{BRACE}]\n");
        text += &format!("{} = \"{{\"\n", first.since);
    }
    for metric in &draft.metrics {
        text += &format!("\n[[metric]]\nname = {}\n", quoted(&metric.name));
        text += &format!("type = \"{}\"\n", metric.kind.as_str());
        if !metric.buckets.is_empty() {
            let bounds: Vec<String> = metric.buckets.iter().map(|bound| number(*bound)).collect();
            text += &format!("buckets = [{}]\n", bounds.join(", "));
        }
        text += &format!("column = {}\n", quoted(&metric.column));
        if shared.is_none() {
            text += &format!("labels = {}\n", list(&metric.labels));
        }
        text += &format!("help = {}\n", quoted(&sentence(&metric.help)));
    }
    text
}

/// Notes as comments, with the lines that they are about; what has one reason is told together.
pub(super) fn notes(notes: &[Note]) -> String {
    let mut text = String::new();
    let mut last = None;
    for note in notes {
        if last != Some(&note.reason) {
            text += &format!("# {}: {}\n", comment(&note.place.at), comment(&note.reason));
        }
        last = Some(&note.reason);
        if !note.place.text.is_empty() {
            text += &format!("#     {}\n", comment(&note.place.text.chars().take(200).collect::<String>()));
        }
    }
    text
}

fn query(query: &Asked) -> String {
    let mut text = String::from("\n");
    if let Some(remark) = query.remark {
        text += &format!("# {remark}\n");
    }
    text += &format!("[[query]]\nsince = {}\n", query.since);
    let sql = query.sql.replace("\r\n", "\n");
    let is_literal = !sql.contains("'''") && !sql.chars().any(|c| c.is_control() && c != '\n' && c != '\t');
    text += &if is_literal { format!("sql = '''\n{sql}\n'''\n") } else { format!("sql = {}\n", quoted(&sql)) };
    text
}

fn has_brace(sql: &str) -> bool {
    sql.contains(&format!("{{{BRACE}}}"))
}

/// The labels that all metrics have; none where they differ.
fn shared_labels(metrics: &[Shown]) -> Option<&[String]> {
    let first = metrics.first()?;
    metrics.iter().all(|metric| metric.labels == first.labels).then_some(first.labels.as_slice())
}

/// One line; in braces would be the name of a column.
fn sentence(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").trim_end_matches('.').replace('{', "(").replace('}', ")")
}

fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}

/// A basic string of TOML.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '\n' => quoted += "\\n",
            '\t' => quoted += "\\t",
            c if c.is_control() => quoted += &format!("\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// A number of TOML. One too large for an integer is written with an exponent.
fn number(number: f64) -> String {
    if number.fract() == 0.0 && number < 1e15 { number.to_string() } else { format!("{number:?}") }
}

fn span(seconds: f64) -> String {
    if seconds.fract() == 0.0 { format!("{seconds}s") } else { format!("{}ms", (seconds * 1000.0).ceil()) }
}
