//! How long queries and transactions last, and what is prepared.

use crate::check::Status;
use crate::check_postgres::text::{Precision, number, perfname, pretty_time};
use crate::check_postgres::threshold::{Bare, Counted, Kind, Wanted, count_or_time, written};
use crate::check_postgres::{Action, At, Call, Ended};
use crate::plugin::Row;
use crate::server::RowSet;

pub(super) const ACTIONS: &[Action] = &[
    Action {
        run: |call| Box::pin(longest(call, &QUERIES)),
        ..Action::clusterwide("query_time", "How long queries have been running")
    },
    Action {
        run: |call| Box::pin(longest(call, &IDLE)),
        ..Action::clusterwide("txn_idle", "How long sessions have been idle in a transaction")
    },
    Action {
        run: |call| Box::pin(longest(call, &TRANSACTIONS)),
        ..Action::clusterwide("txn_time", "How long transactions have been open")
    },
    Action {
        run: |call| Box::pin(prepared_txns(call)),
        ..Action::clusterwide("prepared_txns", "How long prepared transactions have been waiting")
    },
];

/// What sessions do, and the words for it.
struct Doing {
    /// For how many seconds a session has been doing it.
    seconds: fn(&Row<'_>) -> Option<f64>,
    label: &'static str,
    /// `longest query` in `longest query: 5s`.
    longest: &'static str,
    /// `queries` in `3 queries longer than 5s`.
    longer: &'static str,
    /// `Total queries` in `Total queries: 3`.
    total: &'static str,
    /// `queries` in `not more than 3 queries`.
    not_more: &'static str,
    none: &'static str,
}

const QUERIES: Doing = Doing {
    seconds: |row| row.number("state_seconds").filter(|_| !row.text("state").starts_with("idle")),
    label: "query_time",
    longest: "longest query",
    longer: "queries",
    total: "Total queries",
    not_more: "queries",
    none: "no queries",
};

const IDLE: Doing = Doing {
    seconds: |row| row.number("state_seconds").filter(|_| row.text("state") == "idle in transaction"),
    label: "transaction_time",
    longest: "longest idle in txn",
    longer: "idle transactions",
    total: "Total idle in transaction",
    not_more: "idle in transaction",
    none: "no idle in transaction",
};

const TRANSACTIONS: Doing = Doing {
    seconds: |row| row.number("transaction_seconds"),
    label: "transaction_time",
    longest: "longest txn",
    longer: "transactions",
    total: "Total transactions",
    not_more: "transactions",
    none: "No transactions",
};

async fn longest(call: &mut Call, doing: &Doing) -> Ended {
    let (warning, critical) = count_or_time(&call.options, Bare::Time)?;
    for (at, answer) in call.rows("processes").await? {
        let sessions = sessions(call, &answer);
        if let Some(reason) = unseen(&sessions) {
            if call.is_mrtg() {
                return Err(call.mrtg_stats(reason));
            }
            call.unknown(at, reason);
            continue;
        }
        let mut busy: Vec<(f64, &Row<'_>)> =
            sessions.iter().filter_map(|row| Some(((doing.seconds)(row)?, row))).collect();
        busy.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        judge(call, at, doing, &busy, [critical, warning])?;
    }
    Ok(())
}

/// The sessions of clients that the options leave.
fn sessions<'a>(call: &Call, answer: &'a RowSet) -> Vec<Row<'a>> {
    let clients = Row::of(answer).filter(|row| row.text("backend_type") == "client backend" || is_hidden(row));
    let kept = clients.filter(|row| row.get("usename").is_some_and(|user| call.filter.keeps_owner(user)));
    kept.filter(|row| call.filter.keeps(row.text("datname"))).collect()
}

fn is_hidden(row: &Row<'_>) -> bool {
    row.get("state").is_none() && row.text("query") == "<insufficient privilege>"
}

