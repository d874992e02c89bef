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
use crate::kv::{Cut, Glimpse, Handle, Start, Value};

/// Longest string shown and edited, in bytes, and longest element shown.
const TEXT_MAX: usize = 64 << 10;
const ELEMENT_MAX: usize = 2 << 10;

/// What is taken out of the keyspace for one page. An element may be longer than what is shown of it: as long as it fits
/// into a form, a form can take it away.
const CUT: Cut = Cut { elements: 200, each: KEY_MAX, string: TEXT_MAX, all: 1 << 20 };

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
    kind: &'static str,
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
        match self.kind {
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
}

/// `GET /kv/key`.
pub async fn show(State(console): State<Console>, page: Page) -> Answer {
    let (keyspace, named) = (keyspace(&console)?, Named::of(&page)?);
    let glimpse = keyspace.glimpse(named.db, named.key.clone(), CUT).await.map_err(|error| fault(&error))?;
    let Some(glimpse) = glimpse else { return Err(Fault::not_found("key")) };
    let memory = vec![b"MEMORY".to_vec(), b"USAGE".to_vec(), named.key.clone()];
    let encoding = vec![b"OBJECT".to_vec(), b"ENCODING".to_vec(), named.key.clone()];
    let memory = keyspace.ask(named.db, memory).await.map_err(|error| fault(&error))?;
    let encoding = keyspace.ask(named.db, encoding).await.map_err(|error| fault(&error))?;
    let ttl = named.ask(keyspace, "PTTL", &[]).await?;
    let (kind, length) = (glimpse.kind, glimpse.length);
    let Content { text, shown, rows } = Content::of(glimpse);
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
    text: Option<String>,
    shown: String,
    rows: Vec<Row>,
}

impl Content {
    fn of(Glimpse { kind, elements, .. }: Glimpse) -> Self {
        let mut content = Self::default();
        if kind == "string" {
            let Some(start) = elements.into_iter().flatten().next() else { return content };
            let whole = start.is_whole();
            match String::from_utf8(start.bytes) {
                // A browser sends each line's end as CR LF.
                Ok(text) if whole && !text.contains(['\r', '\0']) => content.text = Some(text),
                Ok(text) => content.shown = text,
                Err(error) => content.shown = escaped(error.as_bytes(), start.len, TEXT_MAX),
            }
        } else {
            content.rows = (0_u64..).zip(&elements).filter_map(|(place, parts)| Row::of(kind, place, parts)).collect();
        }
        content
    }
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
    let text = format!("{} is gone for good then.", escaped(&named.key, named.key.len(), ELEMENT_MAX));
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

impl Row {
    /// An element by its parts, as [`Glimpse`] has them.
    fn of(kind: &str, place: u64, parts: &[Start]) -> Option<Self> {
        let (first, rest) = parts.split_first()?;
        let second = rest.first();
        let (name, value) = match kind {
            "list" => (place.to_string(), shown(first)),
            "hash" => (shown(first), second.map(shown).unwrap_or_default()),
            "zset" => (second.map(shown).unwrap_or_default(), shown(first)),
            "stream" => {
                let pair = |pair: &[Start]| pair.iter().map(shown).collect::<Vec<_>>().join(": ");
                (shown(first), rest.chunks(2).map(pair).collect::<Vec<_>>().join("\n"))
            }
            _ => (String::new(), shown(first)),
        };
        // A longer one would not fit into a form.
        let item = first.is_whole().then(|| URL_SAFE_NO_PAD.encode(&first.bytes));
        Some(Self { name, value, item })
    }
}

fn shown(start: &Start) -> String {
    escaped(&start.bytes, start.len, ELEMENT_MAX)
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
    let text = bytes(value.clone());
    escaped(&text, text.len(), 64)
}

/// Bytes as people read them: text as it is, what is none as `\x..`, cut to `most` bytes; `len` is how many there are in
/// all, of which `bytes` may be the first.
fn escaped(bytes: &[u8], len: usize, most: usize) -> String {
    let shown = bytes.get(..most).unwrap_or(bytes);
    let mut out = String::new();
    let mut taken = 0;
    for chunk in shown.utf8_chunks() {
        out.push_str(chunk.valid());
        taken += chunk.valid().len() + chunk.invalid().len();
        // A letter that was cut in two is no odd byte.
        if taken == shown.len() && shown.len() < len {
            break;
        }
        for byte in chunk.invalid() {
            // Writing into a String cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    if shown.len() < len {
        // Writing into a String cannot fail.
        let _ = write!(out, "… ({} in all)", format::bytes(len as u64));
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
        assert_eq!(escaped(b"a\xffb", 3, 10), "a\\xffb");
        assert_eq!(escaped("grüße".as_bytes(), 7, 100), "grüße");
        assert_eq!(escaped(b"abcdef", 6, 3), "abc… (6 B in all)");
        assert_eq!(escaped(b"abc", 5 << 20, 3), "abc… (5 MiB in all)");
        assert_eq!(escaped("aü".as_bytes(), 3, 2), "a… (3 B in all)");
    }

    #[test]
    fn an_element_that_was_cut_is_shown_with_its_length_and_has_no_form() {
        let whole = |text: &str| Start { bytes: text.into(), len: text.len() };
        let cut = Start { bytes: b"ab".to_vec(), len: 3 << 20 };
        let row = Row::of("list", 7, std::slice::from_ref(&cut)).unwrap();
        assert_eq!((row.name.as_str(), row.value.as_str(), row.item), ("7", "ab… (3 MiB in all)", None));
        let row = Row::of("hash", 0, &[whole("f"), cut]).unwrap();
        assert_eq!((row.name.as_str(), row.item), ("f", Some(URL_SAFE_NO_PAD.encode("f"))));
        let row = Row::of("zset", 0, &[whole("m"), whole("1.5")]).unwrap();
        assert_eq!((row.name.as_str(), row.value.as_str()), ("1.5", "m"));
        let row = Row::of("stream", 0, &[whole("1-1"), whole("a"), whole("b"), whole("c")]).unwrap();
        assert_eq!((row.name.as_str(), row.value.as_str()), ("1-1", "a: b\nc"));
        assert_eq!(Row::of("set", 3, &[whole("m")]).unwrap().name, "");
    }
}
