//! Two programs that are asked one after the other about something that goes on in between.

use std::time::Instant;

use pgvitals::demo::cluster::Cluster;
use procfs::process::{Process, all_processes};

use crate::pair::PATIENCE;

/// How often what does not hold still is looked at.
const ROUNDS: usize = 5;

/// What the other program says and what ours does. Where they are not alike, ours is asked again: what it said before or what it
/// says after has to be what the other one said in between. As long as ours itself says one thing before and another one after,
/// that tells nothing, and both are asked once more; what holds still and is not alike is the difference.
pub(crate) async fn between<A>(
    mut theirs: impl AsyncFnMut() -> A,
    mut ours: impl AsyncFnMut() -> A,
    are_alike: impl Fn(&A, &A) -> bool,
) -> (A, A) {
    let mut before = ours().await;
    let mut round = 1;
    loop {
        let said = theirs().await;
        if are_alike(&said, &before) {
            return (said, before);
        }
        let after = ours().await;
        if are_alike(&said, &after) || are_alike(&before, &after) || round == ROUNDS {
            return (said, after);
        }
        before = after;
        round += 1;
    }
}

/// A case in which two programs are not alike.
pub(crate) struct Difference {
    /// What differs, in few and short lines.
    pub(crate) short: String,
    /// All that they said.
    pub(crate) full: String,
}

/// Fails if there are any, with what differs before all that was said: the log of a failure may be cut.
pub(crate) fn are_none(differences: &[Difference]) {
    let all = |of: fn(&Difference) -> &str| differences.iter().map(of).collect::<Vec<_>>().join("\n");
    let (short, full) = (all(|it| &it.short), all(|it| &it.full));
    assert!(differences.is_empty(), "{} answers differ:\n{short}\n\nIn full:\n{full}", differences.len());
}

/// Two texts from a little before where they part on.
pub(crate) fn apart(what: &str, expected: &str, actual: &str) -> String {
    let same = expected.chars().zip(actual.chars()).take_while(|(one, other)| one == other).count();
    let part = |text: &str| {
        let begin = same.saturating_sub(40);
        let part: String = text.chars().skip(begin).take(160).collect();
        format!("{}{part:?}", if begin > 0 { "…" } else { "" })
    };
    format!("  {what}\n    expected {}\n    actual   {}", part(expected), part(actual))
}

/// Waits until these clusters have no more than so many sessions together. One that has been closed is there for a moment longer,
/// in views and with its locks, and what it did is counted only then. Nobody has to connect to see that.
pub(crate) async fn until_left(clusters: &[&Cluster], sessions: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let titles = titles(clusters);
        if titles.len() <= sessions {
            return;
        }
        assert!(Instant::now() < deadline, "more than {sessions} sessions stay: {titles:?}");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

/// The process titles of these clusters' sessions.
fn titles(clusters: &[&Cluster]) -> Vec<String> {
    let postmasters: Vec<u32> = clusters.iter().filter_map(|cluster| cluster.pid()).collect();
    let children = all_processes().into_iter().flatten().flatten().filter(|it| {
        it.stat().is_ok_and(|stat| u32::try_from(stat.ppid).is_ok_and(|parent| postmasters.contains(&parent)))
    });
    // One that is gone by now has no title to be read.
    let titles = children.filter_map(|it: Process| it.cmdline().ok()).map(|words| words.join(" "));
    titles.filter(|title| is_session(title)).collect()
}

/// Whether a process with this title is a session, or may become one: it has the postmaster's own until it knows who comes.
fn is_session(title: &str) -> bool {
    let is_somebodys =
        title.contains("[local]") || title.split(' ').any(|word| word.ends_with(')') && word.contains('('));
    !title.starts_with("postgres: ") || is_somebodys && !title.contains(" walsender ")
}

#[test]
fn a_session_is_known_by_its_title() {
    for title in [
        "postgres: primary: postgres app [local] idle",
        "postgres: primary: mon app 127.0.0.1(41234) SELECT",
        "postgres: primary: postgres nothing 127.0.0.1(41234) authentication",
        "/usr/lib/postgresql/15/bin/postgres -D /tmp/x",
    ] {
        assert!(is_session(title), "{title}");
    }
    for title in [
        "postgres: primary: checkpointer ",
        "postgres: primary: archiver last was 000000010000000000000003",
        "postgres: standby: walreceiver streaming 0/6000148",
        "postgres: primary: walsender postgres [local] streaming 0/6000148",
        "postgres: primary: walsender postgres 127.0.0.1(41234) streaming 0/6000148",
    ] {
        assert!(!is_session(title), "{title}");
    }
}

#[tokio::test]
async fn what_changes_between_two_calls_is_no_difference_and_what_stays_is_one() {
    // What it is at each look, which of the two looks, and what they say in the end.
    for (states, lie, expected) in [
        ([1, 1, 1, 1, 1], 0, (1, 1)),
        ([1, 2, 2, 2, 2], 0, (2, 2)),
        ([1, 2, 3, 3, 3], 0, (3, 3)),
        ([1, 1, 1, 1, 1], 7, (8, 1)),
        ([1, 2, 2, 2, 2], 7, (9, 2)),
    ] {
        let looks = std::cell::Cell::new(0);
        let look = || {
            looks.set(looks.get() + 1);
            states[std::cmp::min(looks.get(), states.len()) - 1]
        };
        let said = between(async || look() + lie, async || look(), |one, other| one == other).await;
        assert_eq!(said, expected, "{states:?}");
    }
}
