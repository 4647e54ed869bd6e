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
//! - before a call what ended has ended: no session is left but those that are kept open, and the standby has replayed what was
//!   written, unless it is told not to
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
/// What is compared of two answers.
mod shape;
mod vacuum;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio_postgres::{CancelToken, Client, NoTls};

use shape::Shape;

use crate::beside::{self, Difference};
use crate::command::{Ended, run};
use crate::matrix::{self, Matrix};
use crate::pair::{until_true, until_true_in};
use crate::program::{BINARY, free_port};

/// Debian's `check-pgactivity`; another one is tried by naming it in `PGVITALS_CHECK_PGACTIVITY`.
const ORIGINAL: &str = "/usr/lib/nagios/plugins/check_pgactivity";
/// psql itself: what Debian has in PATH is a script.
const PATH: &str = "/usr/lib/postgresql/15/bin:/usr/bin:/bin";

/// Services of the original that divide by the whole seconds since the last call, or have no rate in the same one.
const BY_THE_SECOND: [&str; 3] = ["-s bgwriter", "-s temp_files", "-s wal_files"];

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
    /// The second in which the original was last done with each of these services.
    seconds: Mutex<BTreeMap<&'static str, u64>>,
}

/// The sessions that a line of cases keeps open.
#[derive(Default)]
struct Kept {
    held: Vec<Client>,
    busy: JoinSet<()>,
    cancel: Vec<CancelToken>,
}

impl Kept {
    /// How many sessions these are.
    fn sessions(&self) -> usize {
        self.held.len() + self.cancel.len()
    }

    /// Nobody is busy any more: a session that is not read from would go on.
    async fn end(mut self) {
        for token in self.cancel {
            token.cancel_query(NoTls).await.unwrap();
        }
        while self.busy.join_next().await.is_some() {}
    }
}

/// What a program kept.
struct Status {
    path: PathBuf,
    content: Option<Vec<u8>>,
}

impl Status {
    /// It knows nothing newer.
    fn restore(&self) {
        match &self.content {
            Some(content) => fs::write(&self.path, content).unwrap(),
            None => drop(fs::remove_file(&self.path)),
        }
    }
}

/// The seconds since 1970, as the original has them.
fn second() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[derive(Clone, Copy, PartialEq, Eq)]
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
            // Whatever of it is counted, no checkpoint comes but those that are asked for.
            "checkpoint_timeout = 1h",
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
        Self { primary, standby, folder, seconds: Mutex::default() }
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

    async fn call(&self, which: Which, step: &str, kept: &Kept) -> Ended {
        let program = match which {
            Which::Original => {
                let named = std::env::var_os("PGVITALS_CHECK_PGACTIVITY");
                named.map_or_else(|| PathBuf::from(ORIGINAL), PathBuf::from)
            }
            Which::Ours => self.folder.path().join("ours/check_pgactivity"),
        };
        let own = self.own(which);
        if step.contains("{standby}") || step.contains("{both}") {
            self.until_replayed().await;
        }
        beside::until_left(&[&self.primary, &self.standby], kept.sessions()).await;
        let mut command = Command::new(program);
        command.env_clear().env("PATH", PATH).env("HOME", &own).env("TZ", "UTC").current_dir(&own);
        command.arg("--status-file").arg(own.join("status"));
        command.args(words(&self.fill(step)));
        if which == Which::Ours {
            return run(command).await;
        }
        let by_the_second = BY_THE_SECOND.into_iter().find(|name| step.contains(name));
        if let Some(name) = by_the_second {
            let last = self.seconds.lock().unwrap().get(name).copied();
            while last.is_some_and(|last| second() <= last) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        let ended = run(command).await;
        if let Some(name) = by_the_second {
            self.seconds.lock().unwrap().insert(name, second());
        }
        ended
    }

    /// The folder that is a program's home, with its status file.
    fn own(&self, which: Which) -> PathBuf {
        let name = if which == Which::Ours { "ours" } else { "original" };
        self.folder.path().join(name)
    }

    /// Both programs' answers to one step, each beginning with what it kept of the step before, however often it is asked.
    async fn both_to(&self, step: &str, kept: &Kept) -> (Ended, Ended) {
        let [original, ours] = [Which::Original, Which::Ours].map(|which| (which, self.status(which)));
        let call = async |(which, status): &(Which, Status)| {
            status.restore();
            self.call(*which, step, kept).await
        };
        let are_alike = |one: &Ended, other: &Ended| Shape::of(one) == Shape::of(other);
        beside::between(async || call(&original).await, async || call(&ours).await, are_alike).await
    }

    fn status(&self, which: Which) -> Status {
        let path = self.own(which).join("status");
        let content = fs::read(&path).ok();
        Status { path, content }
    }

    /// The standby is where the primary is, if it goes on at all.
    async fn until_replayed(&self) {
        let position = self.primary.sql("app", "SELECT pg_current_wal_flush_lsn()").await.unwrap();
        let position = position[0][0].as_deref().unwrap();
        let condition = format!("SELECT pg_is_wal_replay_paused() OR pg_last_wal_replay_lsn() >= '{position}'");
        until_true_in(&self.standby, "app", &condition).await;
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
    async fn judge(&self, case: &str, documented: &BTreeSet<String>, matrix: &mut Matrix) -> Option<Difference> {
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
    ) -> Option<Difference> {
        if let Some((line, expected)) = case.split_once(" => ") {
            let mut last = Ended { code: 0, stdout: String::new(), stderr: String::new() };
            for step in line.split(" ;; ") {
                if !self.prepared(step, kept).await {
                    last = self.call(Which::Ours, step, kept).await;
                    gaps::see(matrix, step, None, &last);
                }
            }
            let said = format!("{}{}", last.stdout, last.stderr);
            let expected = self.fill(expected);
            return (!said.starts_with(&expected)).then(|| Difference {
                short: format!("{case}\n{}", beside::apart("text", &expected, &said)),
                full: format!("{case}\n  {last:?}"),
            });
        }
        let (line, differs) = case.strip_prefix("≠ ").map_or((case, false), |line| (line, true));
        let mut found = Vec::new();
        for step in line.split(" ;; ") {
            if self.prepared(step, kept).await {
                continue;
            }
            let (theirs, ours) = self.both_to(step, kept).await;
            gaps::see(matrix, step, Some(&theirs), &ours);
            if let Some(difference) = Shape::of(&theirs).difference(&Shape::of(&ours)) {
                found.push(Difference {
                    short: format!("{}{step}\n{difference}", if step == case { "" } else { "… " }),
                    full: format!("{case}\n  {step}\n  theirs: {theirs:?}\n  ours:   {ours:?}"),
                });
            }
        }
        let words = words(line);
        let named = |name: &String| words.iter().any(|word| word == name || word.starts_with(&format!("{name}=")));
        match (differs, found.is_empty()) {
            (false, true) => None,
            (true, true) => Some(Difference { short: format!("{case}\n  does not differ"), full: String::new() }),
            (true, false) if documented.iter().any(named) => None,
            (_, false) => {
                let missing = if differs { "is not in the docs\n" } else { "" };
                let all = |of: fn(&Difference) -> &str| found.iter().map(of).collect::<Vec<_>>().join("\n");
                Some(Difference { short: missing.to_owned() + &all(|it| &it.short), full: all(|it| &it.full) })
            }
        }
    }
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
    beside::are_none(&wrong);
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
