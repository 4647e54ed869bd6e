//! What is going on: locks, long queries, transactions that were forgotten.

use std::collections::BTreeMap;

use crate::check_pgactivity::threshold::{count, number, seconds, to_interval};
use crate::check_pgactivity::{Answer, Call, Host, Perf, Service, Status, Stop};
use crate::plugin::Row;
use crate::server::RowSet;

pub(super) const SERVICES: &[Service] = &[
    Service { name: "locks", help: "Check the number of locks on the hosts.", run: |call| Box::pin(locks(call)) },
    Service {
        name: "longest_query",
        help: "Check the longest running query.",
        run: |call| Box::pin(longest_query(call)),
    },
    Service {
        name: "oldest_2pc",
        help: "Check the oldest two-phase commit transaction.",
        run: |call| Box::pin(oldest_2pc(call)),
    },
    Service {
        name: "oldest_idlexact",
        help: "Check the oldest idle transaction.",
        run: |call| Box::pin(oldest_idlexact(call)),
    },
];

pub(super) const ONLY_COUNTS: &str = "critical and warning thresholds only accept raw numbers or %.";
pub(super) const ONLY_INTERVALS: &str = "critical and warning thresholds only acccepts interval.";

/// The modes of locks, in the order of their names.
const MODES: [&str; 8] = [
    "AccessExclusiveLock",
    "AccessShareLock",
    "ExclusiveLock",
    "RowExclusiveLock",
    "RowShareLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ShareUpdateExclusiveLock",
];
/// What serializable transactions have read. Nobody waits for it, and there is room of its own for it.
const PREDICATE: &str = "SIReadLock";

/// A number or a part of something, as it was written.
pub(super) fn counted(text: &str) -> Option<String> {
    count(text, 100.0).map(|_| text.to_owned())
}

/// CRITICAL or WARNING above these thresholds.
pub(super) fn above(value: f64, (warning, critical): (f64, f64)) -> Status {
    if value > critical {
        Status::Critical
    } else if value > warning {
        Status::Warning
    } else {
        Status::Ok
    }
}

/// Intervals in seconds.
pub(super) fn intervals(call: &Call) -> Result<(f64, f64), Stop> {
    #[allow(clippy::cast_precision_loss, reason = "a threshold of more than 2^53 seconds is any")]
    call.needed_limits(|text| seconds(text).map(|seconds| seconds as f64), ONLY_INTERVALS)
}

/// How many locks there are, against the room for them.
async fn locks(mut call: Call) -> Result<Answer, Stop> {
    let (warning, critical) = call.needed_limits(counted, ONLY_COUNTS)?;
    let mut host = call.one_host()?;
    let room = host.rows("limits").await?;
    let rows = host.rows("locks").await?;
    let room = |column| Row::of(&room).next().and_then(|row| row.number(column)).unwrap_or_default();
    let limits = |room| (count(&warning, room).unwrap_or_default(), count(&critical, room).unwrap_or_default());
    let (usual, predicate) = (limits(room("locks")), limits(room("predicate_locks")));

    let mut held: BTreeMap<&str, f64> = BTreeMap::new();
    let mut awaited = held.clone();
    for row in Row::of(&rows) {
        let (all, waiting) = (row.number("rank").unwrap_or_default(), row.number("waiting").unwrap_or_default());
        *held.entry(row.text("mode")).or_default() += all - waiting;
        *awaited.entry(row.text("mode")).or_default() += waiting;
    }
    let of = |counts: &BTreeMap<&str, f64>, mode: &str| counts.get(&*mode.to_lowercase()).copied().unwrap_or_default();
    let perf = |label: String, value: f64, (warning, critical): (f64, f64)| {
        Perf::new(label, number(value)).limits(Some(number(warning)), Some(number(critical)))
    };
    let waiting: f64 = MODES.iter().map(|mode| of(&awaited, mode)).sum();
    let total: f64 = MODES.iter().map(|mode| of(&held, mode)).sum::<f64>() + waiting;
    let read = of(&held, PREDICATE);

    let mut perfdata: Vec<Perf> =
        MODES.iter().map(|mode| perf(format!("Waiting {mode}"), of(&awaited, mode), usual)).collect();
    perfdata.extend(MODES.iter().map(|mode| perf((*mode).to_owned(), of(&held, mode), usual)));
    // In the order of names it is among the others.
    let place = perfdata.len().saturating_sub(3);
    perfdata.insert(place, perf(PREDICATE.to_owned(), read, predicate));
    let status = match (Status::from(total, Some(usual)), Status::from(read, Some(predicate))) {
        (Status::Critical, _) | (_, Status::Critical) => Status::Critical,
        (Status::Ok, Status::Ok) => Status::Ok,
        _ => Status::Warning,
    };
    let [total, read, waiting] = [total, read, waiting].map(number);
    let message = format!("{total} locks, {read} predicate locks, {waiting} waiting locks");
    Ok(Answer::new("POSTGRES_LOCKS", status, message).with_perfdata(perfdata))
}

