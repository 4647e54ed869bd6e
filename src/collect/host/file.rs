//! Reading the small files of /proc and /sys.

mod held;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirEntryExt, FileExt};
use std::path::Path;

pub(super) use held::is_of_kernel;

use self::held::Held;
use super::Roots;
use super::filesystem::MountTable;
use crate::collect::CollectError;

/// The files of a host, as collectors read them one after the other, into the same memory and from one round to the next.
///
/// To open a file takes the kernel longer than to tell what stands in most of them; so those that every round reads are held open.
#[derive(Debug)]
pub struct Files {
    pub(super) roots: Roots,
    /// The mounts that process 1 has, and our own.
    pub(super) mounts: [MountTable; 2],
    held: Held,
    text: Vec<u8>,
    value: [u8; LONGEST_VALUE],
    stat: Option<String>,
    interfaces: Option<BTreeMap<String, u64>>,
    /// Those of the round before.
    interfaces_before: BTreeMap<String, u64>,
}

/// Room for all files but /proc/stat and the mounts of large hosts.
const USUAL_TEXT: usize = 8 * 1024;
/// The kernel writes a value into one page.
const LONGEST_VALUE: usize = 4096;

impl Files {
    /// Those below these roots, of which none is open yet.
    pub fn new(roots: Roots) -> Self {
        Self {
            roots,
            mounts: Default::default(),
            held: Held::default(),
            text: vec![0; USUAL_TEXT],
            value: [0; LONGEST_VALUE],
            stat: None,
            interfaces: None,
            interfaces_before: BTreeMap::new(),
        }
    }

    /// Begins a round: what is read once per round is to be read again.
    pub fn begin(&mut self) {
        self.stat = None;
        if let Some(interfaces) = self.interfaces.take() {
            self.interfaces_before = interfaces;
        }
    }

    /// The whole of a file.
    pub(super) fn text(&mut self, path: &Path) -> Result<Cow<'_, str>, CollectError> {
        let Self { held, text, .. } = self;
        let length = held.read(path, |file| whole(file, text)).map_err(|e| unreadable(path, e))?;
        // A mount point may have a name that is not UTF-8; that must not hide all the others.
        Ok(String::from_utf8_lossy(self.text.get(..length).unwrap_or_default()))
    }

    /// /proc/stat, read once per round: with many CPUs and interrupts no other file takes the kernel as long.
    pub(super) fn stat(&mut self) -> Result<&str, CollectError> {
        let text = match self.stat.take() {
            Some(text) => text,
            None => self.text(&self.roots.proc.join("stat"))?.into_owned(),
        };
        Ok(self.stat.insert(text))
    }

    /// What a file of one value says, without the line's end; none if it cannot be read or says nothing.
    ///
    /// Many files of /sys answer `EINVAL` while their value is not known, an interface's `speed` for one.
    pub(super) fn word(&mut self, path: &Path) -> Option<&str> {
        let length = File::open(path).and_then(|file| file.read_at(&mut self.value, 0)).ok()?;
        self.said(length)
    }

    /// The number in a file of one value.
    pub(super) fn number(&mut self, path: &Path) -> Option<f64> {
        number_of(self.word(path)?)
    }

    /// The names in /sys/class/net, in their order.
    pub(super) fn interfaces(&mut self) -> Result<Vec<String>, CollectError> {
        let folder = self.roots.sys.join("class/net");
        if self.interfaces.is_none() {
            let entries = fs::read_dir(&folder).map_err(|e| unreadable(&folder, e))?.flatten();
            let named = |entry: fs::DirEntry| Some((entry.file_name().into_string().ok()?, entry.ino()));
            let found: BTreeMap<_, _> = entries.filter_map(named).collect();
            // An interface that is renamed takes its files with it, and its number.
            for (name, _) in self.interfaces_before.iter().filter(|(name, number)| found.get(*name) != Some(number)) {
                self.held.release(&folder.join(name));
            }
            self.interfaces = Some(found);
        }
        Ok(self.interfaces.iter().flat_map(BTreeMap::keys).cloned().collect())
    }

    /// What a file of an interface says; none if that is not known, or there is no such interface.
    pub(super) fn word_of(&mut self, interface: &str, file: &str) -> Option<&str> {
        if self.interfaces.is_none() {
            self.interfaces().ok()?;
        }
        let path = self.roots.sys.join("class/net").join(interface).join(file);
        let Self { held, value, .. } = self;
        let length = held.read(&path, |file| file.read_at(value, 0)).ok()?;
        self.said(length)
    }

    /// The number that a file of an interface says.
    pub(super) fn number_of(&mut self, interface: &str, file: &str) -> Option<f64> {
        number_of(self.word_of(interface, file)?)
    }

    fn said(&self, length: usize) -> Option<&str> {
        let word = str::from_utf8(self.value.get(..length)?).ok()?.trim();
        (!word.is_empty()).then_some(word)
    }
}

