use std::collections::BTreeSet;

use super::{Subject, words};
use crate::command::Ended;
use crate::matrix::{Gap, Matrix};

/// What Debian's version does not have, held against the words of 2.10.
const NEWER: [&str; 5] = ["hugepages", "pgss_dealloc", "relation_size", "slru_hit_ratio", "unused_indexes"];

const FILTERS: [&str; 3] = ["dbinclude", "dbexclude", "exclude"];

/// What asks no server, or several at once.
fn roles(service: &str) -> &'static [&'static str] {
    match service {
        "archive_folder" | "pga_version" => &["none"],
        "hot_standby_delta" => &["both"],
        _ => &["primary", "standby"],
    }
}

/// The filters that the manual of the original names.
fn filters(service: &str) -> &'static [&'static str] {
    match service {
        "btree_bloat"
        | "extensions_versions"
        | "invalid_indexes"
        | "last_analyze"
        | "last_vacuum"
        | "longest_query"
        | "oldest_idlexact"
        | "pg_dump_backup"
        | "relation_size"
        | "table_bloat"
        | "table_unlogged"
        | "unused_indexes" => &FILTERS,
        "database_size" | "hit_ratio" | "max_freeze_age" | "oldest_xmin" | "sequences_exhausted" => &FILTERS[..2],
        "backends_status" | "streaming_delta" => &FILTERS[2..],
        _ => &[],
    }
}

/// The service of a call.
fn service(step: &str) -> Option<String> {
    // The shell's own `-s`.
    if step.starts_with("sh ") {
        return None;
    }
    let words = words(step);
    let at = words.iter().position(|word| word == "-s")?;
    words.get(at + 1).cloned()
}

/// Says what came out of a call; theirs is missing where only ours is run.
pub(super) fn see(matrix: &mut Matrix, step: &str, theirs: Option<&Ended>, ours: &Ended) {
    let Some(service) = service(step) else { return };
    let role = match roles(&service) {
        [role] if *role == "none" || step.contains("{both}") => role,
        _ if step.contains("{standby}") => "standby",
        _ if step.contains("{primary}") => "primary",
        _ => return,
    };
    let filters: Vec<&str> = FILTERS.into_iter().filter(|filter| step.contains(&format!("--{filter}"))).collect();
    // A mistake has no line on stdout, and a code of its own.
    if !ours.stdout.is_empty() {
        let is_of_both = theirs.map_or(NEWER.contains(&service.as_str()), |theirs| theirs.code == ours.code);
        matrix.see((&service, role), ours.code, is_of_both);
        matrix.see_filtered((&service, role), &filters, ours.code, is_of_both);
    }
}

/// What is wanted of these.
pub(super) fn matrix(subjects: &[&Subject]) -> Matrix {
    let mut matrix = Matrix::new(&FILTERS);
    let steps: Vec<String> = subjects.iter().flat_map(|subject| subject.cases()).collect();
    let services: BTreeSet<String> = steps.iter().flat_map(|case| case.split(" ;; ")).filter_map(service).collect();
    for service in services.iter().filter(|name| *name != "nothing") {
        matrix.want(service, roles(service), filters(service));
    }
    matrix
}

/// A case for each service on each server: a database that there is not.
pub(super) fn of_no_database(subjects: &[&Subject]) -> Vec<String> {
    let only = std::env::var("PGVITALS_CASES").unwrap_or_default();
    let matrix = matrix(subjects);
    let asked = matrix.subjects().filter(|name| roles(name) != ["none"]);
    let cases = asked.flat_map(|name| {
        let options = match name {
            "backends" | "btree_bloat" | "hit_ratio" | "locks" | "sequences_exhausted" | "table_bloat" => {
                "-w 90% -c 80%"
            }
            "backup_label_age" | "last_analyze" | "last_vacuum" | "longest_query" | "oldest_2pc"
            | "oldest_idlexact" | "stat_snapshot_age" => "-w 1h -c 2h",
            "custom_query" => "--query 'SELECT 1'",
            "minor_version" => "-w 15.99",
            "pg_dump_backup" => "--path '{folder}/dumps/*' --pattern '(\\w+)-\\d+.dump'",
            _ => "",
        };
        let said = if NEWER.contains(&name) { " => CHECK_PGACTIVITY UNKNOWN: Query failed !" } else { "" };
        roles(name).iter().map(move |role| format!("{{{role}}} -s {name} {options} -d nothing{said}"))
    });
    cases.filter(|case| case.contains(&only)).collect()
}

