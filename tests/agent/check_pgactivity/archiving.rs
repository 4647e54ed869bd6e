//! WAL files, the archive, the label of a backup.

use super::Subject;

pub(super) const SUBJECT: Subject = Subject {
    setup: &[],
    cases: &[
        "{standby} -s wal_files",
        "{standby} -s wal_files -w 50% -c 80%",
        "{standby} -s wal_files -w 1 -c 100",
        "{standby} -s wal_files -w 1 -c 1",
        "{standby} -U mon -s wal_files -w 80% -c 90% -F human",
        "{standby} -U plain -s wal_files",
        "{standby} -s wal_files -w x -c y",
        "{standby} -s wal_files -w 1",
        "{both} -s wal_files",
        "{primary} -s wal_files ;; {primary} -s wal_files -w 50% -c 80%",
        "until last_archived_wal IS NOT NULL FROM pg_stat_archiver ;; {primary} -s archiver",
        "{primary} -s archiver -w 100 -c 200",
        "{standby} -s archiver -w 1 -c 2",
        "{primary} -s archiver -w x -c y",
        "{primary} -s archiver -w 1",
        "{both} -s archiver",
        // The original may look at no file.
        "≠ {primary} -U mon -s archiver",
        "sql ALTER SYSTEM SET archive_command = 'false' ;; sql SELECT pg_reload_conf() ;; \
         sql CREATE TABLE more_wal AS SELECT 1 ;; sql SELECT pg_switch_wal() ;; \
         until last_failed_time > last_archived_time FROM pg_stat_archiver ;; \
         {primary} -s archiver ;; {primary} -s archiver -w 10 -c 20 ;; \
         sql CREATE TABLE most_wal AS SELECT 1 ;; sql SELECT pg_switch_wal() ;; \
         {primary} -s archiver -w 1 -c 2 ;; \
         sql ALTER SYSTEM SET archive_command = 'true' ;; sql SELECT pg_reload_conf() ;; \
         until last_failed_time < last_archived_time AND last_archived_wal > last_failed_wal FROM pg_stat_archiver ;; \
         sql DROP TABLE more_wal, most_wal ;; {primary} -s archiver -w 1 -c 2",
        "≠ {primary} -s backup_label_age -w 1h -c 2h",
        "≠ {standby} -s backup_label_age -w 1h -c 2h",
        "{primary} -s backup_label_age",
        "{primary} -s backup_label_age -w 1 -c x",
        "{primary} -s backup_label_age -w 1h -c 2h \
         => POSTGRES_BACKUP_LABEL_AGE OK: backup_label file absent | age=0s;3600;7200",
        "sh touch -d '-90 minutes' {data}/backup_label ;; {primary} -s backup_label_age -w 1h -c 2h \
         => POSTGRES_BACKUP_LABEL_AGE WARNING: age: 1h30m",
        "sh rm {data}/backup_label ;; {primary} -U mon -s backup_label_age -w 1h -c 2h \
         => CHECK_PGACTIVITY UNKNOWN: Query failed",
        "{primary} -s archiver -w 0 -c 5",
        "{standby} -s archiver -w 0 -c 5",
        "{standby} -s archiver -w 0 -c 0",
        "{primary} -s wal_files -w 1 -c 100 ;; {primary} -s wal_files -w 1 -c 1",
        "{primary} -s backup_label_age -d nothing -w 1h -c 2h",
    ],
};
