//! A folder of archived WAL: whether it is complete, and how old its latest file is.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use flate2::read::MultiGzDecoder;

use crate::check_pgactivity::threshold::{number, seconds, to_interval};
use crate::check_pgactivity::{Answer, Call, Perf, Service, Status, Stop};

pub(super) const SERVICES: &[Service] = &[Service {
    name: "archive_folder",
    help: "Check archives in given folder.",
    run: |call| Box::pin(archive_folder(call)),
}];

/// The first two bytes of WAL since 8.0 (`XLOG_PAGE_MAGIC`), with room for versions to come.
const MAGIC: std::ops::RangeInclusive<u16> = 0xD05C..=0xD2FF;
/// That a page's header has the server's identity and the size of a segment, as the first of a file has
/// (`XLP_LONG_HEADER`).
const LONG_HEADER: u16 = 0x0002;
const USUAL_SEGMENT: u64 = 16 << 20;
/// Programs that write what is in an archived file.
const UNARCHIVERS: [(&str, &str); 4] =
    [(".bz2", "bzip2 -dc"), (".xz", "xz -dc"), (".zip", "unzip -qqp"), (".7z", "7z x -so")];

/// An archived segment.
struct Archived {
    name: String,
    path: PathBuf,
    modified: SystemTime,
    size: u64,
}

#[expect(clippy::unused_async, reason = "a service is asked like any other")]
async fn archive_folder(call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_ARCHIVES";
    let Some(folder) = call.options.path.as_deref() else {
        return Err(Stop::usage("you must specify the archive folder using \"--path <dir>\"."));
    };
    if !Path::new(folder).is_dir() {
        return Err(Stop::usage(format!("\"{folder}\" is not a valid folder.")));
    }
    let (warning, critical) = call.needed_limits(seconds, "critical and warning thresholds only acccepts interval.")?;
    let suffix = call.options.suffix.as_deref().unwrap_or_default();
    let reader = Reader { suffix, command: call.options.unarchiver.as_deref().filter(|text| !text.is_empty()) };
    let unreadable = |error: io::Error| Stop::unknown(format!("{folder}: {error}"));
    let files = list(Path::new(folder), suffix).map_err(unreadable)?;
    let Some(newest) = files.last() else {
        return Ok(Answer::new(LABEL, Status::Unknown, "No archived WAL found."));
    };
    let age = SystemTime::now().duration_since(newest.modified).map_or(0.0, |age| age.as_secs_f64().trunc());
    let perfdata = vec![
        Perf::new("latest_archive_age", number(age)).unit("s").limits(Some(warning), Some(critical)),
        Perf::new("num_archives", files.len()),
    ];
    let segment = reader.segment_size(newest).map_err(|reason| Stop::unknown(format!("{}: {reason}", newest.name)))?;
    let expected_size = (call.options.ignore_wal_size != Some(true)).then_some(segment);
    let history = reader.branches(Path::new(folder), &files, segment);
    let is_whole = |file: &Archived| expected_size.is_none_or(|expected| reader.full_size(file, expected) == expected);
    let answer = if let Some(message) = gap(&files, segment, suffix, &history, is_whole) {
        Answer::new(LABEL, Status::Critical, message)
    } else {
        let message = format!("{} WAL archived in '{folder}', latest archived since {}", files.len(), to_interval(age));
        Answer::new(LABEL, Status::from(age, Some((warning as f64, critical as f64))), message)
    };
    Ok(answer.with_perfdata(perfdata))
}

/// The archived segments, oldest first.
fn list(folder: &Path, suffix: &str) -> io::Result<Vec<Archived>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_segment = |name: &str| {
            name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte))
        };
        if !name.strip_suffix(suffix).is_some_and(is_segment) {
            continue;
        }
        // What is removed meanwhile was there.
        let found = match fs::metadata(entry.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found?,
        };
        files.push(Archived { name, path: entry.path(), modified: found.modified()?, size: found.len() });
    }
    // The original knows whole seconds only.
    let second = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    files.sort_by(|a, b| (second(a.modified), &a.name).cmp(&(second(b.modified), &b.name)));
    Ok(files)
}

/// Timeline and number of the segment in a file's name.
fn position(name: &str, segment: u64) -> Option<(u64, u64)> {
    let part = |from: usize| u64::from_str_radix(name.get(from..from + 8)?, 16).ok();
    Some((part(0)?, part(8)? * ((1 << 32) / segment) + part(16)?))
}

fn name_of(timeline: u64, number: u64, segment: u64, suffix: &str) -> String {
    let per_log = (1 << 32) / segment;
    format!("{timeline:08X}{:08X}{:08X}{suffix}", number / per_log, number % per_log)
}

