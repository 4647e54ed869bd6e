//! Beside `check_pgactivity`, with the same arguments, on one server, in the same minute: exit code, status, message and
//! perfdata are the same, numbers and times aside.
//!
//! A case is a line, in the file of its subject:
//!
//! - words are separated by blanks, quotes as in a shell; steps by ` ;; `
//! - `{primary}`, `{standby}`, `{both}` stand for the options of that server, `{each}` makes two cases, one for each server;
//!   `{down}` stands for a port where nobody listens, `{folder}` for a folder that both programs see, `{data}` and
//!   `{standby_data}` for the servers' data folders
//! - a step `sql …` is run on the primary, in the database `app`, `sh …` by a shell in `{folder}`; what it says is not compared
//! - a step `hold …` is like `sql …` in a session that stays open until the end of the line, `busy …` is not waited for,
//!   `until …` waits for a condition; `standby: ` before the dots does so there
//! - `≠ ` before the line: the two differ, and `docs/check_pgactivity.md` has a line for the service that says why
//! - ` => TEXT` after the line: only ours is run, and its output begins so (numbers as they are)
//!
//! `PGVITALS_CASES=backends` in the environment runs only those lines that have this in them.

mod activity;
mod alone;
mod archiving;
mod databases;
mod folders;
/// Which answers the cases have to bring out, and which no server can.
mod gaps;
mod query;
mod ratios;
mod relations;
mod replication;
mod server;
mod sessions;
mod settings;
mod vacuum;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use regex::Regex;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio_postgres::{CancelToken, Client, NoTls};

use crate::command::{Ended, run};
use crate::matrix::{self, Matrix};
use crate::pair::{until_true, until_true_in};
use crate::program::{BINARY, free_port};

/// Debian's `check-pgactivity`; another one is tried by naming it in `PGVITALS_CHECK_PGACTIVITY`.
const ORIGINAL: &str = "/usr/lib/nagios/plugins/check_pgactivity";
/// psql itself: what Debian has in PATH is a script.
const PATH: &str = "/usr/lib/postgresql/15/bin:/usr/bin:/bin";

/// What the cases of a subject need: statements for the database `app`, and the cases.
struct Subject {
    setup: &'static [&'static str],
    cases: &'static [&'static str],
}

impl Subject {
    /// The cases, one for each server.
    fn cases(&self) -> impl Iterator<Item = String> {
        let only = std::env::var("PGVITALS_CASES").unwrap_or_default();
        let of_line = |line: &&str| {
            if !line.contains("{each}") {
                return vec![(*line).to_owned()];
            }
            ["{primary}", "{standby}"].map(|server| line.replace("{each}", server)).to_vec()
        };
        self.cases.iter().flat_map(of_line).filter(move |case| case.contains(&only))
    }
}

/// The server as a whole: who is connected, how it is set up, what lies beside it.
const OF_THE_SERVER: &[&Subject] = &[
    &archiving::SUBJECT,
    &folders::SUBJECT,
    &query::SUBJECT,
    &server::SUBJECT,
    &sessions::SUBJECT,
    &settings::SUBJECT,
    &vacuum::SUBJECT,
];

/// What is in it, what goes on there and where it goes.
const OF_ITS_CONTENTS: &[&Subject] =
    &[&activity::SUBJECT, &databases::SUBJECT, &ratios::SUBJECT, &relations::SUBJECT, &replication::SUBJECT];

/// A primary with a standby, and a folder for both programs.
struct Scene {
    primary: Cluster,
    standby: Cluster,
    folder: TempDir,
}

/// The sessions that a line of cases keeps open.
#[derive(Default)]
struct Kept {
    held: Vec<Client>,
    busy: JoinSet<()>,
    cancel: Vec<CancelToken>,
}

impl Kept {
    /// Nobody is busy any more: a session that is not read from would go on.
    async fn end(mut self) {
        for token in self.cancel {
            token.cancel_query(NoTls).await.unwrap();
        }
        while self.busy.join_next().await.is_some() {}
    }
}

