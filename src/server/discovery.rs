//! Finding the servers of this host, from what every user may read.

mod debian;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use procfs::FromRead as _;
use procfs::net::{UnixNetEntries, UnixState};

use super::environment::Environment;
use super::keywords::{DsnError, Keywords};
use super::options::{ConnectOptions, Host};
use crate::source::read_plain;

/// A postmaster touches all its sockets at once, when it starts and about every hour.
const SAME_MOMENT: Duration = Duration::from_secs(1);

/// Any user of the host can open as many sockets as he likes.
const MOST_SERVERS: usize = 100;
/// Below it are root and the accounts of the system: `SYS_UID_MAX` of login.defs(5), and one.
const FIRST_USER: u32 = 1000;
const LARGEST_COMMAND_LINE: u64 = 64 * 1024;
const LARGEST_PID_FILE: u64 = 4096;

/// Where to look.
#[derive(Clone, Debug)]
pub struct DiscoveryRoots {
    /// Debian's clusters, usually `/etc/postgresql`.
    pub etc_postgresql: PathBuf,
    /// Usually `/proc`.
    pub proc: PathBuf,
}

impl Default for DiscoveryRoots {
    fn default() -> Self {
        Self { etc_postgresql: "/etc/postgresql".into(), proc: "/proc".into() }
    }
}

/// A server that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// `15/main` for a Debian cluster, else `/directory:port` or `localhost:port`.
    pub name: String,
    /// Directory of its socket, or `localhost`.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether a password may be sent to it: it is a Debian cluster, or belongs to root, to an account of the system or to
    /// our own. Any other user of the host can put a program of his own there that asks for one.
    pub trusted: bool,
}

impl Discovered {
    /// How to reach it; user, password and the like come from the environment.
    pub fn options(&self, environment: &Environment) -> Result<ConnectOptions, DsnError> {
        self.options_with(Keywords::default(), environment)
    }

    /// As [`Discovered::options`], with other settings, such as the user, given.
    pub fn options_with(&self, given: Keywords, environment: &Environment) -> Result<ConnectOptions, DsnError> {
        let mut keywords = given;
        keywords.set("host", &self.host)?;
        keywords.set("port", &self.port.to_string())?;
        let options = ConnectOptions::resolve(keywords, environment)?;
        Ok(if self.trusted { options } else { options.without_password() })
    }
}

/// Every server of this host once: Debian's clusters in the order of version and name, running or not, then sockets that
/// somebody listens on, then running postmasters without a socket that we can see; 100 at most, and first
/// those that are trusted.
pub fn discover(roots: &DiscoveryRoots) -> Vec<Discovered> {
    let clusters = debian::clusters(&roots.etc_postgresql);
    let mut found: Vec<Discovered> = clusters.iter().map(debian::Cluster::discovered).collect();
    for Socket { directory, port, owner, .. } in distinct(sockets(&roots.proc)) {
        if !clusters.iter().any(|cluster| cluster.has_socket(&directory, port)) {
            let host = directory.display().to_string();
            found.push(Discovered { name: format!("{host}:{port}"), host, port, trusted: is_trusted(owner) });
        }
    }
    for (port, trusted) in postmaster_ports(&roots.proc, &clusters) {
        if !found.iter().any(|known| known.port == port) {
            found.push(Discovered { name: format!("localhost:{port}"), host: "localhost".to_owned(), port, trusted });
        }
    }
    found.sort_by_key(|found| !found.trusted);
    found.truncate(MOST_SERVERS);
    found
}

fn is_trusted(owner: u32) -> bool {
    owner < FIRST_USER || owner == rustix::process::geteuid().as_raw()
}

