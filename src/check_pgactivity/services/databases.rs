//! Databases one by one: `checksum_errors`, `database_size`, `pgss_dealloc`, `session_stats`, `temp_files`.

use std::collections::BTreeMap;

use super::activity::{above, databases};
use super::ratios::{Counters, FIRST, growth, statistics};
use crate::check_pgactivity::threshold::{bytes, decimal, labelled, number, to_size};
use crate::check_pgactivity::{Answer, Call, Perf, Service, Status, Stop};
use crate::plugin::{AskError, Row};

pub(super) const SERVICES: &[Service] = &[
    Service {
        name: "checksum_errors",
        help: "Check data checksums errors.",
        run: |call| Box::pin(checksum_errors(call)),
    },
    Service { name: "database_size", help: "Variation of database sizes.", run: |call| Box::pin(database_size(call)) },
    Service {
        name: "pgss_dealloc",
        help: "Check rate of pg_stat_statements dealloc.",
        run: |call| Box::pin(pgss_dealloc(call)),
    },
    Service {
        name: "session_stats",
        help: "Miscellaneous session statistics, including session rate.",
        run: |call| Box::pin(session_stats(call)),
    },
    Service { name: "temp_files", help: "Check temp files generation.", run: |call| Box::pin(temp_files(call)) },
];

/// Pages that were read with a wrong checksum.
async fn checksum_errors(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_CHECKSUM_ERRORS";
    let limits = call.limits(decimal, "critical and warning thresholds only accept raw numbers.")?;
    let (warning, critical) = limits.unwrap_or((1.0, 1.0));
    let mut host = call.one_host()?;
    host.suits("checksum_errors", 12..=u32::MAX).await?;
    let settings = host.rows("limits").await?;
    if !Row::of(&settings).any(|row| row.is("has_checksums")) {
        return Ok(Answer::new(LABEL, Status::Unknown, "Data checksums are not enabled!"));
    }
    let rows = host.rows("database").await?;
    let (mut perfdata, mut critical_ones, mut warning_ones) = (Vec::new(), Vec::new(), Vec::new());
    for row in Row::of(&rows) {
        let Some(failures) = row.number("checksum_failures") else { continue };
        let name = Some(row.text("datname")).filter(|name| !name.is_empty()).unwrap_or("<shared objects>");
        let message = format!("{name}: {} error(s)", number(failures));
        perfdata.push(Perf::new(name, number(failures)).unit("").limits(Some(number(warning)), Some(number(critical))));
        match Status::from(failures, Some((warning, critical))) {
            Status::Critical => critical_ones.push(message),
            Status::Warning => warning_ones.push(message),
            _ => {}
        }
    }
    let checked = format!("{} database(s) checked", perfdata.len());
    Ok(Answer::judged(LABEL, critical_ones, warning_ones, checked).with_perfdata(perfdata))
}

/// Thresholds of a database's size and of its change, as they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct SizeLimits {
    size: Option<String>,
    delta: Option<String>,
}

impl SizeLimits {
    /// `size=500GB,delta=1%`; a value without a label is a change.
    fn read(text: &str) -> Result<Self, Stop> {
        const MORE: &str = "\nSee documentation for more information.";
        if bytes(text, Some(0.0)).is_some() {
            return Ok(Self { size: None, delta: Some(text.to_owned()) });
        }
        let list = labelled(text, &["size", "delta"]);
        let wrong = format!("wrong format for critical and/or warning thresholds.{MORE}");
        let mut list = list.ok_or_else(|| Stop::usage(wrong))?;
        let limits = Self { size: list.remove("size"), delta: list.remove("delta") };
        if limits.size.as_ref().is_some_and(|size| bytes(size, None).is_none()) {
            return Err(Stop::usage(format!("Size threshold only accept a raw number or a size.{MORE}")));
        }
        if limits.delta.as_ref().is_some_and(|delta| bytes(delta, Some(0.0)).is_none()) {
            let text = format!("Delta threshold only accept a raw number, a size or a percentage.{MORE}");
            return Err(Stop::usage(text));
        }
        Ok(limits)
    }
}

