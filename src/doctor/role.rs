//! What our role may that it need not, and what else is worth a word.

use super::{Finding, Remedy, Severity, column};
use crate::server::RowSet;

/// A role needs two connections; two more keep a server that is slow to end old ones from refusing the next.
const CONNECTION_LIMIT: i64 = 4;

/// The role we log in as and the one whose privileges we have, which a setting can make another.
pub(super) const ROLES: &str = "SELECT pg_catalog.quote_ident(rolname), oid = 10, rolsuper, rolcreaterole, rolcreatedb, \
     rolreplication, rolbypassrls, rolname = session_user, rolconnlimit, \
     EXTRACT(EPOCH FROM rolvaliduntil - pg_catalog.now())::pg_catalog.float8 \
     FROM pg_catalog.pg_roles WHERE rolname IN (current_user, session_user)";

/// Predefined roles that let their members read or change what is not the server's own state.
pub(super) const MEMBERSHIPS: &str = "SELECT pg_catalog.quote_ident(m.rolname), g.rolname \
     FROM pg_catalog.pg_auth_members AS a JOIN pg_catalog.pg_roles AS g ON g.oid = a.roleid \
     JOIN pg_catalog.pg_roles AS m ON m.oid = a.member \
     WHERE m.rolname IN (current_user, session_user) AND g.rolname IN ('pg_execute_server_program', \
     'pg_write_server_files', 'pg_read_server_files', 'pg_write_all_data', 'pg_read_all_data', 'pg_signal_backend', \
     'pg_maintain', 'pg_create_subscription') ORDER BY 1, 2";

/// Databases that take connections but not ours.
pub(super) const CLOSED_DATABASES: &str = "SELECT pg_catalog.quote_ident(datname) FROM pg_catalog.pg_database \
     WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2 \
     AND NOT pg_catalog.has_database_privilege(oid, 'CONNECT') ORDER BY 1";

/// Settings that decide how much the statistics say.
pub(super) const SETTINGS: &str = "SELECT name, setting FROM pg_catalog.pg_settings ORDER BY name";

/// Settings, the value that says less, and what is lost by it.
const TELLING: &[(&str, &str, &str, &str)] = &[
    ("track_activities", "off", "on", "what sessions do is not known to the server itself"),
    ("track_counts", "off", "on", "rows and blocks of databases are not counted, and autovacuum does not run"),
    ("track_io_timing", "off", "on", "times of reads and writes stay 0"),
    ("track_wal_io_timing", "off", "on", "times of writing and syncing WAL stay 0"),
    ("compute_query_id", "off", "auto", "pg_stat_statements sees no statement"),
    ("pg_stat_statements.track", "none", "top", "pg_stat_statements counts no statement"),
];

/// What `ROLES` answers.
pub(super) fn of_roles(rows: &RowSet) -> Vec<Finding> {
    let mut findings = Vec::new();
    for row in 0..rows.len() {
        let is_true = |column| rows.value(row, column) == Some("t");
        let role = rows.value(row, 0).unwrap_or_default();
        if is_true(2) {
            findings.push(superuser(role, is_true(1)));
        }
        let attributes = [(3, "CREATEROLE"), (4, "CREATEDB"), (5, "REPLICATION"), (6, "BYPASSRLS")];
        // The first superuser has them all, and cannot be made less.
        for (_, attribute) in attributes.into_iter().filter(|(column, _)| is_true(*column) && !is_true(1)) {
            let statement = format!("ALTER ROLE {role} NO{attribute}");
            let what = format!("{role} has {attribute}, which it does not need");
            findings.push(Finding::new(Severity::Excess, what, vec![Remedy::Sql(statement)]));
        }
        if is_true(7) {
            let limit = rows.value(row, 8).and_then(|limit| limit.parse::<i64>().ok()).unwrap_or(-1);
            findings.extend(connection_limit(role, limit).filter(|_| !is_true(2)));
            let left = rows.value(row, 9).and_then(|left| left.parse::<f64>().ok());
            findings.extend(left.and_then(|left| expiry(role, left)));
        }
    }
    findings
}

