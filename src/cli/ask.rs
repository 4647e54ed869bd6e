//! Asking an agent over HTTP for a verdict.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue, SERVER};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::AgentArgs;
use crate::server::{RootCertificate, SslMode, TlsOptions, client_config};
use crate::web::{EXIT_CODE, LSB_CODE, STDERR};

const LONGEST_ANSWER: usize = 1 << 20;
/// Where the password for an agent may stand: a file is better, an argument shows in the process list.
const PASSWORD: &str = "PGVITALS_AGENT_PASSWORD";

/// An agent, and how it is asked.
pub(super) struct Agent {
    /// Host and port.
    address: String,
    tls: Option<Arc<ClientConfig>>,
    authorization: Option<HeaderValue>,
}

/// An agent's answer to `/check/NAME`, or to a plugin's command line.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) exit_code: u8,
    /// What is for stderr, after the text.
    pub(super) stderr: String,
    /// Whether nothing was refused that who asks the server could be told.
    pub(super) is_whole: bool,
    /// For cluster managers; older agents give none.
    pub(super) lsb_code: Option<u8>,
}

impl Agent {
    /// The agent that the command line names, if it names one.
    pub(super) fn named(args: &AgentArgs) -> anyhow::Result<Option<Self>> {
        let Some(url) = &args.agent else { return Ok(None) };
        let (address, encrypted) = address_of(url)?;
        let tls = if encrypted { Some(Arc::new(tls(args)?)) } else { None };
        let authorization = args.agent_user.as_deref().map(|user| credentials(user, args.agent_password_file.as_ref()));
        Ok(Some(Self { address, tls, authorization: authorization.transpose()? }))
    }

    /// The agent at this address, if one of ours listens there and answers everybody; another program is none.
    pub(super) async fn open_at(address: &str) -> Option<Self> {
        let agent = Self { address: address.to_owned(), tls: None, authorization: None };
        // A local agent answers at once; a port that does not is no reason to be late.
        let asked = tokio::time::timeout(Duration::from_millis(500), agent.get("/healthz")).await;
        matches!(asked, Ok(Ok((StatusCode::OK, ..)))).then_some(agent)
    }

    /// Asks for a check.
    pub(super) async fn check(&self, name: &str, parameters: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let mut path = format!("/check/{}", escape(name));
        for (at, (key, value)) in parameters.iter().enumerate() {
            path += &format!("{}{key}={}", if at == 0 { "?" } else { "&" }, escape(value));
        }
        self.verdict(&path).await
    }

    /// Has the agent run the command line of a plugin.
    pub(super) async fn run(&self, program: &str, arguments: &[String]) -> anyhow::Result<Answer> {
        let arguments: Vec<String> = arguments.iter().map(|argument| format!("arg={}", escape(argument))).collect();
        self.verdict(&format!("/{program}?{}", arguments.join("&"))).await
    }

    async fn verdict(&self, path: &str) -> anyhow::Result<Answer> {
        let (status, headers, mut text) = self.get(path).await?;
        if status == StatusCode::UNAUTHORIZED {
            let refused = match self.authorization {
                Some(_) => "did not take this user and password",
                None => "expects a user and a password, see --agent-user",
            };
            bail!("the agent at {} {refused}", self.address);
        }
        let code = |name| headers.get(name).and_then(|code| code.to_str().ok()?.parse().ok());
        let exit_code =
            code(EXIT_CODE).ok_or_else(|| anyhow!("the agent at {} gave no exit code but {status}", self.address))?;
        let at = headers.get(STDERR).and_then(|at| at.to_str().ok()?.parse().ok());
        let at = at.filter(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        let stderr = text.split_off(at);
        Ok(Answer { text, stderr, exit_code, is_whole: status == StatusCode::OK, lsb_code: code(LSB_CODE) })
    }

    async fn get(&self, path: &str) -> anyhow::Result<(StatusCode, HeaderMap, String)> {
        let address = &self.address;
        let stream = TcpStream::connect(address).await.with_context(|| format!("connect to the agent at {address}"))?;
        let Some(config) = &self.tls else { return self.ask(stream, path).await };
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).context("name the agent's host")?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
        self.ask(stream.with_context(|| format!("speak TLS with the agent at {address}"))?, path).await
    }

    async fn ask(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        path: &str,
    ) -> anyhow::Result<(StatusCode, HeaderMap, String)> {
        let address = &self.address;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let mut request = Request::get(path).header(HOST, address).body(Empty::<Bytes>::new())?;
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        let response = sender.send_request(request).await.with_context(|| format!("ask the agent at {address}"))?;
        let (head, body) = response.into_parts();
        let ours = head.headers.get(SERVER).is_some_and(|name| name.as_bytes().starts_with(b"pgvitals/"));
        if !ours {
            bail!("what listens at {address} is no pgvitals agent");
        }
        let body =
            Limited::new(body, LONGEST_ANSWER).collect().await.map_err(|error| anyhow!("read the answer: {error}"))?;
        connection.abort();
        Ok((head.status, head.headers, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    }
}

/// The address in an agent's URL, and whether TLS is spoken there.
fn address_of(url: &str) -> anyhow::Result<(String, bool)> {
    let (rest, encrypted) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (_, Some(rest)) => (rest, true),
        (rest, None) => (rest.unwrap_or(url), false),
    };
    let address = rest.trim_end_matches('/');
    ensure!(!address.contains('@'), "expected --agent-user and --agent-password-file in place of a user in the URL");
    let is_address =
        address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if address.contains('/') || !is_address {
        bail!("expected an agent's address such as http://127.0.0.1:9187, got {url:?}");
    }
    Ok((address.to_owned(), encrypted))
}

fn tls(args: &AgentArgs) -> anyhow::Result<ClientConfig> {
    let root = args.agent_ca.clone().map_or(RootCertificate::System, RootCertificate::File);
    let identity = args.agent_cert.clone().zip(args.agent_key.clone());
    if let Some((certificate, _)) = &identity {
        ensure!(certificate.exists(), "read {}: no such file", certificate.display());
    }
    Ok(client_config(&TlsOptions {
        mode: SslMode::VerifyFull,
        root: Some(root),
        identity,
        direct: false,
        revoked: None,
    })?)
}

/// The header with a user and the password from the file, else from the environment.
fn credentials(user: &str, file: Option<&PathBuf>) -> anyhow::Result<HeaderValue> {
    let password = match file {
        Some(file) => fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?,
        None => {
            std::env::var(PASSWORD).ok().with_context(|| format!("expected --agent-password-file or {PASSWORD}"))?
        }
    };
    let password = password.lines().next().unwrap_or_default();
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))?;
    value.set_sensitive(true);
    Ok(value)
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
        let parse = |url: &str| address_of(url).ok();
        assert_eq!(parse("http://127.0.0.1:9187/"), Some(("127.0.0.1:9187".to_owned(), false)));
        assert_eq!(parse("db1:9187"), Some(("db1:9187".to_owned(), false)));
        assert_eq!(parse("https://[::1]:9187"), Some(("[::1]:9187".to_owned(), true)));
        for wrong in ["ftp://db1:9187", "db1", "https://db1", "http://db1:1/x", "http://:1", "http://db1:x", ""] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        let refused = address_of("https://alice:canary@db1:9187").unwrap_err().to_string();
        assert!(!refused.contains("canary"), "{refused}");
    }

    #[test]
    fn thresholds_survive_the_way_to_the_agent() {
        assert_eq!(escape("@80%:~"), "%4080%25%3A~");
    }
}
