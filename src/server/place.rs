//! Whether a server is on this machine, from the addresses that the kernel takes for its own.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::LazyLock;

use tokio::net::lookup_host;

use super::options::{ConnectOptions, Host};

/// Whether one of the places where the server may be is on this machine: a socket, loopback, or an address of an
/// interface as `proc` (usually `/proc`) has it. Nothing while a name cannot be resolved.
///
/// What a tunnel or a pooler on this machine leads to counts as here.
pub async fn is_here(options: &ConnectOptions, proc: &Path) -> Option<bool> {
    let own = LazyLock::new(|| own_addresses(proc));
    let is_own = |address: IpAddr| is_loopback(address.to_canonical()) || own.contains(&address.to_canonical());
    let mut all_known = true;
    for host in options.hosts() {
        let here = match host {
            Host::Socket { .. } => true,
            Host::Tcp { address: Some(address), .. } => is_own(*address),
            Host::Tcp { name, .. } if name == "localhost" => true,
            Host::Tcp { name, port, .. } => {
                let found = lookup_host((name.as_str(), *port)).await;
                all_known &= found.is_ok();
                found.is_ok_and(|mut addresses| addresses.any(|address| is_own(address.ip())))
            }
        };
        if here {
            return Some(true);
        }
    }
    all_known.then_some(false)
}

/// The unspecified address leads to loopback too.
fn is_loopback(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified()
}

fn own_addresses(proc: &Path) -> BTreeSet<IpAddr> {
    let read = |name: &str| fs::read_to_string(proc.join("net").join(name)).unwrap_or_default();
    let four = of_fib_trie(&read("fib_trie")).into_iter().map(IpAddr::V4).collect::<Vec<_>>();
    let six = read("if_inet6").lines().filter_map(of_if_inet6).map(IpAddr::V6).collect::<Vec<_>>();
    four.into_iter().chain(six).collect()
}

/// The kernel's routing table: an address, then below it what it is good for.
fn of_fib_trie(text: &str) -> Vec<Ipv4Addr> {
    let mut last: Option<Ipv4Addr> = None;
    let mut own = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line.ends_with("host LOCAL") {
            own.extend(last);
        }
    }
    own
}

/// A line of an interface's address: 32 hexadecimal digits, then what does not matter here.
fn of_if_inet6(line: &str) -> Option<Ipv6Addr> {
    u128::from_str_radix(line.split_ascii_whitespace().next()?, 16).ok().map(Ipv6Addr::from_bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Environment;

    const FIB_TRIE: &str = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 192.0.2.0/24 2 0 2
        |-- 192.0.2.0
           /24 link UNICAST
        |-- 192.0.2.2
           /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
";
    const IF_INET6: &str = "fd000000000000000000000000000002 04 40 00 82     eth0\n\
                            00000000000000000000000000000001 01 80 10 80       lo\n";

    #[tokio::test]
    async fn the_addresses_of_this_machine_are_here_and_no_others() {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir(proc.path().join("net")).unwrap();
        fs::write(proc.path().join("net/fib_trie"), FIB_TRIE).unwrap();
        fs::write(proc.path().join("net/if_inet6"), IF_INET6).unwrap();
        for (dsn, expected) in [
            ("", Some(true)),
            ("host=/run/x", Some(true)),
            ("host=localhost", Some(true)),
            ("host=127.0.0.1", Some(true)),
            ("host=127.0.0.2", Some(true)),
            ("host=::1", Some(true)),
            ("host=::ffff:127.0.0.1", Some(true)),
            ("host=0.0.0.0", Some(true)),
            ("host=192.0.2.2", Some(true)),
            ("host=db1.example hostaddr=192.0.2.2", Some(true)),
            ("host=::ffff:192.0.2.2", Some(true)),
            ("host=fd00::2", Some(true)),
            ("host=192.0.2.9,127.0.0.1", Some(true)),
            ("host=192.0.2.9", Some(false)),
            ("host=192.0.2.255", Some(false)),
            ("host=0.0.0.1,fd00::3", Some(false)),
            ("host=no.such.name.invalid", None),
            ("host=192.0.2.9,no.such.name.invalid", None),
            ("host=no.such.name.invalid,/run", Some(true)),
        ] {
            let options = ConnectOptions::parse(&format!("{dsn} user=x"), &Environment::new(|_| None)).unwrap();
            assert_eq!(is_here(&options, proc.path()).await, expected, "{dsn}");
        }
    }

    #[tokio::test]
    async fn the_interfaces_of_the_very_machine_are_found() {
        let options =
            |host: IpAddr| ConnectOptions::parse(&format!("host={host} user=x"), &Environment::new(|_| None)).unwrap();
        let own = own_addresses(Path::new("/proc"));
        assert!(own.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)), "{own:?}");
        for address in own {
            assert_eq!(is_here(&options(address), Path::new("/proc")).await, Some(true), "{address}");
        }
    }
}
