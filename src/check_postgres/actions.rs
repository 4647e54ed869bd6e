//! The actions, a table in each file.

mod activity;
mod bloat;
mod connections;
mod databases;
mod files;
mod others;
mod pgbouncer;
mod queries;
mod replication;
mod schema;
mod sizes;
mod transactions;
mod vacuum;

use super::Action;

const TABLES: &[&[Action]] = &[
    activity::ACTIONS,
    bloat::ACTIONS,
    connections::ACTIONS,
    databases::ACTIONS,
    files::ACTIONS,
    others::ACTIONS,
    pgbouncer::ACTIONS,
    queries::ACTIONS,
    replication::ACTIONS,
    schema::ACTIONS,
    sizes::ACTIONS,
    transactions::ACTIONS,
    vacuum::ACTIONS,
];

/// Every action.
pub(super) fn all() -> impl Iterator<Item = &'static Action> {
    TABLES.iter().copied().flatten()
}

/// The action of this name.
pub(super) fn find(name: &str) -> Option<&'static Action> {
    all().find(|action| action.name == name)
}
