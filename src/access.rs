//! Who may read the web server, and over which TLS: exporter-toolkit's web configuration file, in force.
//!
//! # Layout
//!
//! - `file` what the file may say, and what is wrong with it; `choice` the names it may choose from, `text` how they are read
//! - `tls` certificates, versions, and the clients' certificates
//! - `password` basic authentication
//!
//! The file is looked at again as long as readers come, so a renewed certificate or password needs neither a restart nor a
//! reload. A file that became wrong leaves in force what was before it.

mod choice;
mod file;
mod password;
mod text;
mod tls;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use rustls::ServerConfig;
use tracing::{error, info, warn};

use crate::agent::Ledger;
use crate::source::{Source, SourceError};
use choice::ClientAuth;
use file::{RateSection, WebFile};
use password::{Hash, Mismatch, Passwords};

/// Between two looks at the files; and how old a change has to be, as nobody writes a file in one go.
const SETTLED: Duration = Duration::from_secs(1);

/// What the file said when it was read. The default lets everybody read, without TLS.
#[derive(Debug, Default)]
pub struct Policy {
    file: Option<PathBuf>,
    stamps: BTreeMap<PathBuf, Option<Stamp>>,
    tls: Option<Arc<ServerConfig>>,
    clients: ClientAuth,
    users: BTreeMap<String, Hash>,
    headers: Vec<(HeaderName, HeaderValue)>,
    rate: Option<Rate>,
}

/// Enough of a file's metadata to see that it was written or replaced.
type Stamp = (SystemTime, u64, u64, i64, i64);

impl Policy {
    /// Reads a file and all that it names.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or the first thing that cannot be followed, with its line.
    pub fn read(file: &Path) -> Result<Self, SourceError> {
        // Before the text: what is written meanwhile is then seen at the next look.
        let mut stamps = BTreeMap::from([(file.to_owned(), stamp(file))]);
        let source = Source::read(file)?;
        let written = WebFile::parse(&source)?;
        let mut policy = Self { file: Some(file.to_owned()), ..Self::default() };
        if let Some(section) = &written.tls_server_config {
            let named = [&section.cert_file, &section.key_file, &section.client_ca_file];
            let folder = file.parent().unwrap_or(Path::new(""));
            stamps.extend(
                named.into_iter().flatten().map(|name| folder.join(name)).map(|path| (path.clone(), stamp(&path))),
            );
            let followed = tls::follow(section, &source)?;
            followed.warnings.iter().for_each(|warning| warn!(file = %file.display(), "{warning}"));
            (policy.tls, policy.clients) = (Some(followed.config), followed.clients);
        }
        policy.stamps = stamps;
        policy.users = written.basic_auth_users.unwrap_or_default().0;
        policy.headers =
            written.http_server_config.and_then(|section| section.headers).map_or_else(Vec::new, |headers| headers.0);
        policy.rate = written.rate_limit.as_ref().map(|section| Rate::new(section, &source)).transpose()?.flatten();
        Ok(policy)
    }

    /// How TLS is spoken; none where it is not.
    pub fn tls(&self) -> Option<&Arc<ServerConfig>> {
        self.tls.as_ref()
    }

    /// Whether it asks for a password or for a certificate that it verifies.
    pub fn knows_its_readers(&self) -> bool {
        !self.users.is_empty() || self.clients == ClientAuth::RequireAndVerify
    }

    /// Whether it asks for certificates, verified or not.
    pub fn asks_for_certificates(&self) -> bool {
        self.clients != ClientAuth::No
    }

    /// The headers that it adds to every answer.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// Whether this one shuts no door less than the other. An empty file is a good one, and half a file may be too.
    fn shuts_as_much_as(&self, other: &Self) -> bool {
        (self.tls.is_some() || other.tls.is_none())
            && (!self.users.is_empty() || other.users.is_empty())
            && (self.clients == other.clients
                || self.clients == ClientAuth::RequireAndVerify
                || other.clients == ClientAuth::No)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let of = fs::metadata(path).ok()?;
    Some((of.modified().ok()?, of.len(), of.ino(), of.ctime(), of.ctime_nsec()))
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no password, or a wrong one.
    Password,
    /// Too many passwords are being compared.
    Busy,
    /// More is asked than the file allows.
    TooOften,
}

/// The policy in force.
#[derive(Debug)]
pub struct Access {
    policy: RwLock<Arc<Policy>>,
    passwords: Passwords,
    looked: Mutex<Instant>,
    /// What was wrong with the file at the latest look, so that it is said once.
    complaint: Mutex<Option<String>>,
    ledger: Arc<Ledger>,
}

impl Access {
    /// Puts a policy into force.
    pub fn new(policy: Policy, ledger: Arc<Ledger>) -> Arc<Self> {
        ledger.note_web_file(policy.file.is_some().then_some(true));
        Arc::new(Self {
            policy: RwLock::new(Arc::new(policy)),
            passwords: Passwords::default(),
            looked: Mutex::new(Instant::now()),
            complaint: Mutex::default(),
            ledger,
        })
    }

