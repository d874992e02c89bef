//! `ACL`: the users of the door.
//!
//! Changes are kept in `state.redb` before the reply, so there is no file to save to or load from. The user `default`
//! has the server's own password and every right; it is changed in the settings, not here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{lower, ok, unknown_subcommand, wrong_arguments};
use crate::accounts::{AccountsError, RedisUsers};
use crate::base::{Random as _, SystemRandom, ids};
use crate::kv::acl::{Acl, Denied, categories};
use crate::kv::commands::lookup;
use crate::kv::{Flags, Reply};
use crate::resp::connection::Connection;
use crate::resp::dispatch::shown;
use crate::resp::protocol::number;
use crate::resp::server::Server;

/// The user there always is.
pub const DEFAULT: &str = "default";

/// Denials remembered.
const LOG_MAX: usize = 128;

/// Longest name of a user.
const NAME_MAX: usize = 128;

const NO_FILE: &str = "ERR users are kept in the data folder; there is no ACL file to load or save";
const OWN: &str =
    "ERR the user 'default' has the server's own password (redis.require_auth, `mainstay env`) and is not changed here";

/// Something a client was not allowed.
#[derive(Debug)]
pub struct Refused {
    reason: &'static str,
    object: String,
    user: String,
    context: &'static str,
    client: String,
    count: u64,
    id: u64,
    created: Duration,
    updated: Duration,
    created_ms: u64,
    updated_ms: u64,
}

/// What was refused, the newest first.
#[derive(Debug, Default)]
pub struct AclLog {
    entries: VecDeque<Refused>,
    next: u64,
}

/// The users in `store`. One whose rules this version does not understand stays out.
///
/// # Errors
/// The store cannot be read.
pub fn load(store: Option<&RedisUsers>) -> Result<BTreeMap<String, Arc<Acl>>, AccountsError> {
    let mut users = BTreeMap::new();
    for (name, rules) in store.map_or_else(|| Ok(Vec::new()), RedisUsers::all)? {
        let mut acl = Acl::new(&name);
        let wrong = rules.split(' ').find_map(|rule| acl.apply(rule.as_bytes()).err());
        if let Some(error) = wrong {
            tracing::error!(user = name, %error, "a Redis user has a rule that is not understood, and is kept out");
            acl = Acl::new(&name);
        }
        users.insert(name, Arc::new(acl));
    }
    Ok(users)
}

/// `ACL subcommand …`.
pub fn run(server: &mut Server, connection: &mut Connection, arguments: &[&[u8]]) {
    let name = lower(arguments.first());
    let rest = arguments.get(1..).unwrap_or_default();
    match (name.as_str(), rest) {
        ("whoami", []) => {
            let user = user_name(connection).to_owned();
            connection.encoder().bulk(user.as_bytes());
        }
        ("users", []) => {
            let mut reply = connection.encoder();
            reply.array(server.users.len() + 1);
            reply.bulk(DEFAULT.as_bytes());
            server.users.keys().for_each(|name| reply.bulk(name.as_bytes()));
        }
        ("list", []) => list(server, connection),
        ("getuser", [name]) => get_user(server, connection, name),
        ("setuser", [name, rules @ ..]) => set_user(server, connection, name, rules),
        ("deluser", names) if !names.is_empty() => delete_users(server, connection, names),
        ("cat", []) => {
            let mut reply = connection.encoder();
            reply.array(categories::names().len());
            categories::names().for_each(|name| reply.bulk(name.as_bytes()));
        }
        ("cat", [category]) => cat(connection, category),
        ("genpass", bits @ ([] | [_])) => generate_password(connection, bits.first().copied()),
        ("dryrun", [name, command @ ..]) if !command.is_empty() => dry_run(server, connection, name, command),
        ("log", options @ ([] | [_])) => log(server, connection, options.first().copied()),
        ("load" | "save", []) => connection.encoder().error(NO_FILE),
        ("help", []) => help(connection),
        (
            known @ ("whoami" | "users" | "list" | "getuser" | "setuser" | "deluser" | "cat" | "genpass" | "dryrun"
            | "log" | "load" | "save" | "help"),
            _,
        ) => wrong_arguments(connection, &format!("acl|{known}")),
        _ => unknown_subcommand(connection, "ACL", arguments.first()),
    }
}

