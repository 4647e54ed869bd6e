//! What a primary says of its standbys, of those that are gone, and of the slots that wait for them.

use std::process::{Child, Command, Stdio};

use pgvitals::demo::cluster::{Binaries, Cluster, Settings, Standby};

use crate::client::PSQL;
use crate::majors;
use crate::pair::{self, ROLE, until_true};
use crate::program::{BINARY, Facts, Program, label, run, watching};

const SEGMENT: f64 = 16.0 * 1024.0 * 1024.0;

async fn primary(binaries: &Binaries, conf: &[&str]) -> Cluster {
    let conf = conf.iter().map(|&line| line.to_owned()).collect();
    let primary = Cluster::start(binaries, Settings { conf, ..Settings::default() }).await.unwrap();
    pair::prepare(&primary).await;
    primary.sql("postgres", "CREATE TABLE filler (text text)").await.unwrap();
    primary
}

async fn fill(primary: &Cluster) {
    let rows = "INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 20000)";
    primary.sql("postgres", rows).await.unwrap();
}

fn exit_code(agent: &Program, check: &str) -> String {
    let answer = agent.get(check);
    answer.header("pgvitals-exit-code").unwrap_or_else(|| panic!("{}", answer.body)).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_standby_that_vanished_is_missed_until_a_reload() {
    majors::on(majors::TWO, |binaries| async move {
        let mut primary = primary(&binaries, &[]).await;
        let slot = Some("of_standby".to_owned());
        let mut standby = primary.standby(Standby { slot, ..Standby::from("standby") }).await.unwrap();
        let agent = Program::start(&watching(&[&primary]));
        let connected = |facts: &Facts| {
            facts.value("pg_stat_replication_connected", &[&label(&primary), "application_name=\"standby\""])
        };
        agent.facts_until("it is connected", |facts| connected(facts) == Some(1.0));
        assert_eq!(exit_code(&agent, "/check/standbys"), "0");

        standby.stop().await.unwrap();
        let (facts, _) = agent.facts_until("it is missed", |facts| connected(facts) == Some(0.0));
        assert_eq!(facts.of(&primary, "pg_stat_replication_replay_lag_bytes"), None);
        let verdict = agent.get("/check/standbys");
        assert_eq!(verdict.header("pgvitals-exit-code"), Some("2"), "{}", verdict.body);
        assert!(verdict.body.contains("standby was connected and is gone"), "{}", verdict.body);
        // Who did not see it cannot miss it, and does not say that all is well.
        let (host, port) = (primary.socket_dir().display().to_string(), primary.port());
        let dsn = format!("host={host} port={port} user={ROLE} dbname=postgres");
        let alone = run(BINARY, &["check", "standbys", "--dsn", &dsn], "");
        assert_eq!(alone.status.code(), Some(3), "{}", String::from_utf8_lossy(&alone.stdout));
        // Its slot keeps more and more.
        let unread = |facts: &Facts| facts.of(&primary, "pg_replication_slots_unread_bytes");
        let (facts, _) = agent.facts_until("the slot is without its reader", |facts| unread(facts).is_some());
        let before = unread(&facts).unwrap();
        fill(&primary).await;
        let grown = |facts: &Facts| unread(facts).is_some_and(|now| now >= before + SEGMENT);
        let (facts, _) = agent.facts_until("the slot grows", grown);
        assert_eq!(facts.of(&primary, "pg_replication_slots_inactive_seconds").is_some(), binaries.major >= 17);
        assert_eq!(exit_code(&agent, "/check/slots?c=8MB"), "2");

        let configuration = watching(&[&primary]);
        primary.restart().await.unwrap();
        let connected = |facts: &Facts| {
            facts.value("pg_stat_replication_connected", &[&label(&primary), "application_name=\"standby\""])
        };
        assert_eq!(connected(&agent.facts()), Some(0.0), "an outage does not bring it back");
        agent.reload(&configuration);
        agent.facts_until("a reload forgets it", |facts| connected(facts).is_none());
        assert_eq!(exit_code(&agent, "/check/standbys"), "0");

        primary.sql("postgres", "SELECT pg_drop_replication_slot('of_standby')").await.unwrap();
        agent.facts_until("nothing is left of the slot", |facts| !facts.text.contains("of_standby"));
        primary.sql("postgres", "SELECT pg_create_physical_replication_slot('of_standby')").await.unwrap();
        standby.start_again().await.unwrap();
        agent.facts_until("it is back", |facts| connected(facts) == Some(1.0));
    })
    .await;
}

/// A psql that speaks to a walsender; killed when dropped.
struct Receiver(Child);

impl Receiver {
    fn start(primary: &Cluster, command: Option<&str>) -> Self {
        let mut psql = Command::new(PSQL);
        psql.env_clear().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        psql.arg("-X").arg(format!("{} replication=1 application_name=psql", primary.dsn("postgres")));
        Self(psql.args(command.map(|command| format!("-c{command}"))).spawn().unwrap())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_sender_that_starts_or_makes_a_backup_is_no_standby_that_is_behind() {
    majors::on([10, 13, 18], |binaries| async move {
        let primary = primary(&binaries, &[]).await;
        fill(&primary).await;
        let agent = Program::start(&watching(&[&primary]));
        let backup = match binaries.major {
            ..15 => "BASE_BACKUP LABEL 'b' FAST MAX_RATE 32",
            _ => "BASE_BACKUP (LABEL 'b', CHECKPOINT 'fast', MAX_RATE 32)",
        };
        for (state, command) in [("startup", None), ("backup", Some(backup))] {
            let receiver = Receiver::start(&primary, command);
            let in_state = format!("state={state:?}");
            let (facts, _) = agent.facts_until(state, |facts| {
                facts.value("pg_stat_replication_state", &[&label(&primary), &in_state]) == Some(1.0)
            });
            assert_eq!(facts.of(&primary, "pg_stat_replication_streaming"), Some(0.0));
            let behind: Vec<&str> = facts.names_of(&primary);
            let behind = behind.into_iter().filter(|name| {
                name.starts_with("pg_stat_replication_") && (name.contains("_lag_") || name.ends_with("_diff"))
            });
            assert_eq!(behind.collect::<Vec<_>>(), [""; 0], "{state}");
            assert_eq!(facts.of(&primary, "pg_stat_replication_connected"), None, "nobody will miss it");
            assert_eq!(exit_code(&agent, "/check/replication-lag"), "0");
            drop(receiver);
            until_true(&primary, "SELECT count(*) = 0 FROM pg_stat_replication").await;
            agent.facts_until("it is gone", |facts| facts.of(&primary, "pg_stat_replication_streaming").is_none());
        }
        assert_eq!(exit_code(&agent, "/check/standbys"), "0");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_slot_says_what_it_keeps_and_when_it_is_lost() {
    majors::on([10, 13, 18], |binaries| async move {
        let major = binaries.major;
        let mut conf = vec!["wal_level = logical"];
        if major >= 13 {
            conf.push("max_slot_wal_keep_size = 16MB");
        }
        let primary = primary(&binaries, &conf).await;
        let agent = Program::start(&watching(&[&primary]));
        for slot in [
            "SELECT pg_create_physical_replication_slot('physical', true)",
            "SELECT pg_create_logical_replication_slot('logical', 'pgoutput')",
        ] {
            primary.sql("postgres", slot).await.unwrap();
        }
        let of = |facts: &Facts, metric: &str, slot: &str| {
            facts.value(&format!("pg_replication_slots_{metric}"), &[&format!("slot_name={slot:?}")])
        };
        let facts = agent.facts();
        for slot in ["physical", "logical"] {
            assert!(of(&facts, "retained_bytes", slot).is_some_and(|kept| kept < SEGMENT), "{}", facts.text);
            assert_eq!(of(&facts, "active", slot), Some(0.0));
            assert_eq!(of(&facts, "invalid", slot), (major >= 13).then_some(0.0));
            assert_eq!(of(&facts, "inactive_seconds", slot).is_some(), major >= 17);
            assert_eq!(of(&facts, "safe_wal_size_bytes", slot).is_some(), major >= 13);
        }
        assert_eq!(of(&facts, "two_phase", "logical"), (major >= 14).then_some(0.0));
        for metric in ["failover", "synced"] {
            assert_eq!(of(&facts, metric, "logical"), (major >= 17).then_some(0.0));
            assert_eq!(of(&facts, metric, "physical"), None);
        }
        assert_eq!(exit_code(&agent, "/check/slots"), "0");

        for _ in 0..4 {
            fill(&primary).await;
            primary.sql("postgres", "SELECT pg_switch_wal()").await.unwrap();
        }
        if major < 13 {
            let (facts, _) = agent.facts_until("it keeps what was written", |facts| {
                of(facts, "retained_bytes", "physical").is_some_and(|kept| kept > 4.0 * SEGMENT)
            });
            assert!(of(&facts, "unread_bytes", "logical").is_some_and(|kept| kept > 4.0 * SEGMENT));
            assert_eq!(exit_code(&agent, "/check/slots?c=64MB"), "2");
            return;
        }
        let status = |facts: &Facts, status: &str| {
            let status = format!("wal_status={status:?}");
            facts.value("pg_replication_slots_wal_status", &["slot_name=\"physical\"", &status])
        };
        agent.facts_until("it keeps more than it may", |facts| status(facts, "unreserved") == Some(1.0));
        // Of max_slot_wal_keep_size nothing remains.
        assert_eq!(exit_code(&agent, "/check/slots"), "2");
        primary.sql("postgres", "CHECKPOINT").await.unwrap();
        let (facts, _) = agent.facts_until("it is lost", |facts| status(facts, "lost") == Some(1.0));
        assert_eq!(of(&facts, "invalid", "logical"), Some(1.0));
        assert_eq!(of(&facts, "invalidation", "physical"), (major >= 17).then_some(1.0));
        assert_eq!(facts.text.contains("reason=\"wal_removed\""), major >= 17);
        assert_eq!(of(&facts, "retained_bytes", "physical"), None, "a lost slot keeps nothing");
        assert_eq!(exit_code(&agent, "/check/slots"), "2");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_logical_slot_on_a_standby_is_shown_there() {
    majors::on([16, 18], |binaries| async move {
        let primary = primary(&binaries, &["wal_level = logical"]).await;
        let standby = Standby { conf: vec!["hot_standby_feedback = on".to_owned()], ..Standby::from("standby") };
        let standby = primary.standby(standby).await.unwrap();
        let agent = Program::start(&watching(&[&standby]));
        let session = standby.client("postgres").await.unwrap();
        let creating = tokio::spawn(async move {
            session.batch_execute("SELECT pg_create_logical_replication_slot('decoded', 'pgoutput')").await
        });
        // It waits for a record of the primary's running transactions.
        while !creating.is_finished() {
            primary.sql("postgres", "SELECT pg_log_standby_snapshot()").await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        creating.await.unwrap().unwrap();
        let facts = agent.facts();
        let of = |metric: &str| facts.of(&standby, &format!("pg_replication_slots_{metric}"));
        assert_eq!(of("conflicting"), Some(0.0));
        assert_eq!(of("invalid"), Some(0.0));
        assert!(of("retained_bytes").is_some());
        assert_eq!(of("synced"), (binaries.major >= 17).then_some(0.0));
    })
    .await;
}
