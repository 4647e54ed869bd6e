//! Statements that a session keeps prepared on the server: what is asked again is parsed, analyzed and planned once.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use super::asking::Line;
use crate::server::failure::QueryFailure;
use crate::server::rows::RowSet;

/// A prepared statement takes 50 kB of the memory of the server's process, up to 300 where views are deep.
const MOST: usize = 64;
/// What is asked less often is not worth its place.
const SELDOM: Duration = Duration::from_secs(300);
/// What failed as a prepared statement so often, and did not when asked plainly, is left plain.
const MOST_FORGOTTEN: u32 = 3;
/// The server cuts longer names short.
const LONGEST_NAME: usize = 63;

/// What is known of the statements of a session, each under the name of who asks it: another text under the same name
/// takes the place of the one before.
#[derive(Debug, Default)]
pub(super) struct Kept {
    statements: HashMap<Box<str>, Statement>,
    /// How often a statement was gone: somebody else uses this session, or empties it.
    gone: u32,
}

#[derive(Debug)]
struct Statement {
    sql: Box<str>,
    how: How,
    asked: Instant,
    forgotten: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum How {
    /// Asked and answered, as far as is known for the only time.
    Once,
    /// Under this name.
    Prepared(Box<str>),
    /// Of no use any more, and still there under this name.
    Stale(Box<str>),
    /// Cannot be prepared, or is better not.
    Plain,
}

/// What to send for a statement.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Its own text.
    Plain,
    /// `EXECUTE` with this name.
    Execute(Box<str>),
    /// Its own text, and what is to be done with it first.
    Renew { forget: Option<Box<str>>, prepare: Option<Box<str>> },
}

/// What to send for a statement that waits behind others.
pub(super) enum Ahead {
    /// Its own text.
    Plain,
    /// This in place of it.
    Execute(String),
}

impl Kept {
    /// How a statement is to be asked now.
    pub(super) fn way(&mut self, name: &str, sql: &str) -> Way {
        let now = Instant::now();
        let full = self.prepared() >= MOST;
        let Some(known) = self.statements.get_mut(name) else { return Way::Plain };
        let seldom = now - known.asked > SELDOM;
        known.asked = now;
        if *known.sql != *sql {
            return match &known.how {
                How::Prepared(forget) | How::Stale(forget) => {
                    Way::Renew { forget: Some(forget.clone()), prepare: None }
                }
                How::Once | How::Plain => Way::Plain,
            };
        }
        match &known.how {
            How::Prepared(prepared) => Way::Execute(prepared.clone()),
            How::Stale(stale) => Way::Renew { forget: Some(stale.clone()), prepare: None },
            How::Once if !seldom && !full && self.gone < MOST_FORGOTTEN && is_query(sql) => {
                Way::Renew { forget: None, prepare: Some(name_of(name, sql)) }
            }
            How::Once | How::Plain => Way::Plain,
        }
    }

    /// What to send for a statement of which the answer is to come after those to others; none where something has to be
    /// done first.
    pub(super) fn ahead(&mut self, name: &str, sql: &str) -> Option<Ahead> {
        match self.way(name, sql) {
            Way::Plain => Some(Ahead::Plain),
            Way::Execute(prepared) => Some(Ahead::Execute(format!("EXECUTE {prepared}"))),
            Way::Renew { .. } => None,
        }
    }

    fn prepared(&self) -> usize {
        self.statements.values().filter(|known| matches!(known.how, How::Prepared(_) | How::Stale(_))).count()
    }

    fn note(&mut self, name: &str, sql: &str, how: How) {
        let asked = Instant::now();
        match self.statements.get_mut(name) {
            Some(known) if *known.sql == *sql => {
                known.how = how;
                known.asked = asked;
            }
            _ => {
                self.statements.insert(name.into(), Statement { sql: sql.into(), how, asked, forgotten: 0 });
            }
        }
    }

