//! Sessions through `PgBouncer`, and its console.

use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use pgvitals::demo::cluster::Cluster;
use pgvitals::server::{QueryFailure, Session, TlsCache};

use crate::client::{self, LIMIT, ask, give, open, options, psql, value};
use crate::program::{free_port, until};
use crate::sessions::{SHORT, SLEEP, assert_gone};

/// A `PgBouncer` before a cluster; ended when dropped.
pub(crate) struct PgBouncer {
    child: Child,
    port: u16,
}

impl PgBouncer {
    /// Starts it; it takes connections when this returns.
    pub(crate) fn start(server: &Cluster, pool_mode: &str) -> Self {
        let port = free_port();
        let (sockets, folder) = (server.socket_dir(), server.data());
        let (sockets, folder) = (sockets.display(), folder.display());
        let ini = format!(
            "[databases]\n* = user=postgres host={sockets} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = {pool_mode}\ndefault_pool_size = 1\n\
             logfile = {folder}/pgbouncer.log\nadmin_users = postgres\n",
            server.port()
        );
        let file = give(server, "pgbouncer.ini", ini);
        // It refuses to run as root.
        let account = file.metadata().unwrap();
        let child = Command::new("/usr/sbin/pgbouncer")
            .arg("-q")
            .arg(file)
            .current_dir("/")
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .uid(account.uid())
            .gid(account.gid())
            .spawn()
            .expect("start /usr/sbin/pgbouncer, from Debian's pgbouncer");
        let pooler = Self { child, port };
        until("the pooler listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        pooler
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn dsn(&self) -> String {
        format!("host=127.0.0.1 port={} user=postgres", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // Other signals may be ignored, by what started us too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_pooled_connection_goes_back_to_the_application_as_it_was() {
    let server = client::start(&[]).await;
    server.sql("postgres", "CREATE DATABASE raw ENCODING 'SQL_ASCII' TEMPLATE template0").await.unwrap();
    for mode in ["session", "transaction"] {
        let pooler = PgBouncer::start(&server, mode);
        let mut session = open(&server, &pooler.dsn()).await;
        assert!(session.is_pooled());
        assert_eq!(session.version().to_string(), value(&mut session, "SHOW server_version_num").await);
        for (setting, expected) in [
            ("application_name", "pgvitals"),
            ("statement_timeout", "20s"),
            ("lock_timeout", "100ms"),
            ("transaction_read_only", "on"),
            ("search_path", "pg_catalog, pg_temp"),
        ] {
            assert_eq!(value(&mut session, &format!("SHOW {setting}")).await, expected, "{mode}: {setting}");
        }
        let refused = session.query("CREATE TABLE t ()", LIMIT, LIMIT).await.unwrap_err();
        assert!(matches!(refused, QueryFailure::Server { .. }), "{refused}");
        let mut raw = open(&server, &format!("{} dbname=raw", pooler.dsn())).await;
        assert_eq!(value(&mut raw, "SELECT 'M' || chr(252) || 'ller'").await, "M?ller");
        if mode == "session" {
            continue;
        }
        // The pool has one server connection, which the application gets while our session is still open.
        let settings = "SELECT current_setting('default_transaction_read_only') || current_setting('statement_timeout') \
                        || current_setting('lock_timeout')";
        assert_eq!(psql(&server, &pooler.dsn(), settings).await.as_deref(), Ok("off00"));
        assert_eq!(value(&mut session, "SELECT 1").await, "1");
        let failure = session.query(SLEEP, LIMIT * 10, SHORT).await.unwrap_err();
        assert!(matches!(failure, QueryFailure::Deadline(_)), "{failure}");
        assert_gone(&server).await;
    }
}

#[tokio::test]
async fn the_pooler_s_console_answers() {
    let server = client::start(&[]).await;
    let pooler = PgBouncer::start(&server, "transaction");
    let options = options(&server, &format!("{} dbname=pgbouncer", pooler.dsn()));
    let mut console = Session::open_console(&options, LIMIT, &TlsCache::default()).await.unwrap();
    let rows = ask(&mut console, "SHOW DATABASES").await;
    assert!(rows.column("pool_size").is_some() && !rows.is_empty(), "{rows:?}");
}
