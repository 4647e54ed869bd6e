//! /proc/net/dev.

use procfs::FromBufRead;
use procfs::net::{DeviceStatus, InterfaceDeviceStatus};

use super::HostCollector;
use super::file::{self, Files};
use crate::collect::CollectError;
use crate::metric::{Described, Family, Table};

/// Traffic and errors of each network interface, from /proc/net/dev and `statistics/rx_nohandler` in /sys/class/net.
pub(super) const COLLECTOR: HostCollector = HostCollector {
    name: "netdev",
    help: "Network interfaces: bytes, packets, errors, drops",
    provides: &COUNTS,
    collect,
};

/// Where a count is found in a line.
type Field = fn(&DeviceStatus) -> u64;

const fn counter(name: &'static str, help: &'static str) -> Described {
    Described::counter(name, &["device"], help)
}

const COUNTS: [Described; 17] = [
    counter("node_network_receive_bytes_total", "Bytes received"),
    counter("node_network_receive_packets_total", "Packets received"),
    counter("node_network_receive_errs_total", "Bad packets received"),
    counter("node_network_receive_drop_total", "Packets received and dropped, for want of room among other reasons"),
    counter("node_network_receive_fifo_total", "Packets lost because the receiving queue of the card overran"),
    counter("node_network_receive_frame_total", "Packets received out of frame"),
    counter("node_network_receive_compressed_total", "Compressed packets received"),
    counter("node_network_receive_multicast_total", "Multicast packets received"),
    counter("node_network_transmit_bytes_total", "Bytes sent"),
    counter("node_network_transmit_packets_total", "Packets sent"),
    counter("node_network_transmit_errs_total", "Packets that could not be sent"),
    counter("node_network_transmit_drop_total", "Packets dropped on their way out"),
    counter("node_network_transmit_fifo_total", "Packets lost because the sending queue of the card overran"),
    counter("node_network_transmit_colls_total", "Collisions while sending"),
    counter("node_network_transmit_carrier_total", "Packets not sent because the carrier was lost"),
    counter("node_network_transmit_compressed_total", "Compressed packets sent"),
    counter("node_network_receive_nohandler_total", "Packets received that no protocol wanted"),
];

/// Where each of [`COUNTS`] is found, but for the last, which has a file of its own.
const FIELDS: [Field; 16] = [
    |d| d.recv_bytes,
    |d| d.recv_packets,
    |d| d.recv_errs,
    |d| d.recv_drop,
    |d| d.recv_fifo,
    |d| d.recv_frame,
    |d| d.recv_compressed,
    |d| d.recv_multicast,
    |d| d.sent_bytes,
    |d| d.sent_packets,
    |d| d.sent_errs,
    |d| d.sent_drop,
    |d| d.sent_fifo,
    |d| d.sent_colls,
    |d| d.sent_carrier,
    |d| d.sent_compressed,
];

fn collect(files: &mut Files) -> Result<Vec<Family>, CollectError> {
    let path = files.roots.proc.join("net/dev");
    let text = files.text(&path)?;
    let status =
        InterfaceDeviceStatus::from_buf_read(text.as_bytes()).map_err(|e| file::malformed(&path, e.to_string()))?;
    let mut devices: Vec<_> = status.0.into_values().collect();
    devices.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(families(&devices, |device| files.number_of(device, "statistics/rx_nohandler")))
}

fn families(devices: &[DeviceStatus], mut nohandler: impl FnMut(&str) -> Option<f64>) -> Vec<Family> {
    let mut table = Table::new(&["device"]);
    let [counts @ .., unhandled] = COUNTS.map(|metric| table.describe(&metric));
    for device in devices {
        table.row(&[&device.name]);
        for (column, field) in counts.into_iter().zip(FIELDS) {
            table.set(column, field(device) as f64);
        }
        table.set_known(unhandled, nohandler(&device.name));
    }
    table.into_families()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_column_has_its_name() {
        let text = "Inter-| Receive | Transmit\n face |bytes packets |bytes\n\
                    bond0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        let devices: Vec<_> = InterfaceDeviceStatus::from_buf_read(text.as_bytes()).unwrap().0.into_values().collect();
        let families = families(&devices, |device| (device == "bond0").then_some(17.0));
        let first = |family: &Family| family.samples().next().map(|s| (s.label("device") == Some("bond0"), s.value));
        let found: Vec<_> = families.iter().map(|family| (family.metric().name.as_str(), first(family))).collect();
        let expected: Vec<_> =
            COUNTS.iter().map(|metric| metric.name).zip((1..=17).map(|n| Some((true, f64::from(n))))).collect();
        assert_eq!(found, expected);
    }
}
