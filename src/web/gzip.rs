//! Compressed answers: Prometheus always asks for them, and a page shrinks to a tenth for a millisecond of CPU.

use std::io::Write as _;

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

/// A text that is compressed piece by piece as it is written.
pub(super) struct Compressed(Option<GzEncoder<Vec<u8>>>);

impl Compressed {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self(None)
    }

    /// Takes a piece, and clears it.
    pub(super) fn take(&mut self, piece: &mut String) {
        // Higher levels take twice to four times as long, for a fifth less on the wire.
        let encoder = self.0.get_or_insert_with(|| GzEncoder::new(Vec::new(), Compression::fast()));
        // Writing to a Vec cannot fail.
        let _ = encoder.write_all(piece.as_bytes());
        piece.clear();
    }

    /// All pieces and the last one; the text itself where compressing it is not worth it.
    pub(super) fn finish(mut self, mut last: String) -> Result<Bytes, String> {
        if self.0.is_none() && last.len() < LEAST {
            return Err(last);
        }
        self.take(&mut last);
        let compressed = self.0.map(GzEncoder::finish);
        compressed.and_then(Result::ok).map(Bytes::from).ok_or_else(String::new)
    }
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
    fn what_is_compressed_in_pieces_is_the_same_text() {
        let text = "pg_up{server=\"15/main\"} 1\n".repeat(10_000);
        for pieces in 0..3 {
            let mut compressed = Compressed::new();
            (0..pieces).for_each(|_| compressed.take(&mut text.clone()));
            let compressed = compressed.finish(text.clone()).unwrap();
            assert!(compressed.len() < text.len() / 10);
            let mut again = String::new();
            GzDecoder::new(&compressed[..]).read_to_string(&mut again).unwrap();
            assert_eq!(again, text.repeat(pieces + 1));
        }
        assert_eq!(Compressed::new().finish("ok\n".to_owned()), Err("ok\n".to_owned()));
    }
}
