//! What can be asked on the command line.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

const EXAMPLES: &str = "\
Examples:
  mainstay serve                          start with defaults, data in ./mainstay-data
  mainstay serve --app 127.0.0.1:3000     the same, with your app behind the edge
  mainstay env >> .env                    how apps reach the server, with credentials
  mainstay config reference > mainstay.toml
  mainstay config check                   what is set, and from where

Every setting may be given as MAINSTAY_SECTION__KEY, such as MAINSTAY_S3__LISTEN=127.0.0.1:19000.";

/// One binary for a small server: TLS edge, Redis protocol, S3 storage.
#[derive(Parser)]
#[command(name = "mainstay", version, after_help = EXAMPLES, max_term_width = 110)]
pub(super) struct Arguments {
    /// Settings file [default: ./mainstay.toml, else /etc/mainstay/mainstay.toml, if there]
    #[arg(long, global = true, value_name = "FILE", env = "MAINSTAY_CONFIG")]
    pub config: Option<PathBuf>,

    /// Data folder [default: ./mainstay-data]
    #[arg(long, global = true, value_name = "DIR", env = "MAINSTAY_DATA")]
    pub data: Option<PathBuf>,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Run the server until it is told to stop
    ///
    /// The first start makes the data folder, its master key and the credentials. SIGTERM or Ctrl-C finishes what is
    /// under way and stops; a second one stops at once.
    Serve(ServeFlags),
    /// Print how apps reach the server, as KEY=value lines with credentials
    ///
    /// Works while the server runs and while it is stopped.
    Env {
        /// One JSON object instead
        #[arg(long)]
        json: bool,
    },
    /// Tell whether the server runs, what listens where, and whether every part works
    Status {
        /// One JSON object instead
        #[arg(long)]
        json: bool,
    },
    /// Exit with 0 when the server is ready, else with 1 (for containers)
    Healthcheck,
    /// Look at captured errors, and say what became of them
    Issues {
        #[command(subcommand)]
        command: Option<IssuesCommand>,
        /// JSON instead
        #[arg(long, global = true)]
        json: bool,
    },
    /// Make backups, look at them, and restore them
    #[command(subcommand)]
    Backup(super::backup_arguments::BackupCommand),
    /// Look at mail taken in: what waits, what was sent, what failed
    Mail {
        #[command(subcommand)]
        command: Option<MailCommand>,
        /// JSON instead
        #[arg(long, global = true)]
        json: bool,
    },
    /// Have the running server read its settings again
    ///
    /// What can change without a restart is in force at once; the rest is named. Settings with a mistake change nothing.
    Reload,
    /// Put the program that is installed now in the place of the running server, without a pause
    ///
    /// The listening sockets are handed over, so no connection is refused; WebSockets and answers under way go on in the
    /// process before (setting server.linger). A program that does not start, or cannot use the settings, changes nothing.
    Upgrade {
        /// The program to run from now on [default: what is at the running server's own path]
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
        /// One JSON object instead
        #[arg(long)]
        json: bool,
    },
    /// Tell which certificate is in use for each name, until when, and what the last attempt came to
    Certs {
        #[command(subcommand)]
        command: Option<CertsCommand>,
        /// JSON instead
        #[arg(long, global = true)]
        json: bool,
    },
    /// The internal authority: its root certificate, for devices to trust
    #[command(subcommand)]
    Ca(super::ca::CaCommand),
    /// Tell who is banned at the edge, ban and unban
    Bans {
        #[command(subcommand)]
        command: Option<super::bans::BansCommand>,
        /// JSON instead
        #[arg(long, global = true)]
        json: bool,
    },
    /// How the pages of a site are visited: views, visitors, pages, where they came from, Web Vitals
    Analytics(super::analytics::AnalyticsFlags),
    /// The answers of apps that the edge keeps
    #[command(subcommand)]
    Cache(super::cache::CacheCommand),
    /// Tell which buckets there are and what they hold, and set what they may
    Buckets {
        #[command(subcommand)]
        command: Option<super::buckets::BucketsCommand>,
        /// JSON instead
        #[arg(long, global = true)]
        json: bool,
    },
    /// Take over what other programs hold
    #[command(subcommand)]
    Import(ImportCommand),
    /// Tell what a request would meet at the edge: site, limits, log-ins, rewrites, app
    #[command(subcommand)]
    Route(RouteCommand),
    /// Look after stored objects
    #[command(subcommand)]
    Objects(super::objects::ObjectsCommand),
    /// Print the link that makes the first account of a new server
    ///
    /// It works once, for 24 hours; each one voids the one before.
    SetupLink,
    /// Look after people's accounts
    #[command(subcommand)]
    User(UserCommand),
    /// Make API tokens for programs
    #[command(subcommand)]
    Token(TokenCommand),
    /// Make, change and revoke S3 access keys
    #[command(subcommand)]
    Keys(super::keys::KeysCommand),
    /// Look at the settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look after the master key
    #[command(subcommand)]
    Key(super::master::KeyCommand),
    /// Print the version
    Version,
    /// Print a completion script for a shell
    ///
    /// For bash: `mainstay completions bash > /etc/bash_completion.d/mainstay`
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    ///
    /// To read it: `mainstay man | man -l -`
    Man,
}

#[derive(Clone, Copy, Default, Subcommand)]
pub(super) enum IssuesCommand {
    /// The open issues, the newest first (without a command)
    #[default]
    List,
    /// Every issue, resolved and ignored ones too
    All,
    /// What is known about an issue
    Show {
        /// Its number
        id: u64,
    },
    /// One event of an issue in full: exceptions, breadcrumbs, request, user, contexts
    Event {
        /// The issue's number
        id: u64,
        /// The event's number, as `show` lists them; the newest without it
        number: Option<u64>,
    },
    /// Take an issue as resolved; the next event opens it again
    Resolve {
        /// Its number
        id: u64,
    },
    /// Count an issue's events, but leave it out of the list
    Ignore {
        /// Its number
        id: u64,
    },
}

