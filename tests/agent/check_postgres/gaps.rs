use std::collections::BTreeSet;

use super::{Group, place};
use crate::matrix::{Gap, Matrix};

const BY_NAME: [&str; 2] = ["include", "exclude"];
const BY_NAME_AND_OWNER: [&str; 4] = ["include", "exclude", "includeuser", "excludeuser"];

/// What asks no server of PostgreSQL, or two at once.
fn roles(action: &str) -> &'static [&'static str] {
    match action {
        "hot_standby_delay" | "replicate_row" => &["pair"],
        _ if action.starts_with("pgb") || action.starts_with("new_version_") => &["none"],
        _ => &["primary", "standby"],
    }
}

/// The filters that the original heeds, or means to.
fn filters(action: &str) -> &'static [&'static str] {
    match action {
        "commitratio"
        | "database_size"
        | "hitratio"
        | "relation_size"
        | "index_size"
        | "table_size"
        | "indexes_size"
        | "total_relation_size"
        | "last_analyze"
        | "last_vacuum"
        | "last_autoanalyze"
        | "last_autovacuum"
        | "query_time"
        | "txn_idle"
        | "txn_time" => &BY_NAME_AND_OWNER,
        "autovac_freeze" | "backends" | "bloat" | "dbstats" | "disk_space" | "locks" | "pgbouncer_backends"
        | "pgbouncer_checksum" | "prepared_txns" | "replication_slots" | "sequence" | "settings_checksum"
        | "txn_wraparound" => &BY_NAME,
        _ if action.starts_with("pgb_pool_") => &BY_NAME,
        _ => &[],
    }
}

/// Action, role and filters of a case.
pub(super) fn cell(case: &str) -> (&str, &'static str, Vec<&str>) {
    let (place, line) = place(case);
    let action = line.split(' ').next().unwrap_or_default();
    let role = match roles(action) {
        [role] => role,
        _ if place == "standby" || line.contains("{standby_data}") => "standby",
        _ => "primary",
    };
    let filters = line.split(" --").skip(1).filter_map(|option| Some(option.split_once('=')?.0)).collect();
    (action, role, filters)
}

/// What is wanted of a group.
pub(super) fn matrix(group: &Group) -> Matrix {
    let mut matrix = Matrix::new(&BY_NAME_AND_OWNER);
    let is_action = |name: &str| name.starts_with(|c: char| c.is_ascii_alphabetic()) && !name.contains('=');
    let actions: BTreeSet<String> = group.cases().map(|case| cell(&case).0.to_owned()).collect();
    for action in actions.iter().filter(|name| is_action(name) && *name != "nope") {
        matrix.want(action, roles(action), filters(action));
    }
    matrix
}

/// What cannot be brought out with both programs.
pub(super) const GAPS: &[Gap] = &[
    Gap {
        subjects: &["connection", "same_schema"],
        roles: &[],
        columns: &["WARNING"],
        reason: "it is well or it is not",
    },
    Gap {
        subjects: &["dbstats"],
        roles: &[],
        columns: &["WARNING", "CRITICAL"],
        reason: "numbers for Cacti, which judges them",
    },
    Gap {
        subjects: &["fsm_pages", "fsm_relations", "listener"],
        roles: &[],
        columns: &["OK", "WARNING", "CRITICAL"],
        reason: "of servers up to 8.4 or 8.3",
    },
    Gap {
        subjects: &["new_version_cp"],
        roles: &[],
        columns: &["OK", "WARNING", "CRITICAL"],
        reason: "it is not the program whose version is asked for",
    },
    Gap {
        subjects: &["new_version_pg"],
        roles: &[],
        columns: &["WARNING"],
        reason: "another major is not looked for, and a newer minor is CRITICAL",
    },
    Gap {
        subjects: &["pgb_pool_sv_used", "pgb_pool_sv_tested", "pgb_pool_sv_login"],
        roles: &[],
        columns: &["WARNING", "CRITICAL"],
        reason: "no connection stays in this state",
    },
    Gap {
        subjects: &["prepared_txns"],
        roles: &["standby"],
        columns: &["WARNING", "CRITICAL"],
        reason: "a standby lists no prepared transactions",
    },
    Gap {
        subjects: &["last_vacuum", "last_analyze", "last_autovacuum", "last_autoanalyze"],
        roles: &["standby"],
        columns: &["OK", "WARNING", "CRITICAL", "include", "exclude", "includeuser", "excludeuser"],
        reason: "a standby vacuums nothing: UNKNOWN",
    },
    Gap {
        subjects: &["sequence", "settings_checksum", "txn_wraparound"],
        roles: &[],
        columns: &["include", "exclude"],
        reason: "the original ignores them, or dies",
    },
    Gap {
        subjects: &["archive_ready"],
        roles: &[],
        columns: &["WARNING", "CRITICAL"],
        reason: "the original never finds a file, and on a standby there is none",
    },
];
