//! `mainstay reload`: the settings of a running server read again.

use std::fmt::Write as _;

use super::say;
use super::settings::Shell;
use crate::app::reload::ask_to_reload;

/// Runs the command.
pub(super) fn run(shell: &Shell) -> anyhow::Result<()> {
    let outcome = ask_to_reload(&shell.existing_data())?;
    let mut out = String::new();
    // Writing into a String cannot fail.
    for key in &outcome.applied {
        let _ = writeln!(out, "{key}: in force now");
    }
    for key in &outcome.waiting {
        let _ = writeln!(out, "{key}: needs a restart");
    }
    if out.is_empty() {
        out.push_str("no setting has changed; files that settings name were read again\n");
    }
    say(&out)
}
