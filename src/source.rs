//! A file that a user wrote, and how its mistakes are told: file, line, what was expected.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// A file's name and text.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The file; `checks/NAME.toml` for a definition in the binary.
    pub file: PathBuf,
    /// What it says.
    pub text: String,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is wrong.
    #[error("{}:{line}: {reason}", file.display())]
    Mistake {
        /// The file.
        file: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What was expected.
        reason: String,
    },
    /// It cannot be read.
    #[error("read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`SourceError::Read`].
    pub fn read(file: &Path) -> Result<Self, SourceError> {
        match fs::read_to_string(file) {
            Ok(text) => Ok(Self { file: file.to_owned(), text }),
            Err(source) => Err(SourceError::Read { path: file.to_owned(), source }),
        }
    }

    /// A mistake at this byte of the text.
    pub fn mistake(&self, at: usize, reason: impl Into<String>) -> SourceError {
        let line = 1 + self.text.bytes().take(at).filter(|&byte| byte == b'\n').count();
        SourceError::Mistake { file: self.file.clone(), line, reason: reason.into() }
    }

    /// What the TOML parser found. Only its first line: it quotes the text after that, where a password may stand.
    pub fn toml_mistake(&self, error: &toml::de::Error) -> SourceError {
        let reason = error.message().lines().next().unwrap_or_default();
        self.mistake(error.span().unwrap_or_default().start, reason)
    }
}
