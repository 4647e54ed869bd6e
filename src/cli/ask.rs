//! Asking an agent over HTTP for a verdict.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{HOST, SERVER};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::web::EXIT_CODE;

const LONGEST_ANSWER: usize = 1 << 20;

/// An agent's answer to `/check/NAME`.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) exit_code: u8,
}

/// Whether an agent of ours listens there; another program on the port is none.
pub(super) async fn listens(address: &str) -> bool {
    // A local agent answers at once; a port that does not is no reason to be late.
    let asked = tokio::time::timeout(Duration::from_millis(500), get(address, "/healthz"));
    matches!(asked.await, Ok(Ok(_)))
}

/// Asks the agent at `address` (host:port) for a check.
pub(super) async fn check(address: &str, name: &str, parameters: &[(&str, &str)]) -> anyhow::Result<Answer> {
    let mut path = format!("/check/{}", escape(name));
    for (at, (key, value)) in parameters.iter().enumerate() {
        path += &format!("{}{key}={}", if at == 0 { "?" } else { "&" }, escape(value));
    }
    let (headers, text) = get(address, &path).await?;
    let exit_code = headers
        .get(EXIT_CODE)
        .and_then(|code| code.to_str().ok()?.parse().ok())
        .ok_or_else(|| anyhow!("the agent at {address} gave no exit code"))?;
    Ok(Answer { text, exit_code })
}

/// The address in an agent's URL.
pub(super) fn address_of(url: &str) -> anyhow::Result<String> {
    let address = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    if address.contains("://") || address.contains('/') || !address.contains(':') {
        bail!("expected an agent's address such as http://127.0.0.1:9187, got {url:?}");
    }
    Ok(address.to_owned())
}

async fn get(address: &str, path: &str) -> anyhow::Result<(hyper::HeaderMap, String)> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("connect to the agent at {address}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path).header(HOST, address).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.with_context(|| format!("ask the agent at {address}"))?;
    let (head, body) = response.into_parts();
    let ours = head.headers.get(SERVER).is_some_and(|name| name.as_bytes().starts_with(b"pgvitals/"));
    if !ours {
        bail!("what listens at {address} is no pgvitals agent");
    }
    let body =
        Limited::new(body, LONGEST_ANSWER).collect().await.map_err(|error| anyhow!("read the answer: {error}"))?;
    connection.abort();
    Ok((head.headers, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}

/// Percent-encoding of everything that is not plain (RFC 3986, section 2.3).
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped += &format!("%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_named_by_url_or_address() {
        assert_eq!(address_of("http://127.0.0.1:9187/").unwrap(), "127.0.0.1:9187");
        assert_eq!(address_of("db1:9187").unwrap(), "db1:9187");
        for wrong in ["https://db1:9187", "db1", "http://db1:1/x"] {
            assert!(address_of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn thresholds_survive_the_way_to_the_agent() {
        assert_eq!(escape("@80%:~"), "%4080%25%3A~");
    }
}
