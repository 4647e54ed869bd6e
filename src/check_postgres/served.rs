//! What an agent answers of this command line: what its listings can tell, and nothing that names a file, a program, another
//! server or a statement.

use super::End;
use super::options::Options;
use crate::plugin::Served;

const ACTIONS: [&str; 34] = [
    "archive_ready",
    "autovac_freeze",
    "backends",
    "bloat",
    "commitratio",
    "connection",
    "database_size",
    "dbstats",
    "disabled_triggers",
    "fsm_pages",
    "fsm_relations",
    "hitratio",
    "hot_standby_delay",
    "index_size",
    "indexes_size",
    "last_analyze",
    "last_autoanalyze",
    "last_autovacuum",
    "last_vacuum",
    "locks",
    "lockwait",
    "prepared_txns",
    "query_time",
    "relation_size",
    "replication_slots",
    "sequence",
    "table_size",
    "timesync",
    "total_relation_size",
    "txn_idle",
    "txn_time",
    "txn_wraparound",
    "version",
    "wal_files",
];

const OPTIONS: [&str; 29] = [
    "action",
    "alldb",
    "critical",
    "dbname",
    "dbuser",
    "exclude",
    "excludedb",
    "excludeuser",
    "help",
    "host",
    "include",
    "includedb",
    "includeuser",
    "language",
    "mrtg",
    "no-check_postgresrc",
    "noidle",
    "output",
    "perflimit",
    "port",
    "quiet",
    "reverse",
    "showperf",
    "showtime",
    "simple",
    "skipcycled",
    "timeout",
    "version",
    "warning",
];

/// The agent for a command line of which it may answer every option.
///
/// # Errors
///
/// The first option that it may not.
pub(super) fn permitted(served: Served, options: &Options) -> Result<Served, End> {
    if let Some(name) = options.names().find(|name| !OPTIONS.contains(name)) {
        return Err(End::refused(served.refuse(format!("the agent does not answer --{name}"))));
    }
    let is_place = ["host", "port"].iter().any(|name| options.has(name));
    let roles = options.list("dbuser");
    let role = (!roles.is_empty()).then(|| roles.join(","));
    Ok(served.naming(is_place, true, role.as_deref()))
}

/// Makes sure that the agent answers an action.
///
/// # Errors
///
/// It does not.
pub(super) fn permit(served: &Served, action: &str) -> Result<(), End> {
    if ACTIONS.contains(&action) {
        return Ok(());
    }
    Err(End::refused(served.refuse(format!("the agent does not answer the action {action}"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_postgres::actions;

    #[test]
    fn what_is_answered_is_there_to_be_answered() {
        let unknown = ACTIONS.into_iter().find(|name| actions::find(name).is_none());
        assert_eq!(unknown, None);
        let is_read = |name: &str| Options::read(&[format!("--{name}=1")], &[]).is_ok_and(|options| options.has(name));
        for name in ["critical", "dbname", "host", "include", "perflimit", "timeout"] {
            assert!(OPTIONS.contains(&name) && is_read(name), "{name}");
        }
        for name in
            ["PGBINDIR", "PSQL", "datadir", "dbpass", "dbservice", "logfile", "query", "repinfo", "role", "suffix"]
        {
            assert!(!OPTIONS.contains(&name) && is_read(name), "{name}");
        }
    }
}
