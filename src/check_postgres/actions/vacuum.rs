//! Vacuum and analyze: when they came last, and how far the transaction numbers are from where they have to.

use crate::check_postgres::text::{Precision, number, perfname, pretty_time};
use crate::check_postgres::threshold::{Kind, Limits, Wanted};
use crate::check_postgres::{Action, At, Call, End, Ended};
use crate::plugin::Row;
use crate::server::RowSet;

pub(super) const ACTIONS: &[Action] = &[
    Action {
        run: |call| Box::pin(autovac_freeze(call)),
        ..Action::clusterwide("autovac_freeze", "How close databases are to autovacuum_freeze_max_age")
    },
    Action {
        run: |call| Box::pin(txn_wraparound(call)),
        ..Action::clusterwide("txn_wraparound", "How close databases are to the end of the transaction numbers")
    },
    Action {
        run: |call| Box::pin(last(call, &VACUUM)),
        ..Action::of_database("last_vacuum", "How long ago tables were vacuumed, by whomever")
    },
    Action {
        run: |call| Box::pin(last(call, &ANALYZE)),
        ..Action::of_database("last_analyze", "How long ago tables were analyzed, by whomever")
    },
    Action {
        run: |call| Box::pin(last(call, &AUTOVACUUM)),
        ..Action::of_database("last_autovacuum", "How long ago autovacuum vacuumed tables")
    },
    Action {
        run: |call| Box::pin(last(call, &AUTOANALYZE)),
        ..Action::of_database("last_autoanalyze", "How long ago autovacuum analyzed tables")
    },
];

const NO_DATABASE: &str = "No matching databases found due to exclusion/inclusion options";
/// At twice this age the server stops.
const WRAPAROUND: f64 = 2e9;

/// A database and how old the oldest transaction is that it has not frozen.
struct Aged<'a> {
    name: &'a str,
    age: f64,
    /// In per cent of the age at which autovacuum has to freeze it.
    due: f64,
}

/// The databases that let somebody in and that the options leave.
fn aged<'a>(call: &Call, databases: &RowSet, ages: &'a RowSet) -> Vec<Aged<'a>> {
    let is_open =
        |name: &str| Row::of(databases).any(|row| row.text("datname") == name && row.is("allows_connections"));
    let kept = Row::of(ages).filter(|row| is_open(row.text("datname")) && call.filter.keeps(row.text("datname")));
    let read = kept.filter_map(|row| {
        let due = (row.number("due")? * 100.0).round_ties_even();
        Some(Aged { name: row.text("datname"), age: row.number("xids")?, due })
    });
    let mut found: Vec<Aged<'_>> = read.collect();
    found.sort_by(|one, other| one.name.cmp(other.name));
    found
}

/// Says that the options leave nothing; for MRTG that is the end, as there is no number.
fn say_nothing_left(call: &mut Call, at: At, message: &str) -> Ended {
    if call.is_mrtg() {
        return Err(call.mrtg_stats(message));
    }
    call.unknown(at, message);
    Ok(())
}

async fn autovac_freeze(call: &mut Call) -> Ended {
    let limits = call.limits(Wanted::new(Kind::Percent).or("90%", "95%").in_mrtg())?;
    for at in call.places() {
        let databases = call.rows_at(at, "databases").await?;
        let ages = call.rows_at(at, "wraparound").await?;
        let mut found = aged(call, &databases, &ages);
        found.sort_by(|one, other| other.due.total_cmp(&one.due));
        let (Some(highest), Some(oldest)) =
            (found.first().map(|it| it.due), found.iter().map(|it| it.age).max_by(f64::total_cmp))
        else {
            say_nothing_left(call, at, NO_DATABASE)?;
            continue;
        };
        if call.is_mrtg() {
            let highest_names = found.iter().filter(|it| it.due >= highest).map(|it| it.name);
            let names: Vec<&str> = highest_names.collect();
            return Err(call.mrtg(number(highest), number(oldest), names.join(" | ")));
        }
        let worst = limits.at_least(highest);
        let mut message = Vec::new();
        for Aged { name, due, .. } in found {
            // The message is made of what are perfdata too.
            let entry = format!(" {}={}%;{}", perfname(name), number(due), limits.perf());
            *call.perf(at) += &format!(" {entry}");
            if limits.at_least(due) == worst {
                message.push(entry);
            }
        }
        call.say(worst, at, message.join(" "));
    }
    Ok(())
}

async fn txn_wraparound(call: &mut Call) -> Ended {
    let limits = call.limits(Wanted::new(Kind::PositiveInteger).or("1300000000", "1400000000"))?;
    for (name, limit) in [("warning", limits.warning), ("critical", limits.critical)] {
        if limit.is_some_and(|limit| limit >= WRAPAROUND) {
            return Err(End::refused(format!("The '{name}' value must be less than 2 billion")));
        }
    }
    let mut highest: Option<(f64, String)> = None;
    for at in call.places() {
        let databases = call.rows_at(at, "databases").await?;
        let ages = call.rows_at(at, "wraparound").await?;
        let found = aged(call, &databases, &ages);
        // Of several of the same age the first one.
        let oldest = found.iter().rev().max_by(|one, other| one.age.total_cmp(&other.age));
        let Some((oldest, age)) = oldest.map(|it| (it.name, it.age)) else {
            say_nothing_left(call, at, NO_DATABASE)?;
            continue;
        };
        for Aged { name, age, .. } in &found {
            let (label, age, limits, end) = (perfname(name), number(*age), limits.perf(), number(WRAPAROUND));
            *call.perf(at) += &format!(" {label}={age};{limits};0;{end}");
        }
        if highest.as_ref().is_none_or(|(highest, _)| age > *highest) {
            highest = Some((age, format!("DB: {oldest}")));
        }
        call.say(limits.at_least(age), at, format!("{oldest}: {}", number(age)));
    }
    match highest {
        Some((age, message)) if call.is_mrtg() => Err(call.mrtg(number(age), "", message)),
        _ => Ok(()),
    }
}

