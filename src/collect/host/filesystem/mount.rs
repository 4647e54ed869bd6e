//! The lines of `mountinfo` that are about real file systems.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

/// One mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Number of the mount; a mount made later at the same place has another.
    pub(super) id: String,
    pub(super) device: String,
    pub(super) point: String,
    pub(super) fstype: String,
    pub(super) major: String,
    pub(super) minor: String,
    pub(super) readonly: bool,
}

/// The file systems worth measuring, in the order of their mount points.
///
/// Not procfs' `MountInfos`: it leaves a blank in a path as `\040`, and one odd line is an error for all.
pub(super) fn parse(text: &str) -> Vec<Mount> {
    // What is mounted later over the same place hides what is below, and `statvfs` measures the upper one.
    let visible: BTreeMap<_, _> =
        text.lines().filter_map(Line::parse).map(|line| (unescape(line.point), line)).collect();
    let is_measured = |line: &Line<'_>| !is_excluded_point(&unescape(line.point)) && !is_excluded_type(line.fstype);
    visible.into_values().filter(is_measured).map(|line| line.mount()).collect()
}

/// The one that holds a path without links, whatever its kind.
pub(super) fn holding(text: &str, path: &Path) -> Option<Mount> {
    let lines = text.lines().filter_map(Line::parse).filter(|line| path.starts_with(&*unescape(line.point)));
    // Of two at the same place the later one is seen.
    lines.max_by_key(|line| Path::new(&*unescape(line.point)).components().count()).map(|line| line.mount())
}

/// A line as it stands in the file. A host of containers has hundreds, of which few are measured.
struct Line<'a> {
    id: &'a str,
    device: &'a str,
    point: &'a str,
    fstype: &'a str,
    major: &'a str,
    minor: &'a str,
    options: &'a str,
    super_options: &'a str,
}

impl<'a> Line<'a> {
    /// `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG…] - TYPE SOURCE SUPEROPTIONS` (`proc_pid_mountinfo(5)`).
    fn parse(line: &'a str) -> Option<Self> {
        // Not by any white space: the source may be empty.
        let (of_mount, of_type) = line.split_once(" - ")?;
        let mut fields = of_mount.split(' ');
        let id = fields.next()?;
        let (major, minor) = fields.nth(1)?.split_once(':')?;
        let (point, options) = (fields.nth(1)?, fields.next()?);
        let mut fields = of_type.split(' ');
        let (fstype, device) = (fields.next()?, fields.next()?);
        let super_options = fields.next().unwrap_or_default();
        Some(Self { id, device, point, fstype, major, minor, options, super_options })
    }

    fn mount(&self) -> Mount {
        // After an error ext4 turns the file system read-only, not the mount.
        let mut options = self.options.split(',').chain(self.super_options.split(','));
        Mount {
            id: self.id.to_owned(),
            device: unescape(self.device).into_owned(),
            point: unescape(self.point).into_owned(),
            fstype: self.fstype.to_owned(),
            major: self.major.to_owned(),
            minor: self.minor.to_owned(),
            readonly: options.any(|option| option == "ro"),
        }
    }
}

/// Puts back what the kernel writes in octal: blank, tab, line feed, backslash, `#`.
fn unescape(field: &str) -> Cow<'_, str> {
    if !field.contains('\\') {
        return Cow::Borrowed(field);
    }
    let all = [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\043", "#"), (r"\134", r"\")];
    Cow::Owned(all.iter().fold(field.to_owned(), |text, (from, to)| text.replace(from, to)))
}

/// `node_exporter`'s default:
/// `^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)`.
fn is_excluded_point(point: &str) -> bool {
    let within = |folder: &str| point.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let below = |folder: &str| point.strip_prefix(folder).is_some_and(|rest| !rest.is_empty());
    ["/dev", "/proc", "/sys"].into_iter().any(within)
        || ["/run/credentials/", "/var/lib/docker/", "/var/lib/containers/storage/"].into_iter().any(below)
}

