//! What a restore from a damaged backup could not bring back, and what becomes of the rest.
//!
//! A damaged chunk costs what is in it. Where rows are lost, others may mean something only together with them:
//!
//! | tables | when rows of them may be lost |
//! |---|---|
//! | those of people and credentials | all of them go. A second factor, a password's change or a right that was taken back may be among what is lost, and nobody may get in for want of a row. The server makes new credentials at its start, as the first time; `mainstay setup-link` prints the link for the first account |
//! | objects and buckets | an object is whole or gone ([`objects::settle`](crate::objects)) |
//! | those whose rows stand alone ([`ALONE`]) | the others stay |
//! | any other | those of the same room and file go |

use std::fmt::Write as _;

use serde::Serialize;

use super::keys::shown;
use crate::kv::persist::salvage::Salvaged;
use crate::objects::backup::Settled;
use crate::store::recover::{Recovered, clear};
use crate::store::{Store, StoreError};

/// Most things named one by one.
pub(super) const NAMED: usize = 10_000;

/// The tables of people and credentials begin so.
const PEOPLE: &str = "accounts.";

/// Tables whose rows nothing else depends on: what happened, how often, and what is asked for again when it is not there.
pub(super) const ALONE: [&str; 13] = [
    "accounts.audit",
    "accounts.failures",
    "backup.heads",
    "backup.outcomes",
    "edge.certificates",
    "issues.charts",
    "issues.events",
    "issues.received",
    "issues.recent",
    "issues.users",
    "limits.states",
    "mail.counts",
    "mail.hours",
];

/// Their rows are settled by the room itself.
const OBJECTS: &str = "objects.";

/// What the file says of itself is put back by the store.
const STORE: &str = "store.";

/// Rows that are lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LostTable {
    /// The data file.
    pub file: String,
    /// The table, or a stretch of them when it cannot be told which.
    pub table: String,
    /// Rows of it that are restored.
    pub kept: u64,
    /// Rows of it that are not; absent when their number cannot be told.
    pub lost: Option<u64>,
}

/// All that is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Losses {
    /// Parts of the backup that could not be read, each with what is wrong and what that means.
    pub parts: Vec<String>,
    /// Rows.
    pub rows: Vec<LostTable>,
    /// What was left out besides, for what it depends on is lost.
    pub left_out: Vec<String>,
    /// Keys that are gone, with their databases.
    pub keys: Vec<String>,
    /// Keys that have an older value than they had.
    pub older_keys: Vec<String>,
    /// Keys gone or older beyond those named.
    pub more_keys: u64,
    /// Objects that are gone, as `bucket/key`.
    pub objects: Vec<String>,
    /// Objects gone beyond those named.
    pub more_objects: u64,
}

impl Losses {
    /// Whether nothing is lost.
    pub const fn is_none(&self) -> bool {
        self.parts.is_empty()
            && self.rows.is_empty()
            && self.left_out.is_empty()
            && self.keys.is_empty()
            && self.older_keys.is_empty()
            && self.objects.is_empty()
    }

    /// Takes note of the rows of `file` that are lost.
    pub(super) fn of_rows(&mut self, file: &str, recovered: &Recovered) {
        self.rows.extend(recovered.lost.iter().map(|lost| LostTable {
            file: file.to_owned(),
            table: lost.table.clone(),
            kept: lost.kept,
            lost: lost.lost,
        }));
    }

    /// Takes note of the keys that are not as they were, for `reason`.
    pub(super) fn of_keys(&mut self, saved: &Salvaged, reason: &str) {
        let mut more =
            if saved.unknown > 0 { "; of what is lost it cannot be told which keys it is about" } else { "" };
        if saved.lost.is_empty() && saved.older.is_empty() && saved.unknown == 0 {
            more = "; all keys have what they had, for what is lost was replaced later";
        }
        self.parts.push(format!("keyspace: {reason}{more}"));
        self.keys = saved.lost.iter().take(NAMED).map(shown).collect();
        self.older_keys = saved.older.iter().take(NAMED).map(shown).collect();
        let named = self.keys.len() + self.older_keys.len();
        self.more_keys = (saved.lost.len() + saved.older.len() - named) as u64;
    }

