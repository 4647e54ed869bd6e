//! The page for people: one HTML text without scripts, pictures or anything else that would have to be fetched.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

use crate::agent::Reading;
use crate::check::Verdict;

/// How many databases that could not be asked are named.
const MOST_GAPS: usize = 100;

/// The page: servers, checks with the worst first, and what is absent.
pub(super) fn write(reading: &Reading, mut verdicts: Vec<Verdict>, host: &str) -> String {
    let mut page = format!("{PAGE_HEAD}<style>{STYLE}</style><h1>pgvitals <small>on {}</small></h1>", escape(host));
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
    let gaps = reading.reports.iter().flat_map(|report| report.gaps.iter().map(move |gap| (report, gap)));
    for (report, gap) in gaps.take(MOST_GAPS) {
        let (collector, server) = (escape(&report.collector), escape(report.server.as_deref().unwrap_or("host")));
        let (datname, reason) = (escape(&gap.datname), escape(&gap.reason));
        let _ = write!(page, "<tr><td>{collector}<td>{server}, {datname}<td>failed<td>{reason}</tr>");
    }
    page.push_str(PAGE_FOOT);
    page
}

/// What a browser may load and run for the page: its own style, by its digest, and nothing else.
pub(super) fn content_policy() -> HeaderValue {
    static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
        let digest = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        policy.parse().ok()
    });
    POLICY.clone().unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// Of `server_version_num`, as `SHOW server_version` begins: `17.10` from 170010.
fn version_text(number: u32) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}

const PAGE_HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>pgvitals</title>\
<meta name=viewport content=\"width=device-width\">";

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:1.5em auto;max-width:62em;padding:0 1em;color:#222}\
h1{font-size:1.5em;margin:0}h1 small{font-weight:400;color:#666}h2{font-size:1.1em;margin:1.4em 0 .3em}p{margin:.3em 0}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.28em 1em .28em 0;border-bottom:1px solid #e3e3e3;vertical-align:top}\
th{color:#666;font-weight:400}td:not(:last-child){white-space:nowrap}td:last-child{width:100%;overflow-wrap:anywhere}\
a{color:#0b5cad;text-decoration:none}b{font-size:.8em;padding:.15em .5em;border-radius:.3em}\
.ok{background:#dff3e8;color:#12603d}.warning{background:#fdecc8;color:#7a4300}\
.critical{background:#c62828;color:#fff}.unknown{background:#ece3f7;color:#5b2b8c}";

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
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::agent::{Gap, Outcome, Report, ServerReport, Skip};
    use crate::check::Status;
    use crate::metric::Snapshot;

    #[test]
    fn names_from_the_database_cannot_break_the_page() {
        assert_eq!(escape("<script>'\"&"), "&lt;script&gt;&#39;&quot;&amp;");
    }

    #[test]
    fn the_page_shows_what_is_worst_first_and_nothing_unescaped() {
        let mut reading = Reading { snapshot: Snapshot::new(UNIX_EPOCH), servers: Vec::new(), reports: Vec::new() };
        let empty = write(&reading, Vec::new(), "db1");
        assert!(empty.contains("no cluster was found"), "{empty}");
        reading.servers.push(ServerReport { name: "<b>".into(), state: Err(("authentication", "<i>".to_owned())) });
        reading.servers.push(ServerReport { name: "18/main".into(), state: Ok((180_004, true)) });
        reading.reports.push(Report {
            server: None,
            collector: "<u>".to_owned(),
            outcome: Outcome::Skipped { why: Skip::Nothing, reason: "<s>".to_owned() },
            duration: Duration::ZERO,
            age: Duration::ZERO,
            gaps: Arc::new([Gap { datname: "<q>".to_owned(), class: "timeout", reason: "<del>".to_owned() }]),
        });
        let of = |check: &str, status| Verdict { status, ..Verdict::unknown(check, "<em>") };
        let verdicts = vec![of("calm", Status::Ok), of("urgent", Status::Critical)];
        let page = write(&reading, verdicts, "<h6>");
        assert!(page.find("urgent") < page.find("calm"), "{page}");
        assert!(page.contains("18.4<td>standby") && page.contains("authentication"), "{page}");
        for hostile in ["<b>", "<i>", "<u>", "<s>", "<em>", "<h6>", "<q>", "<del>"] {
            assert!(!page.contains(hostile), "{hostile} in {page}");
        }
    }
}
