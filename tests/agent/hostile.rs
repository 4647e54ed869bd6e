//! Names that hurt: of databases, roles, tables, clients and servers. Every face stays whole, and says them as they are.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};

use pgvitals::demo::cluster::{Cluster, Settings};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use crate::client::PSQL;
use crate::majors;
use crate::pair::{self, ROLE, until_true};
use crate::program::{BINARY, Program, get, run};

/// What hurts in the text formats, in JSON, in paths, in Nagios' lines, in pages, in terminals and in SQL.
const NAMES: [&str; 12] = [
    "\"quoted\" 'twice' ''",
    "line\nend 1 1\npg_up 0",
    "carriage\rreturn\ttab\u{1b}[2J\u{7f}\u{1}",
    "{brace=\"}\"} 1 # {a=\"b\"} 2",
    "per%cent %s %n $x $(x) `x`",
    "back\\slash \\n \\",
    "bar | 'label'=0;1;2",
    "<script>alert(1)</script>&amp;",
    "../../../etc/passwd",
    "other",
    "größe 数据库 \u{2028}\u{202e}\u{85}\u{feff}",
    "sixty-three bytes of which the last two are one letter: xxxxxü",
];

/// A definition of one's own that shows what no built-in one does: the text of queries.
const QUERIES: &str = r#"
help = "Queries that run"
labels = ["query"]
[[query]]
since = 10
sql = "SELECT query, 1 AS one FROM pg_catalog.pg_stat_activity WHERE query LIKE '%pg_sleep(3600)%'"
[[metric]]
name = "pg_queries"
type = "gauge"
merge = "sum"
column = "one"
help = "Queries \\ \"that\" run"
"#;

/// Reads every face with a parser that takes no joke, and holds the names against those expected.
const FACES: &str = r#"
import json, re, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

given = json.load(sys.stdin)
expected = set(given["names"])

def labels_of(samples, metric, label):
    return {labels[label] for name, labels in samples if name == metric}

def check(face, samples):
    keys = [(name, tuple(sorted(labels.items()))) for name, labels in samples]
    twins = {key for key in keys if keys.count(key) > 1} if len(keys) != len(set(keys)) else set()
    assert not twins, (face, twins)
    assert len(keys) > 1000, (face, len(keys))
    for metric, label in (("pg_database_size_bytes", "datname"), ("pg_roles_connection_limit", "rolname"),
                          ("pg_stat_activity_oldest_transaction_seconds", "usename")):
        missing = expected - labels_of(samples, metric, label)
        assert not missing, (face, metric, missing)
    assert set(given["servers"]) == labels_of(samples, "pg_up", "server"), face
    assert any(table.endswith('.' + given["table"]) for table in
               labels_of(samples, "pg_stat_progress_vacuum_heap_blks", "relname")), (face, "no vacuum")
    assert len(labels_of(samples, "pg_queries", "query")) >= 2, (face, "no queries")

def flat(families):
    return [(sample.name, sample.labels) for family in families for sample in family.samples]

check("text", flat(text(given["text"])))
for face in ("openmetrics", "once openmetrics"):
    check(face, flat(openmetrics(given[face])))
facts = json.loads(given["once json"])
check("json", [(sample.get("name", family["name"]), sample["labels"]) for family in facts["families"] for sample in family["samples"]])
check("once", flat(text(given["once prometheus"])))

paths = set()
for line in given["once graphite"].splitlines():
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,200}(\.[A-Za-z0-9_-]{1,200})+ -?[0-9.e+-]+ [0-9]{10}", line), line
    path = line.split(" ")[0]
    assert path not in paths, path
    paths.add(path)
assert len(paths) > 1000, len(paths)

verdicts = json.loads(given["checks"])
idle = next(verdict for verdict in verdicts if verdict["check"] == "idle-in-transaction")
assert {finding["labels"]["usename"] for finding in idle["findings"]} >= expected, idle
label = r"('([^']|'')*'|[^' =]+)"
for name, answer in given["check"].items():
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", answer), (name, answer)
    first = answer.split("\n")[0]
    assert first.startswith("PGVITALS ") and first.count("|") <= 1 and len(first.encode()) <= 1000, first
    assert answer.count("|") == first.count("|"), answer
    if "|" in first:
        entries = first.split("|")[1]
        assert re.fullmatch(rf"( {label}=(-?[0-9.]+|U)[a-zA-Z%]*(;[^; ']*)*)+", entries), entries

page = given["page"]
assert "&lt;script&gt;|&#39;&quot;" in page and "<script>|" not in page and "<script>alert(1)" not in page, page
print("well")
"#;