/// How large databases are, and how much they grew or shrank.
async fn database_size(mut call: Call) -> Result<Answer, Stop> {
    const KEPT: &str = "db_size";
    let limits = match call.options.thresholds() {
        Some((warning, critical)) => Some((SizeLimits::read(warning)?, SizeLimits::read(critical)?)),
        None => None,
    };
    if let Some((warning, critical)) = &limits {
        for (label, differ) in [
            ("size", warning.size.is_some() != critical.size.is_some()),
            ("delta", warning.delta.is_some() != critical.delta.is_some()),
        ] {
            if differ {
                let text = format!("you must specify both critical and warning thresholds for {label}.");
                return Err(Stop::usage(text));
            }
        }
    }
    let mut host = call.one_host()?;
    let rows = host.rows("database_size").await?;
    let sizes: Vec<(&str, f64)> =
        Row::of(&rows).filter_map(|row| Some((row.text("datname"), row.number("size")?))).collect();
    let old: BTreeMap<String, f64> = call.kept.load(&host, KEPT)?.unwrap_or_default();
    call.kept.save(&host, KEPT, &sizes.iter().copied().collect::<BTreeMap<_, _>>())?;
    let mut judged = Sized { limits: limits.unwrap_or_default(), ..Sized::default() };
    for (name, size) in sizes.into_iter().filter(|(name, _)| call.filters.wants_database(name)) {
        judged.add(name, size, old.get(name).copied());
    }
    let Sized { checked, critical, warning, perfdata, .. } = judged;
    let checked = format!("{checked} database(s) checked");
    Ok(Answer::judged("POSTGRES_DB_SIZE", critical, warning, checked).with_perfdata(perfdata))
}

/// Databases that are held against thresholds.
#[derive(Debug, Default)]
struct Sized {
    limits: (SizeLimits, SizeLimits),
    checked: usize,
    critical: Vec<String>,
    warning: Vec<String>,
    perfdata: Vec<Perf>,
}

impl Sized {
    fn add(&mut self, name: &str, size: f64, before: Option<f64>) {
        self.checked += 1;
        let limits = (self.limits.0.size.clone(), self.limits.1.size.clone());
        let limits = self.judge(&format!("{name} (size: {})", to_size(&number(size))), size, limits, size);
        let limits = (limits.0.map(number), limits.1.map(number));
        self.perfdata.push(Perf::new(name, number(size)).unit("B").limits(limits.0, limits.1));
        let Some(before) = before else { return };
        let delta = size - before;
        let limits = (self.limits.0.delta.clone(), self.limits.1.delta.clone());
        let limits = self.judge(&format!("{name} (delta: {})", to_size(&number(delta))), delta.abs(), limits, before);
        let range = |limit: f64| format!("-{0}:{0}", number(limit));
        let limits = (limits.0.map(range), limits.1.map(range));
        self.perfdata.push(Perf::new(format!("{name}_delta"), number(delta)).unit("B").limits(limits.0, limits.1));
    }

    /// Notes the message if the value reaches a threshold, and gives the thresholds that were looked at: the lower one is
    /// not when the value reaches the higher one.
    fn judge(
        &mut self,
        message: &str,
        value: f64,
        (warning, critical): (Option<String>, Option<String>),
        whole: f64,
    ) -> (Option<f64>, Option<f64>) {
        #[allow(clippy::cast_precision_loss, reason = "a size of more than 2^53 bytes is any")]
        let limit = |text: Option<String>| text.and_then(|text| bytes(&text, Some(whole))).map(|bytes| bytes as f64);
        let critical = limit(critical);
        if critical.is_some_and(|critical| value >= critical) {
            self.critical.push(message.to_owned());
            return (None, critical);
        }
        let warning = limit(warning);
        if warning.is_some_and(|warning| value >= warning) {
            self.warning.push(message.to_owned());
        }
        (warning, critical)
    }
}

