use std::process::Command;

use pgvitals::demo::cluster::{Cluster, Settings};
use tempfile::TempDir;

use super::Group;
use crate::client;
use crate::majors;
use crate::program::BINARY;

pub(super) const GROUP: Group = Group {
    conf: &[
        "autovacuum = off",
        "archive_mode = on",
        "archive_command = 'false'",
        "logging_collector = on",
        "log_filename = 'server.log'",
    ],
    prepare: &[
        ("postgres", "CREATE ROLE owner"),
        ("postgres", "CREATE DATABASE copy"),
        ("app", "CREATE TABLE t (id int PRIMARY KEY, v text)"),
        (
            "app",
            "INSERT INTO t SELECT i, repeat('x', 50) FROM generate_series(1, 20000) AS i; CREATE INDEX t_v ON t (v, id)",
        ),
        (
            "app",
            "CREATE TABLE bare AS SELECT * FROM t LIMIT 15000; DELETE FROM bare WHERE id % 2 = 0; DELETE FROM t WHERE id % 2 = 0",
        ),
        ("app", "CREATE MATERIALIZED VIEW m AS SELECT * FROM t LIMIT 100; CREATE TABLE \"it's odd\" (id int)"),
        (
            "app",
            "ALTER TABLE bare OWNER TO owner; CREATE TABLE mark (id int PRIMARY KEY, v text); INSERT INTO mark VALUES (1, 'a')",
        ),
        (
            "app",
            "CREATE FUNCTION old() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN old; END'; \
             CREATE TABLE stuck (id int PRIMARY KEY, v text); INSERT INTO stuck VALUES (1, 'a'); \
             CREATE TRIGGER old BEFORE UPDATE ON stuck FOR EACH ROW EXECUTE FUNCTION old()",
        ),
        ("app", "CREATE VIEW same AS SELECT 1 AS one; CREATE SCHEMA extra; CREATE TABLE extra.here (id int)"),
        (
            "app",
            "CREATE FUNCTION ls_wal() RETURNS SETOF text SECURITY DEFINER LANGUAGE sql AS 'SELECT name FROM pg_ls_waldir()'",
        ),
        (
            "copy",
            "CREATE TABLE t (id bigint, v text NOT NULL); CREATE TABLE bare (v text, id int); CREATE VIEW same AS SELECT 1 AS one",
        ),
        ("copy", "GRANT SELECT ON bare TO owner; CREATE TABLE more (id int)"),
        (
            "postgres",
            "SELECT pg_create_physical_replication_slot('kept', true), pg_create_physical_replication_slot('unused')",
        ),
        ("app", "VACUUM ANALYZE"),
        ("postgres", "SELECT pg_switch_wal()"),
        ("postgres", "CREATE TABLE a (); SELECT pg_switch_wal()"),
        ("postgres", "CREATE TABLE b (); SELECT pg_switch_wal()"),
        ("postgres", "CREATE TABLE c ()"),
    ],
    standby: &["SELECT pg_create_physical_replication_slot('kept', true)"],
    hold: &[],
    programs: &[],
    cases: &[
        "relation_size -db app",
        "each: relation_size -db app -w 1kB -c 1GB --include=t,t_v --excludeuser=owner",
        "each: relation_size -db app -c 1kB --exclude=~^pg_ --includeuser=postgres",
        "each: relation_size -db app -w 1GB",
        "each: relation_size -db app -w many",
        "each: table_size -db app -w 1kB -c 1GB --include=t,t_v --excludeuser=owner",
        "each: table_size -db app -c 1kB --exclude=~^pg_ --includeuser=postgres",
        "each: table_size -db app -w 1GB",
        "each: table_size -db app -w many",
        "each: index_size -db app -w 1kB -c 1GB --include=t,t_v --excludeuser=owner",
        "each: index_size -db app -c 1kB --exclude=~^pg_ --includeuser=postgres",
        "each: index_size -db app -w 1GB",
        "each: index_size -db app -w many",
        "each: indexes_size -db app -w 1kB -c 1GB --include=t,t_v --excludeuser=owner",
        "each: indexes_size -db app -c 1kB --exclude=~^pg_ --includeuser=postgres",
        "each: indexes_size -db app -w 1GB",
        "each: indexes_size -db app -w many",
        "each: total_relation_size -db app -w 1kB -c 1GB --include=t,t_v --excludeuser=owner",
        "each: total_relation_size -db app -c 1kB --exclude=~^pg_ --includeuser=postgres",
        "each: total_relation_size -db app -w 1GB",
        "each: total_relation_size -db app -w many",
        "relation_size -db app,postgres -c 1kB --perflimit=3",
        "relation_size -db app -w 1GB --include=t,m,it",
        "relation_size -db app -w 1GB --exclude=pg_catalog.,pg_toast.,information_schema.",
        "relation_size -db app -w 1GB --include=nothing",
        "relation_size -db app -w 1GB --includeuser=owner",
        "relation_size -db app -w 1GB --includeuser=nobody",
        "relation_size -db app -w 1GB --includeuser=owner --perflimit=1",
        "relation_size -db app -w 1GB --include=m",
        "relation_size -db app -w 2GB -c 1GB",
        "relation_size -db app --output=mrtg",
        "plain: relation_size -db app -w 1GB --include=t",
        "index_size -db app --output=mrtg",
        "table_size -db app -w 10kB -c 1GB --include='~odd'",
        "table_size -db app -w 10GB --perflimit=2",
        "indexes_size -db app -w 10kB --include=t,bare",
        "total_relation_size -db app -w 10kB -c 20kB --include=t,m,bare",
        "bloat -db app --include=bare",
        "each: bloat -db app --include=bare -w 10kB -c 1GB",
        "each: bloat -db app --include=bare -w 10kB -c 20kB",
        "each: bloat -db app --exclude=~^[^b] -w 1GB",
        "each: bloat -db app -w x",
        "bloat -db app --include=bare -w 150% -c 500%",
        "bloat -db app --include=bare -w '10kB and 150%' -c '1GB or 900%'",
        "bloat -db app --include=t --output=simple",
        "bloat -db app --include=nothing",
        "bloat -db app --include=t -w 10kB",
        "bloat -db app -w 1GB",
        "bloat -db app --output=mrtg",
        "disk_space",
        "each: disk_space -w 1kB -c 999PB --exclude=~^nothing",
        "each: disk_space -w 999PB --include=~^.",
        "each: disk_space -w x",
        "each: disk_space -c 1kB",
        "disk_space -w '1kB and 1%' -c '999PB or 200%'",
        "disk_space --include=nothing",
        "disk_space --output=mrtg --mrtg=percent",
        "plain: disk_space",
        "wal_files",
        "each: wal_files -w 1 -c 100",
        "each: wal_files -c 1",
        "each: wal_files -w 0",
        "wal_files --output=mrtg",
        "standby: wal_files -w 90 -c 100",
        "plain: wal_files",
        "plain: wal_files -db app --lsfunc=ls_wal -w 90 -c 100",
        "archive_ready -w 1 -c 100",
        "archive_ready -w 1 -c 2",
        "each: archive_ready -w 100",
        "each: archive_ready -w x",
        "plain: archive_ready",
        "bare: checkpoint --datadir={standby_data} -w 1h -c 2h",
        "bare: checkpoint --datadir={standby_data} -w 0 -c 2h",
        "bare: checkpoint --datadir={standby_data} -c 0",
        "bare: checkpoint --datadir={standby_data} -w x",
        "bare: cluster_id --datadir={standby_data} -c {known}",
        "bare: cluster_id --datadir={standby_data} -c 123",
        "bare: cluster_id --datadir={standby_data} -w 123",
        "bare: cluster_id --datadir={standby_data} -c x",
        "bare: checkpoint --datadir={data}",
        "bare: checkpoint --datadir={data} -w 1h -c 2h",
        "bare: checkpoint --datadir={data} -w 0",
        "bare: checkpoint --datadir={data} -w 1h --assume-prod",
        "bare: checkpoint --datadir={data} -w 1h --assume-standby-mode",
        "bare: checkpoint --datadir={data} -w 1h --output=mrtg",
        "bare: checkpoint --datadir={folder} -w 1h",
        "bare: checkpoint --datadir=/nowhere -w 1h",
        "bare: checkpoint -w 1h",
        "bare: cluster_id --datadir={data} -c 0",
        "bare: cluster_id --datadir={data} -c {known}",
        "bare: cluster_id --datadir={data} -c 123",
        "bare: cluster_id --datadir={data} -w 123",
        "bare: cluster_id --datadir={data} -w 1 -c 1",
        "bare: cluster_id --datadir={data}",
        "bare: cluster_id --datadir={data} -c x",
        "bare: cluster_id --datadir={data} --output=mrtg --mrtg=123",
        "bare: cluster_id --datadir={data} --output=mrtg",
        "wal_files -w 90 -c 100 --datadir={data} --assume-standby-mode",
        "wal_files -w 90 -c 100 --assume-prod",
        "logfile --logfile={data}/log/server.log",
        "logfile --logfile={data}/log/server.log --output=mrtg",
        "logfile --logfile={data}/PG_VERSION -t 1",
        "logfile --logfile={data}/PG_VERSION -t 1 -w 1",
        "logfile --logfile={data}/nowhere",
        "logfile --logfile={data}/nowhere -w 1",
        "standby: logfile --logfile={standby_data}/log/server.log",
        "standby: logfile --logfile={standby_data}/PG_VERSION -t 1",
        "standby: logfile --logfile={standby_data}/PG_VERSION -t 1 -w 1",
        "standby: logfile --logfile={standby_data}/nowhere",
        "logfile --logfile=$(id)",
        "plain: logfile --logfile={data}/log/server.log",
        "logfile -c 1",
        "replication_slots",
        "replication_slots -w 1GB -c 2GB",
        "each: replication_slots -w 1 -c 2GB --include=kept",
        "each: replication_slots -c 1 --exclude=unused",
        "each: replication_slots -w x",
        "standby: replication_slots -w 1GB",
        "replication_slots -c 1GB --include=kept",
        "replication_slots -c 1GB --include=nothing",
        "replication_slots -c 1GB --perflimit=1",
        "replication_slots --output=mrtg",
        "plain: replication_slots -c 1GB",
        "hot_standby_delay",
        "hot_standby_delay -c 1000000",
        "standby: hot_standby_delay -c 1000000",
        "bare: hot_standby_delay {pair} -w 1000000 -c 2000000",
        "bare: hot_standby_delay -H {standby_socket},{socket} -p {standby_port},{port} -w '1000000 and 2 h'",
        "bare: hot_standby_delay {pair} -c '2 h'",
        "bare: hot_standby_delay {pair} -c -1",
        "bare: hot_standby_delay {pair} -w -1",
        "bare: hot_standby_delay {pair} -c 1 --output=mrtg",
        "replicate_row",
        "bare: replicate_row -db app {pair} -w 1 --showtime=0 --repinfo=stuck,id,1,v,a,b",
        "bare: replicate_row -db app {pair} -c 1 --showtime=0 --repinfo=stuck,id,1,v,a,b",
        "replicate_row -w 10",
        "replicate_row -w 10 --repinfo=mark,id,1",
        "replicate_row -w 10 --repinfo=mark,id,1,v,a,a",
        "replicate_row -db app -w 10 --repinfo=mark,id,1,v,a,b",
        "bare: replicate_row -db app {pair} -w 20 --showtime=0 --repinfo=mark,id,1,v,a,b",
        "bare: replicate_row -db app {pair} -c 20 --showtime=0 --repinfo=mark,id,1,v,c,d",
        "bare: replicate_row -db app {pair} -c 20 --repinfo=none,id,1,v,c,d",
        "each: same_schema -db app,app --object=table,view",
        "same_schema -db app,copy --object=table,view,schema,index",
        "standby: same_schema -db app,copy --object=table",
        "same_schema -db app,copy --object=table --filter=noperm,notable=^extra",
        "each: same_schema -db app,copy --object=view",
        "each: same_schema -db app,nope --object=table",
        "same_schema -db app,copy --object=nothing",
        "same_schema -db app,copy --suffix=x",
    ],
};

