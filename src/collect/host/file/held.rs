//! Files of the kernel that stay open.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FsWord, PROC_SUPER_MAGIC, fstatfs};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// What the kernel calls the file system of /sys (`linux/magic.h`).
const SYSFS_MAGIC: FsWord = 0x6265_6572;
/// So many files stay open at most: those of /proc, and of the first interfaces of a host with hundreds.
const MOST: usize = 64;

/// Files that are read again and again, from their beginning.
#[derive(Debug)]
pub(super) struct Held {
    open: HashMap<PathBuf, File>,
    most: usize,
}

impl Default for Held {
    fn default() -> Self {
        // Half of the file descriptors may be connections of readers.
        let descriptors = getrlimit(Resource::Nofile).current.and_then(|most| usize::try_from(most).ok());
        Self { open: HashMap::new(), most: descriptors.map_or(MOST, |descriptors| MOST.min(descriptors / 8)) }
    }
}

impl Held {
    /// Reads a file that is open, else opens it.
    pub(super) fn read<T>(&mut self, path: &Path, mut read: impl FnMut(&File) -> io::Result<T>) -> io::Result<T> {
        if let Some(file) = self.open.get(path) {
            let told = read(file);
            if is_answer(&told) {
                return told;
            }
            // What it told of is gone, and something else may be in its place.
            self.open.remove(path);
        }
        let file = File::open(path)?;
        let told = read(&file);
        if self.open.len() < self.most && is_answer(&told) && is_of_kernel(&file) {
            self.open.insert(path.to_owned(), file);
        }
        told
    }

    /// Closes what lies below a folder.
    pub(super) fn release(&mut self, folder: &Path) {
        self.open.retain(|path, _| !path.starts_with(folder));
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }
}

/// `EINVAL` is one too: a value that is not known now.
fn is_answer<T>(told: &io::Result<T>) -> bool {
    told.as_ref().err().is_none_or(|error| Errno::from_io_error(error) == Some(Errno::INVAL))
}

/// Whether a file is of /proc or /sys itself: of a copy, or of what a container has mounted over it, another may take the place.
pub(in crate::collect::host) fn is_of_kernel(file: &File) -> bool {
    fstatfs(file).is_ok_and(|found| [PROC_SUPER_MAGIC, SYSFS_MAGIC].contains(&found.f_type))
}
