//! What `pgvitals generate` writes, in the hands of those it is written for: a real Nagios, Icinga 2, and Checkmk's shell.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use pgvitals::catalog::Catalog;
use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::command::{pgvitals, run};
use crate::nrpe::{Nrpe, commands_of};
use crate::pair::{ROLE, prepare};
use crate::program::{BINARY, Program, until};

/// What Nagios' samples define, and a host with a PostgreSQL server. A second is its unit of time.
const OBJECTS: &str = "
define timeperiod {
    timeperiod_name  always
    alias            always
    monday           00:00-24:00
    tuesday          00:00-24:00
    wednesday        00:00-24:00
    thursday         00:00-24:00
    friday           00:00-24:00
    saturday         00:00-24:00
    sunday           00:00-24:00
}
define contact {
    contact_name                   dba
    service_notification_commands  nobody
    host_notification_commands     nobody
    service_notification_period    always
    host_notification_period       always
}
define command {
    command_name  nobody
    command_line  /bin/true
}
define service {
    name                generic-service
    max_check_attempts  1
    check_period        always
    contacts            dba
    notifications_enabled  0
    register            0
}
define host {
    host_name              db1
    address                127.0.0.1
    hostgroups             pg-servers
    max_check_attempts     1
    contacts               dba
    notifications_enabled  0
}
";

/// A Nagios in a folder of its own; killed when dropped.
struct Nagios {
    folder: TempDir,
    config: PathBuf,
    daemon: Option<Child>,
}

impl Nagios {
    /// Writes its configuration with these objects.
    fn new(objects: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let root = folder.path();
        for name in ["", "results"] {
            let place = root.join(name);
            fs::create_dir_all(&place).unwrap();
            // Who starts it as root has it run as nobody, as a host has it run as nagios.
            fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
        }
        fs::write(root.join("objects.cfg"), OBJECTS).unwrap();
        fs::write(root.join("pgvitals.cfg"), objects).unwrap();
        let place = root.display();
        let config = root.join("nagios.cfg");
        // Every five of its minutes, which last a second here: 27 checks in that time are what two processors can take.
        let text = format!(
            "cfg_file={place}/objects.cfg\ncfg_file={place}/pgvitals.cfg\nlog_file={place}/log\n\
             status_file={place}/status\nstatus_update_interval=1\nobject_cache_file={place}/objects.cache\n\
             lock_file={place}/lock\ntemp_file={place}/temp\ntemp_path={place}\n\
             check_result_path={place}/results\nquery_socket={place}/query\n\
             nagios_user=nobody\nnagios_group=nogroup\ninterval_length=1\nuse_syslog=0\n\
             check_external_commands=0\nretain_state_information=0\nenable_notifications=0\n\
             enable_event_handlers=0\nservice_check_timeout=60\ncheck_for_updates=0\n"
        );
        fs::write(&config, text).unwrap();
        Self { folder, config, daemon: None }
    }

    /// What it says of its configuration; none if all is well.
    async fn verify(&self) -> Option<String> {
        let mut command = Command::new("/usr/sbin/nagios4");
        command.arg("-v").arg(&self.config);
        let ended = run(command).await;
        let is_sound = ended.stdout.contains("Total Errors:   0") && ended.code == 0;
        (!is_sound).then_some(ended.stdout)
    }

