//! Seats: how many connections there may be, what each of them is doing, and for how long it may.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// More connections than any number of Prometheis and checks has open at once.
const MOST: usize = 256;
/// An answer that nobody took for so long may be given up for a new connection.
const SLOW: Duration = Duration::from_secs(5);
/// How often who waits for a seat looks whether one can be given up by now. One that is free is had at once.
const LOOK: Duration = Duration::from_millis(20);

/// How long ago a reader may have come with a crowd: as long as most results are used again.
const OLDEST: Duration = Duration::from_secs(1);

/// How many connections there may be, and how long each may take over what it does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at the same time.
    pub(super) most: usize,
    /// From the connection, or the first byte of a further request, to the end of the request's head. TLS counts too.
    pub(super) ask: Duration,
    /// From the request to the answer. The agent's deadlines are shorter; this is for what has none.
    pub(super) answer: Duration,
    /// From the answer until the client's kernel has all of it.
    pub(super) take: Duration,
    /// Between two requests.
    pub(super) idle: Duration,
    /// Within this time a connection that has not asked keeps its seat though others want it: what it asks is on its way.
    pub(super) grace: Duration,
    /// How long a new connection waits for a seat.
    pub(super) wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // Half of the file descriptors are enough for connections to PostgreSQL, /proc and the log.
        let descriptors = getrlimit(Resource::Nofile).current.and_then(|most| usize::try_from(most).ok());
        Self {
            most: descriptors.map_or(MOST, |descriptors| MOST.min(descriptors / 2)).max(1),
            ask: Duration::from_secs(10),
            answer: Duration::from_secs(90),
            take: Duration::from_secs(60),
            // As long as Prometheus keeps an idle connection itself.
            idle: Duration::from_secs(300),
            grace: Duration::from_millis(500),
            // Until an answer that nobody takes may be given up, and nobody asks for longer than Prometheus by default.
            wait: 2 * SLOW,
        }
    }
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The client has to finish its TLS handshake and its request.
    Asking,
    /// We have to answer.
    Answering,
    /// The client has to take the answer.
    Taking,
    /// Nobody has to do anything.
    Idle,
}

/// Since when connections have been waiting for a seat, one after the other; none while nobody has to.
#[derive(Debug, Default)]
pub(super) struct Crowd(Mutex<Option<Instant>>);

impl Crowd {
    fn begin(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now)
    }

    fn since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that nobody is left who waits.
    pub(super) fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// When who asks came, if that was with a crowd: a request carries it as an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Came(pub(super) Option<Instant>);

/// The place of one connection.
#[derive(Debug)]
pub(super) struct Seat {
    limits: Limits,
    /// Since when its connection had been waiting for it.
    waited: Option<Instant>,
    crowd: Arc<Crowd>,
    state: Mutex<State>,
    evicted: Notify,
}

#[derive(Clone, Copy, Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// We looked for something to read and there was nothing. On a busy machine a request may be here for long before we look.
    is_silent: bool,
    /// Nothing was asked here before.
    is_first: bool,
}

