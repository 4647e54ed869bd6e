//! Tables of other software: pgAgent, partman, Slony.

use crate::check_postgres::Action;

pub(super) const ACTIONS: &[Action] = &[];
