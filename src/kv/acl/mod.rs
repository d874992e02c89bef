//! Users of the Redis door and what each may do: commands, keys, channels, databases.
//!
//! Rules are written as Redis writes them (`on >password ~app:* +@all -@dangerous`); `db=0,3` is an addition and binds a
//! user to databases. The user `default` has no [`Acl`] and may do everything.
//!
//! Source: the documentation of Redis' ACL and `ACL SETUSER`, version 7.2.

pub mod categories;
mod rules;
#[cfg(test)]
mod tests;

use std::fmt;

use super::Flags;
use super::commands::{Command, keys_of};
use super::config::DATABASES;
use super::glob;

pub use rules::{RULES_MAX, RuleError};

/// A user.
#[derive(Clone, PartialEq, Eq)]
pub struct Acl {
    name: String,
    on: bool,
    /// Any password is right.
    no_password: bool,
    /// SHA-256 of each password, in hexadecimal digits.
    passwords: Vec<String>,
    /// In their order: the last that names a command decides.
    commands: Vec<CommandRule>,
    keys: Vec<KeyPattern>,
    channels: Vec<Vec<u8>>,
    databases: u16,
}

/// Allows or denies commands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CommandRule {
    allows: bool,
    which: Which,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    All,
    Category(&'static str),
    Command(&'static str),
    Subcommand(&'static str, String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyPattern {
    read: bool,
    write: bool,
    pattern: Vec<u8>,
}

const EVERY_DATABASE: u16 = u16::MAX;
const _: () = assert!(DATABASES == 16, "a bit each");

/// What a user may not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Run the command.
    Command {
        /// Who.
        user: String,
        /// Its name, with the subcommand where it has some.
        command: String,
    },
    /// Use the key.
    Key(Vec<u8>),
    /// Use the channel.
    Channel(Vec<u8>),
    /// Use the database.
    Database(u8),
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command { user, command } => {
                write!(f, "NOPERM User {user} has no permissions to run the '{command}' command")
            }
            Self::Key(_) => f.write_str("NOPERM No permissions to access a key"),
            Self::Channel(_) => f.write_str("NOPERM No permissions to access a channel"),
            Self::Database(number) => write!(f, "NOPERM No permissions to access database {number}"),
        }
    }
}

