//! Why no session could be opened, and what opens it.

use std::net::IpAddr;

use super::{Finding, Remedy, Severity};
use crate::server::{ConnectFailure, ConnectOptions, FailureClass, Host, SslMode};

/// What is missing to connect at all.
pub(super) fn explain(failure: &ConnectFailure, options: &ConnectOptions) -> Finding {
    let what = format!("a connection, {}: {}", failure.class.as_str(), failure.message);
    Finding::new(Severity::Missing, what, remedies(failure, options))
}

fn remedies(failure: &ConnectFailure, options: &ConnectOptions) -> Vec<Remedy> {
    let (role, database) = (quoted(options.user()), quoted(options.database()));
    let advice = |text: &str| vec![Remedy::Advice(text.to_owned())];
    let said = failure.message.as_str();
    match failure.class {
        FailureClass::Refused => advice("start the server, or mend host and port: nothing listens there"),
        FailureClass::Timeout => advice("look whether the server hangs or a firewall drops packets"),
        FailureClass::Authentication if said.contains("does not exist") => {
            let create = format!("CREATE ROLE {role} LOGIN NOSUPERUSER CONNECTION LIMIT 4");
            vec![Remedy::Sql(create), Remedy::Sql(format!("GRANT pg_monitor TO {role}"))]
        }
        FailureClass::Authentication if said.contains("not permitted to log in") => {
            vec![Remedy::Sql(format!("ALTER ROLE {role} LOGIN"))]
        }
        FailureClass::Authentication => advice(
            "mend the password (password_file, password_command, .pgpass, PGPASSWORD) or, where pg_hba.conf says peer, \
             run as the operating-system user that is called like the role, or map it in pg_ident.conf; an unknown role is \
             told as a wrong password",
        ),
        FailureClass::NoPgHbaEntry => vec![hba_line(said, options)],
        FailureClass::TooManyConnections => vec![
            Remedy::Advice(
                "end sessions, or raise the limit that is reached: the role's, the database's or max_connections"
                    .to_owned(),
            ),
            Remedy::Sql(format!("ALTER ROLE {role} CONNECTION LIMIT 4")),
        ],
        FailureClass::StartingUp => {
            advice("wait; before PostgreSQL 14 it may also be a standby with hot_standby = off")
        }
        FailureClass::HotStandbyOff => advice("set hot_standby = on and restart the standby, or do not watch it"),
        FailureClass::NotAccepting => advice("wait, start the server, or set hot_standby = on: its log says which"),
        FailureClass::ShuttingDown => advice("start the server again"),
        FailureClass::Tls => advice("mend sslmode, sslrootcert, sslcert and sslkey, or ssl = on of the server"),
        FailureClass::UnknownDatabase => advice("name a database that exists: dbname=postgres"),
        FailureClass::Unreachable => advice("look at name resolution, routes and firewalls between here and there"),
        FailureClass::Permission => match failure.sqlstate.as_deref() {
            Some("42501") => vec![Remedy::Sql(format!("GRANT CONNECT ON DATABASE {database} TO {role}"))],
            Some(_) => vec![
                Remedy::Advice("name a database that accepts connections: dbname=postgres".to_owned()),
                Remedy::Sql(format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true")),
            ],
            None => advice("let our operating-system user open the socket or the file that the message names"),
        },
        FailureClass::Other => Vec::new(),
    }
}

/// The line that lets us in. The server knows us by another address than we do where addresses are translated, so it is
/// the one that its message names.
fn hba_line(said: &str, options: &ConnectOptions) -> Remedy {
    let (role, database) = (quoted(options.user()), quoted(options.database()));
    let line = match options.hosts().first() {
        Some(Host::Socket { .. }) | None => format!("local {database} {role} peer"),
        Some(Host::Tcp { .. }) => {
            let words = said.split(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':'));
            // The last one: the message begins with the server's.
            let address = words.filter_map(|word| word.parse::<IpAddr>().ok()).next_back();
            let address = address.map_or_else(
                || "OUR-ADDRESS/32".to_owned(),
                |address| format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 }),
            );
            let tls = matches!(options.tls().mode, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull);
            let kind = if tls { "hostssl" } else { "host" };
            format!("{kind} {database} {role} {address} scram-sha-256")
        }
    };
    Remedy::Line { file: "pg_hba.conf", line, then: "reload" }
}

/// A name as SQL and `pg_hba.conf` both read it, whatever it is.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Environment;

    fn remedy(dsn: &str, class: FailureClass, sqlstate: Option<&str>, message: &str) -> Vec<Remedy> {
        let options = ConnectOptions::parse(dsn, &Environment::new(|_| None)).unwrap();
        let sqlstate = sqlstate.map(str::to_owned);
        remedies(&ConnectFailure { class, message: message.to_owned(), sqlstate }, &options)
    }

    #[test]
    fn the_line_for_pg_hba_names_the_address_that_the_server_saw() {
        let refused = |dsn: &str, message: &str| {
            let remedies = remedy(dsn, FailureClass::NoPgHbaEntry, Some("28000"), message);
            let [Remedy::Line { line, .. }] = remedies.as_slice() else { panic!("{remedies:?}") };
            line.clone()
        };
        let said =
            "10.0.0.9:5432: log in: FATAL: no pg_hba.conf entry for host \"192.0.2.7\", user \"a b\", database \"db\"";
        assert_eq!(
            refused("host=10.0.0.9 user='a b' dbname=db", said),
            "host \"db\" \"a b\" 192.0.2.7/32 scram-sha-256"
        );
        let german = "db1:5432: FATAL: kein pg_hba.conf-Eintrag für Host »2001:db8::7«, Benutzer »x«";
        assert_eq!(
            refused("host=db1 user=x sslmode=require", german),
            "hostssl \"postgres\" \"x\" 2001:db8::7/128 scram-sha-256"
        );
        assert_eq!(
            refused("user=x", "FATAL: no pg_hba.conf entry for host \"[local]\""),
            "local \"postgres\" \"x\" peer"
        );
    }

    #[test]
    fn a_name_cannot_end_the_statement() {
        let remedies = remedy("user='x\";y' dbname=d", FailureClass::Permission, Some("42501"), "no");
        assert_eq!(remedies, [Remedy::Sql("GRANT CONNECT ON DATABASE \"d\" TO \"x\"\";y\"".to_owned())]);
    }
}
