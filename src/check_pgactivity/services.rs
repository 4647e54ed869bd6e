//! The services, a file for those that are about the same.

mod activity;
mod archive_folder;
mod archiving;
mod databases;
mod dumps;
mod query;
mod ratios;
mod server;
mod sessions;
mod settings;
mod version;

use super::Service;

/// Every service, by file.
const ALL: &[&[Service]] = &[
    activity::SERVICES,
    archive_folder::SERVICES,
    archiving::SERVICES,
    databases::SERVICES,
    dumps::SERVICES,
    query::SERVICES,
    ratios::SERVICES,
    server::SERVICES,
    sessions::SERVICES,
    settings::SERVICES,
    version::SERVICES,
];

/// Every service.
pub(super) fn all() -> impl Iterator<Item = &'static Service> {
    ALL.iter().copied().flatten()
}