/// What is printed, and the exit code.
fn answer(folder: &TempDir, cluster: &Cluster, options: &[&str]) -> (String, i32) {
    let output = Command::new(BINARY)
        .args(["check-postgres", "--no-check_postgresrc", "--action=same_schema", "-db", "app"])
        .args(["-H", &cluster.socket_dir().display().to_string(), "-p", &cluster.port().to_string()])
        .args(options)
        .env_clear()
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
}

#[tokio::test]
async fn a_schema_is_held_against_what_it_was() {
    let server = client::start_with(Settings::default()).await;
    server.sql("postgres", "CREATE DATABASE app").await.unwrap();
    server.sql("app", "CREATE TABLE t (id serial, v text); CREATE VIEW w AS SELECT id FROM t").await.unwrap();
    server.sql("app", "CREATE FUNCTION f(a int, b bigint[]) RETURNS int LANGUAGE sql AS 'SELECT\n  1'").await.unwrap();
    let folder = TempDir::new().unwrap();
    let (created, code) = answer(&folder, &server, &[]);
    assert!(created.starts_with("Created file check_postgres.audit.port.") && code == 0, "{created}");
    server.sql("app", "INSERT INTO t (v) VALUES ('the sequence goes on'); ANALYZE").await.unwrap();
    let (same, code) = answer(&folder, &server, &[]);
    assert!(same.contains("All databases have identical items") && code == 0, "{same}");
    server.sql("app", "ALTER TABLE t ADD c int; CREATE OR REPLACE VIEW w AS SELECT id + 0 AS id FROM t").await.unwrap();
    let (other, code) = answer(&folder, &server, &["--replace"]);
    assert_eq!(code, 2, "{other}");
    for line in
        ["Items not matched: 2 |", "\nDB 2: File=", "\nColumn \"public.t.c\" does not exist on all databases:\n"]
    {
        assert!(other.contains(line), "{other}");
    }
    assert!(other.contains("View \"public.w\":\n \"viewdef\" is different:\n"), "{other}");
    let (same, code) = answer(&folder, &server, &[]);
    assert!(code == 0, "{same}");
}

