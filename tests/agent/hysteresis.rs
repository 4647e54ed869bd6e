//! Problems that are problems once enough readings have them, and no sooner over.

use std::fs;
use std::time::Instant;

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};

use crate::command::{Ended, pgvitals, pgvitals_in};
use crate::pair::{PATIENCE, ROLE, prepare};
use crate::program::{Program, watching};

/// A number that a test can turn.
const KNOB: &str = r#"
help = "A knob"
[[query]]
since = 10
sql = "SELECT level FROM public.knob"
[[metric]]
name = "site_knob"
type = "gauge"
column = "level"
help = "How far it is turned"
[[rule]]
name = "knob"
value = "site_knob"
critical = "10"
hysteresis = "2 of 3"
summary = "it stands at {value}"
reason = "a test turns it"
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_and_goes_is_a_problem_when_enough_readings_have_it() {
    let cluster = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    prepare(&cluster).await;
    let sql = format!("CREATE TABLE knob AS SELECT 5 AS level; GRANT SELECT ON knob TO {ROLE}");
    cluster.sql("postgres", &sql).await.unwrap();
    let turn = async |level: u32| cluster.sql("postgres", &format!("UPDATE knob SET level = {level}")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("checks.d")).unwrap();
    fs::write(folder.path().join("checks.d/knob.toml"), KNOB).unwrap();
    let checks = format!("checks = '{}'\n", folder.path().join("checks.d").display());
    // Long enough to be seen between two beats on a busy machine.
    let config = format!("{checks}{}[host]\nenabled = false\n[history]\ninterval = \"4s\"\n", watching(&[&cluster]));
    fs::write(folder.path().join("pgvitals.toml"), &config).unwrap();
    let program = Program::start(&config);
    let url = format!("http://{}", program.address());
    let ask = async |more: &[&str]| pgvitals(&[&["check", "knob", "--agent", &url], more].concat()).await;
    let until = async |code: i32, line: &str| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = ask(&[]).await;
            if ended.code == code && ended.stdout.starts_with(line) {
                break;
            }
            assert!(Instant::now() < deadline, "expected {line}, got {ended:?}");
        }
    };

    until(0, "PGVITALS KNOB OK: it stands at 5 | ").await;
    turn(50).await;
    until(0, "PGVITALS KNOB OK: it stands at 50 (in ").await;
    let Ended { code, stdout, .. } = ask(&["-c", "20"]).await;
    assert!(
        code == 2 && stdout.contains("50 (one reading: 2 of 3 is not for other thresholds) | knob=50;;20"),
        "{stdout}"
    );
    let Ended { code, stdout, .. } = pgvitals_in(folder.path(), &["check", "knob", "--config", "pgvitals.toml"]).await;
    assert!(code == 2 && stdout.contains("50 (one reading: 2 of 3 would count where an agent remembers"), "{stdout}");
    until(2, "PGVITALS KNOB CRITICAL: it stands at 50 | knob=50;;10").await;

    // A reload forgets nothing: there is no first reading that would be believed.
    program.reload(&format!("{config}[check.load]\nwarning = \"9\"\n"));
    program.log_until("configuration taken over", 1);
    turn(5).await;
    until(2, "PGVITALS KNOB CRITICAL: it stands at 5 (better in ").await;
    until(0, "PGVITALS KNOB OK: it stands at 5 | ").await;
}
