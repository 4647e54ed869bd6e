//! What a definition needs its role to be allowed: declared once, and from it the test, the reason and the remedy.

use std::collections::BTreeMap;
use std::fmt;

/// The role that everybody is told to grant, because it holds nearly all that definitions need.
const MONITOR: &str = "pg_monitor";

/// One privilege, as the key `needs` of a definition names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The privileges of a predefined role, such as `pg_read_all_stats`. Without them views and settings hide what
    /// belongs to others (PostgreSQL's manual, "Predefined Roles").
    Role(String),
    /// To execute a function.
    Execute {
        /// Where it is.
        schema: Schema,
        /// Its name.
        name: String,
        /// The types of its arguments as `oidvectortypes` writes them: `boolean, text`.
        arguments: String,
    },
    /// To read a table or view.
    Select {
        /// Where it is.
        schema: Schema,
        /// Its name.
        name: String,
    },
    /// To look up anything in a schema.
    Usage(Schema),
}

/// Where something is that is needed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Schema {
    /// In this schema.
    Named(String),
    /// In the schema of this extension, whatever it is called.
    OfExtension(String),
}

/// A need that is not met, by what would meet it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Membership in `pg_monitor` would.
    Monitor,
    /// Only a grant of its own would.
    Direct,
}

/// The role that something would be granted to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grantee {
    /// Its name, quoted as SQL wants it.
    pub name: String,
    /// `server_version_num` of its server.
    pub version: u32,
    /// Whether it has the privileges of the roles that are granted to it, unless the grant says otherwise.
    pub inherits: bool,
    /// Whether it is a member of `pg_monitor` already; on 16 and newer perhaps one that does not inherit.
    pub is_monitor: bool,
}

impl Need {
    /// Reads what stands in `needs`: a predefined role, `EXECUTE ON FUNCTION schema.name(types)` or
    /// `SELECT ON TABLE schema.name`. `{schema}` is the schema of the extension.
    ///
    /// # Errors
    ///
    /// What was expected.
    pub(super) fn parse(text: &str, extension: Option<&str>) -> Result<Self, String> {
        let expected = || {
            format!(
                "expected a predefined role such as \"pg_read_all_stats\", \"EXECUTE ON FUNCTION schema.name(types)\" \
                 or \"SELECT ON TABLE schema.name\", got \"{text}\""
            )
        };
        if let Some(function) = text.strip_prefix("EXECUTE ON FUNCTION ") {
            let (path, arguments) =
                function.strip_suffix(')').and_then(|function| function.split_once('(')).ok_or_else(expected)?;
            let (schema, name) = path_of(path, extension)?.ok_or_else(expected)?;
            if !arguments.chars().all(|c| is_plain(c) || " ,.[]".contains(c)) {
                return Err(expected());
            }
            return Ok(Self::Execute { schema, name, arguments: arguments.to_owned() });
        }
        if let Some(path) = text.strip_prefix("SELECT ON TABLE ") {
            let (schema, name) = path_of(path, extension)?.ok_or_else(expected)?;
            return Ok(Self::Select { schema, name });
        }
        (text.starts_with("pg_") && text.chars().all(is_plain))
            .then(|| Self::Role(text.to_owned()))
            .ok_or_else(expected)
    }

    /// That the schema of an extension is open.
    pub(super) fn usage_of(extension: &str) -> Self {
        Self::Usage(Schema::OfExtension(extension.to_owned()))
    }

    /// The schema that must be open for this need to be of any use; none where it always is.
    pub(super) fn usage(&self) -> Option<Self> {
        match self {
            Self::Execute { schema, .. } | Self::Select { schema, .. } if !schema.is_catalog() => {
                Some(Self::Usage(schema.clone()))
            }
            _ => None,
        }
    }

    /// An SQL expression: whether our role has it; NULL where this server has no such thing, or where it cannot be told
    /// because the schema is closed, which is a need of its own. Looks up nothing that could be refused: that would be an
    /// error. What belongs to an extension is only told in a row where `e` is the extension's of `pg_extension`, and `n`
    /// its schema.
    pub fn test(&self) -> String {
        if let Some(held) = self.held("") {
            return held;
        }
        let usage = |schema: &Schema| format!("pg_catalog.has_schema_privilege({}, 'USAGE')", schema.oid());
        match self {
            Self::Role(_) => "NULL".to_owned(),
            Self::Usage(schema) => schema.in_its_row(&usage(schema)),
            Self::Execute { schema, name, arguments } => {
                let path = schema.path(&format!("{name}({arguments})"));
                let held = format!("pg_catalog.has_function_privilege(pg_catalog.to_regprocedure({path}), 'EXECUTE')");
                schema.in_its_row(&format!("CASE WHEN {} THEN {held} END", usage(schema)))
            }
            Self::Select { schema, name } => {
                let held =
                    format!("pg_catalog.has_table_privilege(pg_catalog.to_regclass({}), 'SELECT')", schema.path(name));
                schema.in_its_row(&format!("CASE WHEN {} THEN {held} END", usage(schema)))
            }
        }
    }

