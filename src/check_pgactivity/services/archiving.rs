//! WAL files, the archive and backups: `archiver`, `backup_label_age`, `wal_files`.

use serde::{Deserialize, Serialize};

use super::activity::{ONLY_COUNTS, above, counted, intervals};
use super::ratios::now;
use crate::check_pgactivity::threshold::{count, number, to_interval};
use crate::check_pgactivity::{Answer, Call, Host, Perf, Service, Status, Stop};
use crate::plugin::{AskError, Row};
use crate::server::RowSet;

pub(super) const SERVICES: &[Service] = &[
    Service {
        name: "archiver",
        help: "Check the archiver status and number of wal files ready to archive.",
        run: |call| Box::pin(archiver(call)),
    },
    Service {
        name: "backup_label_age",
        help: "Check age of backup_label file.",
        run: |call| Box::pin(backup_label_age(call)),
    },
    Service { name: "wal_files", help: "Total number of WAL files.", run: |call| Box::pin(wal_files(call)) },
];

/// `archiver`: how many WAL files wait to be archived. That an attempt failed is critical whatever the thresholds.
async fn archiver(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_ARCHIVER";
    let limits =
        call.limits(|text| text.parse::<u32>().ok(), "critical and warning thresholds only accept raw numbers.")?;
    let mut host = call.one_host()?;
    let sizes = host.rows("limits").await?;
    let state = host.rows("archiving").await?;
    let segment_size = Row::of(&sizes).next().and_then(|row| row.number("wal_segment_size"));
    let (Some(state), Some(segment_size)) = (Row::of(&state).next(), segment_size) else {
        return Ok(Answer::new(LABEL, Status::Unknown, "the server says nothing of its archiver"));
    };
    let (files, oldest) = match waiting_files(&mut host).await? {
        Some((files, oldest)) => (Some(files), oldest),
        None => (files_behind(state, segment_size), None),
    };
    let Some(files) = files else {
        let last = state.text("last_archived_wal");
        let message = format!("cannot tell how many WAL files are ready to archive after {last}");
        return Ok(Answer::new(LABEL, Status::Unknown, message));
    };
    let (warning, critical) = (limits.map(|limits| limits.0), limits.map(|limits| limits.1));
    let mut perfdata = vec![Perf::new("ready_archive", number(files)).limits(warning, critical).least(0)];
    let oldest = if files > 0.0 { oldest } else { Some(0.0) };
    perfdata.extend(oldest.map(|oldest| Perf::new("oldest_ready_wal", number(oldest.trunc())).unit("s").least(0)));
    let message = format!("{} WAL files ready to archive", number(files));
    if state.is("failing") {
        let failed = state.text("last_failed_wal");
        let since = state.number("last_archived_seconds").map(|seconds| format!(" since {}s", number(seconds.trunc())));
        let mut answer = Answer::new(LABEL, Status::Critical, format!("archiver failing on {failed}"));
        answer.messages.push(message);
        let long = format!("{failed} not archived{}", since.unwrap_or_default());
        return Ok(answer.with_perfdata(perfdata).with_long(vec![long]));
    }
    let status = Status::from(files, limits.map(|(warning, critical)| (f64::from(warning), f64::from(critical))));
    Ok(Answer::new(LABEL, status, message).with_perfdata(perfdata))
}

/// The files that wait, counted, and how long the oldest has waited; none where the role may not look, before 12, and where
/// nothing is archived.
async fn waiting_files(host: &mut Host) -> Result<Option<(f64, Option<f64>)>, Stop> {
    let rows = match host.try_rows("archiver_files").await {
        Ok(rows) => rows,
        Err(AskError::Unavailable(_) | AskError::Query(_)) => return Ok(None),
        Err(error) => return Err(Stop::refused(Status::Unknown, None, &error)),
    };
    let row = Row::of(&rows).next();
    Ok(row.and_then(|row| Some((row.number("ready")?, row.number("oldest_ready")))))
}

/// The files between what was archived last and what is being written, as the names tell; none if they do not.
fn files_behind(state: Row<'_>, segment_size: f64) -> Option<f64> {
    let begun = match (state.get("last_archived_wal"), state.get("last_failed_wal")) {
        (Some(archived), _) => {
            let (segment, is_whole) = segment(archived, segment_size)?;
            if is_whole { segment + 1.0 } else { segment }
        }
        (None, Some(failed)) => segment(failed, segment_size)?.0,
        (None, None) => return Some(0.0),
    };
    Some((state.number("position")? / segment_size - begun).floor().max(0.0))
}

/// How many segments came before the one of this name, and whether all of it was there. Who archives the label of a backup
/// has archived the segment before it; a partial one is written again on the next timeline. A history file tells nothing.
fn segment(name: &str, segment_size: f64) -> Option<(f64, bool)> {
    let (digits, kind) = name.split_at_checked(24)?;
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let is_whole = match kind {
        "" => true,
        ".partial" => false,
        backup if backup.ends_with(".backup") => false,
        _ => return None,
    };
    let part = |range| digits.get(range).and_then(|digits| u32::from_str_radix(digits, 16).ok()).map(f64::from);
    Some((part(8..16)? * (4_294_967_296.0 / segment_size) + part(16..24)?, is_whole))
}

