//! Parameters of the server.

use super::Subject;

pub(super) const SUBJECT: Subject = Subject {
    setup: &[],
    cases: &[
        "{primary} -s configuration",
        "{standby} -s configuration --no_check_fsync --no_check_autovacuum --work_mem 64",
        "{primary} -s configuration --no_check_fsync --no_check_autovacuum --work_mem 1 --shared_buffers 1 \
         --wal_buffers 1 --effective_cache_size 1 --maintenance_work_mem 1",
        "{primary} -s configuration --no_check_enable --no_check_track_counts",
        "{both} -s configuration",
        "{primary} -s settings ;; {primary} -s settings ;; sql ALTER ROLE mon SET work_mem = '5MB' ;; {primary} -s settings \
         ;; sql ALTER ROLE mon RESET work_mem ;; {primary} -s settings \
         ;; {primary} -s settings --save ;; {primary} -s settings",
        "≠ {primary} -s settings -w 0s ;; sql ALTER DATABASE app SET work_mem = '5MB' ;; {primary} -s settings -w 1s \
         ;; {primary} -s settings -w 0s ;; {primary} -s settings -w 0s",
        "{primary} -s pgdata_permission",
        "{standby} -s pgdata_permission",
        "{primary} -s pgdata_permission --uid root",
        "{primary} -s pgdata_permission --uid nobody-at-all",
        "{primary} -U mon -s pgdata_permission",
        "≠ {primary} -U plain -s pgdata_permission",
        "sh chmod 755 {data} ;; {primary} -s pgdata_permission ;; sh chmod 700 {data}",
        "{primary} -s hugepages => Service hugepages is not compatible with host 'host:127.0.0.1 port:",
        "{standby} -s configuration --no_check_fsync",
        "{standby} -s settings ;; sh psql -qX {standby} -c \"ALTER SYSTEM SET maintenance_work_mem = '5MB'\" -c 'SELECT pg_reload_conf()' ;; until standby: current_setting('maintenance_work_mem') = '5MB' ;; {standby} -s settings ;; sh psql -qX {standby} -c 'ALTER SYSTEM RESET maintenance_work_mem' -c 'SELECT pg_reload_conf()'",
        "{standby} -s pgdata_permission --uid root",
    ],
};
