//! What others export: the names that drop-in means.

/// One name per line: peer, name, type and labels.
pub const PEERS: &str = include_str!("peers.txt");

/// A metric of another exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer<'a> {
    /// The exporter: `postgres_exporter` or `node_exporter`.
    pub exporter: &'a str,
    /// The name, or with a `*` at its end how the names begin.
    pub name: &'a str,
    /// Its type as Prometheus calls it.
    pub kind: &'a str,
    /// Its labels.
    pub labels: &'a str,
}

impl Peer<'_> {
    /// Whether it is a metric of this name. What stands for many names has a `{column}` where the peer's has the `*`.
    pub fn is(self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            None => self.name == name,
            Some(stem) => name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('{')),
        }
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Peer<'static>> {
        PEERS.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let mut words = line.split(' ');
            let (exporter, name, kind) = (words.next()?, words.next()?, words.next()?);
            Some(Peer { exporter, name, kind, labels: words.next().unwrap_or_default() })
        })
    }
}

/// The peer that has a metric of this very name.
pub fn peer_of(name: &str) -> Option<Peer<'static>> {
    Peer::all().find(|peer| peer.is(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_metric() {
        let lines = PEERS.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!((Peer::all().count(), lines > 200), (lines, true));
        assert!(Peer::all().all(|peer| ["postgres_exporter", "node_exporter"].contains(&peer.exporter)));
    }

    #[test]
    fn a_metric_with_a_placeholder_is_found_by_what_stands_before_it() {
        assert_eq!(peer_of("pg_settings_{metric}").unwrap().name, "pg_settings_*");
        assert!(peer_of("pg_settings").is_none());
        assert!(peer_of("pg_settings_pending_restart").is_none());
        assert_eq!(peer_of("node_load1").unwrap().exporter, "node_exporter");
    }
}