/// `backup_label_age`: for how long a backup has been running, or a label of one has been left in the data folder.
async fn backup_label_age(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_BACKUP_LABEL_AGE";
    let (warning, critical) = intervals(&call)?;
    let rows = call.one_host()?.rows("backup_label").await?;
    let age = Row::of(&rows).next().and_then(|row| row.number("seconds")).map_or(0.0, |age| age.max(0.0).round());
    let perfdata = vec![Perf::new("age", number(age)).unit("s").limits(Some(number(warning)), Some(number(critical)))];
    let status = above(age, (warning, critical));
    let message = match status {
        Status::Ok if age == 0.0 => "backup_label file absent".to_owned(),
        Status::Ok => format!("backup_label file present (age: {})", to_interval(age)),
        _ => format!("age: {}", to_interval(age)),
    };
    Ok(Answer::new(LABEL, status, message).with_perfdata(perfdata))
}

/// The position of the last call.
#[derive(Deserialize, Serialize)]
struct Position {
    at: f64,
    bytes: f64,
}

/// `wal_files`: how many files the WAL folder has, and how fast WAL is written.
async fn wal_files(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_WAL_FILES";
    const KEPT: &str = "last wal files LSN";
    let limits = call.limits(counted, ONLY_COUNTS)?;
    let mut host = call.one_host()?;
    let files = host.rows("wal_files").await?;
    let sizes = host.rows("limits").await?;
    let control = host.rows("control").await?;
    let sizes = Row::of(&sizes).next().and_then(|row| Sizes::read(row));
    let Some(sizes) = sizes else {
        return Ok(Answer::new(LABEL, Status::Unknown, "the server does not tell its settings"));
    };
    let timeline = Row::of(&control).next().map(|row| row.text("timeline_id")).unwrap_or_default();
    let (total, recycled) = counts(&files);
    let written = total - recycled;
    let kept = sizes.kept.min(written - 1.0).max(0.0);
    let mut all = Perf::new("total_wal", number(total));
    let limit = |text: &str| count(text, sizes.most).unwrap_or_default();
    let limits = limits.map(|(warning, critical)| (limit(&warning), limit(&critical)));
    if let Some((warning, critical)) = limits {
        all = all.limits(Some(number(warning)), Some(number(critical))).least(1).most(number(sizes.most));
    }
    let status = Status::from(total, limits);
    let mut perfdata = vec![
        all,
        Perf::new("recycled_wal", number(recycled)),
        Perf::new("tli", timeline),
        Perf::new("written_wal", number(written - kept)),
        Perf::new("kept_wal", number(kept)),
    ];
    if !host.is_standby().await? {
        let state = host.rows("archiving").await?;
        if let Some(bytes) = Row::of(&state).next().and_then(|row| row.number("position")) {
            let at = now();
            let before: Option<Position> = call.kept.load(&host, KEPT)?;
            let before = before.filter(|before| before.at < at && before.bytes <= bytes);
            let rate = before.map(|before| (bytes - before.bytes) / (at - before.at));
            perfdata.extend(rate.map(|rate| Perf::new("wal_rate", number((rate * 100.0).round() / 100.0)).unit("Bps")));
            call.kept.save(&host, KEPT, &Position { at, bytes })?;
        }
    }
    Ok(Answer::new(LABEL, status, format!("{} WAL files", number(total))).with_perfdata(perfdata))
}

/// In files.
struct Sizes {
    /// What is kept for standbys.
    kept: f64,
    /// What there should be at most: the same and the WAL between checkpoints.
    most: f64,
}

impl Sizes {
    fn read(row: Row<'_>) -> Option<Self> {
        let segment = row.number("wal_segment_size").filter(|size| *size > 0.0)?;
        let kept = row.number("wal_keep_size")?;
        Some(Self { kept: (kept / segment).floor(), most: (kept + row.number("max_wal_size")?) / segment })
    }
}

/// All files, and those that wait to be used again: they have higher names than the one written last.
fn counts(files: &RowSet) -> (f64, f64) {
    let newest = Row::of(files).next().map(|row| row.text("name")).unwrap_or_default();
    let (mut total, mut recycled) = (0.0, 0.0);
    for row in Row::of(files) {
        total += 1.0;
        if row.text("name") > newest {
            recycled += 1.0;
        }
    }
    (total, recycled)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: f64 = 16_777_216.0;

    fn behind(archived: Option<&str>, failed: Option<&str>, position: &str) -> Option<f64> {
        let columns = ["last_archived_wal", "last_failed_wal", "position"];
        let mut rows = RowSet::new(columns.map(str::to_owned).to_vec());
        for value in [archived, failed, Some(position)] {
            assert!(rows.push(value));
        }
        files_behind(Row::of(&rows).next().unwrap(), SEGMENT)
    }

    #[test]
    fn files_are_counted_from_the_names_of_what_was_archived() {
        let five = &format!("{}", SEGMENT * 5.5);
        assert_eq!(behind(None, None, five), Some(0.0));
        assert_eq!(behind(Some("000000010000000000000004"), None, five), Some(0.0));
        assert_eq!(behind(Some("000000010000000000000002"), None, five), Some(2.0));
        assert_eq!(behind(Some("000000010000000000000009"), None, five), Some(0.0));
        assert_eq!(behind(None, Some("000000010000000000000002"), five), Some(3.0), "who never archived anything");
        assert_eq!(behind(Some("000000010000000000000002.00000028.backup"), None, five), Some(3.0));
        assert_eq!(behind(Some("000000010000000000000002.partial"), None, five), Some(3.0));
        assert_eq!(behind(Some("00000002.history"), None, five), None);
        assert_eq!(behind(Some("00000001000000010000000A"), None, &format!("{}", SEGMENT * 268.0)), Some(1.0));
    }
}
