//! Asking mounts for their space without ever waiting on one that hangs.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::StatVfsMountFlags;

use super::mount::Mount;

/// Bytes and inodes of a file system.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Space {
    pub(super) size: f64,
    pub(super) free: f64,
    pub(super) available: f64,
    pub(super) files: f64,
    pub(super) files_free: f64,
    pub(super) readonly: bool,
}

/// After this long without an answer the next mount is asked by a further thread.
const PATIENCE: Duration = Duration::from_millis(100);
/// A thread on a dead mount cannot be ended, and each raises the load average by one.
const MOST_THREADS: usize = 8;

/// Mounts on which a thread hangs, by number and place.
static STUCK: Mutex<BTreeSet<(String, String)>> = Mutex::new(BTreeSet::new());
/// The way to the thread that came back from the last round. Starting one costs more than asking the mounts of most hosts.
static IDLE: Mutex<Option<Sender<Asking>>> = Mutex::new(None);

/// What a thread does in one round.
type Asking = Box<dyn FnOnce() + Send>;

/// What the threads of one round share.
struct Round {
    mounts: Arc<[Mount]>,
    progress: Mutex<Progress>,
    through: Condvar,
}

#[derive(Default)]
struct Progress {
    waiting: VecDeque<usize>,
    asking: BTreeSet<usize>,
    answers: Vec<Option<Result<Space, String>>>,
    /// How many of those that are asked have not answered.
    open: usize,
}

