//! Where a command line points to.

use crate::server::{ConnectOptions, DsnError, Environment, Keywords, Password};

/// A server and a database as a command line names them; what it leaves out is libpq's to complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Host name, address or folder of the socket.
    pub host: Option<String>,
    /// Port.
    pub port: Option<String>,
    /// Database.
    pub database: Option<String>,
    /// Role.
    pub user: Option<String>,
    /// Section of the connection service file.
    pub service: Option<String>,
    /// The password itself.
    pub password: Option<Password>,
}

impl Target {
    /// How to connect there, completed from the environment as libpq does.
    ///
    /// # Errors
    ///
    /// A value that libpq would not understand, or no such service.
    pub fn options(&self, environment: &Environment) -> Result<ConnectOptions, DsnError> {
        let mut keywords = Keywords::default();
        let given = [
            ("host", &self.host),
            ("port", &self.port),
            ("dbname", &self.database),
            ("user", &self.user),
            ("service", &self.service),
        ];
        for (keyword, value) in given {
            if let Some(value) = value {
                keywords.set(keyword, value)?;
            }
        }
        let options = ConnectOptions::resolve(keywords, environment)?;
        Ok(match &self.password {
            Some(password) => options.with_password(password.clone()),
            None => options,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_comes_from_the_environment() {
        let environment = Environment::new(|name| match name {
            "PGHOST" => Some("db1".to_owned()),
            "PGPORT" => Some("5433".to_owned()),
            "USER" | "PGUSER" => Some("nagios".to_owned()),
            _ => None,
        });
        let target = Target { port: Some("5434".to_owned()), database: Some("a b".to_owned()), ..Target::default() };
        assert_eq!(target.options(&environment).unwrap().to_string(), "nagios@db1:5434/a b");
        let target = Target { port: Some("many".to_owned()), ..Target::default() };
        assert!(target.options(&environment).is_err());
    }
}
