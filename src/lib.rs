//! pgvitals reads what PostgreSQL and the kernel say about themselves and shows it with several faces.
//!
//! # Layout
//!
//! Read top to bottom, this is the way the facts take:
//!
//! - [`server`] which servers there are, and an open session with one
//! - [`collect`] asks a server or the host
//! - [`metric`] families, samples, the snapshot: what is handed around

pub mod collect;
pub mod metric;
pub mod server;
