//! /sys/class/net: the state of the interfaces.

use std::fs;
use std::path::Path;

use super::HostCollector;
use super::file::{self, Files};
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

fn collect(files: &mut Files<'_>) -> Result<Vec<Family>, CollectError> {
    let folder = files.roots.sys.join("class/net");
    let entries = fs::read_dir(&folder).map_err(|e| file::unreadable(&folder, e))?;
    let mut devices: Vec<_> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    devices.sort();
    let (mut table, up) = Table::of(&UP);
    let numbers = NUMBERS.map(|(metric, file)| (table.describe(&metric), file));
    let speed = table.describe(&SPEED);
    for device in &devices {
        let folder = folder.join(device);
        // `bonding_masters` lies here too, and is no interface.
        let Some(is_up) = files.word(&folder.join("operstate")).map(|state| state == "up") else { continue };
        table.row(&[device]);
        table.set(up, f64::from(u8::from(is_up)));
        for (column, file) in &numbers {
            table.set_known(*column, files.number(&folder.join(file)));
        }
        table.set_known(speed, speed_of(files, &folder));
    }
    Ok(table.into_families())
}

/// The speed of an interface in bytes per second, if it is known.
pub(super) fn speed_of(files: &mut Files<'_>, interface: &Path) -> Option<f64> {
    // -1 and 4294967295 both stand for "unknown", by driver and kernel.
    let megabits = files.number(&interface.join("speed")).filter(|speed| (0.0..f64::from(u32::MAX)).contains(speed))?;
    Some(megabits * MEGABIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::host::Roots;

    #[test]
    fn an_unknown_speed_is_absent() {
        let folder = tempfile::tempdir().unwrap();
        let cases = [("10000\n", Some(1.25e9)), ("0", Some(0.0)), ("-1\n", None), ("4294967295\n", None), ("", None)];
        for (text, expected) in cases {
            fs::write(folder.path().join("speed"), text).unwrap();
            assert_eq!(speed_of(&mut Files::new(&Roots::default()), folder.path()), expected, "{text:?}");
        }
    }
}
