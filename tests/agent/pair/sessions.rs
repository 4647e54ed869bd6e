//! What it takes to see the facts of sessions, their locks, and the commands that tell their progress.

use pgvitals::demo::cluster::Cluster;

use super::Kept;

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
    let wide = "CREATE TABLE wide WITH (autovacuum_enabled = false) AS \
                SELECT repeat('x', 1000) AS text FROM generate_series(1, 2000)";
    primary.sql("postgres", wide).await.unwrap();
}

/// Once the standby streams.
pub(super) async fn provoke(primary: &Cluster, standby: &Cluster, kept: &mut Kept) {
    let forgotten = "BEGIN; INSERT INTO seen VALUES (1); PREPARE TRANSACTION 'forgotten'";
    primary.sql("postgres", forgotten).await.unwrap();
    kept.hold(primary, "BEGIN; SELECT txid_current()").await;
    // Each of them waits, for a lock, for the vacuum's limit, for time: none ends before its cluster.
    kept.run(primary, &["INSERT INTO seen VALUES (1)"]).await;
    kept.run(primary, &["SET vacuum_cost_delay = 100", "SET vacuum_cost_limit = 1", "VACUUM wide"]).await;
    kept.run(standby, &["SELECT pg_sleep(3600)"]).await;
}
