//! PgBouncer, through its console.

use crate::check_postgres::Action;

pub(super) const ACTIONS: &[Action] = &[];
