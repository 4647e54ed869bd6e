//! The user's own query.

use std::cmp::Ordering;

use crate::check_pgactivity::threshold::{bytes, decimal, seconds};
use crate::check_pgactivity::{Answer, Call, Perf, Service, Status, Stop};

pub(super) const SERVICES: &[Service] = &[Service {
    name: "custom_query",
    help: "Perform the given user query.",
    run: |call| Box::pin(custom_query(call)),
}];

async fn custom_query(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_CUSTOM_QUERY";
    let Some(query) = call.options.query.clone() else {
        return Err(Stop::usage("you must set parameter \"--query\" with \"custom_query\" service."));
    };
    if call.options.r#type.is_some() && call.options.thresholds().is_none() {
        return Err(Stop::usage("you must specify critical and warning thresholds with \"--type\" parameter."));
    }
    let mut host = call.one_host()?;
    let limits = match call.options.r#type.as_deref() {
        Some("size") => {
            let size = |text: &str| bytes(text, None).map(|bytes| bytes as f64);
            call.limits(size, "critical and warning thresholds only accept sizes with --type size.")?
        }
        Some("time") => {
            let time = |text: &str| seconds(text).map(|seconds| seconds as f64);
            call.limits(time, "critical and warning thresholds only acccepts interval with --type time.")?
        }
        _ => call.limits(
            decimal,
            "given critical and/or warning are not numeric. Please, set \"--type\" parameter if needed.",
        )?,
    };
    let rows = host.sql(&query).await?;
    if rows.is_empty() {
        return Ok(Answer::new(LABEL, Status::Unknown, "No row returned by the query!"));
    }

    let alerts = if call.options.reverse == Some(true) { Ordering::Less } else { Ordering::Greater };
    let beyond = |value: f64, limit: Option<f64>| limit.is_some_and(|limit| value.partial_cmp(&limit) == Some(alerts));
    let (warning, critical) = limits.unzip();
    let (mut criticals, mut warnings, mut perfdata) = (Vec::new(), Vec::new(), Vec::new());
    for mut row in rows.rows() {
        let text = row.next().flatten().unwrap_or_default();
        let value = text.trim().parse::<f64>();
        let value = value.map_err(|_| Stop::usage("First column of your query is not numeric!"))?;
        for (label, text) in rows.columns().iter().skip(1).zip(row) {
            let text = text.unwrap_or_default();
            let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
            let number = text.strip_suffix(unit).unwrap_or(text);
            perfdata.push(Perf::new(label, number).unit(unit));
        }
        if beyond(value, critical) {
            criticals.push(format!("value: {text}"));
        } else if beyond(value, warning) {
            warnings.push(format!("value: {text}"));
        }
    }
    Ok(Answer::judged(LABEL, criticals, warnings, "Custom query ok").with_perfdata(perfdata))
}
