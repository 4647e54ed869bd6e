//! Databases: sizes, ratios, counters.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::check::Status;
use crate::check_postgres::text::{number, one_line, perfname};
use crate::check_postgres::threshold::{Kind, Wanted};
use crate::check_postgres::{Action, At, Call, End, Ended, Outcome};
use crate::plugin::Row;
use crate::server::RowSet;

pub(super) const ACTIONS: &[Action] = &[
    Action {
        run: |call| Box::pin(database_size(call)),
        ..Action::of_database("database_size", "The size of each database")
    },
    Action {
        run: |call| Box::pin(ratio(call, "xact_commit", "xact_rollback")),
        ..Action::of_database("commitratio", "Which part of the transactions commits, since the counters were reset")
    },
    Action {
        run: |call| Box::pin(ratio(call, "blks_hit", "blks_read")),
        ..Action::of_database("hitratio", "Which part of the blocks is found in memory, since the counters were reset")
    },
    Action {
        run: |call| Box::pin(dbstats(call)),
        ..Action::clusterwide("dbstats", "Counters of each database, for cacti")
    },
];

/// What there is to say where the options leave nothing, and how bad that is.
fn nothing_left(call: &Call) -> (Status, &'static str) {
    if call.filter.is_by_owner() {
        (Status::Ok, "No matching entries found due to user exclusion/inclusion options")
    } else {
        (Status::Unknown, "No matching databases found due to exclusion/inclusion options")
    }
}

/// The databases that the options leave.
fn kept<'a>(call: &Call, databases: &'a RowSet) -> Vec<Row<'a>> {
    let is_kept = |row: &Row<'_>| call.filter.keeps(row.text("datname")) && call.filter.keeps_owner(row.text("owner"));
    Row::of(databases).filter(is_kept).collect()
}

async fn database_size(call: &mut Call) -> Ended {
    let limits = call.limits(Wanted::new(Kind::Size))?;
    for at in call.places() {
        let databases = call.rows_at(at, "databases").await?;
        let answer = call.rows_at(at, "database_size").await?;
        let measured: HashMap<&str, f64> =
            Row::of(&answer).filter_map(|row| Some((row.text("datname"), row.number("size")?))).collect();
        let mut sizes = Vec::new();
        // -2 marks a database whose DROP was interrupted.
        for row in kept(call, &databases).iter().filter(|row| row.text("connection_limit") != "-2") {
            let name = row.text("datname");
            let size = measured.get(name).copied();
            sizes.push((name, size.ok_or_else(|| End::refused(format!("permission denied for database {name}")))?));
        }
        sizes.sort_by(|(one, size), (other, larger)| larger.total_cmp(size).then(one.cmp(other)));
        let largest = sizes.first().map(|(_, size)| *size);
        sizes.truncate(call.perflimit().unwrap_or(usize::MAX));
        let Some(largest) = largest else {
            say_nothing_left(call, at)?;
            continue;
        };
        if call.is_mrtg() {
            let message = format!("DB: {}", call.place(at).database);
            return Err(call.mrtg(number(largest), "", message));
        }
        let mut message = String::new();
        for (name, size) in sizes {
            message += &format!("{name}: {} ({}) ", number(size), pg_size_pretty(size));
            *call.perf(at) += &format!(" {}={};{}", perfname(name), number(size), limits.perf());
        }
        call.say(limits.at_least(largest), at, message);
    }
    Ok(())
}

/// Says that the options leave nothing; for MRTG that is the end, as there is no number.
fn say_nothing_left(call: &mut Call, at: At) -> Ended {
    let (status, message) = nothing_left(call);
    if call.is_mrtg() {
        return Err(call.mrtg_stats(message));
    }
    call.say(status, at, message);
    Ok(())
}

/// A number of bytes as the server's function of this name writes it: whole units, the next one from 10240 on.
fn pg_size_pretty(bytes: f64) -> String {
    if bytes < 10_240.0 {
        return format!("{} bytes", number(bytes));
    }
    // It counts halves, the last of which decides to which side it rounds.
    let mut halves = (bytes / 512.0).floor();
    let mut units = ["kB", "MB", "GB", "TB"].into_iter();
    let unit = loop {
        let Some(unit) = units.next() else { break "PB" };
        if halves < 20_479.0 {
            break unit;
        }
        halves = (halves / 1024.0).floor();
    };
    format!("{} {unit}", number((halves / 2.0 + 0.5).floor()))
}

/// How large the part `good` is of `good` and `bad`, in hundredths of a per cent, rounded as the server rounds a numeric.
fn share(good: u128, bad: u128) -> Option<u128> {
    let all = good.checked_add(bad).filter(|all| *all > 0)?;
    Some((good.checked_mul(20_000)? + all) / (all * 2))
}