/// A session of this role in this database.
async fn session(cluster: &Cluster, user: &str, dbname: &str, application: &str) -> Client {
    let mut config = tokio_postgres::Config::new();
    config.host_path(cluster.socket_dir()).port(cluster.port()).user(user).dbname(dbname).application_name(application);
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Runs a statement of any bytes in a database without an encoding.
fn run_bytes(cluster: &Cluster, statement: &[u8]) -> Command {
    let mut command = Command::new(PSQL);
    command.env_clear().env("PGCLIENTENCODING", "SQL_ASCII").arg("-Xqc").arg(OsStr::from_bytes(statement));
    command.arg(cluster.dsn("raw"));
    command
}

/// A psql that is waiting for its statement; ended when dropped.
struct Waiting(std::process::Child);

impl Waiting {
    /// What it complains of when its server ends is nobody's concern.
    fn start(mut psql: Command) -> Self {
        Self(psql.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Hostile {
    cluster: Cluster,
    _sessions: Vec<Client>,
    _vacuum: JoinSet<()>,
    _waiting: Vec<Waiting>,
}

/// Everything of everything that hurts, on one cluster.
async fn hostile(binaries: &pgvitals::demo::cluster::Binaries) -> Hostile {
    assert_eq!(NAMES[11].len(), 63);
    let conf = ["track_activity_query_size = 100", "max_wal_senders = 5", "max_replication_slots = 5"];
    let conf = conf.map(str::to_owned).to_vec();
    let cluster = Cluster::start(binaries, Settings { conf, ..Settings::default() }).await.unwrap();
    pair::prepare(&cluster).await;
    let mut sessions = Vec::new();
    for name in NAMES {
        cluster.sql("postgres", &format!("CREATE DATABASE {} TEMPLATE template0", quoted(name))).await.unwrap();
        cluster.sql("postgres", &format!("CREATE ROLE {} LOGIN", quoted(name))).await.unwrap();
        let idle = session(&cluster, name, name, name).await;
        idle.batch_execute("SELECT 1; BEGIN").await.unwrap();
        sessions.push(idle);
    }
    let table = format!("{}.{}", quoted(NAMES[1]), quoted(NAMES[3]));
    for statement in [
        format!("CREATE SCHEMA {}", quoted(NAMES[1])),
        format!("CREATE TABLE {table} AS SELECT repeat('x', 1000) FROM generate_series(1, 2000)"),
        format!("SELECT pg_create_physical_replication_slot('{}')", "x_9".repeat(21)),
        "CREATE DATABASE raw TEMPLATE template0 ENCODING 'SQL_ASCII'".to_owned(),
    ] {
        cluster.sql("postgres", &statement).await.unwrap();
    }
    // Two that become the same once their bytes are mended.
    for statement in
        [b"CREATE DATABASE \"bad \xff\" TEMPLATE template0", b"CREATE DATABASE \"bad \xfe\" TEMPLATE template0"]
    {
        let made = run_bytes(&cluster, statement).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    // Cut after 99 bytes, in the middle of a letter; and bytes that are no letters.
    let cut = "SELECT pg_sleep(3600) --".to_owned() + &"ü".repeat(60);
    let waiting = [cut.as_bytes(), b"SELECT pg_sleep(3600) -- \xff\"\\ | \xc3"];
    let waiting = waiting.map(|statement| Waiting::start(run_bytes(&cluster, statement))).into();
    let vacuum = pair::vacuum_slowly(&cluster, &table).await;
    until_true(&cluster, "SELECT count(*) = 2 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep%' AND datname = 'raw'")
        .await;
    Hostile { cluster, _sessions: sessions, _vacuum: vacuum, _waiting: waiting }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_breaks_a_face() {
    majors::on([10, 14, 18], |binaries| async move {
        let hostile = hostile(&binaries).await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("queries.toml"), QUERIES).unwrap();
        let mut config = format!(
            "checks = {:?}\n[discovery]\nenabled = false\n[history]\ninterval = \"1s\"\n[check.idle-in-transaction]\nwarning = \"0s\"\n",
            folder.path().display().to_string()
        );
        let servers = ["15/main", "<script>|'\"{}=\\ \n\t$;,ü"];
        for (server, dbname) in servers.iter().zip(["postgres", "raw"]) {
            let (host, port) = (hostile.cluster.socket_dir().display().to_string(), hostile.cluster.port());
            let name = serde_json::to_string(server).unwrap();
            config += &format!("[[server]]\nname = {name}\ndsn = \"host={host} port={port} user={ROLE} dbname={dbname}\"\n");
        }
        let agent = Program::start(&config);
        let accept = "Accept: application/openmetrics-text;version=1.0.0\r\n";
        let text = agent.facts().text;
        let found = run("promtool", &["check", "metrics"], &text);
        assert_ne!(found.status.code(), Some(1), "{}", String::from_utf8_lossy(&found.stderr));
        let checks = agent.get("/checks").body;
        let verdicts: Vec<serde_json::Value> = serde_json::from_str(&checks).unwrap();
        let names = verdicts.iter().map(|verdict| verdict["check"].as_str().unwrap().to_owned());
        let check: serde_json::Map<_, _> =
            names.map(|name| (name.clone(), agent.get(&format!("/check/{name}")).body.into())).collect();
        let mut given = serde_json::json!({
            "names": NAMES,
            "servers": servers,
            "table": NAMES[3],
            "text": text,
            "openmetrics": get(agent.address(), "/metrics", accept).body,
            "checks": checks,
            "check": check,
            "page": agent.get("/").body,
        });
        let file = folder.path().join("pgvitals.conf");
        std::fs::write(&file, &config).unwrap();
        for format in ["prometheus", "openmetrics", "graphite", "json"] {
            let output = run(BINARY, &["once", "--format", format, "--config", file.to_str().unwrap()], "");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            given[format!("once {format}")] = String::from_utf8(output.stdout).unwrap().into();
        }
        let output = run("/usr/bin/python3", &["-c", FACES], &given.to_string());
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "PostgreSQL {}: {}", binaries.major, errors.chars().take(4_000).collect::<String>());
        // One event is one line of the log, whatever the names in it.
        let log = agent.log();
        let stamped = |line: &&str| line.starts_with("20");
        assert!(log.lines().all(|line| stamped(&line)), "{log}");
    })
    .await;
}
