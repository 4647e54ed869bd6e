//! What metrics are called: by the rules, and as those who come from other exporters know them.

use std::collections::{BTreeMap, BTreeSet};

use pgvitals::catalog::Catalog;
use pgvitals::metric::Kind;
use pgvitals::reference::{Entry, MAJORS, Origin, Peer, peer_of, subjects};

/// Names of `postgres_exporter` 0.20 that are not here, and why.
const NOT_HERE: &[(&str, &str)] = &[
    ("pg_exporter_user_queries_load_error", "definitions of one's own are no queries.yaml; pgvitals validate tells"),
    ("pg_stat_statements_query_id", "a label with a text"),
];

/// Ours have these labels beside `postgres_exporter`'s: without them two things would be one.
const MORE_LABELS: &[(&str, &str)] = &[("pg_statio_user_indexes_", "datname"), ("pg_stat_statements_", "toplevel")];

/// Names of older `postgres_exporter`s and of their kind: kept as they were, units and all.
const INHERITED: &[&str] = &[
    "pg_replication_lag",
    "pg_stat_database_active_time",
    "pg_stat_database_idle_in_transaction_time",
    "pg_stat_database_session_time",
    "pg_stat_wal_receiver_written_lsn",
];

fn entries() -> Vec<Entry> {
    let catalog = Catalog::built_in().unwrap();
    subjects(&catalog).into_iter().flat_map(|subject| subject.entries).collect()
}

fn is_ours(entry: &Entry) -> bool {
    peer_of(&entry.name).is_none() && !INHERITED.contains(&entry.name.as_str())
}

/// What does not hold, all at once.
fn assert_none(found: impl Iterator<Item = String>) {
    let found: Vec<String> = found.collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn a_name_that_stands_twice_is_one_metric() {
    let mut known: BTreeMap<String, Entry> = BTreeMap::new();
    for entry in entries() {
        // Of the majors one definition may know other ones than another does.
        let first = known.entry(entry.name.clone()).or_insert_with(|| entry.clone());
        assert_eq!((first.kind, &first.labels), (entry.kind, &entry.labels), "{}", entry.name);
    }
}

#[test]
fn counters_end_in_total_and_nothing_else_does() {
    let wrong = |entry: &Entry| (entry.kind == Kind::Counter) != entry.name.ends_with("_total");
    assert_none(
        entries().iter().filter(|entry| is_ours(entry)).filter(|entry| wrong(entry)).map(|entry| entry.name.clone()),
    );
}

#[test]
fn units_are_base_units_and_stand_at_the_end() {
    // A word that says another unit, and endings that Prometheus keeps for histograms and summaries.
    const SCALED: [&str; 14] = [
        "ms",
        "us",
        "msec",
        "usec",
        "milliseconds",
        "microseconds",
        "minutes",
        "hours",
        "days",
        "kb",
        "mb",
        "kilobytes",
        "percent",
        "pct",
    ];
    const RESERVED: [&str; 4] = ["_count", "_sum", "_bucket", "_created"];
    let wrong = |name: &str| {
        let bare = name.strip_suffix("_total").unwrap_or(name);
        let words: Vec<&str> = bare.split('_').collect();
        let units = ["seconds", "bytes", "ratio"];
        let inside = words.iter().rev().skip(1).any(|word| units.contains(word));
        words.iter().any(|word| SCALED.contains(word))
            || RESERVED.iter().any(|end| name.ends_with(end))
            // A time without a unit would be anything.
            || ["_time", "_duration", "_age", "_lag", "_delay"].iter().any(|end| bare.ends_with(end))
            || inside
    };
    assert_none(
        entries()
            .iter()
            .filter(|entry| is_ours(entry))
            .filter(|entry| wrong(&entry.name))
            .map(|entry| entry.name.clone()),
    );
}

#[test]
fn names_and_labels_are_lower_case_words() {
    // Prometheus' own, and those that it adds to what it scrapes.
    const TAKEN: [&str; 4] = ["le", "quantile", "job", "instance"];
    let is_word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            && !text.contains("__")
            && !text.ends_with('_')
    };
    let wrong = |entry: &Entry| {
        let name = entry.name.replace(['{', '}'], "");
        let distinct: BTreeSet<&String> = entry.labels.iter().collect();
        !is_word(&name) && is_ours(entry)
            || distinct.len() != entry.labels.len()
            || entry.labels.iter().any(|label| !is_word(label) || TAKEN.contains(&label.as_str()))
    };
    assert_none(
        entries().iter().filter(|entry| wrong(entry)).map(|entry| format!("{} {:?}", entry.name, entry.labels)),
    );
}

