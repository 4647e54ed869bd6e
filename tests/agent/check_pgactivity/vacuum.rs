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
    ],
};
