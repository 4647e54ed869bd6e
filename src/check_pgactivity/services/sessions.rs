//! Who is connected, and what they are at.

use std::collections::BTreeMap;

use crate::check_pgactivity::threshold::{count, labelled, number, seconds, to_interval};
use crate::check_pgactivity::{Answer, Call, Host, Perf, Service, Status, Stop};
use crate::plugin::Row;
use crate::server::RowSet;

pub(super) const SERVICES: &[Service] = &[
    Service { name: "autovacuum", help: "Check the autovacuum activity.", run: |call| Box::pin(autovacuum(call)) },
    Service {
        name: "backends",
        help: "Number of connections, compared to max_connections.",
        run: |call| Box::pin(backends(call)),
    },
    Service {
        name: "backends_status",
        help: "Number of connections in relation to their status.",
        run: |call| Box::pin(backends_status(call)),
    },
];

/// What the server shows of a statement that is none of ours.
const HIDDEN: &str = "<insufficient privilege>";

/// Whether the role may not see what others do. The checkpointer is always there, and shown as one to those who may; that a
/// single session is hidden from them too, as clouds hide their own, is no reason to say nothing.
fn hides_some(rows: &RowSet) -> bool {
    !Row::of(rows).any(|row| row.text("backend_type") == "checkpointer")
}

async fn limit_of(host: &mut Host, column: &str) -> Result<f64, Stop> {
    let limits = host.rows("connection_limits").await?;
    let limit = Row::of(&limits).next().and_then(|row| row.number(column));
    limit.ok_or_else(|| Stop::unknown("the server does not tell its limits"))
}

async fn autovacuum(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_AUTOVACUUM";
    const KINDS: [&str; 5] = ["VACUUM", "VACUUM_ANALYZE", "ANALYZE", "VACUUM_FREEZE", "BRIN_SUMMARIZE"];
    let mut host = call.one_host()?;
    let workers = limit_of(&mut host, "autovacuum_max_workers").await?;
    let rows = host.rows("processes").await?;
    if hides_some(&rows) {
        let reason = "what autovacuum does is hidden from this role, which needs pg_monitor";
        return Ok(Answer::new(LABEL, Status::Unknown, reason));
    }
    let mut counts = KINDS.map(|kind| (kind, 0_u32));
    let mut found: Vec<(f64, &str)> = Row::of(&rows)
        .filter_map(|row| {
            let task = row.text("query").strip_prefix("autovacuum: ")?;
            Some((row.number("statement_seconds").unwrap_or_default().round(), task))
        })
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (_, task) in &found {
        let kind = match *task {
            task if task.ends_with("(to prevent wraparound)") => "VACUUM_FREEZE",
            task if task.starts_with("VACUUM ANALYZE") => "VACUUM_ANALYZE",
            task if task.starts_with("VACUUM") => "VACUUM",
            task if task.starts_with("BRIN summarize") => "BRIN_SUMMARIZE",
            _ => "ANALYZE",
        };
        counts.iter_mut().filter(|(own, _)| *own == kind).for_each(|(_, count)| *count += 1);
    }
    let oldest = found.first().map(|(age, _)| *age);
    let mut perfdata: Vec<Perf> = counts.into_iter().map(|(kind, count)| Perf::new(kind, count)).collect();
    perfdata.push(Perf::new("oldest_autovacuum", number(oldest.unwrap_or(f64::NAN))).unit("s"));
    perfdata.push(Perf::new("max_workers", number(workers)));
    let mut answer = Answer::new(LABEL, Status::Ok, format!("Number of autovacuum: {}", found.len()));
    answer.messages.extend(oldest.map(|oldest| format!("Oldest autovacuum: {}", to_interval(oldest))));
    let long = found.into_iter().map(|(_, task)| task.to_owned()).collect();
    Ok(answer.with_perfdata(perfdata).with_long(long))
}

async fn backends(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_BACKENDS";
    const EXPECTED: &str = "critical and warning thresholds only accept raw numbers or %.";
    let (warning, critical) = call.needed_limits(|text| count(text, 100.0).map(|_| text.to_owned()), EXPECTED)?;
    let mut host = call.one_host()?;
    let usable = limit_of(&mut host, "usable").await?;
    let limit = |text: &str| count(text, usable).ok_or_else(|| Stop::usage(EXPECTED));
    let (warning, critical) = (limit(&warning)?, limit(&critical)?);
    let rows = host.rows("processes").await?;
    if hides_some(&rows) {
        let reason = "connections of other roles are hidden from this one, which needs pg_monitor";
        return Ok(Answer::new(LABEL, Status::Unknown, reason));
    }

    let mut databases: BTreeMap<&str, u32> = BTreeMap::new();
    for row in Row::of(&rows).filter(|row| row.text("backend_type") == "client backend") {
        if let Some(database) = row.get("datname") {
            *databases.entry(database).or_default() += 1;
        }
    }
    // Walsenders take a connection before 12, and have slots of their own since.
    if host.version().await? < 120_000 {
        let senders = Row::of(&rows).filter(|row| row.text("backend_type") == "walsender").count();
        *databases.entry("replication").or_default() += u32::try_from(senders).unwrap_or(u32::MAX);
    }
    let total: u32 = databases.values().sum();
    let (low, high, most) = (number(warning), number(critical), number(usable));
    let perf =
        |(database, count)| Perf::new(database, count).unit("").limits(Some(&low), Some(&high)).least(0).most(&most);
    let mut perfdata: Vec<Perf> = databases.into_iter().map(perf).collect();
    perfdata.push(Perf::new("maximum_connections", &most).least(0).most(&most));
    let status = Status::from(f64::from(total), Some((warning, critical)));
    Ok(Answer::new(LABEL, status, format!("{total} connections on {most}")).with_perfdata(perfdata))
}