impl Acl {
    /// A user who may do nothing, and cannot come in.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            on: false,
            no_password: false,
            passwords: Vec::new(),
            commands: Vec::new(),
            keys: Vec::new(),
            channels: Vec::new(),
            databases: EVERY_DATABASE,
        }
    }

    /// A user who may do everything.
    pub fn everything(name: &str, no_password: bool) -> Self {
        let everything = |pattern: &[u8]| KeyPattern { read: true, write: true, pattern: pattern.to_vec() };
        Self {
            on: true,
            no_password,
            commands: vec![CommandRule { allows: true, which: Which::All }],
            keys: vec![everything(b"*")],
            channels: vec![b"*".to_vec()],
            ..Self::new(name)
        }
    }

    /// The user's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the user may come in.
    pub const fn is_on(&self) -> bool {
        self.on
    }

    /// Whether any password is right.
    pub const fn needs_no_password(&self) -> bool {
        self.no_password
    }

    /// SHA-256 of each password, in hexadecimal digits.
    pub fn passwords(&self) -> &[String] {
        &self.passwords
    }

    /// Whether the user may use `database`.
    pub const fn may_use(&self, database: u8) -> bool {
        self.databases & (1 << (database % 16)) != 0
    }

    /// The lowest database the user may use, unless `database` is one; that one if there is none.
    pub fn database(&self, database: u8) -> u8 {
        if self.may_use(database) {
            return database;
        }
        (0..DATABASES).find(|other| self.may_use(*other)).unwrap_or(database)
    }

    /// Whether the user may run `command` with `args`, which start with its name, in `database`.
    ///
    /// # Errors
    /// The first thing that is not allowed.
    pub fn check(&self, command: &'static Command, database: u8, args: &[&[u8]]) -> Result<(), Denied> {
        if command.flags.contains(Flags::NO_AUTH) {
            return Ok(());
        }
        self.check_command(command, args)?;
        self.check_databases(command, database, args)?;
        self.check_keys(command, args)?;
        self.check_channels(command, args)
    }

    fn check_command(&self, command: &'static Command, args: &[&[u8]]) -> Result<(), Denied> {
        let has_parts = !command.subcommands.is_empty() || is_container(command.name);
        let subcommand = args.get(1).filter(|_| has_parts);
        let subcommand = subcommand.map(|name| String::from_utf8_lossy(name).to_ascii_lowercase());
        let names = |rule: &CommandRule| match &rule.which {
            Which::All => true,
            Which::Category(category) => categories::has(category, command, subcommand.as_deref()),
            Which::Command(name) => *name == command.name,
            Which::Subcommand(name, part) => *name == command.name && subcommand.as_ref() == Some(part),
        };
        if self.commands.iter().rev().find(|rule| names(rule)).is_some_and(|rule| rule.allows) {
            return Ok(());
        }
        let command = match subcommand {
            Some(part) => format!("{}|{part}", command.name),
            None => command.name.to_owned(),
        };
        Err(Denied::Command { user: self.name.clone(), command })
    }

    fn check_databases(&self, command: &Command, database: u8, args: &[&[u8]]) -> Result<(), Denied> {
        if self.databases == EVERY_DATABASE {
            return Ok(());
        }
        let number = |at: usize| args.get(at).and_then(|text| std::str::from_utf8(text).ok()?.parse::<u8>().ok());
        let used: Vec<u8> = match command.name {
            "select" => return number(1).map_or(Ok(()), |wanted| self.allow_database(wanted)),
            "flushall" => (0..DATABASES).collect(),
            "swapdb" => [number(1), number(2)].into_iter().flatten().collect(),
            "move" => [Some(database), number(2)].into_iter().flatten().collect(),
            "copy" => {
                let named = args.iter().position(|arg| arg.eq_ignore_ascii_case(b"db"));
                [Some(database), named.filter(|at| *at > 2).and_then(|at| number(at + 1))]
                    .into_iter()
                    .flatten()
                    .collect()
            }
            _ if uses_keys(command) => vec![database],
            _ => return Ok(()),
        };
        used.into_iter().try_for_each(|database| self.allow_database(database))
    }

    fn allow_database(&self, database: u8) -> Result<(), Denied> {
        // One that does not exist is the command's to refuse.
        if database >= DATABASES || self.may_use(database) { Ok(()) } else { Err(Denied::Database(database)) }
    }

    fn check_keys(&self, command: &'static Command, args: &[&[u8]]) -> Result<(), Denied> {
        let writes = command.flags.contains(Flags::WRITE);
        let is_allowed = |key: &[u8]| {
            let fitting = self.keys.iter().filter(|pattern| glob::matches(&pattern.pattern, key));
            let both = |(read, write), pattern: &KeyPattern| (read | pattern.read, write | pattern.write);
            let (read, write) = fitting.fold((false, false), both);
            read && (write || !writes)
        };
        if let Some(key) = keys_of::keys(command, args).into_iter().find(|key| !is_allowed(key)) {
            return Err(Denied::Key(key.to_vec()));
        }
        // The patterns of `SORT` reach keys that nobody can tell in advance.
        let reaches = matches!(command.name, "sort" | "sort_ro")
            && args.windows(2).skip(2).any(|pair| match pair {
                [option, pattern] if option.eq_ignore_ascii_case(b"by") => pattern.contains(&b'*'),
                [option, pattern] if option.eq_ignore_ascii_case(b"get") => *pattern != b"#",
                _ => false,
            });
        let reads_all = self.keys.iter().any(|pattern| pattern.read && pattern.pattern == b"*");
        if reaches && !reads_all { Err(Denied::Key(args.get(1).copied().unwrap_or_default().to_vec())) } else { Ok(()) }
    }

    fn check_channels(&self, command: &Command, args: &[&[u8]]) -> Result<(), Denied> {
        let rest = args.get(1..).unwrap_or_default();
        let (channels, patterns) = match command.name {
            "publish" | "spublish" => (rest.get(..1).unwrap_or_default(), false),
            "subscribe" | "ssubscribe" => (rest, false),
            "psubscribe" => (rest, true),
            _ => return Ok(()),
        };
        for channel in channels {
            // A pattern is allowed where it is the one that was given; what another one matches cannot be told.
            let fits = |allowed: &Vec<u8>| {
                allowed == b"*" || if patterns { allowed == channel } else { glob::matches(allowed, channel) }
            };
            if !self.channels.iter().any(fits) {
                return Err(Denied::Channel(channel.to_vec()));
            }
        }
        Ok(())
    }
}

/// Commands whose first argument names a part, where the table does not say so.
fn is_container(name: &str) -> bool {
    const NAMES: [&str; 15] = [
        "acl", "client", "cluster", "command", "config", "function", "latency", "memory", "module", "object", "pubsub",
        "script", "slowlog", "xgroup", "xinfo",
    ];
    NAMES.contains(&name)
}

/// Whether a command has to do with the keys of its database.
fn uses_keys(command: &Command) -> bool {
    if command.flags.contains(Flags::PUBSUB) {
        // Channels belong to no database, sharded ones neither.
        return false;
    }
    command.flags.contains(Flags::WRITE)
        || command.flags.contains(Flags::READONLY)
        || command.flags.contains(Flags::MOVABLE_KEYS)
        || command.first_key != 0
}

impl fmt::Debug for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acl").field("name", &self.name).field("on", &self.on).finish_non_exhaustive()
    }
}
