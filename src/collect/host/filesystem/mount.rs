//! The lines of `mountinfo` that are about real file systems.

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
        text.lines().filter_map(parse_line).map(|mount| (mount.point.clone(), mount)).collect();
    visible.into_values().filter(|mount| !is_excluded_point(&mount.point) && !is_excluded_type(&mount.fstype)).collect()
}

/// The one that holds a path without links, whatever its kind.
pub(super) fn holding(text: &str, path: &Path) -> Option<Mount> {
    let mounts = text.lines().filter_map(parse_line).filter(|mount| path.starts_with(&mount.point));
    // Of two at the same place the later one is seen.
    mounts.max_by_key(|mount| Path::new(&mount.point).components().count())
}

/// `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG…] - TYPE SOURCE SUPEROPTIONS` (`proc_pid_mountinfo(5)`).
fn parse_line(line: &str) -> Option<Mount> {
    // Not by any white space: the source may be empty.
    let (of_mount, of_type) = line.split_once(" - ")?;
    let mut fields = of_mount.split(' ');
    let id = fields.next()?.to_owned();
    let (major, minor) = fields.nth(1)?.split_once(':')?;
    let point = unescape(fields.nth(1)?);
    let options = fields.next()?;
    let mut fields = of_type.split(' ');
    let (fstype, source) = (fields.next()?, fields.next()?);
    let super_options = fields.next().unwrap_or_default();
    // After an error ext4 turns the file system read-only, not the mount.
    let readonly = options.split(',').chain(super_options.split(',')).any(|option| option == "ro");
    Some(Mount {
        id,
        device: unescape(source),
        point,
        fstype: fstype.to_owned(),
        major: major.to_owned(),
        minor: minor.to_owned(),
        readonly,
    })
}

/// Puts back what the kernel writes in octal: blank, tab, line feed, backslash, `#`.
fn unescape(field: &str) -> String {
    [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\043", "#"), (r"\134", r"\")]
        .iter()
        .fold(field.to_owned(), |text, (from, to)| if text.contains(from) { text.replace(from, to) } else { text })
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
            let mount = parse_line(line);
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
