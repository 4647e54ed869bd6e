//! Servers on other hosts, of which this host's facts would not be true.

use crate::client;
use crate::command::pgvitals_in;
use crate::program::Program;

/// An address for documentation (RFC 5737), which no machine has.
const ELSEWHERE: &str = "203.0.113.7";
const SKIPPED: &str = "outcome=\"skipped\",reason=\"no watched server is on this host; host.enabled = true shows its facts \
                       all the same\"";

fn config(hosts: &[&str], host: &str) -> String {
    let server = |(at, host): (usize, &&str)| {
        format!("[[server]]\nname = \"{at}\"\ndsn = \"host={host} user=x connect_timeout=1\"\n")
    };
    format!("{host}\n{}", hosts.iter().enumerate().map(server).collect::<String>())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_without_the_servers_is_left_out_unless_it_is_asked_for() {
    let agent = Program::start(&config(&[ELSEWHERE, "no.such.name.invalid"], ""));
    for _ in 0..3 {
        let facts = agent.facts();
        assert_eq!(facts.values("pg_up", &[]), [0.0, 0.0]);
        assert!(!facts.text.contains("\nnode_"), "{}", facts.text);
        let skipped = facts.value("pgvitals_collector_absent", &["collector=\"loadavg\"", SKIPPED]);
        assert_eq!(skipped, Some(1.0), "{}", facts.text);
    }
    assert_eq!(agent.log().matches("host left out").count(), 1, "{}", agent.log());
    // A check of this host's load was meant for a server's.
    assert!(agent.get("/check/load").body.contains("UNKNOWN"), "{}", agent.get("/check/load").body);

    agent.reload(&config(&[ELSEWHERE], "[host]\nenabled = true"));
    agent.facts_until("the host is shown", |facts| facts.value("node_load1", &[]).is_some());
    // One server on this host is enough, whether it answers or not.
    agent.reload(&config(&[ELSEWHERE, "/nowhere"], "host.enabled = \"auto\""));
    agent.facts_until("the host is shown", |facts| facts.values("pg_up", &[]).len() == 2);
    assert!(agent.facts().value("node_load1", &[]).is_some());
}

#[tokio::test]
async fn a_server_of_this_host_brings_the_host_along_in_the_very_first_reading() {
    let server = client::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    for dsn in [
        server.tcp_dsn("postgres"),
        server.dsn("postgres"),
        format!("host=localhost port={} user=postgres", server.port()),
    ] {
        let once = pgvitals_in(folder.path(), &["once", "--dsn", &dsn, "loadavg"]).await;
        assert!(once.stdout.contains("\nnode_load1 "), "{dsn}: {once:?}");
    }
    let once = pgvitals_in(folder.path(), &["once", "--dsn", &format!("host={ELSEWHERE} user=x"), "loadavg"]).await;
    assert!(!once.stdout.contains("node_"), "{once:?}");
}