/// Ages of the same kind in one database, in whole seconds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Ages {
    count: u32,
    largest: f64,
    sum: f64,
    /// Whose the largest is.
    owner: String,
}

impl Ages {
    fn add(&mut self, seconds: f64, owner: &str) {
        let seconds = seconds.floor().max(0.0);
        if self.count == 0 || seconds > self.largest {
            self.largest = seconds;
            owner.clone_into(&mut self.owner);
        }
        self.count += 1;
        self.sum += seconds;
    }

    /// Largest, mean and count; of nothing there is neither of the first two.
    fn perfdata(&self, database: &str, counted: &str, (warning, critical): (f64, f64)) -> [Perf; 3] {
        let any = self.count > 0;
        let perf = |what: &str, value: f64| {
            Perf::new(format!("{database} {what}"), if any { number(value) } else { "NaN".to_owned() })
                .unit("s")
                .limits(Some(number(warning)), Some(number(critical)))
        };
        let mean = self.sum / f64::from(self.count.max(1));
        [perf("max", self.largest), perf("avg", mean), Perf::new(format!("{database} {counted}"), self.count)]
    }
}

/// Ages by database, as the three services show them: the largest of all decides, and each that is too large is named.
fn judged(
    label: &'static str,
    ages: &BTreeMap<String, Ages>,
    counted: &str,
    limits: (f64, f64),
    name: impl Fn(&str, &Ages) -> String,
) -> Answer {
    let largest = ages.values().map(|ages| ages.largest).fold(0.0, f64::max);
    let named = ages.iter().filter(|(_, ages)| above(ages.largest, limits) != Status::Ok);
    let messages = named.map(|(database, ages)| format!("{}: {}", name(database, ages), to_interval(ages.largest)));
    let mut answer = Answer::new(label, above(largest, limits), "");
    answer.messages = messages.collect();
    answer.perfdata = ages.iter().flat_map(|(database, ages)| ages.perfdata(database, counted, limits)).collect();
    answer
}

/// The databases, those that nobody may enter too if asked for.
pub(super) async fn databases(host: &mut Host, closed: bool) -> Result<Vec<String>, Stop> {
    let rows = host.rows("databases").await?;
    let wanted = Row::of(&rows).filter(|row| closed || row.is("allows_connections"));
    Ok(wanted.map(|row| row.text("datname").to_owned()).collect())
}

