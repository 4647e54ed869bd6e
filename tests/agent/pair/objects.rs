//! What it takes to see the facts of what is in a database: tables, indexes, sequences and functions.

use pgvitals::demo::cluster::Cluster;

use super::{ROLE, until_true};

const CALLED: &str = "SELECT count(*) > 0 FROM pg_stat_user_functions WHERE funcname = 'called'";

/// More lines for the primary's postgresql.conf.
pub(super) fn conf() -> Vec<&'static str> {
    vec!["track_functions = all"]
}

/// On the primary alone, before any transaction stays open.
pub(super) async fn prepare(primary: &Cluster) {
    for statement in [
        "CREATE TABLE worn WITH (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0, \
            autovacuum_analyze_threshold = 0, autovacuum_analyze_scale_factor = 0) AS SELECT 1 AS id",
        "DELETE FROM worn",
        "SELECT * FROM seen",
        "SET enable_seqscan = off; SELECT * FROM seen WHERE id = 1",
        "VACUUM ANALYZE seen",
        // One statement, as those of statements that are shown are few.
        "DO $$ BEGIN
           CREATE TABLE neglected (id serial, seen int REFERENCES seen) WITH (autovacuum_enabled = off);
           CREATE INDEX short ON neglected (id);
           CREATE INDEX long ON neglected (id, seen);
           CREATE INDEX broken ON neglected (seen) WHERE seen = 1;
           -- What CREATE INDEX CONCURRENTLY leaves behind when it fails, without its line in the log.
           UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass;
           INSERT INTO neglected (seen) SELECT NULL FROM generate_series(1, 2000);
           CREATE FUNCTION called() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
         END $$",
        "VACUUM neglected",
        "DO $$ BEGIN
           ANALYZE neglected;
           INSERT INTO neglected (seen) VALUES (NULL);
           DELETE FROM neglected WHERE id <= 10;
         END $$",
        "SELECT called()",
    ] {
        primary.sql("postgres", statement).await.unwrap();
    }
    primary.sql("postgres", &format!("GRANT SELECT ON neglected, neglected_id_seq TO {ROLE}")).await.unwrap();
    if primary.major() >= 11 {
        let parted = "CREATE TABLE parted (id int) PARTITION BY LIST (id)";
        for statement in [parted, "CREATE TABLE unplaced PARTITION OF parted DEFAULT"] {
            primary.sql("postgres", statement).await.unwrap();
        }
    }
    let vacuumed = "count(last_vacuum) > 0 AND count(last_autovacuum) > 0 AND count(last_autoanalyze) > 0";
    until_true(primary, &format!("SELECT {vacuumed} FROM pg_stat_user_tables")).await;
    until_true(primary, CALLED).await;
}

/// Once the standby streams: functions are counted on each server by itself.
pub(super) async fn provoke(standby: &Cluster) {
    standby.sql("postgres", "SELECT called()").await.unwrap();
    until_true(standby, CALLED).await;
}
