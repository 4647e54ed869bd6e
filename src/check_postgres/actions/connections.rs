//! Whether one gets in, what is there, and how many have come.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::check::Status;
use crate::check_postgres::text::{moment, number, perfname};
use crate::check_postgres::threshold::{Connections, Kind, Wanted, connections, texts};
use crate::check_postgres::{Action, At, Call, End, Ended};
use crate::plugin::Row;
use crate::server::FailureClass;

pub(super) const ACTIONS: &[Action] = &[
    Action {
        run: |call| Box::pin(connection(call)),
        ..Action::of_database("connection", "Whether a connection can be made")
    },
    Action {
        run: |call| Box::pin(version(call)),
        ..Action::clusterwide("version", "Whether the version is the expected one")
    },
    Action {
        run: |call| Box::pin(backends(call)),
        ..Action::clusterwide("backends", "Connections, compared to max_connections")
    },
    Action {
        run: |call| Box::pin(timesync(call)),
        ..Action::of_database("timesync", "The server's clock, compared to the one here")
    },
];

async fn connection(call: &mut Call) -> Ended {
    if call.options.is_on("warning") || call.options.is_on("critical") {
        return Err(End::refused("No warning or critical options are needed"));
    }
    let answers = match call.rows("connection").await {
        Ok(answers) => answers,
        Err(End::Refused { text, class }) => {
            let is_late = class == Some(FailureClass::Timeout);
            call.say_of_none(Status::Critical, if is_late { "Timed out" } else { &text });
            return Ok(());
        }
        Err(end) => return Err(end),
    };
    for (at, answer) in answers {
        let said = Row::of(&answer).next().map(|row| row.text("version")).unwrap_or_default();
        let version = version_in(said);
        if call.is_mrtg() {
            return Err(call.mrtg(u8::from(version.is_some()), "", ""));
        }
        match version {
            Some(version) => call.ok(at, format!("version {version}")),
            None => call.unknown(at, format!("Invalid query returned: {said}")),
        }
    }
    Ok(())
}

/// The first word of a server's version that begins with a digit, and is one.
pub(super) fn version_in(said: &str) -> Option<&str> {
    said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
}

async fn version(call: &mut Call) -> Ended {
    if call.is_mrtg() {
        let expected = call.options.text("mrtg").filter(|text| is_version(text)).map(ToOwned::to_owned);
        let expected = expected.ok_or_else(|| End::refused("Invalid mrtg version argument"))?;
        call.options.set("critical", expected);
    }
    let expected = texts(&call.options);
    for (name, text) in [("warning", &expected.warning), ("critical", &expected.critical)] {
        if text.as_ref().is_some_and(|text| !is_version(text)) {
            let format = "must be in the format X.Y or X.Y.Z, where X is the major version number, ";
            return Err(End::refused(format!("Invalid string for '{name}' option: {format}")));
        }
    }
    let (status, expected) = match (expected.critical, expected.warning) {
        (Some(critical), _) => (Status::Critical, critical),
        (None, Some(warning)) => (Status::Warning, warning),
        (None, None) => {
            return Err(End::refused("Must provide a 'warning' option, a 'critical' option, or both"));
        }
    };
    for (at, answer) in call.rows("connection").await? {
        let said = Row::of(&answer).next().map(|row| row.text("version")).unwrap_or_default();
        let Some(version) = version_in(said) else {
            call.unknown(at, format!("Invalid query returned: {said}"));
            continue;
        };
        let is_expected = version == expected || major_of(version) == expected;
        if call.is_mrtg() {
            return Err(call.mrtg(u8::from(is_expected), "", version));
        }
        if is_expected {
            call.ok(at, format!("version {version}"));
        } else {
            call.say(status, at, format!("version {version}, but expected {expected}"));
        }
    }
    Ok(())
}

