//! The web server: every face that is read over HTTP. It only reads; nothing here changes anything.

mod connection;
mod gzip;
mod listener;
mod page;
mod plugins;
mod probe;
mod seat;
mod shared;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{FromRef, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::{
    ACCEPT, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, VARY,
};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::access::Access;
use crate::agent::{DEADLINE, Want};
use crate::check::Verdict;
use crate::judge::{Judge, JudgeError, Overrides};
use crate::panics::{self, caught};
use crate::plugin::Recalled;
use crate::sink::{graphite, nagios};
use listener::Door;
pub use listener::bind;
pub use plugins::STDERR;
use probe::TargetError;
use seat::{Came, Limits};
use shared::{Format, Texts};

/// How every answer names the agent, so that a check can tell it from another program on the same port.
pub const SERVER_NAME: &str = concat!("pgvitals/", env!("CARGO_PKG_VERSION"));
/// The header that carries a check's exit code.
pub const EXIT_CODE: HeaderName = HeaderName::from_static("pgvitals-exit-code");
/// The header that carries it for cluster managers.
pub const LSB_CODE: HeaderName = HeaderName::from_static("pgvitals-lsb-code");

const SCRAPE_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";
/// Prometheus counts the time of the transfer too.
const SCRAPE_MARGIN: Duration = Duration::from_millis(500);
const LEAST_DEADLINE: Duration = Duration::from_millis(100);

/// Serves those whom `access` lets in until `shutdown` is ready, then lets the requests under way finish.
pub async fn serve(
    listeners: Vec<TcpListener>,
    judges: watch::Receiver<Arc<Judge>>,
    access: Arc<Access>,
    shutdown: impl Future<Output = ()>,
) {
    let door = Door { router: router(judges), access, limits: Limits::default() };
    listener::serve(listeners, door, shutdown).await;
}

/// The judge in force, which a reload replaces.
type Judges = watch::Receiver<Arc<Judge>>;

/// What requests have in common.
#[derive(Clone)]
struct Faces {
    judges: Judges,
    texts: Arc<Texts>,
    /// What the command lines of the two plugins keep between calls.
    recalled: Arc<Recalled>,
}

impl FromRef<Faces> for Judges {
    fn from_ref(faces: &Faces) -> Self {
        faces.judges.clone()
    }
}

fn router(judges: Judges) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/metrics", get(metrics))
        .route("/probe", get(probe))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/checks", get(checks))
        .route("/check/{name}", get(check))
        .route("/check_postgres", get(plugins::check_postgres))
        .route("/check_postgres/{action}", get(plugins::check_postgres))
        .route("/check_pgactivity", get(plugins::check_pgactivity))
        .route("/check_pgactivity/{service}", get(plugins::check_pgactivity))
        .layer(from_fn(contain))
        .with_state(Faces { judges, texts: Arc::default(), recalled: Arc::default() })
}

/// A panic costs its own reader the answer and nobody else's connection.
async fn contain(request: Request, next: Next) -> Response {
    match caught(next.run(request)).await {
        Some(response) => response,
        None => (StatusCode::INTERNAL_SERVER_ERROR, format!("{}\n", panics::REASON)).into_response(),
    }
}

