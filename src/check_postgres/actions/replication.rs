//! How far standbys and slots are behind, and whether rows arrive.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::sizes::server_size;
use crate::check::Status;
use crate::check_postgres::text::{number, perfname};
use crate::check_postgres::threshold::{Bare, Counted, Kind, Limits, Wanted, count_or_time, written};
use crate::check_postgres::{Action, At, Call, End, Ended};
use crate::plugin::Row;
use crate::server::RowSet;

pub(super) const ACTIONS: &[Action] = &[
    Action {
        run: |call| Box::pin(hot_standby_delay(call)),
        ..Action::clusterwide("hot_standby_delay", "How far a standby is behind its primary")
    },
    Action {
        run: |call| Box::pin(replication_slots(call)),
        ..Action::clusterwide("replication_slots", "How much WAL each replication slot keeps")
    },
    Action {
        run: |call| Box::pin(replicate_row(call)),
        ..Action::of_database("replicate_row", "Whether a changed row arrives elsewhere in time")
    },
];

/// Where a server stands in the WAL, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    written: Option<i64>,
    received: Option<i64>,
    replayed: Option<i64>,
    /// Seconds since the transaction that was replayed last, by the standby's clock.
    since: Option<f64>,
}

impl Position {
    fn read(rows: &RowSet) -> Self {
        Row::of(rows).next().map_or_else(Self::default, |row| Self {
            written: row.integer("written"),
            received: row.integer("received"),
            replayed: row.integer("replayed"),
            since: row.number("replayed_seconds"),
        })
    }
}

async fn hot_standby_delay(call: &mut Call) -> Ended {
    let (warning, critical) = count_or_time(&call.options, Bare::Bytes)?;
    let places: Vec<At> = call.places().take(2).collect();
    let (mut standby, mut primary) = (None, None);
    for at in &places {
        let role = if call.is_standby_at(*at).await? { &mut standby } else { &mut primary };
        *role = Some(*at);
    }
    let missing = |role: &str| format!("Could not get current xlog location on {role}");
    let Some(standby) = standby else {
        call.say_of_none(Status::Unknown, missing("slave"));
        return Ok(());
    };
    // The standby first: what the primary writes in between counts as not arrived, never as arrived before it was written.
    let there = Position::read(&call.rows_at(standby, "positions").await?);
    if there.received.is_none() && there.replayed.is_none() {
        call.say_of_none(Status::Unknown, missing("slave"));
        return Ok(());
    }
    let end = match primary {
        Some(primary) => Position::read(&call.rows_at(primary, "positions").await?).written,
        None => None,
    };
    let Some(end) = end else {
        call.say_of_none(Status::Unknown, missing("master"));
        return Ok(());
    };
    let behind = |position: Option<i64>| position.map(|position| (end - position).max(0));
    let (received, replayed) = (behind(there.received), behind(there.replayed));
    // Who has replayed everything is not late, however long ago the last transaction was.
    let seconds = if replayed == Some(0) { 0.0 } else { there.since.unwrap_or_default().round() };
    if seconds < 0.0 {
        call.unknown(standby, "Slave reporting master server clock is ahead, check time sync");
        return Ok(());
    }
    if call.is_mrtg() {
        return Err(call.mrtg(replayed.unwrap_or_default(), received.unwrap_or_default(), ""));
    }
    let bytes = format!("{};{}", written(warning.count), written(critical.count));
    for (label, value) in [("replay_delay", replayed), ("receive-delay", received)] {
        if let Some(value) = value {
            *call.perf(standby) += &format!(" {label}={value};{bytes}");
        }
    }
    let times = format!("{};{}", written(warning.time), written(critical.time));
    *call.perf(standby) += &format!(" time_delay={};{times}", number(seconds));
    // What was received and cannot be replayed yet counts too.
    let bytes = replayed.or(received).unwrap_or_default();
    let status = if is_beyond(&critical, bytes as f64, seconds) {
        Status::Critical
    } else if is_beyond(&warning, bytes as f64, seconds) {
        Status::Warning
    } else {
        Status::Ok
    };
    call.say(status, standby, format!("{bytes} and {} seconds", number(seconds)));
    Ok(())
}

/// Whether all that is limited is beyond its limit.
fn is_beyond(limit: &Counted, bytes: f64, seconds: f64) -> bool {
    let beyond = [(limit.count, bytes), (limit.time, seconds)];
    let mut given = beyond.iter().filter_map(|(limit, value)| limit.map(|limit| *value > limit)).peekable();
    given.peek().is_some() && given.all(|is_beyond| is_beyond)
}

/// What a slot keeps.
struct Slot {
    name: String,
    bytes: i64,
    words: String,
}

async fn replication_slots(call: &mut Call) -> Ended {
    let limits = call.limits(Wanted::new(Kind::Size))?;
    for (at, answer) in call.rows("slots").await? {
        let all = Row::of(&answer).map(|row| slot(&row));
        let (mut kept, left): (Vec<Slot>, Vec<Slot>) = all.partition(|slot| call.filter.keeps(&slot.name));
        kept.sort_by(|one, other| {
            Reverse(one.bytes).cmp(&Reverse(other.bytes)).then_with(|| one.name.cmp(&other.name))
        });
        if let Some(most) = call.perflimit().filter(|most| *most > 0) {
            kept.truncate(most);
        }
        let Some(first) = kept.first() else {
            if call.is_mrtg() {
                return Err(call.mrtg(0, "", ""));
            } else if left.is_empty() {
                call.ok(at, "No replication slots found");
            } else {
                call.unknown(at, "No matching replication slots found due to exclusion/inclusion options");
            }
            continue;
        };
        let most = first.bytes;
        if call.is_mrtg() {
            let second = kept.get(1).map(|slot| slot.bytes.to_string()).unwrap_or_default();
            return Err(call.mrtg(most, second, format!("SLOT: {}", first.name)));
        }
        say_slots(call, at, limits, &kept);
    }
    Ok(())
}

