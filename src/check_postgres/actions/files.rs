//! Files on the server's host: how full their disks are, how many WAL files there are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::check::Status;
use crate::check_postgres::text::{number, pretty_size};
use crate::check_postgres::threshold::{Kind, Space, Wanted, sizes_or_shares};
use crate::check_postgres::{Action, At, Call, End, Ended};
use crate::collect::host::Holding;
use crate::plugin::Row;
use crate::server::RowSet;

pub(super) const ACTIONS: &[Action] = &[
    Action {
        run: |call| Box::pin(disk_space(call)),
        ..Action::clusterwide("disk_space", "How full the disks of the server are; to be run on its host")
    },
    Action { run: |call| Box::pin(count_files(call, &WAL)), ..Action::clusterwide("wal_files", "Number of WAL files") },
    Action {
        run: |call| Box::pin(count_files(call, &READY)),
        ..Action::clusterwide("archive_ready", "Number of WAL files that wait to be archived")
    },
];

async fn disk_space(call: &mut Call) -> Ended {
    let limits = sizes_or_shares(&call.options, Some(("90%", "95%")))?;
    let mut seen = BTreeSet::new();
    let mut disks = Vec::new();
    for (at, answer) in call.rows("directories").await? {
        let Some(folders) = folders(&answer) else {
            call.unknown(at, "Could not determine data_directory: are you running as a superuser?");
            continue;
        };
        let data = folders.first().cloned().unwrap_or_default();
        if !data.is_dir() {
            call.unknown(at, format!("Could not find data directory \"{}\"", data.display()));
            continue;
        }
        let mut found = Vec::new();
        for folder in folders.iter().filter(|folder| folder.exists()) {
            let disk = Disk::of(folder)?;
            if seen.insert(disk.holding.device.clone()) && call.filter.keeps(&disk.holding.device) {
                found.push(disk);
            }
        }
        if call.is_mrtg() {
            disks.append(&mut found);
        } else if found.is_empty() {
            call.unknown(at, "No matching file systems found due to exclusion/inclusion options");
        } else {
            say_disks(call, at, &limits, &found);
        }
    }
    if call.is_mrtg() { Err(mrtg_of_disks(call, &disks)) } else { Ok(()) }
}

/// The data directory first; `None` where the role may not know it.
fn folders(answer: &RowSet) -> Option<Vec<PathBuf>> {
    let paths = |kind: &'static str| {
        Row::of(answer).filter(move |row| row.text("kind") == kind).map(|row| PathBuf::from(row.text("path")))
    };
    let data = paths("data_directory").next()?;
    let mut folders = vec![data.clone(), data.join("pg_wal")];
    folders.extend(paths("log_directory").map(|folder| data.join(folder)));
    folders.extend(paths("tablespace"));
    Some(folders)
}

/// A file system, and what of it is used.
struct Disk {
    holding: Holding,
    used: f64,
    /// Whole per cent, rounded up, of what PostgreSQL may use.
    percent: f64,
}

impl Disk {
    fn of(folder: &Path) -> Result<Self, End> {
        let failed =
            |reason| End::refused(format!("Invalid result from command \"df {}\": {reason}", folder.display()));
        let holding = Holding::of(folder).map_err(failed)?;
        let used = holding.size - holding.free;
        let percent = (used / (used + holding.available) * 100.0).ceil();
        Ok(Self { used, percent: if percent.is_finite() { percent } else { 0.0 }, holding })
    }
}

fn say_disks(call: &mut Call, at: At, (warning, critical): &(Space, Space), disks: &[Disk]) {
    for Disk { holding, used, percent } in disks {
        *call.perf(at) = format!("size={}B", number(*used));
        let status = if critical.reached(*used, *percent) {
            Status::Critical
        } else if warning.reached(*used, *percent) {
            Status::Warning
        } else {
            Status::Ok
        };
        let (device, point) = (&holding.device, &holding.point);
        let (used, size) = (pretty_size(*used), pretty_size(holding.size));
        call.say(
            status,
            at,
            format!("FS {device} mounted on {point} is using {used} of {size} ({}%)", number(*percent)),
        );
    }
}

fn mrtg_of_disks(call: &mut Call, disks: &[Disk]) -> End {
    let wanted = call.options.text("mrtg").unwrap_or_default().to_owned();
    for Disk { holding, used, percent } in disks {
        let value = match wanted.as_str() {
            "total" => holding.size,
            "used" => *used,
            "percent" => *percent,
            _ => holding.available,
        };
        call.stat(holding.device.clone(), value, Some(holding.device.clone()));
    }
    call.mrtg_stats("Unknown error")
}

/// Which files are counted.
struct Files {
    /// Who counts them.
    listing: &'static str,
    column: &'static str,
    /// What their names end in, after the 24 digits.
    ending: &'static str,
    words: &'static str,
}

const WAL: Files = Files { listing: "wal_directory", column: "segments", ending: "", words: "WAL files found" };
const READY: Files =
    Files { listing: "archiver_files", column: "ready", ending: ".ready", words: "WAL \".ready\" files found" };

async fn count_files(call: &mut Call, files: &Files) -> Ended {
    let limits = call.limits(Wanted::new(Kind::PositiveInteger).or("10", "15").at_least_one())?;
    let own = match call.options.text("lsfunc") {
        Some(function) => Some(count_by(function, files)?),
        None => None,
    };
    for at in call.places() {
        let (answer, column) = match &own {
            Some(sql) => (call.sql_at(at, sql).await?, "count"),
            None => (call.rows_at(at, files.listing).await?, files.column),
        };
        // A server that archives nothing has nothing that waits.
        let found = Row::of(&answer).next().and_then(|row| row.number(column)).unwrap_or_default();
        if call.is_mrtg() {
            return Err(call.mrtg(number(found), "", ""));
        }
        *call.perf(at) += &format!("files={};{}", number(found), limits.perf());
        call.say(limits.above(found), at, format!("{}: {}", files.words, number(found)));
    }
    Ok(())
}

/// The statement that counts what a function of the user's lists.
fn count_by(function: &str, files: &Files) -> Result<String, End> {
    let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || c == '_');
    if !function.split('.').all(is_word) {
        return Err(End::refused(format!("Invalid function name for --lsfunc: {function}")));
    }
    let ending = files.ending.replace('.', r"\.");
    Ok(format!("SELECT count(*) AS count FROM {function}() AS file(name) WHERE name ~ '^[0-9A-F]{{24}}{ending}$'"))
}
