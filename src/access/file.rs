//! The web configuration file of Prometheus' exporters (exporter-toolkit, `docs/web-configuration.md`), read strictly.
//!
//! What a key may say is decided here, with its line; what the files it names hold is not read here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use axum::http::{HeaderName, HeaderValue};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::choice::{ClientAuth, Curve, GoDuration, Suite, Version};
use super::password::Hash;
use super::text::{Pairs, Text};
use crate::source::{Source, SourceError};

/// The file. Every key may be left out, and be there with nothing behind it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "sections such as tls_server_config and basic_auth_users")]
pub(super) struct WebFile {
    pub(super) tls_server_config: Option<TlsSection>,
    pub(super) http_server_config: Option<HttpSection>,
    pub(super) basic_auth_users: Option<Users>,
    pub(super) rate_limit: Option<RateSection>,
}

/// How TLS is spoken, and to whom.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "keys such as cert_file and key_file")]
pub(super) struct TlsSection {
    pub(super) cert: Option<String>,
    pub(super) key: Option<Pem>,
    pub(super) client_ca: Option<String>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) client_ca_file: Option<PathBuf>,
    pub(super) client_auth_type: Option<Text<ClientAuth>>,
    pub(super) client_allowed_sans: Option<Vec<String>>,
    pub(super) min_version: Option<Text<Version>>,
    pub(super) max_version: Option<Text<Version>>,
    pub(super) cipher_suites: Option<Vec<Text<Suite>>>,
    pub(super) prefer_server_cipher_suites: Option<bool>,
    pub(super) curve_preferences: Option<Vec<Text<Curve>>>,
}

/// What answers look like.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "keys such as headers")]
pub(super) struct HttpSection {
    /// Taken and of no effect: HTTP/2 is never spoken.
    #[serde(rename = "http2")]
    pub(super) _http2: Option<bool>,
    pub(super) headers: Option<Headers>,
}

/// How often may be asked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "interval and burst")]
pub(super) struct RateSection {
    pub(super) interval: Option<Text<GoDuration>>,
    pub(super) burst: Option<u32>,
}

/// A private key, which is not shown.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Pem(pub(super) String);

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A header and a value that the toolkit lets one set.
#[derive(Debug)]
pub(super) struct Headers(pub(super) Vec<(HeaderName, HeaderValue)>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs = deserializer.deserialize_map(Pairs::<HeaderLine>::new("a list of headers"))?;
        let headers = pairs.into_iter().map(|(name, line)| {
            let expected: &[&str] = match name.as_str() {
                "Content-Security-Policy" | "Strict-Transport-Security" | "X-XSS-Protection" => &[],
                "X-Content-Type-Options" => &["nosniff"],
                "X-Frame-Options" => &["deny", "sameorigin"],
                _ => {
                    let known = "Content-Security-Policy, Strict-Transport-Security, X-Content-Type-Options, \
                                 X-Frame-Options or X-XSS-Protection";
                    return Err(D::Error::custom(format!("header `{name}`: expected {known}")));
                }
            };
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(D::Error::custom)?;
            if expected.is_empty() || expected.iter().any(|text| line.0 == text) {
                Ok((name, line.0))
            } else {
                Err(D::Error::custom(format!("header `{name}`: expected {}", expected.join(" or "))))
            }
        });
        headers.collect::<Result<_, _>>().map(Self)
    }
}

#[derive(Debug)]
struct HeaderLine(HeaderValue);

impl FromStr for HeaderLine {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        HeaderValue::from_str(text).map(Self).map_err(|_| "expected one line of ASCII")
    }
}

/// Who may read, by name.
#[derive(Debug, Default)]
pub(super) struct Users(pub(super) BTreeMap<String, Hash>);

impl<'de> Deserialize<'de> for Users {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs =
            deserializer.deserialize_map(Pairs::<Hash>::new("names with the bcrypt hashes of their passwords"))?;
        if let Some((name, _)) = pairs.iter().find(|(name, _)| name.contains(':')) {
            return Err(D::Error::custom(format!("user `{name}`: expected a name without a colon")));
        }
        Ok(Self(pairs.into_iter().collect()))
    }
}

impl WebFile {
    /// Reads the text of a file.
    pub(super) fn parse(source: &Source) -> Result<Self, SourceError> {
        let parsed: Result<Option<Self>, _> = yaml_serde::from_str(&source.text);
        parsed.map(Option::unwrap_or_default).map_err(|error| {
            let at = error.location().map_or(0, |place| place.index());
            source.mistake(at, reason(&error.to_string()))
        })
    }
}