/// What may be expected: at least two digits, at most two dots, and letters only at the end.
fn is_version(text: &str) -> bool {
    let mut parts = text.splitn(3, '.');
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_word = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let starts_with_digits = |part: &str| part.starts_with(|c: char| c.is_ascii_digit()) && is_word(part);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(major), None, None) => {
            major.len() > 1 && starts_with_digits(major) && major.bytes().take(2).all(|byte| byte.is_ascii_digit())
        }
        (Some(major), Some(minor), rest) => {
            is_digits(major)
                && (starts_with_digits(minor) || (minor.is_empty() && major.len() > 1))
                && rest.is_none_or(is_word)
        }
        _ => false,
    }
}

/// `15` of `15.20` and `17beta1`, `9.6` of `9.6.24`.
fn major_of(version: &str) -> &str {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let major = digits(version);
    let Some(number) = version.get(..major) else { return version };
    if number.parse().is_ok_and(|number: u32| number >= 10) {
        return number;
    }
    let minor = version.get(major + 1..).map(digits).unwrap_or_default();
    version.get(..major + 1 + minor).unwrap_or(version)
}

async fn backends(call: &mut Call) -> Ended {
    let (warning, critical) = connections(&call.options)?;
    let answers = match call.rows("backends").await {
        Ok(answers) => answers,
        Err(End::Refused { class: Some(FailureClass::TooManyConnections), .. }) => {
            if let Some(at) = call.places().next() {
                call.critical(at, "Could not connect: too many connections");
            }
            return Ok(());
        }
        Err(end) => return Err(end),
    };
    let is_busy_only = call.options.is_on("noidle");
    let column = if is_busy_only { "busy" } else { "connections" };
    // As the original: however many places are named, the first one counts.
    let Some((at, answer)) = answers.into_iter().next() else { return Ok(()) };
    let limit = Row::of(&answer).next().and_then(|row| row.number("max_connections"));
    let Some(limit) = limit.filter(|limit| *limit > 0.0) else {
        call.unknown(at, "Could not determine max_connections");
        return Ok(());
    };
    let mut total = 0.0;
    for row in Row::of(&answer) {
        let name = row.text("datname");
        if call.filter.keeps(name) {
            let current = row.number(column).unwrap_or_default();
            if is_busy_only && current == 0.0 {
                continue;
            }
            total += current;
            let (warning, critical) = (number(warning.used_of(limit)), number(critical.used_of(limit)));
            let entry = format!(" {}={};{warning};{critical};0;{}", perfname(name), number(current), number(limit));
            *call.perf(at) += &entry;
        }
    }
    if call.is_mrtg() {
        let message = format!("DB={} Max connections={}", call.place(at).database, number(limit));
        return Err(call.mrtg(number(total), "", message));
    }
    if total == 0.0 {
        call.ok(at, "No connections");
        return Ok(());
    }
    say_taken(call, at, total, limit, (warning, critical));
    Ok(())
}

/// How many of the connections that there may be are taken, by the limits of [`connections`].
pub(super) fn say_taken(
    call: &mut Call,
    at: At,
    total: f64,
    limit: f64,
    (warning, critical): (Connections, Connections),
) {
    let percent = (total / limit * 100.0).trunc().max(1.0);
    let message = format!("{} of {} connections ({}%)", number(total), number(limit), number(percent));
    let status = if critical.reached(total, limit) {
        Status::Critical
    } else if warning.reached(total, limit) {
        Status::Warning
    } else {
        Status::Ok
    };
    call.say(status, at, message);
}

async fn timesync(call: &mut Call) -> Ended {
    let limits = call.limits(Wanted::new(Kind::Seconds).or("2", "5"))?;
    for (at, answer) in call.rows("connection").await? {
        let Some(row) = Row::of(&answer).next() else { continue };
        let here = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let (there, utc_offset) = (row.number("now").unwrap_or_default(), row.number("utc_offset").unwrap_or_default());
        let difference = (there - here).abs().round();
        if call.is_mrtg() {
            let message = format!("DB: {}", call.place(at).database);
            return Err(call.mrtg(number(difference), "", message));
        }
        *call.perf(at) = format!("diff={}s;{}", number(difference), limits.perf());
        let (difference_text, there, here) = (number(difference), moment(there, utc_offset), moment(here, utc_offset));
        let message = format!("timediff={difference_text} DB={there} Local={here}");
        call.say(limits.at_least(difference), at, message);
    }
    Ok(())
}
