//! `/kv`: what the Redis door keeps, by the parts of the keys' names.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::dashboard::{Plan, draw};
use crate::base::Timestamp;
use crate::console::chart::{Drawing, Kind, Unit};
use crate::console::{Answer, Console, Fault, Frame, Page, Section, format, page};
use crate::http::uri::encode_component;
use crate::kv::browse::PER_TURN;
use crate::kv::config::DATABASES;
use crate::kv::{CallError, DatabaseInfo, Handle, Listed};
use crate::monitor::history::Range;

/// Most keys looked at for one page; beyond, figures are of a part, and another page goes on.
const LOOKED_AT: usize = 100_000;

/// Most turns of the keyspace's loop one page takes part in: a table that was larger has empty places to go through.
const TURNS: usize = 2 * LOOKED_AT / PER_TURN;

/// Most groups and most keys shown.
const ROWS: usize = 200;

/// Most different groups told apart.
const GROUPS: usize = 10_000;

/// What stands between the parts of a key's name, by convention.
const SEPARATOR: u8 = b':';

const CHARTS: [Plan; 2] = [
    ("Reads", Kind::Line, Unit::PerSecond, &[("kv.hits", "found"), ("kv.misses", "not there")]),
    ("Memory of keys and values", Kind::Area, Unit::Bytes, &[("kv.memory", "")]),
];

#[derive(Template)]
#[template(path = "kv.html", whitespace = "preserve")]
struct KvPage {
    frame: Frame,
    charts: Vec<Drawing>,
    databases: Vec<(u8, DatabaseInfo)>,
    db: u8,
    prefix: String,
    /// The prefixes above: text and address.
    above: Vec<(String, String)>,
    groups: Vec<Group>,
    more_groups: usize,
    keys: Vec<Shown>,
    more_keys: usize,
    /// What of the database was looked at, when that is not everything.
    part: Option<Part>,
    used: u64,
    most: u64,
    /// Hundredths of reads that found their key.
    hits: Option<u64>,
    now: Timestamp,
}

/// A part of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    /// Keys looked at.
    seen: u64,
    /// The page that goes on; `None` behind the last.
    next: Option<String>,
    /// The page that begins, when this is not it.
    first: Option<String>,
}

/// Keys that share the next part of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: String,
    address: String,
    keys: u64,
    bytes: u64,
}

/// A key with no further part.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    name: String,
    address: String,
    listed: Listed,
}

impl Shown {
    fn expires(&self) -> Option<Timestamp> {
        self.listed.expires.map(Timestamp)
    }
}

/// `GET /kv`.
pub async fn show(State(console): State<Console>, page: Page) -> Answer {
    let keyspace = keyspace(&console)?;
    let (db, prefix) = (database(page.query("db"))?, page.query("prefix").to_owned());
    let facts = keyspace.call(|keyspace| {
        let databases: Vec<DatabaseInfo> = (0..DATABASES).map(|db| keyspace.database_info(db)).collect();
        (databases, keyspace.used() + keyspace.memory_of_program(), keyspace.memory_limit() as u64, keyspace.counts())
    });
    let (databases, used, most, counts) = facts.await.map_err(busy)?;
    // A cursor of another time finds some keys twice at worst, as with `SCAN`.
    let from = page.query("from").parse().unwrap_or(0);
    let found = look(keyspace, db, from, prefix.as_bytes()).await.map_err(busy)?;
    let here = address(db, &prefix);
    let part = (from > 0 || found.next > 0).then(|| Part {
        seen: found.seen as u64,
        next: (found.next > 0).then(|| format!("{here}&from={}", found.next)),
        first: (from > 0).then_some(here),
    });
    let databases = (0_u8..).zip(databases).filter(|(number, info)| info.keys > 0 || *number == db || *number == 0);
    let reads = counts.hits + counts.misses;
    let mut above = Vec::new();
    for (at, _) in prefix.match_indices(':') {
        let here = prefix.get(..=at).unwrap_or_default();
        let part = here.trim_end_matches(':').rsplit(':').next().unwrap_or_default();
        above.push((format!("{part}:"), address(db, here)));
    }
    page::show(&KvPage {
        frame: page.frame("Redis", Section::Redis),
        charts: CHARTS.iter().map(|plan| draw(&console, plan, Range::Hour)).collect(),
        databases: databases.collect(),
        db,
        above,
        groups: found.groups.into_iter().take(ROWS).collect(),
        more_groups: found.group_count.saturating_sub(ROWS),
        keys: found.keys.into_iter().map(|listed| shown(db, &prefix, listed)).collect(),
        more_keys: found.key_count.saturating_sub(ROWS),
        part,
        prefix,
        used: used as u64,
        most,
        hits: (reads > 0).then(|| counts.hits * 100 / reads.max(1)),
        now: console.world().clock.now(),
    })
}

/// The keyspace, while there is one.
pub(super) fn keyspace(console: &Console) -> Result<&Handle, Fault> {
    console.world().keyspace.as_ref().ok_or_else(|| Fault::not_found("Redis door: it is off"))
}

/// The number of a database.
pub(super) fn database(text: &str) -> Result<u8, Fault> {
    let number = if text.is_empty() { Some(0) } else { text.parse().ok() };
    number.filter(|number| *number < DATABASES).ok_or_else(|| Fault::not_found("database"))
}

