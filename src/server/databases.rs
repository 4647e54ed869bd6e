//! The databases of a server: which there are, which we may enter now, and which are wanted.

use serde::Deserialize;

use super::rows::RowSet;

/// Which databases are wanted, by name. In a pattern `*` stands for any text and `?` for any one character.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Databases {
    /// A database is wanted when its name matches one of these,
    pub include: Vec<String>,
    /// and none of these.
    pub exclude: Vec<String>,
    /// So many are entered at most, the oldest ones.
    pub max: usize,
}

/// The databases of a server in the state that it is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Which server it is; none where there is no such database.
    pub state: Option<ServerState>,
    /// The databases asked for.
    pub databases: Vec<Database>,
}

/// What tells a server from what may be behind the same address later: another one, or the same after a restart or a
/// promotion. It looks the same in every database, whatever is set there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerState {
    /// `pg_postmaster_start_time()`, in milliseconds since the epoch.
    pub started: String,
    /// `pg_is_in_recovery()`.
    pub in_recovery: bool,
}

/// A database, and what keeps us out if anything does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Its identifier, which stays when it is renamed.
    pub oid: u32,
    /// Its name; where it is not UTF-8, with `?` in place of what is not.
    pub name: String,
    /// Whether it is the one that was asked.
    pub is_current: bool,
    /// None: it may be entered.
    pub barrier: Option<Barrier>,
}

/// What keeps us out of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Barrier {
    /// The configuration does not want it.
    Excluded,
    /// A template, one that allows no connections, or one whose DROP was interrupted.
    Closed,
    /// Our role has no CONNECT on it.
    Denied,
    /// Its connection limit is reached, or we would take the last place.
    Full,
    /// Somebody changes, drops or copies it, or has a catalog locked: who connects now would wait.
    Locked,
    /// Its name is not UTF-8, so that we cannot ask for it.
    Unnamable,
}

impl Barrier {
    /// All of them, for a metric that has a series for each.
    pub const ALL: [Self; 6] = [Self::Excluded, Self::Closed, Self::Denied, Self::Full, Self::Locked, Self::Unnamable];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Excluded => "excluded",
            Self::Closed => "closed",
            Self::Denied => "denied",
            Self::Full => "full",
            Self::Locked => "locked",
            Self::Unnamable => "unnamable",
        }
    }
}

impl Default for Databases {
    fn default() -> Self {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Self {
            include: texts(&["*"]),
            exclude: texts(&["template*", "rdsadmin", "cloudsqladmin", "azure_maintenance", "azure_sys"]),
            max: 500,
        }
    }
}

/// What connecting waits for: the lock that `CREATE DATABASE ... TEMPLATE`, `ALTER` and `DROP DATABASE` take, and any
/// exclusive one on a catalog but that of large objects, which may take hours to rewrite and stops nobody. A name is asked
/// for in its own bytes, whatever encoding it was written in, because those are the bytes that have to be sent to get there.
const LIST: &str = "SET LOCAL client_encoding = SQL_ASCII; \
     WITH locked AS (SELECT CASE locktype WHEN 'object' THEN objid ELSE database END AS oid FROM pg_catalog.pg_locks \
      WHERE locktype = 'object' AND classid = 1262 \
        AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') \
         OR locktype = 'relation' AND relation < 16384 AND relation NOT IN (2613, 2683) \
        AND mode = 'AccessExclusiveLock') \
     SELECT (EXTRACT(EPOCH FROM pg_catalog.pg_postmaster_start_time()) * 1000)::bigint AS started, pg_catalog.pg_is_in_recovery() AS in_recovery, \
            d.oid, pg_catalog.encode(pg_catalog.namesend(d.datname), 'hex') AS name, \
            d.datname = pg_catalog.current_database() AS current, \
            CASE WHEN d.datistemplate OR NOT d.datallowconn OR d.datconnlimit = -2 THEN 'closed' \
                 WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT') IS NOT TRUE THEN 'denied' \
                 WHEN d.datconnlimit >= 0 AND d.datname <> pg_catalog.current_database() \
                      AND pg_catalog.pg_stat_get_db_numbackends(d.oid) >= d.datconnlimit - 1 THEN 'full' \
                 WHEN d.oid IN (SELECT oid FROM locked) OR 0 IN (SELECT oid FROM locked) THEN 'locked' END AS barrier \
       FROM pg_catalog.pg_database AS d";

