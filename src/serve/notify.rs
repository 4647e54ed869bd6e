//! What the service manager is told, in systemd's protocol: one datagram per message to the socket in `NOTIFY_SOCKET`
//! (`sd_notify(3)`). Without that variable nothing is sent.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tracing::{debug, warn};

/// A service manager that does not read must not hold up a thread for longer.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    told: Mutex<Told>,
}

/// What it was told last: nothing is said twice in a row.
#[derive(Debug, Default)]
struct Told {
    ready: bool,
    status: String,
}

impl Notifier {
    /// As the environment of this process says.
    pub fn of_process() -> Self {
        Self::new(|name| std::env::var_os(name))
    }

    /// As `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` of this environment say.
    pub fn new(environment: impl Fn(&str) -> Option<OsString>) -> Self {
        let socket = environment("NOTIFY_SOCKET").filter(|name| !name.is_empty()).and_then(|name| match open(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                warn!(socket = %name.display(), %error, "the service manager cannot be told anything");
                None
            }
        });
        let number = |name| environment(name)?.to_str()?.parse::<u64>().ok();
        let is_mine = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|&micros| micros > 0 && is_mine).map(Duration::from_micros);
        Self { watchdog: watchdog.filter(|_| socket.is_some()), socket, told: Mutex::default() }
    }

    /// After what time without a beat this process is taken for dead; none where nobody looks.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// It has started, or taken over another configuration.
    pub fn ready(&self) {
        if !std::mem::replace(&mut self.told().ready, true) {
            self.send("READY=1");
        }
    }

    /// It is about to take over another configuration; [`Notifier::ready`] follows, whatever comes of that.
    pub fn reloading(&self) {
        self.told().ready = false;
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// It is about to end.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// It is alive.
    pub fn beat(&self) {
        self.send("WATCHDOG=1");
    }

    /// How it is, in one line for people; sent when it is another than before.
    pub fn status(&self, text: String) {
        if self.told().status != text {
            // A line end would begin another message.
            self.send(&format!("STATUS={}", text.replace(char::is_control, " ")));
            self.told().status = text;
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, message: &str) {
        let Some((socket, to)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), to) {
            debug!(message, %error, "the service manager was not told");
        }
    }
}

/// A path, or after `@` a name in the kernel's abstract namespace.
fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let to = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a path or a name after @")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok((socket, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_anything_where_nobody_asks_or_nobody_can_be_reached() {
        for socket in [None, Some(""), Some("vsock:2:1"), Some("/nowhere/notify")] {
            let of = |name: &str| if name == "WATCHDOG_USEC" { Some("1000") } else { socket }.map(OsString::from);
            let notifier = Notifier::new(of);
            notifier.ready();
            notifier.status("well".to_owned());
        }
    }

    #[test]
    fn the_watchdog_is_that_of_this_process() {
        let with = |usec: &'static str, pid: &str| {
            let pid = pid.to_owned();
            let of = move |name: &str| match name {
                "NOTIFY_SOCKET" => Some(OsString::from("@pgvitals-nobody-listens")),
                "WATCHDOG_USEC" => Some(OsString::from(usec)),
                _ => Some(OsString::from(&pid)),
            };
            Notifier::new(of).watchdog()
        };
        let me = std::process::id().to_string();
        assert_eq!(with("1500000", &me), Some(Duration::from_millis(1_500)));
        assert_eq!(with("1500000", "1"), None);
        assert_eq!(with("0", &me), None);
        assert_eq!(with("soon", &me), None);
    }
}
