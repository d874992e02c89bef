//! `mainstay cache`: the answers of apps that the edge of a running server keeps.

use anyhow::anyhow;
use clap::Subcommand;

use super::say;
use super::settings::Shell;
use crate::app::control_cache::purged;
use crate::monitor::WhichKept;

#[derive(Subcommand)]
pub(super) enum CacheCommand {
    /// Take kept answers away: of a host, under the beginning of a path, both, or all
    Purge {
        /// Such as shop.example.com
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
        /// Such as /products/
        #[arg(long, value_name = "PATH")]
        prefix: Option<String>,
        /// Of every host and path
        #[arg(long)]
        all: bool,
    },
}

/// Runs the command.
pub(super) fn run(shell: &Shell, command: CacheCommand) -> anyhow::Result<()> {
    let CacheCommand::Purge { host, prefix, all } = command;
    let which = WhichKept::of(host, prefix, all).map_err(|why| anyhow!("{why} (--host, --prefix, --all)"))?;
    let count = purged(&shell.existing_data(), which)?;
    say(&format!("{count} kept answer{} gone\n", if count == 1 { " is" } else { "s are" }))
}