/// Asks the kernel for the space of the file system at a path; the error is its reason in words.
pub(super) fn ask(point: &Path) -> Result<Space, String> {
    let found = rustix::fs::statvfs(point).map_err(|errno| {
        let text = std::io::Error::from(errno).to_string();
        // As node_exporter writes it: "no such file or directory".
        text.split(" (os error").next().unwrap_or(&text).to_lowercase()
    })?;
    let bytes = |blocks: u64| blocks as f64 * found.f_frsize as f64;
    Ok(Space {
        size: bytes(found.f_blocks),
        free: bytes(found.f_bfree),
        available: bytes(found.f_bavail),
        files: found.f_files as f64,
        files_free: found.f_ffree as f64,
        readonly: found.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

/// The answers of all mounts, in their order, after `limit` at the latest.
///
/// One thread asks them in turn, and more come only when one is slow, so that the usual round costs a single thread.
pub(super) fn ask_all<A>(mounts: &Arc<[Mount]>, limit: Duration, ask: A) -> Vec<Result<Space, String>>
where
    A: Fn(&Path) -> Result<Space, String> + Clone + Send + 'static,
{
    let deadline = Instant::now() + limit;
    let (waiting, threads_left) = {
        let stuck = lock(&STUCK);
        let is_free = |mount: &Mount| stuck.is_empty() || !stuck.contains(&key(mount));
        let waiting: VecDeque<_> =
            mounts.iter().enumerate().filter(|(_, mount)| is_free(mount)).map(|(at, _)| at).collect();
        (waiting, MOST_THREADS.saturating_sub(stuck.len()).max(1))
    };
    let progress = Progress { open: waiting.len(), waiting, answers: vec![None; mounts.len()], ..Progress::default() };
    let round = Arc::new(Round { mounts: Arc::clone(mounts), progress: Mutex::new(progress), through: Condvar::new() });
    let start = || {
        let (round, ask) = (Arc::clone(&round), ask.clone());
        start(Box::new(move || round.ask_in_turn(ask)))
    };
    let mut threads = usize::from(lock(&round.progress).open > 0 && start());
    let mut progress = lock(&round.progress);
    while progress.open > 0 && threads > 0 {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let before = progress.open;
        let waited = round.through.wait_timeout_while(progress, left.min(PATIENCE), |progress| progress.open > 0);
        progress = waited.unwrap_or_else(PoisonError::into_inner).0;
        let is_slow = progress.open == before && threads < threads_left && !progress.waiting.is_empty();
        threads += usize::from(is_slow && start());
    }
    drop(progress);
    round.close()
}

/// Has the thread that waits do it, else a new one; false if there can be none.
fn start(asking: Asking) -> bool {
    let idle = lock(&IDLE).take();
    let asking = match idle {
        None => asking,
        Some(idle) => match idle.send(asking) {
            Ok(()) => return true,
            Err(unsent) => unsent.0,
        },
    };
    let (sender, next) = mpsc::channel();
    let work = move || {
        asking();
        while offer(&sender) && next.recv().map(|asking: Asking| asking()).is_ok() {}
    };
    thread::Builder::new().name("statvfs".to_owned()).stack_size(128 * 1024).spawn(work).is_ok()
}

/// Waits for the next round unless another thread does: of those that a slow round has started, one stays.
fn offer(thread: &Sender<Asking>) -> bool {
    let mut idle = lock(&IDLE);
    let is_first = idle.is_none();
    idle.get_or_insert_with(|| thread.clone());
    is_first
}

impl Round {
    fn ask_in_turn(&self, ask: impl Fn(&Path) -> Result<Space, String>) {
        loop {
            let (at, mount) = {
                let mut progress = lock(&self.progress);
                let Some(at) = progress.waiting.pop_front() else { return };
                let Some(mount) = self.mounts.get(at) else { return };
                progress.asking.insert(at);
                (at, mount)
            };
            let answer = ask(Path::new(&mount.point));
            // Both under the round's lock: a mount cannot be called stuck by `close` after it has answered.
            let mut progress = lock(&self.progress);
            progress.asking.remove(&at);
            if let Some(slot) = progress.answers.get_mut(at) {
                *slot = Some(answer);
            }
            let mut stuck = lock(&STUCK);
            if !stuck.is_empty() {
                stuck.remove(&key(mount));
            }
            progress.open = progress.open.saturating_sub(1);
            if progress.open == 0 {
                self.through.notify_one();
            }
        }
    }

    /// Ends the round: what is being asked is stuck, what is waiting is not asked any more.
    fn close(&self) -> Vec<Result<Space, String>> {
        let mut progress = lock(&self.progress);
        lock(&STUCK).extend(progress.asking.iter().filter_map(|&at| self.mounts.get(at)).map(key));
        let unasked = std::mem::take(&mut progress.waiting);
        let answers = std::mem::take(&mut progress.answers).into_iter().enumerate();
        let reason = |at| if unasked.contains(&at) { "not asked: other mounts hang" } else { "mountpoint timeout" };
        answers.map(|(at, answer)| answer.unwrap_or_else(|| Err(reason(at).to_owned()))).collect()
    }
}

fn key(mount: &Mount) -> (String, String) {
    (mount.id.clone(), mount.point.clone())
}

/// A thread that panicked leaves sets and queues that are still sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const SPACE: Space = Space { size: 8.0, free: 4.0, available: 2.0, files: 1.0, files_free: 0.0, readonly: false };

    fn mounts(points: &[&str]) -> Arc<[Mount]> {
        let line = |(id, point)| format!("{id} 1 8:1 / {point} rw - ext4 /dev/sda1 rw\n");
        super::super::mount::parse(&points.iter().enumerate().map(line).collect::<String>()).into()
    }

    #[test]
    fn a_mount_that_hangs_is_given_up_and_not_asked_again_until_it_answers() {
        let mounts = mounts(&["/test/hang/1", "/test/hang/2-dead", "/test/hang/3"]);
        let gate = Arc::new(Mutex::new(()));
        let asked = Arc::new(AtomicUsize::new(0));
        let ask = {
            let (gate, asked) = (Arc::clone(&gate), Arc::clone(&asked));
            move |point: &Path| {
                if point.ends_with("2-dead") {
                    asked.fetch_add(1, Ordering::SeqCst);
                    drop(lock(&gate));
                }
                Ok(SPACE)
            }
        };
        let hanging = gate.lock().unwrap();
        let expected = [Ok(SPACE), Err("mountpoint timeout".to_owned()), Ok(SPACE)];
        assert_eq!(ask_all(&mounts, Duration::from_secs(2), ask.clone()), expected);
        // A second round knows the mount, and so ends at once and not at its limit.
        let before = Instant::now();
        assert_eq!(ask_all(&mounts, Duration::from_secs(60), ask.clone()), expected);
        assert!(before.elapsed() < Duration::from_secs(30));
        assert_eq!(asked.load(Ordering::SeqCst), 1);

        drop(hanging);
        let deadline = Instant::now() + Duration::from_secs(30);
        while lock(&STUCK).contains(&key(&mounts[1])) && Instant::now() < deadline {
            thread::yield_now();
        }
        assert_eq!(ask_all(&mounts, Duration::from_secs(60), ask), [Ok(SPACE), Ok(SPACE), Ok(SPACE)]);
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_path_that_is_not_there_is_an_error_in_words() {
        let answers = ask_all(&mounts(&["/", "/test/nowhere"]), Duration::from_secs(60), ask);
        assert!(answers[0].as_ref().unwrap().size > 0.0);
        assert_eq!(answers[1], Err("no such file or directory".to_owned()));
    }

    #[test]
    fn nothing_mounted_is_nothing_asked() {
        assert!(ask_all(&Arc::from([]), Duration::from_secs(60), ask).is_empty());
    }
}
