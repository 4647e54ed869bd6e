//! The services, a file for those that are about the same.

mod activity;
mod archiving;
mod databases;
mod ratios;
mod server;
mod sessions;

use super::Service;

/// Every service.
pub(super) fn all() -> impl Iterator<Item = &'static Service> {
    [
        activity::SERVICES,
        archiving::SERVICES,
        databases::SERVICES,
        ratios::SERVICES,
        server::SERVICES,
        sessions::SERVICES,
    ]
    .into_iter()
    .flatten()
}
