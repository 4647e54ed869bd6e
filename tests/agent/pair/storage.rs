//! What it takes to see the facts of the WAL, files, memory, and input and output.

use pgvitals::demo::cluster::Cluster;

use super::until_true;

/// More lines for the primary's postgresql.conf.
pub(super) fn conf() -> Vec<&'static str> {
    vec![
        "archive_mode = on",
        // The first attempt fails, as the time of a failure is to be seen too.
        "archive_command = 'test -e tried || { touch tried; false; }'",
        "track_io_timing = on",
    ]
}

/// Once the standby streams.
pub(super) async fn provoke(primary: &Cluster) {
    primary.sql("postgres", "SELECT pg_switch_wal()").await.unwrap();
    // What is read of the archiver stays fresh for a while, so that it has to be there from the beginning.
    until_true(primary, "SELECT last_archived_time > last_failed_time FROM pg_stat_archiver").await;
}
