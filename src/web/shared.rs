//! The text of a reading, written once for all readers who wait for it.
//!
//! A large page takes longer to write than to know, and two hundred readers would hold it two hundred times.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use axum::body::Bytes;

use super::gzip::Compressed;
use crate::agent::{Agent, Want};
use crate::sink::{PIECE, openmetrics, prometheus};

/// Bytes of a line; nearly all are shorter, and a longer one costs a copy of its piece.
const LINE: usize = 4 << 10;

/// How a snapshot is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Format {
    /// The text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// The texts that somebody waits for.
#[derive(Debug, Default)]
pub(super) struct Texts(Mutex<BTreeMap<Key, Weak<Text>>>);

/// What two readers must have in common to be given the same text. Who has the agent keeps its address from being used
/// for another one.
type Key = (usize, Format, bool, Option<BTreeSet<String>>, Option<Arc<str>>);

/// A text that is written again for each group of readers. It goes with the last of them.
#[derive(Debug)]
struct Text {
    /// When the latest of them came.
    newest: Mutex<Instant>,
    written: tokio::sync::Mutex<Option<Written>>,
}

#[derive(Debug)]
struct Written {
    /// For a reader who came then, and for those before him.
    asked: Instant,
    /// What was known then.
    since: Instant,
    page: Page,
}

/// The bytes of an answer.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) bytes: Bytes,
    /// Whether they are compressed.
    pub(super) gzip: bool,
}

impl Texts {
    /// Reads what is wanted and gives it as a text, which may have been written for another reader, but only from facts
    /// that are as fresh as this one may expect.
    pub(super) async fn read(&self, agent: &Arc<Agent>, format: Format, gzip: bool, want: Want) -> Page {
        let asked = Instant::now();
        agent.refresh(asked, &want).await;
        let ready = Instant::now();
        let text =
            self.find((Arc::as_ptr(agent).addr(), format, gzip, want.collectors.clone(), want.server.clone()), asked);
        let mut written = text.written.lock().await;
        if let Some(written) = written.as_ref().filter(|written| written.asked >= asked && written.since >= ready) {
            return written.page.clone();
        }
        // Also for those who came since and stand in line.
        let asked = *text.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let since = Instant::now();
        let page = format.write(agent, asked, &want, gzip);
        written.insert(Written { asked, since, page }).page.clone()
    }

    fn find(&self, key: Key, asked: Instant) -> Arc<Text> {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        texts.retain(|_, text| text.strong_count() > 0);
        if let Some(text) = texts.get(&key).and_then(Weak::upgrade) {
            let mut newest = text.newest.lock().unwrap_or_else(PoisonError::into_inner);
            *newest = asked.max(*newest);
            drop(newest);
            return text;
        }
        let text = Arc::new(Text { newest: Mutex::new(asked), written: tokio::sync::Mutex::default() });
        texts.insert(key, Arc::downgrade(&text));
        text
    }
}

impl Format {
    /// What the HTTP header `Content-Type` says.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus::CONTENT_TYPE,
            Self::OpenMetrics => openmetrics::CONTENT_TYPE,
        }
    }

    fn write(self, agent: &Agent, asked: Instant, want: &Want, gzip: bool) -> Page {
        let snapshot = agent.assemble(asked, want).snapshot;
        if gzip {
            let mut compressed = Compressed::new();
            let mut text = String::with_capacity(PIECE + LINE);
            let encode = match self {
                Self::Prometheus => prometheus::encode_in_pieces,
                Self::OpenMetrics => openmetrics::encode_in_pieces,
            };
            encode(&snapshot, &mut text, &mut |piece| compressed.take(piece));
            return match compressed.finish(text) {
                Ok(bytes) => Page { bytes, gzip },
                Err(text) => Page { bytes: text.into(), gzip: false },
            };
        }
        let mut text = String::new();
        match self {
            Self::Prometheus => prometheus::encode(&snapshot, &mut text),
            Self::OpenMetrics => openmetrics::encode(&snapshot, &mut text),
        }
        Page { bytes: text.into(), gzip }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    #[tokio::test]
    async fn readers_who_wait_together_get_one_text_and_the_next_reader_another() {
        let agent = Arc::new(Agent::new(Arc::new(Catalog::built_in().unwrap()), None, Arc::default()));
        let texts = Texts::default();
        let read = |format| texts.read(&agent, format, false, Want::default());
        let queue = texts.find((Arc::as_ptr(&agent).addr(), Format::Prometheus, false, None, None), Instant::now());
        let turn = queue.written.lock().await;
        let (a, b, other, ()) =
            tokio::join!(read(Format::Prometheus), read(Format::Prometheus), read(Format::OpenMetrics), async {
                drop(turn);
            });
        drop(queue);
        assert_eq!(a.bytes.as_ptr(), b.bytes.as_ptr());
        assert_ne!(a.bytes.as_ptr(), other.bytes.as_ptr());
        assert_ne!(a.bytes.as_ptr(), read(Format::Prometheus).await.bytes.as_ptr());
    }

    #[tokio::test]
    async fn a_text_goes_with_its_last_reader() {
        let agent = Arc::new(Agent::new(Arc::new(Catalog::built_in().unwrap()), None, Arc::default()));
        let texts = Texts::default();
        texts.read(&agent, Format::Prometheus, false, Want::default()).await;
        texts.read(&agent, Format::Prometheus, false, Want::only(["locks".to_owned()])).await;
        let kept = texts.0.lock().unwrap().values().filter(|text| text.strong_count() > 0).count();
        assert_eq!(kept, 0);
    }
}
