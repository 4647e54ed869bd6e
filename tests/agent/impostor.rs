//! What listens at a server's address may be anything: its answers are changed at random, and we neither fall nor wait.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pgvitals::server::{ConnectOptions, Environment, Session, TlsCache};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config as ProptestConfig, TestRunner};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::client::{self, LIMIT};
use crate::program::Program;

/// What one of our sessions may take on a server that says nothing.
const SHORT: Duration = Duration::from_millis(150);
/// Time for the machine, not for us.
const HANG: Duration = Duration::from_secs(30);
/// A panic in one of our tasks would be no failure of the test: Tokio catches it.
const THREAD: &str = "answered";

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// What becomes of an answer.
#[derive(Clone, Debug)]
enum Change {
    Flip(u8),
    /// Writes this number where the length of a message may be.
    Length(u32),
    Insert(Vec<u8>),
    Remove(usize),
    /// Says it so many times.
    Repeat(usize),
}

/// One conversation: the changes of each answer, and whether the server goes on to listen after its last word.
#[derive(Clone, Debug)]
struct Script {
    changes: Vec<(prop::sample::Index, prop::sample::Index, Change)>,
    last: prop::sample::Index,
    stays: bool,
}

fn scripts() -> impl Strategy<Value = Script> {
    let length = prop_oneof![Just(0), Just(3), Just(4), Just(5), Just(0x7fff_ffff), Just(u32::MAX), 0_u32..300];
    let change = prop_oneof![
        4 => any::<u8>().prop_map(Change::Flip),
        4 => length.prop_map(Change::Length),
        2 => vec(any::<u8>(), 1..20).prop_map(Change::Insert),
        2 => (1_usize..30).prop_map(Change::Remove),
        1 => (2_usize..50).prop_map(Change::Repeat),
    ];
    let index = any::<prop::sample::Index>;
    (vec((index(), index(), change), 1..5), index(), prop::bool::weighted(0.1))
        .prop_map(|(changes, last, stays)| Script { changes, last, stays })
}

/// The answers with the changes of a script.
fn changed(answers: &[Vec<u8>], script: &Script) -> Vec<Vec<u8>> {
    let mut answers = answers.to_vec();
    for (which, place, change) in &script.changes {
        let which = which.index(answers.len());
        let answer = &mut answers[which];
        let at = place.index(answer.len() + 1);
        match change {
            Change::Flip(mask) => answer.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= mask),
            Change::Length(length) => {
                // The messages begin where the lengths before them say so.
                let mut start = 0;
                while let Some(next) = after(answer, start).filter(|next| *next <= at) {
                    start = next;
                }
                let bytes = length.to_be_bytes();
                answer.iter_mut().skip(start + 1).zip(bytes).for_each(|(old, new)| *old = new);
            }
            Change::Insert(bytes) => _ = answer.splice(at..at, bytes.iter().copied()),
            Change::Remove(count) => _ = answer.drain(at..answer.len().min(at + count)),
            Change::Repeat(times) => *answer = answer.repeat(*times),
        }
    }
    answers
}

/// Where the message after the one at `start` begins.
fn after(answer: &[u8], start: usize) -> Option<usize> {
    let length = answer.get(start + 1..start + 5)?;
    start.checked_add(1 + usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?)
}

/// Speaks as the script has it: one answer for each thing that is said to it.
async fn play(listener: &TcpListener, answers: &[Vec<u8>], script: &Script) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut heard = [0; 4096];
    for answer in answers.iter().take(1 + script.last.index(answers.len())) {
        if !matches!(stream.read(&mut heard).await, Ok(1..)) || stream.write_all(answer).await.is_err() {
            return;
        }
    }
    while script.stays && matches!(stream.read(&mut heard).await, Ok(1..)) {}
}

/// The answers of a real server to all that a session of ours says, as they come through a proxy.
async fn recorded(server: &pgvitals::demo::cluster::Cluster, user: &str) -> Vec<Vec<u8>> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dsn = format!("{} user={user} password=secret sslmode=disable", address(&listener));
    let proxy = async {
        let mut answers: Vec<Vec<u8>> = Vec::new();
        let (mut ours, _) = listener.accept().await.unwrap();
        let mut theirs = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
        let (mut said, mut answer, mut quiet) = (vec![0; 65536], vec![0; 65536], true);
        loop {
            tokio::select! {
                read = ours.read(&mut said) => match read {
                    Ok(count @ 1..) => {
                        quiet = true;
                        theirs.write_all(&said[..count]).await.unwrap();
                    }
                    _ => return answers,
                },
                read = theirs.read(&mut answer) => {
                    let Ok(count @ 1..) = read else { return answers };
                    if std::mem::take(&mut quiet) {
                        answers.push(Vec::new());
                    }
                    answers.last_mut().unwrap().extend_from_slice(&answer[..count]);
                    ours.write_all(&answer[..count]).await.unwrap();
                }
            }
        }
    };
    let (answers, talked) = tokio::join!(proxy, talk(&dsn, LIMIT));
    talked.unwrap();
    answers
}

fn address(listener: &TcpListener) -> String {
    format!("host=127.0.0.1 port={} dbname=postgres", listener.local_addr().unwrap().port())
}

fn options(dsn: &str) -> ConnectOptions {
    ConnectOptions::parse(dsn, &Environment::new(|_| None)).unwrap()
}

