//! What a running agent shows while its servers stop, start, hang, fail over, and while it is told something new.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pgvitals::demo::cluster::{Binaries, Cluster, Settings, Standby};
use tokio::task::JoinHandle;

use crate::majors;
use crate::pair::{self, ROLE, until_true};
use crate::program::{Facts, Program, get, label, watching};

/// A primary and its standby, which know the agent's role.
async fn two(binaries: &Binaries) -> (Cluster, Cluster) {
    // Only a primary archives.
    let conf = ["archive_mode = on", "archive_command = '/bin/true'"].map(str::to_owned).to_vec();
    let settings = Settings { name: "primary".to_owned(), conf, ..Settings::default() };
    let primary = Cluster::start(binaries, settings).await.unwrap();
    pair::prepare(&primary).await;
    let standby = primary.standby(Standby::from("standby")).await.unwrap();
    (primary, standby)
}

fn is_up(facts: &Facts, server: &Cluster) -> bool {
    facts.of(server, "pg_up") == Some(1.0)
}

/// Only that it is down, and the class of failure; and that all else is there.
fn assert_down(facts: &Facts, down: &Cluster, classes: &[&str], up: &Cluster) {
    assert_eq!(facts.of(down, "pg_up"), Some(0.0));
    // How the collectors fared is told as the agent's own, and under inherited names.
    let names = facts.names_of(down).into_iter().filter(|name| !name.starts_with("pg_scrape_collector_"));
    assert_eq!(names.collect::<Vec<_>>(), ["pg_up"]);
    let of_class = |class: &&str| facts.value("pgvitals_server_failure", &[&label(down), &format!("class={class:?}")]);
    assert_eq!(classes.iter().filter_map(of_class).collect::<Vec<_>>(), [1.0], "{}", facts.text);
    assert!(facts.value("node_load1", &[]).is_some());
    assert!(is_up(facts, up) && facts.names_of(up).len() > 100);
}

/// Counts the agent's sessions on a server all the time.
pub(crate) struct Sessions {
    most: Arc<AtomicUsize>,
    counting: JoinHandle<()>,
}

