//! Roles that change under load: nobody is told anything wrong, and neither log shows an error of ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use tokio::task::JoinSet;

use crate::majors;
use crate::pair::{self, ROLE};
use crate::program::{Facts, Program, get, label, watching};

/// Writes for as long as the server lets it.
async fn load(server: &Cluster) -> JoinSet<()> {
    let mut load = JoinSet::new();
    let session = server.client("postgres").await.unwrap();
    load.spawn(async move {
        while session.batch_execute("INSERT INTO beats VALUES (now())").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    load
}

fn is_replica(facts: &Facts, server: &Cluster) -> Option<f64> {
    facts.of(server, "pg_replication_is_replica")
}

/// Others who read all the time, until dropped.
struct Readers {
    enough: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    fn of(agent: &Program) -> Self {
        let (address, enough) = (agent.address(), Arc::<AtomicBool>::default());
        let thread = || {
            let enough = Arc::clone(&enough);
            std::thread::spawn(move || {
                while !enough.load(Ordering::Relaxed) {
                    assert_eq!(get(address, "/metrics", "").status, 200);
                    std::thread::sleep(Duration::from_millis(100));
                }
            })
        };
        let threads = vec![thread(), thread()];
        Self { enough, threads }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
        let failed = self.threads.drain(..).filter_map(|thread| thread.join().err()).count();
        assert!(failed == 0 || std::thread::panicking(), "a reader got no answer");
    }
}

/// What our sessions did wrong, by the server's log.
fn errors_of_ours(server: &Cluster) -> Vec<String> {
    let log = server.log();
    let ours = log.lines().filter(|line| line.starts_with(&format!("<{ROLE}>")));
    // A server that stops ends its sessions, and one that starts refuses them: neither is a mistake of theirs.
    let expected = ["terminating connection due to administrator command", "the database system is"];
    let errors = ours.filter(|line| ["ERROR:", "FATAL:", "WARNING:"].iter().any(|level| line.contains(level)));
    errors.filter(|line| !expected.iter().any(|text| line.contains(text))).map(str::to_owned).collect()
}

async fn two(binaries: &Binaries) -> (Cluster, Cluster) {
    let conf = ["log_line_prefix = '<%u> '", "wal_log_hints = on", "wal_retrieve_retry_interval = 200ms"];
    let mut conf = conf.map(str::to_owned).to_vec();
    if binaries.major >= 13 {
        // To rewind takes the log since the last checkpoint in common.
        conf.push("wal_keep_size = 256MB".to_owned());
    }
    let settings = Settings { name: "first".to_owned(), conf, ..Settings::default() };
    let first = Cluster::start(binaries, settings).await.unwrap();
    pair::prepare(&first).await;
    first.sql("postgres", "CREATE TABLE beats (at timestamptz)").await.unwrap();
    let second = first.standby("second").await.unwrap();
    (first, second)
}

/// After the roles were swapped, in the next reading.
fn assert_swapped(agent: &Program, primary: &Cluster, standby: &Cluster) {
    let facts = agent.facts();
    assert_eq!((is_replica(&facts, primary), is_replica(&facts, standby)), (Some(0.0), Some(1.0)), "{}", agent.log());
    let states = facts.values("pg_replication_state", &[&label(standby)]);
    assert_eq!((states.len(), states.iter().sum::<f64>().to_bits()), (6, 1.0_f64.to_bits()), "{}", facts.text);
    assert_eq!(facts.values("pg_replication_state", &[&label(primary)]), [0.0; 0]);
    // Who followed the old primary follows the new one: nobody is missed.
    assert_eq!(facts.values("pg_stat_replication_connected", &[&label(standby)]), [0.0; 0]);
    agent.facts_until("the new primary sees its standby", |facts| {
        facts.values("pg_stat_replication_connected", &[&label(primary)]) == [1.0]
    });
}

fn assert_no_errors(agent: &Program, servers: &[&Cluster]) {
    for server in servers {
        assert_eq!(errors_of_ours(server), [""; 0], "in the log of {} {}", server.name(), server.major());
    }
    let log = agent.log();
    let failed: Vec<&str> =
        log.lines().filter(|line| line.contains("collector failed") || line.contains("ERROR")).collect();
    assert_eq!(failed, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_switchover_under_load_is_right_in_the_next_reading() {
    majors::on(majors::TWO, |binaries| async move {
        let (mut first, mut second) = two(&binaries).await;
        let agent = Program::start(&watching(&[&first, &second]));
        assert_eq!(is_replica(&agent.facts(), &second), Some(1.0));
        let _readers = Readers::of(&agent);
        for _ in 0..2 {
            let _load = load(&first).await;
            first.stop().await.unwrap();
            second.promote().await.unwrap();
            assert_eq!(is_replica(&agent.facts(), &second), Some(0.0));
            let _load = load(&second).await;
            first.demote(&second).await.unwrap();
            assert_swapped(&agent, &second, &first);
            std::mem::swap(&mut first, &mut second);
        }
        assert_no_errors(&agent, &[&first, &second]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_primary_that_was_rewound_is_a_standby_in_the_next_reading() {
    // The only server here that comes with pg_rewind.
    let binaries = Binaries::major(15).unwrap();
    let (mut first, second) = two(&binaries).await;
    let agent = Program::start(&watching(&[&first, &second]));
    let _load = load(&first).await;
    assert_eq!(is_replica(&agent.facts(), &first), Some(0.0));
    second.promote().await.unwrap();
    let _load = load(&second).await;
    // Both took writes, and one of them has to give its own up.
    let facts = agent.facts();
    assert_eq!((is_replica(&facts, &first), is_replica(&facts, &second)), (Some(0.0), Some(0.0)));
    second.sql("postgres", "CHECKPOINT").await.unwrap();
    first.stop().await.unwrap();
    first.rewind(&second).await.unwrap();
    first.demote(&second).await.unwrap();
    assert_swapped(&agent, &second, &first);
    assert_no_errors(&agent, &[&first, &second]);
}
