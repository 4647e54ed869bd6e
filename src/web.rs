//! The web server: every face that is read over HTTP. It only reads; nothing here changes anything.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SERVER};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::agent::{DEADLINE, Reading, Want};
use crate::check::{Status, Verdict};
use crate::judge::{Judge, JudgeError, Overrides};
use crate::panics::{self, caught};
use crate::sink::{graphite, nagios, openmetrics, prometheus};

/// How every answer names the agent, so that a check can tell it from another program on the same port.
pub const SERVER_NAME: &str = concat!("pgvitals/", env!("CARGO_PKG_VERSION"));
/// The header that carries a check's exit code.
pub const EXIT_CODE: HeaderName = HeaderName::from_static("pgvitals-exit-code");

const SCRAPE_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";
/// Prometheus counts the time of the transfer too.
const SCRAPE_MARGIN: Duration = Duration::from_millis(500);
const LEAST_DEADLINE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is ready, then lets the requests under way finish.
///
/// # Errors
///
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    judges: watch::Receiver<Arc<Judge>>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(judges)).with_graceful_shutdown(shutdown).await
}

/// The judge in force, which a reload replaces.
type Judges = watch::Receiver<Arc<Judge>>;

/// The routes.
pub fn router(judges: Judges) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/checks", get(checks))
        .route("/check/{name}", get(check))
        .layer(from_fn(contain))
        .layer(map_response(name_server))
        .with_state(judges)
}

/// A panic costs its own reader the answer and nobody else's connection.
async fn contain(request: Request, next: Next) -> Response {
    match caught(next.run(request)).await {
        Some(response) => response,
        None => (StatusCode::INTERNAL_SERVER_ERROR, format!("{}\n", panics::REASON)).into_response(),
    }
}

async fn name_server(mut response: Response) -> Response {
    response.headers_mut().insert(SERVER, HeaderValue::from_static(SERVER_NAME));
    response
}

/// `collect[]=NAME`, as often as one likes, chooses collectors, as `postgres_exporter` and `node_exporter` have it.
async fn metrics(
    State(judge): State<Judges>,
    Query(parameters): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let judge = Arc::clone(&judge.borrow());
    let mut want = Want { deadline: scrape_deadline(&headers), ..Want::default() };
    for (name, value) in parameters {
        if name != "collect[]" || !judge.agent().catalog().collectors().any(|collector| collector == value) {
            let refusal = format!("expected collect[]= with the name of a collector, got {name}={value}\n");
            return (StatusCode::BAD_REQUEST, refusal).into_response();
        }
        want.collectors.get_or_insert_default().insert(value);
    }
    let reading = judge.agent().read(&want).await;
    let mut text = String::with_capacity(96 * reading.snapshot.len());
    let content_type = if wants_openmetrics(&headers) {
        openmetrics::encode(&reading.snapshot, &mut text);
        openmetrics::CONTENT_TYPE
    } else {
        prometheus::encode(&reading.snapshot, &mut text);
        prometheus::CONTENT_TYPE
    };
    ([(CONTENT_TYPE, content_type)], text).into_response()
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
    let (_, verdicts) = judge.check_all().await;
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
    let (status, code, text) = if let Some(unknown) = parameters.keys().next() {
        let refusal = Verdict::unknown(&name, format!("unknown parameter {unknown:?}, expected w or c"));
        (StatusCode::BAD_REQUEST, Status::Unknown, nagios::write(&refusal))
    } else {
        match judge.check(&name, &overrides, DEADLINE).await {
            Ok(verdict) => (StatusCode::OK, verdict.status, nagios::write(&verdict)),
            Err(error) => {
                let status = match error {
                    JudgeError::NoSuchCheck(_) => StatusCode::NOT_FOUND,
                    JudgeError::Threshold(_) => StatusCode::BAD_REQUEST,
                };
                (status, Status::Unknown, nagios::write(&Verdict::unknown(&name, error.to_string())))
            }
        }
    };
    let headers = [(EXIT_CODE, HeaderValue::from(u16::from(code.exit_code())))];
    (status, headers, text).into_response()
}

async fn page(State(judge): State<Judges>) -> Html<String> {
    let judge = Arc::clone(&judge.borrow());
    let (reading, verdicts) = judge.check_all().await;
    Html(write_page(&reading, verdicts, &graphite::host_name()))
}

