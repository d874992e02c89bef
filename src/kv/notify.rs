//! Keyspace notifications: what happens to keys, published to who listens.
//!
//! An event is published twice: to `__keyspace@<db>__:<key>` with the event's name as the message, and to
//! `__keyevent@<db>__:<event>` with the key. Which of the two, and which classes of events, is a setting
//! (`kv.notify_keyspace_events`, `CONFIG SET notify-keyspace-events`); by default none.
//!
//! No command announces anything itself. What it did stands in its [effects](super::effect), which name every change of
//! every key in order; together with the command's name they give the event. What effects do not tell (a key is new,
//! has expired, was evicted, was not there) the keyspace notes beside them, with the place among the effects where it
//! happened. So a command that is added announces itself, by its own name where nothing else is known.
//!
//! Source: the documentation of Redis, "Redis keyspace notifications"; the order of events is that of Redis 7.2.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::effect::{self, Effect, End};
use super::keyspace::Keyspace;
use super::value::stream::Change;

/// A class of events, by the letter that asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Generic,
    String,
    List,
    Set,
    Hash,
    ZSet,
    Expired,
    Evicted,
    Stream,
    Module,
    Missed,
    New,
}

/// In the order in which they are shown.
const CLASSES: [(u8, Class); 12] = [
    (b'g', Class::Generic),
    (b'$', Class::String),
    (b'l', Class::List),
    (b's', Class::Set),
    (b'h', Class::Hash),
    (b'z', Class::ZSet),
    (b'x', Class::Expired),
    (b'e', Class::Evicted),
    (b't', Class::Stream),
    (b'd', Class::Module),
    (b'm', Class::Missed),
    (b'n', Class::New),
];

/// Classes that `A` stands for: all but the last two.
const ALL: u16 = (1 << 10) - 1;
/// `K`: to channels named for keys.
const BY_KEY: u16 = 1 << 12;
/// `E`: to channels named for events.
const BY_EVENT: u16 = 1 << 13;

impl Class {
    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// Which events are published, and how: the letters of `notify-keyspace-events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events(u16);

/// A text with a letter that asks for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")]
pub struct EventsError;

impl Events {
    /// Whether events of `class` are published anywhere.
    const fn wants(self, class: Class) -> bool {
        self.0 & class.bit() != 0 && self.are_published()
    }

    const fn are_published(self) -> bool {
        self.0 & (BY_KEY | BY_EVENT) != 0
    }
}

impl FromStr for Events {
    type Err = EventsError;

