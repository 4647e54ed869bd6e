//! pgvitals reads what PostgreSQL and the kernel say about themselves and shows it with several faces.
//!
//! # Layout
//!
//! Read top to bottom, this is the way the facts take:
//!
//! - [`collect`] asks a server or the host
//! - [`metric`] families, samples, the snapshot: what is handed around
//! - [`sink`] shows a snapshot as text
//! - [`push`] sends it to Graphite on time
//!
//! Beside it stands [`demo`]: throw-away clusters to look at and to test against.

pub mod collect;
pub mod demo;
pub mod metric;
pub mod push;
pub mod sink;