#[derive(Clone, Copy)]
enum Which {
    Original,
    Ours,
}

impl Scene {
    async fn start() -> Self {
        let conf = [
            "wal_level = logical",
            "autovacuum = off",
            "max_connections = 50",
            "max_prepared_transactions = 5",
            "archive_mode = on",
            "archive_command = 'true'",
        ];
        let conf = conf.into_iter().map(str::to_owned).collect();
        let settings = Settings { conf, tcp: true, initdb: vec!["--data-checksums".to_owned()], ..Settings::default() };
        let primary = Cluster::start(&Binaries::major(15).unwrap(), settings).await.unwrap();
        for statement in ["CREATE DATABASE app", "CREATE ROLE mon LOGIN IN ROLE pg_monitor", "CREATE ROLE plain LOGIN"]
        {
            primary.sql("postgres", statement).await.unwrap();
        }
        for statement in OF_THE_SERVER.iter().chain(OF_ITS_CONTENTS).flat_map(|subject| subject.setup) {
            primary.sql("app", statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        let standby = primary.standby("standby").await.unwrap();
        // Before the first of these a standby has no time of which it could say how long ago it is.
        primary.sql("app", "SELECT pg_current_xact_id()").await.unwrap();
        until_true(&standby, "SELECT pg_last_xact_replay_timestamp() IS NOT NULL").await;
        let folder = tempfile::tempdir().unwrap();
        for name in ["original", "ours", "both"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        symlink(BINARY, folder.path().join("ours/check_pgactivity")).unwrap();
        Self { primary, standby, folder }
    }

    /// A folder that both see.
    fn both(&self) -> PathBuf {
        self.folder.path().join("both")
    }

    fn fill(&self, text: &str) -> String {
        let options = |ports: String| format!("-h 127.0.0.1 -p {ports} -U postgres -d app");
        let (primary, standby) = (self.primary.port(), self.standby.port());
        text.replace("{primary}", &options(primary.to_string()))
            .replace("{standby}", &options(standby.to_string()))
            .replace("{both}", &options(format!("{primary},{standby}")))
            .replace("{down}", &options(free_port().to_string()))
            .replace("{folder}", &self.both().display().to_string())
            .replace("{standby_data}", &self.standby.data().display().to_string())
            .replace("{data}", &self.primary.data().display().to_string())
    }

    async fn call(&self, which: Which, step: &str) -> Ended {
        let (name, program) = match which {
            Which::Original => {
                let named = std::env::var_os("PGVITALS_CHECK_PGACTIVITY");
                ("original", named.map_or_else(|| PathBuf::from(ORIGINAL), PathBuf::from))
            }
            Which::Ours => ("ours", self.folder.path().join("ours/check_pgactivity")),
        };
        let own = self.folder.path().join(name);
        let mut command = Command::new(program);
        command.env_clear().env("PATH", PATH).env("HOME", &own).env("TZ", "UTC").current_dir(&own);
        command.arg("--status-file").arg(own.join("status"));
        command.args(words(&self.fill(step)));
        run(command).await
    }

    /// The server that a step is for, and what it says.
    fn server<'a>(&self, step: &'a str) -> (&Cluster, &'a str) {
        step.strip_prefix("standby: ").map_or((&self.primary, step), |step| (&self.standby, step))
    }

    /// Runs a step that is no call; false if it is one.
    async fn prepared(&self, step: &str, kept: &mut Kept) -> bool {
        if let Some(statement) = step.strip_prefix("sql ") {
            self.primary.sql("app", statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        } else if let Some(statements) = step.strip_prefix("hold ") {
            let (server, statements) = self.server(statements);
            let client = server.client("app").await.unwrap();
            client.batch_execute(statements).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
            kept.held.push(client);
        } else if let Some(statements) = step.strip_prefix("busy ") {
            let (server, statements) = self.server(statements);
            let client = server.client("app").await.unwrap();
            let statements = statements.to_owned();
            kept.cancel.push(client.cancel_token());
            kept.busy.spawn(async move { drop(client.batch_execute(&statements).await) });
        } else if let Some(condition) = step.strip_prefix("until ") {
            let (server, condition) = self.server(condition);
            until_true_in(server, "app", &format!("SELECT {condition}")).await;
        } else if let Some(line) = step.strip_prefix("sh ") {
            let mut shell = Command::new("sh");
            shell.args(["-c", &self.fill(line)]).current_dir(self.both());
            let ended = run(shell).await;
            assert_eq!(ended.code, 0, "{line}: {}", ended.stderr);
        } else {
            return false;
        }
        true
    }

    /// What is wrong with a case.
    async fn judge(&self, case: &str, documented: &BTreeSet<String>, matrix: &mut Matrix) -> Option<String> {
        let mut kept = Kept::default();
        let wrong = self.compare(case, documented, &mut kept, matrix).await;
        kept.end().await;
        wrong
    }

    async fn compare(
        &self,
        case: &str,
        documented: &BTreeSet<String>,
        kept: &mut Kept,
        matrix: &mut Matrix,
    ) -> Option<String> {
        if let Some((line, expected)) = case.split_once(" => ") {
            let mut last = Ended { code: 0, stdout: String::new(), stderr: String::new() };
            for step in line.split(" ;; ") {
                if !self.prepared(step, kept).await {
                    last = self.call(Which::Ours, step).await;
                    gaps::see(matrix, step, None, &last);
                }
            }
            let said = format!("{}{}", last.stdout, last.stderr);
            return (!said.starts_with(&self.fill(expected))).then(|| format!("{case}\n  {} {said}", last.code));
        }
        let (line, differs) = case.strip_prefix("≠ ").map_or((case, false), |line| (line, true));
        let mut found = Vec::new();
        for step in line.split(" ;; ") {
            if self.prepared(step, kept).await {
                continue;
            }
            let (theirs, ours) = (self.call(Which::Original, step).await, self.call(Which::Ours, step).await);
            gaps::see(matrix, step, Some(&theirs), &ours);
            let (expected, actual) = (Shape::of(&theirs), Shape::of(&ours));
            if expected != actual {
                found.push(format!("{case}\n  {expected:?}\n  {actual:?}\n  {theirs:?}\n  {ours:?}"));
            }
        }
        match (differs, found.is_empty()) {
            (false, false) => Some(found.join("\n")),
            (false, true) => None,
            (true, true) => Some(format!("{case}\n  does not differ")),
            (true, false) => {
                let words = words(line);
                let named =
                    |name: &String| words.iter().any(|word| word == name || word.starts_with(&format!("{name}=")));
                (!documented.iter().any(named)).then(|| format!("{case}\n  is not in the docs\n{}", found.join("\n")))
            }
        }
    }
}

/// What is compared.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    code: i32,
    /// The status line without perfdata, with numbers, times and sizes masked, the parts of its message sorted.
    text: String,
    long: String,
    /// Label, unit or what is no number, thresholds; sorted, as the original's order is by chance.
    perfdata: Vec<String>,
    /// The first line on stderr.
    complaint: String,
}

impl Shape {
    fn of(ended: &Ended) -> Self {
        if let Ok(object) = serde_json::from_str::<Value>(&ended.stdout) {
            let text = plain(object).to_string();
            return Self {
                code: ended.code,
                text,
                long: String::new(),
                perfdata: Vec::new(),
                complaint: String::new(),
            };
        }
        let (first, long) = ended.stdout.split_once('\n').unwrap_or((&ended.stdout, ""));
        let (text, perfdata) = first.split_once(" | ").unwrap_or((first, ""));
        let mut perfdata: Vec<String> = ENTRY
            .captures_iter(perfdata)
            .map(|entry| format!("{}{}{}", &entry[1], if entry.get(2).is_some() { "N" } else { "" }, &entry[3]))
            .collect();
        perfdata.sort();
        // Until 2.7 there was one more state of sessions.
        perfdata.retain(|entry| !entry.contains("other wait event"));
        // What libpq says of a server and what we say of it are two things.
        let long = if text.contains("Query failed") { String::new() } else { masked(long) };
        let complaint = ended.stderr.lines().next().unwrap_or_default();
        let text = masked(text);
        let (status, message) = text.split_once(": ").unwrap_or((&text, ""));
        let mut messages: Vec<&str> = message.split(", ").collect();
        messages.sort_unstable();
        let text = format!("{status}: {}", messages.join(", "));
        Self { code: ended.code, text, long, perfdata, complaint: masked(complaint) }
    }
}

/// An object in which numbers are `N`, whether they are written as numbers or as texts.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(entries) => entries.into_iter().map(|(key, value)| (key, plain(value))).collect(),
        Value::Array(values) => values.into_iter().map(plain).collect(),
        Value::Number(_) => Value::from("N"),
        Value::String(text) => Value::from(masked(&text)),
        other => other,
    }
}

