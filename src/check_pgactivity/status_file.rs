//! What a service keeps until its next call: one JSON file for all, by host and by name.
//!
//! The file is read and replaced under a lock (`flock` on the file of that name with `.lock` behind it), and replaced as a
//! whole, so a reader never sees half of it. A file of the original's, in Perl's Storable format, is left as it is: ours is
//! written beside it, with `.json` behind its name, and the first call begins anew.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::server::Environment;

/// What Storable files begin with.
const STORABLE: &[u8] = b"pst0";
/// How long another call may hold the lock.
const PATIENCE: Duration = Duration::from_secs(5);
const LARGEST: u64 = 64 << 20;

/// Why nothing can be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum StatusFileError {
    /// The file system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is some other file.
    #[error("file «{}» not recognized as a check_pgactivity status-file", .0.display())]
    Foreign(PathBuf),
    /// Another call holds the lock for long.
    #[error("{} stays locked by another call", .0.display())]
    Locked(PathBuf),
}

/// The file that keeps what services need of their last call.
#[derive(Clone, Debug)]
pub struct StatusFile {
    path: PathBuf,
}

impl StatusFile {
    /// The file at this path, or beside it when a file of Perl's is there.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let mut head = [0; STORABLE.len()];
        let is_storable = File::open(&path).and_then(|mut file| file.read_exact(&mut head)).is_ok() && head == STORABLE;
        Self { path: if is_storable { with_suffix(&path, ".json") } else { path } }
    }

    /// The file that is used when none is named: `NAME` beside the program, as the original has it, if that folder can be
    /// written to; else in `$XDG_STATE_HOME/pgvitals` or `~/.local/state/pgvitals`; else in a folder of the user's own under
    /// `/var/tmp`.
    ///
    /// # Errors
    ///
    /// None of them can be used: what is wrong with the last one.
    pub fn usual(name: &str, program: Option<&Path>, environment: &Environment) -> Result<Self, StatusFileError> {
        // Without a folder in its name it was found in PATH, and not in the working directory.
        let beside = program.and_then(Path::parent).filter(|folder| folder.is_absolute() && is_writable(folder));
        if let Some(folder) = beside {
            return Ok(Self::at(folder.join(name)));
        }
        let state = environment.get("XDG_STATE_HOME").map(PathBuf::from);
        let state = state.or_else(|| Some(environment.home()?.join(".local/state")));
        if let Some(folder) = state.map(|state| state.join("pgvitals")).filter(|folder| prepare(folder).is_ok()) {
            return Ok(Self::at(folder.join(name)));
        }
        let user = rustix::process::geteuid().as_raw();
        let folder = PathBuf::from(format!("/var/tmp/pgvitals-{user}"));
        prepare(&folder).map_err(|source| StatusFileError::Io { path: folder.clone(), source })?;
        Ok(Self::at(folder.join(name)))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything in it, an object of hosts; empty when there is no file.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is another program's.
    pub fn load_all(&self) -> Result<Map<String, Value>, StatusFileError> {
        // It is replaced as a whole, so reading needs no lock.
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
            Err(error) => return Err(self.failure(error)),
        };
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes).map_err(|error| self.failure(error))?;
        if bytes.is_empty() {
            return Ok(Map::new());
        }
        serde_json::from_slice(&bytes).map_err(|_| StatusFileError::Foreign(self.path.clone()))
    }

    /// What was kept under a name; none when nothing was, or when it has another form than is expected.
    ///
    /// # Errors
    ///
    /// As [`StatusFile::load_all`].
    pub fn load<T: DeserializeOwned>(&self, host: &str, name: &str) -> Result<Option<T>, StatusFileError> {
        let mut all = self.load_all()?;
        let kept = all.get_mut(host).and_then(|host| host.get_mut(name)).map(Value::take);
        Ok(kept.and_then(|kept| serde_json::from_value(kept).ok()))
    }

    /// Keeps a value; what others keep stays as it is.
    ///
    /// # Errors
    ///
    /// The file cannot be written, is another program's, or stays locked.
    pub fn save<T: Serialize>(&self, host: &str, name: &str, value: &T) -> Result<(), StatusFileError> {
        self.change(|all| {
            let host = all.entry(host).or_insert_with(|| Value::Object(Map::new()));
            if !host.is_object() {
                *host = Value::Object(Map::new());
            }
            if let (Some(host), Ok(value)) = (host.as_object_mut(), serde_json::to_value(value)) {
                host.insert(name.to_owned(), value);
            }
        })
    }

    /// Changes the whole of it under the lock.
    ///
    /// # Errors
    ///
    /// As [`StatusFile::save`].
    pub fn change(&self, change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), StatusFileError> {
        let _locked = self.lock()?;
        let mut all = self.load_all()?;
        change(&mut all);
        let text = serde_json::to_vec_pretty(&all).map_err(|error| self.failure(error.into()))?;
        let new = with_suffix(&self.path, ".new");
        // Of a call that was killed. Removed and not emptied: it might be a link.
        let _ = fs::remove_file(&new);
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
        let written = written.and_then(|mut file| file.write_all(&text)).and_then(|()| fs::rename(&new, &self.path));
        written.map_err(|error| self.failure(error))
    }

    /// Locked as long as the file is open.
    fn lock(&self) -> Result<File, StatusFileError> {
        let path = with_suffix(&self.path, ".lock");
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = open.map_err(|source| StatusFileError::Io { path: path.clone(), source })?;
        let until = Instant::now() + PATIENCE;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(StatusFileError::Locked(path)),
                Err(error) => return Err(StatusFileError::Io { path, source: error.into() }),
            }
        }
    }

    fn failure(&self, source: io::Error) -> StatusFileError {
        StatusFileError::Io { path: self.path.clone(), source }
    }
}

