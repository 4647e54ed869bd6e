//! What the web configuration file lets one choose from, by the names of Go's `crypto/tls` and `time`.

use std::str::FromStr;
use std::time::Duration;

use rustls::crypto::SupportedKxGroup;
use rustls::crypto::ring::{DEFAULT_CIPHER_SUITES, kx_group};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

/// Which clients need a certificate; the names are those of Go's `crypto/tls`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ClientAuth {
    #[default]
    No,
    Request,
    RequireAny,
    VerifyIfGiven,
    RequireAndVerify,
}

impl FromStr for ClientAuth {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" | "NoClientCert" => Ok(Self::No),
            "RequestClientCert" => Ok(Self::Request),
            // The second is an older spelling.
            "RequireAnyClientCert" | "RequireClientCert" => Ok(Self::RequireAny),
            "VerifyClientCertIfGiven" => Ok(Self::VerifyIfGiven),
            "RequireAndVerifyClientCert" => Ok(Self::RequireAndVerify),
            _ => Err("expected NoClientCert, RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven or \
                      RequireAndVerifyClientCert"),
        }
    }
}

/// A version of TLS, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    /// 1.0 or 1.1, which rustls does not speak.
    Old,
    Tls12,
    Tls13,
}

impl Version {
    pub(super) const SPOKEN: [(Self, &'static SupportedProtocolVersion); 2] =
        [(Self::Tls12, &rustls::version::TLS12), (Self::Tls13, &rustls::version::TLS13)];
}

impl FromStr for Version {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "TLS10" | "TLS11" => Ok(Self::Old),
            "TLS12" => Ok(Self::Tls12),
            "TLS13" => Ok(Self::Tls13),
            _ => Err("expected TLS12 or TLS13"),
        }
    }
}

/// A cipher suite of TLS 1.2.
#[derive(Debug)]
pub(super) struct Suite {
    pub(super) name: String,
    /// None for those of TLS 1.3, which are not chosen, and for those that rustls does not speak.
    pub(super) spoken: Option<SupportedCipherSuite>,
    pub(super) is_tls13: bool,
}

impl FromStr for Suite {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let tls12 = || DEFAULT_CIPHER_SUITES.iter().filter(|suite| suite.tls13().is_none());
        let name = |suite: &SupportedCipherSuite| suite.suite().as_str().unwrap_or_default();
        // Go has a short name for those of ChaCha20.
        let long = text.strip_suffix("_POLY1305").map(|start| format!("{start}_POLY1305_SHA256"));
        let long = long.as_deref().unwrap_or(text);
        let spoken = tls12().find(|suite| name(suite) == long).copied();
        let is_tls13 =
            ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"].contains(&text);
        // No forward secrecy, or a construction that was broken again and again.
        let is_weak = text.starts_with("TLS_RSA_WITH_") || text.starts_with("TLS_") && text.contains("_CBC_SHA");
        if spoken.is_none() && !is_tls13 && !is_weak {
            let known: Vec<_> = tls12().map(name).collect();
            return Err(format!("expected one of: {}", known.join(", ")));
        }
        Ok(Self { name: text.to_owned(), spoken, is_tls13 })
    }
}

/// A group for the exchange of keys, by Go's name.
#[derive(Debug)]
pub(super) struct Curve {
    pub(super) name: String,
    /// None for what is known and not spoken.
    pub(super) spoken: Option<&'static dyn SupportedKxGroup>,
}

impl FromStr for Curve {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let spoken = match text {
            "X25519" => Some(kx_group::X25519),
            "CurveP256" => Some(kx_group::SECP256R1),
            "CurveP384" => Some(kx_group::SECP384R1),
            "CurveP521" | "X25519MLKEM768" | "SecP256r1MLKEM768" | "SecP384r1MLKEM1024" => None,
            _ => return Err("expected X25519, CurveP256 or CurveP384"),
        };
        Ok(Self { name: text.to_owned(), spoken })
    }
}

/// A time as Go writes it: `1s`, `1m30s`, `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GoDuration(pub(super) Duration);

impl FromStr for GoDuration {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a time such as 1s, 500ms or 1m30s";
        let (mut rest, mut seconds) = (text, 0.0);
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(EXPECTED)?;
            let (number, after) = rest.split_at(end);
            let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, after) = after.split_at(end);
            let unit = match unit {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(EXPECTED),
            };
            seconds += number.parse::<f64>().map_err(|_| EXPECTED)? * unit;
            rest = after;
        }
        let whole = Duration::try_from_secs_f64(seconds).map_err(|_| EXPECTED)?;
        if text.is_empty() { Err(EXPECTED) } else { Ok(Self(whole)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_in_go() {
        let parse = |text: &str| text.parse::<GoDuration>().map(|time| time.0);
        assert_eq!(parse("1h2m3s"), Ok(Duration::from_secs(3723)));
        assert_eq!(parse("0"), Ok(Duration::ZERO));
        assert_eq!(parse("1.5ms"), Ok(Duration::from_micros(1500)));
        for wrong in ["", "1", "s", "-1s", "1 s", "1d", "1..s", "1e9s", "99999999999999999999h"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
