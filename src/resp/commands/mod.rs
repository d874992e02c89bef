//! The commands the door runs itself: about the connection, its clients, and the server.

pub mod acl;
mod admin;
mod client;
mod config;
mod docs;
mod docs_table;
mod info;
mod key_specs;
mod session;
mod slow;
mod table;

use super::connection::Connection;
use super::dispatch::{repeated, shown};
use super::server::Server;
use crate::kv::{Command, Reply};

/// The version of Redis whose behaviour this is; libraries compare it.
pub const VERSION: &str = "7.2.4";

/// Runs a door command whose number of arguments is right.
pub fn run(server: &mut Server, connection: &mut Connection, command: &'static Command, arguments: &[&[u8]]) {
    let rest = arguments.get(1..).unwrap_or_default();
    match command.name {
        "hello" => session::hello(server, connection, rest),
        "auth" => session::auth(server, connection, rest),
        "reset" => session::reset(server, connection),
        "quit" => session::quit(connection),
        "client" => client::run(server, connection, rest),
        "command" => table::run(server, connection, rest),
        "info" => info::run(server, connection, rest),
        "acl" => acl::run(server, connection, rest),
        "slowlog" => slow::slowlog(server, connection, rest),
        "latency" => slow::latency(server, connection, rest),
        "monitor" => monitor(server, connection),
        "config" => config::run(server, connection, rest),
        _ => admin::run(server, connection, command.name, rest),
    }
}

/// `MONITOR`: from now on the client is shown what others send.
fn monitor(server: &mut Server, connection: &mut Connection) {
    if !connection.watches {
        connection.watches = true;
        server.watchers.push(connection.client.id);
    }
    ok(connection);
}

/// A subcommand's name in lower case.
fn lower(name: Option<&&[u8]>) -> String {
    shown(name.copied().unwrap_or_default(), 64).to_ascii_lowercase()
}

/// Redis' answer to a subcommand that is not there.
fn unknown_subcommand(connection: &mut Connection, command: &str, name: Option<&&[u8]>) {
    let name = repeated(name.copied().unwrap_or_default(), 128);
    let text = [&b"ERR unknown subcommand '"[..], name, b"'. Try ", command.as_bytes(), b" HELP."].concat();
    connection.encoder().error_bytes(&text);
}

/// Redis' answer to the wrong number of arguments of a subcommand.
fn wrong_arguments(connection: &mut Connection, command: &str) {
    connection.encoder().error(&format!("ERR wrong number of arguments for '{command}' command"));
}

fn ok(connection: &mut Connection) {
    connection.encoder().simple("OK");
}