/// How often `pg_stat_statements` had to forget statements.
async fn pgss_dealloc(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_PG_STAT_STATEMENTS_DEALLOC";
    const KEPT: &str = "pgss_dealloc";
    let limits = call.limits(decimal, "warning or critical threshold must be integer.")?;
    let mut host = call.one_host()?;
    let place = match host.name.split_once("service:") {
        Some((_, service)) => Some(format!("the service {service}")),
        None => host.name.split_once("db:").map(|(_, database)| database.to_owned()),
    };
    let only = "you must give one database with service \"pgss_dealloc\".";
    let place = place.ok_or_else(|| Stop::usage(only))?;
    host.suits("check_pg_stat_statements_dealloc", 14..=u32::MAX).await?;
    let unknown = |message: &str| Ok(Answer::new(LABEL, Status::Unknown, message));
    let rows = match host.try_rows("statements_info").await {
        Ok(rows) => rows,
        Err(AskError::Unavailable(_)) => {
            return unknown(&format!(
                "Ensure that the pg_stat_statements extension has been created on the target database (currently {place})"
            ));
        }
        Err(AskError::Query(failure)) if failure.to_string().contains("shared_preload_libraries") => {
            return unknown("Ensure that the pg_stat_statements has been loaded in shared_preload_libraries.");
        }
        Err(error) => return Err(Stop::refused(Status::Unknown, None, &error)),
    };
    let Some(now) = Row::of(&rows).next().and_then(|row| row.number("dealloc")) else {
        return unknown("pg_stat_statements version must be above or equal 1.9");
    };
    let before: Option<f64> = call.kept.load(&host, KEPT)?;
    call.kept.save(&host, KEPT, &now)?;
    let Some(before) = before else { return Ok(Answer::new(LABEL, Status::Ok, FIRST)) };
    let delta = now - before;
    let shown = |limit: fn((f64, f64)) -> f64| limits.map(limit).map(number);
    let perf = Perf::new("pgss_deallocs", number(now)).unit("c");
    let perf = perf.limits(shown(|limits| limits.0), shown(|limits| limits.1));
    let (status, text) = if delta < 0.0 {
        (Status::Unknown, "Negative dealloc delta; did you call pg_stat_statements_reset()?")
    } else {
        (limits.map_or(Status::Ok, |limits| above(delta, limits)), "Deallocs delta")
    };
    let message = format!("{text}: {} deallocs", number(delta));
    Ok(Answer::new(LABEL, status, message).with_perfdata(vec![perf]))
}

/// The columns of `database` that tell of sessions, what each is called here, and its unit.
const SESSIONS: [(&str, &str, &str); 6] = [
    ("session_time", "session_time", "ms"),
    ("active_time", "active_time", "ms"),
    ("idle_in_transaction_time", "idle_in_transaction_time", "ms"),
    ("sessions_killed", "sessions_killed", ""),
    ("sessions_abandoned", "sessions_abandoned", ""),
    ("sessions_fatal", "sessions_fatal", ""),
];

/// How many sessions were opened, what they did with their time, and how they ended.
async fn session_stats(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_SESSION_STATS";
    const KEPT: &str = "session_stats";
    let mut host = call.one_host()?;
    host.suits("session_stats", 14..=u32::MAX).await?;
    let open = databases(&mut host, false).await?;
    let counted = |row: Row<'_>| {
        let columns = SESSIONS.iter().map(|(column, ..)| row.number(column)).collect::<Option<Vec<f64>>>()?;
        Some((row.number("sessions")?, columns))
    };
    let mut counted = statistics(&mut host, counted).await?;
    counted.retain(|name, _| open.contains(name));
    let new = Counters::now(counted);
    let old: Option<Counters<(f64, Vec<f64>)>> = call.kept.load(&host, KEPT)?;
    call.kept.save(&host, KEPT, &new)?;
    let old = old.and_then(|old| Some((new.seconds_since(&old)?, old.of)));
    let Some((seconds, old)) = old else { return Ok(Answer::new(LABEL, Status::Ok, FIRST)) };
    let mut all = 0.0;
    let mut perfdata = Vec::new();
    for (database, (sessions, columns)) in &new.of {
        let Some((before, columns_before)) = old.get(database) else { continue };
        let rate = growth(*before, *sessions) / seconds;
        all += rate;
        perfdata.push(Perf::new(format!("{database}_session_rate"), number(rate)).unit(" sessions/s"));
        for ((_, name, unit), (before, now)) in SESSIONS.iter().zip(columns_before.iter().zip(columns)) {
            perfdata.push(Perf::new(format!("{database}_{name}"), number(growth(*before, *now))).unit(*unit));
        }
    }
    let message = format!("Number of sessions per second for all databases: {all:.2}");
    Ok(Answer::new(LABEL, Status::Ok, message).with_perfdata(perfdata))
}

/// Thresholds of a number of files and of their size.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct FileLimits {
    files: Option<f64>,
    bytes: Option<f64>,
}

