//! Where a command line points to: groups of hosts, ports, databases and roles.

use super::options::Options;
use crate::plugin::Target;
use crate::server::{Environment, Password};

/// The port that a header does not name.
const USUAL_PORT: &str = "5432";

/// One place to ask, with everything completed as the original completes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Host name, address or folder of the socket; `None` is the socket of this host.
    pub host: Option<String>,
    /// The port.
    pub port: String,
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// The service, in place of all of them.
    pub service: Option<String>,
    password: Option<String>,
}

impl Place {
    /// How a header names it: by database, or by service where the action is about a database and one is given.
    pub fn header(&self, is_clusterwide: bool) -> String {
        let mut header = match &self.service {
            Some(service) if !is_clusterwide => format!("service={service}"),
            _ => format!("DB \"{}\"", self.database),
        };
        if let Some(host) = &self.host {
            header += &format!(" (host:{host})");
        }
        if self.port != USUAL_PORT {
            header += &format!(" (port={})", self.port);
        }
        header
    }

    /// How it is told in full.
    pub fn in_full(&self) -> String {
        if let Some(service) = &self.service {
            return format!("service={service}");
        }
        let host = self.host.as_deref().unwrap_or("<none>");
        format!("port={} host={host} db={} user={}", self.port, self.database, self.user)
    }

    /// What is to be completed by the environment. A service stands for all but the password.
    pub fn target(&self) -> Target {
        let password = self.password.clone().map(Password::given);
        if self.service.is_some() {
            return Target { service: self.service.clone(), password, ..Target::default() };
        }
        Target {
            host: self.host.clone(),
            port: Some(self.port.clone()),
            database: Some(self.database.clone()),
            user: Some(self.user.clone()),
            service: None,
            password,
        }
    }
}

const HOST: usize = 0;
const PORT: usize = 1;
const DATABASE: usize = 2;
const USER: usize = 3;
const PASSWORD: usize = 4;
const SERVICE: usize = 5;
/// What a place has, as the options call it.
const VARIABLES: [&str; 6] = ["host", "port", "dbname", "dbuser", "dbpass", "dbservice"];

/// The places that the options name. The n-th value of each option belongs to the n-th group; within a group lists with
/// commas go together by position, and what is missing is as it was before.
pub fn places(options: &Options, environment: &Environment, database: &str) -> Vec<Place> {
    let from = |name: &str, default: &str| vec![environment.get(name).unwrap_or_else(|| default.to_owned())];
    let mut current: [Vec<String>; 6] = [
        from("PGHOST", ""),
        from("PGPORT", USUAL_PORT),
        from("PGDATABASE", database),
        from("PGUSER", "postgres"),
        from("PGPASSWORD", ""),
        vec![String::new()],
    ];
    // A password may hold commas: it is a list only where something else is.
    let is_list = VARIABLES.iter().any(|name| {
        let values = options.list(name);
        *name != "dbpass" && (values.len() > 1 || values.first().is_some_and(|value| value.contains(',')))
    });
    let mut places = Vec::new();
    for group in 0.. {
        let mut is_new = false;
        for (name, values) in VARIABLES.iter().zip(&mut current) {
            let Some(given) = options.list(name).get(group) else { continue };
            let given: String = match *name {
                "dbservice" | "host" | "dbpass" => given.clone(),
                _ => given.split_whitespace().collect(),
            };
            *values = if is_list { given.split(',').map(str::to_owned).collect() } else { vec![given] };
            is_new = true;
        }
        if !is_new && !places.is_empty() {
            break;
        }
        let lists = current.clone();
        for position in 0..lists.iter().map(Vec::len).max().unwrap_or_default() {
            for (list, values) in lists.iter().zip(&mut current) {
                if let Some(value) = list.get(position) {
                    *values = vec![value.clone()];
                }
            }
            places.push(place(&current));
        }
        if !is_new {
            break;
        }
    }
    places
}

fn place(values: &[Vec<String>; 6]) -> Place {
    let value = |at: usize| values.get(at).and_then(|values| values.first()).cloned().unwrap_or_default();
    let given = |at: usize| Some(value(at)).filter(|value| !value.is_empty());
    Place {
        host: given(HOST).filter(|host| host != "<none>"),
        port: value(PORT),
        database: value(DATABASE),
        user: value(USER),
        password: given(PASSWORD),
        service: given(SERVICE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(arguments: &[&str]) -> Vec<String> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let options = Options::read(&arguments, &[]).unwrap();
        let environment = Environment::new(|_| None);
        places(&options, &environment, "postgres").iter().map(Place::in_full).collect()
    }

    #[test]
    fn values_go_together_by_position() {
        assert_eq!(named(&["--quiet"]), ["port=5432 host=<none> db=postgres user=postgres"]);
        assert_eq!(
            named(&["--host=a,b", "--dbname=c,d"]),
            ["port=5432 host=a db=c user=postgres", "port=5432 host=b db=d user=postgres"]
        );
        let two = ["port=1 host=<none> db=postgres user=postgres", "port=2 host=<none> db=postgres user=postgres"];
        assert_eq!(named(&["-p", "1,2"]), two);
        assert_eq!(named(&["-p", "1", "-p", "2"]), two);
        assert_eq!(
            named(&["--host=a,b", "--host=x", "--port=5,6", "--dbuser=alice", "--dbuser=bob", "--db=baz"]),
            ["port=5 host=a db=baz user=alice", "port=6 host=b db=baz user=alice", "port=6 host=x db=baz user=bob"]
        );
    }

    #[test]
    fn a_password_with_commas_is_one_unless_there_are_several_places() {
        let read = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
            let options = Options::read(&arguments, &[]).unwrap();
            let places = places(&options, &Environment::new(|_| None), "postgres");
            places.into_iter().filter_map(|place| place.password).collect::<Vec<_>>()
        };
        assert_eq!(read(&["--dbpass=a, b"]), ["a, b"]);
        assert_eq!(read(&["--dbpass=a,b", "--host=x,y"]), ["a", "b"]);
    }

    #[test]
    fn the_header_leaves_out_what_is_usual() {
        let place = Place { database: "app".to_owned(), port: "5432".to_owned(), ..Place::default() };
        assert_eq!(place.header(true), "DB \"app\"");
        let place = Place { host: Some("h".to_owned()), port: "1".to_owned(), service: Some("s".to_owned()), ..place };
        assert_eq!(place.header(true), "DB \"app\" (host:h) (port=1)");
        assert_eq!(place.header(false), "service=s (host:h) (port=1)");
    }
}
