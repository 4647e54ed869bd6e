//! Parameters of the server: whether they are sound, and whether they have changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::check_pgactivity::threshold::seconds;
use crate::check_pgactivity::{Answer, Call, Host, Options, Perf, Service, Status, Stop};
use crate::plugin::Row;

pub(super) const SERVICES: &[Service] = &[
    Service {
        name: "configuration",
        help: "Check the most important settings.",
        run: |call| Box::pin(configuration(call)),
    },
    Service {
        name: "hugepages",
        help: "Check if the hugepages are in the expected state.",
        run: |call| Box::pin(hugepages(call)),
    },
    Service {
        name: "pgdata_permission",
        help: "Check that the permission on PGDATA is 700.",
        run: |call| Box::pin(pgdata_permission(call)),
    },
    Service {
        name: "settings",
        help: "Check if the configuration file changed.",
        run: |call| Box::pin(settings(call)),
    },
];

async fn configuration(mut call: Call) -> Result<Answer, Stop> {
    let mut host = call.one_host()?;
    let rows = host.rows("parameters").await?;
    let unsound = Row::of(&rows).filter(|row| is_unsound(&call.options, row.text("name"), row.text("setting")));
    let unsound = unsound.map(|row| format!("{}={}", row.text("name"), row.text("setting"))).collect();
    Ok(Answer::judged("POSTGRES_CONFIGURATION", unsound, Vec::new(), "PostgreSQL configuration ok"))
}

fn is_unsound(options: &Options, name: &str, setting: &str) -> bool {
    // 0 is no floor to the original: it takes its own then.
    let below = |given: Option<i64>, usual: i64| {
        let least = given.filter(|least| *least != 0).unwrap_or(usual);
        setting.parse::<i64>().is_ok_and(|setting| setting < least)
    };
    let off = |unchecked: Option<bool>| setting == "off" && unchecked != Some(true);
    match name {
        "work_mem" => below(options.work_mem, 4_096),
        "maintenance_work_mem" => below(options.maintenance_work_mem, 65_536),
        "shared_buffers" => below(options.shared_buffers, 16_384),
        "wal_buffers" => below(options.wal_buffers, 64) || setting == "-1",
        "effective_cache_size" => below(options.effective_cache_size, 131_072),
        "autovacuum" => off(options.no_check_autovacuum),
        "fsync" => off(options.no_check_fsync),
        "track_counts" => off(options.no_check_track_counts),
        // These two are off unless somebody wants them.
        "enable_partitionwise_aggregate" | "enable_partitionwise_join" => false,
        _ => name.starts_with("enable") && off(options.no_check_enable),
    }
}

async fn hugepages(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_HUGEPAGES";
    let expected = if call.options.with_hugepages == Some(true) { "on" } else { "off" };
    let mut host = call.one_host()?;
    host.suits("hugepages", 17..=u32::MAX).await?;
    let state = parameter(&mut host, "huge_pages_status").await?;
    let state = state.ok_or_else(|| Stop::unknown("the server does not say whether it has huge pages"))?;
    let code = match state.as_str() {
        "off" => "0",
        "on" => "1",
        "unknown" => "2",
        _ => "NaN",
    };
    let (status, message) = if state == expected {
        (Status::Ok, format!("The huge pages are in the expected state: {expected}."))
    } else {
        (Status::Critical, format!("The huge pages are: {state}, the expected state was: {expected}."))
    };
    Ok(Answer::new(LABEL, status, message).with_perfdata(vec![Perf::new("huge_page_status", code)]))
}

async fn parameter(host: &mut Host, name: &str) -> Result<Option<String>, Stop> {
    let rows = host.rows("parameters").await?;
    Ok(Row::of(&rows).find(|row| row.text("name") == name).map(|row| row.text("setting").to_owned()))
}

async fn pgdata_permission(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_CHECK_PGDATA_PERMISSION";
    let mut host = call.one_host()?;
    let Some(folder) = parameter(&mut host, "data_directory").await? else {
        let reason = "the data folder's name is hidden from this role, which needs pg_read_all_settings";
        return Ok(Answer::new(LABEL, Status::Unknown, reason));
    };
    let found = match fs::metadata(&folder) {
        Ok(found) => found,
        Err(error) => {
            let message = format!("Postgresql returned this PGDATA: {folder}, but I cannot access it: {error}");
            return Ok(Answer::new(LABEL, Status::Unknown, message));
        }
    };
    let mut criticals = Vec::new();
    let mut messages = Vec::new();
    let mode = found.mode() & 0o7777;
    if mode == 0o700 || mode == 0o750 && host.version().await? >= 110_000 {
        messages.push(format!("Permission is ok on {folder}"));
    } else {
        criticals.push(format!("Permission is {mode:04o} on {folder}"));
    }
    let mut long = Vec::new();
    let owner = found.uid();
    match runs_as(&mut host, call.options.uid.as_deref()).await? {
        None => long.push("Cannot determine UID of user running postgres. Try to use '--uid'?".to_owned()),
        Some(user) if user == owner => messages.push(format!("Owner of {folder} is ({user})")),
        Some(user) => criticals.push(format!("User running Postgres ({user}) doesn't own {folder} ({owner})")),
    }
    let status = if criticals.is_empty() { Status::Ok } else { Status::Critical };
    // The permission first, the owner second, whichever of them is wrong.
    let mut all = [criticals, messages].concat();
    all.sort_by_key(|message| !message.starts_with("Permission"));
    Ok(Answer { label: LABEL, status, messages: all, perfdata: Vec::new(), long })
}

