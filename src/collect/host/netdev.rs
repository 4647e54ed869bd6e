//! /proc/net/dev.

use procfs::FromBufRead;
use procfs::net::{DeviceStatus, InterfaceDeviceStatus};

use super::{HostCollector, Roots, file};
use crate::collect::CollectError;
use crate::metric::{Family, Kind, Table};

/// Traffic and errors of each network interface, from /proc/net/dev and `statistics/rx_nohandler` in /sys/class/net.
pub(super) const COLLECTOR: HostCollector = HostCollector {
    name: "netdev",
    help: "Network interfaces: bytes, packets, errors, drops",
    provides: &[
        "node_network_receive_bytes_total",
        "node_network_receive_packets_total",
        "node_network_receive_errs_total",
        "node_network_receive_drop_total",
        "node_network_receive_fifo_total",
        "node_network_receive_frame_total",
        "node_network_receive_compressed_total",
        "node_network_receive_multicast_total",
        "node_network_transmit_bytes_total",
        "node_network_transmit_packets_total",
        "node_network_transmit_errs_total",
        "node_network_transmit_drop_total",
        "node_network_transmit_fifo_total",
        "node_network_transmit_colls_total",
        "node_network_transmit_carrier_total",
        "node_network_transmit_compressed_total",
        NOHANDLER,
    ],
    collect,
};

const NOHANDLER: &str = "node_network_receive_nohandler_total";

/// Where a count is found in a line.
type Field = fn(&DeviceStatus) -> u64;

/// Meaning and source of the names in `provides`, in that order.
const FIELDS: [(&str, Field); 16] = [
    ("Bytes received", |d| d.recv_bytes),
    ("Packets received", |d| d.recv_packets),
    ("Bad packets received", |d| d.recv_errs),
    ("Packets received and dropped, for want of room among other reasons", |d| d.recv_drop),
    ("Packets lost because the receiving queue of the card overran", |d| d.recv_fifo),
    ("Packets received out of frame", |d| d.recv_frame),
    ("Compressed packets received", |d| d.recv_compressed),
    ("Multicast packets received", |d| d.recv_multicast),
    ("Bytes sent", |d| d.sent_bytes),
    ("Packets sent", |d| d.sent_packets),
    ("Packets that could not be sent", |d| d.sent_errs),
    ("Packets dropped on their way out", |d| d.sent_drop),
    ("Packets lost because the sending queue of the card overran", |d| d.sent_fifo),
    ("Collisions while sending", |d| d.sent_colls),
    ("Packets not sent because the carrier was lost", |d| d.sent_carrier),
    ("Compressed packets sent", |d| d.sent_compressed),
];

fn collect(roots: &Roots) -> Result<Vec<Family>, CollectError> {
    let path = roots.proc.join("net/dev");
    let text = file::text(&path)?;
    let status =
        InterfaceDeviceStatus::from_buf_read(text.as_bytes()).map_err(|e| file::malformed(&path, e.to_string()))?;
    let mut devices: Vec<_> = status.0.into_values().collect();
    devices.sort_by(|left, right| left.name.cmp(&right.name));
    let folder = roots.sys.join("class/net");
    Ok(families(&devices, |device| file::number(&folder.join(device).join("statistics/rx_nohandler"))))
}

fn families(devices: &[DeviceStatus], nohandler: impl Fn(&str) -> Option<f64>) -> Vec<Family> {
    let mut table = Table::new(&["device"]);
    let columns: Vec<_> = COLLECTOR
        .provides
        .iter()
        .zip(FIELDS)
        .map(|(name, (help, field))| (table.column(Kind::Counter, name, help), field))
        .collect();
    let unhandled = table.column(Kind::Counter, NOHANDLER, "Packets received that no protocol wanted");
    for device in devices {
        table.row(&[&device.name]);
        for (column, field) in &columns {
            table.set(*column, field(device) as f64);
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
            COLLECTOR.provides.iter().copied().zip((1..=17).map(|n| Some((true, f64::from(n))))).collect();
        assert_eq!(found, expected);
    }
}
