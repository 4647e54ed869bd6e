//! pgvitals reads what PostgreSQL and the kernel say about themselves and shows it with several faces.
//!
//! # Layout
//!
//! Read top to bottom, this is the way the facts take:
//!
//! - [`config`] what the user wrote, [`plan`] what it comes to
//! - [`catalog`] the definitions: what to ask, what it is called, when it is a problem
//! - [`server`] from a connection string to an open session
//! - [`collect`] asks a server or the host
//! - [`metric`] families, samples, the snapshot: what is handed around
//! - [`agent`] servers and host × collectors, asked on demand, as one reading
//! - [`check`] rules and thresholds turn a snapshot into verdicts; [`judge`] brings them together with the agent
//! - [`sink`] shows a snapshot or a verdict as text
//! - [`access`] who may read it over HTTP; [`web`] serves it; [`push`] sends it to Graphite on time
//! - [`serve`] runs both as a service: reload, watchdog, end
//! - [`mod@reference`] says what there is to be read, as a page and as a schema
//! - [`doctor`] says what keeps facts from us, and what mends it
//! - [`plugin`] what the command lines of `check_postgres` and `check_pgactivity` share
//! - [`check_pgactivity`] the command line of that program
//! - [`check_postgres`] the command line of the one
//! - [`import`] makes definitions of files that were written for other exporters
//! - [`cli`] the command line
//!
//! Beside them stand [`mod@unit`], quantities as people write them, [`source`], files as people write them, [`panics`], what
//! becomes of a mistake of ours, and [`demo`], throw-away clusters to look at and to test against.

#![cfg_attr(test, allow(clippy::string_slice, reason = "a test ends where it fails"))]

pub mod access;
pub mod agent;
pub mod catalog;
pub mod check;
pub mod check_pgactivity;
pub mod check_postgres;
pub mod cli;
pub mod collect;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod import;
pub mod judge;
pub mod metric;
pub mod panics;
pub mod plan;
pub mod plugin;
pub mod push;
pub mod reference;
pub mod serve;
pub mod server;
pub mod sink;
pub mod source;
pub mod unit;
pub mod web;
