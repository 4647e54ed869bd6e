//! The pgvitals command.

fn main() {}