impl Sessions {
    pub(crate) async fn count(server: &Cluster) -> Self {
        let session = server.client("postgres").await.unwrap();
        let most = Arc::<AtomicUsize>::default();
        let seen = Arc::clone(&most);
        let counting = tokio::spawn(async move {
            let count = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}'");
            while let Ok(row) = session.query_one(&count, &[]).await {
                seen.fetch_max(usize::try_from(row.try_get::<_, i64>(0).unwrap()).unwrap(), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Self { most, counting }
    }

    pub(crate) fn most(&self) -> usize {
        assert!(!self.counting.is_finished(), "the sessions were not counted to the end");
        self.most.load(Ordering::Relaxed)
    }
}

async fn backends(server: &Cluster) -> BTreeSet<String> {
    let of_agent = "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgvitals'";
    server.sql("postgres", of_agent).await.unwrap().concat().into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_is_told_at_once_and_so_is_its_return() {
    majors::on(majors::TWO, |binaries| async move {
        let (mut primary, standby) = two(&binaries).await;
        let agent = Program::start(&watching(&[&primary, &standby]));
        let facts = agent.facts();
        assert!(is_up(&facts, &primary) && is_up(&facts, &standby));
        assert!(!facts.values("pg_database_size_bytes", &[&label(&primary)]).is_empty());

        primary.stop().await.unwrap();
        // Not even what stays fresh for minutes: nobody knows whether it is still so.
        assert_down(&agent.facts(), &primary, &["refused"], &standby);
        primary.start_again().await.unwrap();
        let facts = agent.facts();
        assert!(is_up(&facts, &primary), "{}", agent.log());
        assert!(!facts.values("pg_database_size_bytes", &[&label(&primary)]).is_empty());
        assert!(facts.names_of(&primary).len() > 100);

        primary.kill_hard();
        assert_down(&agent.facts(), &primary, &["refused"], &standby);
        primary.start_again().await.unwrap();
        assert!(is_up(&agent.facts(), &primary));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_between_two_readings_is_no_outage() {
    majors::on(majors::TWO, |binaries| async move {
        let (mut primary, standby) = two(&binaries).await;
        let agent = Program::start(&watching(&[&primary, &standby]));
        assert!(is_up(&agent.facts(), &primary));
        for _ in 0..3 {
            primary.restart().await.unwrap();
            let facts = agent.facts();
            assert!(is_up(&facts, &primary) && facts.names_of(&primary).len() > 100);
            assert_eq!(facts.values("pgvitals_server_failure", &[&label(&primary)]), [0.0; 0]);
        }
        assert!(!agent.log().contains("server is down"), "{}", agent.log());
    })
    .await;
}

/// That all collectors of a server ran or have nothing to do there.
fn assert_all_ran(facts: &Facts, server: &Cluster) {
    let failed = |line: &&str| line.contains(&label(server)) && line.contains("outcome=\"failed\"");
    assert_eq!(facts.text.lines().filter(failed).collect::<Vec<_>>(), [""; 0]);
    assert!(is_up(facts, server) && facts.names_of(server).len() > 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_was_there_first_finds_the_server_when_it_starts() {
    majors::on(majors::TWO, |binaries| async move {
        let (mut primary, standby) = two(&binaries).await;
        primary.stop().await.unwrap();
        let agent = Program::start(&watching(&[&primary, &standby]));
        for _ in 0..2 {
            assert_down(&agent.facts(), &primary, &["refused"], &standby);
        }
        primary.start_again().await.unwrap();
        assert_all_ran(&agent.facts(), &primary);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_major_in_place_of_a_server_is_read_by_its_own_queries() {
    let settings = || Settings { tcp: true, ..Settings::default() };
    let mut old = Cluster::start(&Binaries::major(16).unwrap(), settings()).await.unwrap();
    pair::prepare(&old).await;
    let agent = Program::start(&watching(&[&old]));
    let before = agent.facts();
    assert_all_ran(&before, &old);
    let version = |facts: &Facts, major: u32| facts.values("pg_static", &[&format!("short_version=\"{major}.")]).len();
    assert_eq!((version(&before, 16), version(&before, 18)), (1, 0));

    old.stop().await.unwrap();
    // As pg_upgrade leaves it: another data folder behind the same port and the same socket.
    let sockets = format!("unix_socket_directories = '../socket, {}'", old.socket_dir().display());
    let new = Settings { port: Some(old.port()), conf: vec![sockets], ..settings() };
    let new = Cluster::start(&Binaries::major(18).unwrap(), new).await.unwrap();
    pair::prepare(&new).await;
    let after = agent.facts();
    assert_all_ran(&after, &old);
    assert_eq!((version(&after, 16), version(&after, 18)), (0, 1));
    let started = |facts: &Facts| facts.of(&old, "pg_postmaster_start_time_seconds");
    assert!(started(&before) < started(&after));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_is_a_primary_in_the_next_reading() {
    majors::on(majors::TWO, |binaries| async move {
        let (primary, standby) = two(&binaries).await;
        let agent = Program::start(&watching(&[&primary, &standby]));
        let of_standbys = |facts: &Facts| {
            let names = facts.names_of(&standby).into_iter();
            let names = names.filter(|name| name.starts_with("pg_stat_wal_receiver_") || name.contains("replay"));
            names.filter(|name| !name.starts_with("pg_stat_replication_")).count()
        };
        let before = agent.facts();
        assert_eq!(before.of(&standby, "pg_replication_is_replica"), Some(1.0));
        assert_eq!(before.of(&standby, "pg_stat_archiver_failing"), None);
        assert!(of_standbys(&before) > 10, "{}", before.text);

        standby.promote().await.unwrap();
        let after = agent.facts();
        assert_eq!(after.of(&standby, "pg_replication_is_replica"), Some(0.0));
        // The archiver's answer of before would be fresh for a quarter of a minute.
        assert_eq!(after.of(&standby, "pg_stat_archiver_failing"), Some(0.0));
        assert_eq!(of_standbys(&after), 0, "{}", after.text);
        assert!(agent.log().contains("server changed its role server=\"standby\" role=\"primary\""), "{}", agent.log());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_waited_for_once() {
    majors::on(majors::TWO, |binaries| async move {
        let (primary, standby) = two(&binaries).await;
        let agent = Program::start(&watching(&[&primary, &standby]));
        assert!(is_up(&agent.facts(), &primary));
        let sessions = Sessions::count(&primary).await;

        primary.freeze().await.unwrap();
        let first = Instant::now();
        assert_down(&agent.facts(), &primary, &["timeout"], &standby);
        // Ten seconds of the reader's own would be an agent that waits for all it asks.
        assert!(first.elapsed() < Duration::from_secs(6), "{:?}", first.elapsed());
        let later = Instant::now();
        for _ in 0..6 {
            assert_down(&agent.facts(), &primary, &["timeout"], &standby);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        // Six deadlines are 15 s.
        assert!(later.elapsed() < Duration::from_secs(9), "{:?}", later.elapsed());

        primary.thaw();
        let mut readings = 0;
        let facts = loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            readings += 1;
            let facts = agent.facts();
            // The first reader after the outage does not wait, and may just see that it is over.
            let is_read = is_up(&facts, &primary) && facts.names_of(&primary).len() > 100;
            if is_read || readings == 5 {
                break facts;
            }
        };
        assert!(readings <= 2, "{readings} readings until it was seen to be up; {}", agent.log());
        assert!(facts.names_of(&primary).len() > 100);
        let few = format!("SELECT count(*) BETWEEN 1 AND 2 FROM pg_stat_activity WHERE usename = '{ROLE}'");
        until_true(&primary, &few).await;
        assert!(sessions.most() <= 2, "{} sessions", sessions.most());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_link_is_not_read_as_no_lag() {
    majors::on(majors::TWO, |binaries| async move {
        let (mut primary, standby) = two(&binaries).await;
        primary.sql("postgres", "CREATE TABLE last_words ()").await.unwrap();
        let agent = Program::start(&watching(&[&standby]));
        let (facts, _) = agent.facts_until("all is replayed", |facts| {
            facts.of(&standby, "pg_replication_lag_seconds") == Some(0.0)
                && facts.of(&standby, "pg_replication_last_replay_seconds").is_some()
        });
        assert_eq!(facts.of(&standby, "pg_stat_wal_receiver_streaming"), Some(1.0));

        primary.stop().await.unwrap();
        let (cut, _) = agent.facts_until("the receiver is seen to be gone", |facts| {
            facts.of(&standby, "pg_stat_wal_receiver_streaming") == Some(0.0)
        });
        let lag = |facts: &Facts| facts.of(&standby, "pg_replication_lag_seconds").unwrap();
        let first = lag(&cut);
        assert!(first > 0.0);
        agent.facts_until("the lag grows", |facts| lag(facts) > first + 1.0);
        let verdict = agent.get("/check/standby?c=1s");
        assert_eq!(verdict.header("pgvitals-exit-code"), Some("2"), "{}", verdict.body);

        primary.start_again().await.unwrap();
        agent.facts_until("it streams again", |facts| {
            lag(facts) == 0.0 && facts.of(&standby, "pg_stat_wal_receiver_streaming") == Some(1.0)
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_upstream_is_not_read_as_no_lag() {
    let primary = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&primary).await;
    // Silence is suspect after half of this and five seconds.
    let standby = Standby { conf: vec!["wal_receiver_timeout = 2s".to_owned()], ..Standby::from("standby") };
    let standby = primary.standby(standby).await.unwrap();
    let agent = Program::start(&watching(&[&standby]));
    primary.freeze().await.unwrap();
    agent.facts_until("silence is lag", |facts| {
        facts.of(&standby, "pg_replication_lag_seconds").is_some_and(|lag| lag > 2.0)
    });
    primary.thaw();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_takes_over_what_is_right_and_nothing_that_is_wrong() {
    let (primary, standby) = two(&Binaries::major(17).unwrap()).await;
    let agent = Program::start(&watching(&[&primary]));
    let reloaded = |facts: &Facts| facts.value("pgvitals_config_last_reload_successful", &[]);
    assert_eq!(reloaded(&agent.facts()), Some(1.0));
    let sessions = backends(&primary).await;
    assert_eq!(sessions.len(), 1);

    agent.reload("[discovery]\nenabled = maybe\n");
    let (facts, _) = agent.facts_until("the mistake is told", |facts| reloaded(facts) == Some(0.0));
    assert!(is_up(&facts, &primary));
    assert!(agent.log().contains("pgvitals.toml:2: "), "{}", agent.log());

    agent.reload(&watching(&[&primary, &standby]));
    let (facts, _) = agent.facts_until("the standby is watched", |facts| is_up(facts, &standby));
    assert_eq!(reloaded(&facts), Some(1.0));
    assert_eq!(backends(&primary).await, sessions, "the sessions of a server that stays are kept");

    agent.reload(&watching(&[&standby]));
    agent.facts_until("the primary is no longer watched", |facts| facts.names_of(&primary).is_empty());
    until_true(&primary, &format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE usename = '{ROLE}'")).await;
    agent.signal(rustix::process::Signal::TERM);
    assert!(agent.ended_well());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_readers_cost_what_one_costs() {
    let (primary, standby) = two(&Binaries::major(17).unwrap()).await;
    let agent = Program::start(&watching(&[&primary, &standby]));
    let sessions = Sessions::count(&primary).await;
    let address = agent.address();
    for round in 1..=3 {
        let readers: Vec<_> = (0..20).map(|_| std::thread::spawn(move || get(address, "/metrics", ""))).collect();
        for reader in readers {
            let answer = reader.join().unwrap();
            let facts = Facts { text: answer.body };
            assert!(answer.status == 200 && is_up(&facts, &primary) && is_up(&facts, &standby));
        }
        let facts = agent.facts();
        assert!(facts.value("pgvitals_readings_total", &[]).unwrap() >= 20.0 * f64::from(round));
        let runs = facts.value("pgvitals_collector_runs_total", &[&label(&primary), "collector=\"locks\""]).unwrap();
        // Each round is one run, or a few when the machine is so busy that a round takes seconds.
        assert!(runs < 20.0, "{runs} runs for {round} rounds of 20 readers");
    }
    assert!(sessions.most() <= 2, "{} sessions", sessions.most());
}
