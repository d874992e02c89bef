//! `HELLO`, `AUTH`, `RESET`, `QUIT`: who a client is and how it speaks.

use std::net::SocketAddr;
use std::sync::Arc;

use super::acl::DEFAULT;
use super::{VERSION, ok};
use crate::bans::Door;
use crate::base::ids;
use crate::crypto::mac;
use crate::kv::Reply;
use crate::kv::acl::Acl;
use crate::resp::connection::{Connection, Replies};
use crate::resp::dispatch::shown;
use crate::resp::encoder::Protocol;
use crate::resp::protocol::number;
use crate::resp::server::Server;

const WRONG: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?";
const HELLO_FIRST: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time";
/// Redis' answer to a name that `CLIENT LIST` could not show.
pub const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

/// `AUTH [user] password`.
pub fn auth(server: &mut Server, connection: &mut Connection, arguments: &[&[u8]]) {
    match *arguments {
        [_] if server.password.is_none() => connection.encoder().error(NO_PASSWORD),
        [password] => login(server, connection, DEFAULT.as_bytes(), password),
        [user, password] => login(server, connection, user, password),
        _ => connection.encoder().error("ERR syntax error"),
    }
}

fn login(server: &mut Server, connection: &mut Connection, user: &[u8], password: &[u8]) {
    if let Some(identity) = find(server, user, password) {
        take(connection, identity);
        return ok(connection);
    }
    note(server, connection, user);
    connection.encoder().error(WRONG);
}

/// Who a client turned out to be: `None` inside is the user `default`.
type Identity = Option<Arc<Acl>>;

/// Whose name and password these are. A client that gives no name means `default`, as in `redis://:password@…`.
fn find(server: &Server, user: &[u8], password: &[u8]) -> Option<Identity> {
    if user.is_empty() || user == DEFAULT.as_bytes() {
        let right = server.password.as_ref().is_none_or(|wanted| mac::equal(wanted.expose().as_bytes(), password));
        return right.then_some(None);
    }
    let acl = server.users.get(std::str::from_utf8(user).ok()?)?;
    let hash = ids::hex(&mac::sha256(password));
    // Every one is compared, so that the time tells nothing.
    let known = acl.passwords().iter().fold(false, |known, one| known | mac::equal(one.as_bytes(), hash.as_bytes()));
    (acl.is_on() && (known || acl.needs_no_password())).then(|| Some(Arc::clone(acl)))
}

fn take(connection: &mut Connection, identity: Identity) {
    connection.authenticated = true;
    if let Some(acl) = &identity {
        // A user bound to databases begins in one of them.
        connection.client.db = acl.database(connection.client.db);
    }
    connection.client.acl = identity;
}

/// A wrong name or password goes into `ACL LOG`; a name that is none may be a password in the wrong place. Jails hear of it
/// too, and who is banned for it loses the connection.
fn note(server: &mut Server, connection: &mut Connection, user: &[u8]) {
    let known = std::str::from_utf8(user).ok().filter(|name| *name == DEFAULT || server.users.contains_key(*name));
    let name = known.unwrap_or("(unknown)").to_owned();
    server.note_refusal(connection, "auth", String::from("AUTH"), name, "toplevel");
    // A path, for the Unix socket: nobody to ban.
    if let Ok(peer) = connection.peer.parse::<SocketAddr>() {
        connection.closing |= server.bans.failed_login(peer.ip(), Door::Redis);
    }
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`.
pub fn hello(server: &mut Server, connection: &mut Connection, arguments: &[&[u8]]) {
    match parse(server, connection, arguments) {
        Ok(hello) => {
            if let Some(protocol) = hello.protocol {
                connection.protocol = protocol;
            }
            if let Some(identity) = hello.identity {
                take(connection, identity);
            }
            if let Some(name) = hello.name {
                connection.name = name;
            }
            greet(connection);
        }
        Err(text) => connection.encoder().error(&text),
    }
}

#[derive(Default)]
struct Hello {
    protocol: Option<Protocol>,
    name: Option<String>,
    identity: Option<Identity>,
}

/// Nothing of a `HELLO` takes effect unless all of it is right.
fn parse(server: &mut Server, connection: &mut Connection, arguments: &[&[u8]]) -> Result<Hello, String> {
    let mut hello = Hello::default();
    let mut authenticated = connection.authenticated;
    let mut rest = arguments;
    if let [version, behind @ ..] = rest {
        let version = number(version).ok_or("ERR Protocol version is not an integer or out of range")?;
        hello.protocol = Some(match version {
            2 => Protocol::Resp2,
            3 => Protocol::Resp3,
            _ => return Err("NOPROTO unsupported protocol version".to_owned()),
        });
        rest = behind;
    }
    loop {
        rest = match rest {
            [] => break,
            [option, user, password, behind @ ..] if option.eq_ignore_ascii_case(b"auth") => {
                let Some(identity) = find(server, user, password) else {
                    note(server, connection, user);
                    return Err(WRONG.to_owned());
                };
                hello.identity = Some(identity);
                authenticated = true;
                behind
            }
            [option, name, behind @ ..] if option.eq_ignore_ascii_case(b"setname") => {
                hello.name = Some(client_name(name).ok_or(BAD_NAME)?);
                behind
            }
            [option, ..] => return Err(format!("ERR Syntax error in HELLO option '{}'", shown(option, 128))),
        };
    }
    if authenticated { Ok(hello) } else { Err(HELLO_FIRST.to_owned()) }
}

fn greet(connection: &mut Connection) {
    let id = i64::try_from(connection.client.id).unwrap_or(i64::MAX);
    let version = if connection.protocol == Protocol::Resp3 { 3 } else { 2 };
    let mut reply = connection.encoder();
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.integer(version);
    reply.bulk(b"id");
    reply.integer(id);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
}

/// A name as `CLIENT LIST` can show it: visible ASCII, at most 1 KiB.
pub fn client_name(name: &[u8]) -> Option<String> {
    let fits = name.len() <= 1024 && name.iter().all(u8::is_ascii_graphic);
    fits.then(|| String::from_utf8_lossy(name).into_owned())
}

/// `RESET`: as if just connected.
pub fn reset(server: &mut Server, connection: &mut Connection) {
    server.keyspace.disconnect(&mut connection.client);
    connection.authenticated = server.password.is_none();
    connection.client.acl = None;
    connection.protocol = Protocol::Resp2;
    connection.replies = Replies::On;
    connection.name.clear();
    connection.no_evict = false;
    if std::mem::take(&mut connection.watches) {
        server.watchers.retain(|id| *id != connection.client.id);
    }
    connection.no_touch = false;
    connection.encoder().simple("RESET");
}

/// `QUIT`.
pub fn quit(connection: &mut Connection) {
    ok(connection);
    connection.closing = true;
}
