//! Running commands on the keyspace's thread.

use axum::http::StatusCode;

use super::Refused;
use super::reply::{ANSWER_MAX, JsonReply};
use super::request::Command;
use crate::kv::commands::lookup;
use crate::kv::{Client, Flags, Flow, Handle, Keyspace, Reply as _};

/// Commands of a pipeline run between two turns of the keyspace's loop.
const AT_ONCE: usize = 128;

/// Names the connections of this interface; no socket's connection is ever called so.
const CLIENT: u64 = u64::MAX;

/// Commands about the state of a connection that outlives them.
const OF_A_CONNECTION: [&str; 7] = ["multi", "exec", "discard", "watch", "unwatch", "select", "reset"];

type Answer = Result<(StatusCode, Vec<u8>), Refused>;

/// Runs one command.
pub(super) async fn one(keyspace: &Handle, command: Command, base64: bool) -> Answer {
    let (text, failed) = outcomes(keyspace, vec![command], base64).await?;
    let status = if failed { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    Ok((status, text))
}

/// Runs commands one after the other; others may get in between.
pub(super) async fn pipeline(keyspace: &Handle, commands: Vec<Command>, base64: bool) -> Answer {
    let mut out = vec![b'['];
    let mut commands = commands.into_iter().peekable();
    while commands.peek().is_some() {
        let (text, _) = outcomes(keyspace, commands.by_ref().take(AT_ONCE).collect(), base64).await?;
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(&text);
        if out.len() > ANSWER_MAX {
            return Err(too_large());
        }
    }
    out.push(b']');
    Ok((StatusCode::OK, out))
}

/// Runs commands as a transaction.
pub(super) async fn transaction(keyspace: &Handle, commands: Vec<Command>, base64: bool) -> Answer {
    let writes = commands.iter().any(writes);
    let work = move |keyspace: &mut Keyspace| {
        let mut client = Client::new(CLIENT);
        let mut unheard = JsonReply::new(false, 0);
        say(keyspace, &mut client, &[b"MULTI"], &mut unheard);
        for Command(words) in &commands {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            match allowed(&words) {
                Ok(()) => say(keyspace, &mut client, &words, &mut unheard),
                Err(text) => {
                    unheard.error(&text);
                    Keyspace::refuse(&mut client);
                }
            }
            if unheard.len() > ANSWER_MAX {
                break;
            }
        }
        // Why it was refused, which `EXEC` does not tell.
        let refused = unheard.finish().filter(|(_, failed)| *failed).map(|(text, _)| text);
        let mut reply = JsonReply::new(base64, 1);
        say(keyspace, &mut client, &[b"EXEC"], &mut reply);
        keyspace.disconnect(&mut client);
        (reply.finish(), refused)
    };
    let (done, refused) = if writes { keyspace.change(work).await? } else { keyspace.call(work).await? };
    if let Some(told) = refused {
        return Err(Refused::bad(format!("EXECABORT Transaction discarded because of: {}", first_error(&told))));
    }
    let (text, _) = done.ok_or_else(too_large)?;
    Ok((StatusCode::OK, text))
}

/// The outcome of each of `commands`, separated by commas, and whether one is an error.
async fn outcomes(keyspace: &Handle, commands: Vec<Command>, base64: bool) -> Result<(Vec<u8>, bool), Refused> {
    let writes = commands.iter().any(writes);
    let work = move |keyspace: &mut Keyspace| {
        let mut client = Client::new(CLIENT);
        let mut reply = JsonReply::new(base64, 0);
        for Command(words) in &commands {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            match allowed(&words) {
                Ok(()) => say(keyspace, &mut client, &words, &mut reply),
                Err(text) => reply.error(&text),
            }
        }
        keyspace.disconnect(&mut client);
        reply.finish()
    };
    let done = if writes { keyspace.change(work).await? } else { keyspace.call(work).await? };
    done.ok_or_else(too_large)
}

fn too_large() -> Refused {
    Refused::bad(format!("ERR the answer would be larger than {ANSWER_MAX} bytes"))
}

/// The first error in the outcomes `text`.
fn first_error(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let error = text.split_once("{\"error\":").map_or("", |(_, rest)| rest);
    let parsed = serde_json::Deserializer::from_str(error).into_iter::<String>().next();
    parsed.and_then(Result::ok).unwrap_or_default()
}

/// Whether the command may change keys, so that its reply must wait for the journal.
fn writes(command: &Command) -> bool {
    let found = command.0.first().and_then(|name| lookup(name));
    found.is_some_and(|command| !command.flags.contains(Flags::READONLY))
}

/// Whether a client without a connection may say so.
fn allowed(words: &[&[u8]]) -> Result<(), String> {
    let name = words.first().copied().unwrap_or_default();
    let shown = || String::from_utf8_lossy(name.get(..128).unwrap_or(name)).into_owned();
    let Some(command) = lookup(name) else {
        return Err(format!("ERR Command is not available: '{}'", shown()));
    };
    let bound = command.run.is_none()
        || command.flags.contains(Flags::ADMIN)
        || (command.flags.contains(Flags::PUBSUB) && !matches!(command.name, "publish" | "spublish" | "pubsub"))
        || OF_A_CONNECTION.contains(&command.name);
    if bound { Err(format!("ERR Command is not available: '{}'", shown())) } else { Ok(()) }
}

fn say(keyspace: &mut Keyspace, client: &mut Client, words: &[&[u8]], reply: &mut JsonReply) {
    let Some(command) = words.first().and_then(|name| lookup(name)) else { return };
    let flow = keyspace.execute_at_once(command, client, words, reply);
    debug_assert_eq!(flow, Flow::Done, "{}", command.name);
}
