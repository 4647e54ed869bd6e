//! The reference as Markdown: `docs/metrics.md`.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Entry, MAJORS, Majors, Origin, Subject, asked, peer_of, subjects};
use crate::catalog::{Catalog, Definition, Need, Role, Schema, Scope};
use crate::unit::{Unit, format_value};

const HEAD: &str = "\
# Metrics

Written by `pgvitals generate metrics` from the definitions in `checks/` and the tables of the other collectors; `make golden`
writes it anew. `pgvitals generate metrics --config FILE` has your own definitions too.

- Every metric of a server has the label `server` first, such as `15/main`. The tables leave it out.
- **PostgreSQL** is the majors that know a metric: all, `14+` from 14 on, `10-16` not after 16. On others it is absent. With
  an extension it also says since which version of that, by what each major ships.
- **P** and **N** mark names that postgres_exporter 0.20 and node_exporter 1.12 have as well, with this type and these labels.
- `{...}` in a name is the value of a column: one metric for each.
- What is absent is not 0. `pgvitals_collector_absent` has the reason while a whole collector is absent.

What a collector costs:

| Cost | Asked | Because |
|---|---|---|
| light | with every reading, once a second at most | it takes few milliseconds and looks at what the server has in memory |
| paced | when its last answer is older than the time that is named | it costs more than that, or changes seldom |
| walk | in every database, one after the other, by a session that is closed before the next opens | what it reads is only seen in its database |

Whatever turns out to take more than 50 ms is asked less often, so that it keeps its server busy for 1 % of the time at most.
";

/// All collectors and their metrics, as Markdown.
pub fn metrics(catalog: &Catalog) -> String {
    let subjects = subjects(catalog);
    let count: usize = subjects.iter().map(|subject| subject.entries.len()).sum();
    let mut out = format!("{HEAD}\n{count} metrics of {} collectors:\n", subjects.len());
    for group in [Group::Server, Group::Databases, Group::Host, Group::Agent] {
        let members = || subjects.iter().filter(move |subject| group.has(subject));
        if members().next().is_none() {
            continue;
        }
        let _ = write!(out, "\n| {} | Cost | |\n|---|---|---|\n", group.title());
        for subject in members() {
            let (name, cost, help) = (subject.name, cost_of(subject), escape(subject.help));
            let _ = writeln!(out, "| [{name}](#{}) | {cost} | {help} |", anchor(name));
        }
    }
    for group in [Group::Server, Group::Databases, Group::Host, Group::Agent] {
        let members: Vec<&Subject<'_>> = subjects.iter().filter(|subject| group.has(subject)).collect();
        if !members.is_empty() {
            let _ = write!(out, "\n## {}\n", group.title());
        }
        for subject in members {
            write_subject(&mut out, subject);
        }
    }
    out
}

/// The parts of the page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Server,
    Databases,
    Host,
    Agent,
}

impl Group {
    fn has(self, subject: &Subject<'_>) -> bool {
        self == match subject.origin {
            Origin::Server(definition) if definition.scope == Scope::Database => Self::Databases,
            Origin::Server(_) => Self::Server,
            Origin::Host => Self::Host,
            Origin::Agent => Self::Agent,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Server => "Of a server",
            Self::Databases => "Of every database",
            Self::Host => "Of the host",
            Self::Agent => "Of the agent",
        }
    }
}

fn cost_of(subject: &Subject<'_>) -> &'static str {
    match subject.origin {
        Origin::Server(definition) if definition.scope == Scope::Database => "walk",
        Origin::Server(definition) if definition.fresh_for > Duration::from_secs(1) => "paced",
        _ => "light",
    }
}

fn write_subject(out: &mut String, subject: &Subject<'_>) {
    let _ = write!(out, "\n### {}\n\n{}.\n", subject.name, escape(subject.help));
    let definition = match subject.origin {
        Origin::Server(definition) => Some(definition),
        Origin::Host | Origin::Agent => None,
    };
    for (at, (what, text)) in definition.map(properties).into_iter().flatten().enumerate() {
        let _ = writeln!(out, "{}- {what}: {text}", if at == 0 { "\n" } else { "" });
    }
    out.push_str(match definition {
        Some(_) => "\n| Metric | Type | Labels | PostgreSQL | Meaning |\n|---|---|---|---|---|\n",
        None => "\n| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n",
    });
    for entry in &subject.entries {
        let labels: Vec<&str> = entry.labels.iter().map(String::as_str).filter(|label| *label != "server").collect();
        let majors = definition.map(|definition| format!(" {} |", majors_of(entry, definition))).unwrap_or_default();
        let _ = writeln!(
            out,
            "| `{}`{} | {} | {} |{majors} {} |",
            entry.name,
            mark_of(entry),
            entry.kind.as_str(),
            labels.join(", "),
            meaning_of(entry)
        );
    }
}

/// Whose name it is as well.
fn mark_of(entry: &Entry) -> &'static str {
    match peer_of(&entry.name).map(|peer| peer.exporter) {
        Some("node_exporter") => " **N**",
        Some(_) => " **P**",
        None => "",
    }
}

fn meaning_of(entry: &Entry) -> String {
    let help = escape(&entry.help);
    if entry.twins.is_empty() {
        return help;
    }
    let twins: Vec<String> = entry.twins.iter().map(|name| format!("`{name}`")).collect();
    format!("{help}. Same values as {}", twins.join(", "))
}