fn superuser(role: &str, is_bootstrap: bool) -> Finding {
    let statements = if is_bootstrap {
        // The first superuser cannot be made less.
        let own = ["CREATE ROLE pgvitals LOGIN NOSUPERUSER CONNECTION LIMIT 4", "GRANT pg_monitor TO pgvitals"];
        own.map(str::to_owned).to_vec()
    } else {
        vec![format!("GRANT pg_monitor TO {role}"), format!("ALTER ROLE {role} NOSUPERUSER")]
    };
    let mut remedies: Vec<Remedy> = statements.into_iter().map(Remedy::Sql).collect();
    if is_bootstrap {
        remedies.push(Remedy::Advice("then connect as pgvitals".to_owned()));
    }
    Finding::new(Severity::Excess, format!("{role} is a superuser, where pg_monitor is enough"), remedies)
}

fn connection_limit(role: &str, limit: i64) -> Option<Finding> {
    let what = match limit {
        -1 => format!("{role} has no CONNECTION LIMIT: we take two at most, a limit makes sure of it"),
        ..3 => format!("{role} has a CONNECTION LIMIT of {limit}: we take two, and one that ends may overlap the next"),
        _ => return None,
    };
    let statement = format!("ALTER ROLE {role} CONNECTION LIMIT {CONNECTION_LIMIT}");
    Some(Finding::new(Severity::Hint, what, vec![Remedy::Sql(statement)]))
}

fn expiry(role: &str, seconds_left: f64) -> Option<Finding> {
    let days = (seconds_left / 86_400.0).ceil();
    let statement = format!("ALTER ROLE {role} VALID UNTIL 'infinity'");
    let what = match days {
        ..=0.0 => format!("the password of {role} is no longer valid, the next connection may fail"),
        ..=30.0 => format!("the password of {role} is valid for {days} more days"),
        _ => return None,
    };
    Some(Finding::new(Severity::Hint, what, vec![Remedy::Sql(statement)]))
}

/// What `MEMBERSHIPS` answers.
pub(super) fn of_memberships(rows: &RowSet) -> Vec<Finding> {
    let finding = |(role, granted): (&str, &str)| {
        let statement = format!("REVOKE {granted} FROM {role}");
        let what = format!("{role} is a member of {granted}, which it does not need");
        Finding::new(Severity::Excess, what, vec![Remedy::Sql(statement)])
    };
    column(rows, 0).zip(column(rows, 1)).map(finding).collect()
}

/// What `CLOSED_DATABASES` answers.
pub(super) fn of_databases(rows: &RowSet, role: &str) -> Option<Finding> {
    let grant = |database| Remedy::Sql(format!("GRANT CONNECT ON DATABASE {database} TO {role}"));
    let grants: Vec<Remedy> = column(rows, 0).map(grant).collect();
    let what = format!("{} databases are closed to us: nothing is read in them", grants.len());
    (!grants.is_empty()).then(|| Finding::new(Severity::Hint, what, grants))
}

/// What `SETTINGS` answers.
pub(super) fn of_settings(rows: &RowSet) -> Vec<Finding> {
    let mut findings = Vec::new();
    for row in 0..rows.len() {
        let (name, value) = (rows.value(row, 0).unwrap_or_default(), rows.value(row, 1).unwrap_or_default());
        for (_, _, better, lost) in TELLING.iter().filter(|(known, less, ..)| (*known, *less) == (name, value)) {
            let line = format!("{name} = {better}");
            let remedy = Remedy::Line { file: "postgresql.conf", line, then: "reload" };
            findings.push(Finding::new(Severity::Hint, format!("{name} is {value}: {lost}"), vec![remedy]));
        }
    }
    findings
}
