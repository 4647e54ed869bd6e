//! Passwords of readers: HTTP basic authentication (RFC 7617) against bcrypt hashes.
//!
//! bcrypt is slow on purpose. Who has shown the right password once is recognised by a keyed digest of it, so that a scrape
//! does not cost a tenth of a second of CPU; who has not waits in a queue that takes a fifth of one core at most.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::{Semaphore, oneshot};

/// What 18 takes is some seconds already; each step doubles it.
const COSTS: std::ops::RangeInclusive<u32> = 4..=18;
/// Comparisons that wait for their turn; more are refused.
const LONGEST_QUEUE: usize = 16;
/// After a wrong password, this many times what the comparison took passes before the next one.
const REST: u32 = 4;
const LONGEST_REST: Duration = Duration::from_secs(5);

/// A bcrypt hash. It is not shown: who has it can try passwords at home.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Hash {
    text: String,
    cost: u32,
}

impl FromStr for Hash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: HashParts = text
            .parse()
            .map_err(|_| "expected a bcrypt hash, such as `htpasswd -nBC 10 NAME` writes after the colon".to_owned())?;
        let cost = parts.get_cost();
        if COSTS.contains(&cost) {
            Ok(Self { text: text.to_owned(), cost })
        } else {
            Err(format!("expected a cost from {} to {}, got {cost}", COSTS.start(), COSTS.end()))
        }
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a password is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// There is none, or a wrong one.
    Wrong,
    /// Too many others are being compared.
    Busy,
}

/// Compares passwords, and remembers which were right.
pub(super) struct Passwords {
    key: Option<hmac::Key>,
    /// By user, what the latest right password and its hash come to.
    right: Mutex<HashMap<String, hmac::Tag>>,
    queue: Arc<Semaphore>,
    turn: Arc<Semaphore>,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passwords")
    }
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            // Without random numbers nothing is remembered.
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
            right: Mutex::default(),
            queue: Arc::new(Semaphore::new(LONGEST_QUEUE)),
            turn: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Passwords {
    /// Whether the value of an `Authorization` header has the name and password of one of these users.
    pub(super) async fn check(
        &self,
        users: &BTreeMap<String, Hash>,
        authorization: Option<&HeaderValue>,
    ) -> Result<(), Mismatch> {
        let (name, password) = authorization.and_then(credentials).ok_or(Mismatch::Wrong)?;
        let known = users.get(&name);
        let proof = |hash: &Hash| [name.as_bytes(), hash.text.as_bytes(), &password].join(&0);
        if let (Some(hash), Some(key)) = (known, &self.key) {
            let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
            if right.get(&name).is_some_and(|tag| hmac::verify(key, &proof(hash), tag.as_ref()).is_ok()) {
                return Ok(());
            }
        }
        // A name that nobody has costs the same, so that time does not tell which names there are.
        let hash = known.cloned().unwrap_or_else(|| nobody(users));
        let proof = proof(&hash);
        if !self.compare(hash, password).await? || known.is_none() {
            return Err(Mismatch::Wrong);
        }
        if let Some(key) = &self.key {
            let tag = hmac::sign(key, &proof);
            self.right.lock().unwrap_or_else(PoisonError::into_inner).insert(name, tag);
        }
        Ok(())
    }

    async fn compare(&self, hash: Hash, password: Vec<u8>) -> Result<bool, Mismatch> {
        let place = Arc::clone(&self.queue).try_acquire_owned().map_err(|_| Mismatch::Busy)?;
        let turn = Arc::clone(&self.turn);
        let (tell, told) = oneshot::channel();
        // Beside the connection: a client that goes away must not end the rest after its attempt.
        tokio::spawn(async move {
            let Ok(_turn) = turn.acquire_owned().await else { return };
            drop(place);
            let began = Instant::now();
            let compared = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash.text).unwrap_or(false));
            let is_right = compared.await.unwrap_or(false);
            let _ = tell.send(is_right);
            if !is_right {
                tokio::time::sleep((began.elapsed() * REST).min(LONGEST_REST)).await;
            }
        });
        told.await.map_err(|_| Mismatch::Busy)
    }
}

/// A hash that no password has, as costly as those of the users.
fn nobody(users: &BTreeMap<String, Hash>) -> Hash {
    let cost = users.values().map(|hash| hash.cost).max().unwrap_or(*COSTS.start());
    Hash { text: format!("$2b${cost:02}${}", ".".repeat(53)), cost }
}

