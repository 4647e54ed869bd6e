//! Mounted file systems and their space.

mod mount;
mod space;
mod table;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mount::Mount;
use space::Space;
pub(super) use table::MountTable;

use super::HostCollector;
use super::file::Files;
use crate::collect::CollectError;
use crate::metric::{Described, Family, Table};

/// Space and inodes of each mounted file system, from /proc/1/mountinfo and `statvfs`.
///
/// A mount that does not answer (a dead NFS server) is reported by `node_filesystem_device_error` after [`LIMIT`] and not
/// asked again until it answers.
pub(super) const COLLECTOR: HostCollector = HostCollector {
    name: "filesystem",
    help: "File systems: size, free space, inodes, read-only, mounts that do not answer",
    provides: &[SIZE, FREE, AVAILABLE, FILES, FILES_FREE, READONLY, ERROR, MOUNT],
    collect,
};

const LABELS: &[&str] = &["device", "mountpoint", "fstype", "device_error"];
const SIZE: Described = Described::gauge("node_filesystem_size_bytes", LABELS, "Size of the file system in bytes");
const FREE: Described =
    Described::gauge("node_filesystem_free_bytes", LABELS, "Free space in bytes, with what only root may use");
const AVAILABLE: Described =
    Described::gauge("node_filesystem_avail_bytes", LABELS, "Free space in bytes for everybody, PostgreSQL among them");
const FILES: Described =
    Described::gauge("node_filesystem_files", LABELS, "Inodes of the file system; 0 where it makes them as needed");
const FILES_FREE: Described = Described::gauge("node_filesystem_files_free", LABELS, "Free inodes");
const READONLY: Described =
    Described::gauge("node_filesystem_readonly", LABELS, "Whether the file system is mounted read-only: 1 or 0");
const ERROR: Described = Described::gauge(
    "node_filesystem_device_error",
    LABELS,
    "Whether asking for the space failed: 1 or 0; then the sizes are absent and the label tells why",
);
const MOUNT: Described = Described::gauge(
    "node_filesystem_mount_info",
    &["device", "major", "minor", "mountpoint"],
    "Device numbers of the mount; always 1",
);

/// How long all mounts together may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

fn collect(files: &mut Files) -> Result<Vec<Family>, CollectError> {
    // A service may live in a mount namespace of its own; process 1 sees what the host has.
    let Files { roots, mounts: [host, own], .. } = files;
    let own_text = own.text(&roots.proc.join("self/mountinfo"));
    let (mounts, hidden) = match (host.text(&roots.proc.join("1/mountinfo")), own_text) {
        (Ok(host), Ok(own)) if host == own => (mount::parse(host), Vec::new()),
        (Ok(host), Ok(own)) => split(mount::parse(host), &mount::parse(own)),
        (Ok(only), Err(_)) | (Err(_), Ok(only)) => (mount::parse(only), Vec::new()),
        (Err(error), Err(_)) => return Err(error),
    };
    let mounts: Arc<[Mount]> = mounts.into();
    let mut answers = space::ask_all(&mounts, LIMIT, space::ask);
    // The mount may be somewhere else by now.
    if answers.iter().any(Result::is_err) {
        host.forget();
        own.forget();
    }
    answers.extend(hidden.iter().map(|_| Err("not in the mount namespace of pgvitals".to_owned())));
    Ok(families(mounts.iter().chain(&hidden), &answers))
}

/// The file system that holds a file or folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Holding {
    /// What is mounted there, such as `/dev/vda1`.
    pub device: String,
    /// Where it is mounted.
    pub point: String,
    /// Bytes in all.
    pub size: f64,
    /// Bytes that are free, with those that only root may use.
    pub free: f64,
    /// Bytes that are free for everybody.
    pub available: f64,
}

impl Holding {
    /// Looks it up for a path, as `df` does.
    ///
    /// # Errors
    ///
    /// Why the path or its file system cannot be asked, or that it gives no answer.
    pub fn of(path: &Path) -> Result<Self, String> {
        let path = path.canonicalize().map_err(|error| error.to_string())?;
        let mut table = MountTable::default();
        let mounts = table.text(Path::new("/proc/self/mountinfo")).map_err(|error| error.to_string())?;
        let mount = mount::holding(mounts, &path).ok_or("no file system is mounted there")?;
        let mut answers = space::ask_all(&Arc::from([mount.clone()]), LIMIT, space::ask);
        let Space { size, free, available, .. } = answers.pop().ok_or("no answer")??;
        Ok(Self { device: mount.device, point: mount.point, size, free, available })
    }
}

/// The host's mounts that are also ours, and those that are not: there `statvfs` would measure what lies below.
fn split(host: Vec<Mount>, own: &[Mount]) -> (Vec<Mount>, Vec<Mount>) {
    let place = |mount: &Mount| (mount.point.clone(), mount.major.clone(), mount.minor.clone());
    let own: BTreeSet<_> = own.iter().map(place).collect();
    host.into_iter().partition(|mount| own.contains(&place(mount)))
}

