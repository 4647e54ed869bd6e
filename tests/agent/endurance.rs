//! A long life: memory, files, connections and the log stay as they are.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgvitals::agent::{Agent, Want};
use pgvitals::catalog::Catalog;
use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use tempfile::TempDir;

use crate::lifecycle::Sessions;
use crate::pair::{self, until_true};
use crate::program::{BINARY, Facts, Program, free_port, label, watching};

/// Two hours of readings every 15 s are twice as many; every collector runs in each of these.
const READINGS: usize = 200;

/// The built-in definitions, each asked in every reading.
fn always_stale() -> TempDir {
    let folder = TempDir::new().unwrap();
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("checks")).unwrap().flatten();
    for entry in entries.filter(|entry| entry.path().is_file()) {
        let text = fs::read_to_string(entry.path()).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("fresh_for")).collect();
        let asks = text.contains("[[query]]");
        let text = if asks { format!("fresh_for = \"1ms\"\n{}", lines.join("\n")) } else { text };
        fs::write(folder.path().join(entry.file_name()), text).unwrap();
    }
    folder
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The second quarter of the values and the last one.
fn quarters(values: &[f64]) -> (f64, f64) {
    let quarter = values.len() / 4;
    (median(&values[quarter..2 * quarter]), median(&values[3 * quarter..]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hours_of_readings_leave_memory_files_and_log_as_they_were() {
    let server = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&server).await;
    let definitions = always_stale();
    let config = format!(
        "checks = '{}'\n{}[[server]]\nname = \"gone\"\ndsn = \"host=127.0.0.1 port={} user=x\"\n\
         [graphite]\naddress = \"127.0.0.1:{}\"\ninterval = \"1s\"\nqueue = 3000\n",
        definitions.path().display(),
        watching(&[&server]),
        free_port(),
        free_port(),
    );
    let agent = Program::start(&config);
    let (mut memory, mut files) = (Vec::new(), Vec::new());
    let own = |facts: &Facts, name: &str| facts.value(name, &[]).unwrap();
    let mut last = agent.facts();
    let runs = |facts: &Facts| {
        facts.value("pgvitals_collector_runs_total", &[&label(&server), "collector=\"database\""]).unwrap()
    };
    let before = runs(&last);
    for reading in 0..READINGS {
        last = agent.facts();
        memory.push(own(&last, "process_resident_memory_bytes"));
        files.push(own(&last, "process_open_fds"));
        if reading % 20 == 0 {
            agent.get("/");
        }
    }
    assert!(runs(&last) - before > READINGS as f64 * 0.9, "every reading asks: {}", runs(&last) - before);
    let (early, late) = quarters(&memory);
    assert!(late < early * 1.1, "{early} bytes grew to {late}");
    let (early, late) = quarters(&files);
    assert!(late < early + 3.0, "{early} files grew to {late}");
    let (facts, _) = agent.facts_until("Graphite's queue is full", |facts| {
        facts.value("pgvitals_graphite_points_dropped_total", &[]).is_some_and(|dropped| dropped > 0.0)
    });
    assert!(own(&facts, "pgvitals_graphite_queue_points") <= 3000.0);
    let log = agent.log();
    // Start, two servers, Graphite, and what cannot be collected: each once.
    assert!(log.lines().count() < 40, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_and_goes_is_told_once_each_time() {
    let mut server = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&server).await;
    // A talkative server: what it says at each login is not for our log.
    let talk = "CREATE FUNCTION talk() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN FOR n IN 1..100 LOOP \
                RAISE WARNING 'much'; END LOOP; END $$; CREATE EVENT TRIGGER talk ON login EXECUTE FUNCTION talk(); \
                ALTER EVENT TRIGGER talk ENABLE ALWAYS";
    server.sql("postgres", talk).await.unwrap();
    let agent = Program::start(&watching(&[&server]));
    let up = |value| move |facts: &Facts| facts.values("pg_up", &[]) == [value];
    agent.facts_until("it is up", up(1.0));
    let before = agent.log().lines().count();
    for _ in 0..3 {
        server.stop().await.unwrap();
        agent.facts_until("it is down", up(0.0));
        for _ in 0..10 {
            agent.facts();
        }
        server.start_again().await.unwrap();
        agent.facts_until("it is up", up(1.0));
    }
    let lines = agent.log().lines().count() - before;
    // A collector that was being asked at that moment has a line of its own, and one for its recovery.
    assert!(server.log().contains("much"), "the server has talked");
    assert!((6..30).contains(&lines), "{lines} lines: {}", agent.log());
}

/// What the server's kernel has given to this process alone, and its share of the rest, in bytes.
fn memory_of(process: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
    };
    field("Private_Clean:") + field("Private_Dirty:")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tables_do_not_make_our_sessions_grow() {
    let server = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&server).await;
    let create = "DO $$ BEGIN FOR n IN 1..2000 LOOP EXECUTE 'CREATE TABLE t' || n || ' (a int)'; \
                  IF n % 500 = 0 THEN COMMIT; END IF; END LOOP; END $$";
    server.sql("postgres", create).await.unwrap();
    let definitions = always_stale();
    let catalog = Arc::new(Catalog::load(definitions.path()).unwrap());
    let agent = Agent::new(catalog, None, Arc::default());
    agent.watch(server.name(), pair::options(&server), None);
    let mut memory = Vec::new();
    let ours = "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgvitals'";
    agent.read(&Want::default()).await;
    let process = server.sql("postgres", ours).await.unwrap().concat().pop().flatten().unwrap();
    for _ in 0..60 {
        let reading = agent.read(&Want::default()).await;
        assert!(reading.servers[0].state.is_ok());
        memory.push(memory_of(&process));
    }
    let (early, late) = quarters(&memory);
    assert!(late < early * 1.1 + 262_144.0, "{early} bytes grew to {late}");
    assert!(late < 30e6, "{late} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_replaced_and_never_three_at_a_time() {
    let server = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&server).await;
    let folder = TempDir::new().unwrap();
    let slow = "help = \"Slow\"\nfresh_for = \"1ms\"\ntimeout = \"10s\"\n[[query]]\nsince = 10\n\
                sql = \"SELECT 1 AS n FROM pg_catalog.pg_sleep(2.5)\"\n\
                [[metric]]\nname = \"pg_slow\"\ntype = \"gauge\"\ncolumn = \"n\"\nhelp = \"Slow\"\n";
    fs::write(folder.path().join("slow.toml"), slow).unwrap();
    let agent = Agent::new(Arc::new(Catalog::load(folder.path()).unwrap()), None, Arc::default());
    let options = pair::options(&server).with_longest_session(Duration::from_millis(100));
    agent.watch(server.name(), options, None);
    let sessions = Sessions::count(&server).await;
    let ours = "FROM pg_stat_activity WHERE application_name = 'pgvitals'";
    let started = Instant::now();
    let mut connects = 0.0;
    while connects < 25.0 || started.elapsed() < Duration::from_secs(6) {
        let reading = agent.read(&Want::default()).await;
        assert!(reading.servers[0].state.is_ok(), "{:?}", reading.servers);
        let opened = reading.snapshot.find("pgvitals_connects_total").unwrap();
        connects = opened.samples().next().unwrap().value;
        assert!(started.elapsed() < pair::PATIENCE, "{connects} sessions were opened");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(sessions.most() <= 2, "{} sessions at a time, {connects} opened", sessions.most());
    drop(agent);
    until_true(&server, &format!("SELECT count(*) = 0 {ours}")).await;
}

/// glibc reads how frugal it is to be before `main`, so the agent begins twice.
#[test]
fn the_agent_has_one_heap_and_stays_the_process_that_was_started() {
    let agent = Program::start("[host]\nenabled = false\n");
    let of_process = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", agent.pid())).unwrap();
    assert_eq!(of_process("comm"), "pgvitals\n");
    assert!(of_process("cmdline").starts_with(&format!("{BINARY}\0serve\0--listen\0")));
    assert!(of_process("environ").split('\0').any(|variable| variable == "MALLOC_ARENA_MAX=1"));
    let told = Program::start_with("[host]\nenabled = false\n", &[("MALLOC_ARENA_MAX", "7")]);
    let environ = fs::read_to_string(format!("/proc/{}/environ", told.pid())).unwrap();
    assert!(environ.contains("MALLOC_ARENA_MAX=7") && !environ.contains("MALLOC_TRIM_THRESHOLD_"));
}