/// What the parser says, without the place that is named already, and without a value: it may be a password.
fn reason(said: &str) -> String {
    let said = said.split_once(" at line ").map_or(said, |(reason, _)| reason);
    match (said.find("invalid type: "), said.rfind(", expected ")) {
        (Some(start), Some(end)) if start < end => {
            format!("{}{}", said.get(..start).unwrap_or_default(), said.get(end + 2..).unwrap_or_default())
        }
        _ => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(text: &str) -> Result<WebFile, String> {
        let source = Source { file: "web.yml".into(), text: text.to_owned().into() };
        WebFile::parse(&source).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_at_all_is_a_good_file() {
        for text in ["", "# nothing\n", "tls_server_config:\nhttp_server_config:\nbasic_auth_users:\nrate_limit:\n"] {
            let file = parse(text).unwrap();
            assert!(file.tls_server_config.is_none() && file.basic_auth_users.is_none_or(|users| users.0.is_empty()));
        }
    }

    #[test]
    fn every_key_of_the_toolkit_is_taken() {
        let file = parse(
            "tls_server_config:\n  cert_file: a.crt\n  key_file: a.key\n  client_auth_type: RequireAndVerifyClientCert\n  \
             client_ca_file: ca.crt\n  client_allowed_sans: [one, 'https://two']\n  min_version: TLS10\n  \
             max_version: TLS13\n  prefer_server_cipher_suites: true\n  cipher_suites:\n  \
             - TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\n  - TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305\n  \
             - TLS_RSA_WITH_AES_128_CBC_SHA\n  - TLS_AES_128_GCM_SHA256\n  curve_preferences: [CurveP256, CurveP521]\n\
             http_server_config:\n  http2: true\n  headers:\n    X-XSS-Protection: 1\n    X-Frame-Options: deny\n\
             basic_auth_users:\n  alice: $2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n\
             rate_limit: {interval: 1m1.5s, burst: 20}\n",
        )
        .unwrap();
        let tls = file.tls_server_config.unwrap();
        assert_eq!(tls.client_auth_type.map(|text| text.0), Some(ClientAuth::RequireAndVerify));
        assert_eq!(tls.min_version.map(|text| text.0), Some(Version::Old));
        let spoken: Vec<_> = tls.cipher_suites.unwrap().iter().map(|suite| suite.spoken.is_some()).collect();
        assert_eq!(spoken, [true, true, false, false]);
        let spoken: Vec<_> = tls.curve_preferences.unwrap().iter().map(|curve| curve.spoken.is_some()).collect();
        assert_eq!(spoken, [true, false]);
        assert_eq!(file.http_server_config.unwrap().headers.unwrap().0.len(), 2);
        assert_eq!(file.rate_limit.unwrap().interval.unwrap().0, GoDuration(Duration::from_millis(61_500)));
    }

    #[test]
    fn a_mistake_names_file_and_line_and_no_secret() {
        for (text, expected) in [
            (
                "basic_auth_user:\n",
                "web.yml:1: unknown field `basic_auth_user`, expected one of `tls_server_config`, \
              `http_server_config`, `basic_auth_users`, `rate_limit`",
            ),
            (
                "\ntls_server_config:\n  certfile: x\n",
                "web.yml:3: tls_server_config: unknown field `certfile`, expected one of",
            ),
            (
                "tls_server_config:\n  cert_file: a\n  cert_file: b\n",
                "web.yml:2: tls_server_config: duplicate field `cert_file`",
            ),
            (
                "tls_server_config:\n  min_version: canary\n",
                "web.yml:2: tls_server_config.min_version: expected TLS12 or TLS13",
            ),
            (
                "tls_server_config:\n\n  client_auth_type: canary\n",
                "web.yml:3: tls_server_config.client_auth_type: expected NoClientCert, ",
            ),
            (
                "tls_server_config:\n  cipher_suites:\n  - canary\n",
                "web.yml:3: tls_server_config.cipher_suites[0]: expected one of: TLS_",
            ),
            (
                "tls_server_config:\n  curve_preferences: [X25519, canary]\n",
                "web.yml:2: tls_server_config.curve_preferences[1]: expected X25519, ",
            ),
            (
                "basic_auth_users:\n  alice: canary\n",
                "web.yml:2: basic_auth_users.alice: expected a bcrypt hash, such as `htpasswd -nBC 10 NAME` writes",
            ),
            ("basic_auth_users:\n  alice: 1234567\n", "web.yml:2: basic_auth_users.alice: expected a bcrypt hash"),
            ("basic_auth_users:\n  alice: [canary]\n", "web.yml:2: basic_auth_users.alice: expected a text"),
            ("basic_auth_users: alice:canary\n", "web.yml:1: basic_auth_users: expected names with the bcrypt hashes"),
            (
                "basic_auth_users:\n  a: $2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n  a: $2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n",
                "`a` stands there twice",
            ),
            (
                "http_server_config:\n  headers:\n    X-Powered-By: canary\n",
                "header `X-Powered-By`: expected Content-Security-Policy, ",
            ),
            (
                "http_server_config:\n  headers:\n    X-Frame-Options: canary\n",
                "header `x-frame-options`: expected deny or sameorigin",
            ),
            ("http_server_config:\n  http2: canary\n", "web.yml:2: http_server_config.http2: expected a boolean"),
            ("rate_limit:\n  interval: canary\n", "web.yml:2: rate_limit.interval: expected a time such as"),
            ("rate_limit: canary\n", "web.yml:1: rate_limit: expected interval and burst"),
            ("rate_limit: {\n", "web.yml:2: did not find expected node content"),
            ("- canary\n", "web.yml:1: expected sections such as tls_server_config"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(
                said.contains(expected)
                    && said.starts_with("web.yml:")
                    && !said.contains("canary")
                    && !said.contains("1234567"),
                "{text}: {said}"
            );
        }
    }
}
