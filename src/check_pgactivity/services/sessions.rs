//! Who is connected, and what they are at.

use std::collections::BTreeMap;

use crate::check_pgactivity::threshold::{count, number};
use crate::check_pgactivity::{Answer, Call, Perf, Service, Status, Stop};
use crate::plugin::Row;

pub(super) const SERVICES: &[Service] = &[Service {
    name: "backends",
    help: "Number of connections, compared to max_connections.",
    run: |call| Box::pin(backends(call)),
}];

async fn backends(mut call: Call) -> Result<Answer, Stop> {
    const EXPECTED: &str = "critical and warning thresholds only accept raw numbers or %.";
    let (warning, critical) = call.needed_limits(|text| count(text, 100.0).map(|_| text.to_owned()), EXPECTED)?;
    let mut host = call.one_host()?;
    let limits = host.rows("connection_limits").await?;
    let usable = Row::of(&limits).next().and_then(|row| row.number("usable"));
    let usable = usable.ok_or_else(|| Stop::unknown("max_connections is not known"))?;
    let limit = |text: &str| count(text, usable).ok_or_else(|| Stop::usage(EXPECTED));
    let (warning, critical) = (limit(&warning)?, limit(&critical)?);

    let rows = host.rows("processes").await?;
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
    Ok(Answer::new("POSTGRES_BACKENDS", status, format!("{total} connections on {most}")).with_perfdata(perfdata))
}