/// How much a counter has grown; none when it is smaller now, because it was reset, or belongs to another run of its server.
pub fn growth(before: f64, now: f64) -> Option<f64> {
    (now >= before).then_some(now - before)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn is_writable(folder: &Path) -> bool {
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok()
}

/// Makes a folder that only its user can use, or makes sure that it is one.
fn prepare(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let found = fs::symlink_metadata(folder)?;
    let is_ours = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
    if is_ours && is_writable(folder) { Ok(()) } else { Err(io::Error::other("is not a folder of ours alone")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("check_pgactivity.data");
        (folder, path)
    }

    #[test]
    fn what_is_kept_is_found_again_by_host_and_name() {
        let (_folder, path) = file();
        let status = StatusFile::at(&path);
        assert_eq!(status.load::<i64>("a:1", "x").unwrap(), None);
        status.save("a:1", "x", &1).unwrap();
        status.save("a:2", "x", &2).unwrap();
        status.save("a:1", "y", &"three").unwrap();
        assert_eq!(status.load("a:1", "x").unwrap(), Some(1));
        assert_eq!(status.load("a:2", "x").unwrap(), Some(2));
        assert_eq!(status.load("a:1", "y").unwrap(), Some("three".to_owned()));
        assert_eq!(status.load::<i64>("a:1", "y").unwrap(), None, "what has another form is not there");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_of_perls_is_left_as_it_is() {
        let (_folder, path) = file();
        fs::write(&path, b"pst0\x04\x0b").unwrap();
        let status = StatusFile::at(&path);
        status.save("a:1", "x", &1).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"pst0\x04\x0b");
        assert_eq!(StatusFile::at(&path).load("a:1", "x").unwrap(), Some(1));
    }

    #[test]
    fn a_file_of_anybody_elses_is_neither_read_nor_written() {
        let (_folder, path) = file();
        fs::write(&path, "root:x:0:0").unwrap();
        let status = StatusFile::at(&path);
        assert!(matches!(status.load::<i64>("a:1", "x"), Err(StatusFileError::Foreign(_))));
        assert!(matches!(status.save("a:1", "x", &1), Err(StatusFileError::Foreign(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "root:x:0:0");
    }

    #[test]
    fn those_who_save_at_once_lose_nothing() {
        let (_folder, path) = file();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let status = StatusFile::at(&path);
                scope.spawn(move || status.save("host", &format!("{n}"), &n).unwrap());
            }
        });
        assert_eq!(StatusFile::at(&path).load_all().unwrap()["host"].as_object().unwrap().len(), 8);
    }

    #[test]
    fn without_a_folder_to_write_to_it_goes_where_the_user_keeps_such_things() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().to_str().unwrap().to_owned();
        let environment = Environment::new(move |name| (name == "XDG_STATE_HOME").then(|| state.clone()));
        let program = Path::new("/nonexistent/check_pgactivity");
        let status = StatusFile::usual("x.data", Some(program), &environment).unwrap();
        assert_eq!(status.path(), folder.path().join("pgvitals/x.data"));
        let program = folder.path().join("check_pgactivity");
        let status = StatusFile::usual("x.data", Some(&program), &environment).unwrap();
        assert_eq!(status.path(), folder.path().join("x.data"));
    }
}