    /// An SQL expression: whether `pg_monitor` has it.
    pub fn test_of_monitor(&self) -> String {
        self.held(&format!("'{MONITOR}'::pg_catalog.name, ")).unwrap_or_else(|| "false".to_owned())
    }

    /// Whether somebody has what the server brings along; nothing for what people put there.
    fn held(&self, who: &str) -> Option<String> {
        match self {
            Self::Role(role) => {
                Some(format!("pg_catalog.pg_has_role({who}pg_catalog.to_regrole({}), 'USAGE')", literal(role)))
            }
            Self::Execute { schema, name, arguments } if schema.is_catalog() => {
                let path = schema.path(&format!("{name}({arguments})"));
                Some(format!("pg_catalog.has_function_privilege({who}pg_catalog.to_regprocedure({path}), 'EXECUTE')"))
            }
            Self::Select { schema, name } if schema.is_catalog() => {
                let path = schema.path(name);
                Some(format!("pg_catalog.has_table_privilege({who}pg_catalog.to_regclass({path}), 'SELECT')"))
            }
            _ => None,
        }
    }

    /// The statements that meet it, for a superuser, in the database we connect to. `schemas` are the quoted schemas of
    /// extensions.
    pub fn grants(&self, lack: Lack, to: &Grantee, schemas: &BTreeMap<String, String>) -> Vec<String> {
        let role = &to.name;
        match (lack, self) {
            (Lack::Monitor, _) => to.membership(MONITOR, to.is_monitor),
            (Lack::Direct, Self::Role(name)) => to.membership(name, false),
            (Lack::Direct, Self::Usage(schema)) => {
                vec![format!("GRANT USAGE ON SCHEMA {} TO {role}", schema.written(schemas))]
            }
            (Lack::Direct, Self::Execute { schema, name, arguments }) => {
                let schema = schema.written(schemas);
                vec![format!("GRANT EXECUTE ON FUNCTION {schema}.{name}({arguments}) TO {role}")]
            }
            (Lack::Direct, Self::Select { schema, name }) => {
                vec![format!("GRANT SELECT ON TABLE {}.{name} TO {role}", schema.written(schemas))]
            }
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = BTreeMap::new();
        match self {
            Self::Role(name) => write!(f, "the privileges of {name}"),
            Self::Execute { schema, name, arguments } => {
                write!(f, "EXECUTE ON FUNCTION {}.{name}({arguments})", schema.written(&none))
            }
            Self::Select { schema, name } => write!(f, "SELECT ON TABLE {}.{name}", schema.written(&none)),
            Self::Usage(schema) => write!(f, "USAGE ON SCHEMA {}", schema.written(&none)),
        }
    }
}

impl Schema {
    fn is_catalog(&self) -> bool {
        matches!(self, Self::Named(name) if name == "pg_catalog")
    }

    fn oid(&self) -> String {
        match self {
            Self::Named(name) => format!("pg_catalog.to_regnamespace({})", literal(name)),
            Self::OfExtension(_) => "e.extnamespace".to_owned(),
        }
    }

    /// An SQL expression for the full name of something in it.
    fn path(&self, object: &str) -> String {
        match self {
            Self::Named(name) => literal(&format!("{name}.{object}")),
            Self::OfExtension(_) => format!("pg_catalog.quote_ident(n.nspname) || {}", literal(&format!(".{object}"))),
        }
    }

    fn in_its_row(&self, expression: &str) -> String {
        match self {
            Self::Named(_) => expression.to_owned(),
            Self::OfExtension(name) => format!("CASE WHEN e.extname = {} THEN {expression} END", literal(name)),
        }
    }

