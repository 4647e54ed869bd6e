//! The servers that the environment names, as `postgres_exporter` and libpq read it.

use std::path::Path;

use super::dsn;
use super::environment::{Environment, read};
use super::keywords::{DsnError, Keywords};
use super::options::ConnectOptions;
use super::secret::Password;

impl Environment {
    /// The servers that the environment names; none means that it is for us to find them.
    ///
    /// In this order: `DATA_SOURCE_NAME`, a list of connection strings; `DATA_SOURCE_URI` with `DATA_SOURCE_USER` and
    /// `DATA_SOURCE_PASS`, each also as `…_FILE`; and `PGHOST`, `PGHOSTADDR`, `PGPORT` or `PGSERVICE`.
    pub fn servers(&self) -> Result<Vec<ConnectOptions>, DsnError> {
        if let Some(list) = self.get("DATA_SOURCE_NAME") {
            return dsn::split_list(&list).into_iter().map(|dsn| ConnectOptions::parse(dsn, self)).collect();
        }
        if let Some(uri) = self.text_or_file("DATA_SOURCE_URI")? {
            return self.data_source(&uri).map(|options| vec![options]);
        }
        if ["PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE"].iter().any(|name| self.get(name).is_some()) {
            return ConnectOptions::resolve(Keywords::default(), self).map(|options| vec![options]);
        }
        Ok(Vec::new())
    }

    fn data_source(&self, uri: &str) -> Result<ConnectOptions, DsnError> {
        let mut keywords = Keywords::default();
        if let Some(user) = self.text_or_file("DATA_SOURCE_USER")? {
            keywords.set("user", &user)?;
        }
        let keywords = dsn::parse(&format!("postgresql://{uri}"))?.over(keywords);
        // The file is read at every connection, as any password file, so that a rotated password is found.
        let password = match self.get("DATA_SOURCE_PASS_FILE") {
            Some(path) => Some(Password::File(path.into())),
            None => self.get("DATA_SOURCE_PASS").map(Password::given),
        };
        let options = ConnectOptions::resolve(keywords, self)?;
        Ok(match password {
            Some(password) => options.with_password(password),
            None => options,
        })
    }

    /// `NAME_FILE` wins over `NAME`, as in `postgres_exporter`.
    fn text_or_file(&self, name: &str) -> Result<Option<String>, DsnError> {
        match self.get(&format!("{name}_FILE")) {
            Some(path) => read(Path::new(&path)).map(|text| Some(text.trim().to_owned())),
            None => Ok(self.get(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &'static [(&str, &str)]) -> Environment {
        Environment::new(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn names(environment: &Environment) -> Vec<String> {
        environment.servers().unwrap().iter().map(ConnectOptions::name).collect()
    }

    #[test]
    fn an_environment_that_names_no_server_leaves_them_to_be_found() {
        assert!(names(&environment(&[("PGUSER", "monitor"), ("PGPASSWORD", "x"), ("HOME", "/nowhere")])).is_empty());
    }

    #[test]
    fn the_exporter_s_list_gives_one_server_each() {
        let environment = environment(&[("DATA_SOURCE_NAME", "postgresql://a:1/x,host=b port=2"), ("PGHOST", "c")]);
        assert_eq!(names(&environment), ["a:1", "b:2"]);
    }

    #[test]
    fn the_exporter_s_parts_make_one_server() {
        let environment = environment(&[
            ("DATA_SOURCE_URI", "h:5433/app?sslmode=disable"),
            ("DATA_SOURCE_USER", "me@site"),
            ("DATA_SOURCE_PASS", "p@:/ %"),
        ]);
        let options = &environment.servers().unwrap()[0];
        assert_eq!((options.name().as_str(), options.user(), options.database()), ("h:5433", "me@site", "app"));
        assert!(matches!(options.password(), Some(Password::Given(secret)) if secret.reveal() == "p@:/ %"));
    }

    proptest::proptest! {
        #[test]
        fn no_environment_makes_us_panic(values in proptest::collection::vec("(postgresql://)?[a-z0-9:/@=,'%?&. \\\\-]{0,20}", 12)) {
            const NAMES: [&str; 12] = [
                "DATA_SOURCE_NAME", "DATA_SOURCE_URI", "DATA_SOURCE_USER", "DATA_SOURCE_PASS", "PGHOST", "PGHOSTADDR",
                "PGPORT", "PGUSER", "PGSSLMODE", "PGSSLROOTCERT", "PGCONNECT_TIMEOUT", "PGTARGETSESSIONATTRS",
            ];
            // Each text in the place of each, as far as the one before it names no server.
            for first in 0..NAMES.len() {
                let values = values.clone();
                let value = move |name: &str| {
                    let at = NAMES.iter().position(|known| *known == name).filter(|at| *at >= first)?;
                    values.get(at).cloned()
                };
                if let Ok(servers) = Environment::new(value).servers() {
                    proptest::prop_assert!(servers.iter().all(|server| !server.hosts().is_empty()));
                }
            }
        }
    }

    #[test]
    fn a_connection_string_wins_over_variables() {
        let environment = environment(&[("PGHOST", "h"), ("PGPORT", "7"), ("PGUSER", "u"), ("PGDATABASE", "d")]);
        let options = ConnectOptions::parse("host=other user=me", &environment).unwrap();
        assert_eq!((options.name().as_str(), options.user(), options.database()), ("other:7", "me", "d"));
        assert_eq!(names(&environment), ["h:7"]);
    }
}
