//! Folders of files: archived WAL, dumps.

use super::Subject;

pub(super) const SUBJECT: Subject = Subject {
    setup: &[
        "SELECT pg_switch_wal()",
        "CHECKPOINT",
        "CREATE TABLE wal (id int)",
        "SELECT pg_switch_wal()",
        "CHECKPOINT",
    ],
    cases: &[
        "≠ sh mkdir new && cp $(ls -d {data}/pg_wal/0* | head -2) new ;; -s archive_folder --path {folder}/new -w 1h -c 2h",
        // Debian's knows WAL up to 14: the first two bytes say the version.
        "sh cp -r new whole && for f in whole/*; do printf '\\015\\321' | dd of=$f conv=notrunc status=none; done ;; -s archive_folder --path {folder}/whole -w 1h -c 2h",
        "-s archive_folder --path {folder}/whole -w 0 -c 2h",
        "-s archive_folder --path {folder}/whole -w 0 -c 0 -F human",
        "-s archive_folder --path {folder}/whole",
        "-s archive_folder --path {folder}/nothing -w 1 -c 2",
        "-s archive_folder -w 1 -c 2",
        "-s archive_folder --path {folder}/whole -w 1x -c 2",
        "-s archive_folder --path {folder}/whole --suffix .gz -w 1 -c 2",
        "sh mkdir small && cp whole/* small && truncate -s 1M $(ls -d small/* | tail -1) ;; \
         -s archive_folder --path {folder}/small -w 1h -c 2h ;; \
         -s archive_folder --path {folder}/small -w 1h -c 2h --ignore-wal-size",
        "sh mkdir gap && cp whole/* gap && f=$(ls gap | tail -1) && mv gap/$f gap/${f%?}F ;; \
         -s archive_folder --path {folder}/gap -w 1h -c 2h",
        "sh mkdir gz && cp whole/* gz && gzip -1 gz/* ;; -s archive_folder --path {folder}/gz --suffix .gz -w 1d -c 2d ;; \
         -s archive_folder --path {folder}/gz --suffix .gz -w 1d -c 2d --unarchiver 'gzip -dc'",
        "sh mkdir other && cp whole/* other && for f in other/*; do mv $f $f.x; done ;; \
         -s archive_folder --path {folder}/other --suffix .x --unarchiver cat -w 1d -c 2d",
        "≠ sh mkdir text && for f in $(ls whole); do echo text > text/$f; done ;; -s archive_folder --path {folder}/text -w 1 -c 2",
        "sh mkdir dumps && for d in app postgres template0 template1; do for n in 1 2; do echo $d > dumps/$d-$n.dump; done; \
         done; echo > dumps/all-1.sql ;; {primary} -s pg_dump_backup --path '{folder}/dumps/*' --pattern '(\\w+)-\\d+.dump'",
        "{primary} -s pg_dump_backup --path '{folder}/dumps/*{dump,sql}' --pattern '(\\w+)-\\d+.dump' --global-pattern 'all-\\d.sql'",
        "{primary} -s pg_dump_backup --path '{folder}/dumps/*.sql' --pattern '(\\w+)-\\d+.dump' --dbexclude template",
        "{primary} -s pg_dump_backup --path '{folder}/dumps/*' --pattern '(\\w+)-\\d+.dump' --dbinclude app \
         -w oldest=1h,newest=1h -c oldest=2h,newest=2h",
        "sh touch -d '-3 hours' dumps/app-1.dump ;; {primary} -s pg_dump_backup --path '{folder}/dumps/*' \
         --pattern '(\\w+)-\\d+.dump' -w oldest=1h,newest=1h -c oldest=4h,newest=4h",
        "{primary} -s pg_dump_backup --path '{folder}/dumps/*' --pattern '(\\w+)-\\d+.dump' -w oldest=1h -c 'oldest=2h' \
         --exclude 1h --dbinclude app",
        "{primary} -s pg_dump_backup --path '{folder}/dumps/*' --pattern '(\\w+)-\\d+.dump' -w size=10% -c size=20% ;; \
         sh echo more >> dumps/app-2.dump ;; \
         {primary} -s pg_dump_backup --path '{folder}/dumps/*' --pattern '(\\w+)-\\d+.dump' -w size=10% -c size=2000% ;; \
         {primary} -s pg_dump_backup --path '{folder}/dumps/*' --pattern '(\\w+)-\\d+.dump' -w size=10% -c size=20%",
        "≠ {primary} -s pg_dump_backup --path '{folder}/dumps' --pattern '(\\w+)'",
        "{primary} -s pg_dump_backup --path '{folder}/dumps/*'",
        "{primary} -s pg_dump_backup --pattern '(\\w+)'",
        "{primary} -s pg_dump_backup --path '{folder}/dumps/*' --pattern '(\\w+)' -w 1 -c 2",
        "{primary} -s pg_dump_backup --path '{folder}/dumps/*' --pattern '(\\w+)' -w oldest=1x -c oldest=2",
        "{each} -s pg_dump_backup --path '{folder}/dumps/*' --pattern '(\\w+)-\\d+.dump' --dbinclude app -w oldest=0s,newest=0s -c oldest=9h,newest=9h",
        "{each} -s pg_dump_backup --path '{folder}/dumps/*' --pattern '(\\w+)-\\d+.dump' --dbexclude template -w oldest=0s,newest=0s -c oldest=0s,newest=0s",
        "{standby} -s pg_dump_backup --path '{folder}/dumps/*' --pattern '(\\w+)-\\d+.dump' --exclude 1h --dbinclude app",
    ],
};
