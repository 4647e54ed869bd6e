//! Files that `pg_dump` wrote: whether there is one of each database, how old and how large.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::check_pgactivity::glob;
use crate::check_pgactivity::threshold::{bytes, labelled, number, seconds, to_interval};
use crate::check_pgactivity::{Answer, Call, Options, Perf, Service, Stop};
use crate::plugin::{Pattern, Row};

pub(super) const SERVICES: &[Service] = &[Service {
    name: "pg_dump_backup",
    help: "Check pg_dump backups age and retention policy.",
    run: |call| Box::pin(pg_dump_backup(call)),
}];

/// What stands for the files of global objects among the databases.
const GLOBALS: &str = "globals_objects";
const LABELS: [&str; 4] = ["oldest", "newest", "size", "mindeltasize"];

/// When a file was written, in seconds, and its size in bytes.
type Dump = (i64, u64);

/// One side of the thresholds.
#[derive(Clone, Debug, Default)]
struct Limits {
    oldest: Option<i64>,
    newest: Option<i64>,
    size: Option<String>,
    least: i64,
}

fn limits(text: &str) -> Result<Limits, Stop> {
    const EXPECTED: &str = "critical and warning thresholds only accept a list of 'label=value' separated by comma.\n\
                            See documentation for more information.";
    let given = labelled(text, &LABELS).ok_or_else(|| Stop::usage(EXPECTED))?;
    let age = |label: &str| {
        let Some(text) = given.get(label) else { return Ok(None) };
        let wrong = || {
            Stop::usage(format!("threshold for the oldest or newest backup age must be an interval: {label}={text}"))
        };
        seconds(text).map(Some).ok_or_else(wrong)
    };
    let size = given.get("size").cloned();
    if size.as_ref().is_some_and(|size| bytes(size, Some(0.0)).is_none()) {
        return Err(Stop::usage(EXPECTED));
    }
    let least = given.get("mindeltasize").map_or(Some(0), |text| bytes(text, None));
    let least = least.ok_or_else(|| Stop::usage(EXPECTED))?;
    Ok(Limits { oldest: age("oldest")?, newest: age("newest")?, size, least })
}

async fn pg_dump_backup(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_PGDUMP_BACKUP";
    let options = call.options.clone();
    let required = |text: &Option<String>, reason: &str| {
        text.clone().filter(|text| !text.is_empty()).ok_or_else(|| Stop::usage(reason))
    };
    let pattern = required(&options.pattern, "you must specify a pattern for filenames")?;
    let path = required(&options.path, "you must specify a backup path")?;
    if Path::new(&path).is_dir() {
        return Err(Stop::usage("the backup_path must contain a wilcard and not be a directory"));
    }
    let mut host = call
        .one_host()
        .map_err(|_| Stop::usage("you must give one (and only one) host with service \"pg_dump_backup\"."))?;
    let (warning, critical) = match options.thresholds() {
        Some((warning, critical)) => (limits(warning)?, limits(critical)?),
        None => Default::default(),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let dumps = find(&options, &path, &pattern, now)?;
    let sized = warning.size.is_some() || critical.size.is_some();
    let before = if sized { call.kept.load(&host, "pg_dump_backup")? } else { None };
    let before: BTreeMap<String, Dump> = before.unwrap_or_default();

    let mut wanted = options.dbinclude.clone();
    if wanted.is_empty() {
        let rows = host.rows("databases").await?;
        wanted = Row::of(&rows).map(|row| row.text("datname").to_owned()).collect();
    }
    wanted.extend(options.global_pattern.is_some().then(|| GLOBALS.to_owned()));

    let (mut criticals, mut warnings, mut perfdata) = (Vec::new(), Vec::new(), Vec::new());
    for database in wanted {
        if !call.filters.wants_database(&database) && (database != GLOBALS || options.dbinclude.is_empty()) {
            continue;
        }
        let perf = |what: &str, value: String, unit: &str| Perf::new(format!("{database}_{what}"), value).unit(unit);
        let Some((first, last)) = dumps.get(&database) else {
            for (what, unit) in [("oldest", "s"), ("newest", "s"), ("size", "B")] {
                criticals.push(format!("'{database}_{what}'=NaN{unit}"));
            }
            for (what, unit) in [("newest", "s"), ("oldest", "s"), ("size", "B"), ("delta", "B")] {
                perfdata.push(perf(what, "NaN".to_owned(), unit));
            }
            continue;
        };
        let mut say = |high: bool, low: bool, message: String| match (high, low) {
            (true, _) => criticals.push(message),
            (false, true) => warnings.push(message),
            (false, false) => {}
        };
        let mut ages = Vec::new();
        for (what, time, low, high) in
            [("newest", last.0, warning.newest, critical.newest), ("oldest", first.0, warning.oldest, critical.oldest)]
        {
            let age = now.saturating_sub(time);
            let above = |limit: Option<i64>| limit.is_some_and(|limit| age > limit);
            say(above(high), above(low), format!("'{database}_{what}'={}", to_interval(age as f64)));
            ages.push(perf(what, age.to_string(), "s").limits(low, high));
        }
        let size = last.1;
        let previous = before.get(&database).map(|(_, size)| *size);
        // Without a last call there is nothing that could have changed.
        let delta = previous.map_or(0.0, |previous| size as f64 - previous as f64);
        let mut changed = perf("delta", number(delta), "B");
        if sized {
            let Some(previous) = previous else { continue };
            let limit = |limits: &Limits| bytes(limits.size.as_deref()?, Some(previous as f64));
            let (low, high) = (limit(&warning), limit(&critical));
            let above = |limit: Option<i64>, least: i64| {
                limit.is_some_and(|limit| delta.abs() > limit as f64 && delta.abs() >= least as f64)
            };
            let message = format!("'{database}_delta'={}B", number(delta));
            say(above(high, critical.least), above(low, warning.least), message);
            changed = changed.limits(low, high);
        }
        perfdata.extend(ages);
        perfdata.extend([perf("size", size.to_string(), "B"), changed]);
    }
    let latest: BTreeMap<&str, Dump> = dumps.iter().map(|(name, (_, last))| (name.as_str(), *last)).collect();
    call.kept.save(&host, "pg_dump_backup", &latest)?;
    Ok(Answer::judged(LABEL, criticals, warnings, "").with_perfdata(perfdata))
}

/// The oldest and the newest file of each database.
fn find(options: &Options, path: &str, pattern: &str, now: i64) -> Result<BTreeMap<String, (Dump, Dump)>, Stop> {
    let pattern = Pattern::parse(pattern)?;
    let global = options.global_pattern.as_deref().map(Pattern::parse).transpose()?;
    let least_age = match options.exclude.first() {
        Some(text) => seconds(text).ok_or_else(|| Stop::usage(format!("Malformed interval: «{text}»!")))?,
        None => 0,
    };
    let mut dumps: BTreeMap<String, (Dump, Dump)> = BTreeMap::new();
    for file in glob::find(path) {
        let Ok(found) = fs::metadata(&file) else { continue };
        let written = found.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let written = written.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        if now.saturating_sub(written) < least_age {
            continue;
        }
        let name = file.to_string_lossy();
        let is_global = global.as_ref().is_some_and(|global| global.is_match(&name));
        let databases = [is_global.then_some(GLOBALS), pattern.capture(&name)];
        for database in databases.into_iter().flatten() {
            let dump = (written, found.len());
            let (first, last) = dumps.entry(database.to_owned()).or_insert((dump, dump));
            if dump.0 < first.0 {
                *first = dump;
            }
            if dump.0 > last.0 {
                *last = dump;
            }
        }
    }
    Ok(dumps)
}