/// The name of the Debian cluster that these options lead to, such as `15/main`; none where there is no such cluster.
pub fn cluster_name(etc_postgresql: &Path, options: &ConnectOptions) -> Option<String> {
    let leads_to = |cluster: &debian::Cluster| match options.hosts().first() {
        Some(Host::Socket { directory, port }) => cluster.has_socket(directory, *port),
        Some(Host::Tcp { name, port, .. }) => {
            ["localhost", "127.0.0.1", "::1"].contains(&name.as_str()) && cluster.discovered().port == *port
        }
        None => false,
    };
    let cluster = debian::clusters(etc_postgresql).into_iter().find(leads_to)?;
    Some(cluster.discovered().name)
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Socket {
    port: u16,
    /// Debian's and Red Hat's directory before all others: `false` sorts first.
    elsewhere: bool,
    directory: PathBuf,
    owner: u32,
    touched: SystemTime,
}

fn sockets(proc: &Path) -> Vec<Socket> {
    let entries = UnixNetEntries::from_file(proc.join("net/unix")).map(|entries| entries.0).unwrap_or_default();
    let mut sockets: Vec<_> = entries
        .into_iter()
        // The listening end is never connected; those it has accepted carry the same path.
        .filter(|entry| entry.state == UnixState::UNCONNECTED)
        .filter_map(|entry| {
            let path = entry.path?;
            let port = path.file_name()?.to_str()?.strip_prefix(".s.PGSQL.")?.parse().ok()?;
            // One of another mount namespace (a container's) cannot be reached from here.
            let metadata = fs::metadata(&path).ok()?;
            let directory = path.parent()?.to_owned();
            let elsewhere = !directory.ends_with("run/postgresql");
            Some(Socket { port, elsewhere, directory, owner: metadata.uid(), touched: metadata.modified().ok()? })
        })
        .collect();
    sockets.sort();
    sockets.dedup();
    sockets
}

/// One socket for each server: Red Hat's listens in two directories, and a directory can have two names.
fn distinct(sockets: Vec<Socket>) -> Vec<Socket> {
    let mut kept: Vec<Socket> = Vec::new();
    for socket in sockets {
        let apart = |other: &Socket| {
            let (early, late) = (socket.touched.min(other.touched), socket.touched.max(other.touched));
            late.duration_since(early).is_ok_and(|apart| apart > SAME_MOMENT)
        };
        let same = |other: &Socket| socket.port == other.port && socket.owner == other.owner && !apart(other);
        if !kept.iter().any(same) {
            kept.push(socket);
        }
    }
    kept
}

/// The TCP ports of running postmasters that belong to no Debian cluster, in order, and whether their user is trusted.
fn postmaster_ports(proc: &Path, clusters: &[debian::Cluster]) -> BTreeMap<u16, bool> {
    let mut ports = BTreeMap::new();
    for entry in fs::read_dir(proc).into_iter().flatten().flatten() {
        let is_process = entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
        if !is_process {
            continue;
        }
        let Ok(line) = read_plain(&entry.path().join("cmdline"), LARGEST_COMMAND_LINE) else { continue };
        let line = String::from_utf8_lossy(&line);
        let words: Vec<&str> = line.split('\0').collect();
        let Some(directory) = data_directory(&words) else { continue };
        if clusters.iter().any(|cluster| cluster.data_directory.as_deref() == Some(directory)) {
            continue;
        }
        if let Some(port) = port_of(&words).or_else(|| port_of_pid_file(directory)) {
            let trusted = entry.metadata().is_ok_and(|process| is_trusted(process.uid()));
            // Of two who claim a port one has it.
            ports.entry(port).and_modify(|all| *all &= trusted).or_insert(trusted);
        }
    }
    ports
}

/// The data directory of a postmaster. Its children have put a title in place of the command line.
fn data_directory<'a>(words: &[&'a str]) -> Option<&'a Path> {
    let program = Path::new(words.first()?).file_name()?;
    if program != "postgres" && program != "postmaster" {
        return None;
    }
    argument(words, "-D", "data_directory").map(Path::new)
}

fn port_of(words: &[&str]) -> Option<u16> {
    argument(words, "-p", "port")?.parse().ok()
}

/// `-D x`, `-Dx`, `-c name=x` or `--name=x`.
fn argument<'a>(words: &[&'a str], short: &str, name: &str) -> Option<&'a str> {
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        if word == short {
            return words.next();
        }
        let setting = match word {
            "-c" => words.next()?,
            word => match word.strip_prefix("--") {
                Some(setting) => setting,
                None => match word.strip_prefix(short) {
                    Some(value) => return Some(value),
                    None => continue,
                },
            },
        };
        if let Some((key, value)) = setting.split_once('=')
            && key.replace('-', "_") == name
        {
            return Some(value);
        }
    }
    None
}

