//! Starting, stopping, starting again.

use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::Signal;

use crate::harness::{Server, get, mainstay, run, said};

#[test]
fn a_fresh_server_is_ready_and_stops_cleanly() {
    let server = Server::start();
    let console = server.address("console.listen");
    for path in ["/health", "/health/db", "/health/ready", "/metrics"] {
        let (status, answer) = get(&console, path);
        assert_eq!(status, 200, "{path}: {answer}");
    }
    assert_eq!(get(&console, "/nothing").0, 404);
    assert_eq!(server.status()["ready"], true);
    assert_eq!(server.command(&["healthcheck"]).code, 0);
    let socket = server.data.join("control.sock");
    assert_eq!(server.data.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(server.stop(), 0);
    assert!(!socket.exists());
}

#[test]
fn the_credentials_outlive_stops_and_crashes() {
    let folder = tempfile::tempdir().unwrap();
    let first = Server::start_in(folder.path(), &[]);
    let env = secrets(&first);
    let master = first.command(&["key", "export"]).out;
    assert!(master.starts_with("mainstay-key-1-"), "{master}");
    assert_eq!(first.stop(), 0);
    let second = Server::start_in(folder.path(), &[]);
    assert_eq!(secrets(&second), env);
    second.kill();
    let third = Server::start_in(folder.path(), &[]);
    assert_eq!(secrets(&third), env);
    assert_eq!(third.command(&["key", "export"]).out, master);
}

/// The lines of `mainstay env` that do not name a port.
fn secrets(server: &Server) -> Vec<(String, String)> {
    server.env().into_iter().filter(|(name, _)| name.contains("KEY")).collect()
}

#[test]
fn env_is_the_same_with_the_server_running_and_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_in(folder.path(), &[]);
    let console = server.address("console.listen");
    let running = server.env();
    assert_eq!(server.stop(), 0);
    let mut command = mainstay();
    command.args(["env", "--data"]).arg(folder.path()).env("MAINSTAY_CONSOLE__LISTEN", console);
    let stopped = said(&command.output().unwrap());
    assert!(stopped.out.contains(&format!("MAINSTAY_URL={}\n", running["MAINSTAY_URL"])), "{}", stopped.out);
}

#[test]
fn a_second_server_on_the_folder_is_refused_and_harms_nothing() {
    let server = Server::start();
    let second = server.command(&["serve"]);
    assert_eq!(second.code, 1);
    let pid = server.status()["pid"].to_string();
    assert!(second.err.contains(&format!("in use by the Mainstay with process id {pid}")), "{}", second.err);
    assert_eq!(server.command(&["healthcheck"]).code, 0);
}

#[test]
fn a_taken_port_is_told_with_its_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let mut command = mainstay();
    command.args(["serve", "--data"]).arg(folder.path().join("data")).env("MAINSTAY_CONSOLE__LISTEN", &address);
    let told = said(&command.output().unwrap());
    assert_eq!(told.code, 1);
    assert!(told.err.contains(&format!("console.listen: cannot listen on {address}")), "{}", told.err);
}

#[test]
fn a_wrong_master_key_never_opens_the_data() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Server::start_in(folder.path(), &[]).stop(), 0);
    let mut command = mainstay();
    command.args(["serve", "--data"]).arg(folder.path()).env("MAINSTAY_MASTER_KEY", "0".repeat(64));
    let told = said(&command.output().unwrap());
    assert_eq!(told.code, 1);
    assert!(told.err.contains("wrong master key"), "{}", told.err);
    assert_eq!(Server::start_in(folder.path(), &[]).stop(), 0);
}

#[test]
fn a_key_from_the_environment_is_not_written_into_the_folder() {
    let key = "ab".repeat(32);
    let server = Server::start_with(&[("MAINSTAY_MASTER_KEY", &key)]);
    assert!(!server.data.join("keys/master.key").exists());
    assert!(server.data.join("keys/ring").exists());
}

#[test]
fn interrupts_stop_the_server_too() {
    let mut server = Server::start();
    server.signal(Signal::INT);
    server.wait_for("stopped");
    assert_eq!(server.ended(), 0);
}

#[test]
fn a_command_without_a_folder_or_a_server_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    assert!(run(["status", "--data", data]).err.contains("no server runs on"));
    for command in [&["env"][..], &["key", "export"]] {
        let told = run(command.iter().copied().chain(["--data", data]));
        assert_eq!(told.code, 1);
        assert!(told.err.contains("there is no data folder at"), "{}", told.err);
    }
    assert!(!folder.path().join("data").exists());
}

#[test]
fn settings_are_read_again_by_signal_and_by_command_and_a_mistake_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mainstay.toml");
    let write = |text: &str| File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    let site = |to: &str| format!("[[edge.sites]]\nhosts = [\"127.0.0.1\"]\nredirect = \"{to}\"\n");
    let plain = "[edge]\nredirect_https = false\n";
    write(&format!("{plain}{}", site("https://one.example/")));
    let environment = [("MAINSTAY_CONFIG", path.to_str().unwrap())];
    let mut server = Server::start_in(&folder.path().join("data"), &environment);
    let address = server.address("edge.http");
    let location = || {
        let (status, answer) = get(&address, "/");
        assert_eq!(status, 301, "{answer}");
        answer.lines().find_map(|line| line.strip_prefix("location: ")).unwrap_or_default().to_owned()
    };
    assert_eq!(location(), "https://one.example/");

    write(&format!("{plain}{}[s3]\nregion = \"eu-1\"\n", site("https://two.example/")));
    let said = server.command(&["reload"]);
    assert_eq!(said.out, "edge.sites: in force now\ns3.region: needs a restart\n", "{}", said.err);
    assert_eq!(location(), "https://two.example/");

    write(&format!("{plain}{}[edge.nonsense]\n", site("https://three.example/")));
    let said = server.command(&["reload"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("mainstay.toml:6:") && said.err.contains("nonsense"), "{}", said.err);
    server.signal(Signal::HUP);
    server.wait_for("the settings cannot be used; those before stay in force");
    assert_eq!(location(), "https://two.example/");

    write(&format!("{plain}{}", site("https://four.example/")));
    server.signal(Signal::HUP);
    server.wait_for("the settings were read again");
    while location() != "https://four.example/" {}
    assert_eq!(server.command(&["reload"]).out, "no setting has changed; files that settings name were read again\n");
    assert_eq!(server.stop(), 0);
}
