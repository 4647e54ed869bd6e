//! Runs one test on every major. A missing server fails the test: `tests/setup` installs them all.

use std::future::Future;

use pgvitals::demo::cluster::Binaries;
use tokio::task::JoinSet;

/// Every major that pgvitals is made for.
pub(crate) const ALL: std::ops::RangeInclusive<u32> = 10..=18;

/// How many run at a time: a start waits for the disk and for processes about as long as it computes.
const AT_A_TIME: usize = 3;

/// The oldest, and one of today: what does not depend on the version need not be tried on every one.
pub(crate) const TWO: [u32; 2] = [10, 17];

/// One of today.
pub(crate) fn newest() -> Binaries {
    Binaries::major(TWO[1]).unwrap()
}

/// Runs the test once for each major.
pub(crate) async fn each<F>(test: impl Fn(Binaries) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    on(ALL, test).await;
}

/// Runs the test once for each of these majors; panics with those that failed.
pub(crate) async fn on<F>(majors: impl IntoIterator<Item = u32>, test: impl Fn(Binaries) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut waiting = majors.into_iter();
    let mut running = JoinSet::new();
    let mut failed = Vec::new();
    loop {
        while running.len() < AT_A_TIME
            && let Some(major) = waiting.next()
        {
            let run = test(Binaries::major(major).unwrap());
            running.spawn(async move { (major, tokio::spawn(run).await) });
        }
        let Some(ended) = running.join_next().await else { break };
        if let (major, Err(_)) = ended.unwrap() {
            failed.push(major);
        }
    }
    assert!(failed.is_empty(), "failed on PostgreSQL {failed:?}, see above");
}
