//! `/kv/key`: one key of the Redis door: what it holds, its expiry, changes, and its end.

use std::fmt::Write as _;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::kv::{address, database, key_address, keyspace};
use crate::console::fault::sentence;
use crate::console::{Answer, Confirm, Console, Fault, Fields, Flash, Form, Frame, Page, Section, format, page};
use crate::kv::handle::AskError;
use crate::kv::{Handle, Value};

/// Elements of a collection shown.
const ROWS: usize = 200;

/// Longest string shown and edited, in bytes, and longest element shown.
const TEXT_MAX: usize = 64 << 10;
const ELEMENT_MAX: usize = 2 << 10;

/// Longest key an address may name, in bytes.
const KEY_MAX: usize = 8 << 10;

/// Characters of a key that the audit log keeps; the rest may be a secret, such as a session's token.
const NOTED: usize = 24;

#[derive(Template)]
#[template(path = "kv_key.html", whitespace = "preserve")]
struct KeyPage {
    frame: Frame,
    db: u8,
    above: String,
    here: String,
    delete: String,
    kind: String,
    encoding: String,
    bytes: u64,
    /// Milliseconds until it goes.
    ttl_ms: Option<u64>,
    length: u64,
    /// A string, when it is text that a form gives back unchanged.
    text: Option<String>,
    /// A string otherwise, as far as it can be shown.
    shown: String,
    rows: Vec<Row>,
}

impl KeyPage {
    /// What the columns of its elements are called.
    fn heads(&self) -> (&'static str, &'static str) {
        match self.kind.as_str() {
            "hash" => ("Field", "Value"),
            "zset" => ("Score", "Element"),
            "stream" => ("Entry", "Fields"),
            _ => ("Place", "Element"),
        }
    }

    /// Whether there are more elements than are shown.
    fn is_cut(&self) -> bool {
        (self.rows.len() as u64) < self.length
    }
}

/// An element of a collection.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    /// The field, or the place in a list; empty in a set.
    name: String,
    value: String,
    /// What names it in a form; `None` for what a form cannot take away.
    item: Option<String>,
}

/// What a form or an address names.
struct Named {
    db: u8,
    key: Vec<u8>,
}

impl Named {
    fn read(db: &str, key: &str) -> Result<Self, Fault> {
        let key = URL_SAFE_NO_PAD.decode(key).ok().filter(|key| key.len() <= KEY_MAX);
        Ok(Self { db: database(db)?, key: key.ok_or_else(|| Fault::not_found("key"))? })
    }

    fn of(page: &Page) -> Result<Self, Fault> {
        Self::read(page.query("db"), page.query("key"))
    }

    fn address(&self) -> String {
        key_address(self.db, &self.key)
    }

    /// Its name as the audit log may have it.
    fn noted(&self) -> String {
        let text = String::from_utf8_lossy(&self.key);
        let short: String = text.chars().take(NOTED).collect();
        let more = if short.len() < text.len() { "…" } else { "" };
        format!("database {}: {short}{more}", self.db)
    }

    /// The words of a command on it: name, key, and what follows.
    fn words(&self, command: &str, rest: &[&[u8]]) -> Vec<Vec<u8>> {
        let head = [command.as_bytes().to_vec(), self.key.clone()];
        head.into_iter().chain(rest.iter().map(|word| word.to_vec())).collect()
    }

    async fn ask(&self, keyspace: &Handle, command: &str, rest: &[&[u8]]) -> Result<Value, Fault> {
        keyspace.ask(self.db, self.words(command, rest)).await.map_err(|error| fault(&error))
    }

    async fn number(&self, keyspace: &Handle, command: &str) -> Result<u64, Fault> {
        Ok(number(&self.ask(keyspace, command, &[]).await?))
    }
}

