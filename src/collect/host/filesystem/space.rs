//! Asking mounts for their space without ever waiting on one that hangs.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::mount::Mount;

/// Bytes and inodes of a file system.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Space {
    pub(super) size: f64,
    pub(super) free: f64,
    pub(super) available: f64,
    pub(super) files: f64,
    pub(super) files_free: f64,
}

/// After this long without an answer the next mount is asked by a further thread.
const PATIENCE: Duration = Duration::from_millis(100);
/// A thread on a dead mount cannot be ended, and each raises the load average by one.
const MOST_THREADS: usize = 8;

/// Mounts on which a thread hangs, by number and place.
static STUCK: Mutex<BTreeSet<(String, String)>> = Mutex::new(BTreeSet::new());

/// What the threads of one round share.
#[derive(Default)]
struct Round {
    waiting: VecDeque<usize>,
    asking: BTreeSet<usize>,
    answers: Vec<Option<Result<Space, String>>>,
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
    })
}

/// The answers of all mounts, in their order, after `limit` at the latest.
///
/// One thread asks them in turn, and more come only when one is slow, so that the usual round costs a single thread.
pub(super) fn ask_all<A>(mounts: &[Mount], limit: Duration, ask: A) -> Vec<Result<Space, String>>
where
    A: Fn(&Path) -> Result<Space, String> + Clone + Send + 'static,
{
    let deadline = Instant::now() + limit;
    let mounts: Arc<[Mount]> = mounts.into();
    let (waiting, threads_left) = {
        let stuck = lock(&STUCK);
        let waiting: VecDeque<_> =
            mounts.iter().enumerate().filter(|(_, mount)| !stuck.contains(&key(mount))).map(|(at, _)| at).collect();
        (waiting, MOST_THREADS.saturating_sub(stuck.len()).max(1))
    };
    let mut open = waiting.len();
    let round = Arc::new(Mutex::new(Round { waiting, answers: vec![None; mounts.len()], ..Round::default() }));
    let (answered, news) = mpsc::channel();
    let start = || {
        let (round, mounts, answered, ask) = (Arc::clone(&round), Arc::clone(&mounts), answered.clone(), ask.clone());
        let work = move || ask_in_turn(&round, &mounts, &answered, ask);
        thread::Builder::new().name("statvfs".to_owned()).stack_size(128 * 1024).spawn(work).is_ok()
    };
    let mut threads = usize::from(open > 0 && start());
    while open > 0 && threads > 0 {
        let left = deadline.saturating_duration_since(Instant::now());
        match news.recv_timeout(left.min(PATIENCE)) {
            Ok(()) => open -= 1,
            Err(RecvTimeoutError::Timeout) if left.is_zero() => break,
            Err(RecvTimeoutError::Timeout) => {
                let wanted = threads < threads_left && !lock(&round).waiting.is_empty();
                threads += usize::from(wanted && start());
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    close(&round, &mounts)
}

/// Ends a round: what is being asked is stuck, what is waiting is not asked any more.
fn close(round: &Mutex<Round>, mounts: &[Mount]) -> Vec<Result<Space, String>> {
    let mut round = lock(round);
    lock(&STUCK).extend(round.asking.iter().filter_map(|&at| mounts.get(at)).map(key));
    let unasked = std::mem::take(&mut round.waiting);
    let answers = std::mem::take(&mut round.answers);
    let reason = |at| if unasked.contains(&at) { "not asked: other mounts hang" } else { "mountpoint timeout" };
    answers.into_iter().enumerate().map(|(at, answer)| answer.unwrap_or_else(|| Err(reason(at).to_owned()))).collect()
}

fn ask_in_turn<A>(round: &Mutex<Round>, mounts: &[Mount], answered: &Sender<()>, ask: A)
where
    A: Fn(&Path) -> Result<Space, String>,
{
    loop {
        let (at, mount) = {
            let mut round = lock(round);
            let Some(at) = round.waiting.pop_front() else { return };
            let Some(mount) = mounts.get(at) else { return };
            round.asking.insert(at);
            (at, mount)
        };
        let answer = ask(Path::new(&mount.point));
        // Both under the round's lock: a mount cannot be called stuck by `close` after it has answered.
        let mut round = lock(round);
        round.asking.remove(&at);
        if let Some(slot) = round.answers.get_mut(at) {
            *slot = Some(answer);
        }
        lock(&STUCK).remove(&key(mount));
        // Nobody listens after the round's end.
        let _ = answered.send(());
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

    const SPACE: Space = Space { size: 8.0, free: 4.0, available: 2.0, files: 1.0, files_free: 0.0 };

    fn mounts(points: &[&str]) -> Vec<Mount> {
        let line = |(id, point)| format!("{id} 1 8:1 / {point} rw - ext4 /dev/sda1 rw\n");
        super::super::mount::parse(&points.iter().enumerate().map(line).collect::<String>())
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
        assert!(ask_all(&[], Duration::from_secs(60), ask).is_empty());
    }
}