/// How long queries have been running.
async fn longest_query(mut call: Call) -> Result<Answer, Stop> {
    let limits = intervals(&call)?;
    let mut host = call.one_host()?;
    let names = databases(&mut host, false).await?;
    let rows = host.rows("processes").await?;
    let excluded = |query: &str, application: &str| call.filters.excludes(query) || call.filters.excludes(application);
    let mut ages: BTreeMap<String, Ages> = BTreeMap::new();
    for name in names.into_iter().filter(|name| call.filters.wants_database(name)) {
        let running: Vec<Row<'_>> = running(&rows, &name).collect();
        // As the original has it, a database is left out with all queries in it; an expression that is found in nothing
        // leaves out those where nothing runs.
        let seen: Vec<(&str, &str, Row<'_>)> = running
            .iter()
            .map(|row| (row.text("query"), row.text("application_name"), *row))
            .filter(|(query, application, _)| !excluded(query, application))
            .collect();
        if if running.is_empty() { excluded("", "") } else { seen.is_empty() } {
            continue;
        }
        let ages = ages.entry(name.clone()).or_default();
        for (_, application, row) in seen.into_iter().filter(|(query, ..)| !query.is_empty()) {
            ages.add(row.number("state_seconds").unwrap_or_default(), application);
        }
    }
    let count: u32 = ages.values().map(|ages| ages.count).sum();
    let name = |database: &str, ages: &Ages| format!("{database} ({})", ages.owner);
    let mut answer = judged("POSTGRES_LONGEST_QUERY", &ages, "#queries", limits, name);
    if answer.status == Status::Ok {
        answer.messages = vec![format!("{count} running querie(s)")];
    }
    Ok(answer)
}

/// The sessions that run a query in a database.
fn running<'a>(rows: &'a RowSet, database: &'a str) -> impl Iterator<Item = Row<'a>> {
    Row::of(rows).filter(move |row| {
        row.get("datname") == Some(database)
            && row.text("state") == "active"
            && matches!(row.text("backend_type"), "client backend" | "background worker")
    })
}

/// How long transactions have been prepared.
async fn oldest_2pc(mut call: Call) -> Result<Answer, Stop> {
    let limits = intervals(&call)?;
    let mut host = call.one_host()?;
    let names = databases(&mut host, false).await?;
    let rows = host.rows("prepared_transactions").await?;
    let mut ages: BTreeMap<String, Ages> = names.into_iter().map(|name| (name, Ages::default())).collect();
    for row in Row::of(&rows) {
        if let Some(ages) = ages.get_mut(row.text("datname")) {
            ages.add(row.number("seconds").unwrap_or_default(), "");
        }
    }
    let count: u32 = ages.values().map(|ages| ages.count).sum();
    let name = |database: &str, _: &Ages| format!("oldest 2pc on {database}");
    let mut answer = judged("POSTGRES_OLDEST_2PC", &ages, "# prep. xact", limits, name);
    answer.messages.insert(0, format!("{count} prepared transaction(s)"));
    Ok(answer)
}

/// How long sessions have done nothing in a transaction that holds something back.
async fn oldest_idlexact(mut call: Call) -> Result<Answer, Stop> {
    let limits = intervals(&call)?;
    let mut host = call.one_host()?;
    let names = databases(&mut host, true).await?;
    let rows = host.rows("processes").await?;
    let spared: Vec<&str> = call.options.exclude.iter().flat_map(|list| list.split(',')).collect();
    let wanted = names.into_iter().filter(|name| call.filters.wants_database(name));
    let mut ages: BTreeMap<String, Ages> = wanted.map(|name| (name, Ages::default())).collect();
    for row in Row::of(&rows).filter(|row| row.text("state") == "idle in transaction") {
        let holds = row.get("xid_age").is_some() || row.get("xmin_age").is_some();
        if !holds || spared.contains(&row.text("application_name")) {
            continue;
        }
        if let Some(ages) = ages.get_mut(row.text("datname")) {
            ages.add(row.number("state_seconds").unwrap_or_default(), "");
        }
    }
    let count: u32 = ages.values().map(|ages| ages.count).sum();
    let name = |database: &str, _: &Ages| format!("oldest idle xact on {database}");
    let mut answer = judged("POSTGRES_OLDEST_IDLEXACT", &ages, "# idle xact", limits, name);
    answer.messages.insert(0, format!("{count} idle transaction(s)"));
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_nothing_there_is_no_age() {
        let mut ages = Ages::default();
        let shown =
            |ages: &Ages| Answer::new("X", Status::Ok, "").with_perfdata(ages.perfdata("a", "#", (1.0, 2.0)).into());
        let written = |ages: &Ages| crate::check_pgactivity::Format::Nagios.write(shown(ages));
        assert_eq!(written(&ages), "X OK | 'a max'=NaNs;1;2 'a avg'=NaNs;1;2 'a #'=0");
        ages.add(0.4, "x");
        ages.add(3.9, "y");
        ages.add(2.0, "z");
        assert_eq!(written(&ages), "X OK | 'a max'=3s;1;2 'a avg'=1.66666666666667s;1;2 'a #'=3");
        assert_eq!(ages.owner, "y");
    }
}
