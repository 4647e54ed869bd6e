//! What it takes to see the facts of sessions, their locks, their settings, and the commands that tell their progress.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use pgvitals::demo::cluster::Cluster;
use tokio::process::Command;

use super::{Kept, until_true};
use crate::client::{give, reload};

/// More lines for the primary's postgresql.conf.
pub(super) fn conf(major: u32) -> Vec<&'static str> {
    let mut conf = vec!["max_prepared_transactions = 5"];
    if major >= 18 {
        conf.push("track_cost_delay_timing = on");
    }
    conf
}

/// On the primary alone, before any transaction stays open.
pub(super) async fn prepare(primary: &Cluster) {
    for statement in [
        "CREATE TABLE wide WITH (autovacuum_enabled = false) AS \
            SELECT repeat('x', 1000) AS text FROM generate_series(1, 2000)",
        // Whoever computes it comes to no end, unless he knows the word.
        "CREATE FUNCTION dreamt(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$BEGIN \
            IF pg_catalog.current_setting('pair.awake', true) IS DISTINCT FROM 'yes' THEN \
              PERFORM pg_catalog.pg_sleep(3600); END IF; RETURN $1; END$$",
        "SET pair.awake = 'yes'; \
            CREATE TABLE rewritten (id int) WITH (autovacuum_enabled = false); \
            CREATE INDEX ON rewritten (dreamt(id)); INSERT INTO rewritten VALUES (1); \
            CREATE TABLE analyzed (id int) WITH (autovacuum_analyze_threshold = 0, autovacuum_analyze_scale_factor = 0); \
            CREATE INDEX ON analyzed (dreamt(id)); INSERT INTO analyzed VALUES (1)",
        "CREATE TABLE indexed (id int)",
        "CREATE TABLE copied (text text)",
        "CREATE TABLE torn (id int)",
        "CREATE ROLE bounded LOGIN CONNECTION LIMIT 5",
        "ALTER DATABASE postgres CONNECTION LIMIT 50",
    ] {
        primary.sql("postgres", statement).await.unwrap();
    }
    until_true(primary, "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'autovacuum: %public.analyzed%'")
        .await;
    encrypt(primary).await;
    if primary.major() >= 12 {
        tear(primary).await;
    }
}

/// Reads a page that is not what was written.
async fn tear(primary: &Cluster) {
    let path = primary.sql("postgres", "SELECT pg_relation_filepath('torn')").await.unwrap().concat().pop().flatten();
    append(&primary.data().join(path.unwrap()), &[b'x'; 8192]);
    // A damaged page is an error, unless it is to be taken for an empty one.
    primary.sql("postgres", "SET zero_damaged_pages = on; SELECT count(*) FROM torn").await.unwrap();
    primary.sql("postgres", "DROP TABLE torn").await.unwrap();
}

fn append(file: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(file).unwrap().write_all(bytes).unwrap();
}

/// Has it speak TLS with who comes over TCP, and its standbys too.
async fn encrypt(primary: &Cluster) {
    let folder = tempfile::tempdir().unwrap();
    let line = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout server.key -out server.crt \
                -days 2 -subj /CN=localhost";
    let made = Command::new("openssl").args(line.split_whitespace()).current_dir(folder.path()).output().await.unwrap();
    assert!(made.status.success(), "{made:?}");
    for name in ["server.crt", "server.key"] {
        give(primary, name, std::fs::read(folder.path().join(name)).unwrap());
    }
    primary.sql("postgres", "ALTER SYSTEM SET ssl = on").await.unwrap();
    reload(primary).await;
}

/// Once the standby streams.
pub(super) async fn provoke(primary: &Cluster, standby: &Cluster, kept: &mut Kept) {
    let forgotten = "BEGIN; INSERT INTO seen VALUES (1); PREPARE TRANSACTION 'forgotten'";
    primary.sql("postgres", forgotten).await.unwrap();
    kept.hold(primary, "BEGIN; SELECT txid_current()").await;
    kept.hold(primary, "BEGIN; LOCK TABLE indexed IN ROW EXCLUSIVE MODE").await;
    // Each of them waits, for a lock, for the vacuum's limit, for time: none ends before its cluster.
    kept.run(primary, &["INSERT INTO seen VALUES (1)"]).await;
    kept.run(
        primary,
        &["SET vacuum_cost_delay = 100", "SET vacuum_cost_limit = 1", "SET vacuum_cost_page_hit = 10", "VACUUM wide"],
    )
    .await;
    kept.run(primary, &["CREATE INDEX CONCURRENTLY ON indexed (id)"]).await;
    kept.run(primary, &["VACUUM FULL rewritten"]).await;
    kept.run(standby, &["SELECT pg_sleep(3600)"]).await;
    kept.hold(standby, "SELECT 1").await;
    for cluster in [primary, standby] {
        kept.psql(&format!("{} sslmode=require", cluster.tcp_dsn("postgres")), "SELECT pg_sleep(3600)");
    }
    kept.psql(&primary.dsn("postgres"), "COPY copied FROM STDIN");
    if primary.major() >= 14 {
        // A file that every data folder has.
        kept.run(primary, &["COPY copied FROM 'PG_VERSION' WHERE pg_sleep(3600) IS NULL"]).await;
    }
    let backup = match primary.major() {
        ..15 => "BASE_BACKUP LABEL 'b' PROGRESS FAST MAX_RATE 32",
        _ => "BASE_BACKUP (LABEL 'b', PROGRESS, CHECKPOINT 'fast', MAX_RATE 32)",
    };
    kept.psql(&format!("{} replication=1 application_name=backup", primary.dsn("postgres")), backup);
    if primary.major() < 15 {
        primary.sql("postgres", "SELECT pg_start_backup('exclusive', true)").await.unwrap();
    }
    primary.sql("postgres", "ALTER SYSTEM SET max_files_per_process = 999").await.unwrap();
    reload(primary).await;
    // Nobody reloads them after this, and views read them as they are.
    for (file, line) in
        [("cluster.conf", "work_mem = much"), ("pg_hba.conf", "whatever"), ("pg_ident.conf", "whatever")]
    {
        append(&primary.data().join(file), format!("\n{line}\n").as_bytes());
    }
}
