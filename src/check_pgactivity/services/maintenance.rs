//! `last_vacuum` and `last_analyze`: the table of each database that was left alone the longest.

use std::collections::BTreeMap;

use super::walk::of_users;
use crate::check_pgactivity::threshold::{number, seconds, to_interval};
use crate::check_pgactivity::{Answer, Call, Perf, Service, Status, Stop};
use crate::plugin::Row;

pub(super) const SERVICES: &[Service] = &[
    Service {
        name: "last_vacuum",
        help: "Check the oldest vacuum (from autovacuum or not) on the database.",
        run: |call| Box::pin(last_vacuum(call)),
    },
    Service {
        name: "last_analyze",
        help: "Check the oldest analyze (from autovacuum or not) on the database.",
        run: |call| Box::pin(last_analyze(call)),
    },
];

/// What differs between the two.
struct Kind {
    label: &'static str,
    /// As in the columns of the listing, in labels and in the status file.
    name: &'static str,
    /// Whether a table of the catalog is never done.
    spares: fn(&Row<'_>) -> bool,
}

const VACUUM: Kind = Kind { label: "POSTGRES_LAST_VACUUM", name: "vacuum", spares: |_| false };

const ANALYZE: Kind = Kind {
    label: "POSTGRES_LAST_ANALYZE",
    name: "analyze",
    spares: |row| row.text("schemaname") == "pg_toast" || row.text("relname") == "pg_statistic",
};

/// What is kept of a database: how often it was done by hand and by autovacuum, and what was written when it was fine last.
type Counts = (i64, i64, Option<String>);

/// One database's tables together.
#[derive(Debug, Default, PartialEq)]
struct Tables {
    /// Seconds since the table that was done the longest ago; infinite if one never was, none without tables.
    longest: Option<f64>,
    by_hand: i64,
    by_autovacuum: i64,
}

/// By hand or by autovacuum.
async fn last_vacuum(call: Call) -> Result<Answer, Stop> {
    last(call, &VACUUM).await
}

/// By hand or by autovacuum.
async fn last_analyze(call: Call) -> Result<Answer, Stop> {
    last(call, &ANALYZE).await
}

async fn last(mut call: Call, kind: &Kind) -> Result<Answer, Stop> {
    let otherwise = "critical and warning thresholds only acccepts interval.";
    let (warns, alarms) = call.needed_limits(seconds, otherwise)?;
    let mut host = call.one_host()?;
    let settings = host.rows("settings").await?;
    let is_off = |row: Row<'_>| row.text("metric") == "track_counts" && row.number("value") == Some(0.0);
    if Row::of(&settings).any(is_off) {
        return Err(Stop::Incompatible("This service requires \"track_counts=on\".".to_owned()));
    }
    let kept_as = format!("{}_counts", kind.name);
    let before: BTreeMap<String, Counts> = call.kept.load(&host, &kept_as)?.unwrap_or_default();
    let written = host.rows("database").await?;
    let mut now: BTreeMap<String, Counts> = BTreeMap::new();
    let (mut critical, mut warning, mut perfdata) = (Vec::new(), Vec::new(), Vec::new());
    let databases = of_users(&call, &mut host).await?;
    for database in &databases {
        if host.is_standby().await? {
            return Ok(Answer::new(kind.label, Status::Unknown, "Server is no primary."));
        }
        let rows = host.rows_in(database, "table_maintenance").await?;
        let is_counted = |row: &Row<'_>| {
            let name = || format!("{database}.{}.{}", row.text("schemaname"), row.text("relname"));
            !is_temporary(row) && !(kind.spares)(row) && !call.filters.excludes(&name())
        };
        let tables = Tables::of(Row::of(&rows).filter(is_counted), kind.name);
        let state = state(Row::of(&written), database, warns, alarms);
        let label = database.replace('=', "");
        let longest = tables.longest.unwrap_or(-1.0);
        let shown = if longest.is_infinite() { "Infinity".to_owned() } else { number(longest) };
        perfdata.push(Perf::new(&label, shown).unit("s").limits(Some(warns), Some(alarms)));
        let known = before.get(database);
        if let Some((by_hand, by_autovacuum, _)) = known {
            let name = kind.name;
            perfdata.push(Perf::new(format!("{label} {name}"), tables.by_hand - by_hand));
            perfdata.push(Perf::new(format!("{label} auto{name}"), tables.by_autovacuum - by_autovacuum));
        }
        // Where nobody writes there is nothing to be done.
        let is_idle = known.is_some_and(|(.., fine)| fine.as_ref() == Some(&state));
        let message =
            || format!("{label}: {}", if longest.is_infinite() { "Infinity".to_owned() } else { to_interval(longest) });
        let is_fine = if is_idle {
            true
        } else if longest >= alarms as f64 {
            critical.push(message());
            false
        } else if longest >= warns as f64 {
            warning.push(message());
            false
        } else {
            true
        };
        now.insert(database.clone(), (tables.by_hand, tables.by_autovacuum, is_fine.then_some(state)));
    }
    call.kept.save(&host, &kept_as, &now)?;
    let answer = Answer::judged(kind.label, critical, warning, format!("{} database(s) checked", databases.len()));
    Ok(answer.with_perfdata(perfdata))
}

/// What is written in a database changes this, and so do the thresholds.
fn state<'a>(mut written: impl Iterator<Item = Row<'a>>, database: &str, warns: i64, alarms: i64) -> String {
    let row = written.find(|row| row.text("datname") == database);
    let count = |column| row.map(|row| row.text(column)).unwrap_or_default();
    let [inserted, updated, deleted] = ["tup_inserted", "tup_updated", "tup_deleted"].map(count);
    format!("{inserted} {updated} {deleted} {warns} {alarms}")
}

fn is_temporary(row: &Row<'_>) -> bool {
    let schema = row.text("schemaname");
    schema.starts_with("pg_temp_") || schema.starts_with("pg_toast_temp_") || schema == "information_schema"
}

impl Tables {
    fn of<'a>(rows: impl Iterator<Item = Row<'a>>, kind: &str) -> Self {
        let mut tables = Self::default();
        for row in rows {
            let ages = [format!("{kind}_seconds"), format!("auto{kind}_seconds")].map(|column| row.number(&column));
            let age = ages.into_iter().flatten().reduce(f64::min).unwrap_or(f64::INFINITY);
            tables.longest = Some(tables.longest.map_or(age, |longest| longest.max(age)));
            tables.by_hand += row.integer(&format!("{kind}_count")).unwrap_or_default();
            tables.by_autovacuum += row.integer(&format!("auto{kind}_count")).unwrap_or_default();
        }
        tables
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::RowSet;

    #[test]
    fn one_table_that_was_never_done_is_enough() {
        let columns = ["vacuum_seconds", "autovacuum_seconds", "vacuum_count", "autovacuum_count"];
        let mut rows = RowSet::new(columns.map(str::to_owned).to_vec());
        for value in [Some("9.5"), Some("7"), Some("1"), Some("2"), Some("10.5"), None, Some("3"), Some("0")] {
            assert!(rows.push(value));
        }
        let tables = Tables::of(Row::of(&rows), "vacuum");
        assert_eq!(tables, Tables { longest: Some(10.5), by_hand: 4, by_autovacuum: 2 });
        for value in [None, None, Some("0"), Some("0")] {
            assert!(rows.push(value));
        }
        assert_eq!(Tables::of(Row::of(&rows), "vacuum").longest, Some(f64::INFINITY));
        assert_eq!(Tables::of(std::iter::empty(), "vacuum").longest, None);
    }
}
