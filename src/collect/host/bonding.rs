//! Bonded network interfaces: which slaves are up, which one carries the traffic, how often a link failed.

use std::path::{Path, PathBuf};

use super::file::{self, Files};
use super::{HostCollector, netclass};
use crate::collect::CollectError;
use crate::metric::{Column, Described, Family, Table};

/// State of each bond and its slaves, from /sys/class/net/BOND/bonding and, for 802.3ad, /proc/net/bonding/BOND.
///
/// `node_bonding_slaves` and `node_bonding_active` are `node_exporter`'s; it has none of the others.
pub(super) const COLLECTOR: HostCollector = HostCollector {
    name: "bonding",
    help: "Bonds: slaves up, mode, active slave, link failures, LACP aggregators",
    provides: &[
        SLAVES,
        ACTIVE,
        UP,
        AGGREGATOR,
        PORTS,
        MODE,
        ACTIVE_SLAVE,
        SLAVE_UP,
        FAILURES,
        SPEED,
        DUPLEX,
        SLAVE_AGGREGATOR,
        ACTOR_CHURNED,
        PARTNER_CHURNED,
    ],
    collect,
};

const OF_BOND: &[&str] = &["master"];
const OF_MODE: &[&str] = &["master", "mode"];
const OF_SLAVE: &[&str] = &["master", "slave"];
const SLAVES: Described = Described::gauge("node_bonding_slaves", OF_BOND, "Slaves configured in the bond");
const ACTIVE: Described = Described::gauge(
    "node_bonding_active",
    OF_BOND,
    "Slaves whose link is up; fewer than node_bonding_slaves is a lost link",
);
const UP: Described = Described::gauge("node_bonding_up", OF_BOND, "Whether the bond itself has a link: 1 or 0");
const AGGREGATOR: Described =
    Described::gauge("node_bonding_aggregator_id", OF_BOND, "The aggregator that carries the traffic; 802.3ad only");
const PORTS: Described =
    Described::gauge("node_bonding_aggregator_ports", OF_BOND, "Slaves in that aggregator; 802.3ad only");
const MODE: Described =
    Described::gauge("node_bonding_mode_info", OF_MODE, "Mode of the bond, such as active-backup; always 1");
const ACTIVE_SLAVE: Described = Described::gauge(
    "node_bonding_active_slave_info",
    OF_SLAVE,
    "The slave that carries the traffic; always 1, absent where the mode knows none or no slave is up",
);
const SLAVE_UP: Described = Described::gauge(
    "node_bonding_slave_up",
    OF_SLAVE,
    "Whether the bond sees the slave's link up (its MII status): 1 or 0",
);
const FAILURES: Described = Described::counter(
    "node_bonding_slave_link_failures_total",
    OF_SLAVE,
    "How often the slave lost its link; growth means a bad cable, card or switch",
);
const SPEED: Described = Described::gauge(
    "node_bonding_slave_speed_bytes",
    OF_SLAVE,
    "Speed of the slave in bytes per second; absent where it is not known",
);
const DUPLEX: Described = Described::gauge(
    "node_bonding_slave_full_duplex",
    OF_SLAVE,
    "Whether the slave runs in full duplex: 1 or 0; absent where it is not known",
);
const SLAVE_AGGREGATOR: Described = Described::gauge(
    "node_bonding_slave_aggregator_id",
    OF_SLAVE,
    "The slave's aggregator; other than node_bonding_aggregator_id it carries no traffic; 802.3ad only",
);
const ACTOR_CHURNED: Described = Described::counter(
    "node_bonding_slave_actor_churned_total",
    OF_SLAVE,
    "How often this end failed to join its aggregator in time; 802.3ad only",
);
const PARTNER_CHURNED: Described = Described::counter(
    "node_bonding_slave_partner_churned_total",
    OF_SLAVE,
    "How often the switch failed to join its aggregator in time; 802.3ad only",
);

fn collect(files: &mut Files) -> Result<Vec<Family>, CollectError> {
    let folder = files.roots.sys.join("class/net");
    let masters = files
        .word(&folder.join("bonding_masters"))
        .map(str::to_owned)
        .ok_or_else(|| CollectError::Skipped("no bonding interface".to_owned()))?;
    let mut bonds = Bonds::new();
    for master in masters.split_ascii_whitespace() {
        bonds.add(files, &folder, &files.roots.proc.join("net/bonding").join(master), master);
    }
    Ok(bonds.into_families())
}

/// The families by their labels: bond; bond and mode; bond and slave.
struct Bonds {
    of_bond: Table,
    slaves: Column,
    active: Column,
    up: Column,
    aggregator: Column,
    ports: Column,
    of_mode: Table,
    mode: Column,
    of_slave: Table,
    active_slave: Column,
    slave_up: Column,
    failures: Column,
    speed: Column,
    duplex: Column,
    slave_aggregator: Column,
    actor_churned: Column,
    partner_churned: Column,
}

