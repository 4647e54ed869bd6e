//! The pgvitals command.

use std::process::ExitCode;

fn main() -> ExitCode {
    pgvitals::cli::run(std::env::args_os())
}
