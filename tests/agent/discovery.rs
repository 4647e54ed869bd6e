//! Clusters that are found: they appear, go, and are forgotten when somebody says so.

use std::fs;
use std::path::Path;

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::pair::{ROLE, prepare};
use crate::program::{Facts, Program};

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
    announce_at(folder, cluster, cluster.port());
}

fn announce_at(folder: &Path, cluster: &Cluster, port: u16) {
    let conf = format!("port = {port}\nunix_socket_directories = '{}'\n", cluster.socket_dir().display());
    let place = folder.join("17/main");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("postgresql.conf"), conf).unwrap();
}

/// Whoever makes a cluster writes its configuration bit by bit, and an administrator may give it another port.
#[tokio::test]
async fn a_cluster_found_at_another_address_is_followed_there() {
    let folder = TempDir::new().unwrap();
    let mut cluster = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    prepare(&cluster).await;
    announce_at(folder.path(), &cluster, 1);
    let program = Program::start(&config(folder.path()));
    let up = |value| move |facts: &Facts| facts.values("pg_up", &["server=\"17/main\""]) == [value];
    program.facts_until("it is down at the wrong port", up(0.0));
    announce(folder.path(), &cluster);
    program.facts_until("it is watched at its port", up(1.0));
    cluster.stop().await.unwrap();
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
