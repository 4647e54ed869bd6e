//! Texts that were asked for once: for what is shown, in bounded memory, and not too often.
//!
//! To tell one text PostgreSQL reads all of them, so the keys that are new wait until that is due again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::slot::Outcome;
use crate::collect::redact::redacted;
use crate::server::RowSet;

/// Texts of keys that are not shown any more, but may come back.
const MOST_BESIDE: usize = 1_000;
/// Asking is to keep the server busy for one part in so many of the time at most.
const SHARE: u32 = 100;

/// The values of a row, one of them the text as it may be shown.
type Values = Vec<Option<String>>;

/// The texts known of one server.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// The state of the server that they belong to.
    epoch: u64,
    columns: Vec<String>,
    /// By key; none where the server has no text.
    known: BTreeMap<String, Option<Values>>,
    /// When they may be asked for again.
    due: Option<Instant>,
    failure: Option<Outcome>,
}

impl Texts {
    /// The keys to ask for now, of those that are shown.
    pub(super) fn missing(&mut self, epoch: u64, now: Instant, shown: &BTreeSet<String>) -> Vec<String> {
        if self.epoch != epoch {
            *self = Self { epoch, ..Self::default() };
        }
        self.known.retain(|key, text| text.is_some() || shown.contains(key));
        if self.known.len() > shown.len() + MOST_BESIDE {
            self.known.retain(|key, _| shown.contains(key));
        }
        if self.due.is_some_and(|due| now < due) {
            return Vec::new();
        }
        let is_new = |key: &&String| !self.known.contains_key(*key);
        if !shown.iter().any(|key| is_new(&key)) {
            return Vec::new();
        }
        // While we are at it: one that had no text may have one now.
        shown.iter().filter(|key| !matches!(self.known.get(*key), Some(Some(_)))).cloned().collect()
    }

    /// Notes what was answered for these keys, and when to ask again at the earliest.
    pub(super) fn note(&mut self, asked: Asked<'_>, keys: &[String], answer: Result<&RowSet, Outcome>) {
        let took = asked.began.elapsed();
        self.due = Some(asked.began + asked.at_most_every.max(took.saturating_mul(SHARE)));
        self.failure = match answer {
            Ok(rows) => self.take(&asked, keys, rows),
            Err(outcome) => Some(outcome),
        };
    }

    fn take(&mut self, asked: &Asked<'_>, keys: &[String], rows: &RowSet) -> Option<Outcome> {
        let failed = |class, reason| Some(Outcome::Failed { class, reason });
        let (Some(key_at), Some(text_at)) = (rows.column(asked.key), rows.column(asked.text)) else {
            return failed("column", format!("the query returns no `{}` or no `{}`", asked.key, asked.text));
        };
        let mut refusal = None;
        let mut found = BTreeMap::new();
        for row in 0..rows.len() {
            let values = (0..rows.columns().len()).map(|column| rows.value(row, column));
            let Some(key) = rows.value(row, key_at) else {
                // A row without a key says why there are none.
                refusal = rows.value(row, text_at).map(str::to_owned);
                continue;
            };
            if rows.value(row, text_at).is_some() {
                let shown = values.enumerate().map(|(at, value)| match value {
                    Some(text) if at == text_at => Some(redacted(text, asked.length)),
                    other => other.map(str::to_owned),
                });
                found.insert(key.to_owned(), shown.collect());
            }
        }
        if let Some(reason) = refusal {
            return failed("declined", reason);
        }
        rows.columns().clone_into(&mut self.columns);
        self.known.extend(keys.iter().map(|key| (key.clone(), found.remove(key))));
        None
    }

    /// The rows of what is shown, as far as its texts are known.
    pub(super) fn rows(&self, shown: &BTreeSet<String>) -> RowSet {
        let mut rows = RowSet::new(self.columns.clone());
        for values in shown.iter().filter_map(|key| self.known.get(key)?.as_ref()) {
            for value in values {
                if !rows.push(value.as_deref()) {
                    return rows;
                }
            }
        }
        rows
    }