impl Bonds {
    fn new() -> Self {
        let mut of_bond = Table::new(OF_BOND);
        let mut of_mode = Table::new(OF_MODE);
        let mut of_slave = Table::new(OF_SLAVE);
        Self {
            slaves: of_bond.describe(&SLAVES),
            active: of_bond.describe(&ACTIVE),
            up: of_bond.describe(&UP),
            aggregator: of_bond.describe(&AGGREGATOR),
            ports: of_bond.describe(&PORTS),
            mode: of_mode.describe(&MODE),
            active_slave: of_slave.describe(&ACTIVE_SLAVE),
            slave_up: of_slave.describe(&SLAVE_UP),
            failures: of_slave.describe(&FAILURES),
            speed: of_slave.describe(&SPEED),
            duplex: of_slave.describe(&DUPLEX),
            slave_aggregator: of_slave.describe(&SLAVE_AGGREGATOR),
            actor_churned: of_slave.describe(&ACTOR_CHURNED),
            partner_churned: of_slave.describe(&PARTNER_CHURNED),
            of_bond,
            of_mode,
            of_slave,
        }
    }

    fn add(&mut self, files: &mut Files, interfaces: &Path, report: &Path, master: &str) {
        let interface = interfaces.join(master);
        let bonding = interface.join("bonding");
        // The bond was taken away since the list was read.
        let Some(mode) = files.word(&bonding.join("mode")) else { return };
        // `active-backup 1`: the name, then its number.
        let mode = mode.split_ascii_whitespace().next().unwrap_or_default().to_owned();
        self.of_mode.row(&[master, &mode]);
        self.of_mode.set(self.mode, 1.0);

        let slaves = files.word(&bonding.join("slaves")).unwrap_or_default().to_owned();
        let slaves: Vec<_> = slaves.split_ascii_whitespace().collect();
        let states: Vec<_> = slaves.iter().map(|slave| self.add_slave(files, interfaces, master, slave)).collect();
        if let Some(slave) = files.word(&bonding.join("active_slave")) {
            self.of_slave.row(&[master, slave]);
            self.of_slave.set(self.active_slave, 1.0);
        }

        self.of_bond.row(&[master]);
        self.of_bond.set(self.slaves, slaves.len() as f64);
        // A slave of unknown state would be counted as down: then the number is not known either.
        let states: Option<Vec<bool>> = states.into_iter().collect();
        let active = states.map(|states| states.iter().filter(|up| **up).count() as f64);
        self.of_bond.set_known(self.active, active);
        self.of_bond.set_known(self.up, is_up(files, &bonding.join("mii_status")).map(|up| f64::from(u8::from(up))));
        if mode == "802.3ad" {
            self.of_bond.set_known(self.aggregator, files.number(&bonding.join("ad_aggregator")));
            self.of_bond.set_known(self.ports, files.number(&bonding.join("ad_num_ports")));
            // Only here does the kernel tell of churn.
            if let Ok(report) = files.text(report) {
                self.add_churn(master, &report);
            }
        }
    }

    /// Adds a slave and says whether it is up, if that is known.
    fn add_slave(&mut self, files: &mut Files, interfaces: &Path, master: &str, slave: &str) -> Option<bool> {
        let folder = slave_folder(interfaces, master, slave);
        let state = folder.join("bonding_slave");
        let up = is_up(files, &state.join("mii_status"));
        let duplex = files.word(&folder.join("duplex")).and_then(|word| match word {
            "full" => Some(1.0),
            "half" => Some(0.0),
            _ => None,
        });
        let table = &mut self.of_slave;
        table.row(&[master, slave]);
        table.set_known(self.slave_up, up.map(|up| f64::from(u8::from(up))));
        table.set_known(self.failures, files.number(&state.join("link_failure_count")));
        table.set_known(self.speed, files.number(&folder.join("speed")).and_then(netclass::speed_of));
        table.set_known(self.duplex, duplex);
        // `N/A` in the other modes.
        table.set_known(self.slave_aggregator, files.number(&state.join("ad_aggregator_id")));
        up
    }

    fn add_churn(&mut self, master: &str, report: &str) {
        for (slave, key, value) in churn(report) {
            self.of_slave.row(&[master, slave]);
            self.of_slave.set(if key == Churn::Actor { self.actor_churned } else { self.partner_churned }, value);
        }
    }

    fn into_families(self) -> Vec<Family> {
        [self.of_bond, self.of_mode, self.of_slave].into_iter().flat_map(Table::into_families).collect()
    }
}

/// The end of a link that did not join in time: ours, or the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Churn {
    Actor,
    Partner,
}

/// Slave, end and count of each churn line of /proc/net/bonding/BOND.
fn churn(report: &str) -> impl Iterator<Item = (&str, Churn, f64)> {
    let mut slave = None;
    report.lines().filter_map(move |line| {
        let (key, value) = line.split_once(':')?;
        let end = match key.trim() {
            "Slave Interface" => {
                slave = Some(value.trim());
                return None;
            }
            "Actor Churned Count" => Churn::Actor,
            "Partner Churned Count" => Churn::Partner,
            _ => return None,
        };
        Some((slave?, end, file::number_of(value.trim())?))
    })
}

