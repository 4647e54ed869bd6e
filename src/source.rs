//! A file that a user wrote, and how its mistakes are told: file, line, what was expected.

#[cfg(test)]
pub(crate) mod mutation;

use std::borrow::Cow;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

/// A file's name and text.
#[derive(Clone, Default)]
pub struct Source {
    /// The file; `checks/NAME.toml` for a definition in the binary.
    pub file: PathBuf,
    /// What it says; that of a definition in the binary stays there.
    pub text: Cow<'static, str>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text may hold a password.
        f.debug_tuple("Source").field(&self.file).finish()
    }
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is wrong.
    #[error("{}:{line}: {reason}", file.display())]
    Mistake {
        /// The file.
        file: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What was expected.
        reason: String,
    },
    /// It cannot be read.
    #[error("read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Reads a file of somebody else's, of at most `most` bytes, without ever waiting for it.
///
/// # Errors
///
/// It cannot be read, is larger, or is no plain file: opening a pipe would wait for its other end, and a device may never
/// end.
pub(crate) fn read_plain(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let no_wait = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = fs::File::options().read(true).custom_flags(no_wait).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a plain file"));
    }
    read_bounded(file, most)
}

fn read_bounded(file: fs::File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|read| read > most) {
        return Err(io::Error::other(format!("larger than {most} bytes")));
    }
    Ok(bytes)
}

/// Of a configuration or a definition.
const LARGEST: u64 = 1 << 20;

impl Source {
    /// Reads a file of 1 MiB at most: what is larger was not written for us, and reading it would cost what it is long.
    ///
    /// # Errors
    ///
    /// [`SourceError::Read`].
    pub fn read(file: &Path) -> Result<Self, SourceError> {
        match read(file) {
            Ok(text) => Ok(Self { file: file.to_owned(), text: text.into() }),
            Err(source) => Err(SourceError::Read { path: file.to_owned(), source }),
        }
    }

    /// A mistake at this byte of the text.
    pub fn mistake(&self, at: usize, reason: impl Into<String>) -> SourceError {
        SourceError::Mistake { file: self.file.clone(), line: line_of(&self.text, at), reason: reason.into() }
    }

    /// What the TOML parser found, but for what may hold a password: the text it quotes after its first line, and values.
    pub fn toml_mistake(&self, error: &toml::de::Error) -> SourceError {
        let reason = error.message().lines().next().unwrap_or_default();
        self.mistake(error.span().unwrap_or_default().start, without_dsn(&without_value(reason)))
    }
}

/// The line of this byte of a text, from 1 on.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count()
}

/// `invalid type: string "…", expected …` without the value: a DSN or a command may have been put in another place.
fn without_value(reason: &str) -> String {
    let parts = ["invalid type: ", "invalid value: "].into_iter().find_map(|start| {
        let (found, expected) = reason.strip_prefix(start)?.rsplit_once(", expected ")?;
        let kind = found.split([' ', '`', '"']).next()?;
        Some(format!("{start}{kind}, expected {expected}"))
    });
    parts.unwrap_or_else(|| reason.to_owned())
}

/// The reason with `…` for what a user wrote that could be a connection string.
fn without_dsn(reason: &str) -> String {
    let may_be_one = |text: &str| text.contains("://") || (text.len() > 2 && text.contains(['@', '=']));
    let parts = reason.split('`').enumerate();
    let shown = parts.map(|(at, part)| if at % 2 == 1 && may_be_one(part) { "…" } else { part });
    shown.collect::<Vec<_>>().join("`")
}

fn read(file: &Path) -> io::Result<String> {
    let bytes = read_bounded(fs::File::open(file)?, LARGEST)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_a_device_or_a_huge_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "12345678").unwrap();
        for path in [&pipe, Path::new("/dev/zero"), folder.path(), &folder.path().join("none")] {
            assert!(read_plain(path, 8).is_err(), "{}", path.display());
        }
        assert_eq!(read_plain(&file, 8).unwrap(), b"12345678");
        assert_eq!(read_plain(&file, 7).unwrap_err().to_string(), "larger than 7 bytes");
    }

    #[test]
    fn a_reason_repeats_no_connection_string() {
        for (reason, expected) in [
            (
                "unknown field `dns`, expected one of `dsn`, `name`",
                "unknown field `dns`, expected one of `dsn`, `name`",
            ),
            ("unknown field `postgres://u:canary@h`, expected `dsn`", "unknown field `…`, expected `dsn`"),
            ("`password=canary` is not a duration", "`…` is not a duration"),
            ("key with no value, expected `=`", "key with no value, expected `=`"),
            ("a lonely ` stays", "a lonely ` stays"),
        ] {
            assert_eq!(without_dsn(reason), expected);
        }
        let value = r#"invalid type: string "canary, expected `x`", expected a sequence"#;
        assert_eq!(without_value(value), "invalid type: string, expected a sequence");
        assert_eq!(without_value("invalid type: integer `1`, expected a map"), "invalid type: integer, expected a map");
        assert_eq!(without_value("duplicate key"), "duplicate key");
    }

    #[test]
    fn a_file_without_an_end_is_refused_and_not_read() {
        let error = Source::read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert_eq!(error, "read /dev/zero: larger than 1048576 bytes");
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.toml");
        fs::write(&file, b"# \xff").unwrap();
        assert!(Source::read(&file).unwrap_err().to_string().ends_with(": not UTF-8"));
        assert!(Source::read(folder.path()).unwrap_err().to_string().ends_with("Is a directory (os error 21)"));
    }
}