    /// Why texts of what is shown are missing, if that is a failure.
    pub(super) fn failure(&self, shown: &BTreeSet<String>) -> Option<Outcome> {
        self.failure.clone().filter(|_| shown.iter().any(|key| !self.known.contains_key(key)))
    }
}

/// How texts were asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) began: Instant,
    pub(super) at_most_every: Duration,
    /// The columns with the key and the text.
    pub(super) key: &'a str,
    pub(super) text: &'a str,
    /// How many characters of a text are shown.
    pub(super) length: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(300);

    fn keys(keys: &[&str]) -> BTreeSet<String> {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    fn answer(rows: &[(Option<&str>, Option<&str>)]) -> RowSet {
        let mut set = RowSet::new(vec!["queryid".to_owned(), "query".to_owned()]);
        for (key, text) in rows {
            assert!(set.push(*key) && set.push(*text));
        }
        set
    }

    fn note(texts: &mut Texts, began: Instant, asked: &[String], rows: &RowSet) {
        let how = Asked { began, at_most_every: EVERY, key: "queryid", text: "query", length: 20 };
        texts.note(how, asked, Ok(rows));
    }

    #[test]
    fn a_text_is_asked_for_once_and_new_ones_wait_until_it_is_due() {
        let (mut texts, start) = (Texts::default(), Instant::now());
        let (one, three) = (keys(&["1"]), keys(&["1", "2", "3"]));
        let missing = texts.missing(1, start, &one);
        assert_eq!(missing, ["1"]);
        note(&mut texts, start, &missing, &answer(&[(Some("1"), Some("SELECT 'x'"))]));
        assert_eq!(texts.rows(&three), answer(&[(Some("1"), Some("SELECT ?"))]));
        assert!(texts.missing(1, start + EVERY * 2, &one).is_empty(), "it is known");
        assert!(texts.missing(1, start + EVERY / 2, &three).is_empty(), "not yet");
        let missing = texts.missing(1, start + EVERY * 2, &three);
        assert_eq!(missing, ["2", "3"]);
        note(&mut texts, start + EVERY * 2, &missing, &answer(&[(Some("2"), Some("b")), (Some("3"), None)]));
        assert!(texts.missing(1, start + EVERY * 4, &three).is_empty(), "that there is none is known");
        assert_eq!(texts.missing(1, start + EVERY * 4, &keys(&["2", "3", "4"])), ["3", "4"]);
        assert_eq!(texts.missing(2, start, &one), ["1"], "of another state of the server nothing is known");
    }

    #[test]
    fn a_refusal_is_told_for_as_long_as_texts_are_missing_for_it() {
        let (mut texts, start) = (Texts::default(), Instant::now());
        let missing = texts.missing(1, start, &keys(&["1"]));
        note(&mut texts, start, &missing, &answer(&[(Some("1"), Some("a"))]));
        let both = keys(&["1", "2"]);
        let missing = texts.missing(1, start + EVERY, &both);
        note(&mut texts, start + EVERY, &missing, &answer(&[(None, Some("too large"))]));
        assert!(texts.failure(&both).unwrap().reason().is_some_and(|reason| reason == "too large"));
        assert_eq!(texts.failure(&keys(&["1"])), None);
        assert_eq!(texts.rows(&both).len(), 1, "what is known is shown all the same");
    }

    #[test]
    fn what_is_not_shown_any_more_is_kept_for_a_while_and_not_for_ever() {
        let (mut texts, start) = (Texts::default(), Instant::now());
        let all: BTreeSet<String> = (0..MOST_BESIDE + 2).map(|key| key.to_string()).collect();
        let missing = texts.missing(1, start, &all);
        let found: Vec<_> = missing.iter().map(|key| (Some(key.as_str()), Some("x"))).collect();
        note(&mut texts, start, &missing, &answer(&found));
        let one = keys(&["1"]);
        assert!(texts.missing(1, start, &one).is_empty());
        assert_eq!(texts.known.len(), 1);
    }
}