/// Where the slave's files are: below the bond since kernel 3.13 `lower_NAME`, before `slave_NAME`, else by its own name.
fn slave_folder(interfaces: &Path, master: &str, slave: &str) -> PathBuf {
    let bond = interfaces.join(master);
    [bond.join(format!("lower_{slave}")), bond.join(format!("slave_{slave}"))]
        .into_iter()
        .find(|folder| folder.is_dir())
        .unwrap_or_else(|| interfaces.join(slave))
}

/// `up`, else `down`, `going down` or `going back`.
fn is_up(files: &mut Files, path: &Path) -> Option<bool> {
    Some(files.word(path)? == "up")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::host::Roots;

    /// All samples of a fixture as `name{values}=value`.
    fn lines(fixture: &str) -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/host").join(fixture);
        let families = collect(&mut Files::new(Roots { proc: folder.join("proc"), sys: folder.join("sys") })).unwrap();
        let line = |family: &Family, sample: crate::metric::Sample<'_>| {
            let name = family.metric().name.trim_start_matches("node_bonding_").to_owned();
            let labels: Vec<_> = sample.labels().map(|(_, value)| value).collect();
            format!("{name}{{{}}}={}", labels.join(","), sample.value)
        };
        families
            .iter()
            .flat_map(|family| family.samples().map(|sample| line(family, sample)).collect::<Vec<_>>())
            .collect()
    }

    fn assert_has(fixture: &str, expected: &[&str]) {
        let found = lines(fixture);
        for line in expected {
            assert!(found.iter().any(|have| have == line), "{fixture}: no {line} in {found:#?}");
        }
    }

    #[test]
    fn a_sound_bond_has_all_its_slaves_up() {
        assert_has(
            "bond-active-backup",
            &[
                "slaves{bond0}=2",
                "active{bond0}=2",
                "up{bond0}=1",
                "mode_info{bond0,active-backup}=1",
                "active_slave_info{bond0,eth0}=1",
                "slave_up{bond0,eth1}=1",
                "slave_link_failures_total{bond0,eth1}=1",
                "slave_speed_bytes{bond0,eth0}=1250000000",
                "slave_full_duplex{bond0,eth0}=1",
            ],
        );
        assert!(!lines("bond-active-backup").iter().any(|line| line.contains("aggregator") || line.contains("churn")));
    }

    #[test]
    fn a_lost_link_shows_as_a_slave_that_is_down() {
        let fixture = "bond-active-backup-slave-down";
        assert_has(
            fixture,
            &[
                "slaves{bond0}=2",
                "active{bond0}=1",
                "up{bond0}=1",
                "active_slave_info{bond0,eth1}=1",
                "slave_up{bond0,eth0}=0",
                "slave_link_failures_total{bond0,eth0}=3",
            ],
        );
        assert!(
            !lines(fixture).iter().any(|line| line.starts_with("slave_speed_bytes{bond0,eth0}")),
            "no speed is no 0"
        );
    }

    #[test]
    fn a_slave_outside_the_aggregator_is_seen_by_its_number() {
        assert_has(
            "bond-802.3ad",
            &[
                "mode_info{bond0,802.3ad}=1",
                "aggregator_id{bond0}=1",
                "aggregator_ports{bond0}=1",
                "slave_aggregator_id{bond0,eth0}=1",
                "slave_aggregator_id{bond0,eth1}=2",
                "slave_actor_churned_total{bond0,eth0}=0",
                "slave_partner_churned_total{bond0,eth1}=1",
            ],
        );
        assert!(!lines("bond-802.3ad").iter().any(|line| line.starts_with("active_slave_info")));
    }

    #[test]
    fn without_a_bond_there_is_nothing_to_say_and_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots { proc: folder.path().join("proc"), sys: folder.path().join("sys") };
        let is_skipped = || matches!(collect(&mut Files::new(roots.clone())), Err(CollectError::Skipped(reason)) if reason == "no bonding interface");
        assert!(is_skipped(), "no such file");
        std::fs::create_dir_all(roots.sys.join("class/net")).unwrap();
        std::fs::write(roots.sys.join("class/net/bonding_masters"), "\n").unwrap();
        assert!(is_skipped(), "an empty list");
    }

    #[test]
    fn a_slave_of_unknown_state_leaves_the_number_of_active_ones_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let bonding = folder.path().join("class/net/bond0/bonding");
        std::fs::create_dir_all(&bonding).unwrap();
        std::fs::write(folder.path().join("class/net/bonding_masters"), "bond0\n").unwrap();
        std::fs::write(bonding.join("mode"), "balance-rr 0\n").unwrap();
        std::fs::write(bonding.join("slaves"), "eth0\n").unwrap();
        let families =
            collect(&mut Files::new(Roots { proc: folder.path().to_owned(), sys: folder.path().to_owned() })).unwrap();
        let names: Vec<_> = families.iter().map(|family| family.metric().name.as_str()).collect();
        assert_eq!(names, ["node_bonding_slaves", "node_bonding_mode_info"]);
    }
}
