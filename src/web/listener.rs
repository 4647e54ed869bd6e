//! From a listening socket to the routes: connections that are bounded in number and time, whatever their clients do.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{io, mem};

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::connection::attend;
use super::seat::{Crowd, Limits, Room};
use crate::access::Access;

/// After a failure that the next attempt would meet again at once, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);
/// What those in the middle of an answer have when the agent ends.
const FAREWELL: Duration = Duration::from_secs(10);
/// So many connections wait in the kernel's queue, if it allows that. One that finds the queue full is tried again a second later.
const QUEUE: i32 = 1024;

/// Opens the sockets. `:9187`, as the exporters write it, is every address of the host.
///
/// # Errors
///
/// An address is none, or taken, with the address in the message.
pub async fn bind(addresses: &[String]) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let bound = match address.strip_prefix(':') {
            // The wildcard of IPv6 listens on IPv4 too; a kernel without IPv6 does not know it.
            Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                    TcpListener::bind(format!("0.0.0.0:{port}")).await
                }
                bound => bound,
            },
            None => TcpListener::bind(address).await,
        };
        let bound = bound.and_then(|listener| {
            rustix::net::listen(&listener, QUEUE)?;
            Ok(listener)
        });
        listeners.push(bound.map_err(|error| io::Error::new(error.kind(), format!("listen on {address}: {error}")))?);
    }
    Ok(listeners)
}

/// What all connections share.
pub(super) struct Door {
    pub(super) router: Router,
    pub(super) access: Arc<Access>,
    pub(super) limits: Limits,
}

/// Serves until `shutdown` is ready, then lets the requests under way finish.
pub(super) async fn serve(listeners: Vec<TcpListener>, door: Door, shutdown: impl Future<Output = ()>) {
    let (stop, stopped) = watch::channel(());
    let room = Room::new(door.limits);
    let door = Arc::new(door);
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(listener, Arc::clone(&door), Arc::clone(&room), stopped.clone()));
    }
    shutdown.await;
    drop(stop);
    while accepting.join_next().await.is_some() {}
}

async fn accept(listener: TcpListener, door: Arc<Door>, room: Arc<Room>, mut stopped: watch::Receiver<()>) {
    let mut connections = JoinSet::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            _ = stopped.changed() => break,
            Some(_) = connections.join_next() => continue,
            accepted = next(&listener, &room.crowd) => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                failing = false;
                // While this one waits for a seat, the others wait in the kernel's queue.
                let taken = tokio::select! {
                    _ = stopped.changed() => break,
                    taken = room.take() => taken,
                };
                if let Some(taken) = taken {
                    connections.spawn(attend(stream, taken, Arc::clone(&door), stopped.clone()));
                } else {
                    debug!(%address, "connection closed, as many as there may be are being served");
                }
            }
            // The client has gone again.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !mem::replace(&mut failing, true) {
                    warn!(%error, "cannot accept a connection");
                }
                room.evict();
                sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    let _ = timeout(FAREWELL, async { while connections.join_next().await.is_some() {} }).await;
}

