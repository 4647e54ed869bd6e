//! What it takes to see the facts of statements.

/// More lines for the primary's postgresql.conf.
pub(super) fn conf() -> Vec<&'static str> {
    vec!["pg_stat_statements.track_planning = on"]
}
