//! Why a server cannot be asked: the classes that `pg_up` and the checks name.

use std::error::Error as _;
use std::io;
use std::time::Duration;

/// What kind of obstacle it is; the value of the `class` label beside `pg_up`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// Nothing listens on the port or socket.
    Refused,
    /// No answer in time.
    Timeout,
    /// Wrong or missing password, unknown role, missing client certificate.
    Authentication,
    /// `pg_hba.conf` has no line for us, or one that rejects.
    NoPgHbaEntry,
    /// All connections of the server, role or database are taken.
    TooManyConnections,
    /// Starting, in crash recovery, or a standby that does not accept connections yet.
    StartingUp,
    /// A standby with `hot_standby = off`, which never accepts connections. Before 14 it is `StartingUp`: the server says
    /// the same.
    HotStandbyOff,
    /// Shutting down, or the session was ended by an administrator.
    ShuttingDown,
    /// Starting up, shutting down or a standby: the server says which in a language that is not English, and nothing else
    /// in its answer tells them apart.
    NotAccepting,
    /// TLS is not offered, or one side does not trust the other's certificate.
    Tls,
    /// The database does not exist.
    UnknownDatabase,
    /// No route, no such name, or the peer hung up.
    Unreachable,
    /// The role may not connect to the database, or we may not open the socket or a file that we need.
    Permission,
    /// None of these; the message says more.
    Other,
}

impl FailureClass {
    /// All of them, for a metric that has a series for each.
    pub const ALL: [Self; 14] = [
        Self::Refused,
        Self::Timeout,
        Self::Authentication,
        Self::NoPgHbaEntry,
        Self::TooManyConnections,
        Self::StartingUp,
        Self::HotStandbyOff,
        Self::ShuttingDown,
        Self::NotAccepting,
        Self::Tls,
        Self::UnknownDatabase,
        Self::Unreachable,
        Self::Permission,
        Self::Other,
    ];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Authentication => "authentication",
            Self::NoPgHbaEntry => "no_pg_hba_entry",
            Self::TooManyConnections => "too_many_connections",
            Self::StartingUp => "starting_up",
            Self::HotStandbyOff => "hot_standby_off",
            Self::ShuttingDown => "shutting_down",
            Self::NotAccepting => "not_accepting",
            Self::Tls => "tls",
            Self::UnknownDatabase => "unknown_database",
            Self::Unreachable => "unreachable",
            Self::Permission => "permission",
            Self::Other => "other",
        }
    }

    /// Whether it was a running server that said so.
    pub fn is_answer(self) -> bool {
        matches!(
            self,
            Self::Authentication
                | Self::NoPgHbaEntry
                | Self::TooManyConnections
                | Self::StartingUp
                | Self::HotStandbyOff
                | Self::ShuttingDown
                | Self::NotAccepting
                | Self::UnknownDatabase
        )
    }

    /// Whether another host of the list may be tried: not after a server has judged us, as in libpq.
    pub(super) fn may_differ_on_another_host(self) -> bool {
        matches!(
            self,
            Self::Refused
                | Self::Timeout
                | Self::StartingUp
                | Self::HotStandbyOff
                | Self::ShuttingDown
                | Self::NotAccepting
                | Self::Tls
                | Self::Unreachable
                | Self::Permission
        )
    }

    pub(super) fn of_io(error: &io::Error) -> Self {
        // A server that does not want our certificate says so only after the handshake.
        if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>) {
            return Self::Tls;
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Self::Refused,
            // A unix socket says `WouldBlock` when the queue of a hanging postmaster is full.
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Timeout,
            io::ErrorKind::PermissionDenied => Self::Permission,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Self::Unreachable,
            _ => Self::Other,
        }
    }

    /// The class of an error that the server reported, by SQLSTATE and, where that is not enough, its words.
    ///
    /// Messages are translated to the server's `lc_messages`; `pg_hba.conf` is not. `PgBouncer` reports nearly all as
    /// `08P01`, always in English.
    pub(super) fn of_sqlstate(sqlstate: &str, message: &str) -> Self {
        match sqlstate {
            "28000" if message.contains("pg_hba.conf") => Self::NoPgHbaEntry,
            "28000" | "28P01" => Self::Authentication,
            "53300" => Self::TooManyConnections,
            // cannot_connect_now
            "57P03" => match message.strip_prefix("the database system is ") {
                Some("starting up" | "in recovery mode" | "not yet accepting connections") => Self::StartingUp,
                Some("not accepting connections") => Self::HotStandbyOff,
                Some("shutting down") => Self::ShuttingDown,
                _ => Self::NotAccepting,
            },
            "57P01" | "57P02" => Self::ShuttingDown,
            "3D000" => Self::UnknownDatabase,
            "42501" | "55000" => Self::Permission,
            "08P01" if message.contains("no such database") => Self::UnknownDatabase,
            "08P01" if message.contains("no more connections allowed") => Self::TooManyConnections,
            "08P01" if message.contains("authentication failed") || message.contains("auth failed") => {
                Self::Authentication
            }
            _ => Self::Other,
        }
    }
}

