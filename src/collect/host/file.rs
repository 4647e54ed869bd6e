//! Reading the small files of /proc and /sys.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use super::Roots;
use crate::collect::CollectError;

/// The files of a host, as the collectors of one round read them, all into the same memory.
///
/// `std::fs::read` asks for the size, which the kernel does not know beforehand, and then feels its way from 32 bytes up: ten
/// calls for a file of 4 kB. With room for the whole of it there are four.
#[derive(Debug)]
pub struct Files<'a> {
    pub(super) roots: &'a Roots,
    text: Vec<u8>,
    value: [u8; LONGEST_VALUE],
    stat: Option<String>,
}

/// Room for all files but /proc/stat and the mounts of large hosts.
const USUAL_TEXT: usize = 8 * 1024;
/// The kernel writes a value into one page.
const LONGEST_VALUE: usize = 4096;

impl<'a> Files<'a> {
    /// Those below these roots, of which none is read yet.
    pub fn new(roots: &'a Roots) -> Self {
        Self { roots, text: Vec::with_capacity(USUAL_TEXT), value: [0; LONGEST_VALUE], stat: None }
    }

    /// The whole of a file.
    pub(super) fn text(&mut self, path: &Path) -> Result<Cow<'_, str>, CollectError> {
        self.text.clear();
        // `take` hides from `read_to_end` that this is a file, whose size it would ask.
        let read = File::open(path).and_then(|file| file.take(u64::MAX).read_to_end(&mut self.text));
        read.map_err(|e| unreadable(path, e))?;
        // A mount point may have a name that is not UTF-8; that must not hide all the others.
        Ok(String::from_utf8_lossy(&self.text))
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
        // The kernel gives a value in one go.
        let length = File::open(path).and_then(|mut file| file.read(&mut self.value)).ok()?;
        let word = str::from_utf8(self.value.get(..length)?).ok()?.trim();
        (!word.is_empty()).then_some(word)
    }

    /// The number in a file of one value.
    pub(super) fn number(&mut self, path: &Path) -> Option<f64> {
        number_of(self.word(path)?)
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
