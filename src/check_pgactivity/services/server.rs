//! Whether a server answers, what it is and since when.

use crate::check_pgactivity::threshold::{number, seconds, to_interval};
use crate::check_pgactivity::{Answer, Call, Perf, Service, Status, Stop};
use crate::plugin::Row;

pub(super) const SERVICES: &[Service] = &[
    Service { name: "connection", help: "Perform a simple connection test.", run: |call| Box::pin(connection(call)) },
    Service {
        name: "is_hot_standby",
        help: "Check if cluster is a hot standby.",
        run: |call| Box::pin(is_hot_standby(call)),
    },
    Service { name: "is_master", help: "Check if cluster is in production.", run: |call| Box::pin(is_master(call)) },
    Service {
        name: "is_replay_paused",
        help: "Check if the replication is paused.",
        run: |call| Box::pin(is_replay_paused(call)),
    },
    Service {
        name: "stat_snapshot_age",
        help: "Check stats collector's stats age.",
        run: |call| Box::pin(stat_snapshot_age(call)),
    },
    Service {
        name: "uptime",
        help: "Time since postmaster start or configurtion reload.",
        run: |call| Box::pin(uptime(call)),
    },
];

const ONLY_INTERVALS: &str = "critical and warning thresholds only accept interval.";

async fn connection(mut call: Call) -> Result<Answer, Stop> {
    let mut host = call.one_host()?;
    let rows = host.try_rows("connection").await;
    let rows = rows.map_err(|error| Stop::refused(Status::Critical, None, &error))?;
    let message = Row::of(&rows)
        .next()
        .map(|row| format!("Connection successful at {}, on {}", row.text("stamp"), row.text("version")));
    Ok(Answer::new("POSTGRES_CONNECTION", Status::Ok, message.unwrap_or_default()))
}

async fn is_hot_standby(mut call: Call) -> Result<Answer, Stop> {
    Ok(if call.one_host()?.is_standby().await? {
        Answer::new("POSTGRES_IS_HOT_STANDBY", Status::Ok, "Cluster is hot standby")
    } else {
        Answer::new("POSTGRES_IS_HOT_STANDBY", Status::Critical, "Cluster is not hot standby")
    })
}

async fn is_master(mut call: Call) -> Result<Answer, Stop> {
    Ok(if call.one_host()?.is_standby().await? {
        Answer::new("POSTGRES_IS_MASTER", Status::Critical, "Cluster is not master")
    } else {
        Answer::new("POSTGRES_IS_MASTER", Status::Ok, "Cluster is master")
    })
}

async fn is_replay_paused(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_REPLICATION_PAUSED";
    let limits = call.limits(seconds, ONLY_INTERVALS)?;
    let mut host = call.one_host()?;
    let rows = host.rows("positions").await?;
    let Some(row) = Row::of(&rows).find(|row| row.is("recovery")) else {
        let perfdata = vec![
            Perf::new("is_paused", "NaN"),
            Perf::new("lag_time", "NaN").unit("s"),
            Perf::new("has_data_delta", "NaN").unit("s"),
        ];
        return Ok(Answer::new(LABEL, Status::Unknown, "Server is not standby.").with_perfdata(perfdata));
    };
    // Nothing was replayed yet, or the role may not see when.
    let lag = row.number("replayed_seconds").map_or(f64::NAN, f64::round);
    let is_behind = row.number("received").is_some_and(|received| row.number("replayed") != Some(received));
    let perfdata = vec![
        Perf::new("is_paused", u8::from(row.is("paused"))),
        Perf::new("lag_time", number(lag)).unit("s"),
        Perf::new("has_data_delta", u8::from(is_behind)),
    ];
    let (status, message) = match limits {
        _ if !row.is("paused") => (Status::Ok, " replay is not paused".to_owned()),
        Some((_, critical)) if is_behind && lag > critical as f64 => {
            (Status::Critical, format!(" replay lag time: {}", to_interval(lag)))
        }
        Some((warning, _)) if is_behind && lag > warning as f64 => {
            (Status::Warning, format!(" replay lag time: {}", to_interval(lag)))
        }
        _ => (Status::Ok, " replay is paused.".to_owned()),
    };
    Ok(Answer::new(LABEL, status, message).with_perfdata(perfdata))
}

