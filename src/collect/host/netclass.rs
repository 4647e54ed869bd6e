//! /sys/class/net: the state of the interfaces.

use std::fs;
use std::path::Path;

use super::{HostCollector, Roots, file};
use crate::collect::CollectError;
use crate::metric::{Family, Kind, Table};

/// Link state, speed and carrier losses of each network interface, from /sys/class/net.
///
/// A speed the driver does not know is absent; `node_exporter` shows the kernel's -1 as -125000.
pub(super) const COLLECTOR: HostCollector = HostCollector {
    name: "netclass",
    help: "Network interfaces: link up, speed, how often the carrier was lost",
    provides: &[
        "node_network_up",
        "node_network_carrier",
        "node_network_carrier_changes_total",
        "node_network_carrier_up_changes_total",
        "node_network_carrier_down_changes_total",
        "node_network_mtu_bytes",
        "node_network_speed_bytes",
    ],
    collect,
};

/// The kernel gives speeds in megabits per second.
const MEGABIT: f64 = 125_000.0;

/// Name, type, file and meaning of what is one number in one file.
const NUMBERS: [(&str, Kind, &str, &str); 5] = [
    (
        "node_network_carrier",
        Kind::Gauge,
        "carrier",
        "Whether the link has a carrier: 1 or 0; absent while the interface is switched off",
    ),
    (
        "node_network_carrier_changes_total",
        Kind::Counter,
        "carrier_changes",
        "How often the carrier came or went; growth means a bad cable or port",
    ),
    ("node_network_carrier_up_changes_total", Kind::Counter, "carrier_up_count", "How often the carrier came"),
    ("node_network_carrier_down_changes_total", Kind::Counter, "carrier_down_count", "How often the carrier went"),
    ("node_network_mtu_bytes", Kind::Gauge, "mtu", "Largest packet the interface sends, in bytes"),
];

fn collect(roots: &Roots) -> Result<Vec<Family>, CollectError> {
    let folder = roots.sys.join("class/net");
    let entries = fs::read_dir(&folder).map_err(|e| file::unreadable(&folder, e))?;
    let mut devices: Vec<_> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    devices.sort();
    let mut table = Table::new(&["device"]);
    let up = table.column(Kind::Gauge, "node_network_up", "Whether the interface is up (`operstate`): 1 or 0");
    let numbers = NUMBERS.map(|(name, kind, file, help)| (table.column(kind, name, help), file));
    let speed = table.column(
        Kind::Gauge,
        "node_network_speed_bytes",
        "Speed of the link in bytes per second; absent where it is not known",
    );
    for device in &devices {
        let folder = folder.join(device);
        // `bonding_masters` lies here too, and is no interface.
        let Some(state) = file::word(&folder.join("operstate")) else { continue };
        table.row(&[device]);
        table.set(up, f64::from(u8::from(state == "up")));
        for (column, file) in &numbers {
            table.set_known(*column, file::number(&folder.join(file)));
        }
        table.set_known(speed, speed_of(&folder));
    }
    Ok(table.into_families())
}

/// The speed of an interface in bytes per second, if it is known.
pub(super) fn speed_of(interface: &Path) -> Option<f64> {
    // -1 and 4294967295 both stand for "unknown", by driver and kernel.
    let megabits = file::number(&interface.join("speed")).filter(|speed| (0.0..f64::from(u32::MAX)).contains(speed))?;
    Some(megabits * MEGABIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_speed_is_absent() {
        let folder = tempfile::tempdir().unwrap();
        let cases = [("10000\n", Some(1.25e9)), ("0", Some(0.0)), ("-1\n", None), ("4294967295\n", None), ("", None)];
        for (text, expected) in cases {
            fs::write(folder.path().join("speed"), text).unwrap();
            assert_eq!(speed_of(folder.path()), expected, "{text:?}");
        }
    }
}