/// `GET /kv/key`.
pub async fn show(State(console): State<Console>, page: Page) -> Answer {
    let (keyspace, named) = (keyspace(&console)?, Named::of(&page)?);
    let Value::Simple(kind) = named.ask(keyspace, "TYPE", &[]).await? else { return Err(Fault::not_found("key")) };
    if kind == "none" {
        return Err(Fault::not_found("key"));
    }
    let memory = vec![b"MEMORY".to_vec(), b"USAGE".to_vec(), named.key.clone()];
    let encoding = vec![b"OBJECT".to_vec(), b"ENCODING".to_vec(), named.key.clone()];
    let memory = keyspace.ask(named.db, memory).await.map_err(|error| fault(&error))?;
    let encoding = keyspace.ask(named.db, encoding).await.map_err(|error| fault(&error))?;
    let ttl = named.ask(keyspace, "PTTL", &[]).await?;
    let Content { length, text, shown, rows } = content(keyspace, &named, &kind).await?;
    let key = String::from_utf8_lossy(&named.key).into_owned();
    let above = key.rsplit_once(':').map(|(above, _)| format!("{above}:")).unwrap_or_default();
    page::show(&KeyPage {
        frame: page.frame(key, Section::Redis),
        db: named.db,
        above: address(named.db, &above),
        here: named.address(),
        delete: named.address().replacen("/kv/key?", "/kv/key/delete?", 1),
        kind,
        encoding: lossy(&encoding),
        bytes: number(&memory),
        ttl_ms: if let Value::Integer(ttl @ 0..) = ttl { Some(ttl.unsigned_abs()) } else { None },
        length,
        text,
        shown,
        rows,
    })
}

/// What a key holds, as far as it is shown.
#[derive(Default)]
struct Content {
    length: u64,
    text: Option<String>,
    shown: String,
    rows: Vec<Row>,
}

async fn content(keyspace: &Handle, named: &Named, kind: &str) -> Result<Content, Fault> {
    let most = ROWS.to_string();
    let (most, last) = (most.as_bytes(), (ROWS - 1).to_string());
    let mut content = Content::default();
    match kind {
        "string" => {
            content.length = named.number(keyspace, "STRLEN").await?;
            let end = (TEXT_MAX - 1).to_string();
            let start = bytes(named.ask(keyspace, "GETRANGE", &[b"0", end.as_bytes()]).await?);
            match String::from_utf8(start) {
                // A browser sends each line's end as CR LF.
                Ok(text) if content.length <= TEXT_MAX as u64 && !text.contains(['\r', '\0']) => {
                    content.text = Some(text);
                }
                Ok(text) => content.shown = text,
                Err(error) => content.shown = escaped(error.as_bytes(), TEXT_MAX),
            }
        }
        "list" => {
            content.length = named.number(keyspace, "LLEN").await?;
            let found = items(named.ask(keyspace, "LRANGE", &[b"0", last.as_bytes()]).await?);
            content.rows = (0_u64..).zip(found).map(|(at, item)| row(at.to_string(), &item, &item)).collect();
        }
        "set" => {
            content.length = named.number(keyspace, "SCARD").await?;
            let found = scanned(named.ask(keyspace, "SSCAN", &[b"0", b"COUNT", most]).await?);
            content.rows = found.iter().take(ROWS).map(|item| row(String::new(), item, item)).collect();
        }
        "hash" => {
            content.length = named.number(keyspace, "HLEN").await?;
            let found = scanned(named.ask(keyspace, "HSCAN", &[b"0", b"COUNT", most]).await?);
            content.rows = pairs(&found).map(|(field, value)| row(escaped(field, ELEMENT_MAX), value, field)).collect();
        }
        "zset" => {
            content.length = named.number(keyspace, "ZCARD").await?;
            let found = items(named.ask(keyspace, "ZRANGE", &[b"0", last.as_bytes(), b"WITHSCORES"]).await?);
            content.rows = pairs(&found).map(|(item, score)| row(escaped(score, 64), item, item)).collect();
        }
        "stream" => {
            content.length = named.number(keyspace, "XLEN").await?;
            let found = named.ask(keyspace, "XREVRANGE", &[b"+", b"-", b"COUNT", most]).await?;
            let Value::Array(entries) = found else { return Ok(content) };
            content.rows = entries.into_iter().filter_map(entry).collect();
        }
        _ => {}
    }
    Ok(content)
}

