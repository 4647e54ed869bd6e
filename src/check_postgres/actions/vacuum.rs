//! What vacuum and analyze have done, and how near the wraparound is.

use crate::check_postgres::Action;

pub(super) const ACTIONS: &[Action] = &[];