    /// Notes that it was answered when it was asked by its own text.
    pub(super) fn note_plain(&mut self, name: &str, sql: &str) {
        let known = self.statements.get(name).filter(|known| *known.sql == *sql);
        let stays_plain = known.is_some_and(|known| known.how == How::Plain || known.forgotten >= MOST_FORGOTTEN);
        self.note(name, sql, if stays_plain { How::Plain } else { How::Once });
    }

    /// Notes that a prepared statement is of no use any more, if that is what its failure says; true then.
    pub(super) fn note_failure(&mut self, name: &str, failure: &QueryFailure) -> bool {
        let QueryFailure::Server { sqlstate, .. } = failure else { return false };
        let Some(known) = self.statements.get_mut(name) else { return false };
        let How::Prepared(prepared) = &known.how else { return false };
        if !may_be_stale(sqlstate) {
            return false;
        }
        known.forgotten += 1;
        if sqlstate == UNKNOWN_STATEMENT {
            // With it went all the others, but each of them finds out for itself.
            self.gone += 1;
            known.how = How::Once;
        } else {
            known.how = How::Stale(prepared.clone());
        }
        true
    }

    /// Does what a statement needs first, and asks it by whatever is the right way then.
    pub(super) async fn ask(&mut self, line: &Line<'_>, name: &str, sql: &str) -> Result<RowSet, QueryFailure> {
        let prepared = match self.way(name, sql) {
            Way::Plain => None,
            Way::Execute(prepared) => Some(prepared),
            Way::Renew { forget, prepare } => {
                if let Some(forget) = forget {
                    line.try_to(&format!("DEALLOCATE {forget}")).await;
                }
                match prepare {
                    Some(prepare) => self.prepare(line, name, sql, prepare).await?,
                    None => None,
                }
            }
        };
        if let Some(prepared) = prepared {
            match line.select(&format!("EXECUTE {prepared}")).await {
                Err(failure) if self.note_failure(name, &failure) => {
                    if let Some(Statement { how: How::Stale(stale), .. }) = self.statements.get(name) {
                        line.try_to(&format!("DEALLOCATE {stale}")).await;
                    }
                }
                answer => return answer,
            }
        }
        let answer = line.select(sql).await;
        match &answer {
            Ok(_) => self.note_plain(name, sql),
            // The next time it is asked as if for the first.
            Err(_) => drop(self.statements.remove(name)),
        }
        answer
    }

    /// Has it prepared; none where that cannot be done, and it is asked by its text.
    async fn prepare(
        &mut self,
        line: &Line<'_>,
        name: &str,
        sql: &str,
        prepared: Box<str>,
    ) -> Result<Option<Box<str>>, QueryFailure> {
        match line.count_answers(&format!("PREPARE {prepared} AS {sql}")).await {
            Ok(1) => {
                self.note(name, sql, How::Prepared(prepared.clone()));
                return Ok(Some(prepared));
            }
            // Of several statements only the first was prepared.
            Ok(_) => line.try_to(&format!("DEALLOCATE {prepared}")).await,
            Err(QueryFailure::Server { sqlstate, .. }) if sqlstate != CANCELLED => {}
            Err(other) => return Err(other),
        }
        self.note(name, sql, How::Plain);
        Ok(None)
    }
}

/// `invalid_sql_statement_name`: no statement of this name is prepared here.
const UNKNOWN_STATEMENT: &str = "26000";
/// `query_canceled`
const CANCELLED: &str = "57014";

/// Whether asking by its text may help: "cached plan must not change result type" is 0A000; what a definition reads may be
/// another now, or gone and back.
fn may_be_stale(sqlstate: &str) -> bool {
    ["0A", "26", "42", "XX"].iter().any(|class| sqlstate.starts_with(class))
}

