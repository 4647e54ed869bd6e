//! What other software keeps in tables of its own: pgAgent, `pg_partman`, Slony.

use std::collections::BTreeMap;

use crate::check::Status;
use crate::check_postgres::text::{Precision, number, perfname, pretty_time};
use crate::check_postgres::threshold::{Kind, Wanted};
use crate::check_postgres::{Action, Call, End, Ended};
use crate::plugin::Row;

pub(super) const ACTIONS: &[Action] = &[
    Action {
        run: |call| Box::pin(pgagent_jobs(call)),
        ..Action::of_database("pgagent_jobs", "Jobs of pgAgent that failed of late")
    },
    Action {
        run: |call| Box::pin(partman_premake(call)),
        ..Action::clusterwide("partman_premake", "Partitions that pg_partman should have made")
    },
    Action {
        run: |call| Box::pin(slony_status(call)),
        ..Action::clusterwide("slony_status", "How far Slony lags behind")
    },
];

async fn pgagent_jobs(call: &mut Call) -> Ended {
    let limits = call.limits(Wanted::new(Kind::Time).any_warning().in_mrtg())?;
    for (at, answer) in call.rows("pgagent_failures").await? {
        let mut status = Status::Ok;
        let mut failed = Vec::new();
        for row in Row::of(&answer) {
            let Some(ago) = row.number("seconds") else { continue };
            let within = |limit: Option<f64>| limit.is_some_and(|limit| ago < limit);
            if within(limits.critical) {
                status = Status::Critical;
            } else if !within(limits.warning) {
                continue;
            } else if status == Status::Ok {
                status = Status::Warning;
            }
            let output = row.get("jsloutput").filter(|output| !output.is_empty()).unwrap_or("(NO OUTPUT)");
            let output = output.replace("\r\n", " ").replace('\n', " ");
            failed.push(format!("{} {}/{}: {output}", row.text("jslresult"), row.text("jobname"), row.text("jstname")));
        }
        let message = if failed.is_empty() { "No failed jobs".to_owned() } else { failed.join("; ") };
        call.say(status, at, message);
    }
    Ok(())
}

async fn partman_premake(call: &mut Call) -> Ended {
    let limits = call.limits(Wanted::new(Kind::Integer).or("1", "3").in_mrtg())?;
    for (at, answer) in call.rows("partman_tables").await? {
        let mut worst = Status::Ok;
        let mut found: Vec<(Status, String)> = Vec::new();
        let mut late: Vec<(f64, Row<'_>)> = Vec::new();
        let is_short = |row: &Row<'_>| row.number("kept_intervals").is_some_and(|kept| kept < 1.0);
        let table = |row: &Row<'_>| format!("{}={}", row.text("datname"), row.text("parent_table"));
        for row in Row::of(&answer).filter(|row| !row.is("is_configured")) {
            found.push((Status::Critical, format!("{} missing table in partman.part_config", table(&row))));
        }
        for row in Row::of(&answer) {
            if is_short(&row) {
                found.push((Status::Warning, format!("{} misconfigured in partman.part_config", table(&row))));
            }
            late.extend(row.number("missing_days").filter(|days| *days > 0.0).map(|days| (days, row)));
        }
        late.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let is_kept = Row::of(&answer).next().is_none_or(|row| call.filter.keeps(row.text("datname")));
        let is_fine = found.is_empty() && late.is_empty();
        if !is_kept && !is_fine {
            call.unknown(at, "No matching databases found due to exclusion/inclusion options");
            continue;
        }
        for (days, row) in late {
            let label = perfname(row.text("datname"));
            *call.perf(at) += &format!(" {label}={}d;{}", number(days), limits.perf());
            found.push((limits.at_least(days), format!("{} ({})", table(&row), number(days))));
        }
        for (status, _) in &found {
            worst = worst.max(*status);
        }
        let told: Vec<String> =
            found.into_iter().filter(|(status, _)| *status == worst).map(|(_, message)| message).collect();
        let message = if told.is_empty() { "All premade partitions are present".to_owned() } else { told.join(" ") };
        call.say(worst, at, message);
    }
    Ok(())
}

async fn slony_status(call: &mut Call) -> Ended {
    let limits = call.limits(Wanted::new(Kind::Time).or("60", "300"))?;
    let wanted: Vec<String> = call.options.list("schema").to_vec();
    let mut is_found = false;
    for (at, answer) in call.rows("slony_lag").await? {
        let place = call.places().position(|place| place == at).unwrap_or_default();
        let wanted: Vec<&str> = wanted.get(place).map(|list| list.split(',').collect()).unwrap_or_default();
        // Of each cluster the node that lags most.
        let mut clusters: BTreeMap<&str, Row<'_>> = BTreeMap::new();
        for row in Row::of(&answer).filter(|row| wanted.is_empty() || wanted.contains(&row.text("schemaname"))) {
            clusters.entry(row.text("schemaname")).or_insert(row);
        }
        if let Some(missing) = wanted.iter().find(|schema| !clusters.contains_key(*schema)) {
            return Err(End::refused(format!("relation \"{missing}.sl_status\" does not exist")));
        }
        let mut lags = Vec::new();
        for (schema, row) in &clusters {
            let Some(lag) = row.number("seconds").map(f64::round) else {
                call.unknown(at, "Call to sl_status did not return a number");
                return Ok(());
            };
            let node = |node: &str| format!("Node {}({})", row.text(node), row.text(&format!("{node}_name")));
            let label = format!("{}.{schema} {} -> {}", row.text("datname"), node("origin"), node("receiver"));
            lags.push((lag, label));
        }
        lags.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        let Some(longest) = lags.first().map(|(lag, _)| *lag) else { continue };
        is_found = true;
        if call.is_mrtg() {
            return Err(call.mrtg(number(longest), "", ""));
        }
        for (lag, label) in lags {
            *call.perf(at) += &format!(" {}={};{}", perfname(&label), number(lag), limits.perf());
        }
        let precision = if longest > 500.0 { Precision::NoSeconds } else { Precision::Full };
        let message = format!("Slony lag time: {} ({})", number(longest), pretty_time(longest, precision));
        call.say(limits.at_least(longest), at, message);
    }
    if !is_found {
        call.say_of_none(Status::Unknown, "Could not determine the schema for Slony");
    }
    Ok(())
}
