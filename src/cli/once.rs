//! `pgvitals once`: one reading, printed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;

use super::{Format, OnceArgs, print, sources};
use crate::agent::{Gap, Outcome, Want};
use crate::sink::{graphite, json, openmetrics, prometheus};

/// Whoever runs this waits for nothing else, and gets all sooner than this unless there are thousands of databases.
const DEADLINE: Duration = Duration::from_secs(30);

pub(super) fn run(args: &OnceArgs) -> anyhow::Result<()> {
    let plan = sources::plan(&args.source)?;
    if let Some(warning) = sources::exposed_password(&args.source) {
        eprintln!("pgvitals: {warning}");
    }
    let known: Vec<&str> = plan.catalog.collectors().collect();
    if let Some(unknown) = args.collectors.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no collector {unknown:?}, expected one of: {}", known.join(", "));
    }
    let want = if args.collectors.is_empty() { Want::default() } else { Want::only(args.collectors.iter().cloned()) };
    let want = Want { patient: true, deadline: DEADLINE, ..want };
    let reading = sources::ask(async { plan.start(&Arc::default(), None).agent().read(&want).await })?;
    let mut text = String::new();
    match args.format {
        Format::Prometheus => prometheus::encode(&reading.snapshot, &mut text),
        Format::Openmetrics => openmetrics::encode(&reading.snapshot, &mut text),
        Format::Graphite => {
            let prefix = plan.config.graphite.as_ref().map_or("pgvitals", |graphite| &graphite.prefix);
            graphite::encode(&reading.snapshot, &graphite::Root::new(prefix, &graphite::host_name()), &mut text);
        }
        Format::Json => json::encode(&reading.snapshot, &mut text),
    }
    print(&text);
    for server in &reading.servers {
        if let Err((class, reason)) = &server.state {
            eprintln!("pgvitals: {} is down, {class}: {reason}", server.name);
        }
    }
    for report in &reading.reports {
        let place = report.server.as_deref().unwrap_or("the host");
        match &report.outcome {
            Outcome::Failed { class: "server_down", .. } => {}
            Outcome::Failed { reason, .. } => eprintln!("pgvitals: {} of {place}: {reason}", report.collector),
            _ => {
                for Gap { datname, reason, .. } in report.gaps.iter() {
                    eprintln!("pgvitals: {} of {place}, {datname}: {reason}", report.collector);
                }
            }
        }
    }
    Ok(())
}
