//! Sending: a snapshot to Graphite at each boundary of an interval, through outages of the network and of carbon.
//!
//! Two halves share a bounded queue. One keeps time and never waits for the network; the other has a connection or
//! seeks one. That a write succeeded does not say that carbon read it, so the latest points are kept and sent once more
//! after a loss: carbon overwrites a point of the same path and time, so twice is harmless.

mod boundary;
mod queue;
mod stats;

use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

pub use queue::{Batch, Queue};
pub use stats::{DESCRIBED, PushStats};

use crate::metric::Snapshot;
use crate::panics::survive;
use crate::sink::graphite::{self, Root};
use boundary::{next_boundary, now, reached};

const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a piece, not for all: a carbon that reads slowly is left alone as long as it reads.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const PIECE: usize = 64 * 1024;
/// How long what was written may remain without the peer's acknowledgement; the kernel's own limit is 15 minutes.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(10);
/// What still waits at the end has this long to get through.
const LAST_POINTS: Duration = Duration::from_secs(2);
/// The most that an interval may be; keeps the arithmetic of time far from its limits.
const LONGEST_INTERVAL: Duration = Duration::from_secs(86_400);

/// Where Graphite is and what it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphiteConfig {
    /// `host:port` of carbon's line receiver, usually port 2003. The name is resolved anew for each connection.
    pub address: String,
    /// First levels of every path, such as `collectd.`.
    pub prefix: String,
    /// Name of this host in the paths; none for that of the kernel.
    pub host: Option<String>,
    /// Time between two snapshots; counted from 1970, so that all hosts send points of the same times. At least 1 s.
    pub interval: Duration,
    /// How many points to keep while carbon is away; beyond it the oldest are lost.
    pub queue_points: usize,
}

/// Pushes until `shutdown` is ready, and then for two seconds at most, if points still wait.
///
/// Nothing is an error here: losses are logged once, counted in `stats`, and sending is tried until it succeeds.
/// A `source` that takes longer than the interval lets the boundaries in between pass. After a loss the points of the
/// last two intervals, and at least of 20 seconds, are sent again.
pub async fn run<F, S>(config: GraphiteConfig, source: F, stats: Arc<PushStats>, shutdown: impl Future<Output = ()>)
where
    F: Fn() -> S,
    S: Future<Output = Arc<Snapshot>>,
{
    let interval = config.interval.clamp(Duration::from_secs(1), LONGEST_INTERVAL);
    // A peer that vanished without a word is noticed when it does not acknowledge; what was written since is in doubt.
    let keep_for = 2 * interval.max(ACKNOWLEDGE_TIMEOUT);
    let push = Push {
        queue: Mutex::new(Queue::new(config.queue_points, keep_for)),
        root: Root::new(&config.prefix, &config.host.unwrap_or_else(graphite::host_name)),
        address: config.address,
        interval,
        filled: Notify::new(),
        writing: AtomicBool::new(false),
        settled: Notify::new(),
        stats,
    };
    let mut draining = pin!(survive(|| push.drain()));
    tokio::select! {
        () = shutdown => {}
        () = survive(|| push.fill(&source)) => {}
        () = &mut draining => {}
    }
    let last = async {
        tokio::select! {
            () = draining => {}
            () = push.is_empty() => {}
        }
    };
    if timeout(LAST_POINTS, last).await.is_err() {
        warn!(points = push.queue().len(), "graphite does not take the last points in time");
    }
}

struct Push {
    address: String,
    root: Root,
    interval: Duration,
    queue: Mutex<Queue>,
    filled: Notify,
    /// Whether a batch is neither in the queue nor sent.
    writing: AtomicBool,
    settled: Notify,
    stats: Arc<PushStats>,
}

/// Whether points get through; only a change is worth a line in the log.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    Untried,
    Up,
    Lost,
}