fn write_page(reading: &Reading, mut verdicts: Vec<Verdict>, host: &str) -> String {
    let mut page = format!("{PAGE_HEAD}<h1>pgvitals <small>on {}</small></h1>", escape(host));
    page.push_str("<h2>Servers</h2><table><tr><th>Server<th>State<th>Version<th>Role</tr>");
    for server in &reading.servers {
        let name = escape(&server.name);
        let row = match &server.state {
            Ok((version, recovery)) => {
                let role = if *recovery { "standby" } else { "primary" };
                format!("<td><b class=ok>up</b><td>{}<td>{role}", version_text(*version))
            }
            Err((class, reason)) => format!("<td><b class=critical>{class}</b><td colspan=2>{}", escape(reason)),
        };
        let _ = write!(page, "<tr><td>{name}{row}</tr>");
    }
    if reading.servers.is_empty() {
        page.push_str("<tr><td colspan=4>none: no server is configured and no cluster was found on this host</tr>");
    }
    page.push_str("</table><h2>Checks</h2><table><tr><th>Check<th>Status<th>Finding</tr>");
    // Stable: of the same status, by name.
    verdicts.sort_by_key(|verdict| Reverse(verdict.status));
    for verdict in &verdicts {
        let (name, word) = (escape(&verdict.check), verdict.status.to_string());
        let class = word.to_ascii_lowercase();
        let finding = escape(&verdict.summary);
        let _ = write!(
            page,
            "<tr><td><a href=\"/check/{name}\">{name}</a><td><b class={class}>{word}</b><td>{finding}</tr>"
        );
    }
    page.push_str(
        "</table><h2>Absent facts</h2><p>What could not be read is left out everywhere, never shown as 0.</p>",
    );
    page.push_str("<table><tr><th>Collector<th>Server<th>Outcome<th>Reason</tr>");
    for (report, reason) in reading.reports.iter().filter_map(|report| Some((report, report.outcome.reason()?))) {
        let (collector, server) = (escape(&report.collector), escape(report.server.as_deref().unwrap_or("host")));
        let (word, reason) = (report.outcome.word(), escape(reason));
        let _ = write!(page, "<tr><td>{collector}<td>{server}<td>{word}<td>{reason}</tr>");
    }
    page.push_str(PAGE_FOOT);
    page
}

/// Of `server_version_num`, as `SHOW server_version` begins: `17.10` from 170010.
fn version_text(number: u32) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}

const PAGE_HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>pgvitals</title>\
<meta name=viewport content=\"width=device-width\">\
<style>body{font:15px/1.45 system-ui,sans-serif;margin:1.5em auto;max-width:62em;padding:0 1em;color:#222}\
h1{font-size:1.5em;margin:0}h1 small{font-weight:400;color:#666}h2{font-size:1.1em;margin:1.4em 0 .3em}p{margin:.3em 0}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.28em 1em .28em 0;border-bottom:1px solid #e3e3e3;vertical-align:top}\
th{color:#666;font-weight:400}td:not(:last-child){white-space:nowrap}td:last-child{width:100%;overflow-wrap:anywhere}\
a{color:#0b5cad;text-decoration:none}b{font-size:.8em;padding:.15em .5em;border-radius:.3em}\
.ok{background:#dff3e8;color:#12603d}.warning{background:#fdecc8;color:#7a4300}\
.critical{background:#c62828;color:#fff}.unknown{background:#ece3f7;color:#5b2b8c}</style>";

const PAGE_FOOT: &str = "</table><p><a href=/metrics>/metrics</a> for Prometheus · <a href=/checks>/checks</a> as JSON · \
<a href=/healthz>/healthz</a> · <a href=/readyz>/readyz</a></p>";

/// What comes from a database is hostile in a page too.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use std::future::IntoFuture as _;
    use std::time::UNIX_EPOCH;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;
    use crate::agent::{Outcome, Report, ServerReport, Skip};
    use crate::metric::Snapshot;

    #[tokio::test]
    async fn a_panic_costs_one_reader_an_answer_and_nobody_the_connection() {
        async fn mistake() -> &'static str {
            panic!("this panic is wanted")
        }
        let routes =
            Router::new().route("/panic", get(mistake)).route("/", get(|| async { "well" })).layer(from_fn(contain));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let serving = tokio::spawn(axum::serve(listener, routes).into_future());
        stream.write_all(b"GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await.unwrap();
        assert!(answers.starts_with("HTTP/1.1 500 "), "{answers}");
        assert!(answers.contains("HTTP/1.1 200 ") && answers.ends_with("well"), "{answers}");
        serving.abort();
    }

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

    #[test]
    fn names_from_the_database_cannot_break_the_page() {
        assert_eq!(escape("<script>'\"&"), "&lt;script&gt;&#39;&quot;&amp;");
    }

    #[test]
    fn the_page_shows_what_is_worst_first_and_nothing_unescaped() {
        let mut reading = Reading { snapshot: Snapshot::new(UNIX_EPOCH), servers: Vec::new(), reports: Vec::new() };
        let empty = write_page(&reading, Vec::new(), "db1");
        assert!(empty.contains("no cluster was found"), "{empty}");
        reading.servers.push(ServerReport { name: "<b>".into(), state: Err(("authentication", "<i>".to_owned())) });
        reading.servers.push(ServerReport { name: "18/main".into(), state: Ok((180_004, true)) });
        reading.reports.push(Report {
            server: None,
            collector: "<u>".to_owned(),
            outcome: Outcome::Skipped { why: Skip::Nothing, reason: "<s>".to_owned() },
            duration: Duration::ZERO,
            age: Duration::ZERO,
        });
        let of = |check: &str, status| Verdict { status, ..Verdict::unknown(check, "<em>") };
        let verdicts = vec![of("calm", Status::Ok), of("urgent", Status::Critical)];
        let page = write_page(&reading, verdicts, "<h6>");
        assert!(page.find("urgent") < page.find("calm"), "{page}");
        assert!(page.contains("18.4<td>standby") && page.contains("authentication"), "{page}");
        for hostile in ["<b>", "<i>", "<u>", "<s>", "<em>", "<h6>"] {
            assert!(!page.contains(hostile), "{hostile} in {page}");
        }
    }
}
