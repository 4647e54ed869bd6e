//! The table of mounts, as the kernel writes it.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::file::{is_of_kernel, unreadable, whole};
use crate::collect::CollectError;

/// A `mountinfo`, read again when the kernel says that it changed. Hundreds of mounts take it a millisecond to write.
#[derive(Debug, Default)]
pub(in crate::collect::host) struct MountTable {
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    /// Where the kernel tells of changes; a copy never does.
    watched: Option<File>,
    read: Instant,
    text: String,
}

/// After this time it is read even so: that a folder above a mount point was renamed is no change to the kernel.
const LONGEST: Duration = Duration::from_secs(60);

impl MountTable {
    /// The text of the table.
    pub(super) fn text(&mut self, path: &Path) -> Result<&str, CollectError> {
        let known = match self.known.take().filter(Known::is_current) {
            Some(known) => known,
            None => Known::read(path)?,
        };
        Ok(&self.known.insert(known).text)
    }

    /// Has it read anew the next time.
    pub(super) fn forget(&mut self) {
        self.known = None;
    }
}

impl Known {
    fn read(path: &Path) -> Result<Self, CollectError> {
        let read = Instant::now();
        let file = File::open(path).map_err(|e| unreadable(path, e))?;
        let mut text = Vec::new();
        let length = whole(&file, &mut text).map_err(|e| unreadable(path, e))?;
        text.truncate(length);
        text.shrink_to_fit();
        // A mount point may have a name that is not UTF-8; that must not hide all the others.
        let text = String::from_utf8(text).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
        Ok(Self { watched: is_of_kernel(&file).then_some(file), read, text })
    }

    /// Whether the kernel tells of no change since it was opened or asked (`proc_pid_mounts(5)`).
    fn is_current(&self) -> bool {
        let is_told = |file| poll(&mut [PollFd::new(file, PollFlags::PRI)], Some(&Timespec::default())) != Ok(0);
        self.read.elapsed() < LONGEST && self.watched.as_ref().is_some_and(|file| !is_told(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_table_is_read_every_time() {
        let copy = tempfile::NamedTempFile::new().unwrap();
        let mut table = MountTable::default();
        for text in ["27 1 254:0 / / rw - ext4 /dev/vda rw\n", "27 1 254:0 / / ro - ext4 /dev/vda ro\n"] {
            std::fs::write(copy.path(), text).unwrap();
            assert_eq!(table.text(copy.path()).unwrap(), text);
        }
    }

    #[test]
    fn the_table_of_the_kernel_is_kept_until_it_is_old_or_to_be_forgotten() {
        let path = Path::new("/proc/self/mountinfo");
        let mut table = MountTable::default();
        assert_eq!(table.text(path).unwrap(), std::fs::read_to_string(path).unwrap());
        let known = table.known.as_mut().unwrap();
        assert!(known.watched.is_some());
        known.read = known.read.checked_sub(LONGEST).unwrap();
        assert!(!known.is_current());
        table.text(path).unwrap();
        table.forget();
        assert!(table.known.is_none());
    }
}
