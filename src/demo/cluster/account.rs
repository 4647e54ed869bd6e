//! The user that servers run as: PostgreSQL refuses to be root.

use std::os::unix::fs::chown;
use std::path::Path;
use std::{fs, io};

use super::{ClusterError, tried};

/// The user a server runs as when we are root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// `postgres`, else `nobody`; nothing when we are not root and stay who we are.
    pub(super) fn unprivileged() -> Result<Option<Self>, ClusterError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd").map_err(tried("read /etc/passwd"))?;
        let found = ["postgres", "nobody"].iter().find_map(|name| Self::named(name, &users));
        let missing = || io::Error::new(io::ErrorKind::NotFound, "no user postgres or nobody");
        found.map(Some).ok_or_else(missing).map_err(tried("drop root's rights"))
    }

    fn named(name: &str, users: &str) -> Option<Self> {
        let mut fields = users.lines().map(|line| line.split(':')).find_map(|mut fields| {
            let found = fields.next() == Some(name);
            found.then_some(fields)
        })?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { uid, gid })
    }
}

/// Makes a file or folder belong to the server's user.
pub(super) fn hand_over(path: &Path, account: Option<Account>) -> io::Result<()> {
    account.map_or(Ok(()), |account| chown(path, Some(account.uid), Some(account.gid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_among_the_users() {
        let users = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\n";
        assert!(Account::named("postgres", users).is_none());
        let nobody = Account::named("nobody", users).unwrap();
        assert_eq!((nobody.uid, nobody.gid), (65534, 65533));
    }
}