/// Why what sessions do cannot be seen.
fn unseen(sessions: &[Row<'_>]) -> Option<&'static str> {
    if sessions.iter().any(is_hidden) {
        return Some("No matches - please run as a superuser");
    }
    let is_off = |row: &Row<'_>| row.is("is_own") && row.text("state") == "disabled";
    let reason = "No queries - is stats_command_string or track_activities off?";
    sessions.iter().any(is_off).then_some(reason)
}

/// `busy` has the longest first, `limits` critical before warning.
fn judge(call: &mut Call, at: At, doing: &Doing, busy: &[(f64, &Row<'_>)], limits: [Counted; 2]) -> Ended {
    let [critical, warning] = limits;
    let (label, count) = (doing.label, busy.len());
    let Some((seconds, who)) = busy.first() else {
        if call.is_mrtg() {
            return Err(call.mrtg(0, "", format!("DB: {}", call.place(at).database)));
        }
        *call.perf(at) = format!("{label}=0;{};{}", written(warning.time), written(critical.time));
        call.ok(at, doing.none);
        return Ok(());
    };
    let seconds = seconds.round();
    let who = if seconds > 0.0 { named(who) } else { String::new() };
    if call.is_mrtg() {
        let who = if who.is_empty() { format!("DB: {}", call.place(at).database) } else { who };
        return Err(call.mrtg(number(seconds), "", who));
    }
    let length = if seconds > 300.0 {
        format!("{}s ({})", number(seconds), pretty_time(seconds, Precision::Full))
    } else {
        format!("{}s", number(seconds))
    };
    let longest = format!("{}: {length} {who}", doing.longest);
    *call.perf(at) = format!("{label}={}s;{};{}", number(seconds), written(warning.time), written(critical.time));
    for (status, limit) in [(Status::Critical, critical), (Status::Warning, warning)] {
        let longer = |time: f64| busy.iter().filter(|(seconds, _)| seconds.round() >= time).count();
        let reaches = |found: usize, most: f64| number_of(found) >= most;
        let message = match (limit.count, limit.time) {
            (Some(most), Some(time)) if reaches(longer(time), most) => {
                let found = longer(time);
                format!("{found} {} longer than {}s, longest: {length} {who}", doing.longer, number(time))
            }
            (None, Some(time)) if seconds >= time => longest,
            (Some(most), None) if reaches(count, most) => format!("{}: {count}", doing.total),
            _ => continue,
        };
        call.say(status, at, message);
        return Ok(());
    }
    let least = warning.count.or(critical.count).filter(|least| number_of(count) < *least);
    let Some(least) = least else {
        call.ok(at, longest);
        return Ok(());
    };
    *call.perf(at) = format!("{label}={count};{};{}", written(warning.count), written(critical.count));
    call.ok(at, format!("not more than {} {}", number(least), doing.not_more));
    Ok(())
}

/// So many as a number that a threshold is.
fn number_of(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

/// Who it is, and the statement.
fn named(row: &Row<'_>) -> String {
    let mut who = format!("PID:{} database:{} username:{}", row.text("pid"), row.text("datname"), row.text("usename"));
    if let Some(address) = row.get("client_addr") {
        who += &format!(" address:{address}");
    }
    if row.number("client_port").is_some_and(|port| port >= 1.0) {
        who += &format!(" port:{}", row.text("client_port"));
    }
    who + &format!(" query:{}", row.text("query").trim_end())
}

async fn prepared_txns(call: &mut Call) -> Ended {
    let limits = call.limits(Wanted::new(Kind::Seconds).or("1", "30"))?;
    for (at, answer) in call.rows("prepared_transactions").await? {
        let kept = Row::of(&answer).filter(|row| call.filter.keeps(row.text("datname")));
        let found: Vec<(Row<'_>, f64)> = kept.filter_map(|row| Some((row, row.number("seconds")?.round()))).collect();
        let oldest = found.iter().map(|(_, age)| *age).max_by(f64::total_cmp);
        if call.is_mrtg() {
            let oldest = oldest.unwrap_or_default();
            let names = found.iter().filter(|(_, age)| *age >= oldest).map(|(row, _)| row.text("datname"));
            let names: Vec<&str> = names.collect();
            return Err(call.mrtg(number(oldest), "", names.join(" | ")));
        }
        let Some(oldest) = oldest else {
            if answer.is_empty() {
                call.ok(at, "No prepared transactions found");
            } else {
                call.unknown(at, "No matching databases found due to exclusion/inclusion options");
            }
            continue;
        };
        let worst = limits.at_least(oldest);
        let mut message = Vec::new();
        for (row, age) in found {
            let (name, age_text) = (row.text("datname"), number(age));
            *call.perf(at) += &format!(" {}={age_text}s;{}", perfname(name), limits.perf());
            if limits.at_least(age) == worst {
                message.push(format!("{name}={} ({age_text})", row.text("prepared")));
            }
        }
        call.say(worst, at, message.join(" "));
    }
    Ok(())
}
