//! Which databases a service that looks into all of them asks, one after the other.

use crate::check_pgactivity::{Call, Host, Stop};
use crate::plugin::Row;

/// The databases that are neither templates nor `postgres`, and that the command line wants, by name.
///
/// # Errors
///
/// As [`Host::rows`].
pub(super) async fn of_users(call: &Call, host: &mut Host) -> Result<Vec<String>, Stop> {
    open(call, host, |row| !row.is("is_template") && row.text("datname") != "postgres").await
}

/// The same with templates and `postgres`.
///
/// # Errors
///
/// As [`Host::rows`].
pub(super) async fn all(call: &Call, host: &mut Host) -> Result<Vec<String>, Stop> {
    open(call, host, |_| true).await
}

async fn open(call: &Call, host: &mut Host, wants: fn(&Row<'_>) -> bool) -> Result<Vec<String>, Stop> {
    let rows = host.rows("databases").await?;
    let open = Row::of(&rows).filter(|row| row.is("allows_connections") && wants(row));
    let names = open.map(|row| row.text("datname")).filter(|name| call.filters.wants_database(name));
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort_unstable();
    Ok(names)
}
