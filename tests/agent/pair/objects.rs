//! What it takes to see the facts of what is in a database: tables, indexes, sequences and functions.

use pgvitals::demo::cluster::Cluster;

use super::until_true;

/// On the primary alone, before any transaction stays open.
pub(super) async fn prepare(primary: &Cluster) {
    for statement in [
        "CREATE TABLE worn WITH (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0, \
            autovacuum_analyze_threshold = 0, autovacuum_analyze_scale_factor = 0) AS SELECT 1 AS id",
        "DELETE FROM worn",
        "SELECT * FROM seen",
        "SET enable_seqscan = off; SELECT * FROM seen WHERE id = 1",
        "VACUUM ANALYZE seen",
    ] {
        primary.sql("postgres", statement).await.unwrap();
    }
    let vacuumed = "count(last_vacuum) > 0 AND count(last_autovacuum) > 0 AND count(last_autoanalyze) > 0";
    until_true(primary, &format!("SELECT {vacuumed} FROM pg_stat_user_tables")).await;
}
