//! How far vacuum is behind, and who keeps it back: `max_freeze_age` and `oldest_xmin`.

use super::walk::all;
use crate::check_pgactivity::threshold::{count, decimal, number};
use crate::check_pgactivity::{Answer, Call, Perf, Service, Status, Stop};
use crate::plugin::Row;

pub(super) const SERVICES: &[Service] = &[
    Service {
        name: "max_freeze_age",
        help: "Check oldest database in transaction age.",
        run: |call| Box::pin(max_freeze_age(call)),
    },
    Service {
        name: "oldest_xmin",
        help: "Check the xmin horizon from distinct sources of xmin retention.",
        run: |call| Box::pin(oldest_xmin(call)),
    },
];

const OLDEST_XMIN: &str = "POSTGRES_OLDEST_XMIN";
/// In the order in which they are printed.
const KINDS: [&str; 6] = ["query", "idle_xact", "active_xact", "2pc", "repslot", "walsender"];

/// The age of each database's oldest transaction.
async fn max_freeze_age(mut call: Call) -> Result<Answer, Stop> {
    let otherwise = "critical and warning thresholds only accept raw numbers or % (for 8.2+).";
    let limits = call.limits(|text| count(text, 0.0).map(|_| text.to_owned()), otherwise)?;
    let mut host = call.one_host()?;
    let rows = host.rows("databases").await?;
    let (mut critical, mut warning, mut perfdata) = (Vec::new(), Vec::new(), Vec::new());
    let mut oldest: Option<(i64, &str)> = None;
    for row in Row::of(&rows).filter(|row| row.text("datname") != "template0") {
        let (database, Some(age)) = (row.text("datname"), row.integer("xid_age")) else { continue };
        if !call.filters.wants_database(database) {
            continue;
        }
        if oldest.is_none_or(|(most, _)| age > most) {
            oldest = Some((age, database));
        }
        let whole = row.number("freeze_max_age").unwrap_or_default();
        let limits =
            limits.as_ref().and_then(|(warning, critical)| Some((count(warning, whole)?, count(critical, whole)?)));
        let perf = Perf::new(database, age);
        perfdata.push(perf.limits(limits.map(|it| number(it.0)), limits.map(|it| number(it.1))));
        if age < 0 {
            critical.push(format!("{database} has a negative age"));
        } else if limits.is_some_and(|(_, limit)| age as f64 > limit) {
            critical.push(database.to_owned());
        } else if limits.is_some_and(|(limit, _)| age as f64 > limit) {
            warning.push(database.to_owned());
        }
    }
    let (age, database) = oldest.unwrap_or((-1, ""));
    let ok = vec![format!("oldest database is {database} with age of {age}")];
    Ok(answer("POSTGRES_MAX_FREEZE_AGE", &critical, &warning, ok, Vec::new()).with_perfdata(perfdata))
}

/// One line for both severities, and more after it.
fn answer(label: &'static str, critical: &[String], warning: &[String], ok: Vec<String>, more: Vec<String>) -> Answer {
    let warnings = format!("Warning: {}", warning.join(","));
    let (status, first) = match (critical, warning) {
        ([], []) => (Status::Ok, None),
        ([], _) => (Status::Warning, Some(warnings)),
        (_, []) => (Status::Critical, Some(format!("Critical: {}", critical.join(",")))),
        _ => (Status::Critical, Some(format!("Critical: {} {warnings}", critical.join(",")))),
    };
    let mut answer = Answer::new(label, status, "");
    answer.messages = match first {
        None => ok,
        Some(first) => std::iter::once(first).chain(more).collect(),
    };
    answer
}

/// The oldest transaction whose dead rows somebody keeps, by database and who.
async fn oldest_xmin(mut call: Call) -> Result<Answer, Stop> {
    if call.options.warning.is_some() != call.options.critical.is_some() {
        return Err(Stop::usage("you must specify both critical and warning thresholds or none of them."));
    }
    let otherwise = "critical and warning thresholds only accept raw number of transactions.";
    let limits = call.limits(decimal, otherwise)?;
    let is_detailed = call.options.detailed == Some(true);
    let mut host = call.one_host()?;
    let rows = host.rows("xmin_holders").await?;
    if Row::of(&rows).any(|row| row.text("kind") == "hidden") {
        let reason = "transactions of other roles are hidden from this one, which needs pg_monitor";
        return Ok(Answer::new(OLDEST_XMIN, Status::Unknown, reason));
    }
    let (mut critical, mut warning, mut perfdata, mut messages) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for database in all(&call, &mut host).await? {
        let mut oldest: Option<(i64, &str)> = None;
        for kind in KINDS {
            // Who names no database holds all of them back.
            let holds =
                |row: &Row<'_>| row.text("kind") == kind && row.get("datname").is_none_or(|name| name == database);
            let found =
                Row::of(&rows).filter(holds).filter_map(|row| Some((row.integer("xid_age")?, row.text("xmin"))));
            let found = found.max_by_key(|(age, _)| *age);
            let age = found.map(|(age, _)| age);
            let name = format!("{database}_{kind}_age");
            if is_detailed {
                let shown = |text: Option<String>| text.unwrap_or_else(|| "NaN".to_owned());
                perfdata.push(Perf::new(&name, shown(age.map(|age| age.to_string()))));
                let xmin = found.map(|(_, xmin)| xmin.to_owned());
                perfdata.push(Perf::new(format!("{database}_{kind}_xmin"), shown(xmin)));
            }
            let Some(age) = age else { continue };
            if oldest.is_none_or(|(most, _)| age > most) {
                oldest = Some((age, kind));
            }
            if limits.is_some_and(|(_, limit)| age as f64 > limit) {
                critical.push(name);
            } else if limits.is_some_and(|(limit, _)| age as f64 > limit) {
                warning.push(name);
            }
        }
        if !is_detailed {
            let age = oldest.map_or_else(|| "NaN".to_owned(), |(age, _)| age.to_string());
            perfdata.push(Perf::new(format!("{database}_age"), age));
            messages.extend(oldest.map(|(_, kind)| format!("Oldest xmin in {database} from {kind}")));
        }
    }
    let answer = answer(OLDEST_XMIN, &critical, &warning, messages.clone(), messages);
    Ok(answer.with_perfdata(perfdata))
}
