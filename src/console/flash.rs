//! One message for the next page: what just happened.

/// Longest message, in characters; the rest is cut off.
const CHARACTERS_MAX: usize = 300;

/// How a message is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// It worked.
    Good,
    /// It did not.
    Bad,
}

/// One message for the next page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flash {
    /// How it is meant.
    pub tone: Tone,
    /// What it says: a sentence. Any text is safe; pages escape it.
    pub text: String,
}

impl Flash {
    /// It worked.
    pub fn good(text: impl Into<String>) -> Self {
        Self { tone: Tone::Good, text: text.into() }
    }

    /// It did not work.
    pub fn bad(text: impl Into<String>) -> Self {
        Self { tone: Tone::Bad, text: text.into() }
    }

    /// Whether it tells of a failure.
    pub fn is_bad(&self) -> bool {
        self.tone == Tone::Bad
    }

    /// For a cookie.
    pub(super) fn write(&self) -> String {
        let mark = if self.is_bad() { '-' } else { '+' };
        std::iter::once(mark).chain(self.text.chars().take(CHARACTERS_MAX)).collect()
    }

    /// From a cookie.
    pub(super) fn read(text: &str) -> Option<Self> {
        let bad = text.strip_prefix('-').map(Self::bad);
        bad.or_else(|| text.strip_prefix('+').map(Self::good))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back() {
        for flash in [Flash::good("-made"), Flash::bad("+no")] {
            assert_eq!(Flash::read(&flash.write()), Some(flash));
        }
        assert_eq!(Flash::read("what"), None);
        assert_eq!(Flash::good("é".repeat(1000)).write().chars().count(), 1 + CHARACTERS_MAX);
    }
}