/// Name and password of `Basic base64(NAME:PASSWORD)`.
fn credentials(value: &HeaderValue) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let colon = decoded.iter().position(|&byte| byte == b':')?;
    let (name, password) = decoded.split_at_checked(colon)?;
    Some((String::from_utf8(name.to_vec()).ok()?, password.get(1..)?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `secret`, by libxcrypt.
    const SECRET: &str = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
    /// Of `correct horse`.
    const HORSE: &str = "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2";

    fn users(pairs: &[(&str, &str)]) -> BTreeMap<String, Hash> {
        pairs.iter().map(|(name, hash)| ((*name).to_owned(), hash.parse().unwrap())).collect()
    }

    fn basic(credentials: impl AsRef<[u8]>) -> HeaderValue {
        format!("Basic {}", STANDARD.encode(credentials)).parse().unwrap()
    }

    async fn check(passwords: &Passwords, users: &BTreeMap<String, Hash>, credentials: &str) -> Result<(), Mismatch> {
        passwords.check(users, Some(&basic(credentials))).await
    }

    #[tokio::test]
    async fn the_right_password_of_the_right_user_is_taken() {
        let (passwords, users) = (Passwords::default(), users(&[("alice", SECRET), ("bob", HORSE)]));
        for _ in 0..2 {
            assert_eq!(check(&passwords, &users, "alice:secret").await, Ok(()));
            assert_eq!(check(&passwords, &users, "bob:correct horse").await, Ok(()));
            for wrong in
                ["alice:correct horse", "alice:", "alice:secret\0", "bob:secret", "carol:secret", "alice", "", ":"]
            {
                assert_eq!(check(&passwords, &users, wrong).await, Err(Mismatch::Wrong), "{wrong}");
            }
        }
        for header in ["Basic", "Basic !!!", "Bearer YWxpY2U6c2VjcmV0", "", "YWxpY2U6c2VjcmV0"] {
            let header = header.parse().unwrap();
            assert_eq!(passwords.check(&users, Some(&header)).await, Err(Mismatch::Wrong), "{header:?}");
        }
        assert_eq!(passwords.check(&users, Some(&basic(b"\xff:secret"))).await, Err(Mismatch::Wrong));
        assert_eq!(passwords.check(&users, None).await, Err(Mismatch::Wrong));
    }

    #[tokio::test]
    async fn a_password_that_was_right_is_forgotten_with_its_hash() {
        let passwords = Passwords::default();
        assert_eq!(check(&passwords, &users(&[("alice", SECRET)]), "alice:secret").await, Ok(()));
        assert_eq!(check(&passwords, &users(&[("alice", HORSE)]), "alice:secret").await, Err(Mismatch::Wrong));
        assert_eq!(check(&passwords, &users(&[("bob", HORSE)]), "alice:secret").await, Err(Mismatch::Wrong));
        assert_eq!(check(&passwords, &users(&[("alice", HORSE)]), "alice:correct horse").await, Ok(()));
    }

    #[tokio::test]
    async fn who_was_right_once_does_not_wait_for_those_who_are_wrong() {
        let (passwords, users) = (Arc::new(Passwords::default()), users(&[("alice", SECRET)]));
        assert_eq!(check(&passwords, &users, "alice:secret").await, Ok(()));
        // As if somebody else had the turn for ever.
        let _turn = Arc::clone(&passwords.turn).acquire_owned().await.unwrap();
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..=LONGEST_QUEUE {
            let (passwords, users) = (Arc::clone(&passwords), users.clone());
            waiting.spawn(async move { check(&passwords, &users, "alice:wrong").await });
        }
        assert_eq!(waiting.join_next().await.unwrap().unwrap(), Err(Mismatch::Busy), "the queue has an end");
        assert_eq!(check(&passwords, &users, "alice:secret").await, Ok(()));
    }

    #[test]
    fn a_hash_that_would_take_minutes_is_refused() {
        assert!(SECRET.replace("$04$", "$18$").parse::<Hash>().is_ok());
        for cost in ["19", "31", "99", "03", "-1"] {
            assert!(SECRET.replace("$04$", &format!("${cost}$")).parse::<Hash>().is_err(), "{cost}");
        }
    }

    #[test]
    fn nobody_is_as_costly_as_somebody() {
        let nobody = nobody(&users(&[("alice", SECRET), ("bob", HORSE)]));
        assert_eq!(nobody.text.parse::<Hash>().map(|hash| hash.cost), Ok(5));
    }
}
