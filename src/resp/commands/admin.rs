//! Commands for operators. What Redis does with forks, replicas and modules does not exist here; each is answered as
//! Redis answers where it is disabled.

use super::ok;
use crate::kv::persist::SyncMode;
use crate::kv::{Reply, number};
use crate::resp::connection::Connection;
use crate::resp::server::Server;

const CLUSTER: &str = "ERR This instance has cluster support disabled";
const NOT_HERE: &str = "ERR this command is not available here";

const NO_REPLICAS: &str =
    "ERR there is no replication here: one server is one machine, and backups are its second copy";
const NO_MODULES: &str = "ERR MODULE command not allowed: modules cannot be loaded here";

fn is(arguments: &[&[u8]], words: &[&str]) -> bool {
    let mut pairs = arguments.iter().zip(words);
    arguments.len() == words.len() && pairs.all(|(given, word)| given.eq_ignore_ascii_case(word.as_bytes()))
}

/// Runs the command called `name`.
pub fn run(server: &mut Server, connection: &mut Connection, name: &str, arguments: &[&[u8]]) {
    match name {
        "save" => save(server, connection),
        "bgsave" => {
            background(server);
            connection.encoder().simple("Background saving started");
        }
        "bgrewriteaof" => {
            background(server);
            connection.encoder().simple("Background append only file rewriting started");
        }
        "lastsave" => connection.encoder().integer(server.stats.last_save as i64),
        "wait" => wait(connection, arguments),
        "waitaof" => wait_aof(server, connection, arguments),
        "role" => {
            let mut reply = connection.encoder();
            reply.array(3);
            reply.bulk(b"master");
            reply.integer(0);
            reply.array(0);
        }
        "asking" | "cluster" | "readonly" | "readwrite" => connection.encoder().error(CLUSTER),
        // It has no master as it is.
        "replicaof" | "slaveof" if is(arguments, &["no", "one"]) => ok(connection),
        "replicaof" | "slaveof" | "psync" | "sync" | "replconf" => connection.encoder().error(NO_REPLICAS),
        "failover" => connection.encoder().error("ERR FAILOVER requires connected replicas."),
        "module" if is(arguments, &["list"]) => connection.encoder().array(0),
        "module" => connection.encoder().error(NO_MODULES),
        "lolwut" => connection.encoder().verbatim(concat!("Mainstay ", env!("CARGO_PKG_VERSION"), "\n").as_bytes()),
        "shutdown" => shutdown(server, connection),
        _ => connection.encoder().error(NOT_HERE),
    }
}

/// `SAVE`: everything acknowledged is durable when the reply comes; the checkpoint follows.
fn save(server: &mut Server, connection: &mut Connection) {
    background(server);
    match server.save() {
        Ok(()) => ok(connection),
        Err(refusal) => connection.encoder().error(&refusal.told()),
    }
}

fn background(server: &mut Server) {
    server.persistence.checkpoint();
    server.stats.last_save = server.clock.now().seconds();
}

/// `WAIT replicas timeout`: no replica ever acknowledges anything.
fn wait(connection: &mut Connection, arguments: &[&[u8]]) {
    let numbers: Vec<Option<i64>> = arguments.iter().map(|text| number::integer(text)).collect();
    let mut reply = connection.encoder();
    match numbers.as_slice() {
        [Some(_), Some(0..)] => reply.integer(0),
        [Some(_), Some(_)] => reply.error("ERR timeout is negative"),
        [Some(_), None] => reply.error("ERR timeout is not an integer or out of range"),
        _ => reply.error("ERR value is not an integer or out of range"),
    }
}

/// `WAITAOF local replicas timeout`: what is durable here, and no replica.
fn wait_aof(server: &mut Server, connection: &mut Connection, arguments: &[&[u8]]) {
    let local = arguments.first().copied().unwrap_or_default();
    if !matches!(local, b"0" | b"1") {
        return connection.encoder().error("ERR value is out of range, must be between 0 and 1");
    }
    let wanted = local == b"1" && server.persistence.mode() != SyncMode::Always;
    // Half a transaction is not written: inside of one nothing waits, as in Redis, and nothing is promised.
    let durable = !wanted || !connection.client.is_executing() && server.save().is_ok();
    let mut reply = connection.encoder();
    reply.array(2);
    reply.integer(i64::from(durable));
    reply.integer(0);
}

fn shutdown(server: &Server, connection: &mut Connection) {
    if server.config.allow_shutdown {
        tracing::info!(client = connection.client.id, peer = connection.peer, "a Redis client stops the server");
        connection.closing = true;
        server.shutdown.drain();
    } else {
        connection.encoder().error("ERR SHUTDOWN is not allowed (redis.allow_shutdown)");
    }
}
