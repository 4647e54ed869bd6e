//! Every class of failure, as each face of a running agent tells it.

use std::net::TcpListener;
use std::time::Duration;

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{give, let_in_only};
use crate::pair;
use crate::program::{Program, free_port, watching};

/// A cluster, and connection strings that it refuses, by the class of the refusal.
async fn refusing(binaries: &Binaries, language: Option<&str>) -> (Cluster, Vec<(&'static str, String)>) {
    let language = language.map(str::to_owned);
    let server = Cluster::start(binaries, Settings { tcp: true, language, ..Settings::default() }).await.unwrap();
    let hba = ["host all secret 127.0.0.1/32 scram-sha-256", "host all limited,plain 127.0.0.1/32 trust"];
    let_in_only(&server, &hba).await;
    for statement in [
        "SET password_encryption = 'scram-sha-256'; CREATE ROLE secret LOGIN PASSWORD 'right'",
        "CREATE ROLE limited LOGIN CONNECTION LIMIT 0",
        "CREATE ROLE plain LOGIN",
        "CREATE DATABASE closed",
        "REVOKE CONNECT ON DATABASE closed FROM public",
    ] {
        server.sql("postgres", statement).await.unwrap();
    }
    let tcp = format!("host=127.0.0.1 port={}", server.port());
    let refused = vec![
        ("authentication", format!("{tcp} user=secret password=wrong")),
        ("no_pg_hba_entry", format!("{tcp} user=nobody")),
        ("too_many_connections", format!("{tcp} user=limited")),
        ("tls", format!("{tcp} user=plain sslmode=require")),
        ("unknown_database", format!("{tcp} user=plain dbname=gone")),
        ("permission", format!("{tcp} user=plain dbname=closed")),
    ];
    (server, refused)
}

/// Stops a cluster and starts it with these lines in its configuration, with which it takes no connection.
async fn start_closed(cluster: &mut Cluster, conf: &[&str]) {
    cluster.stop().await.unwrap();
    give(cluster, "standby.signal", "");
    give(cluster, "postgresql.auto.conf", conf.join("\n"));
    let started = tokio::time::timeout(Duration::from_millis(500), cluster.start_again()).await;
    assert!(started.is_err(), "it takes connections: {}", cluster.log());
}

async fn cluster(binaries: &Binaries, name: &str, language: Option<&str>) -> Cluster {
    let (name, language) = (name.to_owned(), language.map(str::to_owned));
    let cluster = Cluster::start(binaries, Settings { name, language, ..Settings::default() }).await.unwrap();
    pair::prepare(&cluster).await;
    cluster
}

/// Ends when its last session does, and takes no new one until then.
async fn begin_to_stop(cluster: &Cluster) -> tokio_postgres::Client {
    let last = cluster.client("postgres").await.unwrap();
    let pid = Pid::from_raw(i32::try_from(cluster.pid().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    last
}

/// A configuration with a server for each class, called like it.
fn config(sections: &[(&str, String)]) -> String {
    let section = |(class, dsn): &(&str, String)| format!("[[server]]\nname = {class:?}\ndsn = {dsn:?}\n");
    format!("{}{}", watching(&[]), sections.iter().map(section).collect::<String>())
}

/// Every face tells these classes, and the log each once.
fn assert_told(agent: &Program, classes: &[&str]) {
    for class in classes {
        let labels = [format!("server={class:?}"), format!("class={class:?}")];
        let labels = labels.each_ref().map(String::as_str);
        agent.facts_until(class, |facts| facts.values("pgvitals_server_failure", &labels) == [1.0]);
    }
    let facts = agent.facts();
    assert_eq!(facts.values("pg_up", &[]), vec![0.0; classes.len()]);
    assert_eq!(facts.values("pgvitals_server_failure", &[]).len(), classes.len(), "one class each: {}", facts.text);
    let verdict = agent.get("/check/online");
    assert_eq!(verdict.header("pgvitals-exit-code"), Some("2"), "{}", verdict.body);
    for class in classes {
        assert!(verdict.body.contains(&format!("\nCRITICAL: no connection to {class}: {class}: ")), "{}", verdict.body);
        let line = format!("server is down server={class:?} class={class:?} ");
        assert_eq!(agent.log().matches(&line).count(), 1, "{}", agent.log());
    }
    assert_eq!(agent.log().matches("server is down").count(), classes.len(), "{}", agent.log());
}

fn socket(cluster: &Cluster) -> String {
    format!("host={} port={} user=pgvitals", cluster.socket_dir().display(), cluster.port())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_class_is_told_by_every_face_and_once_by_the_log() {
    let binaries = Binaries::major(17).unwrap();
    let (_server, mut sections) = refusing(&binaries, None).await;
    let mut starting = cluster(&binaries, "starting", None).await;
    start_closed(&mut starting, &["restore_command = 'sleep 600'"]).await;
    let mut closed = cluster(&binaries, "closed", None).await;
    start_closed(&mut closed, &["hot_standby = off"]).await;
    let stopping = cluster(&binaries, "stopping", None).await;
    let _last = begin_to_stop(&stopping).await;
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    sections.extend([
        ("refused", format!("host=127.0.0.1 port={} user=x", free_port())),
        ("timeout", format!("host=127.0.0.1 port={} user=x", silent.local_addr().unwrap().port())),
        ("starting_up", socket(&starting)),
        ("hot_standby_off", socket(&closed)),
        ("shutting_down", socket(&stopping)),
    ]);
    let agent = Program::start(&config(&sections));
    let classes: Vec<&str> = sections.iter().map(|(class, _)| *class).collect();
    assert_told(&agent, &classes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_language_of_a_server_makes_no_difference_but_one() {
    // Debian's own, which brings translations.
    let binaries = Binaries::major(15).unwrap();
    let (server, mut sections) = refusing(&binaries, Some("de")).await;
    let stopping = cluster(&binaries, "stopping", Some("de")).await;
    let _last = begin_to_stop(&stopping).await;
    sections.push(("not_accepting", socket(&stopping)));
    let agent = Program::start(&config(&sections));
    let classes: Vec<&str> = sections.iter().map(|(class, _)| *class).collect();
    assert_told(&agent, &classes);
    assert!(server.log().contains("existiert nicht"), "it speaks German: {}", server.log());
}
