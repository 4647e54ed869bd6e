//! A real Prometheus scrapes a real agent, and promtool reads what it gets.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use serde_json::Value;
use tempfile::TempDir;

use crate::access::{Guarded, SECRET};
use crate::clients::NO_SERVERS;
use crate::majors;
use crate::pair::{self, Pair};
use crate::program::{Program, free_port, get, run, until, watching};

/// Debian's Prometheus with its own folder and port; gone when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Prometheus {
    /// Scrapes this address every second.
    fn start(target: SocketAddr) -> Self {
        Self::start_with(target, "")
    }

    /// The same with more settings, each with a comma after it.
    fn start_with(target: SocketAddr, more: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs: [{{job_name: agent, {more}static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let child = Command::new("/usr/bin/prometheus")
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--log.level=error"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .expect("start /usr/bin/prometheus, from Debian's prometheus");
        let mut prometheus = Self { child, address, folder };
        until("Prometheus is ready", || {
            let log = || fs::read_to_string(prometheus.folder.path().join("log")).unwrap();
            assert!(prometheus.child.try_wait().unwrap().is_none(), "Prometheus ended: {}", log());
            TcpStream::connect(address).is_ok() && get(address, "/-/ready", "").status == 200
        });
        prometheus
    }

    fn api(&self, path: &str) -> Value {
        let answer = get(self.address, &format!("/api/v1/{path}"), "");
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    /// What a query gives now.
    fn query(&self, query: &str) -> Vec<Value> {
        self.api(&format!("query?query={}", escape(query)))["result"].as_array().unwrap().clone()
    }

    /// How many scrapes failed before their time was up, which a busy machine may not have for them; none if none did.
    fn failed(&self) -> Option<f64> {
        self.value("count_over_time((up == 0 unless scrape_duration_seconds > 0.9)[5m:1s])")
    }

    /// The value of a query with one answer; none while it has none.
    fn value(&self, query: &str) -> Option<f64> {
        let result = self.query(query);
        assert!(result.len() < 2, "{query}: {result:?}");
        result.first().map(|series| number(&series["value"][1]))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number(value: &Value) -> f64 {
    value.as_str().unwrap().parse().unwrap()
}

fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}"))
}

fn pgbench(server: &Cluster, arguments: &[&str]) -> String {
    let output = Command::new("/usr/bin/pgbench")
        .args(["-U", "postgres", "-h"])
        .arg(server.socket_dir())
        .args(["-p", &server.port().to_string()])
        .args(arguments)
        .arg("bench")
        .output()
        .expect("run pgbench, from Debian's postgresql-15");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_counts_the_transactions_that_pgbench_made() {
    // Its own vacuum commits too.
    let settings = Settings { conf: vec!["autovacuum = off".to_owned()], ..Settings::default() };
    let primary = Cluster::start(&Binaries::major(17).unwrap(), settings).await.unwrap();
    pair::prepare(&primary).await;
    primary.sql("postgres", "CREATE DATABASE bench").await.unwrap();
    pgbench(&primary, &["-i", "-q", "-s", "1"]);
    let agent = Program::start(&watching(&[&primary]));
    let prometheus = Prometheus::start(agent.address());
    let commits = "pg_stat_database_xact_commit{datname=\"bench\"}";
    until("it was scraped three times", || prometheus.value(&format!("count_over_time({commits}[1m])")) >= Some(3.0));
    until("it is up", || prometheus.value("up") == Some(1.0));
    until("all is scraped", || prometheus.value("scrape_samples_scraped") > Some(1_000.0));
    // The text form calls it a counter; OpenMetrics knows no counter without _total.
    let metadata = prometheus.api("targets/metadata?metric=pg_stat_database_xact_commit");
    assert_eq!(metadata[0]["type"], "unknown", "Prometheus asks for OpenMetrics: {metadata}");

    let said = pgbench(&primary, &["-n", "-c", "2", "-T", "12", "-R", "200"]);
    let count = said.lines().find_map(|line| line.strip_prefix("number of transactions actually processed: "));
    let count: f64 = count.unwrap().split('/').next().unwrap().parse().unwrap();
    assert!(count > 1_000.0, "{said}");

    let mut increase = 0.0;
    until("all transactions are counted", || {
        let samples = prometheus.query(&format!("{commits}[2m]"))[0]["values"].as_array().unwrap().clone();
        let (first, last) = (&samples[0], samples.last().unwrap());
        // From the first sample to the last, so that nothing is extrapolated.
        let (start, end) = (first[0].as_f64().unwrap(), last[0].as_f64().unwrap());
        let window = ((end - start) * 1000.0).round() + 1.0;
        let at = format!("query?time={end}&query={}", escape(&format!("increase({commits}[{window}ms])")));
        increase = number(&prometheus.api(&at)["result"][0]["value"][1]);
        assert!((increase - (number(&last[1]) - number(&first[1]))).abs() < 0.01 * count);
        increase > 0.95 * count
    });
    assert!(increase < 1.05 * count, "Prometheus sees {increase} transactions, pgbench {count}");
    assert_eq!(prometheus.failed(), None, "scrapes failed");
}

#[test]
fn prometheus_scrapes_over_tls_with_a_password() {
    let tls = "tls_server_config: {cert_file: good.crt, key_file: good.key}\n";
    let guarded = Guarded::start(NO_SERVERS, &format!("{tls}basic_auth_users: {{prometheus: {SECRET}}}\n"));
    let root = guarded.certificates.path("root.crt").display().to_string();
    let more = |password: &str| {
        format!(
            "scheme: https, tls_config: {{ca_file: {root}}}, basic_auth: {{username: prometheus, password: {password}}}, "
        )
    };
    let prometheus = Prometheus::start_with(guarded.agent.address(), &more("secret"));
    until("it was scraped five times", || prometheus.value("sum_over_time(up[1m])") >= Some(5.0));
    assert_eq!(prometheus.failed(), None, "scrapes failed");
    assert!(prometheus.value("node_load1").is_some());
    drop(prometheus);
    let stranger = Prometheus::start_with(guarded.agent.address(), &more("wrong"));
    until("it tried", || stranger.value("count_over_time(up[1m])") >= Some(2.0));
    assert_eq!(stranger.value("sum_over_time(up[1m])"), Some(0.0));
    assert!(stranger.failed().is_some());
    let targets = stranger.api("targets");
    assert!(targets["activeTargets"][0]["lastError"].as_str().unwrap().contains("401"), "{targets}");
}

/// Names of `node_exporter`, of `postgres_exporter` and of PostgreSQL's parameters that offend promtool's taste: these and
/// no others. A star stands for the rest of the name.
const INHERITED: &[&str] = &[
    "node_memory_*",
    "pg_buffercache_summary_*",
    "pg_locks_count",
    "pg_settings_*",
    "pg_stat_activity_count",
    "pg_stat_archiver_archived_count",
    "pg_stat_archiver_failed_count",
    "pg_stat_database_*",
    "pg_stat_user_tables_*",
    "pg_stat_wal_receiver_*",
    "pg_statio_user_tables_*",
];

fn is_inherited(name: &str) -> bool {
    INHERITED.iter().any(|&known| known.strip_suffix('*').map_or(known == name, |start| name.starts_with(start)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promtool_finds_fault_only_with_inherited_names() {
    majors::on(majors::TWO, |binaries| async move {
        let pair = Pair::start(&binaries).await;
        let agent = Program::start(&watching(&[&pair.primary, &pair.standby]));
        let output = run("promtool", &["check", "metrics"], &agent.facts().text);
        let found = String::from_utf8(output.stderr).unwrap();
        assert_ne!(output.status.code(), Some(1), "{found}");
        let own: Vec<&str> = found.lines().filter(|line| !is_inherited(line.split(' ').next().unwrap())).collect();
        assert_eq!(own, [""; 0]);
    })
    .await;
}
