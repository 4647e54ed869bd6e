//! Clients of the web server that are many, slow or absurd: none of them keeps another from its answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::program::{BINARY, Program, get, until};

/// The configuration of an agent that is only there to be read.
pub(crate) const NO_SERVERS: &str = "[discovery]\nenabled = false\n";

/// An agent with so many file descriptors.
fn limited(descriptors: u32) -> Program {
    let mut command = Command::new("/usr/bin/prlimit");
    command.args([&format!("--nofile={descriptors}"), BINARY]);
    Program::start_by(command, NO_SERVERS, &[])
}

fn connect(address: SocketAddr, said: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // An agent that has to give up connections may have given up this one.
    let _ = stream.write_all(said.as_bytes());
    stream
}

/// Whether `/healthz` answers on a new connection.
fn is_well(address: SocketAddr) -> bool {
    let mut text = String::new();
    let _ = connect(address, "GET /healthz HTTP/1.0\r\n\r\n").read_to_string(&mut text);
    text.ends_with("\r\n\r\nok\n")
}

#[test]
fn a_thousand_idle_connections_keep_nobody_out() {
    let agent = limited(200);
    let idle: Vec<_> = (0..1_000)
        .map(|n| connect(agent.address(), if n % 2 == 0 { "" } else { "GET /metrics HTTP/1.1\r\nHost: x\r\nX: " }))
        .collect();
    let facts = agent.facts();
    assert!(facts.value("node_load1", &[]).is_some(), "{}", facts.text);
    assert!(facts.value("process_open_fds", &[]) < Some(150.0), "{:?}", facts.value("process_open_fds", &[]));
    assert!(!agent.log().contains("WARN"), "{}", agent.log());
    drop(idle);
}

#[test]
fn an_agent_out_of_file_descriptors_recovers() {
    // A dozen are in use before the first connection, and half of these may be connections.
    let agent = limited(18);
    let idle: Vec<_> = (0..50).map(|_| connect(agent.address(), "")).collect();
    until("it answers beside idle connections", || is_well(agent.address()));
    assert!(agent.log().contains("cannot accept a connection"), "{}", agent.log());
    // One line for each row of failures, and a pause after each failure.
    assert!(agent.log().lines().count() < 200, "{}", agent.log());
    drop(idle);
    until("all is well again", || agent.get("/metrics").body.contains("\nnode_load1 "));
}

#[test]
fn absurd_requests_are_refused_and_nothing_breaks() {
    let agent = Program::start(NO_SERVERS);
    let long = "x".repeat(4_000);
    for path in [
        "/metrics/".to_owned(),
        "//metrics".to_owned(),
        "/check".to_owned(),
        "/check/".to_owned(),
        "/check/%".to_owned(),
        "/check/%zz".to_owned(),
        "/check/%00".to_owned(),
        "/check/%ff%fe".to_owned(),
        "/check/..%2f..%2fetc%2fpasswd".to_owned(),
        "/check/../../etc/passwd".to_owned(),
        "/../etc/passwd".to_owned(),
        format!("/check/{long}"),
        format!("/{}", "../".repeat(1_000)),
        format!("/metrics?{long}"),
        format!("/metrics?{}", "a&".repeat(4_000)),
        format!("/metrics?collect[]={long}"),
        "/metrics?collect[]".to_owned(),
        "/metrics?collect%5B%5D=%ff".to_owned(),
        "/metrics?collect[]=%00".to_owned(),
        "/check/online?w=%".to_owned(),
        format!("/check/online?w={}", "9".repeat(4_000)),
        "/check/online?w=NaN".to_owned(),
        "/check/online?w=1e999999".to_owned(),
        "/check/online?w=1&w=2&x=3".to_owned(),
    ] {
        let answer = get(agent.address(), &path, "");
        assert!((400..500).contains(&answer.status), "{path}: {} {}", answer.status, answer.body);
    }
    for header in ["X-Prometheus-Scrape-Timeout-Seconds: -1e400", "Accept: ;;;,,q=x", "Accept: \u{fe}", "Host: :"] {
        let answer = get(agent.address(), "/healthz", &format!("{header}\r\n"));
        assert_eq!(answer.status, 200, "{header}: {}", answer.body);
    }
    assert!(is_well(agent.address()));
    assert!(!agent.log().contains("panic"), "{}", agent.log());
}

#[test]
fn every_address_given_is_listened_on() {
    let agent = Program::start_by(Command::new(BINARY), NO_SERVERS, &["--web.listen-address=:0"]);
    let mut addresses = Vec::new();
    until("both addresses are in the log", || {
        let log = agent.log();
        let said = log.lines().filter_map(|line| line.split_once("listening address=")?.1.parse().ok());
        addresses = said.collect::<Vec<SocketAddr>>();
        addresses.len() == 2
    });
    for address in addresses {
        assert!(is_well(SocketAddr::from(([127, 0, 0, 1], address.port()))), "{address}");
    }
}