fn slot(row: &Row<'_>) -> Slot {
    let bytes = row.integer("wal_lsn_diff").unwrap_or_default().max(0);
    let state = if row.is("active") { "active" } else { "inactive" };
    let (kind, position) = (row.text("slot_type"), row.get("restart_lsn").unwrap_or("0/0"));
    Slot {
        name: row.text("slot_name").to_owned(),
        bytes,
        words: format!("{} ({kind} {position} {state})", server_size(bytes)),
    }
}

fn say_slots(call: &mut Call, at: At, limits: Limits, slots: &[Slot]) {
    let mut most = 0;
    let mut message = String::new();
    for slot in slots {
        most = most.max(slot.bytes);
        message += &format!("{}: {} ", slot.name, slot.words);
        *call.perf(at) += &format!(" {}={};{}", perfname(&slot.name), slot.bytes, limits.perf());
    }
    call.say(limits.at_least(most as f64), at, message);
}

/// How often it is looked whether the row has arrived.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A row, and the two values that one of its columns changes between.
struct Change {
    select: String,
    updates: [(String, String); 2],
    named: String,
}

impl Change {
    /// Reads `table,key,id,column,value,value`.
    fn read(text: &str) -> Result<Self, End> {
        // What is empty at the end does not count.
        let parts: Vec<&str> = text.trim_end_matches(',').split(',').collect();
        let [table, key, id, column, one, other] = parts[..] else {
            return Err(End::refused("Invalid repinfo argument: expected 6 comma-separated values"));
        };
        if one == other {
            return Err(End::refused("Makes no sense to test replication with same values"));
        }
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let from = table.split('.').map(quoted).collect::<Vec<_>>().join(".");
        let (key, set, id) = (quoted(key), quoted(column), literal(id));
        let update = |value: &str| {
            (value.to_owned(), format!("UPDATE {from} SET {set} = {} WHERE {key} = {id}", literal(value)))
        };
        Ok(Self {
            select: format!("SELECT {set} AS c FROM {from} WHERE {key} = {id}"),
            updates: [update(one), update(other)],
            named: format!("{from}.{set}"),
        })
    }

    /// The value to come and the statement that brings it.
    fn after(&self, value: &str) -> Result<&(String, String), End> {
        let [one, other] = &self.updates;
        match value {
            value if value == one.0 => Ok(other),
            value if value == other.0 => Ok(one),
            value => Err(End::refused(format!(
                "Cannot test replication: values are not the right ones ('{value}' not '{}' nor '{}')",
                one.0, other.0
            ))),
        }
    }
}

async fn replicate_row(call: &mut Call) -> Ended {
    let limits = call.limits(Wanted::new(Kind::Time).at_least_one().in_mrtg())?;
    let change = match call.options.text("repinfo").filter(|text| !text.is_empty()) {
        Some(text) => Change::read(text)?,
        None => return Err(End::refused("Need a repinfo argument")),
    };
    let longest = [limits.warning, limits.critical].into_iter().flatten().fold(0.0, f64::max);
    // The sessions stay open for as long as a row may take.
    let open = call.timeout().as_secs_f64() + longest;
    call.options.set("timeout", number(open.ceil()));
    let mut places = call.places();
    let Some(source) = places.next() else { return Err(End::refused("No slaves found")) };
    let targets: Vec<At> = places.collect();
    let row = value_at(call, source, &change).await?;
    let Some(value) = row else {
        return Err(End::refused(format!("Replication source row not found: {}", change.named)));
    };
    for at in &targets {
        if value_at(call, *at, &change).await?.as_deref() != Some(&value) {
            return Err(End::refused("Cannot test replication: values are not the same"));
        }
    }
    if targets.is_empty() {
        return Err(End::refused("No slaves found"));
    }
    let (wanted, update) = change.after(&value)?;
    call.sql_at(source, update).await?;
    wait(call, &change, wanted, source, &targets, limits).await
}

async fn value_at(call: &mut Call, at: At, change: &Change) -> Result<Option<String>, End> {
    let answer = call.sql_at(at, &change.select).await?;
    Ok(Row::of(&answer).next().map(|row| row.text("c").to_owned()))
}

async fn wait(call: &mut Call, change: &Change, wanted: &str, source: At, targets: &[At], limits: Limits) -> Ended {
    let started = Instant::now();
    let last = limits.critical.or(limits.warning).unwrap_or_default();
    let mut missing: Vec<(usize, At)> = targets.iter().copied().enumerate().collect();
    loop {
        let mut later = Vec::new();
        for (place, at) in missing {
            if value_at(call, at, change).await?.as_deref() != Some(wanted) {
                later.push((place, at));
            }
        }
        missing = later;
        let passed = started.elapsed();
        let seconds = passed.as_secs();
        call.waited(source, Duration::from_secs(seconds));
        let Some((place, _)) = missing.first() else {
            if call.is_mrtg() {
                return Err(call.mrtg(seconds, "", ""));
            }
            call.say(limits.above(passed.as_secs_f64()), source, "Row was replicated");
            return Ok(());
        };
        if passed.as_secs_f64() > last {
            if call.is_mrtg() {
                return Err(call.mrtg(0, "", seconds.to_string()));
            }
            call.say(limits.above(passed.as_secs_f64()), source, format!("Row not replicated to slave {}", place + 1));
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
