//! Counters since the last call.

use super::Subject;

pub(super) const SUBJECT: Subject = Subject {
    setup: &["CREATE TABLE written (id int)"],
    cases: &[
        // Of a checkpoint is counted what it wrote after it is done.
        "sql SELECT pg_stat_reset_shared('bgwriter') ;; sql INSERT INTO written VALUES (0) ;; sql CHECKPOINT ;; \
         until buffers_checkpoint > 0 FROM pg_stat_bgwriter ;; \
         {primary} -s bgwriter ;; {primary} -s bgwriter -w 90% -c 95% ;; \
         sql SELECT pg_stat_reset_shared('bgwriter') ;; {primary} -s bgwriter ;; \
         sql INSERT INTO written SELECT generate_series(1, 100000) ;; sql CHECKPOINT ;; \
         until buffers_checkpoint > 0 FROM pg_stat_bgwriter ;; {primary} -s bgwriter",
        "sql SELECT pg_stat_reset_shared('bgwriter') ;; {primary} -s bgwriter",
        "{standby} -s bgwriter",
        "{primary} -s bgwriter -w 1 -c 2",
        "{primary} -s bgwriter -w 1",
        "{both} -s bgwriter",
        "{primary} -s commit_ratio ;; {primary} -s commit_ratio",
        "sql BEGIN; SELECT 1; ROLLBACK ;; {primary} -s commit_ratio -w rollbacks=0 -c rollbacks=1000",
        "sql BEGIN; SELECT 1; ROLLBACK ;; \
         {primary} -s commit_ratio -w 'rollbacks=1000,rollback_rate=100' -c 'rollback_ratio=0, rollback_rate = 1000'",
        "{primary} -s commit_ratio -w x -c y",
        "{primary} -s commit_ratio -w 1",
        "{standby} -s commit_ratio",
        "{primary} -s hit_ratio ;; sql SELECT count(*) FROM written ;; {primary} -s hit_ratio -w 1% -c 0%",
        "{primary} -s hit_ratio -w 101% -c 0.5% --dbinclude ^app$",
        "{primary} -s hit_ratio -w 102% -c 101% --dbexclude postgres --dbexclude other --dbexclude side",
        "{standby} -s hit_ratio -w 90% -c 80%",
        "{primary} -U plain -s hit_ratio -w 90% -c 80% --dbinclude nothing",
        "{primary} -s hit_ratio -w 90 -c 80",
        "{primary} -s hit_ratio -w 90%",
        "{both} -s hit_ratio",
        "{primary} -s slru_hit_ratio => POSTGRES_SLRU_HIT_RATIO OK: 8 SLRU(s) checked",
        "{primary} -s slru_hit_ratio -w 90% -c 0% => POSTGRES_SLRU_HIT_RATIO OK: 8 SLRU(s) checked | CommitTs=NaN%;90;0 ",
        "{primary} -s slru_hit_ratio -w 90 -c 0 => FATAL: critical and warning thresholds only accept percentages.",
        "{standby} -s commit_ratio ;; sh psql -qX {standby} -c BEGIN -c 'SELECT 1' -c ROLLBACK ;; {standby} -s commit_ratio -w rollbacks=0 -c rollbacks=1000",
        "sh psql -qX {standby} -c BEGIN -c 'SELECT 1' -c ROLLBACK ;; {standby} -s commit_ratio -w rollbacks=0 -c rollbacks=0",
        "{standby} -s hit_ratio -w 101% -c 0.5% --dbinclude ^app$",
        "{standby} -s hit_ratio -w 102% -c 101% --dbexclude other",
        "{standby} -s slru_hit_ratio => POSTGRES_SLRU_HIT_RATIO OK: 8 SLRU(s) checked",
    ],
};