/// `POST /kv/key`: changes what the key holds, or when it goes.
pub async fn change(State(console): State<Console>, Form { page, fields }: Form) -> Answer {
    let (keyspace, named) = (keyspace(&console)?, Named::of(&page)?);
    let words = match command(&named, &fields) {
        Ok(words) => words,
        Err(text) => return page.redirect_saying(&named.address(), &Flash::bad(text)),
    };
    match keyspace.ask(named.db, words).await {
        Ok(Value::Null) => {
            page.redirect_saying(&named.address(), &Flash::bad("The key is not there any more: nothing was changed."))
        }
        Ok(_) => {
            note(&console, &page, "kv.changed", &named).await?;
            // Without its last element a key is gone.
            let there = named.ask(keyspace, "EXISTS", &[]).await?;
            let there = number(&there) == 1;
            let to = if there { named.address() } else { address(named.db, "") };
            page.redirect_saying(&to, &Flash::good("The key is changed."))
        }
        Err(error) => page.redirect_saying(&named.address(), &Flash::bad(sentence(&error.to_string()))),
    }
}

/// The command that a form means.
fn command(named: &Named, fields: &Fields) -> Result<Vec<Vec<u8>>, &'static str> {
    let value = fields.text("value").replace("\r\n", "\n");
    let (value, name) = (value.as_bytes(), fields.text("name").as_bytes());
    let item = URL_SAFE_NO_PAD.decode(fields.text("item")).unwrap_or_default();
    Ok(match (fields.text("do"), fields.text("kind")) {
        // Not made anew when it has gone in the meantime.
        ("set", "string") => named.words("SET", &[value, b"XX", b"KEEPTTL"]),
        ("add", "hash") => named.words("HSET", &[name, value]),
        ("add", "list") => named.words("RPUSHX", &[value]),
        ("add", "set") => named.words("SADD", &[value]),
        ("add", "zset") => named.words("ZADD", &[name, value]),
        ("drop", "hash") => named.words("HDEL", &[&item]),
        ("drop", "list") => named.words("LREM", &[b"1", &item]),
        ("drop", "set") => named.words("SREM", &[&item]),
        ("drop", "zset") => named.words("ZREM", &[&item]),
        ("drop", "stream") => named.words("XDEL", &[&item]),
        ("expire", _) => match fields.trimmed("seconds") {
            "" => named.words("PERSIST", &[]),
            seconds => {
                let after = seconds.parse::<u64>().ok().filter(|seconds| (1..=u64::from(u32::MAX)).contains(seconds));
                let after = after.ok_or("Say after how many whole seconds it shall go, or nothing for never.")?;
                named.words("EXPIRE", &[after.to_string().as_bytes()])
            }
        },
        _ => return Err("The form does not say what to do."),
    })
}

/// `GET /kv/key/delete`.
pub async fn ask_delete(State(console): State<Console>, page: Page) -> Answer {
    let (_, named) = (keyspace(&console)?, Named::of(&page)?);
    let frame = page.frame("Delete this key?", Section::Redis);
    let text = format!("{} is gone for good then.", escaped(&named.key, ELEMENT_MAX));
    Confirm::new(frame, text, "Delete it", named.address()).show()
}

/// `POST /kv/key/delete`.
pub async fn delete(State(console): State<Console>, Form { page, .. }: Form) -> Answer {
    let (keyspace, named) = (keyspace(&console)?, Named::of(&page)?);
    named.ask(keyspace, "DEL", &[]).await?;
    note(&console, &page, "kv.deleted", &named).await?;
    let key = String::from_utf8_lossy(&named.key);
    let above = key.rsplit_once(':').map(|(above, _)| format!("{above}:")).unwrap_or_default();
    page.redirect_saying(&address(named.db, &above), &Flash::good("The key is deleted."))
}

async fn note(console: &Console, page: &Page, action: &'static str, named: &Named) -> Result<(), Fault> {
    let noted = console.world().users.note(&page.by(), action, &named.noted()).await;
    noted.map_err(|error| Fault::refused(&error))
}

