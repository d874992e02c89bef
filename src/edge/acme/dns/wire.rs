//! DNS messages (RFC 1035), as far as a challenge needs them: questions, updates (RFC 2136) and what comes back.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::fmt::Write as _;

/// Kinds of records (RFC 1035 section 3.2.2, RFC 8945 section 4.2).
pub const CNAME: u16 = 5;
/// Where a zone begins.
pub const SOA: u16 = 6;
/// Texts.
pub const TXT: u16 = 16;
/// A signature over the message.
pub const TSIG: u16 = 250;

const IN: u16 = 1;
/// Class of records to take away (RFC 2136 section 2.5.4).
const NONE: u16 = 254;
/// Class of what belongs to no zone.
pub const ANY: u16 = 255;
const QUERY: u16 = 0;
const UPDATE: u16 = 5 << 11;
/// The sender asks a resolver, not whoever has the zone.
const RECURSION_DESIRED: u16 = 1 << 8;
/// How long others may keep a challenge's record, in seconds: it changes with each order.
const TTL: u32 = 60;
/// Most bytes of a name (RFC 1035 section 2.3.4), and most references in one.
const LONGEST_NAME: usize = 255;
const MOST_JUMPS: usize = 64;
/// Bytes before the first section.
const HEAD: usize = 12;

/// Something that is no DNS message, or none that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed DNS message")]
pub struct Malformed;

/// Whether a record is to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Put it beside what is there.
    Add,
    /// Take this one away, and leave others of its name.
    Remove,
}

/// An answer as it was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it answers.
    pub id: u16,
    /// 0 when all is well (RFC 1035 section 4.1.1, RFC 2136 section 2.2).
    pub rcode: u8,
    /// Whether there was more than fits into a datagram.
    pub truncated: bool,
    /// Name and kind of the one question.
    pub question: Option<(String, u16)>,
    /// What was found, then who has the zone.
    pub records: Vec<Record>,
    /// Where its signature begins, and the signature.
    pub signature: Option<(usize, Signature)>,
}

/// A record.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name, lower case, without final dot.
    pub name: String,
    /// What it says.
    pub data: Data,
}

/// What a record says.
#[derive(Debug, PartialEq, Eq)]
pub enum Data {
    /// Its texts, put together.
    Text(Vec<u8>),
    /// Another name to look under.
    Alias(String),
    /// Here a zone begins.
    Zone,
    /// Something else.
    Other(u16),
}

/// A signature (RFC 8945 section 4.2).
#[derive(Debug, PartialEq, Eq)]
pub struct Signature {
    /// The key's name.
    pub key: String,
    /// The algorithm's name.
    pub algorithm: String,
    /// When it was signed, in seconds since 1970.
    pub time: u64,
    /// Seconds that clocks may differ.
    pub fudge: u16,
    /// The code itself.
    pub mac: Vec<u8>,
    /// The message's id when it was signed.
    pub original_id: u16,
    /// 0 when all is well.
    pub error: u16,
    /// What else belongs to the error.
    pub other: Vec<u8>,
}

/// `name` as it stands in messages, lower case and without references. Labels that are too long, or a name that is, give
/// `None`.
pub fn name(name: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len().saturating_add(2));
    for label in name.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
        let length = u8::try_from(label.len()).ok().filter(|length| *length < 64)?;
        out.push(length);
        out.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    }
    out.push(0);
    (out.len() <= LONGEST_NAME).then_some(out)
}

/// A question for records `kind` of `name`; `recursive` when it goes to a resolver.
pub fn question(id: u16, name: &[u8], kind: u16, recursive: bool) -> Vec<u8> {
    let mut out = head(id, if recursive { QUERY | RECURSION_DESIRED } else { QUERY }, [1, 0, 0, 0]);
    out.extend_from_slice(name);
    words(&mut out, &[kind, IN]);
    out
}

/// An update of `zone` that adds or removes one text of `name` (RFC 2136 sections 2.5.1 and 2.5.4). `text` has at most 255
/// bytes; what is beyond is left out.
pub fn update(id: u16, zone: &[u8], name: &[u8], text: &[u8], change: Change) -> Vec<u8> {
    let mut out = head(id, UPDATE, [1, 0, 1, 0]);
    out.extend_from_slice(zone);
    words(&mut out, &[SOA, IN]);
    out.extend_from_slice(name);
    let (class, ttl) = match change {
        Change::Add => (IN, TTL),
        Change::Remove => (NONE, 0),
    };
    words(&mut out, &[TXT, class]);
    out.extend_from_slice(&ttl.to_be_bytes());
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    words(&mut out, &[u16::from(length).saturating_add(1)]);
    out.push(length);
    out.extend(text.iter().take(length.into()));
    out
}