#[tokio::test]
async fn the_control_file_of_every_major_says_what_its_server_says() {
    majors::each(|binaries| async move {
        let primary = Cluster::start(&binaries, Settings::default()).await.unwrap();
        let standby = primary.standby("standby").await.unwrap();
        let identity = "SELECT system_identifier::text FROM pg_control_system()";
        let identity = primary.sql("postgres", identity).await.unwrap()[0][0].clone().unwrap();
        let folder = TempDir::new().unwrap();
        for (cluster, mode, assumed) in
            [(&primary, "MASTER", "--assume-prod"), (&standby, "STANDBY", "--assume-standby-mode")]
        {
            let data = format!("--datadir={}", cluster.data().display());
            let (id, code) = answer(&folder, cluster, &["--action=cluster_id", &data, "-c", &identity]);
            assert_eq!((id.as_str(), code), (&*format!("POSTGRES_CLUSTER_ID OK:  cluster_id: {identity} \n"), 0));
            let (age, code) = answer(&folder, cluster, &["--action=checkpoint", &data, assumed, "-c", "1h"]);
            assert!(age.starts_with("POSTGRES_CHECKPOINT OK:  Last checkpoint was ") && code == 0, "{age}");
            assert!(age.ends_with(&format!(";;3600 mode={mode} \n")), "{age}");
        }
        let data = format!("--datadir={}", standby.data().display());
        let (spared, code) = answer(&folder, &primary, &["--action=locks", &data, "--assume-standby-mode"]);
        assert_eq!((spared.as_str(), code), ("POSTGRES_LOCKS OK:  Server in standby mode | time=0.00s \n", 0));
    })
    .await;
}

#[tokio::test]
async fn a_locked_table_keeps_no_size_and_no_schema_waiting() {
    let server = client::start_with(Settings::default()).await;
    server.sql("postgres", "CREATE DATABASE app").await.unwrap();
    server.sql("app", "CREATE TABLE t (id int CHECK (id > 0)); CREATE VIEW w AS SELECT id FROM t").await.unwrap();
    let folder = TempDir::new().unwrap();
    answer(&folder, &server, &[]);
    let holder = server.client("app").await.unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE t, w").await.unwrap();
    let (same, code) = answer(&folder, &server, &[]);
    assert!(same.contains("All databases have identical items") && code == 0, "{same}");
    let (size, code) = answer(&folder, &server, &["--action=table_size", "-c", "1GB", "--include=t"]);
    assert!(size.contains("Sizes of 1 relations are not known") && code == 3, "{size}");
}
