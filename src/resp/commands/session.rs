//! `HELLO`, `AUTH`, `RESET`, `QUIT`: who a client is and how it speaks.

use super::{VERSION, ok};
use crate::crypto::mac;
use crate::kv::Reply;
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
pub fn auth(server: &Server, connection: &mut Connection, arguments: &[&[u8]]) {
    match *arguments {
        [_] if server.password.is_none() => connection.encoder().error(NO_PASSWORD),
        [password] => login(server, connection, b"default", password),
        [user, password] => login(server, connection, user, password),
        _ => connection.encoder().error("ERR syntax error"),
    }
}

fn login(server: &Server, connection: &mut Connection, user: &[u8], password: &[u8]) {
    if is_right(server, user, password) {
        connection.authenticated = true;
        ok(connection);
    } else {
        connection.encoder().error(WRONG);
    }
}

/// There is one user, called `default` as in Redis.
fn is_right(server: &Server, user: &[u8], password: &[u8]) -> bool {
    let right = server.password.as_ref().is_none_or(|wanted| mac::equal(wanted.expose().as_bytes(), password));
    right && user == b"default"
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`.
pub fn hello(server: &Server, connection: &mut Connection, arguments: &[&[u8]]) {
    match parse(server, connection, arguments) {
        Ok(hello) => {
            if let Some(protocol) = hello.protocol {
                connection.protocol = protocol;
            }
            connection.authenticated = true;
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
}

/// Nothing of a `HELLO` takes effect unless all of it is right.
fn parse(server: &Server, connection: &Connection, arguments: &[&[u8]]) -> Result<Hello, String> {
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
                if !is_right(server, user, password) {
                    return Err(WRONG.to_owned());
                }
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
    connection.protocol = Protocol::Resp2;
    connection.replies = Replies::On;
    connection.name.clear();
    connection.no_evict = false;
    connection.no_touch = false;
    connection.encoder().simple("RESET");
}

/// `QUIT`.
pub fn quit(connection: &mut Connection) {
    ok(connection);
    connection.closing = true;
}
