//! Files on the server's host: WAL, logs, control file, disk space.

use crate::check_postgres::Action;

pub(super) const ACTIONS: &[Action] = &[];
