//! Connection keywords under libpq's names, wherever they were written, before they are understood.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Why connection settings are refused. No variant holds a value, so none can show a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DsnError {
    /// No such keyword.
    #[error("unknown connection keyword `{0}`: expected one of libpq's, such as host, port, user or dbname")]
    UnknownKeyword(String),
    /// libpq knows it, but we cannot do what it asks for.
    #[error("connection keyword `{keyword}` is not supported: {reason}")]
    Refused {
        /// The keyword.
        keyword: &'static str,
        /// Why, and what to do instead.
        reason: &'static str,
    },
    /// The value is not one that the keyword can have.
    #[error("connection keyword `{keyword}`: expected {expected}")]
    Value {
        /// The keyword.
        keyword: &'static str,
        /// What it can be.
        expected: &'static str,
    },
    /// Not a URL and not `keyword=value` either.
    #[error("connection string: {0}")]
    Syntax(&'static str),
    /// The service file has no such section, or cannot be understood.
    #[error("service `{service}`: {reason}")]
    Service {
        /// The section sought.
        service: String,
        /// What is wrong.
        reason: String,
    },
    /// A file that the settings name cannot be read.
    #[error("read {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        reason: String,
    },
}

enum Use {
    Read,
    /// Without effect here: ours wins, or it does not matter to a monitor.
    Ignored,
    /// Refused unless it has one of these harmless values.
    Refused(&'static [&'static str], &'static str),
}

const NO_ENCRYPTION_BY_KERBEROS: &str = "GSSAPI encryption is not built in; use TLS";
const OLD_TLS: &str = "TLS 1.2 and 1.3 are spoken, whatever the server prefers";

/// Every keyword of libpq 18 but those of OAuth.
const KEYWORDS: &[(&str, Use)] = &[
    ("application_name", Use::Ignored),
    ("channel_binding", Use::Read),
    ("client_encoding", Use::Ignored),
    ("connect_timeout", Use::Read),
    ("dbname", Use::Read),
    ("fallback_application_name", Use::Ignored),
    ("gssdelegation", Use::Ignored),
    ("gssencmode", Use::Refused(&["disable", "prefer"], NO_ENCRYPTION_BY_KERBEROS)),
    ("gsslib", Use::Ignored),
    ("host", Use::Read),
    ("hostaddr", Use::Read),
    ("keepalives", Use::Ignored),
    ("keepalives_count", Use::Ignored),
    ("keepalives_idle", Use::Ignored),
    ("keepalives_interval", Use::Ignored),
    ("krbsrvname", Use::Ignored),
    ("load_balance_hosts", Use::Ignored),
    ("max_protocol_version", Use::Ignored),
    ("min_protocol_version", Use::Refused(&["3.0"], "protocol 3.0 is spoken")),
    ("options", Use::Ignored),
    ("passfile", Use::Read),
    ("password", Use::Read),
    ("port", Use::Read),
    ("replication", Use::Refused(&["false", "off", "no", "0"], "a monitor asks through SQL only")),
    ("require_auth", Use::Refused(&[], "the server alone chooses the method; use channel_binding=require")),
    ("requirepeer", Use::Refused(&[], "the owner of the socket is not looked at")),
    ("service", Use::Read),
    ("servicefile", Use::Read),
    ("ssl_max_protocol_version", Use::Refused(&["TLSv1.3"], OLD_TLS)),
    ("ssl_min_protocol_version", Use::Refused(&["TLSv1", "TLSv1.1", "TLSv1.2"], OLD_TLS)),
    ("sslcert", Use::Read),
    ("sslcertmode", Use::Refused(&["allow"], "a client certificate is sent when there is one and it is asked for")),
    ("sslcompression", Use::Ignored),
    ("sslcrl", Use::Read),
    ("sslcrldir", Use::Refused(&[], "a folder of revocation lists is not read; put them into one file for sslcrl")),
    ("sslkey", Use::Read),
    ("sslkeylogfile", Use::Ignored),
    ("sslmode", Use::Read),
    ("sslnegotiation", Use::Read),
    ("sslpassword", Use::Refused(&[], "decrypt the key file and protect it by its mode")),
    ("sslrootcert", Use::Read),
    ("sslsni", Use::Ignored),
    ("target_session_attrs", Use::Read),
    ("tcp_user_timeout", Use::Ignored),
    ("user", Use::Read),
];

/// Keywords and their values, each keyword at most once.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keywords(BTreeMap<&'static str, String>);

impl Keywords {
    /// The value, if it is set and not empty: libpq takes an empty value as none.
    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.0.get(keyword).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets one keyword; the last value wins.
    pub fn set(&mut self, keyword: &str, value: &str) -> Result<(), DsnError> {
        let Some((known, meaning)) = KEYWORDS.iter().find(|(known, _)| *known == keyword) else {
            return self.set_foreign(keyword, value);
        };
        match meaning {
            Use::Read => _ = self.0.insert(known, value.to_owned()),
            Use::Ignored => tracing::info!(keyword, "connection keyword has no effect here"),
            Use::Refused(harmless, _) if harmless.contains(&value) => {}
            Use::Refused(_, reason) => return Err(DsnError::Refused { keyword: known, reason }),
        }
        Ok(())
    }

    /// JDBC's `ssl=true` is understood in libpq's URLs too. A word that does not look like a keyword may be a piece of
    /// a password, so it is not repeated.
    fn set_foreign(&mut self, keyword: &str, value: &str) -> Result<(), DsnError> {
        let looks_like_one = keyword.len() <= 32 && keyword.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        match (keyword, value) {
            ("ssl", "true") => self.set("sslmode", "require"),
            (keyword, _) if looks_like_one => Err(DsnError::UnknownKeyword(keyword.to_owned())),
            _ => Err(DsnError::Syntax("expected a keyword before `=`")),
        }
    }

    pub(super) fn is_known(keyword: &str) -> bool {
        KEYWORDS.iter().any(|(known, _)| *known == keyword)
    }

    /// These, and from `lower` what they leave open.
    #[must_use]
    pub fn over(mut self, lower: Self) -> Self {
        for (keyword, value) in lower.0 {
            self.0.entry(keyword).or_insert(value);
        }
        self
    }
}

impl fmt::Debug for Keywords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Any value can hold a secret that was put in the wrong place.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyword_we_cannot_honour_is_refused_unless_its_value_asks_for_nothing() {
        let mut keywords = Keywords::default();
        assert_eq!(keywords.set("gssencmode", "prefer"), Ok(()));
        let refused = keywords.set("sslcrldir", "/x").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "connection keyword `sslcrldir` is not supported: \
             a folder of revocation lists is not read; put them into one file for sslcrl"
        );
        let error = keywords.set("colour", "red").unwrap_err().to_string();
        assert!(error.starts_with("unknown connection keyword `colour`: expected"), "{error}");
    }

    #[test]
    fn debug_shows_keywords_and_no_value() {
        let mut keywords = Keywords::default();
        keywords.set("password", "canary").unwrap();
        assert_eq!(format!("{keywords:?}"), r#"{"password"}"#);
    }
}
