//! Whether a server answers, and what it is.

use crate::check_pgactivity::{Answer, Call, Service, Status, Stop};
use crate::plugin::Row;

pub(super) const SERVICES: &[Service] = &[
    Service { name: "connection", help: "Perform a simple connection test.", run: |call| Box::pin(connection(call)) },
    Service {
        name: "is_hot_standby",
        help: "Check if cluster is a hot standby.",
        run: |call| Box::pin(is_hot_standby(call)),
    },
    Service { name: "is_master", help: "Check if cluster is in production.", run: |call| Box::pin(is_master(call)) },
];

async fn connection(mut call: Call) -> Result<Answer, Stop> {
    let mut host = call.one_host()?;
    let rows = host.try_rows("connection").await;
    let rows = rows.map_err(|error| Stop::refused(Status::Critical, None, &error))?;
    let message = Row::of(&rows)
        .next()
        .map(|row| format!("Connection successful at {}, on {}", row.text("stamp"), row.text("version")));
    Ok(Answer::new("POSTGRES_CONNECTION", Status::Ok, message.unwrap_or_default()))
}

async fn is_hot_standby(mut call: Call) -> Result<Answer, Stop> {
    Ok(if call.one_host()?.is_standby().await? {
        Answer::new("POSTGRES_IS_HOT_STANDBY", Status::Ok, "Cluster is hot standby")
    } else {
        Answer::new("POSTGRES_IS_HOT_STANDBY", Status::Critical, "Cluster is not hot standby")
    })
}

async fn is_master(mut call: Call) -> Result<Answer, Stop> {
    Ok(if call.one_host()?.is_standby().await? {
        Answer::new("POSTGRES_IS_MASTER", Status::Critical, "Cluster is not master")
    } else {
        Answer::new("POSTGRES_IS_MASTER", Status::Ok, "Cluster is master")
    })
}