impl Push {
    /// Keeps time: takes the snapshots and puts their lines into the queue.
    async fn fill<F, S>(&self, source: &F)
    where
        F: Fn() -> S,
        S: Future<Output = Arc<Snapshot>>,
    {
        let mut last = None;
        loop {
            let (planned, wait) = next_boundary(now(), self.interval, last);
            sleep(wait).await;
            let number = reached(now(), self.interval, planned);
            if let Some(last) = last {
                self.stats.missed(number.saturating_sub(last).saturating_sub(1));
            }
            last = Some(number);
            let snapshot = source().await;
            let mut lines = String::new();
            // The boundary's own time, not the snapshot's: one that comes late would leave a gap in whisper.
            let moment = UNIX_EPOCH + self.interval.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX));
            self.stats.collided(graphite::encode_at(&snapshot, &self.root, moment, &mut lines));
            let mut queue = self.queue();
            self.stats.dropped(queue.push(lines));
            self.stats.queued(queue.len());
            drop(queue);
            self.filled.notify_one();
        }
    }

    /// Has a connection or seeks one, and writes what is in the queue.
    async fn drain(&self) {
        let mut delay = FIRST_DELAY;
        let mut link = Link::Untried;
        loop {
            let started = Instant::now();
            let error = self.connect_and_write(&mut link).await;
            if link == Link::Up && started.elapsed() > self.interval {
                delay = FIRST_DELAY;
            }
            self.stats.failed();
            if link != Link::Lost {
                warn!(address = self.address, %error, "graphite is out of reach, points are kept");
            }
            link = Link::Lost;
            sleep(delay).await;
            delay = (delay * 2).min(LONGEST_DELAY);
        }
    }

    /// Returns when the connection is lost, with the reason.
    async fn connect_and_write(&self, link: &mut Link) -> io::Error {
        let mut stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return error,
            Err(_) => return io::Error::new(ErrorKind::TimedOut, "no connection in time"),
        };
        if let Err(error) = notice_silence(&stream) {
            return error;
        }
        self.resume();
        loop {
            // What comes before every write: a peer that hung up would swallow it.
            if let Err(error) = still_open(&stream) {
                self.stats.disconnected();
                return error;
            }
            let next = self.take();
            let Some(batch) = next else {
                tokio::select! {
                    () = self.filled.notified() => {}
                    _ = stream.readable() => {}
                }
                continue;
            };
            let written = write(&mut stream, batch.lines()).await;
            self.settle(batch, written.is_ok());
            if let Err(error) = written {
                self.stats.disconnected();
                return error;
            }
            if *link != Link::Up {
                info!(address = self.address, "graphite takes points");
                self.stats.connected(*link == Link::Lost);
                *link = Link::Up;
            }
        }
    }

    fn resume(&self) {
        let mut queue = self.queue();
        queue.send_again();
        self.stats.queued(queue.len());
    }

    fn take(&self) -> Option<Batch> {
        let mut queue = self.queue();
        let batch = queue.take();
        self.writing.store(batch.is_some(), Ordering::Relaxed);
        batch
    }

    /// Waits until nothing is left to be sent.
    async fn is_empty(&self) {
        let is_empty = || {
            let queue = self.queue();
            queue.is_empty() && !self.writing.load(Ordering::Relaxed)
        };
        while !is_empty() {
            self.settled.notified().await;
        }
    }

    fn settle(&self, batch: Batch, written: bool) {
        let mut queue = self.queue();
        if written {
            self.stats.sent(batch.points(), batch.was_sent());
            queue.keep(batch, Instant::now().into_std());
        } else {
            self.stats.dropped(queue.put_back(batch));
        }
        self.stats.queued(queue.len());
        self.writing.store(false, Ordering::Relaxed);
        drop(queue);
        self.settled.notify_one();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the kernel give up a connection whose peer no longer acknowledges anything (Linux, tcp(7) `TCP_USER_TIMEOUT`).
fn notice_silence(stream: &TcpStream) -> io::Result<()> {
    let milliseconds = u32::try_from(ACKNOWLEDGE_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    Ok(rustix::net::sockopt::set_tcp_user_timeout(stream, milliseconds)?)
}

/// Whether the peer has not closed; carbon never sends anything, and what it sends is thrown away.
fn still_open(stream: &TcpStream) -> io::Result<()> {
    let mut unread = [0; 256];
    loop {
        match stream.try_read(&mut unread) {
            Ok(0) => return Err(io::Error::new(ErrorKind::ConnectionReset, "closed by the other side")),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

async fn write(stream: &mut TcpStream, lines: &[u8]) -> io::Result<()> {
    for piece in lines.chunks(PIECE) {
        match timeout(WRITE_TIMEOUT, stream.write_all(piece)).await {
            Ok(written) => written?,
            Err(_) => return Err(io::Error::new(ErrorKind::TimedOut, "the other side does not read")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::future;
    use std::time::SystemTime;

    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::net::TcpListener;

    use super::*;
    use crate::metric::{Family, Kind};

    fn config(listener: &TcpListener) -> GraphiteConfig {
        GraphiteConfig {
            address: listener.local_addr().unwrap().to_string(),
            prefix: "p".to_owned(),
            host: Some("h".to_owned()),
            interval: Duration::from_secs(1),
            queue_points: 100,
        }
    }

    fn snapshot() -> Arc<Snapshot> {
        let mut snapshot = Snapshot::new(SystemTime::now());
        snapshot.add(None, &Arc::new(Family::single(Kind::Gauge, "up", "", 1.0)));
        Arc::new(snapshot)
    }

    /// Reads lines of one connection and gives their times.
    async fn times(listener: &TcpListener, count: usize) -> Vec<u64> {
        let (stream, _) = listener.accept().await.unwrap();
        let mut lines = BufReader::new(stream).lines();
        let mut times = Vec::new();
        while times.len() < count {
            let line = lines.next_line().await.unwrap().unwrap();
            times.push(line.strip_prefix("p.h.up 1 ").unwrap().parse().unwrap());
        }
        times
    }

    #[tokio::test]
    async fn a_peer_that_hung_up_gets_the_last_points_again_and_misses_none() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stats = Arc::new(PushStats::default());
        let pushing =
            tokio::spawn(run(config(&listener), || future::ready(snapshot()), Arc::clone(&stats), future::pending()));
        let reading = async {
            let first = times(&listener, 2).await;
            (first, times(&listener, 4).await)
        };
        let (first, second) = timeout(Duration::from_secs(30), reading).await.unwrap();
        assert_eq!(first, second[..2]);
        assert!(second.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{second:?}");
        assert_eq!(stats.reconnects(), 1);
        assert!(stats.points_resent() >= 2);
        assert_eq!(stats.points_dropped(), 0);
        pushing.abort();
    }

    #[tokio::test]
    async fn a_slow_source_skips_intervals_and_does_not_pile_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stats = Arc::new(PushStats::default());
        let slow = || async {
            sleep(Duration::from_millis(1500)).await;
            snapshot()
        };
        let pushing = tokio::spawn(run(config(&listener), slow, Arc::clone(&stats), future::pending()));
        let found = timeout(Duration::from_secs(30), times(&listener, 3)).await.unwrap();
        assert!(found.windows(2).all(|pair| pair[1] - pair[0] >= 2), "{found:?}");
        pushing.abort();
    }

    #[tokio::test]
    async fn a_source_that_panics_is_asked_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let asked = std::sync::atomic::AtomicU32::new(0);
        let source = move || {
            assert!(asked.fetch_add(1, Ordering::Relaxed) > 0, "this panic is wanted");
            future::ready(snapshot())
        };
        let pushing = tokio::spawn(run(config(&listener), source, Arc::default(), future::pending()));
        timeout(Duration::from_secs(30), times(&listener, 2)).await.unwrap();
        pushing.abort();
    }

    #[tokio::test]
    async fn what_waits_at_the_end_is_still_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let end = Notify::new();
        let asked = AtomicBool::new(false);
        let source = || {
            if asked.swap(true, Ordering::Relaxed) {
                // Before the points of this very snapshot are in the queue.
                end.notify_one();
            }
            future::ready(snapshot())
        };
        let pushing = run(config(&listener), source, Arc::default(), end.notified());
        let reading = times(&listener, 2);
        let both = async { tokio::join!(pushing, reading).1 };
        assert_eq!(timeout(Duration::from_secs(30), both).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn it_ends_when_it_is_told_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pushing = run(config(&listener), || future::ready(snapshot()), Arc::default(), future::ready(()));
        timeout(Duration::from_secs(30), pushing).await.unwrap();
    }
}