/// Whether it begins as what can be prepared does, after spaces and comments: a refusal is a line in the server's log.
fn is_query(sql: &str) -> bool {
    let mut rest = sql.trim_start();
    loop {
        let after = match rest.get(..2) {
            Some("--") => rest.split_once('\n'),
            Some("/*") => rest.split_once("*/"),
            _ => break,
        };
        rest = after.map_or("", |(_, after)| after).trim_start();
    }
    let word = rest.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    ["select", "with", "values", "table"].iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// A name for a prepared statement that says who asks it, for people, and that no other text of anybody has: behind a pooler
/// that nobody noticed, it is asked of sessions that others have used.
fn name_of(name: &str, sql: &str) -> Box<str> {
    let mut hasher = DefaultHasher::new();
    sql.hash(&mut hasher);
    let (prefix, suffix) = ("pgvitals_", format!("_{:016x}", hasher.finish()));
    let plain = name.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '_' });
    let name: String = plain.take(LONGEST_NAME - prefix.len() - suffix.len()).collect();
    format!("{prefix}{name}{suffix}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(sqlstate: &str) -> QueryFailure {
        QueryFailure::Server { sqlstate: sqlstate.to_owned(), message: String::new() }
    }

    #[test]
    fn a_statement_is_prepared_when_it_is_asked_again_and_under_a_name_of_its_own() {
        let mut kept = Kept::default();
        assert_eq!(kept.way("a", "SELECT 1"), Way::Plain);
        kept.note_plain("a", "SELECT 1");
        let name = name_of("a", "SELECT 1");
        assert_eq!(kept.way("a", "SELECT 1"), Way::Renew { forget: None, prepare: Some(name.clone()) });
        kept.note("a", "SELECT 1", How::Prepared(name.clone()));
        assert_eq!(kept.way("a", "SELECT 1"), Way::Execute(name.clone()));
        assert_eq!(kept.way("a", "SELECT 2"), Way::Renew { forget: Some(name), prepare: None });
        assert_ne!(name_of("a", "SELECT 1"), name_of("a", "SELECT 2"));
        assert!(name_of(&"Ä\"; DROP".repeat(20), "").len() <= LONGEST_NAME);
    }

    #[test]
    fn no_more_are_kept_than_fit() {
        let mut kept = Kept::default();
        for at in 0..MOST {
            kept.note(&at.to_string(), "", How::Prepared("x".into()));
        }
        kept.note_plain("one more", "SELECT 1");
        assert_eq!(kept.way("one more", "SELECT 1"), Way::Plain);
    }

    #[test]
    fn what_is_of_no_use_is_forgotten_and_what_failed_for_good_reasons_is_not() {
        let mut kept = Kept::default();
        kept.note("a", "", How::Prepared("x".into()));
        for failure in [QueryFailure::LockTimeout, server("57014"), server("40001"), server("53200")] {
            assert!(!kept.note_failure("a", &failure), "{failure}");
        }
        assert!(kept.note_failure("a", &server("0A000")));
        assert_eq!(kept.way("a", ""), Way::Renew { forget: Some("x".into()), prepare: None });
        for _ in 0..MOST_FORGOTTEN {
            kept.note("a", "", How::Prepared("x".into()));
            assert!(kept.note_failure("a", &server(UNKNOWN_STATEMENT)));
        }
        for name in ["a", "b"] {
            kept.note_plain(name, "SELECT 1");
            assert_eq!(kept.way(name, "SELECT 1"), Way::Plain, "nothing that is prepared here stays");
        }
    }

    #[test]
    fn only_what_begins_as_a_query_is_prepared() {
        for sql in ["select 1", "-- of\n /* any */ WITH a AS (SELECT 1) TABLE a", "VALUES(1)", "\n table t"] {
            assert!(is_query(sql), "{sql}");
        }
        for sql in ["", "SHOW ALL", "-- SELECT 1", "/* SELECT", "selection", "CHECKPOINT"] {
            assert!(!is_query(sql), "{sql}");
        }
    }
}
