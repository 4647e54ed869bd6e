//! What it takes to see the facts of statements.

use pgvitals::demo::cluster::Cluster;

/// More lines for the primary's postgresql.conf.
pub(super) fn conf() -> Vec<&'static str> {
    vec!["pg_stat_statements.track_planning = on"]
}

/// Once the standby streams.
pub(super) async fn provoke(primary: &Cluster, standby: &Cluster) {
    // More rows than fit into the buffers for temporary tables.
    let temporary = "SET temp_buffers = '800kB'; \
                     CREATE TEMPORARY TABLE spilt AS SELECT repeat('x', 1000) AS text FROM generate_series(1, 10000); \
                     SELECT count(*) FROM spilt; DROP TABLE spilt";
    primary.client("postgres").await.unwrap().batch_execute(temporary).await.unwrap();
    // Only where the server is built with LLVM anything is compiled.
    let compiled = "SET jit = on; SET jit_above_cost = 0; SET jit_inline_above_cost = 0; SET jit_optimize_above_cost = 0; \
                    SELECT count(relname || 'x') FROM pg_class WHERE relnatts % 2 = 1";
    for cluster in [primary, standby] {
        if cluster.major() >= 11 {
            cluster.client("postgres").await.unwrap().batch_execute(compiled).await.unwrap();
        }
    }
}
