//! More readers at once than there are seats.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};

use crate::pair::{self, ROLE};
use crate::program::{BINARY, Facts, Program, get, until, watching};

/// Half of the file descriptors.
const SEATS: usize = 32;
/// How long a reader of a crowd may have waited without a new look at the server.
const BOUND: Duration = Duration::from_secs(1);
/// Something of the server that is asked anew after a second.
const LOCKS: &str = "/metrics?collect[]=locks";

/// A server, and an agent with few seats.
async fn server_and_agent() -> (Cluster, Program) {
    let server = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&server).await;
    let mut command = Command::new("/usr/bin/prlimit");
    command.args([&format!("--nofile={}", 2 * SEATS), BINARY]);
    let agent = Program::start_by(command, &watching(&[&server]), &[]);
    agent.facts();
    (server, agent)
}

/// How often the server was asked for something on behalf of the agent.
async fn calls(server: &Cluster) -> f64 {
    let sql = format!("SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE userid = '{ROLE}'::regrole");
    server.sql("postgres", &sql).await.unwrap().concat()[0].as_deref().unwrap().parse().unwrap()
}

/// What they come to for readers who come when nothing is fresh, and how long that takes.
async fn cost(server: &Cluster, read: impl FnOnce()) -> (f64, Duration) {
    tokio::time::sleep(BOUND + Duration::from_millis(200)).await;
    let before = calls(server).await;
    let began = Instant::now();
    read();
    (calls(server).await - before, began.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_in_a_crowd_cost_what_one_costs() {
    let (server, agent) = server_and_agent().await;
    let address = agent.address();
    let (alone, _) = cost(&server, || assert_eq!(get(address, LOCKS, "").status, 200)).await;
    assert!(alone >= 2.0, "a probe and the locks");
    let (together, took) = cost(&server, || {
        // They keep all seats until the readers below wait.
        let silent: Vec<_> = (0..SEATS).map(|_| TcpStream::connect(address).unwrap()).collect();
        let readers: Vec<_> =
            (0..10 * SEATS).map(|_| std::thread::spawn(move || get(address, LOCKS, "").status)).collect();
        assert!(readers.into_iter().all(|reader| reader.join().unwrap() == 200));
        drop(silent);
    })
    .await;
    let times = took.as_secs_f64().ceil() + 1.0;
    assert!(together <= alone * times, "{together} statements in {took:?}, {alone} for one reader");
}

/// Readers that read again and again, each time with a new connection; of each answer, when it was asked for and whether the
/// server was up.
struct Crowd {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<(Instant, bool)>>>,
    reading: Vec<JoinHandle<()>>,
}

impl Crowd {
    fn start(address: SocketAddr, server: &str) -> Self {
        let (stop, seen) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<_>>>::default());
        let up = format!("\npg_up{{server=\"{server}\"}} 1\n");
        let read = |_| {
            let (stop, seen, up) = (Arc::clone(&stop), Arc::clone(&seen), up.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    let answer = get(address, LOCKS, "");
                    assert!(answer.status == 200 && answer.body.contains("\npg_up{"), "{}", answer.body);
                    seen.lock().unwrap().push((asked, answer.body.contains(&up)));
                }
            })
        };
        let reading = (0..3 * SEATS).map(read).collect();
        Self { stop, seen, reading }
    }

    fn finish(self) -> Vec<(Instant, bool)> {
        self.stop.store(true, Ordering::Relaxed);
        self.reading.into_iter().for_each(|reader| reader.join().unwrap());
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_is_told_to_a_crowd_in_a_second_and_to_one_reader_at_once() {
    let (mut server, agent) = server_and_agent().await;
    let up = |facts: &Facts| facts.of(&server, "pg_up");
    assert_eq!(up(&agent.facts()), Some(1.0));
    let crowd = Crowd::start(agent.address(), server.name());
    until("it is up for the crowd", || crowd.seen.lock().unwrap().iter().any(|(_, up)| *up));
    server.stop().await.unwrap();
    let stopped = Instant::now();
    let is_late = |(asked, _): &(Instant, bool)| *asked > stopped + BOUND;
    until("somebody asks after a second", || {
        crowd.seen.lock().unwrap().iter().filter(|it| is_late(it)).count() > SEATS
    });
    let late: Vec<_> = crowd.finish().into_iter().filter(is_late).collect();
    assert!(late.iter().all(|(_, up)| !up), "{late:?}");

    let facts = |server: &Cluster| agent.facts().of(server, "pg_up");
    server.start_again().await.unwrap();
    assert_eq!(facts(&server), Some(1.0));
    server.stop().await.unwrap();
    assert_eq!(facts(&server), Some(0.0));
}