/// The next connection. When there is none in the kernel's queue, nobody waits for a seat any longer.
async fn next(listener: &TcpListener, crowd: &Crowd) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| {
        let accepted = listener.poll_accept(cx);
        if accepted.is_pending() {
            crowd.end();
        }
        accepted
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::Extension;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::{Notify, oneshot};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::access::Policy;
    use crate::web::connection::{LONGEST_HEAD, MOST_HEADERS};
    use crate::web::contain;
    use crate::web::seat::Came;

    const SHORT: Duration = Duration::from_millis(300);
    const LONG: Duration = Duration::from_secs(60);
    /// More than any socket buffers.
    const LARGE: usize = 32 << 20;

    struct Running {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        /// Told when a request for `/late` is there, which is answered when it is told back.
        late: [Arc<Notify>; 2],
        serving: JoinHandle<()>,
    }

    async fn start(limits: Limits) -> Running {
        let listeners = bind(&["127.0.0.1:0".to_owned()]).await.unwrap();
        let address = listeners[0].local_addr().unwrap();
        let late = <[Arc<Notify>; 2]>::default();
        let [there, answered] = late.clone();
        let wait = async move || {
            there.notify_one();
            answered.notified().await;
        };
        let router = Router::new()
            .route("/", get(|| async { "here\n" }))
            .route("/large", get(|| async { "x".repeat(LARGE) }))
            .route("/late", get(wait))
            .route("/panic", get(mistake))
            .route("/came", get(company))
            .layer(from_fn(contain));
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(serve(
            listeners,
            Door { router, access: Access::new(Policy::default(), Arc::default()), limits },
            async {
                let _ = stopped.await;
            },
        ));
        Running { address, stop, late, serving }
    }

    fn limits() -> Limits {
        Limits { most: 4, ask: LONG, answer: LONG, take: LONG, idle: LONG, grace: SHORT / 30, wait: LONG }
    }

    impl Running {
        async fn connect(&self, said: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            stream
        }

        /// So many connections that are in the middle of an answer.
        async fn served(&self, count: usize) -> Vec<TcpStream> {
            let mut served = Vec::new();
            for _ in 0..count {
                let stream = self.connect("GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
                stream.readable().await.unwrap();
                served.push(stream);
            }
            served
        }

        /// The status of the answer to these bytes, after which the connection is closed.
        async fn status(&self, said: &str) -> String {
            let text = rest(self.connect(said).await).await;
            text.split(' ').nth(1).unwrap_or_default().to_owned()
        }
    }

    /// What comes until the other side closes, which it has to do.
    async fn rest(mut stream: TcpStream) -> String {
        let mut bytes = Vec::new();
        // A connection that was reset is closed too.
        let _ = timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("it is not closed");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends a byte now and then until nobody is there to take it.
    async fn until_closed(stream: &mut TcpStream) {
        let began = Instant::now();
        while stream.write_all(b"x").await.is_ok() {
            assert!(began.elapsed() < LONG, "it is not closed");
            sleep(SHORT / 10).await;
        }
    }

    /// The head and body of one answer on a connection that stays open.
    async fn one_answer(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        while !text.ends_with("here\n") {
            let mut bytes = [0; 256];
            let count = timeout(LONG, stream.read(&mut bytes)).await.unwrap().unwrap();
            assert_ne!(count, 0, "closed after {text:?}");
            text += &String::from_utf8_lossy(&bytes[..count]);
        }
        text
    }

    async fn mistake() -> &'static str {
        panic!("this panic is wanted")
    }

    async fn company(Extension(Came(came)): Extension<Came>) -> &'static str {
        if came.is_some() { "with a crowd\n" } else { "alone\n" }
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    #[tokio::test]
    async fn a_panic_costs_one_reader_an_answer_and_nobody_the_connection() {
        let running = start(limits()).await;
        let mut stream = running.connect("GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await;
        stream.write_all(GET.as_bytes()).await.unwrap();
        let answers = one_answer(&mut stream).await;
        assert!(answers.starts_with("HTTP/1.1 500 ") && answers.contains("HTTP/1.1 200 "), "{answers}");
    }

    #[tokio::test]
    async fn a_head_that_does_not_end_is_not_waited_for() {
        let running = start(Limits { ask: SHORT, ..limits() }).await;
        for said in ["", "G", "GET / HTTP/1.1\r\nHost: x\r\n"] {
            let stream = running.connect(said).await;
            assert!(!rest(stream).await.contains("here"), "{said}");
        }
        // A byte now and then does not make it longer, not even on a connection that has asked before.
        let mut stream = running.connect(GET).await;
        one_answer(&mut stream).await;
        until_closed(&mut stream).await;
    }

    #[tokio::test]
    async fn a_client_that_stops_reading_is_not_kept() {
        let running = start(Limits { take: SHORT, ..limits() }).await;
        let mut stream = running.connect("GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
        stream.readable().await.unwrap();
        until_closed(&mut stream).await;
        let (mut bytes, mut count) = ([0; 1024], 0);
        while let Ok(more @ 1..) = timeout(LONG, stream.read(&mut bytes)).await.expect("it is not closed") {
            count += more;
        }
        assert!(count < LARGE, "all was sent to a client that did not read");
    }

    #[tokio::test]
    async fn an_idle_connection_stays_for_its_time_and_no_longer() {
        let running = start(Limits { ask: SHORT, ..limits() }).await;
        let mut stream = running.connect(GET).await;
        one_answer(&mut stream).await;
        sleep(SHORT * 2).await;
        stream.write_all(GET.as_bytes()).await.unwrap();
        one_answer(&mut stream).await;

        let running = start(Limits { idle: SHORT, ..limits() }).await;
        let mut stream = running.connect(GET).await;
        one_answer(&mut stream).await;
        assert_eq!(rest(stream).await, "");
    }

    #[tokio::test]
    async fn connections_that_say_nothing_keep_nobody_out() {
        let running = start(limits()).await;
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(running.connect("").await);
        }
        let mut asking = running.connect(GET).await;
        one_answer(&mut asking).await;
        // The oldest had to go.
        assert_eq!(rest(silent.remove(0)).await, "");
    }

    #[tokio::test]
    async fn more_than_can_be_served_wait_for_a_seat_but_not_for_ever() {
        let running = start(limits()).await;
        let mut served = running.served(limits().most).await;
        let asking = running.connect("GET / HTTP/1.0\r\n\r\n").await;
        assert!(timeout(SHORT, asking.readable()).await.is_err(), "it was closed or answered beside all others");
        drop(served.pop());
        assert!(rest(asking).await.starts_with("HTTP/1.0 200 "));

        let running = start(Limits { wait: SHORT, ..limits() }).await;
        let _served = running.served(limits().most).await;
        assert_eq!(rest(running.connect(GET).await).await, "");
    }

    #[tokio::test]
    async fn many_more_readers_than_seats_are_all_answered() {
        let running = start(limits()).await;
        let mut readers = JoinSet::new();
        for _ in 0..50 * limits().most {
            let stream = running.connect("GET / HTTP/1.0\r\n\r\n").await;
            readers.spawn(rest(stream));
        }
        while let Some(answer) = readers.join_next().await {
            assert!(answer.unwrap().starts_with("HTTP/1.0 200 "));
        }
    }

    #[tokio::test]
    async fn who_waited_came_with_a_crowd_and_the_next_reader_alone() {
        let running = start(Limits { grace: LONG, ..limits() }).await;
        let mut served = running.served(limits().most).await;
        let mut waiting = Vec::new();
        for _ in 0..3 {
            waiting.push(running.connect("GET /came HTTP/1.0\r\n\r\n").await);
        }
        assert!(timeout(SHORT, waiting[0].readable()).await.is_err(), "it was answered beside all others");
        served.clear();
        for stream in waiting {
            assert!(rest(stream).await.ends_with("with a crowd\n"));
        }
        assert!(rest(running.connect("GET /came HTTP/1.0\r\n\r\n").await).await.ends_with("alone\n"));
    }

    #[tokio::test]
    async fn what_is_no_reading_is_refused() {
        let running = start(limits()).await;
        let head = |lines: &str| format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n");
        for (said, status) in [
            (head(""), "200"),
            (head("Content-Length: 0\r\n"), "200"),
            (head("Content-Length: 3\r\n") + "abc", "413"),
            (head("Content-Length: 99999999999\r\n"), "413"),
            (head("Transfer-Encoding: chunked\r\n"), "413"),
            (head("Expect: 100-continue\r\nContent-Length: 3\r\n"), "413"),
            (head(&"X: y\r\n".repeat(MOST_HEADERS)), "431"),
            (head(&format!("X: {}\r\n", "y".repeat(LONGEST_HEAD))), "431"),
            (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(LONGEST_HEAD)), "431"),
            (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20)), "431"),
            (head("").replace("GET", "POST"), "405"),
            (head("").replace("GET", "DELETE"), "405"),
            (head("").replace("GET", "BREW"), "405"),
            (head("").replace("GET /", "OPTIONS *"), "405"),
            (head("").replace("GET /", "CONNECT x:1"), "405"),
            (head("").replace("GET", "HEAD"), "200"),
            (head("").replace("1.1", "9.9"), "400"),
            (head("").replace("GET / ", "GET \u{1} "), "400"),
            ("\u{16}\u{3}\u{1} a TLS client\r\n\r\n".to_owned(), "400"),
        ] {
            assert_eq!(running.status(&said).await, status, "{}", &said[..said.len().min(60)]);
        }
    }

    #[tokio::test]
    async fn the_end_waits_for_answers_and_for_nobody_else() {
        let running = start(limits()).await;
        let silent = running.connect("").await;
        let late = running.connect("GET /late HTTP/1.1\r\nHost: x\r\n\r\n").await;
        running.late[0].notified().await;
        running.stop.send(()).unwrap();
        assert_eq!(rest(silent).await, "");
        running.late[1].notify_one();
        assert!(rest(late).await.starts_with("HTTP/1.1 200"));
        timeout(LONG, running.serving).await.expect("somebody is waited for").unwrap();
    }

    #[tokio::test]
    async fn an_address_without_a_host_is_all_addresses() {
        let listeners = bind(&[":0".to_owned(), "127.0.0.1:0".to_owned()]).await.unwrap();
        let address = listeners[0].local_addr().unwrap();
        assert!(address.ip().is_unspecified());
        TcpStream::connect(("127.0.0.1", address.port())).await.unwrap();
        let taken = listeners[1].local_addr().unwrap().to_string();
        let error = bind(std::slice::from_ref(&taken)).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("listen on {taken}: ")), "{error}");
    }
}
