//! How far standbys are behind, asked of them or of their primary: `hot_standby_delta` and `streaming_delta`.

use crate::check_pgactivity::threshold::{bytes, to_size};
use crate::check_pgactivity::{Answer, Call, Host, Perf, Service, Status, Stop};
use crate::plugin::Row;

pub(super) const SERVICES: &[Service] = &[
    Service {
        name: "hot_standby_delta",
        help: "Check delta in bytes between a master and its hot standbys.",
        run: |call| Box::pin(hot_standby_delta(call)),
    },
    Service {
        name: "streaming_delta",
        help: "Check delta in bytes between a master and its standbys in streaming replication.",
        run: |call| Box::pin(streaming_delta(call)),
    },
];

const ONLY_SIZES: &str = "critical and warning thresholds only accept one or two sizes, separated by a comma.";

/// A size for what has arrived and one for what is replayed.
type Pair = (i64, i64);

/// One size for both, or one for each.
fn pair(text: &str) -> Option<Pair> {
    let (arrived, replayed) = text.split_once(',').unwrap_or((text, text));
    Some((bytes(arrived, None)?, bytes(replayed, None)?))
}

/// How far one standby is behind, in bytes.
struct Delta<'a> {
    name: &'a str,
    /// What the first of the two is called.
    word: &'a str,
    arrived: Option<i64>,
    replayed: Option<i64>,
}

impl Delta<'_> {
    /// Puts the worst of it where it belongs; whether there was nothing.
    fn judge(
        &self,
        (warning, critical): (Pair, Pair),
        critical_to: &mut Vec<String>,
        warning_to: &mut Vec<String>,
    ) -> bool {
        let cases = [
            ("critical", self.word, self.arrived, critical.0),
            ("critical", "replay", self.replayed, critical.1),
            ("warning", self.word, self.arrived, warning.0),
            ("warning", "replay", self.replayed, warning.1),
        ];
        for (severity, word, delta, limit) in cases {
            let Some(delta) = delta.filter(|delta| *delta > limit) else { continue };
            let message = format!("{severity} {word} lag: {} for {}", to_size(&delta.to_string()), self.name);
            if severity == "critical" {
                critical_to.push(message);
            } else {
                warning_to.push(message);
            }
            return false;
        }
        true
    }
}

/// Where a server of the command line is in the WAL.
struct Position {
    host: Host,
    written: Option<i64>,
    /// Of a standby that is fed from an archive: replayed.
    received: Option<i64>,
    replayed: Option<i64>,
}

/// Two or more servers, of which one is the primary.
async fn hot_standby_delta(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_HOT_STANDBY_DELTA";
    if call.hosts.len() < 2 {
        return Err(Stop::usage("you must give two or more hosts with service \"hot_standby_delta\"."));
    }
    let mut positions = Vec::new();
    while let Some(host) = call.hosts.take() {
        positions.push(position(host).await?);
    }
    if let Some(message) = differing_majors(&mut positions).await? {
        return Ok(Answer::new(LABEL, Status::Critical, message));
    }
    let mut primaries = positions.iter().filter_map(|position| position.written);
    let Some(written) = primaries.next() else {
        return Ok(Answer::new(LABEL, Status::Critical, "No cluster in production."));
    };
    if primaries.next().is_some() {
        return Ok(Answer::new(LABEL, Status::Critical, "More than one cluster in production."));
    }
    let limits = call.limits(pair, ONLY_SIZES)?;
    let (mut critical, mut warning, mut perfdata, mut fine) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for position in positions.iter().filter(|position| position.written.is_none()) {
        let name = &position.host.name;
        let behind = |reached: Option<i64>| reached.map(|reached| written - reached);
        let (Some(received), Some(replayed)) = (behind(position.received), behind(position.replayed)) else {
            return Err(Stop::unknown(format!("{name} has neither received nor replayed anything yet")));
        };
        for (what, delta, of) in
            [("receive", received, (|pair| pair.0) as fn(Pair) -> i64), ("replay", replayed, |pair| pair.1)]
        {
            let perf = Perf::new(format!("{what} delta {name}"), delta.max(0)).unit("B");
            perfdata.push(perf.limits(limits.map(|it| of(it.0)), limits.map(|it| of(it.1))));
        }
        let delta = Delta { name, word: "receive", arrived: Some(received), replayed: Some(replayed) };
        if limits.is_none_or(|limits| delta.judge(limits, &mut critical, &mut warning)) {
            fine += 1;
        }
    }
    let answer = Answer::judged(LABEL, critical, warning, format!("{fine} Hot standby checked"));
    Ok(answer.with_perfdata(perfdata))
}

