//! /sys/class/net: the state of the interfaces.

use super::HostCollector;
use super::file::Files;
use crate::collect::CollectError;
use crate::metric::{Described, Family, Table};

/// Link state, speed and carrier losses of each network interface, from /sys/class/net.
///
/// A speed the driver does not know is absent; `node_exporter` shows the kernel's -1 as -125000.
pub(super) const COLLECTOR: HostCollector = HostCollector {
    name: "netclass",
    help: "Network interfaces: link up, speed, how often the carrier was lost",
    provides: &[UP, CARRIER, CHANGES, UP_CHANGES, DOWN_CHANGES, MTU, SPEED],
    collect,
};

const LABELS: &[&str] = &["device"];
const UP: Described = Described::gauge("node_network_up", LABELS, "Whether the interface is up (`operstate`): 1 or 0");
const CARRIER: Described = Described::gauge(
    "node_network_carrier",
    LABELS,
    "Whether the link has a carrier: 1 or 0; absent while the interface is switched off",
);
const CHANGES: Described = Described::counter(
    "node_network_carrier_changes_total",
    LABELS,
    "How often the carrier came or went; growth means a bad cable or port",
);
const UP_CHANGES: Described =
    Described::counter("node_network_carrier_up_changes_total", LABELS, "How often the carrier came");
const DOWN_CHANGES: Described =
    Described::counter("node_network_carrier_down_changes_total", LABELS, "How often the carrier went");
const MTU: Described =
    Described::gauge("node_network_mtu_bytes", LABELS, "Largest packet the interface sends, in bytes");
const SPEED: Described = Described::gauge(
    "node_network_speed_bytes",
    LABELS,
    "Speed of the link in bytes per second; absent where it is not known",
);

/// The kernel gives speeds in megabits per second.
const MEGABIT: f64 = 125_000.0;

/// What is one number in one file, and the file.
const NUMBERS: [(Described, &str); 5] = [
    (CARRIER, "carrier"),
    (CHANGES, "carrier_changes"),
    (UP_CHANGES, "carrier_up_count"),
    (DOWN_CHANGES, "carrier_down_count"),
    (MTU, "mtu"),
];

fn collect(files: &mut Files) -> Result<Vec<Family>, CollectError> {
    let devices = files.interfaces()?;
    let (mut table, up) = Table::of(&UP);
    let numbers = NUMBERS.map(|(metric, file)| (table.describe(&metric), file));
    let speed = table.describe(&SPEED);
    for device in &devices {
        // `bonding_masters` lies here too, and is no interface.
        let Some(is_up) = files.word_of(device, "operstate").map(|state| state == "up") else { continue };
        table.row(&[device]);
        table.set(up, f64::from(u8::from(is_up)));
        for (column, file) in &numbers {
            table.set_known(*column, files.number_of(device, file));
        }
        table.set_known(speed, files.number_of(device, "speed").and_then(speed_of));
    }
    Ok(table.into_families())
}

/// The speed of an interface in bytes per second by what its file `speed` says, if it is known.
pub(super) fn speed_of(megabits: f64) -> Option<f64> {
    // -1 and 4294967295 both stand for "unknown", by driver and kernel.
    (0.0..f64::from(u32::MAX)).contains(&megabits).then_some(megabits * MEGABIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_speed_is_absent() {
        let cases = [(10_000.0, Some(1.25e9)), (0.0, Some(0.0)), (-1.0, None), (4_294_967_295.0, None)];
        for (megabits, expected) in cases {
            assert_eq!(speed_of(megabits), expected, "{megabits}");
        }
    }
}
