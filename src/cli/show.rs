//! `pgvitals list`, `show` and `validate`: the catalog as it is in force.

use anyhow::{anyhow, bail};

use super::{CatalogArgs, ShowArgs, SourceArgs, print, sources};
use crate::catalog::{Catalog, Definition, Role, Scope, Version};
use crate::check::{Check, Limits, Rule, Threshold};
use crate::collect::host::COLLECTORS;
use crate::plan::Servers;

pub(super) fn list(args: &CatalogArgs) -> anyhow::Result<()> {
    let catalog = sources::load_catalog(args.config.as_deref())?;
    let mut text = String::from("Collectors of servers\n");
    for definition in catalog.asking() {
        let role = match definition.role {
            Role::Any => "",
            Role::Primary => " (primary only)",
            Role::Standby => " (standby only)",
        };
        let scope = if definition.scope == Scope::Database { " (in each database)" } else { "" };
        text += &format!("  {:<22} {}{role}{scope}\n", definition.name, definition.help);
    }
    text += "\nListings, for checks that need rows\n";
    for listing in catalog.listings() {
        text += &format!("  {:<22} {}\n", listing.name, listing.help);
    }
    text += "\nCollectors of the host\n";
    for collector in COLLECTORS {
        text += &format!("  {:<22} {}\n", collector.name, collector.help);
    }
    text += "\nChecks\n";
    for check in catalog.checks() {
        text += &format!("  {:<22} {}\n", check.name(), thresholds(check));
    }
    print(&text);
    Ok(())
}

pub(super) fn show(args: &ShowArgs) -> anyhow::Result<()> {
    let catalog = sources::load_catalog(args.catalog.config.as_deref())?;
    if let Some(definition) = catalog.definition(&args.name).or_else(|| catalog.listing(&args.name)) {
        let text = if args.sql { statement(definition, args.pg.as_deref())? } else { definition.text.to_string() };
        print(text.trim_end());
        print("\n");
        return Ok(());
    }
    if args.sql {
        bail!("{:?} has no statement; these have: {}", args.name, names_with_sql(&catalog).join(", "));
    }
    if let Some(check) = catalog.check(&args.name) {
        for rule in check.rules() {
            print(&format!("{}\n  {}\n", limits(rule), rule.reason()));
        }
        return Ok(());
    }
    let collector = COLLECTORS
        .iter()
        .find(|collector| collector.name == args.name)
        .ok_or_else(|| anyhow!("no definition, host collector or check {:?}, see `pgvitals list`", args.name))?;
    let families: Vec<&str> = collector.provides.iter().map(|metric| metric.name).collect();
    print(&format!("{}\nfamilies: {}\n", collector.help, families.join(", ")));
    Ok(())
}

pub(super) fn validate(args: &CatalogArgs) -> anyhow::Result<()> {
    let mut plan = sources::plan(&SourceArgs { config: args.config.clone(), dsn: Vec::new() })?;
    plan.read_policy(None)?;
    let (definitions, checks) = (plan.catalog.definitions().len(), plan.catalog.checks().len());
    let servers = match &plan.servers {
        Servers::Named(servers) => format!("{} servers", servers.len()),
        Servers::Discovered => "servers by discovery".to_owned(),
    };
    print(&format!("ok: {definitions} definitions, {checks} checks, {servers}\n"));
    Ok(())
}

fn statement(definition: &Definition, version: Option<&str>) -> anyhow::Result<String> {
    let query = match version {
        None => definition.queries.last(),
        Some(version) => {
            let version: Version = version.parse().map_err(|reason: String| anyhow!(reason))?;
            definition.query_for(version)
        }
    };
    let query = query.ok_or_else(|| match definition.queries.first() {
        None => anyhow!("{} holds rules only", definition.name),
        Some(first) => anyhow!("{} needs {} or newer", definition.name, first.since),
    })?;
    Ok(query.sql.clone())
}

fn names_with_sql(catalog: &Catalog) -> Vec<&str> {
    catalog.asking().chain(catalog.listings()).map(|definition| definition.name.as_str()).collect()
}

fn thresholds(check: &Check) -> String {
    check.rules().iter().map(limits).collect::<Vec<_>>().join("; ")
}

fn limits(rule: &Rule) -> String {
    let Limits { warning, critical } = rule.limits();
    let range = |limit: Option<Threshold>| limit.map_or_else(|| "none".to_owned(), |limit| limit.to_text(rule.unit()));
    format!("{}, warning {}, critical {}", rule.expression(), range(warning), range(critical))
}