    /// Puts another policy into force.
    pub fn replace(&self, policy: Policy) {
        self.complain(policy.file.is_some(), None);
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// The policy in force, after a look at its files if the latest one is a while ago.
    pub async fn policy(self: &Arc<Self>) -> Arc<Policy> {
        let policy = self.in_force();
        if policy.file.is_none() || !self.is_time_to_look() {
            return policy;
        }
        let this = Arc::clone(self);
        // Away from the others: a file system may hang.
        let _ = tokio::task::spawn_blocking(move || this.look()).await;
        self.in_force()
    }

    /// Whether a request with these headers may be answered.
    ///
    /// # Errors
    ///
    /// Why not.
    pub async fn admit(&self, policy: &Policy, headers: &HeaderMap) -> Result<(), Refusal> {
        if policy.rate.as_ref().is_some_and(|rate| !rate.take(Instant::now())) {
            return Err(Refusal::TooOften);
        }
        if policy.users.is_empty() {
            return Ok(());
        }
        let checked = self.passwords.check(&policy.users, headers.get(header::AUTHORIZATION)).await;
        checked.map_err(|mismatch| match mismatch {
            Mismatch::Wrong => Refusal::Password,
            Mismatch::Busy => Refusal::Busy,
        })
    }

    fn in_force(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_time_to_look(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = looked.elapsed() >= SETTLED;
        if is_time {
            *looked = Instant::now();
        }
        is_time
    }

    fn look(&self) {
        let policy = self.in_force();
        let Some(file) = &policy.file else { return };
        let now: BTreeMap<_, _> = policy.stamps.keys().map(|path| (path.clone(), stamp(path))).collect();
        if now == policy.stamps {
            return self.complain(true, None);
        }
        let written = now.values().flatten().map(|stamp| stamp.0).max();
        if written.is_some_and(|at| at.elapsed().is_ok_and(|age| age < SETTLED)) {
            return;
        }
        match Policy::read(file) {
            Ok(next) if next.shuts_as_much_as(&policy) => {
                info!(file = %file.display(), "web configuration read again");
                self.replace(next);
            }
            Ok(_) => self.complain(true, Some("it asks less of readers than before, which takes a reload".to_owned())),
            Err(mistake) => self.complain(true, Some(mistake.to_string())),
        }
    }

    fn complain(&self, has_file: bool, complaint: Option<String>) {
        let mut before = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        self.ledger.note_web_file(has_file.then_some(complaint.is_none()));
        if let Some(complaint) = complaint.as_ref().filter(|complaint| before.as_ref() != Some(complaint)) {
            error!("web configuration not taken over, the one before stays in force: {complaint}");
        }
        *before = complaint;
    }
}

/// So many requests at once, and one more per interval: a token bucket.
#[derive(Debug)]
struct Rate {
    interval: Duration,
    burst: f64,
    left: Mutex<(f64, Instant)>,
}

impl Rate {
    fn new(section: &RateSection, source: &Source) -> Result<Option<Self>, SourceError> {
        let Some(interval) = section.interval.as_ref().map(|text| text.0.0).filter(|interval| !interval.is_zero())
        else {
            return Ok(None);
        };
        match section.burst.unwrap_or_default() {
            0 => {
                let at = source.text.find("rate_limit").unwrap_or_default();
                Err(source.mistake(at, "expected a burst of 1 or more in rate_limit: with 0 nothing is ever answered"))
            }
            burst => {
                let burst = f64::from(burst);
                Ok(Some(Self { interval, burst, left: Mutex::new((burst, Instant::now())) }))
            }
        }
    }

    fn take(&self, now: Instant) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = now.saturating_duration_since(left.1).as_secs_f64() / self.interval.as_secs_f64();
        let tokens = (left.0 + gained).min(self.burst);
        let is_enough = tokens >= 1.0;
        *left = (if is_enough { tokens - 1.0 } else { tokens }, now);
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Result<Option<Rate>, String> {
        let source = Source { file: "web.yml".into(), text: text.to_owned().into() };
        let section = WebFile::parse(&source).unwrap().rate_limit.unwrap();
        Rate::new(&section, &source).map_err(|error| error.to_string())
    }

    #[test]
    fn a_burst_is_answered_and_then_one_per_interval() {
        let rate = rate("rate_limit: {interval: 10s, burst: 3}").unwrap().unwrap();
        let start = rate.left.lock().unwrap().1;
        let at = |seconds| rate.take(start + Duration::from_secs(seconds));
        let taken: Vec<bool> = [0, 0, 0, 0, 9, 10, 11, 100, 100, 100, 100].map(at).to_vec();
        assert_eq!(taken, [true, true, true, false, false, true, false, true, true, true, false]);
    }

    #[test]
    fn a_rate_of_nothing_is_none_or_refused() {
        assert!(rate("rate_limit: {interval: 0, burst: 0}").unwrap().is_none());
        assert!(rate("\nrate_limit: {interval: 1s}").unwrap_err().starts_with("web.yml:2: expected a burst"));
    }
}
