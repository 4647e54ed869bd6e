//! The actions, a table in each file.

mod activity;
mod bloat;
mod connections;
mod control;
mod databases;
mod files;
mod gone;
mod logfile;
mod objects;
mod others;
mod pgbouncer;
mod queries;
mod replication;
mod schema;
mod settings;
mod sizes;
mod transactions;
mod vacuum;
mod versions;

use super::Action;

const TABLES: &[&[Action]] = &[
    activity::ACTIONS,
    bloat::ACTIONS,
    connections::ACTIONS,
    control::ACTIONS,
    databases::ACTIONS,
    files::ACTIONS,
    gone::ACTIONS,
    logfile::ACTIONS,
    objects::ACTIONS,
    others::ACTIONS,
    pgbouncer::ACTIONS,
    queries::ACTIONS,
    replication::ACTIONS,
    schema::ACTIONS,
    settings::ACTIONS,
    sizes::ACTIONS,
    transactions::ACTIONS,
    vacuum::ACTIONS,
    versions::ACTIONS,
];

/// Every action.
pub(super) fn all() -> impl Iterator<Item = &'static Action> {
    TABLES.iter().copied().flatten()
}

/// The action of this name.
pub(super) fn find(name: &str) -> Option<&'static Action> {
    all().find(|action| action.name == name)
}