/// Why no session could be opened. The message names host, port and reason, never a secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ConnectFailure {
    /// The kind of obstacle.
    pub class: FailureClass,
    /// What happened, for people.
    pub message: String,
    /// The server's SQLSTATE, when it was the server that refused.
    pub sqlstate: Option<String>,
}

impl ConnectFailure {
    pub(super) fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), sqlstate: None }
    }

    /// Whether it was the server that will not have us, as it will say again until somebody changes it.
    pub fn is_judgement(&self) -> bool {
        let lasts = matches!(
            self.class,
            FailureClass::Authentication
                | FailureClass::NoPgHbaEntry
                | FailureClass::UnknownDatabase
                | FailureClass::Permission
        );
        lasts && self.sqlstate.is_some()
    }

    pub(super) fn of_io(doing: &str, error: &io::Error) -> Self {
        Self::new(FailureClass::of_io(error), format!("{doing}: {error}"))
    }

    pub(super) fn timeout(doing: &str, limit: Duration) -> Self {
        Self::new(FailureClass::Timeout, format!("{doing}: no answer within {limit:?}"))
    }

    /// What the driver reports while a session is being opened.
    pub(super) fn of_driver(doing: &str, error: &tokio_postgres::Error) -> Self {
        if let Some(reported) = error.as_db_error() {
            let sqlstate = reported.code().code();
            return Self {
                class: FailureClass::of_sqlstate(sqlstate, reported.message()),
                message: format!("{doing}: {}: {}", reported.severity(), reported.message()),
                sqlstate: Some(sqlstate.to_owned()),
            };
        }
        if let Some(source) = error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
            return Self::of_io(doing, source);
        }
        if error.is_closed() {
            return Self::new(FailureClass::Unreachable, format!("{doing}: the server closed the connection"));
        }
        // What is left comes from the exchange of passwords: none to give, a method we lack, a server that does not
        // prove itself.
        let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        let class = match error.to_string() {
            kind if kind.starts_with("authentication") || kind == "invalid configuration" => {
                FailureClass::Authentication
            }
            _ => FailureClass::Other,
        };
        Self::new(class, format!("{doing}: {reason}"))
    }
}

/// Why a query gave no rows.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueryFailure {
    /// No answer by the client's deadline; the query was cancelled on the server and the session is broken.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// The server cancelled it for `statement_timeout`; the session goes on.
    #[error("cancelled by statement_timeout after {0:?}")]
    StatementTimeout(Duration),
    /// It would have waited for a lock longer than `lock_timeout`; the session goes on.
    #[error("gave up waiting for a lock")]
    LockTimeout,
    /// The server refused it; the session goes on.
    #[error("{message} (SQLSTATE {sqlstate})")]
    Server {
        /// Five characters, appendix A of PostgreSQL's manual.
        sqlstate: String,
        /// The primary message.
        message: String,
    },
    /// The connection is gone; open another session.
    #[error("{message}")]
    Lost {
        /// Why it went.
        class: FailureClass,
        /// What happened, for people.
        message: String,
    },
    /// The answer is larger than any collector has use for; the session is broken.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

impl QueryFailure {
    /// What the driver reports of a query that was sent this long ago.
    pub(super) fn of_driver(error: &tokio_postgres::Error, statement_timeout: Duration, elapsed: Duration) -> Self {
        let Some(reported) = error.as_db_error() else {
            let ConnectFailure { class, message, .. } = ConnectFailure::of_driver("read the answer", error);
            return Self::Lost { class, message };
        };
        match (reported.code().code(), reported.message()) {
            // Cancelled by whom, only the words say, in any language; but before its time, which the server has in whole
            // milliseconds, it was somebody else.
            ("57014", _) if elapsed.as_millis() >= statement_timeout.as_millis() => {
                Self::StatementTimeout(statement_timeout)
            }
            ("55P03", _) => Self::LockTimeout,
            (code @ ("57P01" | "57P02" | "57P03" | "57P05" | "25P03"), message) => {
                Self::Lost { class: FailureClass::of_sqlstate(code, message), message: message.to_owned() }
            }
            (code, message) => Self::Server { sqlstate: code.to_owned(), message: message.to_owned() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_decide_only_where_the_code_does_not() {
        for (code, message, class) in [
            ("28000", "kein pg_hba.conf-Eintrag für Host »::1«", FailureClass::NoPgHbaEntry),
            ("28000", "role \"nobody\" does not exist", FailureClass::Authentication),
            ("57P03", "the database system is shutting down", FailureClass::ShuttingDown),
            ("57P03", "the database system is not yet accepting connections", FailureClass::StartingUp),
            ("57P03", "the database system is not accepting connections", FailureClass::HotStandbyOff),
            ("57P03", "das Datenbanksystem startet", FailureClass::NotAccepting),
            ("08P01", "no such database: x", FailureClass::UnknownDatabase),
            ("08P01", "unsupported startup parameter: jit", FailureClass::Other),
        ] {
            assert_eq!(FailureClass::of_sqlstate(code, message), class, "{message}");
        }
    }

    #[test]
    fn a_full_queue_of_a_hanging_server_counts_as_timeout() {
        assert_eq!(FailureClass::of_io(&io::ErrorKind::WouldBlock.into()), FailureClass::Timeout);
    }
}