async fn stat_snapshot_age(mut call: Call) -> Result<Answer, Stop> {
    let limits = call.limits(seconds, "critical and warning thresholds only acccepts interval.")?;
    let mut host = call.one_host()?;
    host.suits("stat_snapshot_age", 10..=14).await?;
    let rows = host.rows("statistics_snapshot").await?;
    let age = Row::of(&rows).next().and_then(|row| row.number("seconds"));
    let age = age.ok_or_else(|| Stop::unknown("the server does not say when its statistics were written"))?;
    let perf = Perf::new("statistics_age", number(age));
    let perf = match limits {
        Some((warning, critical)) => perf.limits(Some(warning), Some(critical)),
        None => perf,
    };
    let status = Status::from(age, limits.map(|(warning, critical)| (warning as f64, critical as f64)));
    Ok(Answer::new("POSTGRES_STAT_SNAPSHOT_AGE", status, "").with_perfdata(vec![perf]))
}

async fn uptime(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_UPTIME";
    let limit = |text: &Option<String>| match text.as_deref().map(seconds) {
        Some(None) => Err(Stop::usage(ONLY_INTERVALS)),
        limit => Ok(limit.flatten().map(|limit| limit as f64)),
    };
    let (warning, critical) = (limit(&call.options.warning)?, limit(&call.options.critical)?);
    let mut host = call.one_host()?;
    let rows = host.rows("starts").await?;
    let row = Row::of(&rows).next().ok_or_else(|| Stop::unknown("the server does not say when it started"))?;

    let (mut criticals, mut warnings, mut messages) = (Vec::new(), Vec::new(), Vec::new());
    let mut perfdata = Vec::new();
    // Of what is older than the warning only a reload is warned of, if both are given.
    for (what, label, column, age, critical, warning) in [
        (
            "postmaster started",
            "postmaster uptime",
            "started",
            "started_seconds",
            critical,
            warning.filter(|_| critical.is_none()),
        ),
        (
            "shared memory initialized",
            "shmem init time",
            "initialized",
            "initialized_seconds",
            critical,
            warning.filter(|_| critical.is_none()),
        ),
        (
            "configuration reloaded",
            "configuration uptime",
            "configured",
            "configured_seconds",
            critical.filter(|_| warning.is_none()),
            warning,
        ),
    ] {
        let Some(age) = row.number(age).map(f64::trunc) else { continue };
        let message = format!("{what} for {} (since {})", to_interval(age), row.text(column));
        let below = |limit: Option<f64>| limit.is_some_and(|limit| age < limit);
        if below(critical) {
            criticals.push(message);
        } else if below(warning) {
            warnings.push(message);
        } else {
            messages.push(message);
        }
        perfdata.push(Perf::new(label, number(age)).unit("s").least(0));
    }
    // In the message the configuration comes last, here the shared memory does.
    if let [_, second, third] = perfdata.as_mut_slice() {
        std::mem::swap(second, third);
    }
    let status = match (criticals.is_empty(), warnings.is_empty()) {
        (false, _) => Status::Critical,
        (true, false) => Status::Warning,
        (true, true) if row.get("initialized").is_none() && (warning.is_some() || critical.is_some()) => {
            messages
                .push("when shared memory was initialized is hidden from this role, which needs pg_monitor".to_owned());
            Status::Unknown
        }
        (true, true) => Status::Ok,
    };
    let messages = criticals.into_iter().chain(warnings).chain(messages).collect();
    Ok(Answer { label: LABEL, status, messages, perfdata, long: Vec::new() })
}