impl FileLimits {
    /// `10`, `1GB` or `10,1GB`: without a unit it is a number of files.
    fn read(text: &str) -> Option<Self> {
        let mut limits = Self::default();
        let is_between = |c: char| c == ',' || c == ';' || c.is_whitespace();
        for part in text.split(is_between).filter(|part| !part.is_empty()) {
            match decimal(part) {
                Some(files) => limits.files = Some(files),
                #[allow(clippy::cast_precision_loss, reason = "a size of more than 2^53 bytes is any")]
                None => limits.bytes = Some(bytes(part, None)? as f64),
            }
        }
        (limits != Self::default()).then_some(limits)
    }
}

/// Temporary files that are there now, by tablespace, and those written since the last call, by database.
async fn temp_files(mut call: Call) -> Result<Answer, Stop> {
    const KEPT: &str = "temp_files";
    let only = "critical and warning thresholds only accept a number of files, a size or both, separated by a comma.";
    let (warning, critical) = call.limits(FileLimits::read, only)?.unwrap_or_default();
    if warning.files.is_some() != critical.files.is_some() || warning.bytes.is_some() != critical.bytes.is_some() {
        let what = if warning.files.is_some() == critical.files.is_some() { "total size" } else { "number file" };
        let text = format!(
            "you must give the {what} thresholds for both warning AND critical if used with service \"temp_files\"."
        );
        return Err(Stop::usage(text));
    }
    let mut host = call.one_host()?;
    let live = host.rows("tablespaces").await?;
    let written = |row: Row<'_>| Some((row.number("temp_files")?, row.number("temp_bytes")?));
    let new = Counters::now(statistics(&mut host, written).await?);
    let old: Option<Counters<(f64, f64)>> = call.kept.load(&host, KEPT)?;
    call.kept.save(&host, KEPT, &new)?;

    let mut found = Found { warning, critical, ..Found::default() };
    let limits = |of: fn(&FileLimits) -> Option<f64>| (of(&warning).map(number), of(&critical).map(number));
    let files_perf = |label: String, files: f64, unit: &str| {
        let (warning, critical) = limits(|limits| limits.files);
        Perf::new(label, number(files)).unit(unit).limits(warning, critical)
    };
    let bytes_perf = |label: String, bytes: f64| {
        let (warning, critical) = limits(|limits| limits.bytes);
        Perf::new(label, number(bytes)).unit("B").limits(warning, critical)
    };
    let mut perfdata = Vec::new();
    let mut checked = new.of.len();
    for row in Row::of(&live) {
        let (Some(files), Some(bytes)) = (row.number("files").filter(|files| *files > 0.0), row.number("size")) else {
            continue;
        };
        let name = row.text("spcname");
        checked += 1;
        perfdata.push(files_perf(format!("# files in {name}"), files, "File"));
        perfdata.push(bytes_perf(format!("Total size in {name}"), bytes));
        found.add(name, files, bytes);
    }
    let old = old.and_then(|old| Some((new.seconds_since(&old)? / 60.0, old.of)));
    let (minutes, old) = old.unwrap_or_default();
    for (name, (files, bytes)) in &new.of {
        let Some(before) = old.get(name) else { continue };
        let (files, bytes) = (growth(before.0, *files), growth(before.1, *bytes));
        perfdata.push(Perf::new(name, number(files / minutes)).unit("Fpm"));
        perfdata.push(Perf::new(name, number(bytes / minutes)).unit("Bpm"));
        perfdata.push(files_perf(name.clone(), files, "Files"));
        perfdata.push(bytes_perf(name.clone(), bytes));
        found.add(name, files, bytes);
    }
    let checked = format!("{checked} tablespace(s)/database(s) checked");
    let answer = Answer::judged("POSTGRES_TEMP_FILES", found.critical_ones, found.warning_ones, checked);
    Ok(answer.with_perfdata(perfdata))
}

/// What has too many or too large files.
#[derive(Debug, Default)]
struct Found {
    warning: FileLimits,
    critical: FileLimits,
    critical_ones: Vec<String>,
    warning_ones: Vec<String>,
}

impl Found {
    fn add(&mut self, name: &str, files: f64, bytes: f64) {
        let message = format!("{name} ({} file(s)/{})", number(files), to_size(&number(bytes)));
        let exceeds = |limits: FileLimits| {
            limits.bytes.is_some_and(|limit| bytes > limit) || limits.files.is_some_and(|limit| files > limit)
        };
        if exceeds(self.critical) {
            self.critical_ones.push(message);
        } else if exceeds(self.warning) {
            self.warning_ones.push(message);
        }
    }
}
