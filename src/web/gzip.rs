//! Compressed answers: Prometheus always asks for them, and a page shrinks to a tenth for a millisecond of CPU.

use std::io::{self, Write as _};

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT_ENCODING;
use flate2::Compression;
use flate2::write::GzEncoder;

/// What fits into one packet anyway is sent as it is.
const LEAST: usize = 1400;

/// Whether a request lets us compress its answer (RFC 9110, section 12.5.3).
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight: String = weight.chars().filter(|c| !c.is_whitespace()).collect();
        let weight = weight.strip_prefix("q=").map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && weight > 0.0
    })
}

/// The text compressed, unless that is not worth it.
pub(super) fn compress(text: &Bytes) -> Option<Bytes> {
    let compressed = || -> io::Result<Vec<u8>> {
        // Higher levels take twice to four times as long, for a fifth less on the wire.
        let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
        encoder.write_all(text)?;
        encoder.finish()
    };
    if text.len() < LEAST { None } else { compressed().ok().map(Bytes::from) }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn only_who_asks_for_it_is_given_gzip() {
        let asks = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ACCEPT_ENCODING, value.parse().unwrap());
            }
            is_wanted(&headers)
        };
        for wanted in [&["gzip"][..], &["br, GZIP ; q=0.5"], &["br", "gzip"], &["deflate,gzip"]] {
            assert!(asks(wanted), "{wanted:?}");
        }
        for unwanted in
            [&[][..], &["identity"], &["br"], &["gzip;q=0"], &["gzip; q = 0.0"], &["*;q=0"], &["x-gzip"], &[";;,"]]
        {
            assert!(!asks(unwanted), "{unwanted:?}");
        }
    }

    #[test]
    fn what_is_compressed_is_the_same_text() {
        let text = Bytes::from("pg_up{server=\"15/main\"} 1\n".repeat(10_000));
        let compressed = compress(&text).unwrap();
        assert!(compressed.len() < text.len() / 10);
        let mut again = Vec::new();
        GzDecoder::new(&compressed[..]).read_to_end(&mut again).unwrap();
        assert_eq!(again, text);
        assert_eq!(compress(&Bytes::from_static(b"ok\n")), None);
    }
}
