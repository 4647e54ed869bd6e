//! `pgvitals check --lsb` as a cluster manager reads it: only a server that nobody runs is one that was stopped.

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use tokio::net::TcpListener;

use crate::command::pgvitals;
use crate::pair::{ROLE, prepare};
use crate::program::{Program, watching};

async fn assert_exits(arguments: &[&str], code: i32, part: &str) {
    let ended = pgvitals(&[&["check", "--lsb"], arguments].concat()).await;
    assert!(ended.code == code && ended.stdout.contains(part), "{arguments:?}: expected {code}, {ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_server_that_nobody_runs_is_stopped() {
    let mut cluster = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    prepare(&cluster).await;
    let (folder, port) = (cluster.socket_dir().display().to_string(), cluster.port().to_string());
    let there = ["-H", folder.as_str(), "-p", port.as_str(), "-d", "postgres"];
    let of_role = ["-U", ROLE, there[0], there[1], there[2], there[3], there[4], there[5]];
    let program = Program::start(&watching(&[&cluster]));
    let url = format!("http://{}", program.address());
    let agent = ["--agent", url.as_str()];

    for way in [&of_role[..], &agent] {
        assert_exits(&[&["online"], way].concat(), 0, "ONLINE OK").await;
        assert_exits(&[&["connections", "-w", "0%"], way].concat(), 0, "CONNECTIONS WARNING").await;
        // It runs, and something is wrong with it: it is for the manager to know how many such answers it takes.
        assert_exits(&[&["connections", "-c", "0%"], way].concat(), 4, "CONNECTIONS CRITICAL").await;
        assert_exits(&[&["conections"], way].concat(), 4, "no check").await;
        assert_exits(&[&["connections", "-c", "much"], way].concat(), 4, "expected a number").await;
        assert_exits(&[&["connections", "--much"], way].concat(), 4, "unexpected argument").await;
    }
    // Who is not let in is no reason to restart a server.
    assert_exits(&[&["online", "-U", "nobody_here"], &there[..]].concat(), 0, "ONLINE CRITICAL").await;
    assert_exits(&[&["connections", "-U", "nobody_here"], &there[..]].concat(), 4, "CONNECTIONS UNKNOWN").await;

    cluster.stop().await.unwrap();
    for way in [&of_role[..], &agent] {
        assert_exits(&[&["online"], way].concat(), 3, "ONLINE CRITICAL").await;
        assert_exits(&[&["connections"], way].concat(), 4, "CONNECTIONS UNKNOWN").await;
    }
    // One that does not answer may well run.
    let black_hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = black_hole.local_addr().unwrap().port().to_string();
    let there = ["-H", "127.0.0.1", "-p", &port, "-U", ROLE, "--timeout", "2"];
    assert_exits(&[&["online"], &there[..]].concat(), 4, "ONLINE CRITICAL").await;
    assert_exits(&["online", "--agent", &format!("http://127.0.0.1:{port}"), "--timeout", "1"], 4, "no answer").await;
}
