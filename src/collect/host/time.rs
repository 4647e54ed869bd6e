//! The host's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{HostCollector, Roots};
use crate::collect::CollectError;
use crate::metric::{Family, Kind};

/// The host's clock; against the reader's own it shows a clock that is off, less boot time the uptime.
pub(super) const COLLECTOR: HostCollector =
    HostCollector { name: "time", help: "The host's clock", provides: &["node_time_seconds"], collect };

fn collect(_: &Roots) -> Result<Vec<Family>, CollectError> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|_| CollectError::Skipped("the clock stands before 1970".to_owned()))?;
    Ok(vec![Family::single(
        Kind::Gauge,
        "node_time_seconds",
        "The host's clock, in seconds since 1970",
        since.as_secs_f64(),
    )])
}
