//! Whether what the server logs arrives in the file.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::check::Status;
use crate::check_postgres::{Action, At, Call, End, Ended};
use crate::plugin::Row;

pub(super) const ACTIONS: &[Action] = &[Action {
    run: |call| Box::pin(logfile(call)),
    ..Action::clusterwide("logfile", "Whether the server's log arrives in its file")
}];

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Where syslog usually puts what the server says.
const SYSLOG: &str = "/var/log/messages";
/// What is read of the file at once.
const CHUNK: usize = 64 << 10;

async fn logfile(call: &mut Call) -> Ended {
    let given = call.options.text("logfile").map(ToOwned::to_owned);
    if given.as_deref().is_some_and(|file| !is_plain(file)) {
        return Err(End::refused("Invalid logfile option"));
    }
    let given = given.filter(|file| file.contains(|c: char| c.is_alphanumeric() || c == '_'));
    let bad = if call.options.is_on("warning") { Status::Warning } else { Status::Critical };
    for (at, answer) in call.rows("logging").await? {
        let Some(row) = Row::of(&answer).next() else { continue };
        let file = match &given {
            Some(file) => file.clone(),
            None => configured(&row)?,
        };
        let file = dated(&file, row.text("hour"));
        let path = PathBuf::from(&file);
        if !path.exists() {
            let message = format!("logfile {file} does not exist!");
            if call.is_mrtg() {
                return Err(End::refused(message));
            }
            call.say(if bad == Status::Warning { bad } else { Status::Unknown }, at, message);
            continue;
        }
        let mut tail = match Tail::open(&path) {
            Ok(tail) => tail,
            Err(error) => {
                call.unknown(at, format!("logfile \"{file}\" failed to open: {error}"));
                continue;
            }
        };
        let arrives = arrives(call, at, &mut tail).await?;
        if call.is_mrtg() {
            let message = if arrives { String::new() } else { format!("fails logging to: {file}") };
            return Err(call.mrtg(u8::from(arrives), "", message));
        }
        if arrives {
            call.ok(at, format!("logs to: {file}"));
        } else {
            call.say(bad, at, format!("fails logging to: {file}"));
        }
    }
    Ok(())
}

/// Sends a statement that is none, and waits for it to be told in the file.
async fn arrives(call: &mut Call, at: At, tail: &mut Tail) -> Result<bool, End> {
    let until = Instant::now() + call.timeout();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mark = format!("logfile_error_{}{:09}", std::process::id(), now.as_nanos() % 1_000_000_000);
    let statement = format!("check_postgres_{mark} check_postgres");
    // That it is refused is what was wanted, unless there is no session to refuse it in.
    if let Err(End::Refused { text, class: Some(class) }) = call.sql_at(at, &statement).await {
        return Err(End::Refused { text, class: Some(class) });
    }
    loop {
        if tail.tells(&mark) {
            return Ok(true);
        }
        if Instant::now() > until {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Where the parameters say that the log goes.
fn configured(row: &Row<'_>) -> Result<String, End> {
    let destinations = row.text("destination");
    let logs_to = |kind: &str| destinations.split(',').any(|destination| destination.trim() == kind);
    if row.is("collects") && ["stderr", "csvlog", "jsonlog"].into_iter().any(logs_to) {
        let folder = Path::new(row.text("data_directory"));
        let list = folder.join("current_logfiles");
        let unreadable = |error| End::refused(format!("Could not open \"{}\": {error}", list.display()));
        let text = fs::read_to_string(&list).map_err(unreadable)?;
        let file = text.lines().next().and_then(|line| line.split_once(' ')).map(|(_, file)| file);
        let file = file.ok_or_else(|| End::refused("Invalid logfile \"\""))?;
        return Ok(folder.join(file).display().to_string());
    }
    if logs_to("syslog") {
        let facility = row.text("facility");
        let unknown = format!("Database is using syslog, please specify path with --logfile option (fac={facility})");
        return if Path::new(SYSLOG).exists() { Ok(SYSLOG.to_owned()) } else { Err(End::refused(unknown)) };
    }
    Err(End::refused("Logfile output has been redirected to stderr: please provide a filename"))
}

fn is_plain(file: &str) -> bool {
    !file.is_empty() && file.chars().all(|c| c.is_alphanumeric() || c.is_whitespace() || "_/%-.".contains(c))
}

/// Puts the server's time, `YYYY MM DD HH` as its log has it, in the place of `%Y`, `%y`, `%m`, `%d` and `%H`.
fn dated(file: &str, hour: &str) -> String {
    let mut parts = hour.split(' ');
    let mut part = || parts.next().unwrap_or_default();
    let (year, month, day, hour) = (part(), part(), part(), part());
    let short = year.get(2..).unwrap_or_default();
    let wanted = [("%Y", year), ("%y", short), ("%m", month), ("%d", day), ("%H", hour)];
    let protected = file.replace("%%", "~~");
    wanted.iter().fold(protected, |file, (mark, value)| file.replace(mark, value))
}

/// What is added to a file from now on.
struct Tail {
    file: File,
    /// What was read and may be the beginning of what is looked for.
    kept: Vec<u8>,
}

impl Tail {
    fn open(path: &Path) -> std::io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { file, kept: Vec::new() })
    }

    fn tells(&mut self, mark: &str) -> bool {
        let mut chunk = vec![0; CHUNK];
        while let Ok(length @ 1..) = self.file.read(&mut chunk) {
            self.kept.extend(chunk.iter().take(length));
            if self.kept.windows(mark.len()).any(|bytes| bytes == mark.as_bytes()) {
                return true;
            }
            let done = self.kept.len().saturating_sub(mark.len());
            self.kept.drain(..done);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_dated_by_the_server_s_time() {
        assert_eq!(dated("/l/%Y-%y-%m-%d_%H.log", "2026 11 22 04"), "/l/2026-26-11-22_04.log");
        assert_eq!(dated("/l/100%%.log", "2026 11 22 04"), "/l/100~~.log");
        assert!(is_plain("/var/log/a b-%d.log") && !is_plain("/l/$(x)") && !is_plain(""));
    }

    #[test]
    fn what_comes_in_pieces_is_found_and_what_was_there_is_not() {
        use std::io::Write as _;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "mark").unwrap();
        let mut tail = Tail::open(file.path()).unwrap();
        assert!(!tail.tells("mark"));
        write!(file, "xxma").unwrap();
        assert!(!tail.tells("mark"));
        write!(file, "rk").unwrap();
        assert!(tail.tells("mark"));
    }
}