/// Whose connection it is.
pub fn user_name(connection: &Connection) -> &str {
    connection.client.acl.as_ref().map_or(DEFAULT, |acl| acl.name())
}

fn list(server: &Server, connection: &mut Connection) {
    let mut reply = connection.encoder();
    reply.array(server.users.len() + 1);
    let nopass = if server.password.is_some() { "" } else { " nopass" };
    reply.bulk(format!("user {DEFAULT} on{nopass} sanitize-payload ~* &* +@all").as_bytes());
    for (name, acl) in &server.users {
        reply.bulk(format!("user {name} {}", acl.rules()).as_bytes());
    }
}

fn get_user(server: &Server, connection: &mut Connection, name: &[u8]) {
    let own = Acl::everything(DEFAULT, server.password.is_none());
    let found = if name == DEFAULT.as_bytes() { Some(&own) } else { find(server, name).map(|acl| &**acl) };
    let mut reply = connection.encoder();
    let Some(acl) = found else { return reply.null() };
    reply.map(7);
    let mut flags = vec![if acl.is_on() { "on" } else { "off" }];
    flags.extend(acl.needs_no_password().then_some("nopass"));
    flags.push("sanitize-payload");
    reply.bulk(b"flags");
    reply.set(flags.len());
    for flag in flags {
        reply.bulk(flag.as_bytes());
    }
    reply.bulk(b"passwords");
    reply.array(acl.passwords().len());
    acl.passwords().iter().for_each(|hash| reply.bulk(hash.as_bytes()));
    for (field, text) in [
        ("commands", acl.commands_text()),
        ("keys", acl.keys_text().collect::<Vec<_>>().join(" ")),
        ("channels", acl.channels_text().collect::<Vec<_>>().join(" ")),
        ("databases", acl.databases_text()),
    ] {
        reply.bulk(field.as_bytes());
        reply.bulk(text.as_bytes());
    }
    reply.bulk(b"selectors");
    reply.array(0);
}

fn find<'a>(server: &'a Server, name: &[u8]) -> Option<&'a Arc<Acl>> {
    std::str::from_utf8(name).ok().and_then(|name| server.users.get(name))
}

fn set_user(server: &mut Server, connection: &mut Connection, name: &[u8], rules: &[&[u8]]) {
    let name = match std::str::from_utf8(name) {
        Ok(DEFAULT) => return connection.encoder().error(OWN),
        Ok(name) if !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(|byte| byte.is_ascii_graphic()) => {
            name
        }
        _ => return connection.encoder().error("ERR Usernames can't contain spaces or null characters"),
    };
    let mut acl = server.users.get(name).map_or_else(|| Acl::new(name), |acl| Acl::clone(acl));
    for rule in rules {
        if let Err(error) = acl.apply(rule) {
            // A password is not repeated.
            let told = if matches!(rule.first(), Some(b'>' | b'<')) { "(password)".into() } else { shown(rule, 128) };
            return connection.encoder().error(&format!("ERR Error in ACL SETUSER modifier '{told}': {error}"));
        }
    }
    if let Some(store) = &server.user_store
        && let Err(error) = store.put(name, &acl.rules(), user_name(connection))
    {
        return connection.encoder().error(&format!("ERR the user was not kept: {error}"));
    }
    let acl = Arc::new(acl);
    server.users.insert(name.to_owned(), Arc::clone(&acl));
    for other in server.connections.iter_mut().flatten().map(|other| &mut **other).chain([&mut *connection]) {
        if other.client.acl.as_ref().is_some_and(|old| old.name() == name) {
            other.client.acl = Some(Arc::clone(&acl));
        }
    }
    ok(connection);
}