impl Seat {
    fn new(limits: Limits, waited: Option<Instant>, crowd: Arc<Crowd>) -> Self {
        let state = State { phase: Phase::Asking, since: Instant::now(), is_silent: false, is_first: true };
        Self { limits, waited, crowd, state: Mutex::new(state), evicted: Notify::new() }
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the next phase has begun.
    pub(super) fn enter(&self, phase: Phase) {
        let state = State { phase, since: Instant::now(), is_silent: false, is_first: false };
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Notes that the client has sent nothing that we have not read.
    pub(super) fn note_silence(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_silent = true;
    }

    /// Whether who asks now came with a crowd: with the first request of a connection that had to wait for its seat, or while
    /// others wait for theirs. Whoever asks again on a connection that he keeps is none of them.
    ///
    /// When he came the kernel does not tell, so that is taken to be no longer ago than results are used again.
    pub(super) fn came(&self) -> Came {
        let State { since, is_first, .. } = self.state();
        if !is_first {
            return Came(None);
        }
        // What is asked later was not on its way when it waited.
        let waited = self.waited.filter(|_| since.elapsed() < self.limits.grace);
        let began = waited.or_else(|| self.crowd.since());
        let oldest = Instant::now().checked_sub(OLDEST);
        Came(began.map(|began| oldest.map_or(began, |oldest| began.max(oldest))))
    }

    /// When the phase it is in has taken too long.
    pub(super) fn deadline(&self) -> Instant {
        let State { phase, since, .. } = self.state();
        let limit = match phase {
            Phase::Asking => self.limits.ask,
            Phase::Answering => self.limits.answer,
            Phase::Taking => self.limits.take,
            Phase::Idle => self.limits.idle,
        };
        since + limit
    }

    /// Whether it waits for its client to ask, so that closing it takes no answer from anybody.
    pub(super) fn waits(&self) -> bool {
        matches!(self.state().phase, Phase::Asking | Phase::Idle)
    }

    /// Ready when its place was given to another connection.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

/// All seats of the web server.
#[derive(Debug)]
pub(super) struct Room {
    limits: Limits,
    free: Arc<Semaphore>,
    seats: Mutex<Vec<Arc<Seat>>>,
    pub(super) crowd: Arc<Crowd>,
}

impl Room {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(limits.most));
        Arc::new(Self { limits, free, seats: Mutex::default(), crowd: Arc::default() })
    }

    /// A seat for a new connection. When all are taken, the connection that has waited longest for its client loses its
    /// own: whoever opens connections and says nothing cannot keep others out. When all are being served, the new one waits;
    /// none if that takes too long.
    pub(super) async fn take(self: &Arc<Self>) -> Option<Taken> {
        let (free, waited) = if let Ok(free) = Arc::clone(&self.free).try_acquire_owned() {
            // Of a crowd, who finds a seat free has been waiting behind the one who did not.
            (free, self.crowd.since())
        } else {
            let since = self.crowd.begin();
            (timeout(self.limits.wait, self.free_place()).await.ok().flatten()?, Some(since))
        };
        let seat = Arc::new(Seat::new(self.limits, waited, Arc::clone(&self.crowd)));
        self.seats.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&seat));
        Some(Taken { room: Arc::clone(self), seat, _free: free })
    }

    async fn free_place(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            let free = Arc::clone(&self.free);
            match free.clone().try_acquire_owned() {
                Ok(free) => return Some(free),
                // The place is free when the other's file descriptor is closed, not before.
                Err(_) if self.evict() => return free.acquire_owned().await.ok(),
                Err(_) => {}
            }
            if let Ok(free) = timeout(LOOK, free.acquire_owned()).await {
                return free.ok();
            }
        }
    }

    /// Gives up one connection that waits for its client; false if there is none.
    pub(super) fn evict(&self) -> bool {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = seats.iter().enumerate().filter_map(|(at, seat)| {
            let State { phase, since, is_silent, .. } = seat.state();
            let may_go = match phase {
                Phase::Idle => true,
                Phase::Asking => is_silent && since.elapsed() >= self.limits.grace,
                Phase::Taking => since.elapsed() > SLOW,
                Phase::Answering => false,
            };
            may_go.then_some((since, at))
        });
        let Some((_, at)) = waiting.min() else { return false };
        seats.swap_remove(at).evicted.notify_one();
        true
    }
}

/// A seat that is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    room: Arc<Room>,
    pub(super) seat: Arc<Seat>,
    _free: OwnedSemaphorePermit,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut seats = self.room.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.retain(|seat| !Arc::ptr_eq(seat, &self.seat));
    }
}

