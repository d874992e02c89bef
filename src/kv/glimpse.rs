//! The beginning of what a key holds, for people. What is too much for a page is cut where it lies: copied out of the
//! keyspace is never more than [`Cut`] says, however large a single element is.

use super::error::Fault;
use super::keyspace::Keyspace;
use super::number;
use super::value::Kind;
use super::value::stream::Id;

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Elements of a collection.
    pub elements: usize,
    /// Bytes of each: of a field and of its value as well.
    pub each: usize,
    /// Bytes of a string.
    pub string: usize,
    /// Bytes of all elements together, roughly.
    pub all: usize,
}

/// What a key holds, as far as there was room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glimpse {
    /// The type, as `TYPE` says it.
    pub kind: &'static str,
    /// Elements it has in all; the bytes of a string.
    pub length: u64,
    /// The first elements, of a stream the newest, each of its parts: the element of a list or set, a field and its value,
    /// a member and its score, an entry's id and its fields and values, a string.
    pub elements: Vec<Vec<Start>>,
}

/// The beginning of a byte string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The first bytes.
    pub bytes: Vec<u8>,
    /// How many there are in all.
    pub len: usize,
}

impl Start {
    /// Whether it is all there is.
    pub const fn is_whole(&self) -> bool {
        self.bytes.len() == self.len
    }
}

/// What a part costs beside its bytes.
const PART: usize = 32;

/// Buckets of a hash or set looked at; one that was far larger once may hold its elements far apart.
const BUCKETS: usize = 100_000;

/// Takes elements while there is room.
struct Taker {
    cut: Cut,
    left: usize,
    taken: Vec<Vec<Start>>,
}

impl Taker {
    const fn is_full(&self) -> bool {
        self.left == 0 || self.taken.len() >= self.cut.elements
    }

    fn take<'a>(&mut self, parts: impl IntoIterator<Item = &'a [u8]>) {
        if self.is_full() {
            return;
        }
        let mut element = Vec::new();
        for part in parts {
            element.push(self.cut(part));
            if self.left == 0 {
                break;
            }
        }
        self.taken.push(element);
    }

    fn cut(&mut self, part: &[u8]) -> Start {
        let most = self.cut.each.min(self.left);
        let bytes = part.get(..most).unwrap_or(part).to_vec();
        self.left = self.left.saturating_sub(bytes.len() + PART);
        Start { bytes, len: part.len() }
    }

    /// Scans a table until there is no more room.
    fn scan(&mut self, mut step: impl FnMut(u64, &mut Self) -> u64) {
        let mut cursor = 0;
        for _ in 0..BUCKETS {
            cursor = step(cursor, self);
            if cursor == 0 || self.is_full() {
                return;
            }
        }
    }
}

