//! What it takes to see the facts of the WAL, files, memory, and input and output.

use pgvitals::demo::cluster::Cluster;

use super::{Kept, until_true};

/// More lines for the primary's postgresql.conf.
pub(super) fn conf(major: u32) -> Vec<&'static str> {
    let mut conf = vec![
        "archive_mode = on",
        // The first attempt fails, as the time of a failure is to be seen too.
        "archive_command = 'test -e tried || { touch tried; false; }'",
        "track_io_timing = on",
        "logging_collector = on",
    ];
    if major >= 14 {
        conf.push("track_wal_io_timing = on");
    }
    if major >= 17 {
        conf.push("summarize_wal = on");
    }
    conf
}

/// On the primary alone, before any transaction stays open.
pub(super) async fn prepare(primary: &Cluster) {
    let cold = "CREATE TABLE cold AS SELECT repeat('x', 1000) AS text FROM generate_series(1, 2000)";
    primary.sql("postgres", cold).await.unwrap();
}

/// Once the standby streams.
pub(super) async fn provoke(primary: &Cluster, standby: &Cluster, kept: &mut Kept) {
    primary.sql("postgres", "SELECT pg_switch_wal()").await.unwrap();
    // What is read of the archiver stays fresh for a while, so that it has to be there from the beginning.
    until_true(primary, "SELECT last_archived_time > last_failed_time FROM pg_stat_archiver").await;
    // A WAL summary ends where a checkpoint begins.
    primary.sql("postgres", "CHECKPOINT").await.unwrap();
    for cluster in [primary, standby] {
        // What such a cursor has left to give is in a temporary file.
        let spill = "SET work_mem = '64kB'; \
                     DECLARE spilled CURSOR WITH HOLD FOR SELECT repeat('x', 1000) FROM generate_series(1, 1000)";
        kept.hold(cluster, spill).await;
        if cluster.major() >= 17 {
            until_true(cluster, "SELECT count(*) > 0 FROM pg_available_wal_summaries()").await;
        }
        if cluster.major() >= 18 {
            cluster.sql("postgres", "SELECT pg_buffercache_evict_relation('cold')").await.unwrap();
            // It has begun to read ahead, and nobody fetches that.
            kept.hold(cluster, "BEGIN; DECLARE ahead CURSOR FOR SELECT * FROM cold; FETCH 300 FROM ahead").await;
            until_true(cluster, "SELECT count(*) > 0 FROM pg_aios").await;
        }
    }
}
