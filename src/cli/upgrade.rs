//! `mainstay upgrade`: another program in the place of the running server.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;

use super::say;
use super::settings::Shell;
use crate::app::handover::request::{Upgraded, upgrade};
use crate::base::Span;

/// Runs the command.
pub(super) fn run(shell: &Shell, program: Option<PathBuf>, as_json: bool) -> anyhow::Result<()> {
    // The server may have another working directory.
    let program = program.map(std::path::absolute).transpose().context("the program's path")?;
    let done = upgrade(&shell.existing_data(), program, &mut |step| {
        // Nobody reads it when this fails.
        let _ = writeln!(std::io::stderr(), "{step}");
    })?;
    if as_json {
        return say(&format!("{}\n", serde_json::to_string_pretty(&done)?));
    }
    say(&told(&done))
}

fn told(done: &Upgraded) -> String {
    let Upgraded { from, to, pid, linger_seconds } = done;
    let change =
        if from == to { format!("Mainstay {to}, started anew") } else { format!("Mainstay {from} is now {to}") };
    let linger = Span::secs(*linger_seconds);
    format!("{change}, process {pid}; what was open on the edge goes on in the process before, for at most {linger}\n")
}