/// The number of the user as whom the server runs: the one that is named, else that of the process that serves us.
async fn runs_as(host: &mut Host, named: Option<&str>) -> Result<Option<u32>, Stop> {
    if let Some(name) = named {
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let user = users
            .lines()
            .map(|line| line.split(':'))
            .find_map(|mut fields| (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten());
        return Ok(user);
    }
    let rows = host.rows("processes").await?;
    let own = Row::of(&rows).find(|row| row.is("is_own")).and_then(|row| row.integer("pid"));
    let status = own.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok()).unwrap_or_default();
    // real, effective, saved, of the file system
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    Ok(users.and_then(|users| users.split_whitespace().nth(1)?.parse().ok()))
}

/// What is known of the parameters: name, then role and database, then the value.
type Known = BTreeMap<String, BTreeMap<String, String>>;

/// What was said last, and since when.
#[derive(Default, Deserialize, Serialize)]
struct Said {
    text: String,
    since: f64,
}

async fn settings(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_SETTINGS";
    let expiry = match call.options.warning.as_deref().map(seconds) {
        Some(None) => return Err(Stop::usage("the warning threshold only accepts an interval.")),
        expiry => expiry.flatten().map(|expiry| expiry as f64),
    };
    let mut host = call.hosts.take().ok_or_else(|| Stop::unknown("no host is named"))?;
    let (now_known, pending) = known(&mut host).await?;
    let before: Option<Known> = call.kept.load(&host, "settings")?;

    let mut changes: Vec<String> = pending.iter().map(|name| format!("{name} is pending restart !")).collect();
    // The very first time there is nothing to compare with.
    changes.extend(differences(before.as_ref().unwrap_or(&Known::new()), &now_known));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let text = changes.join("\n");
    let said: Said = call.kept.load(&host, "settings_said")?.unwrap_or_default();
    let mut save = before.is_none() || call.options.save == Some(true);
    if text != said.text {
        call.kept.save(&host, "settings_said", &Said { text, since: now })?;
    } else if pending.is_empty() && !changes.is_empty() && expiry.is_some_and(|expiry| now - said.since >= expiry) {
        // A change that was told for long enough is no news.
        save = true;
    }
    if save {
        call.kept.save(&host, "settings", &now_known)?;
        return Ok(Answer::new(LABEL, Status::Ok, "Setting saved"));
    }
    let answer = match (pending.is_empty(), changes.is_empty()) {
        (false, _) => Answer::new(LABEL, Status::Warning, "Setting changed and pending restart!"),
        (true, false) => Answer::new(LABEL, Status::Warning, "Setting changed!"),
        (true, true) => return Ok(Answer::new(LABEL, Status::Ok, "Setting OK")),
    };
    Ok(answer.with_long(changes))
}

/// The parameters as they are now, and those that wait for a restart.
async fn known(host: &mut Host) -> Result<(Known, Vec<String>), Stop> {
    let mut known = Known::new();
    let own = host.rows("role_parameters").await?;
    for row in Row::of(&own) {
        let place = format!("{}@{}", row.get("role").unwrap_or("*"), row.get("datname").unwrap_or("*"));
        known.entry(row.text("name").to_owned()).or_default().insert(place, row.text("setting").to_owned());
    }
    let all = host.rows("parameters").await?;
    for row in Row::of(&all) {
        known.entry(row.text("name").to_owned()).or_default().insert(ALL.to_owned(), row.text("shown").to_owned());
    }
    let pending = Row::of(&all).filter(|row| row.is("pending_restart"));
    Ok((known, pending.map(|row| row.text("name").to_owned()).collect()))
}

/// Every role in every database.
const ALL: &str = "*@*";

fn differences(before: &Known, now: &Known) -> Vec<String> {
    let none = BTreeMap::new();
    let mut changes = Vec::new();
    // Those of roles and databases first.
    for of_all in [false, true] {
        for (name, values) in now {
            let before = before.get(name).unwrap_or(&none);
            for (place, value) in values.iter().filter(|(place, _)| (*place == ALL) == of_all) {
                if before.get(place) != Some(value) {
                    let prefix = if of_all { String::new() } else { format!("{place}: ") };
                    changes.push(format!("{prefix}{name}={value}"));
                }
            }
        }
    }
    for (name, values) in before {
        let now = now.get(name).unwrap_or(&none);
        for (place, value) in values.iter().filter(|(place, _)| !now.contains_key(*place)) {
            let prefix = if place == ALL { ":".to_owned() } else { format!(" {place}:") };
            changes.push(format!("missing{prefix} {name}={value}"));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_other_or_gone_is_told() {
        let known = |all: &[(&str, &str, &str)]| {
            let mut known = Known::new();
            for (name, place, value) in all {
                known.entry((*name).to_owned()).or_default().insert((*place).to_owned(), (*value).to_owned());
            }
            known
        };
        let before = known(&[("a", ALL, "1"), ("b", "joe@*", "x"), ("c", ALL, "y")]);
        let now = known(&[("a", ALL, "2"), ("a", "*@app", "3"), ("c", ALL, "y")]);
        assert_eq!(differences(&before, &now), ["*@app: a=3", "a=2", "missing joe@*: b=x"]);
        assert!(differences(&now, &now).is_empty());
    }
}