/// What is wrong with the sequence of files, if anything is: the first that is missing, out of order or of a wrong size.
fn gap(
    files: &[Archived],
    segment: u64,
    suffix: &str,
    branches: &BTreeSet<(u64, u64)>,
    is_whole: impl Fn(&Archived) -> bool,
) -> Option<String> {
    let (mut timeline, mut number) = position(&files.first()?.name, segment)?;
    for file in files {
        let expected = name_of(timeline, number, segment, suffix);
        if expected != file.name {
            return Some(format!("Wrong sequence or file missing @ '{expected}'"));
        }
        if !is_whole(file) {
            return Some(format!("'{expected}' is not {}MB", segment >> 20));
        }
        // The next timeline begins with a segment of the same number.
        if branches.contains(&(timeline, number)) {
            timeline += 1;
        } else {
            number += 1;
        }
    }
    None
}

/// How archived files are read.
struct Reader<'a> {
    suffix: &'a str,
    command: Option<&'a str>,
}

/// A program's output; the program ends with it.
struct Output(Child);

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.stdout.as_mut().map_or(Ok(0), |stdout| stdout.read(buffer))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Reader<'_> {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read>> {
        let known = UNARCHIVERS.iter().find(|(suffix, _)| *suffix == self.suffix).map(|(_, command)| *command);
        match self.command.or(known) {
            Some(command) => {
                let mut shell = Command::new("sh");
                // The command is the user's, as a shell reads it; the name is not.
                shell.args(["-c", &format!("{command} \"$0\"")]).arg(path);
                shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
                Ok(Box::new(Output(shell.spawn()?)))
            }
            None if self.suffix == ".gz" => Ok(Box::new(MultiGzDecoder::new(File::open(path)?))),
            None => Ok(Box::new(File::open(path)?)),
        }
    }

    /// The size of a segment, as the header of one says it.
    fn segment_size(&self, file: &Archived) -> Result<u64, String> {
        let mut header = Vec::new();
        let read = self.open(&file.path).and_then(|reader| reader.take(40).read_to_end(&mut header));
        read.map_err(|error| error.to_string())?;
        let short = |at: usize| Some(u16::from_le_bytes(header.get(at..at + 2)?.try_into().ok()?));
        let magic = short(0).ok_or("Could not parse XLOG_PAGE_MAGIC")?;
        if !MAGIC.contains(&magic) {
            return Err(format!("Unknown WAL XLOG_PAGE_MAGIC {magic}!"));
        }
        let size = header.get(32..36).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        let has_size = short(2).is_some_and(|info| info & LONG_HEADER != 0);
        let size = size.filter(|size| has_size && size.is_power_of_two() && *size >= 1 << 20);
        Ok(size.map_or(USUAL_SEGMENT, u64::from))
    }

    /// How large a file is when it is not compressed; of a kind whose size takes unpacking to know, read no further than
    /// `expected`.
    fn full_size(&self, file: &Archived, expected: u64) -> u64 {
        if self.suffix.is_empty() || file.size == expected {
            return file.size;
        }
        let unpacked =
            self.open(&file.path).and_then(|reader| io::copy(&mut reader.take(expected + 1), &mut io::sink()));
        unpacked.unwrap_or_default()
    }

    /// Where timelines end, as the history of the newest says it: timeline and segment.
    fn branches(&self, folder: &Path, files: &[Archived], segment: u64) -> BTreeSet<(u64, u64)> {
        let timeline = files.last().and_then(|file| file.name.get(..8)).unwrap_or_default();
        let name = format!("{timeline}.history");
        let mut text = fs::read_to_string(folder.join(&name)).unwrap_or_default();
        if text.is_empty() && !self.suffix.is_empty() {
            let path = folder.join(format!("{name}{}", self.suffix));
            let _ = self.open(&path).and_then(|reader| reader.take(1 << 20).read_to_string(&mut text));
        }
        let ends = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let timeline = words.next()?.parse().ok()?;
            let (high, low) = words.next()?.split_once('/')?;
            let position = u64::from_str_radix(high, 16).ok()? << 32 | u64::from_str_radix(low, 16).ok()?;
            Some((timeline, position / segment))
        });
        ends.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[&str], branches: &[(u64, u64)]) -> Option<String> {
        let file = |name: &&str| Archived {
            name: (*name).to_owned(),
            path: PathBuf::new(),
            modified: SystemTime::UNIX_EPOCH,
            size: USUAL_SEGMENT,
        };
        let files: Vec<_> = names.iter().map(file).collect();
        gap(&files, USUAL_SEGMENT, "", &branches.iter().copied().collect(), |_| true)
    }

    #[test]
    fn a_missing_segment_is_named() {
        assert_eq!(found(&["0000000100000000000000FF", "000000010000000100000000"], &[]), None);
        let missing = Some("Wrong sequence or file missing @ '000000010000000100000000'".to_owned());
        assert_eq!(found(&["0000000100000000000000FF", "000000010000000100000001"], &[]), missing);
    }

    #[test]
    fn a_new_timeline_begins_with_the_segment_in_which_the_old_one_ended() {
        let names = ["000000090000000000000001", "000000090000000000000002", "0000000A0000000000000002"];
        assert_eq!(found(&names, &[(9, 2)]), None);
        assert!(found(&names, &[]).is_some());
    }
}