    /// Takes note of the objects that are gone.
    pub(super) fn of_objects(&mut self, settled: Settled) {
        let Settled { objects, more, uploads, unnamed } = settled;
        let room = NAMED.saturating_sub(self.objects.len());
        self.more_objects += more + objects.len().saturating_sub(room) as u64;
        self.objects.extend(objects.into_iter().take(room));
        if uploads > 0 {
            self.left_out.push(format!("{uploads} uploads in progress, whose bucket is lost"));
        }
        if unnamed {
            self.left_out.push("objects whose names nothing tells any more".to_owned());
        }
    }

    /// In words, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut out: Vec<String> = self.parts.iter().map(|part| format!("damaged: {part}")).collect();
        for LostTable { file, table, kept, lost } in &self.rows {
            let mut line = format!("lost: rows of {table} in {file}: ");
            // Writing into a string cannot fail.
            let _ = match lost {
                Some(lost) => write!(line, "{lost} of {}", lost.saturating_add(*kept)),
                None => write!(line, "how many cannot be told"),
            };
            out.push(line);
        }
        out.extend(self.left_out.iter().map(|what| format!("left out: {what}")));
        out.extend(self.keys.iter().map(|key| format!("lost: the key {key}")));
        out.extend(self.older_keys.iter().map(|key| format!("older than it was: the key {key}")));
        if self.more_keys > 0 {
            out.push(format!("lost or older: {} more keys", self.more_keys));
        }
        out.extend(self.objects.iter().map(|name| format!("lost: the object {name}")));
        if self.more_objects > 0 {
            out.push(format!("lost: {} more objects", self.more_objects));
        }
        out
    }
}

/// Removes what may not stay without what is lost; returns what that was, in words. Blocks.
///
/// # Errors
/// The store: the folder must not be used.
pub(super) fn settle(store: &Store, recovered: &Recovered) -> Result<Vec<String>, StoreError> {
    let mut out = Vec::new();
    let tables = store.snapshot()?.tables()?;
    // Tables that lost all their rows are not among those of the store.
    let lost = recovered.lost.iter().map(|lost| lost.table.as_str());
    let suspects: Vec<&str> = tables.iter().map(|table| table.name()).chain(lost).collect();
    if recovered.may_lack_any_of(PEOPLE, &ALONE) {
        let mut rows = 0;
        for table in tables.iter().filter(|table| table.name().starts_with(PEOPLE) && !ALONE.contains(&table.name())) {
            rows += clear(store, *table)?;
        }
        out.push(format!(
            "all accounts, sessions, tokens, access keys and passwords ({rows} rows), for some of them may be lost and \
             nobody is let in on what cannot be verified: the server makes new credentials at its start (`mainstay env`), \
             and `mainstay setup-link` prints the link for the first account"
        ));
    }
    let mut rooms: Vec<&str> = suspects
        .iter()
        .filter(|table| recovered.may_lack(table) && !ALONE.contains(table) && !table.starts_with(PEOPLE))
        .filter(|table| !table.starts_with(OBJECTS) && !table.starts_with(STORE) && !table.contains(' '))
        .filter_map(|table| table.split_once('.').map(|(room, _)| room))
        .collect();
    rooms.sort_unstable();
    rooms.dedup();
    for room in rooms {
        let mut rows = 0;
        for table in &tables {
            if table.name().split_once('.').is_some_and(|(of, _)| of == room) {
                rows += clear(store, *table)?;
            }
        }
        if rows > 0 {
            out.push(format!("the rest of {room} ({rows} rows): rows they belong to are lost"));
        }
    }
    Ok(out)
}
