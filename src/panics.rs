//! What becomes of a panic, which is a mistake of ours: it is counted, told once for each place, and ends only the turn
//! it came up in.

use std::any::Any;
use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tracing::error;

/// What is said of what a panic ended.
pub const REASON: &str = "a mistake of pgvitals, its log says where";

static COUNT: AtomicU64 = AtomicU64::new(0);
static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// What panics at once each time must not keep a processor busy.
const PAUSE: Duration = Duration::from_secs(1);

/// Has every panic of this process counted and logged, in place of what the standard library prints.
///
/// Only the first one of each place is logged, and a message only if it stands in the program as it is: one that was put
/// together at run time may hold a password.
pub fn watch() {
    set_hook(Box::new(|panic| {
        COUNT.fetch_add(1, Ordering::Relaxed);
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        // Told below the lock, a panic of the log itself would wait for its own end.
        let is_new = TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(place.clone());
        if is_new {
            error!(place, message = fixed_message(panic.payload()), "panic: a mistake of pgvitals, please report it");
        }
    }));
}

fn fixed_message(payload: &dyn Any) -> &'static str {
    payload.downcast_ref::<&'static str>().copied().unwrap_or("withheld")
}

/// Panics since [`watch`].
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// What a future comes to; none if it panics, which ends it.
pub async fn caught<T>(turn: impl Future<Output = T>) -> Option<T> {
    let mut turn = pin!(turn);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| turn.as_mut().poll(context))) {
        Ok(polled) => polled.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// Runs a loop that is not meant to end, and begins it anew a second after a panic.
pub async fn survive<F: Future<Output = ()>>(mut begin: impl FnMut() -> F) {
    while caught(begin()).await.is_none() {
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_turn_and_nothing_else() {
        assert_eq!(caught(async { 1 }).await, Some(1));
        let late = async {
            tokio::task::yield_now().await;
            panic!("this panic is wanted");
        };
        assert_eq!(caught(late).await, None::<()>);
    }

    #[tokio::test]
    async fn a_loop_that_panics_begins_anew() {
        let mut begun = 0;
        survive(|| {
            begun += 1;
            let again = begun < 2;
            async move { assert!(!again, "this panic is wanted") }
        })
        .await;
        assert_eq!(begun, 2);
    }

    /// Set for the child process whose panics are watched: those of this process belong to its other tests.
    const WATCHED: &str = "PGVITALS_TEST_WATCHED_PANICS";

    #[test]
    fn a_panic_is_told_once_with_its_place_and_no_secret() {
        let me = "panics::tests::a_panic_is_told_once_with_its_place_and_no_secret";
        if std::env::var_os(WATCHED).is_some() {
            tracing_subscriber::fmt().with_ansi(false).init();
            watch();
            for _ in 0..3 {
                let secret = "canary".to_owned();
                assert!(catch_unwind(move || panic!("password={secret}")).is_err());
            }
            assert!(catch_unwind(|| panic!("as it stands here")).is_err());
            assert_eq!(count(), 4);
            return;
        }
        let mut child = Command::new(std::env::current_exe().unwrap());
        let output = child.args(["--exact", me, "--nocapture"]).env(WATCHED, "1").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        assert_eq!(said.matches("panic: a mistake of pgvitals").count(), 2, "{said}");
        assert_eq!(said.matches("src/panics.rs:").count(), 2, "{said}");
        assert!(said.contains("as it stands here") && said.contains("withheld") && !said.contains("canary"), "{said}");
    }
}
