//! Connecting to real servers: every way in, every way to be refused, and what a session leaves behind.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by panicking; clippy.toml covers only functions marked as tests"
)]

mod failures;
mod pooler;
mod postgres;
mod sessions;
mod tls;
