//! Records written by a program of the operator's.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use std::os::unix::process::CommandExt as _;

use super::wire::Change;
use crate::edge::acme::failure::Failure;

/// Longest run, in looks, and how often it is looked whether it has ended.
const LOOKS: u32 = 1_200;
const LOOK: Duration = Duration::from_millis(50);
/// Where programs are found that it calls.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs `command` for a record and waits for it, at most a minute. What it writes to its standard error goes where this
/// server's goes; what it writes to its standard output, nowhere. Blocks.
///
/// # Errors
/// It cannot be started, takes too long (it is killed then, with what it started in its group), or ends with another
/// status than 0.
pub fn run(command: &[String], change: Change, name: &str, value: &str) -> Result<(), Failure> {
    let Some((program, arguments)) = command.split_first() else { return Err(Failure::told("there is no command")) };
    let failed = |what: String| Failure::told(format!("{program}: {what}"));
    let verb = match change {
        Change::Add => "present",
        Change::Remove => "cleanup",
    };
    let started = Command::new(program)
        .args(arguments)
        .args([verb, name, value])
        // The server's own may hold keys.
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .process_group(0)
        .spawn();
    let mut child = started.map_err(|error| failed(error.to_string()))?;
    for _ in 0..LOOKS {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(failed(format!("it ended with {status}"))),
            Ok(None) => std::thread::sleep(LOOK),
            Err(error) => return Err(failed(error.to_string())),
        }
    }
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // Ended meanwhile: nothing is left to kill.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
    Err(failed("it took longer than a minute and was killed".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script, "hook"].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_program_gets_what_to_do_the_name_and_the_text_and_nothing_of_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let script = format!("echo \"$@\" > {0}; env >> {0}", out.display());
        run(&sh(&script), Change::Add, "_acme-challenge.example.com", "a;b $(c)").unwrap();
        let seen = std::fs::read_to_string(&out).unwrap();
        assert!(seen.starts_with("present _acme-challenge.example.com a;b $(c)\n"), "{seen}");
        assert!(!seen.contains("CARGO"), "{seen}");
        let failure = run(&sh("exit 3"), Change::Remove, "a", "b").unwrap_err();
        assert_eq!(failure.text, "/bin/sh: it ended with exit status: 3");
        assert!(run(&["/nowhere/hook".to_owned()], Change::Add, "a", "b").is_err());
    }
}
