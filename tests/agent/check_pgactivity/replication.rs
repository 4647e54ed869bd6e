//! Standbys, slots, and who keeps dead rows.

use super::Subject;

pub(super) const SUBJECT: Subject = Subject {
    setup: &[
        "SELECT pg_create_physical_replication_slot('kept', true)",
        "SELECT pg_create_logical_replication_slot('decoding', 'test_decoding')",
    ],
    cases: &[
        "{both} -s hot_standby_delta",
        "{both} -s hot_standby_delta -w 1GB -c 2GB",
        "{both} -s hot_standby_delta -w 1GB,2GB -c 3GB,4GB -F human",
        "{primary} -s hot_standby_delta",
        "sh psql -qXAt {standby} -c 'SELECT pg_wal_replay_pause()' ;; \
         sql INSERT INTO numbered (other) SELECT g FROM generate_series(1, 1000) AS g ;; \
         {both} -s hot_standby_delta -w 1GB,1kB -c 2GB ;; {both} -s hot_standby_delta -w 1GB,1kB -c 2GB,2kB ;; \
         {primary} -s streaming_delta -w 1GB,1kB -c 2GB ;; {primary} -s streaming_delta -w 1GB,1kB -c 2GB,2kB ;; \
         sh psql -qXAt {standby} -c 'SELECT pg_wal_replay_resume()'",
        "{primary} -s streaming_delta",
        "{primary} -s streaming_delta -w 1GB -c 2GB,3GB",
        "{primary} -s streaming_delta --exclude standby",
        "{primary} -s streaming_delta --slave 'standby ' --slave 'other 10.0.0.1'",
        "≠ {primary} -U plain -s streaming_delta",
        "{primary} -U mon -s streaming_delta",
        "{standby} -s streaming_delta",
        "{both} -s streaming_delta",
        "{primary} -s replication_slots",
        "{primary} -s replication_slots -w 100 -c 200",
        "{primary} -s replication_slots -w wal=100,spilled=1 -c wal=200,spilled=2",
        "{primary} -s replication_slots -w remaining=1MB -c remaining=2MB",
        "{primary} -s replication_slots -w x -c y",
        "{primary} -s replication_slots -w wal=x -c wal=y",
        "{standby} -s replication_slots",
        "≠ {primary} -U mon -s replication_slots",
        "sql SELECT pg_drop_replication_slot('decoding') ;; \
         sql SELECT pg_switch_wal() ;; sql INSERT INTO holey VALUES (-2) ;; sql SELECT pg_switch_wal() ;; \
         {primary} -s replication_slots ;; {primary} -s replication_slots -w 0 -c 1000 ;; \
         {primary} -s replication_slots -w wal=0 -c wal=0",
        "{primary} -s max_freeze_age --dbinclude ^app$",
        "{primary} -s max_freeze_age -w 90% -c 95% --dbinclude ^app$",
        "{primary} -s max_freeze_age -w 1 -c 1000000 --dbinclude ^app$",
        "{standby} -s max_freeze_age -w 1 -c 1 --dbinclude ^app$",
        "{primary} -s max_freeze_age -w x -c 1",
        "{primary} -s oldest_xmin",
        "{primary} -s oldest_xmin --detailed --dbinclude ^app$",
        "{primary} -U mon -s oldest_xmin",
        "≠ {primary} -U plain -s oldest_xmin",
        "sql BEGIN; LOCK TABLE numbered; PREPARE TRANSACTION 'held' ;; \
         sql BEGIN; INSERT INTO holey VALUES (-1); PREPARE TRANSACTION 'older' ;; \
         {primary} -s oldest_xmin ;; {primary} -s oldest_xmin -w 1 -c 1000 ;; {primary} -s oldest_xmin -w 0 -c 0 ;; \
         {primary} -s oldest_xmin --detailed -w 0 -c 1000 ;; {standby} -s oldest_xmin -w 0 -c 1000 ;; \
         sql ROLLBACK PREPARED 'held' ;; sql ROLLBACK PREPARED 'older'",
        // a standby's snapshot keeps the rows of all databases
        "≠ sh psql -qX {standby} -c 'ALTER SYSTEM SET hot_standby_feedback = on' -c 'SELECT pg_reload_conf()' ;; \
         sh timeout 30 sh -c 'until psql -qXAt {primary} -c \"SELECT backend_xmin FROM pg_stat_replication\" | grep -q .; do :; done' ;; \
         {primary} -s oldest_xmin --dbinclude ^app$ ;; \
         sh psql -qX {standby} -c 'ALTER SYSTEM RESET hot_standby_feedback' -c 'SELECT pg_reload_conf()' ;; \
         until bool_and(backend_xmin IS NULL) FROM pg_stat_replication",
        "{primary} -s oldest_xmin -w 1kB -c 2kB",
        "{primary} -s oldest_xmin -w 1",
        "{standby} -s max_freeze_age -w 1 -c 1000000 --dbinclude ^app$",
        "{primary} -s max_freeze_age -w 1 -c 1 --dbinclude ^app$",
        "{each} -s max_freeze_age -w 90% -c 95% --dbexclude '^(other|side|postgres|template1)$'",
        "hold standby: BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM numbered ;; sql SELECT pg_current_xact_id() ;; sql SELECT pg_current_xact_id() ;; until standby: EXISTS (SELECT FROM pg_stat_activity WHERE age(backend_xmin) > 1) ;; {standby} -s oldest_xmin -w 0 -c 1000 --dbinclude ^app$ ;; {standby} -s oldest_xmin -w 0 -c 0",
        "{each} -s oldest_xmin -w 100000 -c 200000 --dbexclude template",
        "sh psql -qXAt {standby} -c \"SELECT pg_create_physical_replication_slot('held', true)\" ;; sql SELECT pg_switch_wal() ;; sql INSERT INTO holey VALUES (-3) ;; sql SELECT pg_switch_wal() ;; sql INSERT INTO holey VALUES (-4) ;; {standby} -s replication_slots -w 0 -c 1000 ;; {standby} -s replication_slots -w 0 -c 0 ;; sh psql -qXAt {standby} -c \"SELECT pg_drop_replication_slot('held')\"",
    ],
};