fn delete_users(server: &mut Server, connection: &mut Connection, names: &[&[u8]]) {
    if names.contains(&DEFAULT.as_bytes()) {
        return connection.encoder().error("ERR The 'default' user cannot be removed");
    }
    let found: Vec<String> = names
        .iter()
        .filter_map(|name| find(server, name))
        .map(|acl| acl.name().to_owned())
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    if let Some(store) = &server.user_store
        && let Err(error) = store.remove(&found, user_name(connection))
    {
        return connection.encoder().error(&format!("ERR the users were not removed: {error}"));
    }
    for name in &found {
        server.users.remove(name);
        super::client::kill_where(server, connection, false, |other| user_name(other) == name);
    }
    connection.encoder().integer(found.len() as i64);
}

fn cat(connection: &mut Connection, category: &[u8]) {
    let name = shown(category, 128);
    match categories::find(&name) {
        Some(category) => {
            let members = categories::members(category);
            let mut reply = connection.encoder();
            reply.array(members.len());
            for name in members {
                reply.bulk(name.as_bytes());
            }
        }
        None => connection.encoder().error(&format!("ERR Unknown category '{name}'")),
    }
}

/// `ACL GENPASS [bits]`: so many random bits, rounded up to whole hexadecimal digits.
fn generate_password(connection: &mut Connection, bits: Option<&[u8]>) {
    const WRONG: &str =
        "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096";
    let Some(bits) = bits.map_or(Some(256), number).filter(|bits| (1..=4096).contains(bits)) else {
        return connection.encoder().error(WRONG);
    };
    let digits = bits.unsigned_abs().div_ceil(4) as usize;
    let mut bytes = vec![0; digits.div_ceil(2)];
    SystemRandom.fill(&mut bytes);
    let text = ids::hex(&bytes);
    connection.encoder().bulk(text.get(..digits).unwrap_or(&text).as_bytes());
}

fn dry_run(server: &Server, connection: &mut Connection, name: &[u8], arguments: &[&[u8]]) {
    let acl = find(server, name);
    if acl.is_none() && name != DEFAULT.as_bytes() {
        return connection.encoder().error(&format!("ERR User '{}' not found", shown(name, 128)));
    }
    let Some(command) = arguments.first().and_then(|name| lookup(name)) else {
        let name = shown(arguments.first().copied().unwrap_or_default(), 128);
        return connection.encoder().error(&format!("ERR Command '{name}' not found"));
    };
    if !command.takes(arguments.len()) {
        return wrong_arguments(connection, command.name);
    }
    match acl.map_or(Ok(()), |acl| acl.check(command, acl.database(0), arguments)) {
        Ok(()) => ok(connection),
        Err(denied) => {
            let text = match &denied {
                Denied::Key(key) => {
                    format!("User {} has no permissions to access the '{}' key", shown(name, 128), shown(key, 128))
                }
                Denied::Channel(channel) => {
                    format!(
                        "User {} has no permissions to access the '{}' channel",
                        shown(name, 128),
                        shown(channel, 128)
                    )
                }
                other => other.to_string().trim_start_matches("NOPERM ").to_owned(),
            };
            connection.encoder().bulk(text.as_bytes());
        }
    }
}

impl Server {
    /// Whether the connection's user may run this; notes it if not.
    pub(in crate::resp) fn denies(
        &mut self,
        connection: &Connection,
        command: &'static crate::kv::Command,
        arguments: &[&[u8]],
    ) -> Option<Denied> {
        let acl = connection.client.acl.as_ref()?;
        let denied = acl.check(command, connection.client.db, arguments).err()?;
        let (reason, object) = match &denied {
            Denied::Command { command, .. } => ("command", command.clone()),
            Denied::Key(key) => ("key", shown(key, 128)),
            Denied::Channel(channel) => ("channel", shown(channel, 128)),
            Denied::Database(number) => ("database", number.to_string()),
        };
        let context = if connection.client.queued().is_some() && !command.flags.contains(Flags::AT_ONCE) {
            "multi"
        } else {
            "toplevel"
        };
        self.note_refusal(connection, reason, object, acl.name().to_owned(), context);
        Some(denied)
    }

