//! What an agent answers of this command line: what its listings can tell, and nothing that names a file, a program, another
//! server or a statement.

use super::options::Options;
use crate::plugin::Served;

/// Services that look at files of a host, or run the user's own statement.
const OF_THE_CALLER: [&str; 5] =
    ["archive_folder", "custom_query", "minor_version", "pg_dump_backup", "pgdata_permission"];

impl Options {
    /// Whether it says which server is meant.
    pub fn names_server(&self) -> bool {
        let Self { host, port, username, dbname, dbservice, .. } = self;
        [host, port, username, dbname, dbservice].into_iter().any(Option::is_some)
    }
}

/// The agent for a command line that it may answer.
///
/// # Errors
///
/// What it does not answer.
pub(super) fn permitted(served: Served, options: &Options) -> Result<Served, String> {
    if let Some(name) = options.service.as_deref().filter(|name| OF_THE_CALLER.contains(name)) {
        return Err(served.refuse(format!("the agent does not answer the service {name}")));
    }
    let is_given = |text: &Option<String>| text.is_some();
    let refused = [
        ("dbservice", is_given(&options.dbservice)),
        ("debug", options.debug == Some(true)),
        ("dump-bin-file", is_given(&options.dump_bin_file)),
        ("dump-status-file", options.dump_status_file == Some(true)),
        ("format=binary", options.format.as_deref() == Some("binary")),
        ("output", is_given(&options.output)),
        ("path", is_given(&options.path)),
        ("query", is_given(&options.query)),
        ("status-file", is_given(&options.status_file)),
        ("uid", is_given(&options.uid)),
        ("unarchiver", is_given(&options.unarchiver)),
    ];
    if let Some((name, _)) = refused.into_iter().find(|(_, is_given)| *is_given) {
        return Err(served.refuse(format!("the agent does not answer --{name}")));
    }
    let is_place = options.host.is_some() || options.port.is_some();
    Ok(served.naming(is_place, options.dbname.is_some(), options.username.as_deref()))
}