/// A stream that tells its seat what passes: hyper says neither when a request begins nor when an answer was taken.
#[derive(Debug)]
pub(super) struct Observed<T> {
    pub(super) stream: T,
    pub(super) seat: Arc<Seat>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Observed<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buffer) else {
            self.seat.note_silence();
            return Poll::Pending;
        };
        read?;
        if buffer.filled().len() > before && self.seat.state().phase == Phase::Idle {
            self.seat.enter(Phase::Asking);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Observed<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // hyper flushes when all it had to write is written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if self.seat.state().phase == Phase::Taking {
            self.seat.enter(Phase::Idle);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_room_gives_the_place_of_who_waits_longest_and_never_of_who_is_served() {
        let limits = Limits { most: 2, grace: Duration::ZERO, wait: Duration::from_millis(100), ..Limits::default() };
        let room = Room::new(limits);
        let (first, second) = (room.take().await.unwrap(), room.take().await.unwrap());
        first.seat.enter(Phase::Answering);
        second.seat.note_silence();
        let leave = async {
            second.seat.evicted().await;
            drop(second);
        };
        let (third, ()) = tokio::join!(room.take(), leave);
        let third = third.unwrap();
        third.seat.enter(Phase::Taking);
        assert!(room.take().await.is_none(), "both are served");
        drop(first);
        assert!(room.take().await.is_some());
    }

    #[tokio::test]
    async fn who_was_not_listened_to_is_not_sent_away_for_the_next() {
        let limits = Limits { most: 1, grace: Duration::ZERO, wait: Duration::from_millis(100), ..Limits::default() };
        let room = Room::new(limits);
        let first = room.take().await.unwrap();
        assert!(room.take().await.is_none(), "nobody looked whether the first has asked");
        first.seat.note_silence();
        let leave = async {
            first.seat.evicted().await;
            drop(first);
        };
        assert!(tokio::join!(room.take(), leave).0.is_some());
    }

    #[tokio::test]
    async fn who_had_to_wait_came_when_the_crowd_began_and_who_asks_again_came_now() {
        let limits = Limits { most: 2, grace: Duration::from_secs(60), ..Limits::default() };
        let room = Room::new(limits);
        let (first, second) = (room.take().await.unwrap(), room.take().await.unwrap());
        assert_eq!(first.seat.came(), Came(None), "nobody waits");
        first.seat.enter(Phase::Answering);
        first.seat.enter(Phase::Idle);
        let before = Instant::now();
        let leave = async {
            first.seat.evicted().await;
            assert_eq!(first.seat.came(), Came(None), "he asked before");
            assert!(second.seat.came().0.is_some(), "he asks while another waits");
            drop(first);
        };
        let (third, ()) = tokio::join!(room.take(), leave);
        let third = third.unwrap();
        let came = third.seat.came().0.unwrap();
        assert!(came >= before);
        drop(third);
        let behind = room.take().await.unwrap();
        assert_eq!(behind.seat.came().0, Some(came), "he was behind the one who waited");
        room.crowd.end();
        assert_eq!(behind.seat.came().0, Some(came));
        assert_eq!(second.seat.came(), Came(None), "nobody waits any longer");
        behind.seat.enter(Phase::Answering);
        assert_eq!(behind.seat.came(), Came(None));
    }

    #[tokio::test]
    async fn who_asks_long_after_he_was_let_in_did_not_come_with_the_crowd() {
        let limits = Limits { most: 1, grace: Duration::ZERO, ..Limits::default() };
        let room = Room::new(limits);
        room.crowd.begin();
        let taken = room.take().await.unwrap();
        assert!(taken.seat.came().0.is_some(), "others still wait");
        room.crowd.end();
        assert_eq!(taken.seat.came(), Came(None));
    }

    #[tokio::test]
    async fn nobody_came_longer_ago_than_results_are_used_again() {
        let room = Room::new(Limits::default());
        *room.crowd.0.lock().unwrap() = Instant::now().checked_sub(Duration::from_secs(3_600));
        let came = room.take().await.unwrap().seat.came().0.unwrap();
        assert!(came.elapsed() >= OLDEST && came.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn file_descriptors_are_left_for_others() {
        let most = usize::try_from(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        assert!(Limits::default().most <= most / 2);
    }
}
