//! The host's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use super::HostCollector;
use super::file::Files;
use crate::collect::CollectError;
use crate::metric::{Described, Family};

/// The host's clock; against the reader's own it shows a clock that is off, less boot time the uptime.
pub(super) const COLLECTOR: HostCollector =
    HostCollector { name: "time", help: "The host's clock", provides: &[TIME], collect };

const TIME: Described = Described::gauge("node_time_seconds", &[], "The host's clock, in seconds since 1970");

fn collect(_: &mut Files) -> Result<Vec<Family>, CollectError> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|_| CollectError::Skipped("the clock stands before 1970".to_owned()))?;
    Ok(vec![TIME.family(since.as_secs_f64())])
}
