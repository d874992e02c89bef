//! `mainstay bans`: who is banned at the edge of a running server.

use std::fmt::Write as _;

use clap::Subcommand;

use super::say;
use super::settings::Shell;
use crate::app::control_bans::{BanView, BansAsk, SHOWN, asked};
use crate::bans::{self, Origin};
use crate::base::Timestamp;

#[derive(Subcommand)]
pub(super) enum BansCommand {
    /// Who is banned, by whom, for what, and until when (without a command)
    List,
    /// Ban an address (IPv6: its /64) or a network
    Add {
        /// Such as 203.0.113.7, `2001:db8::1` or 198.51.100.0/24
        address: String,
        /// For how long, such as 12h; without it, until it is removed
        #[arg(long = "for", value_name = "SPAN")]
        span: Option<String>,
        /// Why, for whoever looks at the list
        #[arg(long, default_value = "")]
        reason: String,
        /// Also loopback, a trusted proxy, or what edge.bans.ignore names
        #[arg(long)]
        force: bool,
    },
    /// Lift a ban, and forget those before it
    Remove {
        /// The address or network, as the list has it
        #[arg(required_unless_present = "all")]
        address: Option<String>,
        /// Every ban
        #[arg(long, conflicts_with = "address")]
        all: bool,
    },
}

/// Runs the command.
pub(super) fn run(shell: &Shell, command: BansCommand, json: bool) -> anyhow::Result<()> {
    let data = shell.existing_data();
    match command {
        BansCommand::List => {
            let mut all: Vec<BanView> = Vec::new();
            loop {
                let page = asked(&data, BansAsk::List { after: all.last().map(|last| last.address.clone()) })?;
                let is_last = page.len() < SHOWN;
                all.extend(page);
                if is_last {
                    break;
                }
            }
            if json {
                return say(&format!("{}\n", serde_json::to_string_pretty(&all)?));
            }
            say(&all.iter().map(line).collect::<String>())
        }
        BansCommand::Add { address, span, reason, force } => {
            let made = asked(&data, BansAsk::Add { address, span, reason, force })?;
            say(&made.iter().map(line).collect::<String>())
        }
        BansCommand::Remove { address: Some(address), .. } => {
            asked(&data, BansAsk::Remove { address })?;
            Ok(())
        }
        BansCommand::Remove { address: None, .. } => {
            asked(&data, BansAsk::RemoveAll)?;
            Ok(())
        }
    }
}

fn line(view: &BanView) -> String {
    let at = |moment: Timestamp| moment.to_jiff().strftime("%Y-%m-%d %H:%M UTC").to_string();
    let ban = &view.ban;
    let origin = match &ban.origin {
        Origin::Jail(name) => name.as_str(),
        Origin::Hand => "by hand",
    };
    let until =
        bans::moment(ban.until_ms).map_or_else(|| "until removed".to_owned(), |until| format!("until {}", at(until)));
    let mut out = format!("{:<28} {origin:<12} {until}", view.address);
    // Writing into a String cannot fail.
    if ban.times > 1 {
        let _ = write!(out, ", ban number {}", ban.times);
    }
    if !ban.reason.is_empty() {
        let _ = write!(out, "  {}", ban.reason);
    }
    out.push('\n');
    out
}
