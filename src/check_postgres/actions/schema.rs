//! Two schemas that should be the same.

use crate::check_postgres::Action;

pub(super) const ACTIONS: &[Action] = &[];
