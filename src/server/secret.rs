//! Passwords and where they come from, without ever showing one.

use std::fmt;
use std::path::PathBuf;

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub(super) String);

impl Secret {
    /// The text itself, for those who must have it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A source of a password.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// The password itself.
    Given(Secret),
    /// The first line of a file.
    File(PathBuf),
    /// The first line that a command prints: program and arguments, no shell. It has five seconds.
    Command(Vec<String>),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(secret) => secret.fmt(f),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Command(argv) => write!(f, "command {}", program_of(argv)),
        }
    }
}

/// The name of a command's program, which may be shown: its arguments may hold a token, and so may its name, where
/// somebody has written the whole line into it.
pub(super) fn program_of(argv: &[String]) -> &str {
    argv.first().and_then(|program| program.split_whitespace().next()).unwrap_or_default()
}

impl Password {
    /// The password itself.
    pub fn given(password: impl Into<String>) -> Self {
        Self::Given(Secret(password.into()))
    }
}
