//! What a standby says of itself: idle, caught up, lagging, paused, disconnected, living on the archive.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use pgvitals::demo::cluster::{Binaries, Cluster, Settings, Standby};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::link::{Link, Way};
use crate::majors;
use crate::pair::{self, PATIENCE};
use crate::program::{Facts, Program, label, watching};

/// The oldest; one in which the receiver's columns have today's names; the newest.
const THREE: [u32; 3] = [10, 13, 18];

const SEGMENT: f64 = 16.0 * 1024.0 * 1024.0;

/// The state that a standby says it is in, of which there is exactly one; none where none is said.
fn state(facts: &Facts, standby: &Cluster) -> Option<&'static str> {
    const STATES: [&str; 6] = ["idle", "caught_up", "lagging", "paused", "disconnected", "archive_only"];
    let value = |state: &str| facts.value("pg_replication_state", &[&label(standby), &format!("state={state:?}")]);
    let values: Vec<_> = STATES.iter().filter_map(|&state| Some((state, value(state)?))).collect();
    if values.is_empty() {
        return None;
    }
    assert_eq!(values.len(), STATES.len(), "{values:?}");
    let mut hot = values.into_iter().filter(|(_, value)| *value > 0.0);
    let (state, others) = (hot.next(), hot.next());
    assert!(others.is_none(), "{state:?} and {others:?}");
    Some(state.expect("a state").0)
}

