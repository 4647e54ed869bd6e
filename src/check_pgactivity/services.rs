//! The services, a file for those that are about the same.

mod server;
mod sessions;

use super::Service;

/// Every service.
pub(super) fn all() -> impl Iterator<Item = &'static Service> {
    [server::SERVICES, sessions::SERVICES].into_iter().flatten()
}
