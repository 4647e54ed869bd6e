//! The text of a reading, written once for all readers who wait for it.
//!
//! A large page takes longer to write than to know, and two hundred readers would hold it two hundred times.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use tokio::task::yield_now;

use super::gzip::Compressed;
use super::seat::Came;
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

/// The texts that somebody waits for, and those that somebody is being given.
#[derive(Debug, Default)]
pub(super) struct Texts {
    awaited: Mutex<BTreeMap<Key, Weak<Text>>>,
    given: Mutex<BTreeMap<Key, Weak<Written>>>,
}

/// What two readers must have in common to be given the same text. Who has the agent keeps its address from being used
/// for another one.
type Key = (usize, Format, bool, Option<BTreeSet<String>>, Option<Arc<str>>);

/// A text that is written again for each group of readers. It goes with the last of them.
#[derive(Debug)]
struct Text {
    /// When the latest of them came.
    newest: Mutex<Instant>,
    written: tokio::sync::Mutex<Option<Arc<Written>>>,
}

#[derive(Debug)]
struct Written {
    /// For a reader who came then, and for those before him.
    asked: Instant,
    /// How long he would have waited for what is missing.
    patience: Duration,
    /// What was known then.
    since: Instant,
    bytes: Bytes,
    gzip: bool,
    /// So that its address is not used for another one.
    _agent: Weak<Agent>,
}

/// A text on its way to a reader.
struct Given(Arc<Written>);

impl AsRef<[u8]> for Given {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

/// The bytes of an answer.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) bytes: Bytes,
    /// Whether they are compressed.
    pub(super) gzip: bool,
}

impl From<Arc<Written>> for Page {
    fn from(written: Arc<Written>) -> Self {
        Self { gzip: written.gzip, bytes: Bytes::from_owner(Given(written)) }
    }
}

impl Texts {
    /// Reads what is wanted and gives it as a text, which may have been written for another reader, but only from facts
    /// that are as fresh as this one may expect: with a crowd, those for one who asked since he came.
    pub(super) async fn read(
        &self,
        agent: &Arc<Agent>,
        format: Format,
        gzip: bool,
        want: Want,
        Came(came): Came,
    ) -> Page {
        let asked = Instant::now();
        let want = Want { came, ..want };
        let key = (Arc::as_ptr(agent).addr(), format, gzip, want.collectors.clone(), want.server.clone());
        let serves = |text: &Written| came.is_some_and(|came| text.asked >= came && text.patience >= want.deadline);
        if let Some(given) = self.given(&key).filter(|given| serves(given)) {
            agent.count_reading(&want);
            return given.into();
        }
        let good_for = agent.refresh(asked, &want).await;
        let ready = Instant::now();
        let text = self.find(&key, good_for);
        let mut written = text.written.lock().await;
        let is_for = |text: &Written| serves(text) || (text.asked >= asked && text.since >= ready);
        if let Some(written) = written.as_ref().filter(|written| is_for(written)) {
            return Arc::clone(written).into();
        }
        // Who was woken together with this one comes to this point first.
        yield_now().await;
        // Also for those who came since and stand in line.
        let asked = *text.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let since = Instant::now();
        let (bytes, gzip) = format.write(agent, asked, &want, gzip);
        let patience = want.deadline;
        let new = Arc::new(Written { asked, patience, since, bytes, gzip, _agent: Arc::downgrade(agent) });
        self.give(key, &new);
        Arc::clone(written.insert(new)).into()
    }

    fn find(&self, key: &Key, asked: Instant) -> Arc<Text> {
        let mut texts = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        texts.retain(|_, text| text.strong_count() > 0);
        if let Some(text) = texts.get(key).and_then(Weak::upgrade) {
            let mut newest = text.newest.lock().unwrap_or_else(PoisonError::into_inner);
            *newest = asked.max(*newest);
            drop(newest);
            return text;
        }
        let text = Arc::new(Text { newest: Mutex::new(asked), written: tokio::sync::Mutex::default() });
        texts.insert(key.clone(), Arc::downgrade(&text));
        text
    }

    /// The latest text that somebody is being given.
    fn given(&self, key: &Key) -> Option<Arc<Written>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).get(key).and_then(Weak::upgrade)
    }

    fn give(&self, key: Key, text: &Arc<Written>) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.retain(|_, text| text.strong_count() > 0);
        given.insert(key, Arc::downgrade(text));
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

    fn write(self, agent: &Agent, asked: Instant, want: &Want, gzip: bool) -> (Bytes, bool) {
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
                Ok(bytes) => (bytes, true),
                Err(text) => (text.into(), false),
            };
        }
        let mut text = String::new();
        match self {
            Self::Prometheus => prometheus::encode(&snapshot, &mut text),
            Self::OpenMetrics => openmetrics::encode(&snapshot, &mut text),
        }
        (text.into(), false)
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
        let read = |format| texts.read(&agent, format, false, Want::default(), Came(None));
        let queue = texts.find(&(Arc::as_ptr(&agent).addr(), Format::Prometheus, false, None, None), Instant::now());
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
    async fn who_came_with_a_crowd_is_given_what_another_is_given_who_asked_since() {
        let agent = Arc::new(Agent::new(Arc::new(Catalog::built_in().unwrap()), None, Arc::default()));
        let texts = Texts::default();
        let read = |came, want| texts.read(&agent, Format::Prometheus, false, want, Came(came));
        let began = Instant::now();
        let first = read(None, Want::default()).await;
        let second = read(Some(began), Want::default()).await;
        assert_eq!(first.bytes.as_ptr(), second.bytes.as_ptr());
        let patient = read(Some(began), Want { deadline: Duration::from_secs(60), ..Want::default() }).await;
        assert_ne!(first.bytes.as_ptr(), patient.bytes.as_ptr(), "it might have more if one had waited");
        let alone = read(None, Want::default()).await;
        assert_ne!(patient.bytes.as_ptr(), alone.bytes.as_ptr());
        let later = read(Some(Instant::now()), Want::default()).await;
        assert_ne!(alone.bytes.as_ptr(), later.bytes.as_ptr());
    }

    #[tokio::test]
    async fn a_text_goes_with_its_last_reader() {
        let agent = Arc::new(Agent::new(Arc::new(Catalog::built_in().unwrap()), None, Arc::default()));
        let texts = Texts::default();
        texts.read(&agent, Format::Prometheus, false, Want::default(), Came(None)).await;
        texts.read(&agent, Format::Prometheus, false, Want::only(["locks".to_owned()]), Came(None)).await;
        assert!(texts.awaited.lock().unwrap().values().all(|text| text.strong_count() == 0));
        assert!(texts.given.lock().unwrap().values().all(|text| text.strong_count() == 0));
    }
}