/// `collect[]=NAME`, as often as one likes, chooses collectors, as `postgres_exporter` and `node_exporter` have it.
async fn metrics(
    State(faces): State<Faces>,
    Extension(came): Extension<Came>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Response {
    let judge = Arc::clone(&faces.judges.borrow());
    match want(&judge, parameters, &headers) {
        Ok(want) => exposition(&faces.texts, &judge, want, came, &headers).await,
        Err(reason) => refuse(StatusCode::BAD_REQUEST, &reason),
    }
}

/// `target=SERVER` chooses one server, `collect[]=NAME` collectors of it.
async fn probe(
    State(faces): State<Faces>,
    Extension(came): Extension<Came>,
    Query(mut parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Response {
    let judge = Arc::clone(&faces.judges.borrow());
    let targets: Vec<_> = parameters.extract_if(.., |(name, _)| name == "target").collect();
    if parameters.iter().any(|(name, _)| name == "auth_module") {
        let reason = "expected no auth_module: how a server is reached is said in the configuration";
        return refuse(StatusCode::BAD_REQUEST, reason);
    }
    let [(_, target)] = targets.as_slice() else {
        return refuse(StatusCode::BAD_REQUEST, "expected one target=, the label of a server or its host:port");
    };
    let server = match probe::find(judge.agent(), target) {
        Ok(server) => server,
        Err(error @ TargetError::Unknown(_)) => return refuse(StatusCode::NOT_FOUND, &error.to_string()),
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match want(&judge, parameters, &headers) {
        Ok(want) => exposition(&faces.texts, &judge, Want { server: Some(server), ..want }, came, &headers).await,
        Err(reason) => refuse(StatusCode::BAD_REQUEST, &reason),
    }
}

type Parameters = Vec<(String, String)>;

fn want(judge: &Judge, parameters: Parameters, headers: &HeaderMap) -> Result<Want, String> {
    let mut want = Want { deadline: scrape_deadline(headers), ..Want::default() };
    for (name, value) in parameters {
        if name != "collect[]" || !judge.agent().catalog().collectors().any(|collector| collector == value) {
            return Err(format!("expected collect[]= with the name of a collector, got {name}={value}"));
        }
        want.collectors.get_or_insert_default().insert(value);
    }
    Ok(want)
}

fn refuse(status: StatusCode, reason: &str) -> Response {
    (status, format!("{reason}\n")).into_response()
}

async fn exposition(texts: &Texts, judge: &Judge, want: Want, came: Came, headers: &HeaderMap) -> Response {
    let format = if wants_openmetrics(headers) { Format::OpenMetrics } else { Format::Prometheus };
    let page = texts.read(judge.agent(), format, gzip::is_wanted(headers), want, came).await;
    let headers_of = [(CONTENT_TYPE, format.content_type()), (VARY, "Accept, Accept-Encoding")];
    if page.gzip {
        (headers_of, [(CONTENT_ENCODING, "gzip")], page.bytes).into_response()
    } else {
        (headers_of, page.bytes).into_response()
    }
}

fn scrape_deadline(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(SCRAPE_TIMEOUT).and_then(|value| value.to_str().ok()?.parse().ok());
    seconds
        .and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok())
        .map_or(DEADLINE, |timeout| timeout.saturating_sub(SCRAPE_MARGIN.min(timeout / 4)))
        .clamp(LEAST_DEADLINE, Duration::from_secs(60))
}

fn wants_openmetrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("application/openmetrics-text"))
}

/// Ready once every server was asked, whether it answered or not: the agent then tells the truth about all of them.
async fn ready(State(judge): State<Judges>) -> Response {
    let judge = Arc::clone(&judge.borrow());
    let reading = judge.agent().read(&Want::only([])).await;
    let count = reading.servers.len();
    (StatusCode::OK, format!("ready, {count} servers watched\n")).into_response()
}

async fn checks(State(judge): State<Judges>) -> Response {
    let judge = Arc::clone(&judge.borrow());
    let began = Instant::now();
    let (_, mut verdicts) = judge.check_all().await;
    for verdict in &mut verdicts {
        judge.explain(verdict, DEADLINE.saturating_sub(began.elapsed())).await;
    }
    match serde_json::to_string_pretty(&verdicts) {
        Ok(json) => ([(CONTENT_TYPE, "application/json")], json + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("could not write JSON: {error}\n")).into_response(),
    }
}

async fn check(
    State(judge): State<Judges>,
    Path(name): Path<String>,
    Query(mut parameters): Query<HashMap<String, String>>,
) -> Response {
    let judge = Arc::clone(&judge.borrow());
    let overrides = Overrides { warning: parameters.remove("w"), critical: parameters.remove("c") };
    let (status, verdict) = if let Some(unknown) = parameters.keys().next() {
        let reason = format!("unknown parameter {unknown:?}, expected w or c");
        (StatusCode::BAD_REQUEST, Verdict::unknown(&name, reason))
    } else {
        match judge.check(&name, &overrides, DEADLINE).await {
            Ok(verdict) => (StatusCode::OK, verdict),
            Err(error) => {
                let status = match error {
                    JudgeError::NoSuchCheck(_) | JudgeError::NoSuchGroup(..) => StatusCode::NOT_FOUND,
                    JudgeError::Threshold(_) | JudgeError::Several => StatusCode::BAD_REQUEST,
                };
                (status, Verdict::unknown(&name, error.to_string()))
            }
        }
    };
    let codes = [(EXIT_CODE, verdict.status.exit_code()), (LSB_CODE, verdict.service.exit_code())];
    let headers = codes.map(|(name, code)| (name, HeaderValue::from(u16::from(code))));
    (status, headers, nagios::write(&verdict)).into_response()
}

async fn page(State(judge): State<Judges>) -> Response {
    let judge = Arc::clone(&judge.borrow());
    let (reading, verdicts) = judge.check_all().await;
    let policy = [(CONTENT_SECURITY_POLICY, page::content_policy())];
    (policy, Html(page::write(&reading, verdicts, &graphite::host_name()))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_is_the_scrape_timeout_less_a_margin() {
        for (header, expected) in
            [("10", 9_500), ("1", 750), ("0.01", 100), ("9999999", 60_000), ("x", 5_000), ("-1", 5_000)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(SCRAPE_TIMEOUT, HeaderValue::from_static(header));
            assert_eq!(scrape_deadline(&headers), Duration::from_millis(expected), "{header}");
        }
    }

    #[test]
    fn openmetrics_is_given_to_those_who_ask_for_it() {
        let asks = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            wants_openmetrics(&headers)
        };
        assert!(asks("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"));
        assert!(!asks("text/plain;version=0.0.4"));
        assert!(!asks("*/*"));
    }
}