/// `message` with one more record at its end.
pub fn with_record(mut message: Vec<u8>, record: &[u8]) -> Vec<u8> {
    let count = message.get(10..HEAD).and_then(|count| <[u8; 2]>::try_from(count).ok()).map_or(0, u16::from_be_bytes);
    if let Some(place) = message.get_mut(10..HEAD) {
        place.copy_from_slice(&count.saturating_add(1).to_be_bytes());
    }
    message.extend_from_slice(record);
    message
}

fn head(id: u16, flags: u16, counts: [u16; 4]) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    words(&mut out, &[id, flags]);
    words(&mut out, &counts);
    out
}

/// Puts `all` at the end of `out`, each in network order.
pub fn words(out: &mut Vec<u8>, all: &[u16]) {
    for word in all {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

impl Answer {
    /// Reads a message that answers something.
    ///
    /// # Errors
    /// [`Malformed`]: it breaks off, refers to itself, or is no answer.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader { bytes, at: 0 };
        let (id, flags) = (reader.word()?, reader.word()?);
        if flags & (1 << 15) == 0 {
            return Err(Malformed);
        }
        let counts = [reader.word()?, reader.word()?, reader.word()?, reader.word()?];
        let mut question = None;
        for _ in 0..counts[0] {
            let name = reader.name()?;
            question = Some((name, reader.word()?));
            reader.word()?;
        }
        let mut out = Self {
            id,
            rcode: flags.to_be_bytes()[1] & 0xf,
            truncated: flags & (1 << 9) != 0,
            question: question.filter(|_| counts[0] == 1),
            records: Vec::new(),
            signature: None,
        };
        let named = u32::from(counts[1]).saturating_add(u32::from(counts[2]));
        for _ in 0..named {
            let (record, _) = reader.record()?;
            out.records.push(record);
        }
        for _ in 0..counts[3] {
            if out.signature.is_some() {
                // RFC 8945 section 5.1: a signature stands last.
                return Err(Malformed);
            }
            let at = reader.at;
            let (record, data) = reader.record()?;
            if record.data == Data::Other(TSIG) {
                out.signature = Some((at, data.signature(record.name)?));
            }
        }
        if reader.at == bytes.len() { Ok(out) } else { Err(Malformed) }
    }

    /// The texts of `name`.
    pub fn texts(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.records.iter().filter(move |record| record.name.eq_ignore_ascii_case(name)).filter_map(|record| {
            match &record.data {
                Data::Text(text) => Some(text.as_slice()),
                _ => None,
            }
        })
    }

    /// Where `name` points to.
    pub fn alias(&self, name: &str) -> Option<&str> {
        let named = self.records.iter().filter(|record| record.name.eq_ignore_ascii_case(name));
        named.into_iter().find_map(|record| match &record.data {
            Data::Alias(other) => Some(other.as_str()),
            _ => None,
        })
    }

    /// The zone that was told.
    pub fn zone(&self) -> Option<&str> {
        self.records.iter().find(|record| record.data == Data::Zone).map(|record| record.name.as_str())
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(length).ok_or(Malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.take(1)?.first().copied().ok_or(Malformed)
    }

    fn word(&mut self) -> Result<u16, Malformed> {
        self.take(2)?.try_into().map(u16::from_be_bytes).map_err(|_short| Malformed)
    }

    /// A name (RFC 1035 section 4.1.4). What is no host name's letter is written as `\ddd`.
    fn name(&mut self) -> Result<String, Malformed> {
        let mut out = String::new();
        let (mut back, mut length) = (None, 0usize);
        for _ in 0..MOST_JUMPS.saturating_add(128) {
            let size = self.byte()?;
            match size {
                0 => {
                    self.at = back.unwrap_or(self.at);
                    return Ok(out);
                }
                1..64 => {
                    length = length.saturating_add(usize::from(size)).saturating_add(1);
                    if length >= LONGEST_NAME {
                        return Err(Malformed);
                    }
                    if !out.is_empty() {
                        out.push('.');
                    }
                    for byte in self.take(size.into())? {
                        if byte.is_ascii_alphanumeric() || b"-_*".contains(byte) {
                            out.push(byte.to_ascii_lowercase().into());
                        } else {
                            // Writing into a String cannot fail.
                            let _ = write!(out, "\\{byte:03}");
                        }
                    }
                }
                192.. => {
                    let before = self.at.saturating_sub(1);
                    let to = usize::from(u16::from_be_bytes([size & 0x3f, self.byte()?]));
                    // Only backwards, so that it ends.
                    if to >= before {
                        return Err(Malformed);
                    }
                    back = back.or(Some(self.at));
                    self.at = to;
                }
                _ => return Err(Malformed),
            }
        }
        Err(Malformed)
    }

    /// A record, and a reader of its data.
    fn record(&mut self) -> Result<(Record, Self), Malformed> {
        let name = self.name()?;
        let (kind, _class) = (self.word()?, self.word()?);
        self.take(4)?;
        let length = usize::from(self.word()?);
        let start = self.at;
        self.take(length)?;
        let inside = self.bytes.get(..self.at).ok_or(Malformed)?;
        let data = || Reader { bytes: inside, at: start };
        let said = match kind {
            TXT => Data::Text(data().texts()?),
            CNAME => Data::Alias(data().name()?),
            SOA => Data::Zone,
            other => Data::Other(other),
        };
        Ok((Record { name, data: said }, data()))
    }

    fn texts(&mut self) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::new();
        while self.at < self.bytes.len() {
            let size = self.byte()?;
            out.extend_from_slice(self.take(size.into())?);
        }
        Ok(out)
    }

    fn signature(mut self, key: String) -> Result<Signature, Malformed> {
        let algorithm = self.name()?;
        let mut time = [0; 8];
        if let Some(low) = time.get_mut(2..) {
            low.copy_from_slice(self.take(6)?);
        }
        let fudge = self.word()?;
        let size = self.word()?;
        let mac = self.take(size.into())?.to_vec();
        let (original_id, error) = (self.word()?, self.word()?);
        let size = self.word()?;
        let other = self.take(size.into())?.to_vec();
        Ok(Signature { key, algorithm, time: u64::from_be_bytes(time), fudge, mac, original_id, error, other })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_update_is_written_as_the_standard_draws_it() {
        let zone = name("Example.com").unwrap();
        let record = name("_acme-challenge.example.com.").unwrap();
        let message = update(0x0102, &zone, &record, b"abc", Change::Add);
        let mut wanted = vec![1, 2, 0x28, 0, 0, 1, 0, 0, 0, 1, 0, 0];
        wanted.extend_from_slice(b"\x07example\x03com\0\0\x06\0\x01");
        wanted.extend_from_slice(b"\x0f_acme-challenge\x07example\x03com\0\0\x10\0\x01\0\0\0\x3c\0\x04\x03abc");
        assert_eq!(message, wanted);
        let gone = update(0x0102, &zone, &record, b"abc", Change::Remove);
        assert!(gone.ends_with(b"\0\x10\0\xfe\0\0\0\0\0\x04\x03abc"));
        assert_eq!(name(&"a".repeat(64)), None);
        assert_eq!(name(&["a"; 130].join(".")), None);
    }

    #[test]
    fn an_answer_with_references_is_read() {
        let mut bytes = vec![0, 9, 0x84, 0, 0, 1, 0, 2, 0, 1, 0, 0];
        bytes.extend_from_slice(b"\x01a\x07example\0\0\x10\0\x01");
        bytes.extend_from_slice(b"\xc0\x0c\0\x05\0\x01\0\0\0\x01\0\x04\x01B\xc0\x0e");
        bytes.extend_from_slice(b"\x01b\xc0\x0e\0\x10\0\x01\0\0\0\x01\0\x06\x01x\x03y z");
        bytes.extend_from_slice(b"\xc0\x0e\0\x06\0\x01\0\0\0\x01\0\x00");
        let answer = Answer::read(&bytes).unwrap();
        assert_eq!((answer.id, answer.rcode, answer.truncated), (9, 0, false));
        assert_eq!(answer.question, Some(("a.example".to_owned(), TXT)));
        assert_eq!(answer.alias("A.example"), Some("b.example"));
        assert_eq!(answer.texts("b.example").collect::<Vec<_>>(), [b"xy z"]);
        assert_eq!(answer.zone(), Some("example"));
        for cut in 0..bytes.len() {
            assert_eq!(Answer::read(&bytes[..cut]), Err(Malformed), "{cut}");
        }
    }

    #[test]
    fn a_name_that_refers_to_itself_or_forward_is_refused() {
        let mut bytes = vec![0, 9, 0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(b"\xc0\x0c\0\x10\0\x01");
        assert_eq!(Answer::read(&bytes), Err(Malformed));
        bytes[13] = 0x20;
        assert_eq!(Answer::read(&bytes), Err(Malformed));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Answer::read(&bytes);
        }

        #[test]
        fn a_name_reads_as_it_was_written(labels in proptest::collection::vec("[a-z0-9_-]{1,20}", 1..8)) {
            let text = labels.join(".");
            let mut bytes = question(7, &name(&text).unwrap(), TXT, true);
            bytes[2] |= 0x80;
            prop_assert_eq!(Answer::read(&bytes).unwrap().question, Some((text, TXT)));
        }
    }
}
