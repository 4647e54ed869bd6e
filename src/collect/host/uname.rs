//! What `uname` says, of a copied tree from /proc/sys/kernel.

use std::path::Path;

use super::HostCollector;
use super::file::Files;
use crate::collect::CollectError;
use crate::metric::{Described, Family, Table};

/// Kernel and host name, from `uname` or, so that a copied tree speaks of its own host, from its /proc/sys/kernel.
pub(super) const COLLECTOR: HostCollector =
    HostCollector { name: "uname", help: "Kernel release and host name", provides: &[INFO], collect };

const INFO: Described = Described::gauge(
    "node_uname_info",
    &["sysname", "release", "version", "machine", "nodename", "domainname"],
    "Kernel and host name, as `uname` shows them; always 1",
);
/// The file of each label.
const FILES: [&str; 6] = ["ostype", "osrelease", "version", "arch", "hostname", "domainname"];

fn collect(files: &mut Files) -> Result<Vec<Family>, CollectError> {
    // The same words with one call instead of 18.
    let values = if files.roots.proc == Path::new("/proc") { of_this_host() } else { copied(files)? };
    let (mut table, fact) = Table::of(&INFO);
    table.row(&values);
    table.set(fact, 1.0);
    Ok(table.into_families())
}

fn of_this_host() -> [String; 6] {
    let said = rustix::system::uname();
    [said.sysname(), said.release(), said.version(), said.machine(), said.nodename(), said.domainname()]
        .map(|word| word.to_string_lossy().trim().to_owned())
}

fn copied(files: &mut Files) -> Result<[String; 6], CollectError> {
    let folder = files.roots.proc.join("sys/kernel");
    let mut values = FILES.map(|name| files.word(&folder.join(name)).map(str::to_owned));
    let [_, release, _, machine, ..] = &mut values;
    if release.is_none() {
        return Err(CollectError::Skipped(format!("no {}", folder.join("osrelease").display())));
    }
    // `arch` came with kernel 6.1.
    machine.get_or_insert_with(|| rustix::system::uname().machine().to_string_lossy().into_owned());
    Ok(values.map(Option::unwrap_or_default))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::host::Roots;

    #[test]
    fn a_copied_tree_says_of_this_host_what_uname_says() {
        let labels = |proc: &str| {
            let roots = Roots { proc: proc.into(), ..Roots::default() };
            let families = collect(&mut Files::new(roots.clone())).unwrap();
            let sample = families[0].samples().next().unwrap();
            sample.labels().map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
        };
        let said = labels("/proc");
        assert_eq!(said[1], rustix::system::uname().release().to_str().unwrap());
        assert_eq!(labels("/proc/../proc"), said);
    }
}
