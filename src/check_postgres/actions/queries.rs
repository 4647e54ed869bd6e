//! Statements of the user's own: what they give, and how long they take.

use crate::check::Status;
use crate::check_postgres::text::perfname;
use crate::check_postgres::threshold::{Kind, Limits, Texts, Wanted, texts};
use crate::check_postgres::{Action, Call, End, Ended};
use crate::plugin::Row;
use crate::server::RowSet;

pub(super) const ACTIONS: &[Action] = &[
    Action {
        run: |call| Box::pin(custom_query(call)),
        ..Action::of_database("custom_query", "What a query of your own gives")
    },
    Action {
        run: |call| Box::pin(query_runtime(call)),
        ..Action::of_database("query_runtime", "How long a query takes")
    },
];

/// What results are held against.
enum Expected {
    Numbers(Limits),
    Texts(Texts),
}

impl Expected {
    fn read(call: &Call) -> Result<Self, End> {
        let kind = match call.options.text("valtype").filter(|kind| !matches!(*kind, "" | "0")) {
            None | Some("integer") => Kind::Integer,
            Some("time") => Kind::Time,
            Some("size") => Kind::Size,
            Some("seconds") => Kind::Seconds,
            Some("percent") => Kind::Percent,
            Some("positive integer") => Kind::PositiveInteger,
            Some("string") => {
                let expected = if call.is_mrtg() { Texts::default() } else { texts(&call.options) };
                if expected == Texts::default() && !call.is_mrtg() {
                    return Err(End::refused("Must provide a 'warning' or 'critical' option"));
                }
                return Ok(Self::Texts(expected));
            }
            Some(other) => {
                return Err(End::refused(format!("validate_range called with unknown type '{other}'")));
            }
        };
        call.limits(Wanted::new(kind).at_least_one()).map(Self::Numbers)
    }

    fn perf(&self) -> String {
        match self {
            Self::Numbers(limits) => limits.perf(),
            Self::Texts(Texts { warning, critical }) => {
                format!("{};{}", warning.as_deref().unwrap_or_default(), critical.as_deref().unwrap_or_default())
            }
        }
    }

    /// The status of a result; none when it is no number and has to be one.
    fn judge(&self, result: &str, reverse: bool) -> Option<Status> {
        match self {
            Self::Numbers(limits) => {
                let value = leading_number(result)?;
                Some(if reverse { limits.at_most(value) } else { limits.at_least(value) })
            }
            Self::Texts(Texts { warning, critical }) => {
                let alerts =
                    |expected: &Option<String>| expected.as_ref().is_some_and(|text| (text == result) != reverse);
                Some(if alerts(critical) {
                    Status::Critical
                } else if alerts(warning) {
                    Status::Warning
                } else {
                    Status::Ok
                })
            }
        }
    }
}

/// The number that a text begins with, as Perl takes it: `12.5%` is 12.5.
fn leading_number(text: &str) -> Option<f64> {
    let text = text.trim_start();
    let ends = text.char_indices().map(|(at, _)| at).skip(1).chain([text.len()]);
    let parsed = |end: usize| text.get(..end)?.parse::<f64>().ok().filter(|value| value.is_finite());
    // The longest beginning that is one: nothing that goes on after a letter or a second dot is.
    ends.take_while(|end| *end <= 40).filter_map(parsed).last()
}

async fn custom_query(call: &mut Call) -> Ended {
    let expected = Expected::read(call)?;
    let query = call.options.text("query").filter(|query| !query.is_empty()).map(ToOwned::to_owned);
    let query = query.ok_or_else(|| End::refused("Must provide a query string"))?;
    let reverse = call.options.is_on("reverse");
    let mut answers = Vec::new();
    for at in call.places() {
        answers.push((at, call.sql_at(at, &query).await?));
    }
    for (at, answer) in answers {
        if answer.is_empty() {
            call.unknown(at, "No rows returned");
            continue;
        }
        let shown = answer.columns().iter().find(|column| *column != "result").cloned();
        for row in Row::of(&answer) {
            if let Some(column) = &shown {
                let value = one_word(row.text(column));
                *call.perf(at) += &format!(" {}={value};{}", perfname(column), expected.perf());
            }
            let result = row.get("result");
            let Some(status) = result.and_then(|result| expected.judge(result, reverse)) else {
                call.unknown(at, "Invalid format returned by custom query");
                return Ok(());
            };
            call.say(status, at, result.unwrap_or_default());
        }
    }
    Ok(())
}

/// A value for perfdata, which end at a blank.
fn one_word(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join("_").replace('|', "_")
}

async fn query_runtime(call: &mut Call) -> Ended {
    let limits = call.limits(Wanted::new(Kind::Time))?;
    let name = call.options.text("queryname").unwrap_or_default().to_owned();
    let word = name.strip_suffix("()").unwrap_or(&name);
    if word.is_empty() || !word.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.')) {
        return Err(End::refused("Invalid queryname option: must be a simple view name"));
    }
    let mut answers = Vec::new();
    for at in call.places() {
        answers.push((at, call.sql_at(at, &format!("EXPLAIN ANALYZE SELECT COUNT(1) FROM {name}")).await?));
    }
    for (at, answer) in answers {
        let Some(milliseconds) = last_time(&answer) else {
            call.unknown(at, "Invalid query returned: no time");
            continue;
        };
        let seconds = (milliseconds / 10.0).round() / 100.0;
        let shown = format!("{seconds:.2}");
        if call.is_mrtg() {
            let database = call.place(at).database.clone();
            call.stat_as(database, seconds, shown, None);
            continue;
        }
        *call.perf(at) = format!("query_time={shown}s;{}", limits.perf());
        call.say(limits.at_least(seconds), at, format!("query runtime: {shown} seconds"));
    }
    if call.is_mrtg() { Err(call.mrtg_stats("invalid queryname?")) } else { Ok(()) }
}

/// The last time in a plan, in milliseconds: that of all of it.
fn last_time(plan: &RowSet) -> Option<f64> {
    let times = plan.rows().filter_map(|mut row| {
        let line = row.next()??;
        let (before, _) = line.split_once(" ms")?;
        before.rsplit(' ').next()?.parse().ok()
    });
    times.last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_the_number_that_it_begins_with() {
        for (text, value) in [
            ("12", Some(12.0)),
            ("-1.5e3", Some(-1_500.0)),
            ("12.5%", Some(12.5)),
            (" 7 rows", Some(7.0)),
            ("", None),
            ("none", None),
            ("nan", None),
        ] {
            assert_eq!(leading_number(text), value, "{text}");
        }
    }

    #[test]
    fn the_time_of_a_plan_is_its_last_one() {
        let mut plan = RowSet::new(vec!["QUERY PLAN".to_owned()]);
        for line in ["Aggregate  (actual time=0.1..0.2)", "Planning Time: 0.051 ms", "Execution Time: 12.5 ms"] {
            assert!(plan.push(Some(line)));
        }
        assert_eq!(last_time(&plan), Some(12.5));
    }
}