/// Reads until the standby is in one of these states.
fn until(agent: &Program, standby: &Cluster, wanted: &[&str]) -> Facts {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = BTreeSet::new();
    loop {
        let facts = agent.facts();
        let state = state(&facts, standby);
        if state.is_some_and(|state| wanted.contains(&state)) {
            return facts;
        }
        seen.extend(state);
        let of_standby = |line: &&str| line.contains(&label(standby)) && !line.starts_with("pgvitals");
        let about = ["pg_replication_", "pg_stat_wal_receiver_"].map(|start| {
            let lines = facts.text.lines().filter(of_standby).filter(|line| line.starts_with(start));
            lines.collect::<Vec<_>>().join("\n")
        });
        let major = standby.major();
        assert!(Instant::now() < deadline, "{major} never {wanted:?} but {seen:?}\n{}", about.join("\n"));
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn lines(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|&line| line.to_owned()).collect()
}

async fn write(primary: &Cluster, megabytes: u32) {
    let rows = format!("INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, {megabytes} * 1000)");
    primary.sql("postgres", &rows).await.unwrap();
}

/// Writes a little all the time.
async fn traffic(primary: &Cluster) -> JoinSet<()> {
    let mut traffic = JoinSet::new();
    let session = primary.client("postgres").await.unwrap();
    traffic.spawn(async move {
        while session.batch_execute("INSERT INTO filler VALUES ('x')").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    traffic
}

/// A primary with a table to fill.
async fn primary(binaries: &Binaries, conf: &[&str]) -> Cluster {
    let settings = Settings { conf: lines(conf), ..Settings::default() };
    let primary = Cluster::start(binaries, settings).await.unwrap();
    pair::prepare(&primary).await;
    primary.sql("postgres", "CREATE TABLE filler (text text)").await.unwrap();
    primary.sql("postgres", "CREATE TABLE held ()").await.unwrap();
    primary
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_standby_says_itself_what_state_it_is_in() {
    majors::on(THREE, |binaries| async move {
        // Whatever the time zones are.
        let primary = primary(&binaries, &["timezone = 'Asia/Tokyo'"]).await;
        let link = Link::to(&primary);
        let conf = [
            "timezone = 'America/New_York'",
            "wal_receiver_timeout = 2s",
            "wal_receiver_status_interval = 1s",
            "wal_retrieve_retry_interval = 200ms",
            "max_standby_streaming_delay = -1",
        ];
        let standby = Standby { conf: lines(&conf), through: Some(link.address), ..Standby::from("standby") };
        let mut standby = primary.standby(standby).await.unwrap();
        let leaf = standby.standby("leaf").await.unwrap();
        let agent = Program::start(&watching(&[&primary, &standby, &leaf]));
        let of = |facts: &Facts, metric: &str| facts.of(&standby, metric).unwrap();

        let mut traffic = traffic(&primary).await;
        until(&agent, &standby, &["caught_up"]);
        let facts = until(&agent, &leaf, &["caught_up"]);
        assert_eq!(state(&facts, &primary), None);
        assert!(of(&facts, "pg_stat_wal_receiver_clock_offset_seconds").abs() < 5.0, "{}", facts.text);
        traffic.shutdown().await;
        let facts = until(&agent, &standby, &["idle"]);
        assert_eq!(facts.of(&standby, "pg_replication_lag_seconds"), Some(0.0));
        assert!(of(&facts, "pg_stat_wal_receiver_idle_seconds") > 6.0);
        assert_eq!(agent.get("/check/standby").header("pgvitals-exit-code"), Some("0"));

        // Replay waits for whoever reads the table.
        let reader = standby.client("postgres").await.unwrap();
        reader.batch_execute("BEGIN; SELECT FROM held").await.unwrap();
        primary.sql("postgres", "BEGIN; LOCK TABLE held; COMMIT").await.unwrap();
        write(&primary, 20).await;
        agent.facts_until("what waits for the reader is seen", |facts| {
            state(facts, &standby) == Some("lagging") && of(facts, "pg_replication_replay_gap_bytes") >= SEGMENT
        });
        reader.batch_execute("COMMIT").await.unwrap();
        until(&agent, &standby, &["caught_up", "idle"]);

        link.set(Way::Slow);
        write(&primary, 40).await;
        agent.facts_until("what is on its way is seen", |facts| {
            state(facts, &standby) == Some("lagging") && of(facts, "pg_replication_receive_gap_bytes") >= SEGMENT
        });
        link.set(Way::Open);
        until(&agent, &standby, &["caught_up", "idle"]);

        standby.sql("postgres", "SELECT pg_wal_replay_pause()").await.unwrap();
        write(&primary, 1).await;
        agent.facts_until("a pause is seen with what it holds up", |facts| {
            state(facts, &standby) == Some("paused") && of(facts, "pg_replication_replay_gap_bytes") > 0.0
        });
        standby.sql("postgres", "SELECT pg_wal_replay_resume()").await.unwrap();
        until(&agent, &standby, &["caught_up", "idle"]);

        for way in [Way::Silent, Way::Shut] {
            link.set(way);
            let facts = until(&agent, &standby, &["disconnected"]);
            assert!(of(&facts, "pg_replication_lag_seconds") > 0.0, "{way:?}: {}", facts.text);
            let verdict = agent.get("/check/standby");
            assert_ne!(verdict.header("pgvitals-exit-code"), Some("0"), "{}", verdict.body);
            let verdict = agent.get("/check/standby?w=0.001s&c=0.001s");
            assert_eq!(verdict.header("pgvitals-exit-code"), Some("2"), "{}", verdict.body);
            link.set(Way::Open);
            until(&agent, &standby, &["caught_up", "idle"]);
        }

        // One that never got through since it started is no older than its start.
        link.set(Way::Shut);
        standby.stop().await.unwrap();
        until(&agent, &leaf, &["disconnected"]);
        standby.start_again().await.unwrap();
        let facts = until(&agent, &standby, &["disconnected"]);
        assert!(facts.of(&standby, "pg_replication_lag_seconds").unwrap() < 60.0, "{}", facts.text);
        until(&agent, &leaf, &["caught_up", "idle"]);

        standby.promote().await.unwrap();
        assert_eq!(state(&agent.facts(), &standby), None);
    })
    .await;
}

/// A folder in which a primary puts its segments and standbys find them.
fn archive() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_standby_that_lives_on_the_archive_or_is_late_by_design_is_not_taken_for_broken() {
    majors::on(THREE, |binaries| async move {
        let archive = archive();
        let path = archive.path().display().to_string();
        let (archives, restores) =
            (format!("archive_command = 'cp %p {path}/%f'"), format!("restore_command = 'cp {path}/%f %p'"));
        let primary = primary(&binaries, &["archive_mode = on", "archive_timeout = 1s", &archives]).await;
        let link = Link::to(&primary);
        let conf = lines(&["wal_receiver_timeout = 2s", "wal_retrieve_retry_interval = 200ms"]);
        let shipped =
            Standby { conf: conf.clone(), recovery: lines(&[&restores]), streams: false, ..Standby::from("shipped") };
        let shipped = primary.standby(shipped).await.unwrap();
        let fed = Standby {
            conf: conf.clone(),
            recovery: lines(&[&restores]),
            through: Some(link.address),
            ..Standby::from("fed")
        };
        let fed = primary.standby(fed).await.unwrap();
        let late = Standby { conf, recovery: lines(&["recovery_min_apply_delay = 1h"]), ..Standby::from("late") };
        let late = primary.standby(late).await.unwrap();
        let agent = Program::start(&watching(&[&shipped, &fed, &late]));

        let facts = until(&agent, &shipped, &["archive_only"]);
        assert_eq!(facts.of(&shipped, "pg_stat_wal_receiver_streaming"), None);
        until(&agent, &fed, &["caught_up", "idle"]);
        // What is held back begins with the first commit.
        write(&primary, 1).await;
        write(&primary, 20).await;
        agent.facts_until("the delay holds something back", |facts| {
            facts.of(&late, "pg_replication_replay_gap_bytes").is_some_and(|gap| gap >= SEGMENT)
        });
        // What is not due yet is not late, even where recovery.conf hides the delay.
        let facts = until(&agent, &late, &["caught_up", "idle"]);
        assert_eq!(facts.of(&late, "pg_replication_unexpected_lag_seconds"), Some(0.0), "{}", facts.text);
        assert_eq!(facts.of(&late, "pg_replication_is_delayed"), Some(1.0));

        link.set(Way::Shut);
        until(&agent, &fed, &["disconnected"]);
        write(&primary, 20).await;
        let facts = until(&agent, &fed, &["archive_only"]);
        assert_eq!(facts.of(&fed, "pg_stat_wal_receiver_streaming"), Some(0.0), "it should stream");
        link.set(Way::Open);
        until(&agent, &fed, &["caught_up", "idle"]);
        shipped.sql("postgres", "SELECT pg_wal_replay_pause()").await.unwrap();
        until(&agent, &shipped, &["paused"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn clocks_that_differ_are_told_and_make_no_lag() {
    let binaries = Binaries::major(17).unwrap();
    let primary = primary(&binaries, &[]).await;
    let wrong = |name: &str, offset: &str| {
        let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
        let env = [("LD_PRELOAD", library), ("FAKETIME", offset), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
        Standby { env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(), ..Standby::from(name) }
    };
    let ahead = primary.standby(wrong("ahead", "+1h")).await.unwrap();
    let behind = primary.standby(wrong("behind", "-1h")).await.unwrap();
    let agent = Program::start(&watching(&[&ahead, &behind]));
    let _traffic = traffic(&primary).await;
    let offset = |facts: &Facts, standby: &Cluster| facts.of(standby, "pg_stat_wal_receiver_clock_offset_seconds");
    agent.facts_until("the clocks are told", |facts| {
        offset(facts, &ahead).is_some_and(|offset| offset > 3500.0)
            && offset(facts, &behind).is_some_and(|offset| offset < -3500.0)
    });
    for standby in [&ahead, &behind] {
        until(&agent, standby, &["caught_up"]);
    }
    for _ in 0..20 {
        let facts = agent.facts();
        for standby in [&ahead, &behind] {
            assert_eq!(state(&facts, standby), Some("caught_up"), "{}", standby.name());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(agent.get("/check/standby").body.contains("the clocks differ"));
}
