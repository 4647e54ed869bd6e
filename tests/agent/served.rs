//! The command lines of `check_postgres` and `check_pgactivity`, answered by the agent as they are by a session of one's own.

use std::time::Instant;

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};

use crate::command::{Ended, pgvitals};
use crate::pair::{self, PATIENCE, ROLE};
use crate::program::{Program, get, watching};

/// A text without its numbers: two sessions never find the same.
fn masked(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if !c.is_ascii_digit() && c != '.' {
            shown.push(c);
        } else if !shown.ends_with('0') {
            shown.push('0');
        }
    }
    shown
}

fn line<'a>(program: &'a str, arguments: &'a [&'a str]) -> Vec<&'a str> {
    [program].into_iter().chain(arguments.iter().copied()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_line_is_answered_by_the_agent_as_by_a_session() {
    let cluster = Cluster::start(&Binaries::major(15).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&cluster).await;
    let agent = Program::start(&watching(&[&cluster]));
    let url = format!("http://{}", agent.address());
    let (folder, port) = (cluster.socket_dir().display().to_string(), cluster.port().to_string());
    let postgres = ["-H", &folder, "-p", &port, "-u", ROLE];
    let pgactivity = ["-h", &folder, "-p", &port, "-U", ROLE, "-d", "postgres"];
    let compare = async |program: &str, there: &[&str], arguments: &str| {
        let arguments: Vec<&str> = there.iter().copied().chain(arguments.split_whitespace()).collect();
        let direct = pgvitals(&line(program, &arguments)).await;
        let by_agent = pgvitals(&line(program, &[&arguments[..], &["--agent", &url]].concat())).await;
        let shown = |ended: &Ended| (ended.code, masked(&ended.stdout), masked(&ended.stderr));
        assert_eq!(shown(&by_agent), shown(&direct), "{program} {arguments:?}");
        by_agent
    };
    for arguments in [
        "--action=connection",
        "--action=version -w 15.0",
        "--action=version -w 14.0",
        "--action=backends",
        "--action=backends -w 1 -c 90%",
        "--action=backends -w 1 -c 50 --include=postgres --showperf=0",
        "--action=backends -w nonsense",
        "--action=timesync",
        "--action=locks -w 1000",
        "--action=txn_time -w 1",
        "--action=prepared_txns",
        "--action=database_size -w 1TB",
        "--action=autovac_freeze",
        "--action=backends --output=mrtg",
        "--action=nothing",
    ] {
        compare("check-postgres", &postgres, arguments).await;
    }
    for arguments in [
        "-s connection",
        "-s backends -w 80% -c 90%",
        "-s backends -w 1 -c 50",
        "-s backends -w 1",
        "-s nothing",
        "-s oldest_2pc -w 1 -c 2",
        "-s longest_query -w 5s -c 10s",
        "-s backends -w 1 -c 50 -F json",
        "--list",
    ] {
        compare("check-pgactivity", &pgactivity, arguments).await;
    }

    let [holder, waiter] = [cluster.client("postgres").await.unwrap(), cluster.client("postgres").await.unwrap()];
    holder.batch_execute("CREATE TABLE held (id int)").await.unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE held; SELECT 'canary'").await.unwrap();
    let waiting = tokio::spawn(async move { waiter.batch_execute("INSERT INTO held SELECT length('canary')").await });
    pair::until_true(&cluster, "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'").await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let arguments = ["--action=lockwait", "-w", "1ms", "--agent", &url];
        let Ended { stdout, .. } = pgvitals(&line("check-postgres", &arguments)).await;
        assert!(!stdout.contains("canary"), "{stdout}");
        if stdout.contains("INSERT INTO held SELECT length(?)") {
            break;
        }
        assert!(Instant::now() < deadline, "{stdout}");
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_sends_is_answered_of_the_watched_server_or_refused() {
    let cluster = Cluster::start(&Binaries::major(15).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&cluster).await;
    let agent = Program::start(&watching(&[&cluster]));
    let url = format!("http://{}", agent.address());
    let asked = |path: &str, arguments: &[&str]| {
        let escape = |text: &&str| format!("arg={}", text.replace('%', "%25").replace('&', "%26").replace(' ', "%20"));
        let query: Vec<String> = arguments.iter().map(escape).collect();
        get(agent.address(), &format!("{path}?{}", query.join("&")), "")
    };
    // What the original keeps in a file between two calls, the agent remembers.
    let ratio = ["-w", "rollbacks=1000", "-c", "rollbacks=2000"];
    let first = asked("/check_pgactivity/commit_ratio", &ratio).body;
    let deadline = Instant::now() + PATIENCE;
    while masked(&asked("/check_pgactivity/commit_ratio", &ratio).body) == masked(&first) {
        assert!(Instant::now() < deadline, "it is always the first call: {first}");
    }
    // The only server that is watched need not be named.
    let answer = asked("/check_postgres/backends", &["-w", "90%"]);
    assert_eq!((answer.status, answer.header("pgvitals-exit-code")), (200, Some("0")), "{}", answer.body);
    assert!(answer.body.starts_with("POSTGRES_BACKENDS OK: DB \"postgres\" "), "{}", answer.body);
    let answer = asked("/check_pgactivity/backends", &["-w", "80%", "-c", "90%"]);
    assert!(answer.body.starts_with("POSTGRES_BACKENDS OK: "), "{}", answer.body);
    for (path, arguments, reason) in [
        ("/check_postgres/custom_query", &["--query=SELECT 1", "-w", "1", "--valtype=integer"][..], "--query"),
        ("/check_postgres/pgbouncer_backends", &[][..], "the action pgbouncer_backends"),
        ("/check_postgres/backends", &["--dbpass=canary"][..], "--dbpass"),
        ("/check_postgres/backends", &["--host=elsewhere"][..], "no server there"),
        ("/check_postgres/backends", &["--dbname=template1"][..], "connected to database postgres, not to template1"),
        ("/check_postgres/backends", &["--dbuser=postgres"][..], "as its own role, not as postgres"),
        ("/check_postgres/backends", &["--symlinks"][..], "--symlinks"),
        (
            "/check_pgactivity/custom_query",
            &["--query", "SELECT 1", "-w", "1", "-c", "2"][..],
            "the service custom_query",
        ),
        ("/check_pgactivity/backends", &["--status-file=/tmp/x", "-w", "1", "-c", "2"][..], "--status-file"),
        ("/check_pgactivity/backends", &["--debug", "-w", "1", "-c", "2"][..], "--debug"),
        ("/check_pgactivity/connection", &["-d", "template1"][..], "connected to database postgres"),
    ] {
        let answer = asked(path, arguments);
        assert_eq!(answer.status, 422, "{path} {arguments:?}: {}", answer.body);
        assert!(answer.header("pgvitals-exit-code").is_some_and(|code| code != "0"), "{path} {arguments:?}");
        assert!(answer.body.contains(reason) && !answer.body.contains("canary"), "{path}: {}", answer.body);
    }
    assert_eq!(get(agent.address(), "/check_postgres/backends?colour=red", "").status, 400);
    assert_eq!(get(agent.address(), "/check_postgres/backends?server=none", "").status, 400);

    drop(cluster);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let lost = pgvitals(&line("check-postgres", &["--action=connection", "--agent", &url])).await;
        if lost.code == 2 || Instant::now() > deadline {
            assert!(lost.code == 2 && lost.stdout.starts_with("POSTGRES_CONNECTION CRITICAL: "), "{}", lost.stdout);
            break;
        }
    }
    let lost = pgvitals(&line("check-postgres", &["--action=backends", "--agent", &url])).await;
    assert!(lost.code == 3 && lost.stdout.starts_with("ERROR: "), "{}", lost.stdout);
    let lost = pgvitals(&line("check-pgactivity", &["-s", "backends", "-w", "1", "-c", "2", "--agent", &url])).await;
    assert!(lost.code == 3 && lost.stdout.contains("UNKNOWN"), "{}", lost.stdout);
}
