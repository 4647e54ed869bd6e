//! Reading the small files of /proc and /sys.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::collect::CollectError;

/// The whole of a file.
pub(super) fn text(path: &Path) -> Result<String, CollectError> {
    let bytes = fs::read(path).map_err(|e| unreadable(path, e))?;
    // A mount point may have a name that is not UTF-8; that must not hide all the others.
    Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

/// The error for what cannot be read: a kernel that lacks it makes the collector skipped, not failed.
pub(super) fn unreadable(path: &Path, source: io::Error) -> CollectError {
    match source.kind() {
        ErrorKind::NotFound => CollectError::Skipped(format!("no {}", path.display())),
        _ => CollectError::Read { path: path.to_owned(), source },
    }
}

/// What a file of one value says, without the line's end; none if it cannot be read or says nothing.
///
/// Many files of /sys answer `EINVAL` while their value is not known, an interface's `speed` for one.
pub(super) fn word(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let word = text.trim();
    (!word.is_empty()).then(|| word.to_owned())
}

/// The number in a file of one value.
pub(super) fn number(path: &Path) -> Option<f64> {
    number_of(&word(path)?)
}

/// A number as the kernel writes it: Rust would read `nan` and `inf` too.
pub(super) fn number_of(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// The error for a file whose form we do not know.
pub(super) fn malformed(path: &Path, reason: impl Into<String>) -> CollectError {
    CollectError::Parse { path: path.to_owned(), reason: reason.into() }
}