    fn start(&mut self) {
        let mut command = Command::new("/usr/sbin/nagios4");
        command.arg(&self.config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        self.daemon = Some(command.spawn().expect("nagios4, which tests/setup installs"));
    }

    /// Waits until its state file says that a service is in this state and why.
    fn until(&self, service: &str, state: u8, why: &str) {
        let what = format!("{service} is in state {state}: {why}");
        until(&what, || {
            let status = fs::read_to_string(self.folder.path().join("status")).unwrap_or_default();
            let of_service = |block: &&str| block.contains(&format!("service_description={service}\n"));
            let block = status.split("servicestatus {").find(of_service).unwrap_or_default();
            block.contains(&format!("current_state={state}\n")) && block.contains(why)
        });
    }
}

async fn cluster() -> Cluster {
    let settings = Settings { tcp: true, ..Settings::default() };
    let cluster = Cluster::start(&Binaries::major(16).unwrap(), settings).await.unwrap();
    prepare(&cluster).await;
    cluster
}

/// The binary where everybody may run it.
fn program_in(folder: &Path) -> PathBuf {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.join("pgvitals");
    fs::copy(BINARY, &program).unwrap();
    program
}

#[tokio::test]
async fn nagios_turns_red_when_a_server_goes_and_green_when_it_comes_back() {
    let mut cluster = cluster().await;
    let folder = TempDir::new().unwrap();
    let program = program_in(folder.path());
    let there = format!("-H 127.0.0.1 -p {} -U {ROLE} -d postgres", cluster.port());
    let nrpe = Nrpe::start(folder.path(), &commands_of(&program, &there).await).await;
    let written = pgvitals(&["generate", "nagios"]).await.stdout;
    let through_nrpe = written
        .replace("check_pgvitals!", "check_pgvitals_nrpe!")
        .replace("check_nrpe -H", &format!("check_nrpe -n -t 30 -p {} -H", nrpe.port()))
        .replace("check_interval        1", "check_interval        5");
    let mut nagios = Nagios::new(&through_nrpe);
    assert_eq!(nagios.verify().await, None);
    nagios.start();
    nagios.until("pgvitals online", 0, "PGVITALS ONLINE OK");
    cluster.stop().await.unwrap();
    nagios.until("pgvitals online", 2, "Connection refused");
    cluster.start_again().await.unwrap();
    nagios.until("pgvitals online", 0, "performance_data=online=1;;1:");
}

#[tokio::test]
async fn nagios_takes_what_is_generated_as_it_is() {
    let written = pgvitals(&["generate", "nagios"]).await.stdout;
    assert_eq!(Nagios::new(&written).verify().await, None);
    let wrong = Nagios::new(&written.replace("hostgroup_name        pg-servers", "hostgroup_name  nobody"));
    assert!(wrong.verify().await.is_some(), "it would say so");
}

#[tokio::test]
async fn icinga_takes_what_is_generated_as_it_is() {
    let folder = TempDir::new().unwrap();
    // Who starts it as root has it run as nagios.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let host = "include <itl>\nobject Host \"db1\" {\n  address = \"127.0.0.1\"\n  check_command = \"dummy\"\n  vars.postgresql = true\n}\n";
    let judge = async |written: &str| {
        let file = folder.path().join("icinga2.conf");
        fs::write(&file, format!("{host}{written}")).unwrap();
        let mut command = Command::new("/usr/sbin/icinga2");
        command.args(["daemon", "-C", "-c"]).arg(file);
        for place in ["CacheDir", "DataDir", "LogDir", "InitRunDir", "SpoolDir"] {
            command.args(["-D", &format!("{place}={}", folder.path().display())]);
        }
        run(command).await
    };
    let written = pgvitals(&["generate", "icinga2"]).await.stdout;
    let ended = judge(&written).await;
    let services = format!("Instantiated {} Services.", Catalog::built_in().unwrap().checks().len());
    assert!(ended.code == 0 && ended.stdout.contains(&services), "{ended:?}");
    assert_ne!(judge(&written.replace("import \"pgvitals\"", "import \"nobody\"")).await.code, 0);
}

/// The lines of Checkmk's local check, with this program in the place of the binary.
async fn local_check(folder: &Path, arguments: &str) -> Vec<String> {
    let script = pgvitals(&["generate", "checkmk-local"]).await.stdout;
    let script = script.replace("program=/usr/local/bin/pgvitals", &format!("program={BINARY}"));
    let file = folder.join("local");
    fs::write(&file, script.replace("--timeout 8", arguments)).unwrap();
    let mut command = Command::new("/bin/sh");
    command.arg(file);
    let ended = run(command).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    ended.stdout.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn checkmk_reads_one_line_per_check_with_its_metrics() {
    let cluster = cluster().await;
    let (host, port) = (cluster.socket_dir(), cluster.port());
    let config = format!(
        "[[server]]\nname = \"a\"\ndsn = \"host={} port={port} user={ROLE} dbname=postgres\"\n",
        host.display()
    );
    let agent = Program::start(&config);
    let folder = TempDir::new().unwrap();
    let lines = local_check(folder.path(), &format!("--timeout 8 --agent http://{}", agent.address())).await;
    assert_eq!(lines.len(), Catalog::built_in().unwrap().checks().len());
    for line in &lines {
        // STATUS "NAME" METRICS TEXT
        let (status, rest) = line.split_once(" \"pgvitals ").unwrap_or_else(|| panic!("{line}"));
        let (_, rest) = rest.split_once("\" ").unwrap();
        let (metrics, text) = rest.split_once(' ').unwrap();
        assert!(["0", "1", "2", "3"].contains(&status) && !text.is_empty() && !text.contains(" | "), "{line}");
        for metric in metrics.split('|').filter(|metric| *metric != "-") {
            let (name, values) = metric.split_once('=').unwrap_or_else(|| panic!("{line}"));
            let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let numbers = values.split(';').all(|value| value.parse::<f64>().is_ok());
            assert!(is_plain && numbers, "{line}");
        }
    }
    let connections = lines.iter().find(|line| line.contains("\"pgvitals connections\"")).unwrap();
    assert!(connections.starts_with("0 ") && connections.contains(" connections=") && connections.contains(";80;95 "));
    let gone = local_check(folder.path(), "--timeout 8 --agent http://127.0.0.1:1").await;
    assert!(gone.iter().all(|line| line.starts_with("3 ") && line.contains("\" - ")), "{gone:?}");
}