/// The fourth line; readable for us only when group access is allowed.
fn port_of_pid_file(directory: &Path) -> Option<u16> {
    // Any user can have a process say that this is its folder.
    let text = read_plain(&directory.join("postmaster.pid"), LARGEST_PID_FILE).ok()?;
    std::str::from_utf8(&text).ok()?.lines().nth(3)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::source::mutation::mutated;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn set_touched(path: &Path, seconds: u64) {
        fs::File::open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }

    fn names(roots: &DiscoveryRoots) -> Vec<String> {
        discover(roots).into_iter().map(|found| found.name).collect()
    }

    #[test]
    fn options_that_lead_to_a_debian_cluster_have_its_name() {
        let root = tempfile::tempdir().unwrap();
        let (etc, run) = (root.path().join("etc"), root.path().join("run"));
        fs::create_dir(&run).unwrap();
        std::os::unix::fs::symlink(&run, root.path().join("var_run")).unwrap();
        let text = format!("port = 5433\nunix_socket_directories = '{}'\n", run.display());
        write(&etc.join("15/main/postgresql.conf"), &text);
        let name = |dsn: &str| {
            let dsn = dsn.replace("ROOT", &root.path().display().to_string());
            cluster_name(&etc, &ConnectOptions::parse(&dsn, &Environment::new(|_| None)).unwrap())
        };
        for leads in ["host=ROOT/run port=5433", "host=ROOT/var_run port=5433", "host=localhost port=5433"] {
            assert_eq!(name(leads).as_deref(), Some("15/main"), "{leads}");
        }
        for other in ["host=ROOT/run port=5434", "host=ROOT port=5433", "host=db1 port=5433"] {
            assert_eq!(name(other), None, "{other}");
        }
    }

    #[test]
    fn each_server_is_found_once_and_in_order() {
        let root = tempfile::tempdir().unwrap();
        let roots = DiscoveryRoots { etc_postgresql: root.path().join("etc"), proc: root.path().join("proc") };
        let run = root.path().join("run/postgresql");
        let tmp = root.path().join("tmp");
        let cluster = |name: &str, port: u16| {
            let sockets = run.display();
            let text = format!("port = {port}\nunix_socket_directories = '{sockets}'\ndata_directory='/data/{name}'\n");
            write(&roots.etc_postgresql.join(name).join("postgresql.conf"), &text);
        };
        cluster("15/main", 5432);
        cluster("9.6/old", 5431);
        cluster("15/off", 5430);
        write(&roots.etc_postgresql.join("15/off/start.conf"), "# why\ndisabled\n");

        let mut table = "Num       RefCount Protocol Flags    Type St Inode Path\n".to_owned();
        let mut listen = |directory: &Path, port: u16, touched: u64, state: &str| {
            fs::create_dir_all(directory).unwrap();
            let path = directory.join(format!(".s.PGSQL.{port}"));
            fs::write(&path, "").unwrap();
            set_touched(&path, touched);
            let path = path.display();
            writeln!(table, "0000000000000000: 00000002 00000000 00010000 0001 {state} 1234 {path}").unwrap();
        };
        listen(&run, 5432, 10, "01");
        // Red Hat's server in two directories, and another one that happens to have the same port.
        listen(&tmp, 5440, 50, "01");
        listen(&run, 5440, 50, "01");
        listen(&root.path().join("other"), 5440, 90, "01");
        listen(&tmp, 5441, 10, "03");
        table.push_str("0: 00000002 00000000 00010000 0001 01 1 /gone/.s.PGSQL.5442\n");
        table.push_str("0: 00000002 00000000 00010000 0001 01 1 @abstract\n0: 00000002 00000000 0 0001 01 1\n");
        write(&roots.proc.join("net/unix"), &table);

        let postmaster = |pid: u32, words: &[&str]| {
            write(&roots.proc.join(pid.to_string()).join("cmdline"), &(words.join("\0") + "\0"));
        };
        postmaster(10, &["/usr/lib/postgresql/15/bin/postgres", "-D", "/data/15/main", "-c", "config_file=x"]);
        postmaster(11, &["postgres", "-D", "/data/a", "-p", "5450"]);
        postmaster(12, &["/x/postgres", "-D/data/b", "--port=5449"]);
        postmaster(13, &["postgres: checkpointer ", ""]);
        postmaster(14, &["postgres", "-D", "/data/c", "-c", "port=5440"]);
        let data = root.path().join("data");
        write(&data.join("postmaster.pid"), "15\n/d\n1700000000\n5451\n/tmp\nlocalhost\n");
        postmaster(15, &["postgres", "-D", &data.display().to_string()]);
        postmaster(16, &["vi", "-D", "/data/d", "-p", "5999"]);

        let at = |directory: &Path| format!("{}:5440", directory.display());
        let expected = [
            "9.6/old".to_owned(),
            "15/main".to_owned(),
            at(&run),
            at(&root.path().join("other")),
            "localhost:5449".to_owned(),
            "localhost:5450".to_owned(),
            "localhost:5451".to_owned(),
        ];
        assert_eq!(names(&roots), expected);
    }

    #[test]
    fn whoever_may_be_anybody_gets_no_password() {
        assert!(is_trusted(0) && is_trusted(999) && is_trusted(rustix::process::geteuid().as_raw()));
        assert!(!is_trusted(u32::MAX - 2));
        let environment = Environment::new(|name| match name {
            "PGPASSWORD" => Some("canary".to_owned()),
            "HOME" => Some("/home/me".to_owned()),
            _ => None,
        });
        let options = |trusted| {
            let found = Discovered { name: String::new(), host: "/home/mallory".to_owned(), port: 1, trusted };
            found.options(&environment).unwrap()
        };
        assert!(options(true).password.is_some() && options(true).passfile.is_some());
        assert!(options(false).password.is_none() && options(false).passfile.is_none());
    }

    #[test]
    fn of_a_crowd_only_so_many_are_watched() {
        let root = tempfile::tempdir().unwrap();
        let roots = DiscoveryRoots { etc_postgresql: root.path().join("etc"), proc: root.path().join("proc") };
        for pid in 1..300_u32 {
            let words = ["postgres", "-D", "/d", "-p", &(1000 + pid).to_string()].join("\0");
            write(&roots.proc.join(pid.to_string()).join("cmdline"), &words);
        }
        assert_eq!(names(&roots).len(), MOST_SERVERS);
    }

    #[test]
    fn a_pid_file_that_is_a_pipe_does_not_stop_the_search() {
        let root = tempfile::tempdir().unwrap();
        let roots = DiscoveryRoots { etc_postgresql: root.path().join("etc"), proc: root.path().join("proc") };
        let pipe = root.path().join("postmaster.pid");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let words = ["postgres", "-D", &root.path().display().to_string()].join("\0");
        write(&roots.proc.join("1/cmdline"), &words);
        assert!(names(&roots).is_empty());
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(32))]
        #[test]
        fn whatever_is_found_no_search_ends_badly(
            conf in mutated("port = 5433 # x\nunix_socket_directories = '/run/a, \"/b\"'\ninclude_dir = 'conf.d'\ndata_directory='/d'\n"),
            sockets in mutated("Num\n0000: 00000002 00000000 00010000 0001 01 1234 /tmp/.s.PGSQL.5440\n0: 2 0 0 1 01 1 @x\n"),
            line in mutated("postgres\0-D\0/data\0-c\0port=5450\0--data-directory=/x\0"),
            pid in mutated("15\n/d\n1700000000\n5451\n/tmp\nlocalhost\n"),
        ) {
            let root = tempfile::tempdir().unwrap();
            let roots = DiscoveryRoots { etc_postgresql: root.path().join("etc"), proc: root.path().join("proc") };
            let data = root.path().join("data");
            let postmaster = ["postgres", "-D", &data.display().to_string()].join("\0").into_bytes();
            for (path, bytes) in [
                (roots.etc_postgresql.join("15/main/postgresql.conf"), conf),
                (roots.proc.join("net/unix"), sockets),
                (roots.proc.join("10/cmdline"), line),
                (roots.proc.join("11/cmdline"), postmaster),
                (data.join("postmaster.pid"), pid),
            ] {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
            for found in discover(&roots) {
                proptest::prop_assert!(!found.name.is_empty() && !found.host.is_empty());
                let _ = found.options(&Environment::new(|_| None));
            }
        }
    }

    #[test]
    fn a_listening_socket_of_this_very_host_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let _listener = UnixListener::bind(directory.path().join(".s.PGSQL.5499")).unwrap();
        let roots = DiscoveryRoots { etc_postgresql: directory.path().to_owned(), ..DiscoveryRoots::default() };
        let found = discover(&roots);
        let expected = directory.path().display().to_string();
        assert!(found.iter().any(|found| found.host == expected && found.port == 5499), "{found:?}");
    }

    #[test]
    fn a_host_without_servers_has_none() {
        let empty = tempfile::tempdir().unwrap();
        let roots = DiscoveryRoots { etc_postgresql: empty.path().join("x"), proc: empty.path().join("y") };
        assert!(discover(&roots).is_empty());
    }
}