/// `node_exporter`'s default list of file systems without a disk of their own.
fn is_excluded_type(fstype: &str) -> bool {
    const EXCLUDED: [&str; 25] = [
        "autofs",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "debugfs",
        "devpts",
        "devtmpfs",
        "fusectl",
        "hugetlbfs",
        "iso9660",
        "mqueue",
        "nsfs",
        "overlay",
        "proc",
        "procfs",
        "pstore",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "squashfs",
        "erofs",
        "sysfs",
        "tracefs",
    ];
    EXCLUDED.contains(&fstype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_held_by_the_deepest_mount_that_was_made_last() {
        let text = "27 1 0:30 / / rw - overlay overlay rw\n28 27 8:1 / /srv rw - xfs /dev/sda1 rw\n\
                    29 27 8:2 / /srv rw - xfs /dev/sda2 rw\n30 27 8:3 / /srv/pg rw - xfs /dev/sda3 rw\n";
        let device = |path: &str| holding(text, Path::new(path)).unwrap().device;
        assert_eq!(device("/srv/pg/15/main"), "/dev/sda3");
        assert_eq!(device("/srv/pgdata"), "/dev/sda2");
        assert_eq!(device("/home"), "overlay");
    }

    #[test]
    fn a_line_gives_device_place_and_state() {
        let cases = [
            (
                "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard",
                Some(("27", "/dev/vda", "/", "ext4", "254", false)),
            ),
            (
                "28 27 8:1 / /a\\040b ro shared:5 master:1 - xfs /dev/sda1 rw",
                Some(("28", "/dev/sda1", "/a b", "xfs", "8", true)),
            ),
            (
                "29 27 8:2 / /srv rw,relatime shared:5 - ext4 /dev/sda2 ro,errors=remount-ro",
                Some(("29", "/dev/sda2", "/srv", "ext4", "8", true)),
            ),
            ("30 27 0:9 / /t rw - tmpfs  rw", Some(("30", "", "/t", "tmpfs", "0", false))),
            ("31 27 0:9 / /t rw tmpfs", None),
            ("", None),
        ];
        for (line, expected) in cases {
            let mount = Line::parse(line).map(|line| line.mount());
            let found = mount.as_ref().map(|m| {
                (m.id.as_str(), m.device.as_str(), m.point.as_str(), m.fstype.as_str(), m.major.as_str(), m.readonly)
            });
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn of_two_mounts_at_one_place_the_upper_one_counts() {
        let ext4 = "40 27 8:1 / /srv rw - ext4 /dev/sda1 rw\n";
        let xfs = "41 40 8:2 / /srv rw - xfs /dev/sda2 rw\n";
        let overlay = "42 41 0:5 / /srv rw - overlay overlay rw\n";
        let ids = |text: &str| parse(text).into_iter().map(|mount| mount.id).collect::<Vec<_>>();
        assert_eq!(ids(&format!("{ext4}{xfs}")), ["41"]);
        assert!(ids(&format!("{ext4}{xfs}{overlay}")).is_empty());
    }

    #[test]
    fn the_exclusions_are_those_of_node_exporter() {
        let points = [
            ("/", false),
            ("/dev", true),
            ("/dev/shm", true),
            ("/development", false),
            ("/proc/fs/nfsd", true),
            ("/run", false),
            ("/run/credentials/systemd-sysctl.service", true),
            ("/sys/fs/cgroup", true),
            ("/mnt/pg", false),
            ("/var/lib/docker", false),
            ("/var/lib/docker/overlay2/x/merged", true),
            ("/var/lib/containers/storage/x", true),
            ("/var/lib/postgresql", false),
        ];
        for (point, expected) in points {
            assert_eq!(is_excluded_point(point), expected, "{point}");
        }
        for (fstype, expected) in
            [("ext4", false), ("tmpfs", false), ("nfs4", false), ("overlay", true), ("cgroup2", true)]
        {
            assert_eq!(is_excluded_type(fstype), expected, "{fstype}");
        }
    }
}