/// What cannot be brought out with both programs.
pub(super) const GAPS: &[Gap] = &[
    Gap {
        subjects: &["autovacuum", "session_stats"],
        roles: &[],
        columns: &["WARNING", "CRITICAL"],
        reason: "it has no thresholds",
    },
    Gap {
        subjects: &["configuration", "extensions_versions", "invalid_indexes", "pgdata_permission", "table_unlogged"],
        roles: &[],
        columns: &["WARNING"],
        reason: "what is wrong is CRITICAL",
    },
    Gap {
        subjects: &["settings", "unused_indexes"],
        roles: &[],
        columns: &["CRITICAL"],
        reason: "what is found is WARNING",
    },
    Gap {
        subjects: &["connection"],
        roles: &[],
        columns: &["WARNING", "UNKNOWN"],
        reason: "without a connection it is CRITICAL",
    },
    Gap {
        subjects: &["is_hot_standby"],
        roles: &["primary"],
        columns: &["OK", "WARNING"],
        reason: "a primary is none: CRITICAL",
    },
    Gap {
        subjects: &["is_hot_standby"],
        roles: &["standby"],
        columns: &["WARNING", "CRITICAL"],
        reason: "a standby is one",
    },
    Gap {
        subjects: &["is_master"],
        roles: &["primary"],
        columns: &["WARNING", "CRITICAL"],
        reason: "a primary is one",
    },
    Gap {
        subjects: &["is_master"],
        roles: &["standby"],
        columns: &["OK", "WARNING"],
        reason: "a standby is none: CRITICAL",
    },
    Gap {
        subjects: &["is_replay_paused"],
        roles: &["primary"],
        columns: &["OK", "WARNING", "CRITICAL"],
        reason: "a primary replays nothing: UNKNOWN",
    },
    Gap {
        subjects: &["streaming_delta"],
        roles: &["standby"],
        columns: &["OK", "WARNING", "CRITICAL", "exclude"],
        reason: "nobody follows this standby: UNKNOWN",
    },
    Gap {
        subjects: &["oldest_2pc"],
        roles: &["standby"],
        columns: &["WARNING", "CRITICAL"],
        reason: "a standby lists no prepared transactions",
    },
    Gap {
        subjects: &["last_analyze", "last_vacuum"],
        roles: &["standby"],
        columns: &["OK", "WARNING", "CRITICAL", "dbinclude", "dbexclude", "exclude"],
        reason: "a standby vacuums nothing: UNKNOWN",
    },
    Gap {
        subjects: &["bgwriter"],
        roles: &[],
        columns: &["WARNING", "CRITICAL"],
        reason: "the original divides by the time twice, and reaches no threshold",
    },
    Gap {
        subjects: &["backup_label_age"],
        roles: &[],
        columns: &["OK", "WARNING", "CRITICAL"],
        reason: "Debian's 2.6 asks PostgreSQL 15 for a function that it has no more",
    },
    Gap {
        subjects: &["stat_snapshot_age", "hugepages"],
        roles: &[],
        columns: &["OK", "WARNING", "CRITICAL"],
        reason: "not of PostgreSQL 15",
    },
    Gap { subjects: &["pga_version"], roles: &[], columns: &["UNKNOWN"], reason: "it asks nobody" },
    Gap {
        subjects: &["pgss_dealloc", "slru_hit_ratio"],
        roles: &[],
        columns: &["WARNING", "CRITICAL"],
        reason: "no statement is dropped and no SLRU is read between two calls",
    },
    Gap {
        subjects: &["pga_version"],
        roles: &[],
        columns: &["OK"],
        reason: "the original is 2.6, and we speak as 2.10",
    },
];
