//! The user's own query.

use super::Subject;

pub(super) const SUBJECT: Subject = Subject {
    setup: &[],
    cases: &[
        "{primary} -s custom_query --query 'SELECT 42' -w 40 -c 50",
        "{primary} -s custom_query --query 'SELECT 42' -w 40 -c 41",
        "{primary} -s custom_query --query 'SELECT 42' -w 50 -c 60",
        "{primary} -s custom_query --query 'SELECT 42' -w 50 -c 40 --reverse",
        "{standby} -s custom_query --query 'SELECT 42 AS a, 7 AS foo'",
        "{primary} -s custom_query --query 'SELECT 42, $$7B$$ AS foo, $$1.5tps$$ AS \"a b\", NULL AS none'",
        "{primary} -s custom_query --query 'SELECT 1 UNION ALL SELECT 5 ORDER BY 1' -w 0 -c 4",
        "{primary} -s custom_query --query 'SELECT 2000' --type size -w 1kB -c 2MB",
        "{primary} -s custom_query --query 'SELECT 2000' --type time -w 1m -c 1h",
        "{primary} -s custom_query --query 'SELECT 2000' --type time -w 1x -c 1h",
        "{primary} -s custom_query --query 'SELECT 2000' --type size",
        "≠ {primary} -s custom_query --query 'SELECT 2000' --type size -w 1.5kB -c 2MB",
        "{primary} -s custom_query --query 'SELECT 1 WHERE false'",
        "{primary} -s custom_query --query \"SELECT 'text'\"",
        "{primary} -s custom_query --query 'SELECT nothing'",
        "{primary} -s custom_query --query 'SELECT 1' -w x -c 1",
        "{primary} -s custom_query",
        "{primary} -s custom_query --query 'SELECT 1' -w 1",
        "≠ {primary} -s custom_query --query 'SELECT 1, 2 AS a UNION ALL SELECT 3, 4 ORDER BY 1'",
        "{primary} -s custom_query --query 'SELECT 1, $$5;|B$$ AS \"x|y=z\"' \
         => POSTGRES_CUSTOM_QUERY OK: Custom query ok | 'x_y=z'=5__B",
        "{standby} -s custom_query --query 'SELECT 42' -w 40 -c 50",
        "{standby} -s custom_query --query 'SELECT 42' -w 40 -c 41",
        "{standby} -s custom_query --query 'SELECT nothing'",
    ],
};
