//! What the types of collectd count, as far as its `types.db` has them and a query may give them.

use crate::metric::Kind;

/// A value of a type: its name, and how it behaves.
pub(super) type Value = (&'static str, Kind);

/// The values of a type; none if it is not known here.
pub(super) fn values(name: &str) -> Option<Vec<Value>> {
    let is = |names: &str| names.split_whitespace().any(|known| known == name);
    if is(GAUGES) {
        return Some(vec![("value", Kind::Gauge)]);
    }
    if is(COUNTERS) {
        return Some(vec![("value", Kind::Counter)]);
    }
    if name == "duration" {
        return Some(vec![("seconds", Kind::Gauge)]);
    }
    let pairs = PAIRS.iter().find(|(names, _)| names.split_whitespace().any(|known| known == name));
    pairs.map(|(_, [one, other])| vec![(*one, Kind::Counter), (*other, Kind::Counter)])
}

/// The number itself. An `absolute` is a difference already, and one that is read twice as good as lost.
const GAUGES: &str = "absolute backends bitrate bool bytes cache_ratio cache_size capacity count current \
     current_connections current_sessions delay delay_rate disk_allocation disk_capacity disk_error disk_physical file_size \
     files frequency gauge latency memory objects operations_per_second percent percent_bytes percent_inodes pg_db_size \
     pg_n_tup_g pg_numbackends queue_length records requests response_time swap threads time_offset timeleft uptime users";

/// What only grows; collectd stores its rate.
const COUNTERS: &str = "cache_eviction cache_operation cache_result commands connections counter derive errors operations \
     pg_blks pg_n_tup_c pg_scan pg_xact swap_io total_bytes total_connections total_events total_objects total_operations \
     total_requests total_sessions total_threads total_time_in_ms total_values";

const PAIRS: [(&str, [&str; 2]); 2] = [
    ("disk_merged disk_octets disk_ops disk_time", ["read", "write"]),
    ("if_dropped if_errors if_octets if_packets io_octets io_packets", ["rx", "tx"]),
];