/// Reads a file from its beginning and says how long it is; what it has room for grows with it.
///
/// Not `std::fs::read`: it asks for the size, which the kernel does not know beforehand, and then feels its way from 32 bytes up.
pub(super) fn whole(file: &File, text: &mut Vec<u8>) -> io::Result<usize> {
    let mut length = 0;
    loop {
        if length == text.len() {
            text.resize((2 * length).max(USUAL_TEXT), 0);
        }
        match file.read_at(text.get_mut(length..).unwrap_or_default(), length as u64) {
            Ok(0) => return Ok(length),
            Ok(more) => length += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The error for what cannot be read: a kernel that lacks it makes the collector skipped, not failed.
pub(super) fn unreadable(path: &Path, source: io::Error) -> CollectError {
    match source.kind() {
        ErrorKind::NotFound => CollectError::Skipped(format!("no {}", path.display())),
        _ => CollectError::Read { path: path.to_owned(), source },
    }
}

/// A number as the kernel writes it: Rust would read `nan` and `inf` too.
pub(super) fn number_of(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// The error for a file whose form we do not know.
pub(super) fn malformed(path: &Path, reason: impl Into<String>) -> CollectError {
    CollectError::Parse { path: path.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(sys: &Path) -> Files {
        Files::new(Roots { sys: sys.to_owned(), ..Roots::default() })
    }

    #[test]
    fn a_file_longer_than_the_room_for_it_is_read_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long");
        let text = "cpu 1 2 3\n".repeat(5000);
        fs::write(&path, &text).unwrap();
        let mut files = files(folder.path());
        assert!(files.text(&path).unwrap() == text);
        fs::write(&path, "short").unwrap();
        assert_eq!(files.text(&path).unwrap(), "short");
    }

    #[test]
    fn a_file_of_the_kernel_that_is_held_open_says_what_is_true_now() {
        let mut files = files(Path::new("/sys"));
        let path = Path::new("/proc/self/task");
        assert!(files.text(path).is_err(), "a folder");
        let path = Path::new("/proc/uptime");
        let mut read = || files.text(path).unwrap().split(' ').next().unwrap().parse::<f64>().unwrap();
        let (before, deadline) = (read(), std::time::Instant::now() + std::time::Duration::from_secs(30));
        while read() <= before && std::time::Instant::now() < deadline {}
        assert!(files.text(path).unwrap().lines().count() == 1);
        assert!(files.held.count() >= 1);
    }

    #[test]
    fn a_copied_interface_that_was_replaced_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let net = folder.path().join("class/net");
        let create = |name: &str, mtu: &str| {
            fs::create_dir_all(net.join(name)).unwrap();
            fs::write(net.join(name).join("mtu"), mtu).unwrap();
        };
        create("eth0", "1500\n");
        create("eth1", "9000\n");
        let mut files = files(folder.path());
        assert_eq!(files.interfaces().unwrap(), ["eth0", "eth1"]);
        assert_eq!([files.number_of("eth0", "mtu"), files.number_of("eth1", "mtu")], [Some(1500.0), Some(9000.0)]);
        for (from, to) in [("eth0", "old"), ("eth1", "eth0"), ("old", "eth1")] {
            fs::rename(net.join(from), net.join(to)).unwrap();
        }
        files.begin();
        assert_eq!([files.number_of("eth0", "mtu"), files.number_of("eth1", "mtu")], [Some(9000.0), Some(1500.0)]);
    }
}
