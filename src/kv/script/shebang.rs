//! The first line of a script, `#!lua flags=…`.

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
    pub fn read(text: &[u8]) -> Result<(Self, &[u8]), String> {
        let mut declared = Self::default();
        if !text.starts_with(b"#!") {
            return Ok((declared, text));
        }
        declared.any = true;
        let end = memchr::memchr(b'\n', text).ok_or("ERR Invalid script shebang")?;
        let (line, code) = text.split_at(end);
        let line = String::from_utf8_lossy(line);
        let mut words = line.split_ascii_whitespace();
        let engine = words.next().unwrap_or_default();
        if engine != "#!lua" {
            return Err(format!("ERR Unexpected engine in script shebang: {engine}"));
        }
        for word in words {
            let flags = word.strip_prefix("flags=").ok_or_else(|| format!("ERR Unknown lua shebang option: {word}"))?;
            for flag in flags.split(',').filter(|flag| !flag.is_empty()) {
                if !declared.note(flag) {
                    return Err(format!("ERR Unexpected flag in script shebang: {flag}"));
                }
            }
        }
        Ok((declared, code))
    }

    /// Takes a flag of a function.
    pub fn declare(&mut self, flag: &str) -> bool {
        self.any = true;
        self.note(flag)
    }

    /// Takes a flag; `false` when there is none of that name. What is about clusters and replicas changes nothing here.
    fn note(&mut self, flag: &str) -> bool {
        match flag {
            "no-writes" => self.no_writes = true,
            "allow-oom" => self.allow_oom = true,
            // The last is Upstash's, whose libraries declare it; one thread runs everything, so nothing needs a lock.
            "allow-stale" | "no-cluster" | "allow-cross-slot-keys" | "allow-key-locking" => {}
            _ => return false,
        }
        true
    }
}
