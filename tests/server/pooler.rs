use std::process::{Child, Stdio};

use pgvitals::server::{QueryFailure, Session, TlsCache};
use rustix::process::{Pid, Signal, kill_process};

use crate::postgres::{PATIENCE, Postgres, as_postgres, ask, free_port, put, until, value};
use crate::sessions::{SHORT, SLEEP, assert_gone};

struct PgBouncer {
    child: Child,
    port: u16,
}

impl PgBouncer {
    fn start(server: &Postgres, pool_mode: &str) -> Self {
        let port = free_port();
        let folder = server.folder().display();
        let ini = format!(
            "[databases]\n* = user=postgres host={folder} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = {pool_mode}\ndefault_pool_size = 1\n\
             logfile = {folder}/pgbouncer.log\nadmin_users = postgres\n",
            server.port()
        );
        let file = put(server.folder().join("pgbouncer.ini"), ini);
        let child = as_postgres("/usr/sbin/pgbouncer").arg("-q").arg(file).stderr(Stdio::null()).spawn().unwrap();
        Self { child, port }
    }

    fn dsn(&self) -> String {
        format!("host=127.0.0.1 port={} user=postgres", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        if let Some(id) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process(id, Signal::QUIT);
        }
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_pooled_connection_goes_back_to_the_application_as_it_was() {
    let server = Postgres::start("", "", |_| {}).await;
    server.run("CREATE DATABASE raw ENCODING 'SQL_ASCII' TEMPLATE template0");
    for mode in ["session", "transaction"] {
        let pooler = PgBouncer::start(&server, mode);
        let mut session = until(async || server.try_open(&pooler.dsn()).await.ok()).await;
        assert!(session.is_pooled());
        assert_eq!(session.version().to_string(), value(&mut session, "SHOW server_version_num").await);
        for (setting, expected) in [
            ("application_name", "pgvitals"),
            ("statement_timeout", "20s"),
            ("lock_timeout", "100ms"),
            ("transaction_read_only", "on"),
            ("search_path", "pg_catalog"),
        ] {
            assert_eq!(value(&mut session, &format!("SHOW {setting}")).await, expected, "{mode}: {setting}");
        }
        let refused = session.query("CREATE TABLE t ()", PATIENCE, PATIENCE).await.unwrap_err();
        assert!(matches!(refused, QueryFailure::Server { .. }), "{refused}");
        let mut raw = server.open(&format!("{} dbname=raw", pooler.dsn())).await;
        assert_eq!(value(&mut raw, "SELECT 'M' || chr(252) || 'ller'").await, "M?ller");
        if mode == "session" {
            continue;
        }
        // The pool has one server connection, which the application gets while our session is still open.
        let settings = "SELECT current_setting('default_transaction_read_only') || current_setting('statement_timeout') \
                        || current_setting('lock_timeout')";
        assert_eq!(server.psql(&pooler.dsn(), settings).as_deref(), Ok("off00"));
        assert_eq!(value(&mut session, "SELECT 1").await, "1");
        let failure = session.query(SLEEP, PATIENCE * 10, SHORT).await.unwrap_err();
        assert!(matches!(failure, QueryFailure::Deadline(_)), "{failure}");
        assert_gone(&mut server.open(&server.admin()).await).await;
    }
}

#[tokio::test]
async fn the_pooler_s_console_answers() {
    let server = Postgres::start("", "", |_| {}).await;
    let pooler = PgBouncer::start(&server, "transaction");
    let options = server.options(&format!("{} dbname=pgbouncer", pooler.dsn()));
    let tls = TlsCache::default();
    let mut console = until(async || Session::open_console(&options, PATIENCE, &tls).await.ok()).await;
    let rows = ask(&mut console, "SHOW DATABASES").await;
    assert!(rows.column("pool_size").is_some() && !rows.is_empty(), "{rows:?}");
}