fn families<'a>(mounts: impl Iterator<Item = &'a Mount> + Clone, answers: &[Result<Space, String>]) -> Vec<Family> {
    let mut table = Table::new(LABELS);
    let size = table.describe(&SIZE);
    let free = table.describe(&FREE);
    let available = table.describe(&AVAILABLE);
    let files = table.describe(&FILES);
    let files_free = table.describe(&FILES_FREE);
    let readonly = table.describe(&READONLY);
    let error = table.describe(&ERROR);
    for (mount, answer) in mounts.clone().zip(answers) {
        let reason = answer.as_ref().err().map_or("", String::as_str);
        table.row(&[&mount.device, &mount.point, &mount.fstype, reason]);
        table.set(error, f64::from(u8::from(answer.is_err())));
        // That ext4 made it read-only after an error is no change of the table.
        let is_readonly = answer.as_ref().map_or(mount.readonly, |space| space.readonly);
        table.set(readonly, f64::from(u8::from(is_readonly)));
        if let Ok(space) = answer {
            table.set(size, space.size);
            table.set(free, space.free);
            table.set(available, space.available);
            table.set(files, space.files);
            table.set(files_free, space.files_free);
        }
    }
    let mut families = table.into_families();
    families.extend(devices(mounts));
    families
}

/// Joins a mount point to the disk of `node_disk_*` and `/sys/dev/block/MAJOR:MINOR`.
fn devices<'a>(mounts: impl Iterator<Item = &'a Mount>) -> Vec<Family> {
    let (mut table, fact) = Table::of(&MOUNT);
    for mount in mounts {
        table.row(&[&mount.device, &mount.major, &mount.minor, &mount.point]);
        table.set(fact, 1.0);
    }
    table.into_families()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::host::Roots;

    #[test]
    fn a_mount_that_only_the_host_has_is_not_measured_by_what_lies_below() {
        let root = "27 1 254:0 / / rw - ext4 /dev/vda rw\n";
        let mount = |id, device| format!("{id} 27 {device} / /srv rw - ext4 /dev/sdb rw\n");
        let folder = tempfile::tempdir().unwrap();
        let errors = |own: &str| {
            for (process, text) in [("1", format!("{root}{}", mount(40, "8:16"))), ("self", own.to_owned())] {
                std::fs::create_dir_all(folder.path().join(process)).unwrap();
                std::fs::write(folder.path().join(process).join("mountinfo"), text).unwrap();
            }
            let roots = Roots { proc: folder.path().to_owned(), ..Roots::default() };
            let families = collect(&mut Files::new(roots.clone())).unwrap();
            let errors = families.iter().find(|it| it.metric().name == "node_filesystem_device_error").unwrap();
            let srv = errors.samples().find(|sample| sample.label("mountpoint") == Some("/srv")).unwrap();
            srv.label("device_error").unwrap_or_default().to_owned()
        };
        let hidden = "not in the mount namespace of pgvitals";
        assert_eq!(errors(root), hidden);
        // As ProtectHome=yes does it: something else at the same place.
        assert_eq!(errors(&format!("{root}{}", mount(90, "0:25"))), hidden);
        assert_eq!(errors(&format!("{root}{}", mount(90, "8:16"))), "");
    }

    #[test]
    fn a_mount_that_fails_has_no_sizes_but_says_why() {
        let mounts = mount::parse(
            "27 1 254:0 / / ro - ext4 /dev/vda rw\n36 27 0:41 / /backup rw - nfs4 nas:/backup rw,vers=4.2\n",
        );
        let space = Space { size: 1000.0, free: 500.0, available: 400.0, files: 10.0, files_free: 5.0, readonly: true };
        let families = families(mounts.iter(), &[Ok(space), Err("mountpoint timeout".to_owned())]);
        let found = |name: &str| -> Vec<(String, String, f64)> {
            let family = families.iter().find(|family| family.metric().name == name).unwrap();
            let label = |sample: &crate::metric::Sample<'_>, name| sample.label(name).unwrap_or_default().to_owned();
            family.samples().map(|s| (label(&s, "mountpoint"), label(&s, "device_error"), s.value)).collect()
        };
        let row = |point: &str, reason: &str, value| (point.to_owned(), reason.to_owned(), value);
        assert_eq!(found("node_filesystem_avail_bytes"), [row("/", "", 400.0)]);
        assert_eq!(found("node_filesystem_readonly"), [row("/", "", 1.0), row("/backup", "mountpoint timeout", 0.0)]);
        assert_eq!(
            found("node_filesystem_device_error"),
            [row("/", "", 0.0), row("/backup", "mountpoint timeout", 1.0)]
        );
        assert_eq!(found("node_filesystem_mount_info").len(), 2);
    }
}
