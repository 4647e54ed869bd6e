//! The folder of a cluster: who owns it, and what becomes of it.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use procfs::process::Process;

use super::account::{Account, hand_over};
use super::{ClusterError, postmaster, tried};

/// Every folder of ours starts so.
const PREFIX: &str = "pgvitals-";

/// The kernel's limit for a socket's path is 107 bytes; `/socket/.s.PGSQL.65535` needs 22 of them.
const LONGEST: usize = 78;

/// A folder that is removed with its value. It holds `data`, `socket`, `log` and `owner.pid`.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    account: Option<Account>,
}

impl Folder {
    pub(super) fn create(parent: &Path, account: Option<Account>) -> Result<Self, ClusterError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let path = loop {
            let name = format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let path = std::path::absolute(parent).map_err(tried("find the current folder"))?.join(name);
            // Others may pass through to what they know, but not look around: the server's user must get to its own.
            match fs::DirBuilder::new().mode(0o711).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => {
                    break created.map(|()| path.clone()).map_err(tried(format!("create {}", path.display())))?;
                }
            }
        };
        let folder = Self { path, account };
        if folder.path.as_os_str().len() > LONGEST {
            return Err(ClusterError::LongPath(parent.to_owned()));
        }
        fs::write(folder.path.join("owner.pid"), Owner::ourselves().unwrap_or_default())
            .map_err(tried("write owner.pid"))?;
        folder.create_private(&folder.data())?;
        folder.create_private(&folder.socket_dir())?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    pub(super) fn socket_dir(&self) -> PathBuf {
        self.path.join("socket")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Writes a file that the server can read.
    pub(super) fn write(&self, path: &Path, text: &str) -> Result<(), ClusterError> {
        fs::write(path, text)
            .and_then(|()| hand_over(path, self.account))
            .map_err(tried(format!("write {}", path.display())))
    }

    /// Creates a folder that only the server's user can look into.
    fn create_private(&self, path: &Path) -> Result<(), ClusterError> {
        let created = fs::DirBuilder::new().mode(0o700).create(path);
        created.and_then(|()| hand_over(path, self.account)).map_err(tried(format!("create {}", path.display())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Stops servers whose owner was killed before it could, and removes their folders; returns those folders.
///
/// Looks only at folders of our own user, made by [`super::Cluster`] below `parent`, and stops a server only when its
/// command line names that very folder.
pub fn clean_left_over(parent: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let candidates = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    let left_over: Vec<PathBuf> = candidates.map(|entry| entry.path()).filter(|path| is_left_over(path)).collect();
    for path in &left_over {
        postmaster::stop_orphan(&path.join("data"));
        remove(path);
    }
    left_over
}

fn is_left_over(path: &Path) -> bool {
    let uid = rustix::process::geteuid().as_raw();
    let ours = path.symlink_metadata().is_ok_and(|it| it.is_dir() && it.uid() == uid);
    // No owner yet: it is being made at this moment.
    let owner = fs::read_to_string(path.join("owner.pid")).unwrap_or_default();
    ours && Owner::parse(&owner).is_some_and(|owner| owner.is_dead())
}

fn remove(path: &Path) {
    postmaster::release_shared_memory(&path.join("data"));
    // A dying server may still write a file while we empty the folder.
    for _ in 0..20 {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            _ => break,
        }
    }
}

/// A process that owns a folder, so that neither a reused process id nor another container is taken for it.
#[derive(Debug, PartialEq, Eq)]
struct Owner<'a> {
    pid: i32,
    /// When it started, in clock ticks since boot.
    started: u64,
    /// The kernel's name for the process ids it lives among, such as `pid:[4026531836]`.
    namespace: &'a str,
}

impl<'a> Owner<'a> {
    /// Our own line for `owner.pid`.
    fn ourselves() -> Option<String> {
        let stat = Process::myself().ok()?.stat().ok()?;
        Some(format!("{} {} {}\n", stat.pid, stat.starttime, namespace()?))
    }

    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_whitespace();
        Some(Self { pid: words.next()?.parse().ok()?, started: words.next()?.parse().ok()?, namespace: words.next()? })
    }

    /// Certain only among our own process ids: elsewhere it may well live.
    fn is_dead(&self) -> bool {
        let lives = || Process::new(self.pid).and_then(|it| it.stat()).is_ok_and(|it| it.starttime == self.started);
        namespace().is_some_and(|ours| ours == self.namespace) && !lives()
    }
}

fn namespace() -> Option<String> {
    Some(fs::read_link("/proc/self/ns/pid").ok()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_lives_only_with_its_start_time() {
        let line = Owner::ourselves().unwrap();
        let ourselves = Owner::parse(&line).unwrap();
        assert!(!ourselves.is_dead());
        let another = Owner { started: ourselves.started + 1, ..ourselves };
        assert!(another.is_dead(), "the process id was given to another process since");
        let elsewhere = Owner { namespace: "pid:[1]", ..another };
        assert!(!elsewhere.is_dead(), "another container's process ids mean nothing here");
    }

    #[test]
    fn a_folder_without_an_owner_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        fs::create_dir(parent.path().join("pgvitals-1-0")).unwrap();
        assert_eq!(clean_left_over(parent.path()), Vec::<PathBuf>::new());
        assert!(parent.path().join("pgvitals-1-0").exists());
    }
}