/// The keyspace does not answer.
pub(super) fn busy(error: CallError) -> Fault {
    Fault::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

/// The address of the page of a key.
pub(super) fn key_address(db: u8, key: &[u8]) -> String {
    format!("/kv/key?db={db}&key={}", URL_SAFE_NO_PAD.encode(key))
}

/// The page of a prefix.
pub(super) fn address(db: u8, prefix: &str) -> String {
    format!("/kv?db={db}&prefix={}", encode_component(prefix))
}

fn shown(db: u8, prefix: &str, listed: Listed) -> Shown {
    let rest = listed.key.get(prefix.len()..).unwrap_or_default();
    let name = if rest.is_empty() { String::from_utf8_lossy(&listed.key) } else { String::from_utf8_lossy(rest) };
    Shown { name: name.into_owned(), address: key_address(db, &listed.key), listed }
}

/// What was found below a prefix.
#[derive(Debug, Default)]
struct Found {
    groups: Vec<Group>,
    group_count: usize,
    keys: Vec<Listed>,
    key_count: usize,
    /// Keys looked at.
    seen: usize,
    /// Where the next page begins; 0 after the last.
    next: u64,
}

/// Looks through the keys below `prefix`, from a cursor on (0 at first), in pieces between which clients are served.
async fn look(keyspace: &Handle, db: u8, from: u64, prefix: &[u8]) -> Result<Found, CallError> {
    let mut tally = Tally::default();
    let (mut cursor, mut seen) = (from, 0);
    for _ in 0..TURNS {
        let wanted = prefix.to_vec();
        let piece = keyspace.call(move |keyspace| keyspace.browse(db, cursor, &wanted)).await?;
        for listed in piece.found {
            tally.add(prefix.len(), listed);
        }
        (cursor, seen) = (piece.next, seen + piece.seen);
        if cursor == 0 || seen >= LOOKED_AT {
            break;
        }
    }
    Ok(Found { seen, next: cursor, ..tally.found(db, prefix) })
}

/// Keys by the next part of their names.
#[derive(Debug, Default)]
struct Tally {
    groups: BTreeMap<Vec<u8>, (u64, u64)>,
    keys: BTreeMap<Box<[u8]>, Listed>,
    key_count: usize,
}

impl Tally {
    fn add(&mut self, prefix: usize, listed: Listed) {
        let rest = listed.key.get(prefix..).unwrap_or_default();
        if let Some(at) = rest.iter().position(|byte| *byte == SEPARATOR) {
            let part = rest.get(..=at).unwrap_or_default();
            if self.groups.len() < GROUPS || self.groups.contains_key(part) {
                let group = self.groups.entry(part.to_vec()).or_default();
                *group = (group.0 + 1, group.1 + listed.bytes as u64);
            }
            return;
        }
        // What moves while it is looked through may be shown twice.
        if self.keys.insert(listed.key.clone(), listed).is_none() {
            self.key_count += 1;
        }
        if self.keys.len() > ROWS {
            self.keys.pop_last();
        }
    }

    fn found(self, db: u8, prefix: &[u8]) -> Found {
        let mut groups: Vec<Group> = self
            .groups
            .into_iter()
            // A prefix is text in the page's address.
            .filter_map(|(name, (keys, bytes))| {
                let name = String::from_utf8(name).ok()?;
                let whole = format!("{}{name}", String::from_utf8_lossy(prefix));
                Some(Group { address: address(db, &whole), name, keys, bytes })
            })
            .collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.bytes));
        let group_count = groups.len();
        Found {
            groups,
            group_count,
            keys: self.keys.into_values().collect(),
            key_count: self.key_count,
            ..Found::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(key: &str, bytes: usize) -> Listed {
        Listed { key: key.as_bytes().into(), kind: "string", expires: None, bytes, cold: false }
    }

    #[test]
    fn keys_are_grouped_by_the_next_part_of_their_names() {
        let mut tally = Tally::default();
        for (key, bytes) in [("app:user:1", 10), ("app:user:2", 10), ("app:queue:mail:wait", 100), ("app:config", 1)] {
            tally.add(4, listed(key, bytes));
        }
        tally.add(4, listed("app:config", 1));
        let found = tally.found(3, b"app:");
        let groups: Vec<_> = found.groups.iter().map(|group| (group.name.as_str(), group.keys, group.bytes)).collect();
        assert_eq!(groups, [("queue:", 1, 100), ("user:", 2, 20)]);
        assert_eq!(found.groups[1].address, "/kv?db=3&prefix=app%3Auser%3A");
        assert_eq!((found.keys.len(), found.key_count), (1, 1));
    }

    #[test]
    fn rows_have_a_cap_and_are_counted_beyond_it() {
        let mut tally = Tally::default();
        for number in 0..ROWS + 50 {
            tally.add(0, listed(&format!("k{number:05}"), 1));
        }
        let found = tally.found(0, b"");
        assert_eq!((found.keys.len(), found.keys[0].key.as_ref()), (ROWS, b"k00000".as_slice()));
        assert!(found.key_count > ROWS);
    }
}