impl Databases {
    /// The statement that lists all databases of the server, the oldest first, or only the one with this identifier.
    pub fn statement(oid: Option<u32>) -> String {
        match oid {
            None => format!("{LIST} ORDER BY d.oid"),
            Some(oid) => format!("{LIST} WHERE d.oid = {oid}"),
        }
    }

    /// The answer to [`Databases::statement`], with what the configuration does not want marked as such.
    pub fn read(&self, rows: &RowSet) -> Listing {
        Listing {
            state: rows
                .value(0, 0)
                .map(|started| ServerState { started: started.to_owned(), in_recovery: rows.value(0, 1) == Some("t") }),
            databases: (0..rows.len()).filter_map(|row| self.read_row(rows, row)).collect(),
        }
    }

    /// Whether a database of this name is wanted.
    pub fn wants(&self, name: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, name));
        any(&self.include) && !any(&self.exclude)
    }

    fn read_row(&self, rows: &RowSet, row: usize) -> Option<Database> {
        let name = bytes(rows.value(row, 3)?)?;
        let barrier = match rows.value(row, 5) {
            Some("closed") => Some(Barrier::Closed),
            Some("denied") => Some(Barrier::Denied),
            Some("full") => Some(Barrier::Full),
            Some("locked") => Some(Barrier::Locked),
            _ => None,
        };
        let (name, unnamable) = match String::from_utf8(name) {
            Ok(name) => (name, None),
            Err(error) => {
                (String::from_utf8_lossy(error.as_bytes()).replace('\u{fffd}', "?"), Some(Barrier::Unnamable))
            }
        };
        let unwanted = (!self.wants(&name)).then_some(Barrier::Excluded);
        Some(Database {
            oid: rows.value(row, 2)?.parse().ok()?,
            is_current: rows.value(row, 4)? == "t",
            // Templates are closed to us before anybody excludes them.
            barrier: barrier.filter(|barrier| *barrier == Barrier::Closed).or(unwanted).or(barrier).or(unnamable),
            name,
        })
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Whether a name matches a pattern, in which `*` stands for any text and `?` for any one character.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    // Where to go on when the text that the last `*` stands for has to be longer.
    let mut longer = None;
    loop {
        let found = name.clone().next();
        match pattern.next() {
            None if found.is_none() => return true,
            Some('*') => longer = Some((pattern.clone(), name.clone())),
            Some(wanted) if found.is_some_and(|found| wanted == '?' || wanted == found) => {
                name.next();
            }
            _ => {
                let Some((rest, from)) = &mut longer else { return false };
                if from.next().is_none() {
                    return false;
                }
                (pattern, name) = (rest.clone(), from.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text_and_a_question_mark_any_character() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("app", "app", true),
            ("app", "App", false),
            ("app", "apps", false),
            ("app_*", "app_", true),
            ("*_test", "a_test_test", true),
            ("*a*b*c", "xxaxbxbxc", true),
            ("*a*b*c", "xxaxcxb", false),
            ("t?st", "tüst", true),
            ("t?st", "tst", false),
            ("a.c", "abc", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        let many = "a*".repeat(30);
        assert!(!matches(&format!("{many}b"), &"a".repeat(63)), "and it ends");
    }

    #[test]
    fn what_keeps_us_out_of_a_database_is_told() {
        let mut rows =
            RowSet::new(["started", "in_recovery", "oid", "name", "current", "barrier"].map(str::to_owned).to_vec());
        for row in [
            [Some("1"), Some("74656d706c61746531"), Some("f"), Some("closed")],
            [Some("5"), Some("617070"), Some("t"), None],
            [Some("6"), Some("4dc3bc"), Some("f"), Some("denied")],
            [Some("7"), Some("4dfc"), Some("f"), None],
            [Some("8"), Some("72647361646d696e"), Some("f"), Some("denied")],
        ] {
            let row = [Some("7"), Some("f")].into_iter().chain(row);
            assert!(row.into_iter().all(|value| rows.push(value)));
        }
        let Listing { state, databases: found } = Databases::default().read(&rows);
        assert_eq!(state, Some(ServerState { started: "7".to_owned(), in_recovery: false }));
        let found: Vec<_> = found.iter().map(|it| (it.oid, it.name.as_str(), it.is_current, it.barrier)).collect();
        assert_eq!(
            found,
            [
                (1, "template1", false, Some(Barrier::Closed)),
                (5, "app", true, None),
                (6, "Mü", false, Some(Barrier::Denied)),
                (7, "M?", false, Some(Barrier::Unnamable)),
                (8, "rdsadmin", false, Some(Barrier::Excluded)),
            ]
        );
    }
}
