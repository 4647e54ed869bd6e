//! What a data directory says of its server, which need not run: its file `global/pg_control`.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Call, End};

/// The facts that `pg_controldata` would print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Control {
    /// Given by `initdb`, the same on all standbys.
    pub system_identifier: u64,
    /// What the server was doing when it last wrote the file.
    pub state: State,
    /// When the latest checkpoint began, in seconds since 1970.
    pub checkpoint_time: i64,
}

/// What a server is doing (`DBState` in `catalog/pg_control.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is in archive recovery: a standby.
    Recovery,
    /// It is a running primary.
    Production,
    /// It starts, stops, is stopped or recovers from a crash.
    Other,
}

/// Why nothing is known, in the words of the original.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ControlError {
    /// There is no such folder.
    #[error("Invalid data_directory: \"{}\"", .0.display())]
    NoFolder(PathBuf),
    /// The file is not there, not ours to read, or not one.
    #[error("pg_controldata could not read the given data directory: \"{}\"", .0.display())]
    Unreadable(PathBuf),
    /// The file is of a version that we do not know.
    #[error("Failed to run pg_controldata - probably the wrong version ({}: pg_control {version})", .folder.display())]
    Version {
        /// The data directory.
        folder: PathBuf,
        /// `pg_control_version`.
        version: u32,
    },
}

/// Up to here from 9.3 on; all that is read stands before.
const LENGTH: usize = 112;
/// An update of the file that was half done is done at the next look.
const LOOKS: usize = 10;

/// Whether `--assume-standby-mode` is given and so it is: then a server is asked nothing.
///
/// # Errors
///
/// What is assumed cannot be looked up.
pub(super) fn spares_questions(call: &Call) -> Result<bool, End> {
    let (standby, primary) = (call.options.is_on("assume-standby-mode"), call.options.is_on("assume-prod"));
    if !standby && !primary {
        return Ok(false);
    }
    let is_standby = Control::named(call)?.state == State::Recovery;
    let asks = !matches!(call.name(), "checkpoint" | "cluster_id") && !call.name().starts_with("new_version_");
    Ok(standby && is_standby && asks)
}

impl Control {
    /// Reads it where `--datadir`, or else `PGDATA`, says.
    ///
    /// # Errors
    ///
    /// Neither is given, or as [`Control::read`].
    pub(super) fn named(call: &Call) -> Result<Self, End> {
        let given = call.options.text("datadir").map(ToOwned::to_owned).filter(|folder| !matches!(&**folder, "" | "0"));
        let folder = given.or_else(|| call.environment.get("PGDATA")).filter(|folder| !folder.is_empty());
        let missing = || End::refused("Must supply a --datadir argument or set the PGDATA environment variable");
        Self::read(Path::new(&folder.ok_or_else(missing)?)).map_err(|error| End::refused(error.to_string()))
    }

    /// Reads it in a data directory.
    ///
    /// # Errors
    ///
    /// There is none that can be read, or it is of a version before 10 or after 18.
    pub(super) fn read(folder: &Path) -> Result<Self, ControlError> {
        if !folder.is_dir() {
            return Err(ControlError::NoFolder(folder.to_owned()));
        }
        let unreadable = || ControlError::Unreadable(folder.to_owned());
        let file = folder.join("global").join("pg_control");
        let look = || fs::read(&file).map_err(|_| unreadable());
        let mut bytes = look()?;
        for _ in 0..LOOKS {
            let again = look()?;
            if again == bytes {
                break;
            }
            bytes = again;
        }
        let bytes: &[u8; LENGTH] = bytes.first_chunk().ok_or_else(unreadable)?;
        Self::parse(bytes).map_err(|version| ControlError::Version { folder: folder.to_owned(), version })
    }

    /// The error is a version that is not known.
    fn parse(bytes: &[u8; LENGTH]) -> Result<Self, u32> {
        let long = |at: usize| {
            let bytes = bytes.get(at..at + 8).and_then(|bytes| bytes.first_chunk());
            bytes.copied().map_or(0, u64::from_ne_bytes)
        };
        let short = |at: usize| {
            let bytes = bytes.get(at..at + 4).and_then(|bytes| bytes.first_chunk());
            bytes.copied().map_or(0, u32::from_ne_bytes)
        };
        let version = short(8);
        // 11 forgot the checkpoint before the latest one, 12 gave transaction numbers their epoch.
        let checkpoint_time = match version {
            1002 | 1201 | 1300 | 1700 | 1800 => long(104),
            1100 => long(96),
            version => return Err(version),
        };
        let state = match short(16) {
            5 => State::Recovery,
            6 => State::Production,
            _ => State::Other,
        };
        Ok(Self { system_identifier: long(0), state, checkpoint_time: checkpoint_time.cast_signed() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_data_directory_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        assert_eq!(
            Control::read(&folder.path().join("none")).unwrap_err().to_string(),
            format!("Invalid data_directory: \"{path}/none\"")
        );
        let unreadable = format!("pg_controldata could not read the given data directory: \"{path}\"");
        assert_eq!(Control::read(folder.path()).unwrap_err().to_string(), unreadable);
        fs::create_dir(folder.path().join("global")).unwrap();
        fs::write(folder.path().join("global/pg_control"), b"short").unwrap();
        assert_eq!(Control::read(folder.path()).unwrap_err().to_string(), unreadable);
        fs::write(folder.path().join("global/pg_control"), [7; 8192]).unwrap();
        let version = Control::read(folder.path()).unwrap_err();
        assert!(matches!(version, ControlError::Version { version: 0x0707_0707, .. }), "{version}");
    }
}