/// Label, number and the rest of an entry of perfdata.
static ENTRY: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"((?:'(?:[^']|'')*'|[^ '=]+)=)(-?[0-9.]+(?:e-?[0-9]+)?)?([^ ]*)").unwrap());

/// What is masked, and by what.
static MASKS: LazyLock<[(Regex, &str); 5]> = LazyLock::new(|| {
    [
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?[+-]\d\d", "T"),
        (r"\b\d+(\.\d+)?(kB|MB|GB|TB|B)\b", "S"),
        (r"\b(\d+[wd] )*\d+[hms](\d+[ms])*\b", "I"),
        (r"'?\b\d+(\.\d+)?\b'?", "N"),
        (r"\d+(\.\d+)?", "N"),
    ]
    .map(|(found, mask)| (Regex::new(found).unwrap(), mask))
});

/// A text in which numbers are `N`, sizes `S`, intervals `I` and moments `T`.
fn masked(text: &str) -> String {
    MASKS.iter().fold(text.trim_end().to_owned(), |text, (found, mask)| found.replace_all(&text, *mask).into_owned())
}

/// The words of a line, as a shell reads quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote, mut any) = (String::new(), None, false);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => (quote, any) = (Some(letter), true),
            (None, ' ') => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            _ => word.push(letter),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