/// The states, by name; and what they are called in thresholds, if they can have any.
const STATES: [(&str, Option<&str>); 9] = [
    ("active", Some("active")),
    ("disabled", None),
    ("fastpath function call", Some("fastpath")),
    ("idle", Some("idle")),
    ("idle in transaction", Some("idle_xact")),
    ("idle in transaction (aborted)", Some("aborted_xact")),
    ("insufficient privilege", None),
    ("undefined", None),
    ("waiting for lock", Some("waiting")),
];

/// A threshold of a state: how many, or for how long, as it was written.
#[derive(Clone, Debug)]
enum Limit {
    Count(f64),
    Age(f64, String),
}

fn limit(text: &str) -> Option<Limit> {
    if text.ends_with(|c: char| c.is_ascii_digit()) {
        return count(text, f64::NAN).map(Limit::Count);
    }
    let compact: String = text.split_whitespace().collect();
    Some(Limit::Age(seconds(text)? as f64, compact))
}

fn limits(text: &str) -> Option<BTreeMap<&'static str, Limit>> {
    let labels: Vec<&'static str> = STATES.iter().filter_map(|(_, label)| *label).collect();
    let limits = labelled(text, &labels)?;
    limits.into_iter().map(|(label, text)| Some((label, limit(&text)?))).collect()
}

async fn backends_status(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_BACKENDS_STATUS";
    const EXPECTED: &str = "critical and warning thresholds only accept a list of 'label=value' separated by comma.\n\
                            See documentation for more information.";
    let given = call.limits(limits, EXPECTED)?;
    let has_limits = given.is_some();
    let (warning, critical) = given.unwrap_or_default();
    let mut host = call.one_host()?;
    let most = number(limit_of(&mut host, "max_connections").await?);
    let rows = host.rows("processes").await?;

    let mut found = STATES.map(|(state, _)| (state, 0_u32, 0.0_f64));
    let mut total = 0;
    for row in Row::of(&rows).filter(|row| row.get("datname").is_some()) {
        if !matches!(row.get("backend_type"), None | Some("client backend" | "background worker")) {
            continue;
        }
        total += 1;
        if call.filters.excludes(row.text("query")) {
            continue;
        }
        let state = state_of(row);
        if let Some((_, count, oldest)) = found.iter_mut().find(|(own, ..)| *own == state) {
            *count += 1;
            let age = row.number("state_seconds").map_or(0.0, |age| (age * 1000.0).trunc() / 1000.0);
            *oldest = oldest.max(age);
        }
    }

    let (mut criticals, mut warnings, mut perfdata) = (Vec::new(), Vec::new(), Vec::new());
    for ((state, label), (_, count, oldest)) in STATES.into_iter().zip(found) {
        let of = |limits: &BTreeMap<&str, Limit>| label.and_then(|label| limits.get(label)).cloned();
        let (low, high) = (of(&warning), of(&critical));
        let mut counted = Perf::new(state, count);
        let mut aged = Perf::new(format!("oldest {state}"), number(oldest)).unit("s");
        match (&low, &high) {
            (Some(Limit::Count(low)), Some(Limit::Count(high))) => {
                counted = counted.limits(Some(number(*low)), Some(number(*high))).least(0).most(&most);
            }
            (Some(Limit::Age(_, low)), Some(Limit::Age(_, high))) => {
                aged = aged.limits(Some(low), Some(high)).least(0).most(&most);
            }
            _ => {}
        }
        perfdata.push(counted);
        if label.is_some() {
            perfdata.push(aged);
        }
        let reached = |limit: Option<Limit>| match limit? {
            Limit::Count(limit) => (f64::from(count) >= limit).then(|| format!("{count} {state}")),
            Limit::Age(limit, _) => {
                (oldest >= limit).then(|| format!("{count} {state} for {} seconds", number(oldest)))
            }
        };
        match reached(high) {
            Some(message) => criticals.push(message),
            None => warnings.extend(reached(low)),
        }
    }
    if has_limits && criticals.is_empty() && warnings.is_empty() && hides_some(&rows) {
        let reason = "states of other roles' sessions are hidden from this one, which needs pg_monitor";
        return Ok(Answer::new(LABEL, Status::Unknown, reason).with_perfdata(perfdata));
    }
    let connected = format!("{total} backend connected");
    Ok(Answer::judged(LABEL, criticals, warnings, connected).with_perfdata(perfdata))
}

fn state_of(row: Row<'_>) -> &str {
    if row.text("wait_event_type") == "Lock" {
        "waiting for lock"
    } else if row.text("query") == HIDDEN {
        "insufficient privilege"
    } else {
        row.get("state").unwrap_or("undefined")
    }
}