#[test]
fn every_help_is_one_short_line() {
    let wrong = |entry: &Entry| {
        let help = &entry.help;
        help.is_empty()
            || help.chars().count() > 200
            || help.contains('\n')
            || help.ends_with('.')
            // The name of a parameter is written as it is.
            || help.starts_with(|c: char| c.is_lowercase()) && !help.split(' ').any(|word| word.contains('_'))
    };
    assert_none(entries().iter().filter(|entry| wrong(entry)).map(|entry| format!("{}: {}", entry.name, entry.help)));
}

#[test]
fn what_an_older_major_does_not_know_says_so() {
    let catalog = Catalog::built_in().unwrap();
    let mut silent = Vec::new();
    for subject in subjects(&catalog) {
        let Origin::Server(definition) = subject.origin else { continue };
        for entry in &subject.entries {
            let Some(first) = entry.majors.iter().next() else {
                silent.push(format!("no major knows {}", entry.name));
                continue;
            };
            let version = entry.extension.map_or(first.to_string(), |version| version.to_string());
            let is_old = match &definition.extension {
                None => first == *MAJORS.start(),
                Some(_) => definition.queries.first().is_some_and(|query| Some(query.since) == entry.extension),
            };
            let says = [&entry.help, &definition.help].iter().any(|help| {
                [format!("before {version}"), format!("before extension {version}"), format!("since {version}")]
                    .iter()
                    .any(|words| help.contains(words))
            });
            if !is_old && !says {
                silent.push(format!("{} is known since {version}: {}", entry.name, entry.help));
            }
        }
    }
    assert_none(silent.into_iter());
}

#[test]
fn names_that_others_have_are_theirs_in_type_and_labels() {
    let entries: Vec<(Entry, Option<Peer<'_>>)> =
        entries().into_iter().map(|entry| (entry.clone(), peer_of(&entry.name))).collect();
    let mut wrong = Vec::new();
    let is_excused = |peer: &Peer<'_>| NOT_HERE.iter().any(|(stem, _)| peer.name.starts_with(stem));
    for peer in Peer::all() {
        let of_peer = entries.iter().filter(|(_, of)| *of == Some(peer));
        let found: Vec<&Entry> = of_peer.map(|(entry, _)| entry).collect();
        if found.is_empty() != is_excused(&peer) {
            let how = if found.is_empty() { "is missing" } else { "is here, and in NOT_HERE" };
            wrong.push(format!("{} {how}", peer.name));
        }
        let more = MORE_LABELS.iter().filter(|(stem, _)| peer.name.starts_with(stem)).map(|(_, label)| *label);
        let labels = peer.labels.split(',').filter(|label| !label.is_empty()).chain(more);
        let labels: BTreeSet<&str> = labels.filter(|label| *label != "server").collect();
        for entry in found {
            let own: BTreeSet<&str> = entry.labels.iter().map(String::as_str).filter(|it| *it != "server").collect();
            if own != labels || entry.kind.as_str() != peer.kind {
                wrong.push(format!(
                    "{}: {} {own:?} instead of {} {labels:?}",
                    entry.name,
                    entry.kind.as_str(),
                    peer.kind
                ));
            }
        }
    }
    assert_none(wrong.into_iter());
}
