//! Load for the demo: what pgbench does, slowly, and one session that makes another wait.

use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::cluster::Cluster;

const CLIENTS: u32 = 4;
const ACCOUNTS: u32 = 10_000;
const PAUSE: Duration = Duration::from_millis(20);

/// Clients at work; dropped, they end.
pub(super) struct Load {
    clients: JoinSet<()>,
}

impl Load {
    pub(super) async fn start(primary: &Cluster) -> anyhow::Result<Self> {
        primary
            .sql(
                "demo",
                &format!(
                    "CREATE TABLE accounts AS SELECT id, 0 AS balance FROM generate_series(1, {ACCOUNTS}) AS id;
                     ALTER TABLE accounts ADD PRIMARY KEY (id);
                     CREATE TABLE history (account int, amount int, at timestamptz DEFAULT now());
                     CREATE TABLE orders AS SELECT 1 AS id, 'open' AS state;"
                ),
            )
            .await
            .context("create the tables")?;
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let session = primary.client("demo").await.context("connect a client")?;
            clients.spawn(transfer(session, client));
        }
        let holder = primary.client("demo").await.context("connect the blocking client")?;
        // What one message holds is one text to the server, and a check shows no more of it than its first settings.
        holder.batch_execute("SET application_name = 'forgotten'; BEGIN").await?;
        holder.batch_execute("UPDATE orders SET state = 'paid'").await?;
        let waiter = primary.client("demo").await.context("connect the blocked client")?;
        waiter.batch_execute("SET application_name = 'waiting'").await?;
        clients.spawn(async move {
            // Ends when the demo does: the row it wants stays locked until then.
            let _ = waiter.batch_execute("UPDATE orders SET state = 'sent'").await;
            drop(holder);
        });
        Ok(Self { clients })
    }

    pub(super) async fn stop(mut self) {
        self.clients.shutdown().await;
    }
}

/// The transaction of pgbench's tpcb-like script, with a pause that keeps a laptop quiet.
async fn transfer(session: Client, client: u32) {
    for turn in 0_u32.. {
        let account = (turn.wrapping_mul(7_919).wrapping_add(client * 2_503)) % ACCOUNTS + 1;
        let amount = i64::from(turn % 100) - 50;
        let transaction = format!(
            "BEGIN; UPDATE accounts SET balance = balance + ({amount}) WHERE id = {account}; \
             SELECT balance FROM accounts WHERE id = {account}; \
             INSERT INTO history (account, amount) VALUES ({account}, {amount}); COMMIT"
        );
        if session.batch_execute(&transaction).await.is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