async fn ratio(call: &mut Call, good: &str, bad: &str) -> Ended {
    let limits = call.limits(Wanted::new(Kind::Percent))?;
    for at in call.places() {
        let databases = call.rows_at(at, "databases").await?;
        let answer = call.rows_at(at, "database").await?;
        let counters: HashMap<&str, Row<'_>> = Row::of(&answer).map(|row| (row.text("datname"), row)).collect();
        let count = |row: &Row<'_>, column: &str| row.text(column).parse::<u128>().ok();
        let of_database = |row: &Row<'_>| {
            let counters = counters.get(row.text("datname"))?;
            share(count(counters, good)?, count(counters, bad)?)
        };
        let mut shares: Vec<(&str, u128)> =
            kept(call, &databases).iter().filter_map(|row| Some((row.text("datname"), of_database(row)?))).collect();
        shares.sort_by(|(one, share), (other, larger)| match share.cmp(larger) {
            Ordering::Equal => other.cmp(one),
            order => order,
        });
        shares.truncate(call.perflimit().unwrap_or(usize::MAX));
        let Some(lowest) = shares.first().map(|(_, share)| percent(*share)) else {
            say_nothing_left(call, at)?;
            continue;
        };
        if call.is_mrtg() {
            let message = format!("DB: {}", call.place(at).database);
            return Err(call.mrtg(lowest, "", message));
        }
        let mut message = String::new();
        for (name, share) in shares {
            let share = percent(share);
            message += &format!("{name}: {share} ");
            *call.perf(at) += &format!(" {}={share};{}", perfname(name), limits.perf());
        }
        call.say(limits.at_most(lowest.parse().unwrap_or_default()), at, message);
    }
    Ok(())
}

/// Hundredths with both decimals.
fn percent(hundredths: u128) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// What cacti calls the counters of a database, and the column of each.
const COUNTERS: [(&str, &str); 5] = [
    ("backends", "numbackends"),
    ("commits", "xact_commit"),
    ("rollbacks", "xact_rollback"),
    ("read", "blks_read"),
    ("hit", "blks_hit"),
];
/// The same of what its tables and indexes were read for.
const SCANS: [(&str, &str); 7] = [
    ("idxscan", "index_scans"),
    ("idxtupread", "index_entries"),
    ("idxtupfetch", "index_rows"),
    ("idxblksread", "index_blocks_read"),
    ("idxblkshit", "index_blocks_hit"),
    ("seqscan", "table_scans"),
    ("seqtupread", "table_rows"),
];
/// The same of its rows.
const ROWS: [(&str, &str); 5] = [
    ("ret", "tup_returned"),
    ("fetch", "tup_fetched"),
    ("ins", "tup_inserted"),
    ("upd", "tup_updated"),
    ("del", "tup_deleted"),
];

async fn dbstats(call: &mut Call) -> Ended {
    if call.options.is_on("warning") || call.options.is_on("critical") {
        return Err(End::refused("This action is for cacti use only and takes no warning or critical arguments"));
    }
    let named: Vec<String> =
        call.options.list("dbname").iter().flat_map(|list| list.split(',')).map(ToOwned::to_owned).collect();
    let several = call.places().count() > 1;
    let mut stdout = String::new();
    for at in call.places() {
        let counters = call.rows_at(at, "database").await?;
        let scans = call.rows_at(at, "scans").await?;
        let Some(scans) = Row::of(&scans).next() else { continue };
        for row in Row::of(&counters) {
            let name = row.text("datname");
            let is_here = name == scans.text("datname");
            // Where several places are asked, each tells of itself.
            let is_named = named.is_empty() || named.iter().any(|named| named == name) && (is_here || !several);
            if !is_named || !call.filter.keeps(name) {
                continue;
            }
            stdout += &entries(&row, &COUNTERS);
            // Of other databases a session cannot see it.
            if is_here {
                stdout += &entries(&scans, &SCANS);
            }
            stdout += &format!("{}dbname:{}\n", entries(&row, &ROWS), one_line(name, false));
        }
    }
    Err(End::Printed(Outcome { stdout, ..Outcome::default() }))
}

fn entries(row: &Row<'_>, columns: &[(&str, &str)]) -> String {
    let entry = |(name, column): &(&str, &str)| format!("{name}:{} ", row.get(column).unwrap_or("0"));
    columns.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_the_server_writes_them() {
        for (bytes, text) in [
            (10_239.0, "10239 bytes"),
            (10_240.0, "10 kB"),
            (7_904_615.0, "7719 kB"),
            (10_485_247.0, "10239 kB"),
            (10_485_248.0, "10 MB"),
            (1.099_511_627_776e13, "10 TB"),
            (1e18, "888 PB"),
        ] {
            assert_eq!(pg_size_pretty(bytes), text);
        }
    }

    #[test]
    fn a_share_is_rounded_as_the_server_rounds() {
        let text = |good, bad| share(good, bad).map(percent);
        assert_eq!(text(95, 5).as_deref(), Some("95.00"));
        assert_eq!(text(1, 2).as_deref(), Some("33.33"));
        assert_eq!(text(2, 1).as_deref(), Some("66.67"));
        assert_eq!(text(1, 19_999).as_deref(), Some("0.01"));
        assert_eq!(text(u128::from(u64::MAX), 0).as_deref(), Some("100.00"));
        assert_eq!(text(0, 0), None);
    }
}
