//! `mainstay key`: the master key.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Subcommand;

use super::say;
use super::settings::Shell;
use crate::app::{StartError, control_master, master};
use crate::base::{LocalDisk, SystemRandom};
use crate::crypto::Keyring;

#[derive(Clone, Copy, Subcommand)]
pub(super) enum KeyCommand {
    /// Print the master key; keep it apart from the data and its backups
    ///
    /// Without this key nobody can read the data folder, or a backup of it.
    Export,
    /// Have the running server make another master key, and print the one before, this once
    ///
    /// All that the key before has wrapped is wrapped anew behind the scenes, then that key is forgotten; objects are not
    /// sealed again. Backups made until now need the key before for as long as they are kept. A key that you give to the server
    /// (`MAINSTAY_MASTER_KEY_FILE`) you change yourself: give the new one there, the one before by
    /// `MAINSTAY_MASTER_KEY_PREVIOUS_FILE`, and start the server again.
    Rotate,
    /// Tell which master key is in use, and whether anything needs the one before
    Status {
        /// One JSON object instead
        #[arg(long)]
        json: bool,
    },
}

/// Runs `command`.
pub(super) fn key(shell: &Shell, command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Export => export(shell),
        KeyCommand::Rotate => rotate(shell),
        KeyCommand::Status { json } => status(shell, json),
    }
}

/// Prints the master key. Works beside a running server: the keyring is only read.
fn export(shell: &Shell) -> anyhow::Result<()> {
    let data = shell.existing_data();
    if !data.exists() {
        return Err(StartError::NoFolder { path: data }.into());
    }
    let source = master::source(&LocalDisk, &shell.environment)?;
    // `has_data`: a missing ring is an error here, never made.
    let keyring = Keyring::open(Arc::new(LocalDisk), Arc::new(SystemRandom), &data, source, true)
        .context("the master key cannot be exported")?;
    say(&format!("{}\n", keyring.export().expose()))
}

fn rotate(shell: &Shell) -> anyhow::Result<()> {
    let rotated = control_master::rotate(&shell.existing_data())?;
    say(&format!(
        "The master key is {} from now on. Print it with `mainstay key export`, and keep it apart from the data.\n\
         What the key before, {}, has wrapped is being wrapped anew; `mainstay key status` tells when that is done.\n\
         Backups made until now need the key before as long as they are kept. This is it:\n{}\n",
        rotated.active, rotated.previous, rotated.previous_key
    ))
}

fn status(shell: &Shell, json: bool) -> anyhow::Result<()> {
    let status = control_master::status(&shell.existing_data())?;
    if json {
        return say(&format!("{}\n", serde_json::to_string_pretty(&status)?));
    }
    let from = status.given.map(|from| format!(", given by {from}")).unwrap_or_default();
    let mut out = format!("master key {}{from}\n", status.active);
    // Writing into a String cannot fail.
    for older in &status.older {
        let _ = writeln!(out, "key {older} is being left: {} wrapped anew so far", status.rewrapped);
    }
    if let Some(reason) = &status.waits_for {
        let _ = writeln!(out, "it cannot be forgotten yet: {reason}");
    }
    for forgotten in &status.forgotten {
        let _ = writeln!(out, "key {forgotten} is forgotten: only backups made with it need it");
    }
    if status.damaged > 0 {
        let _ = writeln!(out, "{} wrapped keys open with no master key: see `mainstay objects check`", status.damaged);
    }
    say(&out)
}
