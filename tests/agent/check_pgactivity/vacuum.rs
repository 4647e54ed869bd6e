//! When tables were vacuumed and analyzed.

use super::Subject;

pub(super) const SUBJECT: Subject = Subject {
    setup: &[],
    cases: &[
        // tables of the catalog, which were never done
        "≠ {primary} -s last_vacuum -w 1d -c 2d --dbinclude side",
        "{primary} -s last_analyze -w 1d -c 2d --dbinclude nothing",
        "{primary} -s last_analyze -w 1d",
        "{primary} -s last_vacuum -w x -c y",
        "{both} -s last_vacuum -w 1d -c 2d",
        "≠ {standby} -s last_vacuum -w 1d -c 2d",
        "≠ {standby} -s last_analyze -w 1d -c 2d",
        "sql VACUUM ANALYZE ;; {primary} -s last_vacuum -w 1d -c 2d --dbinclude ^app$",
        "{primary} -s last_vacuum -w 1d -c 2d --dbinclude ^app$",
        "sql VACUUM numbered ;; {primary} -s last_vacuum -w 1d -c 2d --dbinclude ^app$",
        "{primary} -s last_analyze -w 1d -c 2d --dbinclude ^app$",
        // Where nobody has written since, nothing is due.
        "sql INSERT INTO numbered (other) VALUES (7) ;; sql SELECT pg_sleep(1.1) ;; {primary} -s last_vacuum -w 1s -c 2d --dbinclude ^app$",
        "{primary} -s last_vacuum -w 1s -c 1s --dbexclude '^(other|side|postgres)$'",
        "{primary} -s last_analyze -w 1s -c 2d --dbinclude ^app$",
        "{primary} -s last_analyze -w 1s -c 1s --dbexclude '^(other|side|postgres)$'",
        "≠ {primary} -s last_vacuum -w 1d -c 2d --exclude pg_ --dbexclude app",
        "≠ {primary} -s last_analyze -w 1d -c 2d --exclude pg_ --dbexclude app",
    ],
};
