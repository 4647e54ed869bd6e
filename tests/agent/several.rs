//! All checks or a group of them, judged as one: the same by the command line as over an agent.

use std::fs;
use std::time::Instant;

use pgvitals::catalog::Catalog;
use pgvitals::demo::cluster::{Binaries, Cluster, Settings};

use crate::command::{Ended, pgvitals, pgvitals_in};
use crate::majors;
use crate::pair::{PATIENCE, prepare};
use crate::program::{Program, watching};

/// As no cluster of tests needs to be, and every server has to.
fn safe() -> Settings {
    Settings { conf: vec!["fsync = on".to_owned()], ..Settings::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_checks_are_one_with_the_worst_first() {
    let mut cluster = Cluster::start(&Binaries::major(17).unwrap(), safe()).await.unwrap();
    prepare(&cluster).await;
    let folder = tempfile::tempdir().unwrap();
    // The host of the tests is as busy as it is.
    let config = format!(
        "{}[host]\nenabled = false\n[check.idle-in-transaction]\nwarning = \"0s\"\n[history]\ninterval = \"1s\"\n",
        watching(&[&cluster])
    );
    fs::write(folder.path().join("pgvitals.toml"), &config).unwrap();
    let program = Program::start(&config);
    let url = format!("http://{}", program.address());
    let direct = async |asked: &str| {
        let arguments: Vec<&str> =
            ["check"].into_iter().chain(asked.split(' ')).chain(["--config", "pgvitals.toml"]).collect();
        pgvitals_in(folder.path(), &arguments).await
    };
    let agent = async |asked: &str| {
        let arguments: Vec<&str> = ["check"].into_iter().chain(asked.split(' ')).chain(["--agent", &url]).collect();
        pgvitals(&arguments).await
    };

    let count = Catalog::built_in().unwrap().checks().len();
    let line = format!(
        "PGVITALS ALL OK: {} ok (settings, standbys left out: only an agent can tell) | ok={0} unknown=0 warning=0 critical=0\n",
        count - 2
    );
    let Ended { code, stdout, stderr } = direct("all").await;
    assert_eq!((code, stdout, stderr.as_str()), (0, line, ""));
    let line = format!("PGVITALS ALL OK: {count} ok | ok={count} unknown=0 warning=0 critical=0\n");
    // A rate needs two readings.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Ended { code, stdout, .. } = agent("all").await;
        if (code, &stdout) == (0, &line) {
            break;
        }
        assert!(Instant::now() < deadline, "{code}: {stdout}");
    }

    let idle = cluster.client("postgres").await.unwrap();
    idle.batch_execute("BEGIN").await.unwrap();
    for asked in ["all", "--group activity"] {
        for Ended { code, stdout, .. } in [direct(asked).await, agent(asked).await] {
            assert_eq!(code, 1, "{stdout}");
            assert!(stdout.contains(": idle-in-transaction: postgres in postgres has been idle"), "{stdout}");
            let reason = "\nidle-in-transaction: pid ";
            assert!(stdout.contains(reason) && stdout.contains("): idle in transaction for "), "{stdout}");
            assert!(stdout.contains(" WARNING: 1 warning, ") && stdout.contains(" warning=1 critical=0\n"), "{stdout}");
        }
    }
    for asked in ["--group replication", "--group capacity", "--group host"] {
        let Ended { code, stdout, .. } = agent(asked).await;
        let name = asked.rsplit(' ').next().unwrap().to_uppercase();
        assert!(code == 0 && stdout.starts_with(&format!("PGVITALS {name} OK: ")), "{stdout}");
    }
    let answer = program.get("/check/group:activity");
    assert_eq!((answer.status, answer.header("pgvitals-exit-code")), (200, Some("1")), "{}", answer.body);

    for (asked, part) in [
        ("all -w 5", "UNKNOWN: several checks have no threshold in common"),
        ("--group nosuch", "UNKNOWN: no group \"nosuch\", expected one of: activity, availability, backup, "),
    ] {
        for Ended { code, stdout, stderr } in [direct(asked).await, agent(asked).await] {
            assert!(code == 3 && stdout.contains(part) && stderr.is_empty(), "{stdout}{stderr}");
        }
    }
    let Ended { code, stdout, .. } = direct("online --group activity").await;
    assert!(code == 3 && stdout.contains("cannot be used with"), "{stdout}");

    cluster.stop().await.unwrap();
    for Ended { code, stdout, .. } in [direct("all").await, agent("all").await] {
        assert_eq!(code, 2, "{stdout}");
        let lines: Vec<&str> = stdout.lines().collect();
        assert!(
            lines[0].starts_with("PGVITALS ALL CRITICAL: 1 critical, ") && lines[0].contains(" critical=1"),
            "{stdout}"
        );
        assert!(lines[1].starts_with("CRITICAL: online: no connection to "), "{stdout}");
        assert!(lines[2].starts_with("UNKNOWN: archiver, autovacuum, backend-writes, "), "{stdout}");
        assert!(lines.len() < 6, "what all say is said once: {stdout}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_server_and_its_standby_are_well_in_all_checks() {
    majors::on([10, 18], |binaries| async move {
        let primary = Cluster::start(&binaries, safe()).await.unwrap();
        prepare(&primary).await;
        let standby = primary.standby("standby").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (cluster, name) in [(&primary, "primary.toml"), (&standby, "standby.toml")] {
            let config = format!("{}[host]\nenabled = false\n", watching(&[cluster]));
            fs::write(folder.path().join(name), config).unwrap();
            // A standby that has just started may not stream yet.
            let deadline = Instant::now() + PATIENCE;
            loop {
                let Ended { code, stdout, .. } = pgvitals_in(folder.path(), &["check", "all", "--config", name]).await;
                if code == 0 {
                    break;
                }
                assert!(Instant::now() < deadline, "{name} of {}: {stdout}", binaries.major);
            }
        }
    })
    .await;
}