fn properties(definition: &Definition) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    let fresh_for = format_value(Unit::Seconds, definition.fresh_for.as_secs_f64());
    all.push((
        "Cost",
        match definition.scope {
            Scope::Database => format!("walk, every {fresh_for} at most"),
            Scope::Server if definition.fresh_for > Duration::from_secs(1) => {
                format!("paced, every {fresh_for} at most")
            }
            Scope::Server => "light".to_owned(),
        },
    ));
    match definition.role {
        Role::Any => {}
        Role::Primary => all.push(("Role", "primary only".to_owned())),
        Role::Standby => all.push(("Role", "standby only".to_owned())),
    }
    let needs: Vec<String> = definition.needs.iter().filter_map(need).collect();
    if !needs.is_empty() {
        all.push(("Needs", needs.join(", ")));
    }
    if let Some(extension) = &definition.extension {
        let preload = if definition.preload { ", in `shared_preload_libraries`" } else { "" };
        let oldest = definition.queries.first().map(|query| format!(" {} or newer", query.since)).unwrap_or_default();
        all.push(("Extension", format!("`{extension}`{oldest}{preload}")));
    }
    if let Some(top) = &definition.top {
        all.push((
            "Rows",
            format!(
                "the {} largest by `{}`; the rest is one row `other`, of counters `pgvitals_collector_remainder`",
                top.keep, top.rank_by
            ),
        ));
    }
    all.push(("Reads", sources(definition)));
    all
}

/// What is needed, in the words of a GRANT; that the schema of an extension must be open goes without saying.
fn need(need: &Need) -> Option<String> {
    let path = |schema: &Schema, name: &str| match schema {
        Schema::Named(schema) => format!("{schema}.{name}"),
        Schema::OfExtension(_) => name.to_owned(),
    };
    match need {
        Need::Role(role) => Some(format!("`{role}`")),
        Need::Execute { schema, name, arguments } => {
            Some(format!("`EXECUTE ON FUNCTION {}({arguments})`", path(schema, name)))
        }
        Need::Select { schema, name } => Some(format!("`SELECT ON TABLE {}`", path(schema, name))),
        Need::Usage(_) => None,
    }
}

/// What is read, with the majors on which it is not always.
fn sources(definition: &Definition) -> String {
    let asked = asked(definition);
    let of: Majors = asked.keys().copied().collect();
    let read: Vec<(u32, _)> = asked.iter().map(|(major, query)| (*major, query.sources())).collect();
    let mut names: Vec<&String> = read.iter().flat_map(|(_, sources)| sources).collect();
    names.sort();
    names.dedup();
    let text = |name: &&String| {
        let majors: Majors =
            read.iter().filter(|(_, sources)| sources.contains(*name)).map(|(major, _)| *major).collect();
        if majors == of { format!("`{name}`") } else { format!("`{name}` ({})", spell(majors)) }
    };
    names.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// The majors that know it, and the version of the extension where not every version does.
fn majors_of(entry: &Entry, definition: &Definition) -> String {
    let text = spell(entry.majors);
    match (entry.extension, definition.queries.first()) {
        (Some(version), Some(oldest)) if version > oldest.since => format!("{text} ({version})"),
        _ => text,
    }
}

/// Majors as people write them.
fn spell(majors: Majors) -> String {
    if MAJORS.collect::<Majors>() == majors {
        return "all".to_owned();
    }
    let stretch = |text: &str| text.strip_suffix('-').map_or_else(|| text.to_owned(), |first| format!("{first}+"));
    majors.to_string().split(',').map(stretch).collect::<Vec<_>>().join(", ")
}

/// What GitHub makes of a heading.
fn anchor(name: &str) -> String {
    name.to_lowercase().replace(' ', "-")
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('*', "\\*")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &str = r#"
help = "Files|of <all> kinds"
labels = ["kind"]
extension = "pg_stat_statements"
needs = ["pg_read_all_stats"]
fresh_for = "1min"
[[query]]
since = "1.6"
sql = "SELECT kind, size, NULL AS age FROM {schema}.files() JOIN pg_catalog.pg_class ON true"
[[query]]
since = "1.10"
sql = "SELECT kind, size, age FROM {schema}.files()"
[[metric]]
name = "pg_files_bytes"
type = "gauge"
column = "size"
help = "Size"
[[metric]]
name = "pg_files_size"
type = "gauge"
column = "size"
help = "The same"
[[metric]]
name = "pg_files_oldest_seconds"
type = "gauge"
column = "age"
help = "Age; absent before extension 1.10"
"#;

    #[test]
    fn a_collector_is_shown_with_what_its_definition_says() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("files.toml"), FILES).unwrap();
        let page = metrics(&Catalog::load(folder.path()).unwrap());
        assert!(page.contains("\n| [files](#files) | paced | Files\\|of &lt;all> kinds |\n"));
        let start = page.find("\n### files\n").unwrap();
        let section = page[start..].split("\n### ").nth(1).unwrap();
        assert_eq!(
            section,
            "files\n\nFiles\\|of &lt;all> kinds.\n\n\
             - Cost: paced, every 1 min at most\n\
             - Needs: `pg_read_all_stats`\n\
             - Extension: `pg_stat_statements` 1.6 or newer\n\
             - Reads: `files()`, `pg_class` (10-14)\n\n\
             | Metric | Type | Labels | PostgreSQL | Meaning |\n|---|---|---|---|---|\n\
             | `pg_files_bytes` | gauge | kind | all | Size. Same values as `pg_files_size` |\n\
             | `pg_files_size` | gauge | kind | all | The same. Same values as `pg_files_bytes` |\n\
             | `pg_files_oldest_seconds` | gauge | kind | 15+ (1.10) | Age; absent before extension 1.10 |\n"
        );
    }
}
