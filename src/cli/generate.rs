//! `pgvitals generate`: configuration for other programs and the reference, made from the definitions in force.

use super::{GenerateArgs, Objects, print, sources};
use crate::reference;
use crate::sink::objects;

pub(super) fn run(args: &GenerateArgs) -> anyhow::Result<()> {
    let catalog = sources::load_catalog(args.catalog.config.as_deref())?;
    print(&match args.objects {
        Objects::Nagios => objects::nagios(catalog.checks()),
        Objects::Nrpe => objects::nrpe(catalog.checks()),
        Objects::Icinga2 => objects::icinga2(catalog.checks()),
        Objects::CheckmkLocal => objects::checkmk_local(catalog.checks()),
        Objects::Metrics => reference::metrics(&catalog),
        Objects::Schema => reference::schema::schema(&catalog),
    });
    Ok(())
}
