//! What pgvitals does on real servers. Needs `tests/setup`; each module is one subject.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test ends where it fails")]

/// Every definition on every major, on a primary and on a standby.
mod catalog;
/// The clusters that everything else here is tested on.
mod cluster;
/// What every major is shown to have, in one file per major.
mod golden;
/// One test on every major, a few at a time.
mod majors;
/// A primary with a streaming standby, and agents to watch them.
mod pair;
