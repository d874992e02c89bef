//! The commands.
//!
//! [`main`] reads the arguments and the environment and runs one command; each command is a function in its own file.
//! What is asked for goes to standard output, everything else to standard error; the exit code is 0 or 1 (2 for
//! arguments that are not understood).

mod analytics;
mod arguments;
mod backup;
mod backup_arguments;
mod backup_show;
mod bans;
mod buckets;
mod ca;
mod cache;
mod certs;
mod import;
mod import_nginx;
mod inspect;
mod issues;
mod keys;
mod mail;
mod master;
mod objects;
mod objects_rebuild;
mod people;
mod reload;
mod serve;
mod settings;
mod upgrade;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use self::arguments::{Arguments, Command, ConfigCommand, ImportCommand, RouteCommand, TokenCommand};
use self::settings::Shell;
use crate::config::Environment;

/// Runs the command that the arguments ask for.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let shell = Shell { environment: Environment::read(), config: arguments.config, data: arguments.data };
    let done = match arguments.command {
        Command::Serve(flags) => serve::serve(shell, &flags),
        Command::Env { json } => inspect::env(shell, json),
        Command::Status { json } => inspect::status(&shell, json),
        Command::Healthcheck => inspect::healthcheck(&shell),
        Command::Issues { command, json } => issues::issues(&shell, command.unwrap_or_default(), json),
        Command::Backup(command) => backup::backup(shell, command),
        Command::Reload => reload::run(&shell),
        Command::Upgrade { program, json } => upgrade::run(&shell, program, json),
        Command::Buckets { command, json } => {
            buckets::run(&shell, command.unwrap_or(buckets::BucketsCommand::List), json)
        }
        Command::Bans { command, json } => bans::run(&shell, command.unwrap_or(bans::BansCommand::List), json),
        Command::Analytics(flags) => analytics::run(&shell, flags),
        Command::Cache(command) => cache::run(&shell, command),
        Command::Certs { command, json } => certs::run(&shell, command, json),
        Command::Ca(command) => ca::run(&shell, &command),
        Command::Import(ImportCommand::Redis(wanted)) => import::redis(&shell, &wanted),
        Command::Import(ImportCommand::S3(wanted)) => import::s3::run(&shell, &wanted),
        Command::Import(ImportCommand::Nginx { path }) => import_nginx::run(&path),
        Command::Route(RouteCommand::Explain { url, with })
        | Command::Config(ConfigCommand::Check { url: Some(url), with }) => settings::explain(&shell, &url, &with),
        Command::Mail { command, json } => mail::mail(&shell, command.unwrap_or_default(), json),
        Command::Objects(command) => objects::run(shell, command),
        Command::SetupLink => people::setup_link(shell),
        Command::User(command) => people::user(shell, command),
        Command::Token(TokenCommand::Create { label, scope }) => people::create_token(&shell, label, scope),
        Command::Keys(command) => keys::keys(&shell, command),
        Command::Config(ConfigCommand::Check { url: None, .. }) => settings::check(&shell),
        Command::Config(ConfigCommand::Reference) => say(&crate::config::reference::reference()),
        Command::Key(command) => master::key(&shell, command),
        Command::Version => say(&format!("mainstay {}\n", crate::app::status::VERSION)),
        Command::Completions { shell } => say(&arguments::completions(shell)),
        Command::Man => say(&arguments::man()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may be the same terminal; there is nobody to tell when even this fails.
            let _ = writeln!(std::io::stderr(), "mainstay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Writes `text` to standard output. A reader that has seen enough (`| head`) is no failure.
fn say(text: &str) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
