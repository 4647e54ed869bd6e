//! PostgreSQL clusters that are made to be thrown away: for `pgvitals demo`, and for the tests.

pub mod cluster;
