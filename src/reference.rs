//! What there is to be read: every metric with its type, labels and the versions that know it, as the definitions and the
//! tables of the other collectors say it. [`metrics`] is that for people, [`schema`] for comparing.

mod majors;
mod markdown;
mod peers;
pub mod schema;

use std::collections::BTreeMap;

pub use majors::{ALL as MAJORS, Majors, shipped};
pub use markdown::metrics;
pub use peers::{PEERS, Peer, peer_of};

use crate::agent;
use crate::catalog::{Catalog, Definition, Query, Version};
use crate::collect::host;
use crate::metric::{Described, Kind};
use crate::push;

/// One collector and what it gives.
#[derive(Debug)]
pub struct Subject<'a> {
    /// Its name, as `collect[]` and `pgvitals once` take it; of the agent itself `agent`.
    pub name: &'a str,
    /// What it tells.
    pub help: &'a str,
    /// Where it reads.
    pub origin: Origin<'a>,
    /// Its metrics, in the order in which it names them.
    pub entries: Vec<Entry>,
}

/// Where a collector reads.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// A server, by this definition.
    Server(&'a Definition),
    /// The kernel of the host.
    Host,
    /// Nowhere: the agent tells of itself.
    Agent,
}

/// One metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name; with a `{column}` in it a family for each of its values.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    /// Its labels in their order, `server` first where it has that.
    pub labels: Vec<String>,
    /// One line of meaning.
    pub help: String,
    /// Those majors of PostgreSQL that know it; empty where that is no question.
    pub majors: Majors,
    /// The first version of the extension that knows it.
    pub extension: Option<Version>,
    /// Other names of the same definition for the very same values.
    pub twins: Vec<String>,
}

impl Entry {
    /// Whether a family of this name is this metric; of a histogram also its parts.
    pub fn makes(&self, family: &str) -> bool {
        match self.name.split_once('{') {
            None if self.kind == Kind::Histogram => {
                family.strip_prefix(&self.name).is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest))
            }
            None => self.name == family,
            Some((stem, _)) => family.starts_with(stem),
        }
    }

    /// The unit that its name says; none for plain numbers.
    pub fn unit(&self) -> Option<&str> {
        const UNITS: [&str; 5] = ["seconds", "bytes", "ratio", "xids", "multixacts"];
        let name = self.name.strip_suffix("_total").unwrap_or(&self.name);
        let (_, last) = name.rsplit_once('_')?;
        UNITS.contains(&last).then_some(last)
    }
}

/// All collectors: those of servers, then those of the host, then the agent.
pub fn subjects(catalog: &Catalog) -> Vec<Subject<'_>> {
    let servers = catalog.asking().map(|definition| Subject {
        name: &definition.name,
        help: &definition.help,
        origin: Origin::Server(definition),
        entries: entries_of(definition),
    });
    let host = host::COLLECTORS.iter().map(|collector| Subject {
        name: collector.name,
        help: collector.help,
        origin: Origin::Host,
        entries: collector.provides.iter().map(|it| entry(it, None)).collect(),
    });
    // Inherited names of the host's collectors are node_exporter's, and its metrics are of no server.
    let is_of_host = |it: &&Described| it.name.starts_with("node_");
    let of_collectors = agent::OF_COLLECTORS.iter().chain(agent::INHERITED.iter().filter(|it| !is_of_host(it)));
    let of_servers = agent::OF_SERVERS.iter().chain(of_collectors).map(|it| entry(it, Some("server")));
    let of_host = agent::INHERITED.iter().filter(is_of_host).map(|it| entry(it, None));
    let of_agent = agent::OF_AGENT.iter().chain(push::DESCRIBED).map(|it| entry(it, None));
    let agent = Subject {
        name: "agent",
        help: "What the agent says about servers, its collectors and itself, always",
        origin: Origin::Agent,
        entries: of_servers.chain(of_host).chain(of_agent).collect(),
    };
    servers.chain(host).chain([agent]).collect()
}

/// What is asked on each major: the newest query that the server, or the extension it ships, is new enough for. Of other
/// extensions it is the newest.
pub fn asked(definition: &Definition) -> BTreeMap<u32, &Query> {
    let query = |major: u32| match definition.extension.as_deref() {
        None => definition.query_for(Version { major, minor: 0 }),
        Some(extension) => match shipped(extension, major) {
            Some(version) => definition.query_for(version),
            None => definition.queries.last(),
        },
    };
    MAJORS.filter_map(|major| Some((major, query(major)?))).collect()
}

fn entries_of(definition: &Definition) -> Vec<Entry> {
    let asked = asked(definition);
    let entry = |metric: &crate::catalog::MetricColumn| {
        let knows = |query: &Query| query.knows(&metric.column);
        let same = definition.metrics.iter().filter(|it| {
            it.column == metric.column && it.labels == metric.labels && it.metric.name != metric.metric.name
        });
        Entry {
            name: metric.metric.name.clone(),
            kind: metric.metric.kind,
            labels: std::iter::once("server".to_owned()).chain(metric.labels.iter().cloned()).collect(),
            help: metric.metric.help.clone(),
            majors: asked.iter().filter(|(_, query)| knows(query)).map(|(major, _)| *major).collect(),
            extension: definition
                .extension
                .as_ref()
                .and_then(|_| definition.queries.iter().find(|query| knows(query)))
                .map(|query| query.since),
            twins: same.map(|it| it.metric.name.clone()).collect(),
        }
    };
    definition.metrics.iter().map(entry).collect()
}

fn entry(described: &Described, first: Option<&str>) -> Entry {
    Entry {
        name: described.name.to_owned(),
        kind: described.kind,
        labels: first.into_iter().chain(described.labels.iter().copied()).map(str::to_owned).collect(),
        help: described.help.to_owned(),
        majors: Majors::default(),
        extension: None,
        twins: Vec::new(),
    }
}
