//! Locks, and who waits for whose.

use std::collections::BTreeMap;

use crate::check::Status;
use crate::check_postgres::text::{Precision, number, perfname, pretty_time};
use crate::check_postgres::threshold::{Kind, Wanted, per_name};
use crate::check_postgres::{Action, Call, End, Ended};
use crate::plugin::Row;

pub(super) const ACTIONS: &[Action] = &[
    Action { run: |call| Box::pin(locks(call)), ..Action::of_database("locks", "The number of locks, of each kind") },
    Action {
        run: |call| Box::pin(lockwait(call)),
        ..Action::of_database("lockwait", "Who waits for whose lock, and how long")
    },
];

/// What can be counted: the modes of locks without `lock`, all of them, and those awaited.
const COUNTED: [&str; 11] = [
    "accessexclusive",
    "accessshare",
    "exclusive",
    "rowexclusive",
    "rowshare",
    "share",
    "sharerowexclusive",
    "shareupdateexclusive",
    "siread",
    "total",
    "waiting",
];

async fn locks(call: &mut Call) -> Ended {
    let (warning, critical) =
        if call.is_mrtg() { Default::default() } else { per_name(&call.options, ("100", "150"))? };
    for (option, named) in [("warning", &warning), ("critical", &critical)] {
        if let Some(name) = named.keys().find(|name| !COUNTED.contains(&name.as_str())) {
            let known = COUNTED.join(", ");
            return Err(End::refused(format!("Invalid '{option}' option: no lock is called \"{name}\", but {known}")));
        }
    }
    for at in call.places() {
        let databases = call.rows_at(at, "databases").await?;
        let answer = call.rows_at(at, "locks").await?;
        let open = Row::of(&databases).filter(|row| row.is("allows_connections")).map(|row| row.text("datname"));
        let mut found: BTreeMap<&str, BTreeMap<&str, f64>> =
            open.filter(|name| call.filter.keeps(name)).map(|name| (name, BTreeMap::new())).collect();
        for row in Row::of(&answer) {
            let Some(counts) = found.get_mut(row.text("datname")) else { continue };
            let (mode, count) = (row.text("mode").trim_end_matches("lock"), row.number("count").unwrap_or_default());
            *counts.entry(mode).or_default() += count;
            *counts.entry("total").or_default() += count;
            *counts.entry("waiting").or_default() += row.number("waiting").unwrap_or_default();
        }
        if found.is_empty() {
            let reason = "No matching databases found due to exclusion/inclusion options";
            if call.is_mrtg() {
                return Err(call.mrtg_stats(reason));
            }
            call.unknown(at, reason);
            continue;
        }
        let count = |counts: &BTreeMap<&str, f64>, kind: &str| counts.get(kind).copied().unwrap_or_default();
        let total = |kind: &str| found.values().map(|counts| count(counts, kind)).sum::<f64>();
        if call.is_mrtg() {
            let message = format!("DB: {}", call.place(at).database);
            return Err(call.mrtg(number(total("total")), "", message));
        }
        let limited: Vec<&str> =
            COUNTED.into_iter().filter(|kind| warning.contains_key(*kind) || critical.contains_key(*kind)).collect();
        for (name, counts) in &found {
            for kind in &limited {
                let label = perfname(&format!("{name}.{kind}"));
                let mut entry = format!(" {label}={};", number(count(counts, kind)));
                entry += &warning.get(*kind).copied().map(number).unwrap_or_default();
                if let Some(limit) = critical.get(*kind).filter(|limit| **limit > 0.0) {
                    entry += &format!(";{}", number(*limit));
                }
                *call.perf(at) += &entry;
            }
        }
        let mut is_ok = true;
        for kind in limited {
            let found = total(kind);
            for (status, limits) in [(Status::Critical, &critical), (Status::Warning, &warning)] {
                if limits.get(kind).is_some_and(|limit| found >= *limit) {
                    let what =
                        if kind == "total" { "total locks".to_owned() } else { format!("total \"{kind}\" locks") };
                    call.say(status, at, format!("{what}: {}", number(found)));
                    is_ok = false;
                }
            }
        }
        if is_ok {
            call.ok(at, format!("total={} ", number(total("total"))));
        }
    }
    Ok(())
}

async fn lockwait(call: &mut Call) -> Ended {
    let limits = call.limits(Wanted::new(Kind::Time).or("1 min", "2 min"))?;
    let mut pairs = 0_u32;
    for (at, answer) in call.rows("blocking_pairs").await? {
        let kept: Vec<Row<'_>> = Row::of(&answer).filter(|row| call.filter.keeps(row.text("datname"))).collect();
        for row in kept {
            pairs += 1;
            // Before 14 the server does not say how long it waits, and the statement began before it did.
            let waited = row.number("waited_seconds").or_else(|| row.number("statement_seconds"));
            let Some(waited) = waited.map(f64::round) else {
                call.unknown(at, "No matches - please run as a superuser");
                continue;
            };
            let (database, pid, user, statement) =
                (row.text("datname"), row.text("pid"), row.text("usename"), row.text("query"));
            let blocker = row.text("blocker_pid");
            let blocker_user = row.get("blocker_user").unwrap_or("prepared transaction");
            let time = pretty_time(waited, Precision::Full);
            let message = format!(
                "{database}: {blocker_user}({blocker}) blocking {user}({pid}) for {time} blocked statement \"{statement}\""
            );
            call.say(limits.at_least(waited), at, message);
        }
    }
    if call.is_mrtg() {
        return Err(call.mrtg(pairs, "", ""));
    }
    if pairs == 0 {
        call.say_of_none(Status::Ok, "No blocking locks");
    }
    Ok(())
}