impl Keyspace {
    /// The beginning of what `key` holds; `None` when there is no such key. It counts as no use of the key.
    ///
    /// # Errors
    /// The value is on disk and cannot be read.
    pub fn glimpse(&mut self, db: u8, key: &[u8], cut: Cut) -> Result<Option<Glimpse>, Fault> {
        let Some(entry) = self.peek(db, key)? else { return Ok(None) };
        let mut taker = Taker { cut, left: cut.all, taken: Vec::new() };
        let length = match entry.kind() {
            Kind::String => {
                let text = entry.text();
                let bytes = text.get(..cut.string).unwrap_or(&text).to_vec();
                taker.taken.push(vec![Start { bytes, len: text.len() }]);
                text.len()
            }
            Kind::List => {
                let list = entry.list();
                list.each(0, cut.elements, |item| taker.take([item]));
                list.len()
            }
            Kind::Set => {
                let set = entry.set();
                taker.scan(|cursor, taker| set.scan(cursor, |member| taker.take([member])));
                set.len()
            }
            Kind::Hash => {
                let hash = entry.hash();
                taker.scan(|cursor, taker| hash.scan(cursor, |field, value| taker.take([field, value])));
                hash.len()
            }
            Kind::ZSet => {
                let set = entry.zset();
                set.each(0, cut.elements, false, |member, score| {
                    taker.take([member, number::double(score).as_bytes()]);
                });
                set.len()
            }
            Kind::Stream => {
                let stream = entry.stream();
                if let Some(stream) = stream {
                    stream.range(Id::ZERO, Id::MAX, true, |item| {
                        let mut element = vec![taker.cut(item.id.to_string().as_bytes())];
                        item.each(|field, value| {
                            for part in [field, value] {
                                if taker.left > 0 {
                                    element.push(taker.cut(&part));
                                }
                            }
                        });
                        taker.taken.push(element);
                        !taker.is_full()
                    });
                }
                stream.map_or(0, super::value::stream::Stream::len)
            }
        };
        Ok(Some(Glimpse { kind: entry.kind().name(), length: length as u64, elements: taker.taken }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::tests::Session;

    const CUT: Cut = Cut { elements: 3, each: 4, string: 6, all: 1000 };

    /// The elements as text, what is cut with its length.
    fn shown(session: &mut Session, key: &str, cut: Cut) -> (u64, Vec<String>) {
        let glimpse = session.keyspace.glimpse(0, key.as_bytes(), cut).unwrap().unwrap();
        let part = |part: &Start| {
            let text = String::from_utf8_lossy(&part.bytes).into_owned();
            if part.is_whole() { text } else { format!("{text}({})", part.len) }
        };
        let element = |parts: &Vec<Start>| parts.iter().map(part).collect::<Vec<_>>().join(" ");
        (glimpse.length, glimpse.elements.iter().map(element).collect())
    }

    #[test]
    fn the_first_elements_are_shown_and_each_is_cut() {
        let mut session = Session::tiny();
        session.run("SET text abcdefgh");
        session.run("RPUSH list a abcdefgh c d");
        session.run("SADD set only");
        session.run("HSET hash field1 v");
        session.run("ZADD zset 1.5 member 2 n");
        session.run("XADD stream 1-1 f first");
        session.run("XADD stream 1-2 f second g h");
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        for (key, length, elements) in [
            ("text", 8, texts(&["abcdef(8)"])),
            ("list", 4, texts(&["a", "abcd(8)", "c"])),
            ("set", 1, texts(&["only"])),
            ("hash", 1, texts(&["fiel(6) v"])),
            ("zset", 2, texts(&["memb(6) 1.5", "n 2"])),
            ("stream", 2, texts(&["1-2 f seco(6) g h", "1-1 f firs(5)"])),
        ] {
            assert_eq!(shown(&mut session, key, CUT), (length, elements), "{key}");
        }
        assert_eq!(session.keyspace.glimpse(0, b"absent", CUT), Ok(None));
    }

    #[test]
    fn all_of_it_together_is_no_more_than_there_is_room_for() {
        let mut session = Session::tiny();
        let long = "x".repeat(1000);
        let fields: Vec<String> = (0..500).map(|nth| format!("f{nth} {long}")).collect();
        session.run(&format!("HSET hash {}", fields.join(" ")));
        session.run(&format!("XADD stream * {}", fields.join(" ")));
        session.run(&format!("RPUSH list {}", fields.join(" ")));
        let cut = Cut { elements: 200, each: 500, string: 500, all: 10_000 };
        for key in ["hash", "stream", "list"] {
            let glimpse = session.keyspace.glimpse(0, key.as_bytes(), cut).unwrap().unwrap();
            let parts: Vec<&Start> = glimpse.elements.iter().flatten().collect();
            let bytes: usize = parts.iter().map(|part| part.bytes.len()).sum();
            assert!(bytes <= cut.all && bytes > 5_000, "{key}: {bytes}");
            assert!(parts.iter().all(|part| part.bytes.len() <= cut.each), "{key}");
            assert!(!glimpse.elements.is_empty() && glimpse.elements.len() <= cut.elements, "{key}");
        }
    }

    #[test]
    fn a_large_set_is_not_walked_to_its_end() {
        let mut session = Session::tiny();
        let members: Vec<String> = (0..5000).map(|nth| format!("m{nth}")).collect();
        session.run(&format!("SADD set {}", members.join(" ")));
        let (length, elements) = shown(&mut session, "set", Cut { elements: 10, each: 10, string: 10, all: 10_000 });
        assert_eq!((length, elements.len()), (5000, 10));
    }
}
