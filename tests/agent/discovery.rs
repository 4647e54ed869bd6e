//! Clusters that are found: they appear, go, and are forgotten when somebody says so.

use std::fs;
use std::path::Path;

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::pair::{ROLE, prepare};
use crate::program::Program;

/// Only the folder is looked at: the fixture's /proc knows none of the clusters of this machine.
fn config(folder: &Path) -> String {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/host/bookworm");
    let (proc, sys) = (fixture.join("proc"), fixture.join("sys"));
    let [folder, proc, sys] = [folder, &proc, &sys].map(Path::display);
    format!(
        "[discovery]\nfolder = '{folder}'\ninterval = \"1s\"\nuser = \"{ROLE}\"\n\
         [host]\nproc = '{proc}'\nsys = '{sys}'\n"
    )
}

/// What Debian's `pg_createcluster` leaves in /etc, as far as it matters here.
fn announce(folder: &Path, cluster: &Cluster) {
    let conf = format!("port = {}\nunix_socket_directories = '{}'\n", cluster.port(), cluster.socket_dir().display());
    let place = folder.join("17/main");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("postgresql.conf"), conf).unwrap();
}

#[tokio::test]
async fn a_cluster_that_appears_is_watched_and_one_that_goes_is_down_until_a_reload() {
    const UP: &str = "pg_up";
    let folder = TempDir::new().unwrap();
    let program = Program::start(&config(folder.path()));
    assert!(program.facts().values(UP, &[]).is_empty());
    let mut cluster = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    prepare(&cluster).await;
    announce(folder.path(), &cluster);
    program.facts_until("the cluster is watched", |facts| facts.values(UP, &["server=\"17/main\""]) == [1.0]);
    cluster.stop().await.unwrap();
    fs::remove_dir_all(folder.path().join("17")).unwrap();
    assert_eq!(program.facts().values(UP, &["server=\"17/main\""]), [0.0]);
    program.signal(Signal::HUP);
    program.facts_until("the cluster is forgotten", |facts| facts.values(UP, &[]).is_empty());
}