#[derive(Clone, Subcommand)]
pub(super) enum ImportCommand {
    /// Copy the keys of a running Redis into the running server
    ///
    /// All types, lifetimes and functions, while the source is in use: after the first pass, further ones copy what has
    /// changed and remove what is gone, until nothing changes any more. Interrupted, the same command goes on where it
    /// was. Ends with an error when something was left out, or when the source was still being written to.
    Redis(super::import::arguments::RedisImport),
    /// Copy the objects of a bucket of MinIO or another S3 server into the running server
    ///
    /// With metadata and tags, verified on the way, while the source is in use: further passes copy what has changed, until
    /// nothing changes any more. Interrupted or repeated, the same command copies only what is not here yet. The source's
    /// access key is read from the environment or a file. Ends with an error when something was left out, or when the source
    /// was still being written to.
    S3(super::import::s3::arguments::S3Import),
    /// Write the sites of an nginx configuration as settings, and name what could not be translated
    ///
    /// Settings go to the standard output, what was left out to the standard error. Nothing is changed.
    Nginx {
        /// The folder of nginx.conf, such as /etc/nginx, or one file
        path: PathBuf,
    },
}

#[derive(Clone, Subcommand)]
pub(super) enum RouteCommand {
    /// Follow a request through the settings; nothing is sent
    Explain {
        /// The whole address: scheme, host, path and query
        url: String,
        #[command(flatten)]
        with: RequestFlags,
    },
}

#[derive(Clone, Args)]
pub(super) struct RequestFlags {
    /// The request's method
    #[arg(long, default_value = "GET")]
    pub method: String,
    /// The address of who asks
    #[arg(long)]
    pub from: Option<std::net::IpAddr>,
}

#[derive(Clone, Subcommand)]
pub(super) enum CertsCommand {
    /// Order a certificate now, whatever is due
    ///
    /// What the authority asked to wait for is still waited for.
    Renew {
        /// Its name
        name: String,
    },
}

#[derive(Clone, Subcommand)]
pub(super) enum MailCommand {
    /// The newest messages (without a command)
    List {
        /// Only those in this state: queued, deferred, sent, failed, kept or cancelled
        #[arg(long)]
        state: Option<String>,
    },
    /// A message: its recipients, what happened to each, and its text
    Show {
        /// Its id
        id: String,
    },
    /// A message as it is handed to the relay
    Raw {
        /// Its id
        id: String,
    },
    /// Try what waits, failed or was cancelled again, now
    Retry {
        /// Its id
        id: String,
    },
    /// Take what waits out of the queue
    Cancel {
        /// Its id
        id: String,
    },
}

impl Default for MailCommand {
    fn default() -> Self {
        Self::List { state: None }
    }
}

#[derive(Subcommand)]
pub(super) enum UserCommand {
    /// Every account
    List,
    /// Make an account, and print the link its owner sets a password with
    Invite {
        /// Its e-mail address
        email: String,
    },
    /// Print a link that sets a new password, for who has lost it
    ///
    /// It works once, for 24 hours. A second factor is asked for all the same.
    ResetPassword {
        /// The account's e-mail address
        email: String,
    },
    /// Remove the second factor of who has lost it and the recovery codes
    RemoveSecondFactor {
        /// The account's e-mail address
        email: String,
    },
}

#[derive(Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token and print it, this once
    Create {
        /// What to call it
        label: String,
        /// What it may do: read, write, admin (may be given more than once)
        #[arg(long, default_values = ["read"])]
        scope: Vec<String>,
    },
}

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Check the settings, and print what is set and from where; or what a request to URL would meet under them
    Check {
        /// A whole address: scheme, host, path and query
        url: Option<String>,
        #[command(flatten)]
        with: RequestFlags,
    },
    /// Print every setting with its manual and default, as a file to start from
    Reference,
}

#[derive(Args)]
pub(super) struct ServeFlags {
    /// Where your app listens; the edge passes requests on to it (setting edge.app)
    #[arg(long, value_name = "ADDR")]
    pub app: Option<String>,

    /// The server's own domain (setting edge.domain)
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,
}

impl ServeFlags {
    /// The flags that are settings: the flag, the setting, the text.
    pub(super) fn settings(&self) -> Vec<(&'static str, &'static str, String)> {
        let app = self.app.clone().map(|text| ("--app", "edge.app", text));
        let domain = self.domain.clone().map(|text| ("--domain", "edge.domain", text));
        app.into_iter().chain(domain).collect()
    }
}

/// The completion script for `shell`.
pub(super) fn completions(shell: Shell) -> String {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "mainstay", &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// The manual page, in roff.
pub(super) fn man() -> String {
    let mut out = Vec::new();
    // Writing into a Vec cannot fail.
    let _ = clap_mangen::Man::new(Arguments::command()).render(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        for line in [&["mainstay", "--data", "/x", "env", "--json"][..], &["mainstay", "env", "--data", "/x", "--json"]]
        {
            let arguments = Arguments::try_parse_from(line).unwrap();
            assert_eq!(arguments.data, Some(PathBuf::from("/x")));
            assert!(matches!(arguments.command, Command::Env { json: true }));
        }
    }

    #[test]
    fn the_manual_page_and_the_completions_name_every_command() {
        for text in [man(), completions(Shell::Bash)] {
            for command in ["serve", "status", "issues", "backup", "healthcheck"] {
                assert!(text.contains(command), "{command}");
            }
        }
    }
}