    fn written(&self, schemas: &BTreeMap<String, String>) -> String {
        match self {
            Self::Named(name) => name.clone(),
            Self::OfExtension(name) => schemas.get(name).cloned().unwrap_or_else(|| format!("{{schema of {name}}}")),
        }
    }
}

impl Grantee {
    /// The statements that give it the privileges of a role.
    fn membership(&self, name: &str, is_member: bool) -> Vec<String> {
        let role = &self.name;
        let grant = format!("GRANT {name} TO {role}");
        if self.version >= 160_000 {
            // 16 decides by the grant, and a second one without the option leaves the first one as it was.
            let option = if self.inherits && !is_member { "" } else { " WITH INHERIT TRUE" };
            return vec![grant + option];
        }
        let inherit = (!self.inherits).then(|| format!("ALTER ROLE {role} INHERIT"));
        inherit.into_iter().chain((!is_member).then_some(grant)).collect()
    }
}

/// Names here are plain, so that quotes are all there is to mind.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn is_plain(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

/// `schema.name`; none where it is not of that form.
fn path_of(path: &str, extension: Option<&str>) -> Result<Option<(Schema, String)>, String> {
    let Some((schema, name)) = path.split_once('.') else { return Ok(None) };
    let is_name = |text: &str| !text.is_empty() && text.chars().all(is_plain);
    let schema = match (schema, extension) {
        ("{schema}", Some(extension)) => Schema::OfExtension(extension.to_owned()),
        ("{schema}", None) => return Err("expected `extension`: {schema} is the schema of one".to_owned()),
        (schema, _) if is_name(schema) => Schema::Named(schema.to_owned()),
        _ => return Ok(None),
    };
    Ok(is_name(name).then(|| (schema, name.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grantee(version: u32, inherits: bool, is_monitor: bool) -> Grantee {
        Grantee { name: "\"Mo Nitor\"".to_owned(), version, inherits, is_monitor }
    }

    #[test]
    fn a_need_is_read_strictly() {
        let parse = |text: &str| Need::parse(text, Some("pg_x")).map(|need| need.to_string());
        for text in [
            "EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir()",
            "EXECUTE ON FUNCTION mine.f(integer, text[])",
            "SELECT ON TABLE mine.t",
        ] {
            assert_eq!(parse(text).as_deref(), Ok(text));
        }
        assert_eq!(parse("pg_read_all_stats").as_deref(), Ok("the privileges of pg_read_all_stats"));
        for wrong in [
            "monitor",
            "pg_Monitor",
            "SELECT ON TABLE t",
            "SELECT ON TABLE a.b.c",
            "EXECUTE ON FUNCTION pg_ls_waldir()",
            "EXECUTE ON FUNCTION a.b",
            "EXECUTE ON FUNCTION a.b(')",
            "execute on function a.b()",
            "",
        ] {
            assert!(parse(wrong).is_err_and(|reason| reason.starts_with("expected a predefined role")), "{wrong}");
        }
        let error = Need::parse("SELECT ON TABLE {schema}.t", None).unwrap_err();
        assert_eq!(error, "expected `extension`: {schema} is the schema of one");
    }

    #[test]
    fn what_is_granted_takes_effect_for_roles_that_do_not_inherit() {
        let schemas = BTreeMap::new();
        let need = Need::Role("pg_read_all_stats".to_owned());
        for (to, expected) in [
            (grantee(150_000, true, false), &["GRANT pg_monitor TO \"Mo Nitor\""] as &[&str]),
            (grantee(150_000, false, true), &["ALTER ROLE \"Mo Nitor\" INHERIT"]),
            (grantee(100_000, false, false), &["ALTER ROLE \"Mo Nitor\" INHERIT", "GRANT pg_monitor TO \"Mo Nitor\""]),
            (grantee(160_000, true, false), &["GRANT pg_monitor TO \"Mo Nitor\""]),
            (grantee(160_000, true, true), &["GRANT pg_monitor TO \"Mo Nitor\" WITH INHERIT TRUE"]),
            (grantee(180_000, false, false), &["GRANT pg_monitor TO \"Mo Nitor\" WITH INHERIT TRUE"]),
        ] {
            assert_eq!(need.grants(Lack::Monitor, &to, &schemas), expected, "{to:?}");
        }
    }

    #[test]
    fn what_pg_monitor_does_not_hold_is_granted_by_its_own_name() {
        let schemas = BTreeMap::from([("pg_x".to_owned(), "\"My Schema\"".to_owned())]);
        let grant = |text: &str| {
            let need = Need::parse(text, Some("pg_x")).unwrap();
            let all = need.usage().into_iter().chain([need]);
            all.flat_map(|need| need.grants(Lack::Direct, &grantee(170_000, true, true), &schemas)).collect::<Vec<_>>()
        };
        assert_eq!(
            grant("EXECUTE ON FUNCTION {schema}.f(boolean)"),
            [
                "GRANT USAGE ON SCHEMA \"My Schema\" TO \"Mo Nitor\"",
                "GRANT EXECUTE ON FUNCTION \"My Schema\".f(boolean) TO \"Mo Nitor\""
            ]
        );
        assert_eq!(
            grant("EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir()"),
            ["GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir() TO \"Mo Nitor\""]
        );
        assert_eq!(grant("pg_read_all_stats"), ["GRANT pg_read_all_stats TO \"Mo Nitor\""]);
    }
}