fn fault(error: &AskError) -> Fault {
    match error {
        AskError::Command(text) => Fault::bad_request(text.clone()),
        AskError::Change(error) => Fault::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

fn row(name: String, value: &[u8], item: &[u8]) -> Row {
    // A longer one would not fit into a form.
    let item = (item.len() <= KEY_MAX).then(|| URL_SAFE_NO_PAD.encode(item));
    Row { name, value: escaped(value, ELEMENT_MAX), item }
}

/// An entry of a stream: its id, and its fields in order.
fn entry(value: Value) -> Option<Row> {
    let Value::Array(parts) = value else { return None };
    let mut parts = parts.into_iter();
    let (id, fields) = (bytes(parts.next()?), items(parts.next()?));
    let fields: Vec<String> = pairs(&fields)
        .map(|(field, value)| format!("{}: {}", escaped(field, ELEMENT_MAX), escaped(value, ELEMENT_MAX)))
        .collect();
    Some(Row { name: escaped(&id, 64), value: fields.join("\n"), item: Some(URL_SAFE_NO_PAD.encode(&id)) })
}

fn number(value: &Value) -> u64 {
    if let Value::Integer(number) = value { u64::try_from(*number).unwrap_or(0) } else { 0 }
}

fn bytes(value: Value) -> Vec<u8> {
    match value {
        Value::Bulk(bytes) => bytes,
        Value::Integer(number) => number.to_string().into_bytes(),
        Value::Double(number) => number.to_string().into_bytes(),
        _ => Vec::new(),
    }
}

fn lossy(value: &Value) -> String {
    escaped(&bytes(value.clone()), 64)
}

fn items(value: Value) -> Vec<Vec<u8>> {
    if let Value::Array(values) = value { values.into_iter().map(bytes).collect() } else { Vec::new() }
}

/// The elements in the answer of the `SCAN` family.
fn scanned(value: Value) -> Vec<Vec<u8>> {
    if let Value::Array(parts) = value { parts.into_iter().nth(1).map(items).unwrap_or_default() } else { Vec::new() }
}

fn pairs(items: &[Vec<u8>]) -> impl Iterator<Item = (&[u8], &[u8])> {
    items.chunks_exact(2).take(ROWS).filter_map(|pair| Some((pair.first()?.as_slice(), pair.get(1)?.as_slice())))
}

/// Bytes as people read them: text as it is, what is none as `\x..`, cut to `most` bytes.
fn escaped(bytes: &[u8], most: usize) -> String {
    let shown = bytes.get(..most).unwrap_or(bytes);
    let mut out = String::new();
    let mut taken = 0;
    for chunk in shown.utf8_chunks() {
        out.push_str(chunk.valid());
        taken += chunk.valid().len() + chunk.invalid().len();
        // A letter that was cut in two is no odd byte.
        if taken == shown.len() && shown.len() < bytes.len() {
            break;
        }
        for byte in chunk.invalid() {
            // Writing into a String cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    if shown.len() < bytes.len() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::query::Query;

    fn named() -> Named {
        Named { db: 2, key: b"session:0123456789abcdef0123456789abcdef".to_vec() }
    }

    #[test]
    fn the_audit_log_has_a_part_of_the_name() {
        assert_eq!(named().noted(), "database 2: session:0123456789abcdef…");
    }

    #[test]
    fn an_address_names_any_bytes() {
        let odd = Named { db: 0, key: vec![0, 255, b'&', b'='] };
        let query = odd.address().split_once('?').unwrap().1.to_owned();
        let query = Query::parse(&query).unwrap();
        let again = Named::read(query.get("db").unwrap(), query.get("key").unwrap()).unwrap();
        assert_eq!(again.key, odd.key);
        assert!(Named::read("16", "").is_err());
        assert!(Named::read("0", "!").is_err());
    }

    #[test]
    fn bytes_that_are_no_text_are_escaped() {
        assert_eq!(escaped(b"a\xffb", 10), "a\\xffb");
        assert_eq!(escaped("grüße".as_bytes(), 100), "grüße");
        assert_eq!(escaped(b"abcdef", 3), "abc…");
        assert_eq!(escaped("aü".as_bytes(), 2), "a…");
    }
}