/// A session and a query of many kinds of values.
async fn talk(dsn: &str, limit: Duration) -> Result<usize, String> {
    let opened = Session::open(&options(dsn), limit, &TlsCache::default()).await;
    let mut session = opened.map_err(|failure| failure.to_string())?;
    let sql = "SELECT n, NULL AS nothing, repeat('x', n) AS text FROM pg_catalog.generate_series(1, 20) AS n";
    let rows = session.query(sql, limit, limit).await.map_err(|failure| failure.to_string())?;
    assert!(rows.rows().all(|row| row.count() == rows.columns().len()));
    Ok(rows.len())
}

fn count_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name().is_some_and(|name| name.starts_with(THREAD)) {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
        before(panic);
    }));
}

#[test]
fn a_server_that_answers_anything_is_survived() {
    count_panics();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).thread_name(THREAD).enable_all().build().unwrap();
    let server = runtime
        .block_on(client::start(&["host all scram 127.0.0.1/32 scram-sha-256", "host all md5 127.0.0.1/32 md5"]));
    let roles = "SET password_encryption = 'scram-sha-256'; SET scram_iterations = 2; CREATE ROLE scram LOGIN PASSWORD \
                 'secret'; SET password_encryption = md5; CREATE ROLE md5 LOGIN PASSWORD 'secret'";
    runtime.block_on(server.sql("postgres", roles)).unwrap();
    for (user, mode, cases) in
        [("postgres", "disable", 100), ("scram", "disable", 50), ("md5", "disable", 20), ("postgres", "prefer", 20)]
    {
        let mut answers = runtime.block_on(recorded(&server, user));
        if mode == "prefer" {
            answers.insert(0, b"S".to_vec());
        }
        let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
        let outcome = TestRunner::new(config).run(&scripts(), |script| {
            let answers = changed(&answers, &script);
            // On the runtime's threads, whose panics are counted, and with a listener of its own.
            let ended = runtime.block_on(runtime.spawn(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let dsn = format!("{} user={user} password=secret sslmode={mode}", address(&listener));
                let asked = Instant::now();
                tokio::select! {
                    talked = talk(&dsn, SHORT) => drop(talked),
                    () = async { loop { play(&listener, &answers, &script).await } } => {}
                }
                asked.elapsed()
            }));
            prop_assert!(ended.is_ok(), "it panicked");
            prop_assert!(ended.unwrap() < HANG);
            Ok(())
        });
        assert!(outcome.is_ok(), "{user} {mode}: {outcome:?}");
    }
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
}

/// One who wants our password, or our time: what a stranger may ask before he has proved anything.
#[tokio::test]
async fn a_server_that_asks_for_endless_work_is_refused() {
    let message = |code: u32, text: &str| {
        let length = u32::try_from(text.len() + 8).unwrap();
        [b"R", &length.to_be_bytes()[..], &code.to_be_bytes(), text.as_bytes()].concat()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let play = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = [0; 4096];
        let _ = stream.read(&mut heard).await.unwrap();
        stream.write_all(&message(10, "SCRAM-SHA-256\0\0")).await.unwrap();
        let count = stream.read(&mut heard).await.unwrap();
        let said = String::from_utf8_lossy(&heard[..count]).into_owned();
        let nonce = said.split_once("r=").unwrap().1;
        stream.write_all(&message(11, &format!("r={nonce}x,s=c2FsdA==,i=4294967295"))).await.unwrap();
        let _ = stream.read(&mut heard).await;
    };
    let dsn = format!("{} user=x password=canary sslmode=disable", address(&listener));
    let asked = Instant::now();
    let (options, tls) = (options(&dsn), TlsCache::default());
    let (opened, ()) = tokio::join!(Session::open(&options, LIMIT, &tls), play);
    let failure = opened.unwrap_err();
    assert!(failure.to_string().contains("iteration count") && asked.elapsed() < LIMIT, "{failure}");
}

#[test]
fn whatever_is_asked_over_http_is_answered() {
    let agent = Program::start("[discovery]\nenabled = false\n[host]\nenabled = false\n");
    let word = || "[a-z0-9@:~.%\\[\\]<>'\"+/-]{0,12}|%[0-9a-fG]{2}|\\PC{0,4}";
    let path = prop_oneof![
        Just("/metrics?collect[]=".to_owned()),
        Just("/check/online?w=".to_owned()),
        Just("/check/connections?c=".to_owned()),
        Just("/check/".to_owned()),
        Just("/probe?target=".to_owned()),
        word().prop_map(|word| format!("/{word}?")),
    ];
    let request = (path, vec(word(), 0..4), prop::sample::select(&["&w=", "&c=", "&", "=", "?", "%00"][..]), word());
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&request, |(path, words, between, header)| {
        let target: String =
            (path + &words.join(between)).chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect();
        let mut stream = std::net::TcpStream::connect(agent.address()).unwrap();
        stream.set_read_timeout(Some(HANG)).unwrap();
        let asked = format!(
            "GET {target} HTTP/1.0\r\nX-Prometheus-Scrape-Timeout-Seconds: {header}\r\nAccept: {header}\r\n\r\n"
        );
        stream.write_all(asked.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let code = answer.split(' ').nth(1).unwrap_or_default();
        prop_assert!(["200", "400", "404"].contains(&code), "{answer}");
        Ok(())
    });
    assert!(outcome.is_ok(), "{outcome:?}");
    assert!(!agent.log().contains("panicked"), "{}", agent.log());
    assert_eq!(agent.get("/healthz").body, "ok\n");
}
