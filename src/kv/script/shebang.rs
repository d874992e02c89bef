//! The first line of a script, `#!lua flags=…`.

use crate::kv::error::up_to_zero;

/// What a script's first line declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// There is such a line. Scripts without one run by older, laxer rules.
    pub any: bool,
    /// `no-writes`.
    pub no_writes: bool,
    /// `allow-oom`.
    pub allow_oom: bool,
}

impl Declared {
    /// Reads the first line of `text`; the code that is left begins with the end of that line, so that lines keep their
    /// numbers.
    ///
    /// # Errors
    /// The reply.
    pub fn read(text: &[u8]) -> Result<(Self, &[u8]), Vec<u8>> {
        let mut declared = Self::default();
        if !text.starts_with(b"#!") {
            return Ok((declared, text));
        }
        declared.any = true;
        let end = memchr::memchr(b'\n', text).ok_or(b"ERR Invalid script shebang")?;
        let (line, code) = text.split_at(end);
        let told = |what: &[u8], given: &[u8]| [what, up_to_zero(given)].concat();
        let mut words = words(line);
        let engine = words.next().unwrap_or_default();
        if engine != b"#!lua" {
            return Err(told(b"ERR Unexpected engine in script shebang: ", engine));
        }
        for word in words {
            let flags = word.strip_prefix(b"flags=").ok_or_else(|| told(b"ERR Unknown lua shebang option: ", word))?;
            for flag in flags.split(|byte| *byte == b',').filter(|flag| !flag.is_empty()) {
                if !declared.note(flag) {
                    return Err(told(b"ERR Unexpected flag in script shebang: ", flag));
                }
            }
        }
        Ok((declared, code))
    }

    /// Takes a flag of a function.
    pub fn declare(&mut self, flag: &str) -> bool {
        self.any = true;
        self.note(flag.as_bytes())
    }

    /// Takes a flag; `false` when there is none of that name. What is about clusters and replicas changes nothing here.
    fn note(&mut self, flag: &[u8]) -> bool {
        match flag {
            b"no-writes" => self.no_writes = true,
            b"allow-oom" => self.allow_oom = true,
            // The last is Upstash's, whose libraries declare it; one thread runs everything, so nothing needs a lock.
            b"allow-stale" | b"no-cluster" | b"allow-cross-slot-keys" | b"allow-key-locking" => {}
            _ => return false,
        }
        true
    }
}

/// The words of a first line.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}
