//! `mainstay keys`: the S3 access keys of a running server.

use clap::{Args, Subcommand};

use super::say;
use super::settings::Shell;
use crate::app::control_keys::{self, KeysAsk, RightsWanted, Secret};

#[derive(Subcommand)]
pub(super) enum KeysCommand {
    /// Every key: what it may do, when it was last used, when it ends
    List,
    /// Make a key and print it; its secret is shown this once
    ///
    /// Without --allow it may do everything. `mainstay keys create backups --allow restic/:append-only --allow
    /// restic/locks/:delete` makes a key that can add backups and destroy none.
    Create {
        /// What to call it
        label: String,
        #[command(flatten)]
        rights: RightsFlags,
        /// After how long it ends by itself, such as 90d
        #[arg(long, value_name = "SPAN")]
        expires: Option<String>,
    },
    /// Change what a key may do, or when it ends; in force at once
    Change {
        /// The key
        id: String,
        #[command(flatten)]
        rights: RightsFlags,
        /// Let it do everything
        #[arg(long, conflicts_with_all = ["allow", "mail"])]
        everything: bool,
        /// After how long it ends by itself, such as 90d; or never
        #[arg(long, value_name = "SPAN")]
        expires: Option<String>,
    },
    /// Give a key another secret and print it; the old one works on for a while
    Rotate {
        /// The key
        id: String,
        /// How long the old secret works too
        #[arg(long, value_name = "SPAN", default_value = "7d")]
        overlap: String,
    },
    /// End the old secret of a key that was given another one
    Retire {
        /// The key
        id: String,
    },
    /// Revoke a key: it opens nothing from now on
    Revoke {
        /// The key
        id: String,
    },
}

#[derive(Args)]
pub(super) struct RightsFlags {
    /// What it may do, as BUCKET[/PREFIX]:ACTIONS (may be given more than once)
    ///
    /// Actions are read, list, append (new objects only), write, delete, manage, and read-only, append-only, read-write
    /// for several; `*` in the bucket stands for any characters.
    #[arg(long, value_name = "GRANT")]
    allow: Vec<String>,
    /// Let a key with --allow send mail over SES and SMTP too
    #[arg(long)]
    mail: bool,
}

impl RightsFlags {
    fn wanted(self) -> RightsWanted {
        RightsWanted { grants: self.allow, mail: self.mail }
    }
}

/// Runs `command`.
pub(super) fn keys(shell: &Shell, command: KeysCommand) -> anyhow::Result<()> {
    let data = shell.existing_data();
    let asked = match command {
        KeysCommand::List => {
            let lines: Vec<String> = control_keys::keys(&data, KeysAsk::List)?;
            return say(&lines.into_iter().fold(String::new(), |out, line| out + &line + "\n"));
        }
        KeysCommand::Create { label, rights, expires } => {
            return print(&control_keys::keys(&data, KeysAsk::Create { label, rights: rights.wanted(), expires })?);
        }
        KeysCommand::Rotate { id, overlap } => {
            return print(&control_keys::keys(&data, KeysAsk::Rotate { id, overlap })?);
        }
        KeysCommand::Change { id, rights, everything, expires } => {
            let rights = rights.wanted();
            let given = everything || rights.mail || !rights.grants.is_empty();
            KeysAsk::Change { id, rights: given.then_some(rights), expires }
        }
        KeysCommand::Retire { id } => KeysAsk::Retire { id },
        KeysCommand::Revoke { id } => KeysAsk::Revoke { id },
    };
    let line: String = control_keys::keys(&data, asked)?;
    say(&format!("{line}\n"))
}

fn print(key: &Secret) -> anyhow::Result<()> {
    say(&format!("AWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY={}\n", key.id, key.secret))
}