/// What the documentation says to differ: what stands in the first column of its table.
fn documented() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/check_pgactivity.md");
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    rows.flat_map(|(names, _)| names.split("`, `")).map(str::to_owned).collect()
}

/// Most of the time the original is being compiled, so each half has servers of its own.
async fn compare(subjects: &[&Subject]) {
    let scene = Scene::start().await;
    let documented = documented();
    let (mut matrix, mut wrong) = (gaps::matrix(subjects), Vec::new());
    for case in subjects.iter().flat_map(|subject| subject.cases()).chain(gaps::of_no_database(subjects)) {
        wrong.extend(scene.judge(&case, &documented, &mut matrix).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    if std::env::var_os("PGVITALS_CASES").is_none() {
        matrix.judge(gaps::GAPS);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_about_the_server_answer_as_the_original_does() {
    compare(OF_THE_SERVER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_about_what_is_in_the_server_answer_as_the_original_does() {
    compare(OF_ITS_CONTENTS).await;
}

#[test]
fn every_service_is_wanted_once_and_every_gap_is_one() {
    let matrices = [OF_THE_SERVER, OF_ITS_CONTENTS].map(gaps::matrix);
    matrix::all_are_wanted(gaps::GAPS, &matrices);
    let mut wanted: Vec<&str> = matrices.iter().flat_map(Matrix::subjects).collect();
    wanted.sort_unstable();
    let list = std::process::Command::new(BINARY).args(["check-pgactivity", "--list"]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let all: Vec<&str> = list.lines().skip(2).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(wanted, all);
}
