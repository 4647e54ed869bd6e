//! What pgvitals does on real servers. Needs `tests/setup`; each module is one subject.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test ends where it fails")]

/// The clusters that everything else here is tested on.
mod cluster;
/// One test on every major, a few at a time.
mod majors;