/// What is done to tables from time to time: the columns that say how long ago and when, any of which counts, and what is
/// said where it was never done.
struct Work {
    columns: &'static [(&'static str, &'static str)],
    never: &'static str,
}

const BY_VACUUM: (&str, &str) = ("vacuum_seconds", "last_vacuum");
const BY_AUTOVACUUM: (&str, &str) = ("autovacuum_seconds", "last_autovacuum");
const BY_ANALYZE: (&str, &str) = ("analyze_seconds", "last_analyze");
const BY_AUTOANALYZE: (&str, &str) = ("autoanalyze_seconds", "last_autoanalyze");
const NEVER_VACUUMED: &str = "No matching tables have ever been vacuumed";
const NEVER_ANALYZED: &str = "No matching tables have ever been analyzed";

const VACUUM: Work = Work { columns: &[BY_VACUUM, BY_AUTOVACUUM], never: NEVER_VACUUMED };
const ANALYZE: Work = Work { columns: &[BY_ANALYZE, BY_AUTOANALYZE], never: NEVER_ANALYZED };
const AUTOVACUUM: Work = Work { columns: &[BY_AUTOVACUUM], never: NEVER_VACUUMED };
const AUTOANALYZE: Work = Work { columns: &[BY_AUTOANALYZE], never: NEVER_ANALYZED };

impl Work {
    /// How many seconds ago it was done, and when.
    fn done<'a>(&self, row: &Row<'a>) -> Option<(f64, &'a str)> {
        let done = self.columns.iter().filter_map(|(ago, when)| Some((row.number(ago)?, row.text(when))));
        done.min_by(|(one, _), (other, _)| one.total_cmp(other))
    }
}

async fn last(call: &mut Call, work: &Work) -> Ended {
    let limits = call.limits(Wanted::new(Kind::Time).or("1 day", "2 days"))?;
    for (at, answer) in call.rows("table_maintenance").await? {
        let owned: Vec<Row<'_>> = Row::of(&answer)
            .filter(|row| row.text("kind") == "r" && row.text("schemaname") != "information_schema")
            .filter(|row| call.filter.keeps_owner(row.text("owner")))
            .collect();
        if owned.is_empty() && call.filter.is_by_owner() {
            call.ok(at, "No matching entries found due to user exclusion/inclusion options");
            continue;
        }
        let kept = owned.iter().filter(|row| call.filter.keeps_in(row.text("schemaname"), row.text("relname")));
        let mut kept: Vec<(&Row<'_>, Option<(f64, &str)>)> = kept.map(|row| (row, work.done(row))).collect();
        // Longest ago first, what was never done last.
        kept.sort_by(|(_, one), (_, other)| match (one, other) {
            (Some((one, _)), Some((other, _))) => other.total_cmp(one),
            (one, other) => one.is_none().cmp(&other.is_none()),
        });
        kept.truncate(call.perflimit().unwrap_or(usize::MAX));
        let nothing = if kept.is_empty() && !owned.is_empty() {
            "No matching tables found due to exclusion/inclusion options"
        } else {
            work.never
        };
        let done: Vec<(&Row<'_>, f64, &str)> =
            kept.into_iter().filter_map(|(row, done)| done.map(|(ago, when)| (row, ago.round(), when))).collect();
        let (Some((oldest, ago, when)), Some((_, latest, _))) = (done.first(), done.last()) else {
            say_nothing_left(call, at, nothing)?;
            continue;
        };
        let table = |row: &Row<'_>| format!("{}.{}", row.text("schemaname"), row.text("relname"));
        let named = format!("DB: {} TABLE: {}", oldest.text("datname"), table(oldest));
        if call.is_mrtg() {
            return Err(call.mrtg(number(*latest), "", named));
        }
        for (row, ago, _) in &done {
            let label = perfname(&format!("{}.{}", row.text("datname"), table(row)));
            *call.perf(at) += &format!(" {label}={}s;{}", number(*ago), limits.perf());
        }
        let message = format!("{named}: {} ({})", clock(when), pretty_time(*ago, Precision::NoSeconds));
        call.say(above_zero(limits).at_least(*ago), at, message);
    }
    Ok(())
}

/// Of the ages 0 means that none is too old.
fn above_zero(limits: Limits) -> Limits {
    let above = |limit: Option<f64>| limit.filter(|limit| *limit > 0.0);
    Limits { warning: above(limits.warning), critical: above(limits.critical) }
}

/// `2026-11-22 04:45:09` as `04:45 November 22, 2026`.
fn clock(moment: &str) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let written = || {
        let (date, time) = moment.split_once(' ')?;
        let (year, rest) = date.split_once('-')?;
        let (month, day) = rest.split_once('-')?;
        let month = MONTHS.get(month.parse::<usize>().ok()?.checked_sub(1)?)?;
        let (time, _) = time.rsplit_once(':')?;
        Some(format!("{time} {month} {day}, {year}"))
    };
    written().unwrap_or_else(|| moment.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_the_original_does() {
        assert_eq!(clock("2026-11-02 04:45:09"), "04:45 November 02, 2026");
        assert_eq!(clock("infinity"), "infinity");
    }
}