async fn position(mut host: Host) -> Result<Position, Stop> {
    let rows = host.rows("positions").await?;
    let value = |column| Row::of(&rows).next().and_then(|row| row.integer(column));
    let (written, received, replayed) = (value("written"), value("received"), value("replayed"));
    Ok(Position { host, written, received: received.or(replayed), replayed })
}

/// What to say when not all servers have the major version of the first.
async fn differing_majors(positions: &mut [Position]) -> Result<Option<String>, Stop> {
    let mut first: Option<(u32, String)> = None;
    for Position { host, .. } in positions {
        let major = host.version().await? / 10_000;
        let rows = host.rows("connection").await?;
        let version = Row::of(&rows).next().map(|row| row.text("server_version").to_owned()).unwrap_or_default();
        match &first {
            None => first = Some((major, version)),
            Some((own, of_first)) if *own != major => {
                return Ok(Some(format!(
                    "PostgreSQL major versions differ amongst clusters ({of_first} vs. {version})."
                )));
            }
            Some(_) => {}
        }
    }
    Ok(None)
}

/// The standbys of one server, as it sees them.
async fn streaming_delta(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_STREAMING_DELTA";
    let limits = call.limits(pair, ONLY_SIZES)?;
    let mut host = call.one_host()?;
    let wanted: Vec<&str> = call.options.slave.iter().flat_map(|list| list.split(',')).collect();
    let rows = host.rows("senders").await?;
    // Of others' senders a role that may not see them is told no state.
    let senders = || Row::of(&rows).filter(|row| !matches!(row.get("state"), None | Some("startup" | "backup")));
    if senders().next().is_none() {
        if Row::of(&rows).any(|row| row.get("state").is_none()) {
            let reason = "standbys are hidden from this role, which needs pg_monitor";
            return Ok(Answer::new(LABEL, Status::Unknown, reason));
        }
        return Ok(Answer::new(LABEL, Status::Unknown, "No slaves connected"));
    }
    let (mut critical, mut warning, mut perfdata) = (Vec::new(), Vec::new(), Vec::new());
    let (mut connected, mut excluded) = (Vec::new(), 0);
    for row in senders() {
        let (application, address) = (row.text("application_name"), row.text("client_addr"));
        if call.filters.excludes(application) || call.filters.excludes(address) {
            excluded += 1;
            continue;
        }
        connected.push(format!("{application} {address}"));
        let name = format!("{application}@{address}");
        let (flushed, replayed) = (row.integer("flush_bytes"), row.integer("replay_bytes"));
        for (what, delta, of) in [
            ("sent", row.integer("sent_bytes"), None),
            ("wrote", row.integer("write_bytes"), None),
            ("flushed", flushed, limits.map(|(warns, alarms)| (warns.0, alarms.0))),
            ("replay", replayed, limits.map(|(warns, alarms)| (warns.1, alarms.1))),
        ] {
            // A standby that is just connecting has not told yet.
            let Some(delta) = delta else { continue };
            let perf = Perf::new(format!("{what} delta {name}"), delta).unit("B");
            perfdata.push(perf.limits(of.map(|of: Pair| of.0), of.map(|of| of.1)));
        }
        perfdata.push(Perf::new(format!("pid {name}"), row.text("pid")));
        if let Some(limits) = limits {
            let delta = Delta { name: &name, word: "flush", arrived: flushed, replayed };
            delta.judge(limits, &mut critical, &mut warning);
        }
    }
    perfdata.push(Perf::new("# of excluded slaves", excluded));
    perfdata.push(Perf::new("# of slaves", senders().count()));
    let missing = wanted.iter().filter(|wanted| !connected.iter().any(|name| name == *wanted));
    let critical: Vec<String> = missing.map(|name| format!("{name} not connected")).chain(critical).collect();
    let answer = Answer::judged(LABEL, critical, warning, format!("{} slaves checked", connected.len()));
    Ok(answer.with_perfdata(perfdata))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_size_stands_for_both() {
        assert_eq!(
            (pair("1kB"), pair("1kB,2"), pair("1kB,"), pair("x")),
            (Some((1024, 1024)), Some((1024, 2)), None, None)
        );
    }

    #[test]
    fn a_standby_is_told_once_and_by_the_worst() {
        let (mut critical, mut warning) = (Vec::new(), Vec::new());
        let limits = ((10, 10), (100, 100));
        for (arrived, replayed) in
            [(Some(0), Some(101)), (Some(11), Some(12)), (None, Some(10)), (Some(101), Some(200))]
        {
            Delta { name: "b", word: "flush", arrived, replayed }.judge(limits, &mut critical, &mut warning);
        }
        assert_eq!(critical, ["critical replay lag: 101.00B for b", "critical flush lag: 101.00B for b"]);
        assert_eq!(warning, ["warning flush lag: 11.00B for b"]);
    }
}
