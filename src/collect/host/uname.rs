//! What `uname` says, from /proc/sys/kernel.

use super::{HostCollector, Roots, file};
use crate::collect::CollectError;
use crate::metric::{Described, Family, Table};

/// Kernel and host name, from /proc/sys/kernel, so that a copied tree speaks of its own host.
pub(super) const COLLECTOR: HostCollector =
    HostCollector { name: "uname", help: "Kernel release and host name", provides: &[INFO], collect };

const INFO: Described = Described::gauge(
    "node_uname_info",
    &["sysname", "release", "version", "machine", "nodename", "domainname"],
    "Kernel and host name, as `uname` shows them; always 1",
);
/// The file of each label.
const FILES: [&str; 6] = ["ostype", "osrelease", "version", "arch", "hostname", "domainname"];

fn collect(roots: &Roots) -> Result<Vec<Family>, CollectError> {
    let folder = roots.proc.join("sys/kernel");
    let mut values = FILES.map(|name| file::word(&folder.join(name)));
    let [_, release, _, machine, ..] = &mut values;
    if release.is_none() {
        return Err(CollectError::Skipped(format!("no {}", folder.join("osrelease").display())));
    }
    // `arch` came with kernel 6.1.
    machine.get_or_insert_with(|| rustix::system::uname().machine().to_string_lossy().into_owned());
    let (mut table, fact) = Table::of(&INFO);
    table.row(&values.map(Option::unwrap_or_default));
    table.set(fact, 1.0);
    Ok(table.into_families())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_uname_says() {
        let families = collect(&Roots::default()).unwrap();
        let sample = families[0].samples().next().unwrap();
        let uname = rustix::system::uname();
        for (label, expected) in
            [("release", uname.release()), ("machine", uname.machine()), ("nodename", uname.nodename())]
        {
            assert_eq!(sample.label(label), expected.to_str().ok(), "{label}");
        }
    }
}
