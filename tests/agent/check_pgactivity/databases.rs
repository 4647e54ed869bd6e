//! Databases one by one: sizes, checksums, sessions, temporary files.

use super::Subject;

pub(super) const SUBJECT: Subject = Subject {
    setup: &["CREATE DATABASE other", "CREATE TABLE grown (id int)"],
    cases: &[
        "{primary} -s database_size",
        "{primary} -s database_size",
        "{primary} -U plain -s database_size -w 10% -c 20%",
        "{primary} -s database_size -w size=1MB -c size=1TB",
        "{primary} -s database_size -w size=1MB,delta=10% -c 'size=2MB, delta=20%'",
        "{primary} -s database_size -w 'delta=1GB' -c 'delta=2GB' --dbinclude ^app$",
        "{primary} -s database_size -w 10% -c 20% --dbexclude template",
        "{primary} -s database_size --dbexclude template -F human",
        "{primary} -s database_size -w size=1 -c delta=2",
        "{primary} -s database_size -w x -c y",
        "{primary} -s database_size -w size=10% -c size=20%",
        "{primary} -s database_size -w delta=a -c delta=b",
        "{primary} -s database_size -w 1",
        "{both} -s database_size",
        "sql INSERT INTO grown SELECT generate_series(1, 10000) ;; {primary} -s database_size -w 1 -c 100%",
        "sql INSERT INTO grown SELECT generate_series(1, 10000) ;; {primary} -s database_size -w 1kB -c 10kB",
        "sql TRUNCATE grown ;; {primary} -s database_size -w 1 -c 2 --dbinclude app",
        "{standby} -s database_size",
        "≠ {primary} -s database_size -w 1.5GB -c 2GB",
        "{primary} -s checksum_errors",
        "{standby} -s checksum_errors -w 5 -c 10",
        "{primary} -U plain -s checksum_errors",
        "{primary} -s checksum_errors -w 0 -c 5",
        "{primary} -s checksum_errors -w 0 -c 0",
        "{primary} -s checksum_errors -w 1",
        "≠ {primary} -s checksum_errors -w x -c y",
        "{primary} -s session_stats ;; {primary} -s session_stats",
        "{standby} -s session_stats",
        "{both} -s session_stats",
        "{primary} -s temp_files ;; {primary} -s temp_files ;; \
         sql SET work_mem = '64kB'; \
         SELECT count(*) FROM (SELECT * FROM generate_series(1, 100000) AS g ORDER BY random()) AS x ;; \
         until temp_files > 0 FROM pg_stat_database WHERE datname = 'app' ;; \
         {primary} -s temp_files -w 0 -c 1GB",
        "hold SET work_mem = '64kB'; BEGIN; \
         DECLARE c CURSOR FOR SELECT * FROM generate_series(1, 100000) AS g ORDER BY random(); FETCH 1 FROM c ;; \
         {primary} -s temp_files -w 10,1GB -c 20,2GB ;; {primary} -U mon -s temp_files -w 0 -c 0",
        "{primary} -U plain -s temp_files",
        "{primary} -s temp_files -w 10 -c 1GB",
        "{primary} -s temp_files -w 1GB -c 10",
        "{primary} -s temp_files -w 1GB,5 -c 1GB",
        "{standby} -s temp_files",
        "{primary} -d other -s pgss_dealloc => POSTGRES_PG_STAT_STATEMENTS_DEALLOC UNKNOWN: Ensure that the \
         pg_stat_statements extension has been created on the target database (currently other)",
        "sh psql {primary} -d other -qc 'CREATE EXTENSION pg_stat_statements' ;; {primary} -d other -s pgss_dealloc \
         => POSTGRES_PG_STAT_STATEMENTS_DEALLOC OK: First call",
        "{primary} -d other -s pgss_dealloc -w 1 -c 2 \
         => POSTGRES_PG_STAT_STATEMENTS_DEALLOC OK: Deallocs delta: 0 deallocs | pgss_deallocs=0c;1;2",
        "{standby} -s pgss_dealloc -w x -c y => FATAL: warning or critical threshold must be integer.",
        "-s pgss_dealloc => FATAL: you must give one database with service \"pgss_dealloc\".",
        "{standby} -s database_size -w size=1MB -c size=1TB --dbinclude ^app$",
        "{standby} -s database_size -w size=1MB -c size=1MB --dbexclude template",
        "{standby} -s checksum_errors -w 0 -c 5",
        "{standby} -s checksum_errors -w 0 -c 0",
        "{standby} -s temp_files ;; sh psql -qXAt {standby} -c \"SET work_mem='64kB'\" -c 'SELECT count(*) FROM (SELECT * FROM generate_series(1, 100000) AS g ORDER BY random()) AS x' ;; {standby} -s temp_files -w 0 -c 100000",
        "{primary} -s temp_files ;; sql SET work_mem = '64kB'; SELECT count(*) FROM (SELECT * FROM generate_series(1, 100000) AS g ORDER BY random()) AS x ;; {primary} -s temp_files -w 0 -c 100000",
        "sh psql -qXAt {standby} -c \"SET work_mem='64kB'\" -c 'SELECT count(*) FROM (SELECT * FROM generate_series(1, 100000) AS g ORDER BY random()) AS x' ;; {standby} -s temp_files -w 0 -c 0",
        "{standby} -d other -s pgss_dealloc => POSTGRES_PG_STAT_STATEMENTS_DEALLOC OK: First call",
    ],
};