    fn from_str(text: &str) -> Result<Self, EventsError> {
        let mut bits = 0;
        for letter in text.bytes() {
            bits |= match letter {
                b'A' => ALL,
                b'K' => BY_KEY,
                b'E' => BY_EVENT,
                _ => CLASSES.iter().find(|(known, _)| *known == letter).ok_or(EventsError)?.1.bit(),
            };
        }
        Ok(Self(bits))
    }
}

impl fmt::Display for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.0 & ALL == ALL;
        if all {
            f.write_str("A")?;
        }
        let shown = |class: Class| self.0 & class.bit() != 0 && !(all && ALL & class.bit() != 0);
        for (letter, class) in CLASSES.iter().filter(|(_, class)| *class != Class::Missed) {
            if shown(*class) {
                write!(f, "{}", char::from(*letter))?;
            }
        }
        for (letter, bit) in [('K', BY_KEY), ('E', BY_EVENT), ('m', Class::Missed.bit())] {
            if self.0 & bit != 0 {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Events {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Events {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What is noted beside the effects, until it is announced.
#[derive(Debug, Default)]
pub(super) struct Notes {
    events: Events,
    noted: Vec<Note>,
}

#[derive(Debug)]
struct Note {
    /// Bytes of effects there were.
    at: usize,
    class: Class,
    event: &'static str,
    db: u8,
    key: Box<[u8]>,
}

impl Notes {
    /// Nothing is noted.
    pub const fn new(events: Events) -> Self {
        Self { events, noted: Vec::new() }
    }

    /// Notes an event behind the first `at` bytes of effects.
    pub fn add(&mut self, at: usize, class: Class, event: &'static str, db: u8, key: &[u8]) {
        if self.events.wants(class) {
            self.noted.push(Note { at, class, event, db, key: key.into() });
        }
    }

    /// A key was looked for in vain.
    pub fn missed(&mut self, at: usize, db: u8, key: &[u8]) {
        self.add(at, Class::Missed, "keymiss", db, key);
    }

    /// A consumer of a group is there that was not, whichever command named it first.
    pub fn new_consumer(&mut self, at: usize, db: u8, key: &[u8]) {
        self.add(at, Class::Stream, "xgroup-createconsumer", db, key);
    }

    /// Fields of a string were written.
    pub fn fields_written(&mut self, at: usize, db: u8, key: &[u8]) {
        self.add(at, Class::String, "setbit", db, key);
    }

    /// A key is there that was not; `at` is where its first effect begins.
    pub fn new_key(&mut self, at: usize, db: u8, key: &[u8]) {
        self.add(at, Class::New, "new", db, key);
    }

    /// The effect that begins at `at` deletes a key, for another reason than a command. It is noted whatever is wanted, or the
    /// effect would be taken for a command's.
    pub fn deleted(&mut self, at: usize, class: Class, db: u8, key: &[u8]) {
        if self.events.are_published() {
            let event = if class == Class::Expired { "expired" } else { "evicted" };
            self.noted.push(Note { at, class, event, db, key: key.into() });
        }
    }
}

/// One event to publish.
struct Event {
    class: Class,
    name: &'static str,
    db: u8,
    key: Box<[u8]>,
}

/// Moves of one element, of whose events Redis sends the push first.
const MOVES: [&str; 4] = ["lmove", "rpoplpush", "blmove", "brpoplpush"];
/// Commands for which the key they write is new even when it was there.
const ANEW: [&str; 5] = ["rename", "renamenx", "move", "copy", "restore"];

impl Keyspace {
    /// Which events are published.
    pub const fn events(&self) -> Events {
        self.notes.events
    }

    /// Changes which events are published.
    pub fn set_events(&mut self, events: Events) {
        self.notes.events = events;
    }

    /// Publishes what was done since the last call, by the command whose name is `by` (as the table spells it) and whose
    /// arguments, name included, are `args`.
    pub(super) fn announce(&mut self, by: &'static str, args: &[&[u8]]) {
        let from = self.effects.announce();
        if from == self.effects.mark() && self.notes.noted.is_empty() || !self.notes.events.are_published() {
            self.notes.noted.clear();
            return;
        }
        let mut events = self.collect_events(from, by, args);
        if MOVES.contains(&by) {
            // Stable: what stands before keeps its order.
            events.sort_by_key(|event| !matches!(event.name, "lpush" | "rpush" | "new" | "keymiss" | "expired"));
        } else if matches!(by, "rename" | "renamenx" | "move") {
            events.sort_by_key(|event| !matches!(event.name, "new" | "keymiss" | "expired"));
        }
        for Event { class, name, db, key } in events {
            self.publish_event(class, name, db, &key);
        }
    }

    fn collect_events(&mut self, from: usize, by: &'static str, args: &[&[u8]]) -> Vec<Event> {
        let mut events = Vec::new();
        let mut noted = std::mem::take(&mut self.notes.noted).into_iter().peekable();
        let anew = ANEW.contains(&by);
        for (at, effect) in effect::located(self.effects.bytes().get(from..).unwrap_or_default()) {
            let at = at.saturating_add(from);
            let mut told = false;
            while let Some(note) = noted.next_if(|note| note.at <= at) {
                told |= note.at == at && matches!(note.class, Class::Expired | Class::Evicted);
                if note.class != Class::New || !anew {
                    events.push(Event { class: note.class, name: note.event, db: note.db, key: note.key });
                }
            }
            let Some((store, key)) = effect.place().filter(|_| !told) else { continue };
            let Some(db) = self.stores.iter().position(|named| *named == store) else { continue };
            let db = u8::try_from(db).unwrap_or(0);
            let mut push = |class, name| events.push(Event { class, name, db, key: key.into() });
            if anew && matches!(effect, Effect::Restore { .. }) {
                push(Class::New, "new");
            }
            if let Some((class, name)) = event_of(&effect, by, args) {
                push(class, name);
            }
            if lives_from_now_on(&effect, by, args) {
                push(Class::Generic, "expire");
            }
        }
        events.extend(noted.filter(|note| note.class != Class::New || !anew).map(|note| Event {
            class: note.class,
            name: note.event,
            db: note.db,
            key: note.key,
        }));
        events
    }

    fn publish_event(&mut self, class: Class, name: &str, db: u8, key: &[u8]) {
        let events = self.notes.events;
        if !events.wants(class) {
            return;
        }
        if events.0 & BY_KEY != 0 {
            let mut channel = format!("__keyspace@{db}__:").into_bytes();
            channel.extend_from_slice(key);
            self.publish(&channel, name.as_bytes());
        }
        if events.0 & BY_EVENT != 0 {
            self.publish(format!("__keyevent@{db}__:{name}").as_bytes(), key);
        }
    }
}

/// Whether a `SET` gave its key a lifetime, which is an event of its own.
fn lives_from_now_on(effect: &Effect<'_>, by: &str, args: &[&[u8]]) -> bool {
    matches!(effect, Effect::Set { expires: Some(_), .. })
        && matches!(by, "set" | "setex" | "psetex" | "cl.throttle")
        && !args.iter().skip(3).any(|option| option.eq_ignore_ascii_case(b"keepttl"))
}

/// The event of an effect of the command `by`.
fn event_of(effect: &Effect<'_>, by: &'static str, args: &[&[u8]]) -> Option<(Class, &'static str)> {
    let has = |option: &[u8]| args.iter().skip(2).any(|arg| arg.eq_ignore_ascii_case(option));
    Some(match effect {
        Effect::Begin
        | Effect::End
        | Effect::Databases(_)
        | Effect::NoLibraries
        | Effect::Library { .. }
        | Effect::LibraryDelete { .. }
        | Effect::Flush { .. } => return None,
        Effect::Delete { .. } => match by {
            "rename" | "renamenx" => (Class::Generic, "rename_from"),
            "move" => (Class::Generic, "move_from"),
            _ => (Class::Generic, "del"),
        },
        // It writes field by field, and is announced once, by itself.
        _ if by == "bitfield" => return None,
        Effect::Set { .. } => match by {
            "incr" | "decr" | "incrby" | "decrby" => (Class::String, "incrby"),
            "incrbyfloat" => (Class::String, "incrbyfloat"),
            // An estimate that is kept is no event.
            "pfcount" => return None,
            _ => written(by),
        },
        Effect::Append { .. } => (Class::String, "append"),
        Effect::SetRange { .. } if by == "setrange" => (Class::String, "setrange"),
        Effect::SetRange { .. } if by == "pfcount" => return None,
        Effect::SetRange { .. } => written(by),
        Effect::Expire { expires: None, .. } => (Class::Generic, "persist"),
        Effect::Expire { .. } => (Class::Generic, "expire"),
        Effect::Restore { .. } => match by {
            "rename" | "renamenx" => (Class::Generic, "rename_to"),
            "move" => (Class::Generic, "move_to"),
            "copy" => (Class::Generic, "copy_to"),
            "sort" => (Class::List, "sortstore"),
            "sunionstore" | "sinterstore" | "sdiffstore" => (Class::Set, by),
            "zunionstore" | "zinterstore" | "zdiffstore" | "zrangestore" | "geosearchstore" => (Class::ZSet, by),
            "georadius" | "georadiusbymember" => (Class::ZSet, "georadiusstore"),
            "setbit" | "pfadd" | "pfmerge" | "pfdebug" | "bitop" => written(by),
            _ => (Class::Generic, by),
        },
        Effect::Push { end: End::Head, .. } => (Class::List, "lpush"),
        Effect::Push { end: End::Tail, .. } => (Class::List, "rpush"),
        Effect::Pop { end: End::Head, .. } => (Class::List, "lpop"),
        Effect::Pop { end: End::Tail, .. } => (Class::List, "rpop"),
        Effect::ListSet { .. } => (Class::List, "lset"),
        Effect::ListInsert { .. } => (Class::List, "linsert"),
        Effect::ListRemove { .. } => (Class::List, "lrem"),
        Effect::ListKeep { .. } => (Class::List, "ltrim"),
        Effect::HashSet { .. } => match by {
            "hincrby" | "hincrbyfloat" => (Class::Hash, by),
            _ => (Class::Hash, "hset"),
        },
        Effect::HashDelete { .. } => (Class::Hash, "hdel"),
        Effect::SetAdd { .. } => (Class::Set, "sadd"),
        Effect::SetRemove { .. } if by == "spop" => (Class::Set, "spop"),
        Effect::SetRemove { .. } => (Class::Set, "srem"),
        Effect::ZSetAdd { .. } if by == "zincrby" || by == "zadd" && has(b"incr") => (Class::ZSet, "zincr"),
        Effect::ZSetAdd { .. } => (Class::ZSet, "zadd"),
        Effect::ZSetRemove { .. } => match by {
            "zremrangebyscore" | "zremrangebyrank" | "zremrangebylex" | "zpopmin" | "zpopmax" => (Class::ZSet, by),
            "bzpopmax" => (Class::ZSet, "zpopmax"),
            "zmpop" | "bzmpop" if has(b"max") => (Class::ZSet, "zpopmax"),
            "bzpopmin" | "zmpop" | "bzmpop" => (Class::ZSet, "zpopmin"),
            _ => (Class::ZSet, "zrem"),
        },
        Effect::Stream { change, .. } => (Class::Stream, event_of_stream(change, args)?),
    })
}

/// The event of a change of a stream; what happens to entries that are pending is none.
fn event_of_stream(change: &Change<'_>, args: &[&[u8]]) -> Option<&'static str> {
    let asks_for = |name: &[u8]| args.get(1).is_some_and(|part| part.eq_ignore_ascii_case(name));
    Some(match change {
        Change::Add { .. } => "xadd",
        Change::Trim { .. } => "xtrim",
        Change::Delete { .. } => "xdel",
        Change::Set { .. } => "xsetid",
        Change::Group { .. } if asks_for(b"create") => "xgroup-create",
        Change::Group { .. } if asks_for(b"setid") => "xgroup-setid",
        Change::Destroy { .. } => "xgroup-destroy",
        Change::Forget { .. } => "xgroup-delconsumer",
        Change::Group { .. } | Change::Consumer { .. } | Change::Give { .. } | Change::Acknowledge { .. } => {
            return None;
        }
    })
}

/// The event of a command that writes a string whole or in place.
fn written(by: &str) -> (Class, &'static str) {
    let name = match by {
        "setbit" => "setbit",
        "pfadd" | "pfmerge" | "pfdebug" => "pfadd",
        _ => "set",
    };
    (Class::String, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_shown_as_redis_shows_them() {
        for (text, shown) in
            [("", ""), ("KEA", "AKE"), ("AKEmn", "AnKEm"), ("Kg$lshzxetd", "AK"), ("nmExg", "gxnEm"), ("$l", "$l")]
        {
            assert_eq!(text.parse::<Events>().unwrap().to_string(), shown);
        }
        assert!("KQ".parse::<Events>().is_err());
    }
}
