//! Tables, indexes, sequences: what is wrong with them is named, the lists of them are bounded, and the sums are true.

use std::collections::BTreeMap;

use pgvitals::agent::{Agent, Reading, Want};
use pgvitals::demo::cluster::Cluster;

use crate::majors::{self, TWO};
use crate::pair::{self, PATIENCE, ROLE};
use crate::walk::{complaints, execute, samples, start, until_true_in};

async fn read(agent: &Agent, collectors: &[&str]) -> Reading {
    let want = Want { deadline: PATIENCE, ..Want::only(collectors.iter().map(|&name| name.to_owned())) };
    agent.read(&want).await
}

/// The labels behind the database's of every sample of a metric.
fn listed(reading: &Reading, metric: &str) -> Vec<String> {
    let all = samples(&reading.snapshot, metric).into_keys();
    all.map(|labels| labels.trim_start_matches("postgres/public/").to_owned()).collect()
}

fn of_postgres(reading: &Reading, metric: &str) -> Option<f64> {
    samples(&reading.snapshot, metric).get("postgres").copied()
}

async fn number(cluster: &Cluster, sql: &str) -> f64 {
    cluster.sql("postgres", sql).await.unwrap().concat()[0].as_ref().unwrap().parse().unwrap()
}

/// Indexes and keys of which some are a mistake; what each is stands beside it.
const MISTAKES: &[&str] = &[
    "CREATE TABLE parent (id int PRIMARY KEY, a int, b int, c text)",
    "CREATE INDEX a ON parent (a)",           // the beginning of ab
    "CREATE INDEX ab ON parent (a, b)",       // the beginning of ab_unique
    "CREATE INDEX ab_again ON parent (a, b)", // the same as ab
    "CREATE UNIQUE INDEX ab_unique ON parent (a, b, c)",
    "CREATE UNIQUE INDEX b_unique ON parent (b)",
    "CREATE INDEX b ON parent (b)", // the same as b_unique
    "CREATE INDEX b_falling ON parent (b DESC, a)",
    "CREATE INDEX b_some ON parent (b) WHERE a > 1",
    "CREATE INDEX c ON parent (c)",
    "CREATE INDEX c_pattern ON parent (c text_pattern_ops, a)",
    "CREATE INDEX upper ON parent (upper(c))",
    "CREATE INDEX lower ON parent (lower(c), a)",
    "CREATE INDEX a_hashed ON parent USING hash (a)",
    "CREATE TABLE child (id int PRIMARY KEY, one int CONSTRAINT one REFERENCES parent,
        two int CONSTRAINT two REFERENCES parent, x int, y int, UNIQUE (y, x))",
    "CREATE INDEX two ON child (two)",
    "CREATE TABLE pairs (x int, y int, CONSTRAINT x_y FOREIGN KEY (x, y) REFERENCES child (y, x))",
    "CREATE INDEX yx ON pairs (y, x, (x + 1))",
    "CREATE TABLE partly (x int CONSTRAINT partly REFERENCES parent)",
    "CREATE INDEX partly_x ON partly (x) WHERE x > 0",
    "INSERT INTO parent SELECT g, g, g, g::text FROM generate_series(1, 1000) AS g",
    "ANALYZE parent",
    "SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(*) FROM parent WHERE c < '2'",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn indexes_and_keys_that_are_a_mistake_are_named_and_no_others() {
    majors::on(TWO, |binaries| async move {
        let cluster = start(binaries.major).await;
        execute(&cluster, "postgres", MISTAKES).await;
        until_true_in(&cluster, "postgres", "SELECT idx_scan > 0 FROM pg_stat_user_indexes WHERE indexrelname = 'c'")
            .await;
        let agent = pair::agent(&[&cluster]);
        let reading = read(
            &agent,
            &["redundant_indexes", "unindexed_foreign_keys", "tables_without_key", "unused_indexes", "invalid_indexes"],
        )
        .await;
        assert_eq!(
            listed(&reading, "pg_index_redundant_size_bytes"),
            ["parent/a/ab", "parent/ab/ab_unique", "parent/ab_again/ab", "parent/b/b_unique"]
        );
        assert_eq!(of_postgres(&reading, "pg_index_redundant"), Some(4.0));
        assert_eq!(listed(&reading, "pg_constraint_unindexed_foreign_key"), ["child/one", "partly/partly"]);
        assert_eq!(of_postgres(&reading, "pg_constraint_unindexed_foreign_keys"), Some(2.0));
        assert_eq!(listed(&reading, "pg_class_table_without_primary_key"), ["pairs", "partly"]);
        assert_eq!(of_postgres(&reading, "pg_class_tables_without_primary_key"), Some(2.0));
        let unused = listed(&reading, "pg_stat_user_indexes_unused_index_size_bytes");
        assert!(unused.contains(&"parent/upper".to_owned()), "{unused:?}");
        for used in ["parent/c", "parent/b_unique", "parent/parent_pkey", "child/child_y_x_key"] {
            assert!(!unused.contains(&used.to_owned()), "{unused:?}");
        }
        assert_eq!(of_postgres(&reading, "pg_stat_user_indexes_unused"), Some(unused.len() as f64));
        let bytes: f64 = samples(&reading.snapshot, "pg_stat_user_indexes_unused_index_size_bytes").values().sum();
        assert_eq!(of_postgres(&reading, "pg_stat_user_indexes_unused_bytes"), Some(bytes));
        // Nothing is wrong with these, and that is said as well.
        assert_eq!(of_postgres(&reading, "pg_index_invalid"), Some(0.0));
        assert_eq!(listed(&reading, "pg_index_invalid_size_bytes"), [""; 0]);
        assert_eq!(complaints(&cluster), [""; 0]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_being_built_is_not_invalid() {
    majors::on([10, 17], |binaries| async move {
        let cluster = start(binaries.major).await;
        execute(&cluster, "postgres", &["CREATE TABLE large AS SELECT 1 AS id", "CREATE INDEX old ON large (id)"])
            .await;
        let writer = cluster.client("postgres").await.unwrap();
        writer.batch_execute("BEGIN; INSERT INTO large VALUES (2)").await.unwrap();
        let builder = cluster.client("postgres").await.unwrap();
        let building =
            tokio::spawn(async move { builder.batch_execute("CREATE INDEX CONCURRENTLY new ON large (id)").await });
        until_true_in(&cluster, "postgres", "SELECT count(*) = 1 FROM pg_index WHERE NOT indisvalid").await;
        let reading = read(&pair::agent(&[&cluster]), &["invalid_indexes"]).await;
        assert_eq!(of_postgres(&reading, "pg_index_invalid"), Some(0.0), "on PostgreSQL {}", binaries.major);
        // Whoever kills it leaves it as it is.
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONC%'";
        execute(&cluster, "postgres", &[kill]).await;
        assert!(building.await.unwrap().is_err());
        until_true_in(&cluster, "postgres", "SELECT count(*) = 0 FROM pg_locks WHERE NOT granted").await;
        let reading = read(&pair::agent(&[&cluster]), &["invalid_indexes"]).await;
        assert_eq!(of_postgres(&reading, "pg_index_invalid"), Some(1.0), "on PostgreSQL {}", binaries.major);
        assert_eq!(listed(&reading, "pg_index_invalid_size_bytes"), ["large/new"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sequence_ends_where_the_type_of_its_column_does() {
    majors::on(TWO, |binaries| async move {
        let cluster = start(binaries.major).await;
        let grant = format!("GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {ROLE}");
        execute(
            &cluster,
            "postgres",
            &[
                "CREATE TABLE orders (id int, small smallint GENERATED ALWAYS AS IDENTITY)",
                "CREATE SEQUENCE plain",
                "CREATE SEQUENCE owned OWNED BY orders.id",
                "CREATE SEQUENCE falling INCREMENT -1 MINVALUE -100 MAXVALUE 0",
                "CREATE SEQUENCE cycling MAXVALUE 2 CYCLE",
                "CREATE SEQUENCE fresh",
                "CREATE SEQUENCE altered",
                "SELECT setval('plain', 2147483647), setval('owned', 2147483647), setval('orders_small_seq', 16384),
                        setval('falling', -50), setval('cycling', 2), setval('altered', 9)",
                &grant,
                "CREATE SEQUENCE secret",
            ],
        )
        .await;
        let altering = cluster.client("postgres").await.unwrap();
        altering.batch_execute("BEGIN; ALTER SEQUENCE altered INCREMENT 2").await.unwrap();
        let reading = read(&pair::agent(&[&cluster]), &["sequences"]).await;
        let ratios = samples(&reading.snapshot, "pg_sequences_used_ratio");
        let ratios: BTreeMap<&str, f64> =
            ratios.iter().map(|(name, ratio)| (name.trim_start_matches("postgres/public/"), *ratio)).collect();
        assert_eq!(
            ratios.keys().copied().collect::<Vec<_>>(),
            ["falling", "fresh", "orders_small_seq", "owned", "plain"]
        );
        for (name, expected) in
            [("falling", 0.5), ("fresh", 0.0), ("orders_small_seq", 0.5), ("owned", 1.0), ("plain", 0.0)]
        {
            assert!((ratios[name] - expected).abs() < 1e-3, "{name}: {ratios:?}");
        }
        let left = samples(&reading.snapshot, "pg_sequences_left");
        assert_eq!((left.get("postgres/public/owned"), left.get("postgres/public/falling")), (Some(&0.0), Some(&50.0)));
        assert_eq!(of_postgres(&reading, "pg_sequences_unread"), Some(2.0), "the one locked and the one not allowed");
        assert_eq!(complaints(&cluster), [""; 0]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extension_older_than_the_servers_is_told() {
    let cluster = start(17).await;
    let older = "CREATE EXTENSION pg_trgm VERSION '1.3'";
    execute(&cluster, "postgres", &[older, "CREATE EXTENSION hstore"]).await;
    // As one whose package was removed.
    execute(&cluster, "postgres", &["UPDATE pg_extension SET extname = 'gone' WHERE extname = 'hstore'"]).await;
    let reading = read(&pair::agent(&[&cluster]), &["extensions"]).await;
    let updates = samples(&reading.snapshot, "pg_extension_update_available");
    assert_eq!(updates.get("postgres/pg_trgm"), Some(&1.0));
    assert_eq!(updates.get("postgres/plpgsql"), Some(&0.0));
    assert_eq!(updates.get("postgres/gone"), None);
    let versions = samples(&reading.snapshot, "pg_extension_info").into_keys().collect::<Vec<_>>();
    assert!(versions.iter().any(|version| version.starts_with("postgres/pg_trgm/1.3/1.")), "{versions:?}");
    assert!(
        versions.iter().any(|version| version.starts_with("postgres/gone/") && version.ends_with('/')),
        "{versions:?}"
    );
    assert_eq!(complaints(&cluster), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bloat_is_estimated_of_what_may_be_read_and_the_rest_is_counted() {
    majors::on(TWO, |binaries| async move {
        let cluster = start(binaries.major).await;
        let rows = "SELECT g AS id, repeat('x', 20) AS text, NULL::int AS none FROM generate_series(1, 50000) AS g";
        for table in ["tight", "puffed", "secret"] {
            let create = format!("CREATE TABLE {table} AS {rows}");
            let index = format!("CREATE INDEX {table}_id ON {table} (id)");
            execute(&cluster, "postgres", &[&create, &index]).await;
        }
        let grant = format!("GRANT SELECT ON tight, puffed TO {ROLE}");
        let delete = "DELETE FROM puffed WHERE id % 10 <> 0 AND id < 49999";
        let large = "CREATE TABLE counted AS SELECT 1 AS id FROM generate_series(1, 1000)";
        execute(&cluster, "postgres", &[&grant, delete, "VACUUM ANALYZE", large]).await;
        let reading = read(&pair::agent(&[&cluster]), &["table_bloat", "index_bloat"]).await;
        for (metric, names, of_puffed) in [
            ("pg_stat_user_tables_bloat_bytes", ["tight", "puffed"], "pg_relation_size('puffed')"),
            (
                "pg_stat_user_indexes_bloat_bytes",
                ["tight/tight_id", "puffed/puffed_id"],
                "pg_relation_size('puffed_id')",
            ),
        ] {
            let bloat = samples(&reading.snapshot, metric);
            assert_eq!(bloat.len(), 2, "{bloat:?}");
            let size = number(&cluster, &format!("SELECT {of_puffed}")).await;
            let [tight, puffed] = names.map(|name| bloat[&format!("postgres/public/{name}")] / size);
            assert!(tight < 0.1, "{metric}: {bloat:?} of {size}");
            assert!(puffed > 0.8 && puffed < 0.95, "{metric}: {bloat:?} of {size}");
        }
        // Of a table that nothing has counted yet nothing is known, not even that it is there.
        assert_eq!(of_postgres(&reading, "pg_stat_user_tables_bloat_unread"), Some(1.0));
        assert_eq!(of_postgres(&reading, "pg_stat_user_indexes_bloat_unread"), Some(1.0));
        assert_eq!(complaints(&cluster), [""; 0]);
    })
    .await;
}

/// What a metric of indexes comes to, with all that is not shown by itself.
fn sum(reading: &Reading, metric: &str) -> f64 {
    let remainder = samples(&reading.snapshot, "pgvitals_collector_remainder");
    let rest = remainder.iter().filter(|(labels, _)| labels.ends_with(&format!("/{metric}"))).map(|(_, value)| value);
    samples(&reading.snapshot, metric).values().chain(rest).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_partitions_are_shown_as_one_table_and_the_sums_are_true() {
    const PARTITIONS: usize = 2000;
    let cluster = start(17).await;
    let parted = format!(
        "CREATE TABLE parted (id int, at int) PARTITION BY RANGE (id);
         DO $$ BEGIN FOR n IN 0..{} LOOP EXECUTE format('CREATE TABLE part_%s PARTITION OF parted FOR VALUES FROM (%s) TO (%s)',
             n, n * 10, n * 10 + 10); END LOOP; END $$;
         CREATE INDEX parted_id ON parted (id);
         CREATE TABLE part_default PARTITION OF parted DEFAULT;
         INSERT INTO parted SELECT g, 1 FROM generate_series(0, 19999, 10) AS g;
         INSERT INTO parted VALUES (-1, 1), (-2, 1)",
        PARTITIONS - 1
    );
    let plain = "DO $$ BEGIN FOR n IN 1..150 LOOP
             EXECUTE format('CREATE TABLE t%s AS SELECT generate_series(1, %s) AS id', n, n * 10);
             EXECUTE format('CREATE INDEX i%s ON t%s (id)', n, n); END LOOP; END $$";
    execute(&cluster, "postgres", &[&parted, plain, "ANALYZE parted", "SELECT pg_stat_force_next_flush()"]).await;
    let looked =
        "SET enable_seqscan = off; SELECT count(*) FROM parted WHERE id < 500; SELECT count(*) FROM t100 WHERE id = 7";
    execute(&cluster, "postgres", &[looked]).await;
    until_true_in(&cluster, "postgres", "SELECT sum(idx_scan) >= 51 FROM pg_stat_user_indexes").await;

    let agent = pair::agent(&[&cluster]);
    let collectors = [
        "user_tables",
        "statio_user_tables",
        "table_size",
        "user_indexes",
        "index_size",
        "unused_indexes",
        "table_age",
        "default_partitions",
        "tables_without_key",
        "relations",
    ];
    let reading = read(&agent, &collectors).await;
    let complete = reading.reports.iter().all(|report| matches!(report.outcome, pgvitals::agent::Outcome::Ok));
    assert!(complete, "{:?}", reading.reports);
    for metric in ["pg_stat_user_indexes_idx_scan_total", "pg_stat_user_indexes_index_size_bytes"] {
        let shown = samples(&reading.snapshot, metric);
        assert!(shown.len() <= 101, "{metric}: {}", shown.len());
        assert_eq!(shown.keys().filter(|index| index.contains("part_")).count(), 0, "{metric}");
        assert!(shown.contains_key("postgres/public/parted/parted_id"), "{metric}: {shown:?}");
    }
    for (metric, truth) in [
        ("pg_stat_user_indexes_idx_scan_total", "SELECT sum(idx_scan) FROM pg_stat_user_indexes"),
        ("pg_stat_user_indexes_idx_tup_read_total", "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes"),
        ("pg_stat_user_indexes_idx_tup_fetch_total", "SELECT sum(idx_tup_fetch) FROM pg_stat_user_indexes"),
        ("pg_statio_user_indexes_idx_blks_read_total", "SELECT sum(idx_blks_read) FROM pg_statio_user_indexes"),
        ("pg_statio_user_indexes_idx_blks_hit_total", "SELECT sum(idx_blks_hit) FROM pg_statio_user_indexes"),
        ("pg_stat_user_indexes_index_size_bytes", "SELECT sum(pg_relation_size(indexrelid)) FROM pg_stat_user_indexes"),
        ("pg_stat_user_tables_n_tup_ins", "SELECT sum(n_tup_ins) FROM pg_stat_user_tables"),
        ("pg_stat_user_tables_table_size_bytes", "SELECT sum(pg_table_size(relid)) FROM pg_stat_user_tables"),
        ("pg_stat_user_tables_index_size_bytes", "SELECT sum(pg_indexes_size(relid)) FROM pg_stat_user_tables"),
    ] {
        let (shown, truth) = (sum(&reading, metric), number(&cluster, truth).await);
        // What vacuum counted last stands for those too small to be measured.
        let allowed = if metric.ends_with("_bytes") { truth * 0.2 } else { 0.5 };
        assert!((shown - truth).abs() <= allowed, "{metric}: {shown}, not {truth}");
    }
    let rows = samples(&reading.snapshot, "pg_partitioned_table_default_rows");
    assert_eq!(rows, BTreeMap::from([("postgres/public/parted".to_owned(), 2.0)]));
    let kinds = samples(&reading.snapshot, "pg_class_relations");
    assert_eq!(kinds.get("postgres/partitioned_index/permanent"), Some(&1.0), "{kinds:?}");
    assert!(reading.snapshot.groups().map(|group| group.samples().count()).sum::<usize>() < 6000);
    assert_eq!(complaints(&cluster), [""; 0]);
}