    /// Notes something a client was not allowed. The same within a minute counts up.
    pub(in crate::resp) fn note_refusal(
        &mut self,
        connection: &Connection,
        reason: &'static str,
        object: String,
        user: String,
        context: &'static str,
    ) {
        let (now, now_ms) = (self.now, self.clock.now().millis());
        let same = |entry: &&mut Refused| {
            (entry.reason, &entry.object, &entry.user, entry.context) == (reason, &object, &user, context)
                && now.saturating_sub(entry.updated) < Duration::from_mins(1)
        };
        let client = super::client::line(self, connection).trim_end().to_owned();
        if let Some(entry) = self.acl_log.entries.iter_mut().find(same) {
            entry.count += 1;
            (entry.updated, entry.updated_ms, entry.client) = (now, now_ms, client);
            return;
        }
        let id = self.acl_log.next;
        self.acl_log.next += 1;
        self.acl_log.entries.truncate(LOG_MAX - 1);
        self.acl_log.entries.push_front(Refused {
            reason,
            object,
            user,
            context,
            client,
            count: 1,
            id,
            created: now,
            updated: now,
            created_ms: now_ms,
            updated_ms: now_ms,
        });
    }
}

fn log(server: &mut Server, connection: &mut Connection, option: Option<&[u8]>) {
    if option.is_some_and(|option| option.eq_ignore_ascii_case(b"reset")) {
        server.acl_log.entries.clear();
        return ok(connection);
    }
    let count = match option.map(|count| number(count).filter(|count| *count >= 0)) {
        None => 10,
        Some(Some(count)) => usize::try_from(count).unwrap_or(usize::MAX),
        Some(None) => return connection.encoder().error("ERR value is out of range, must be positive"),
    };
    let now = server.now;
    let mut reply = connection.encoder();
    reply.array(count.min(server.acl_log.entries.len()));
    for entry in server.acl_log.entries.iter().take(count) {
        reply.map(10);
        reply.bulk(b"count");
        reply.integer(entry.count as i64);
        for (field, text) in [
            ("reason", entry.reason),
            ("context", entry.context),
            ("object", entry.object.as_str()),
            ("username", entry.user.as_str()),
        ] {
            reply.bulk(field.as_bytes());
            reply.bulk(text.as_bytes());
        }
        reply.bulk(b"age-seconds");
        reply.double(now.saturating_sub(entry.created).as_secs_f64());
        reply.bulk(b"client-info");
        reply.bulk(entry.client.as_bytes());
        reply.bulk(b"entry-id");
        reply.integer(entry.id as i64);
        reply.bulk(b"timestamp-created");
        reply.integer(entry.created_ms as i64);
        reply.bulk(b"timestamp-last-updated");
        reply.integer(entry.updated_ms as i64);
    }
}

fn help(connection: &mut Connection) {
    const LINES: [&str; 13] = [
        "ACL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CAT [<category>]: the categories, or the commands of one.",
        "DELUSER <username> [<username> ...]: remove users and close their connections.",
        "DRYRUN <username> <command> [<arg> ...]: whether a user may run a command.",
        "GENPASS [<bits>]: a random password.",
        "GETUSER <username>: a user's rights.",
        "LIST: every user as rules.",
        "LOG [<count> | RESET]: what was refused.",
        "SETUSER <username> <rule> [<rule> ...]: make or change a user; db=0,3 binds it to databases.",
        "USERS: the names.",
        "WHOAMI: whose connection this is.",
        "HELP",
        "    Print this help.",
    ];
    let mut reply = connection.encoder();
    reply.array(LINES.len());
    for line in LINES {
        reply.simple(line);
    }
}
