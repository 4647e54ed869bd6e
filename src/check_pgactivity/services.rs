//! The services, a file for those that are about the same.

mod activity;
mod archive_folder;
mod archiving;
mod bloat;
mod databases;
mod dumps;
mod maintenance;
mod objects;
mod query;
mod ratios;
mod replication;
mod sequences;
mod server;
mod sessions;
mod settings;
mod slots;
mod transactions;
mod version;
mod walk;

use super::Service;

/// Every service, by file.
const ALL: &[&[Service]] = &[
    activity::SERVICES,
    archive_folder::SERVICES,
    archiving::SERVICES,
    bloat::SERVICES,
    databases::SERVICES,
    dumps::SERVICES,
    maintenance::SERVICES,
    objects::SERVICES,
    query::SERVICES,
    ratios::SERVICES,
    replication::SERVICES,
    sequences::SERVICES,
    server::SERVICES,
    sessions::SERVICES,
    settings::SERVICES,
    slots::SERVICES,
    transactions::SERVICES,
    version::SERVICES,
];

/// Every service.
pub(super) fn all() -> impl Iterator<Item = &'static Service> {
    ALL.iter().copied().flatten()
}
