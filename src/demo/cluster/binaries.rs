//! Where the server programs are.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ClusterError;

/// Where `tests/setup` puts servers, unless the environment says otherwise.
const SERVERS: &str = "/var/tmp/pgvitals/servers";

/// The programs of one PostgreSQL version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// The major version, such as 17.
    pub major: u32,
    folder: PathBuf,
}

impl Binaries {
    /// Every major that is installed, oldest first.
    ///
    /// Looks in `PGVITALS_SERVERS`, where distributions put servers, in `PATH`, and where `tests/setup` puts them. The
    /// first of these that has a major wins.
    ///
    /// # Errors
    /// When there is none at all.
    pub fn find() -> Result<Vec<Self>, ClusterError> {
        let mut found: Vec<Self> = Vec::new();
        for folder in places() {
            if let Some(binaries) = Self::at(&folder)
                && !found.iter().any(|known| known.major == binaries.major)
            {
                found.push(binaries);
            }
        }
        found.sort_by_key(|binaries| binaries.major);
        if found.is_empty() { Err(ClusterError::NoBinaries("server".to_owned())) } else { Ok(found) }
    }

    /// The programs of this major.
    ///
    /// # Errors
    /// When it is not installed; the message says how to install it.
    pub fn major(major: u32) -> Result<Self, ClusterError> {
        let named = |folder: &PathBuf| major_in_path(folder).is_none_or(|named| named == major);
        places()
            .iter()
            .filter(|folder| named(folder))
            .filter_map(|folder| Self::at(folder))
            .find(|binaries| binaries.major == major)
            .ok_or_else(|| ClusterError::NoBinaries(major.to_string()))
    }

    /// The path of a program such as `psql`; not every package has more than `initdb`, `pg_ctl` and `postgres`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether the server can load this library.
    pub(super) fn has_library(&self, name: &str) -> bool {
        ["../lib", "../lib/postgresql"].iter().any(|lib| self.folder.join(lib).join(format!("{name}.so")).exists())
    }

    fn at(folder: &Path) -> Option<Self> {
        // Links, as in /usr/local/bin, would lead away from the libraries.
        let postgres = folder.join("postgres").canonicalize().ok()?;
        let folder = postgres.parent()?.to_owned();
        if !folder.join("initdb").exists() {
            return None;
        }
        let major = match major_in_path(&folder) {
            Some(major) => major,
            None => major_of(&Command::new(&postgres).arg("--version").output().ok()?.stdout)?,
        };
        // 9.x numbers its majors otherwise, and is older than anything we read.
        (major >= 10).then_some(Self { major, folder })
    }
}

/// Folders that may hold server programs, best first.
fn places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    let chosen = std::env::var_os("PGVITALS_SERVERS").map(PathBuf::from);
    if let Some(servers) = &chosen {
        places.extend(in_each(servers));
    }
    places.extend(in_each(Path::new("/usr/lib/postgresql")));
    // Red Hat's /usr/pgsql-17/bin.
    places.extend(in_each(Path::new("/usr")).filter(|bin| bin.to_string_lossy().starts_with("/usr/pgsql-")));
    places.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    if chosen.is_none() && is_safe(Path::new(SERVERS)) {
        places.extend(in_each(Path::new(SERVERS)));
    }
    places
}

/// The `bin` below each folder.
fn in_each(parent: &Path) -> impl Iterator<Item = PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.into_iter()
}

/// Whether only root and we can have put anything there: /var/tmp is open to all, and we run what we find.
fn is_safe(servers: &Path) -> bool {
    let ours = |folder: &Path| {
        let owners = [0, rustix::process::geteuid().as_raw()];
        folder.symlink_metadata().is_ok_and(|it| it.is_dir() && owners.contains(&it.uid()) && it.mode() & 0o022 == 0)
    };
    ours(servers) && servers.parent().is_some_and(ours)
}

/// 17 from `…/17/bin` and `/usr/pgsql-17/bin`: the usual places need not be asked.
fn major_in_path(bin: &Path) -> Option<u32> {
    let name = bin.parent()?.file_name()?.to_str()?;
    name.strip_prefix("pgsql-").unwrap_or(name).parse().ok()
}

/// 15 from `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, 18 from `postgres (PostgreSQL) 18beta1`.
fn major_of(version: &[u8]) -> Option<u32> {
    let text = String::from_utf8_lossy(version);
    let number = text.split_whitespace().nth(2)?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_is_read_from_what_postgres_prints() {
        assert_eq!(major_of(b"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major_of(b"postgres (PostgreSQL) 19devel\n"), Some(19));
        assert_eq!(major_of(b"bash: postgres: command not found\n"), None);
    }

    #[test]
    fn the_usual_folders_name_the_major() {
        assert_eq!(major_in_path(Path::new("/usr/lib/postgresql/15/bin")), Some(15));
        assert_eq!(major_in_path(Path::new("/usr/pgsql-17/bin")), Some(17));
        assert_eq!(major_in_path(Path::new("/usr/local/bin")), None);
    }

    #[test]
    fn a_folder_open_to_all_is_not_searched_for_programs() {
        assert!(!is_safe(Path::new("/tmp/servers")));
        assert!(!is_safe(Path::new("/tmp")));
    }
}
