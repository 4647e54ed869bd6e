//! One connection: TLS, requests and answers, within the limits of its seat.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use axum::body::Body;
use axum::http::header::{
    ALLOW, CONNECTION, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, RETRY_AFTER, SERVER,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{Method, Request, Response, StatusCode};
use axum::response::IntoResponse;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep_until;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::listener::Door;
use super::seat::{Observed, Phase, Seat, Taken};
use crate::access::Refusal;

/// Bytes of a request's line and headers together; a scrape has 400. hyper answers more with 431.
pub(super) const LONGEST_HEAD: usize = 16 << 10;
/// Header lines of a request; a browser sends 20.
pub(super) const MOST_HEADERS: usize = 64;
/// What a browser is told of every answer: it is what it says, has nothing to load, and is part of no other page.
const SAFE: [(HeaderName, &str); 4] = [
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (REFERRER_POLICY, "no-referrer"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "deny"),
];

/// Serves a connection until it ends, takes too long, loses its seat, or waits while the agent ends.
pub(super) async fn attend(stream: TcpStream, taken: Taken, door: Arc<Door>, mut stopped: watch::Receiver<()>) {
    let seat = &taken.seat;
    let mut talk = pin!(talk(stream, seat, &door));
    let mut evicted = pin!(seat.evicted());
    let mut stopping = pin!(stopped.changed());
    let mut limit = pin!(sleep_until(seat.deadline().into()));
    let mut ends = false;
    poll_fn(|cx| {
        if talk.as_mut().poll(cx).is_ready() || evicted.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        ends = ends || stopping.as_mut().poll(cx).is_ready();
        if ends && seat.waits() {
            return Poll::Ready(());
        }
        // The phase changes only while we are polled, so this is seen in time.
        let deadline = seat.deadline().into();
        if limit.deadline() != deadline {
            limit.as_mut().reset(deadline);
        }
        limit.as_mut().poll(cx)
    })
    .await;
}

async fn talk(stream: TcpStream, seat: &Arc<Seat>, door: &Door) {
    // An answer is written at once; waiting for more to send would only delay its end.
    let _ = stream.set_nodelay(true);
    let policy = door.access.policy().await;
    if policy.tls().is_some() {
        // What passes in a handshake the seat is not told.
        seat.note_silence();
    }
    match policy.tls() {
        None => converse(stream, None, seat, door).await,
        Some(config) => match TlsAcceptor::from(Arc::clone(config)).accept(stream).await {
            Ok(stream) => converse(stream, Some(config), seat, door).await,
            Err(error) => debug!(%error, "TLS handshake failed"),
        },
    }
}

/// Requests and answers on a connection that was made with this configuration of TLS.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    tls: Option<&Arc<ServerConfig>>,
    seat: &Arc<Seat>,
    door: &Door,
) {
    let io = TokioIo::new(Observed { stream, seat: Arc::clone(seat) });
    let service = service_fn(|request| answer(request, tls, seat, door));
    let mut http = http1::Builder::new();
    http.max_buf_size(LONGEST_HEAD).max_headers(MOST_HEADERS);
    if let Err(error) = http.serve_connection(io, service).await {
        debug!(%error, "connection ended early");
    }
}

/// Closes the connection: today it would not have come about.
#[derive(Debug, thiserror::Error)]
#[error("connected before TLS or certificates were asked for")]
struct Outdated;

async fn answer(
    mut request: Request<Incoming>,
    tls: Option<&Arc<ServerConfig>>,
    seat: &Seat,
    door: &Door,
) -> Result<Response<Body>, Outdated> {
    request.extensions_mut().insert(seat.came());
    seat.enter(Phase::Answering);
    let policy = door.access.policy().await;
    // Prometheus keeps its connection for months.
    let is_old = policy.tls().map(Arc::as_ptr) != tls.map(Arc::as_ptr);
    if is_old && (tls.is_none() || policy.asks_for_certificates()) {
        return Err(Outdated);
    }
    let mut response = match door.access.admit(&policy, request.headers()).await {
        Err(refusal) => refuse(refusal),
        Ok(()) => match unread(&request) {
            Some(refusal) => refusal,
            None => match TowerToHyperService::new(door.router.clone()).call(request).await {
                Ok(response) => response,
            },
        },
    };
    let headers = response.headers_mut();
    if is_old {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    headers.insert(SERVER, HeaderValue::from_static(super::SERVER_NAME));
    for (name, value) in SAFE {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    for (name, value) in policy.headers() {
        headers.insert(name, value.clone());
    }
    seat.enter(Phase::Taking);
    Ok(response)
}

fn refuse(refusal: Refusal) -> Response<Body> {
    match refusal {
        Refusal::Password => {
            let ask = [(WWW_AUTHENTICATE, "Basic realm=\"pgvitals\", charset=\"UTF-8\"")];
            (StatusCode::UNAUTHORIZED, ask, "expected a user and a password\n").into_response()
        }
        Refusal::Busy => {
            let later = [(RETRY_AFTER, "10")];
            (StatusCode::SERVICE_UNAVAILABLE, later, "too many passwords are being checked\n").into_response()
        }
        Refusal::TooOften => (StatusCode::TOO_MANY_REQUESTS, "more requests than rate_limit allows\n").into_response(),
    }
}

/// The answer to what no route takes: anything but reading.
fn unread(request: &Request<Incoming>) -> Option<Response<Body>> {
    let close = (CONNECTION, "close");
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let text = format!("expected GET or HEAD, got {}\n", request.method());
        return Some((StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD"), close], text).into_response());
    }
    if !request.body().is_end_stream() {
        let text = "expected a request without a body\n";
        return Some((StatusCode::PAYLOAD_TOO_LARGE, [close], text).into_response());
    }
    None
}
