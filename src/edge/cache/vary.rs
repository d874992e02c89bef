//! Which request headers an answer depends on, and whether a request has the same (RFC 9111 section 4.1).

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY};
use http::{HeaderMap, HeaderName};

use super::storable::Why;

/// Most headers an answer may depend on.
const MOST_NAMES: usize = 16;

/// A header's name, and its value where the request had one.
type Named = (HeaderName, Option<Box<[u8]>>);

/// The headers an answer depends on, as the request had them that brought it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selecting(Box<[Named]>);

/// The names in `Vary` of an answer, each once. An encoded answer depends on `Accept-Encoding`, also where an app forgot to say
/// so: nobody else could read it.
///
/// # Errors
/// [`Why::Vary`]: `*`, what is no name, or too many.
pub fn names(answer: &HeaderMap) -> Result<Vec<HeaderName>, Why> {
    let mut names: Vec<HeaderName> = Vec::new();
    let lines = answer.get_all(VARY).iter().map(http::HeaderValue::as_bytes);
    for word in lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii) {
        if word.is_empty() {
            continue;
        }
        let name = HeaderName::from_bytes(word).ok().filter(|_| word != b"*").ok_or(Why::Vary)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if answer.contains_key(CONTENT_ENCODING) && !names.contains(&ACCEPT_ENCODING) {
        names.push(ACCEPT_ENCODING);
    }
    if names.len() > MOST_NAMES { Err(Why::Vary) } else { Ok(names) }
}

impl Selecting {
    /// What `answer` depends on of `request`.
    ///
    /// # Errors
    /// See [`names`].
    pub fn of(answer: &HeaderMap, request: &HeaderMap) -> Result<Self, Why> {
        let one = |name: HeaderName| {
            let value = value(request, &name);
            (name, value)
        };
        Ok(Self(names(answer)?.into_iter().map(one).collect()))
    }

    /// What it depends on, for the disk.
    pub fn pairs(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let one = |(name, value): &Named| (name.as_str().to_owned(), value.as_deref().map(<[u8]>::to_vec));
        self.0.iter().map(one).collect()
    }

    /// What depends on these; `None` when one is no header.
    pub fn from_pairs(pairs: Vec<(String, Option<Vec<u8>>)>) -> Option<Self> {
        let one = |(name, value): (String, Option<Vec<u8>>)| {
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value.map(Vec::into_boxed_slice)))
        };
        pairs.into_iter().map(one).collect::<Option<_>>().map(Self)
    }

    /// Whether `request` has the same.
    pub fn fits(&self, request: &HeaderMap) -> bool {
        self.0.iter().all(|(name, wanted)| value(request, name) == *wanted)
    }

    /// Bytes it takes in memory.
    pub fn bytes(&self) -> u64 {
        let one = |(name, value): &Named| {
            (name.as_str().len() as u64).saturating_add(value.as_ref().map_or(0, |value| value.len() as u64))
        };
        self.0.iter().map(|pair| one(pair).saturating_add(64)).sum()
    }
}

/// All lines of `name` as one, without the space around them. Of `Accept-Encoding` neither case nor any space counts, so
/// that browsers that mean the same ask for the same.
fn value(request: &HeaderMap, name: &HeaderName) -> Option<Box<[u8]>> {
    let mut lines = request.get_all(name).iter().map(|line| line.as_bytes().trim_ascii());
    let mut joined = lines.next()?.to_vec();
    for line in lines {
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(line);
    }
    if *name == ACCEPT_ENCODING {
        joined.make_ascii_lowercase();
        joined.retain(|byte| !byte.is_ascii_whitespace());
    }
    Some(joined.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let one = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(one).collect()
    }

    #[test]
    fn a_request_fits_when_every_named_header_is_the_same() {
        let answer = headers(&[("vary", "Accept-Language, x-theme,"), ("vary", "accept-encoding")]);
        let brought = headers(&[("accept-language", "de"), ("accept-encoding", "gzip, br"), ("user-agent", "a")]);
        let selecting = Selecting::of(&answer, &brought).unwrap();
        for (request, fits) in [
            (vec![("accept-language", "de"), ("accept-encoding", "GZIP,br"), ("user-agent", "b")], true),
            (vec![("accept-language", "en"), ("accept-encoding", "gzip, br")], false),
            (vec![("accept-language", "de"), ("accept-encoding", "gzip")], false),
            (vec![("accept-language", "de")], false),
            (vec![("accept-language", "de"), ("accept-encoding", "gzip, br"), ("x-theme", "")], false),
            (vec![("accept-language", "DE"), ("accept-encoding", "gzip, br")], false),
        ] {
            assert_eq!(selecting.fits(&headers(&request)), fits, "{request:?}");
        }
        assert!(Selecting::of(&HeaderMap::new(), &brought).unwrap().fits(&HeaderMap::new()));
    }

    #[test]
    fn what_is_encoded_is_for_who_asked_alike() {
        let brought = headers(&[("accept-encoding", "gzip")]);
        let selecting = Selecting::of(&headers(&[("content-encoding", "gzip")]), &brought).unwrap();
        assert!(selecting.fits(&brought) && !selecting.fits(&HeaderMap::new()));
    }

    #[test]
    fn lines_count_as_one() {
        let answer = headers(&[("vary", "accept")]);
        let selecting = Selecting::of(&answer, &headers(&[("accept", "a"), ("accept", "b ")])).unwrap();
        assert!(selecting.fits(&headers(&[("accept", "a, b")])));
        assert!(!selecting.fits(&headers(&[("accept", "a")])));
    }

    #[test]
    fn what_depends_on_everything_or_on_too_much_is_refused() {
        for vary in ["*", "accept, *", "a b"] {
            let answer = HeaderMap::from_iter([(VARY, HeaderValue::from_str(vary).unwrap())]);
            assert_eq!(names(&answer), Err(Why::Vary), "{vary}");
        }
        let many: Vec<String> = (0..=MOST_NAMES).map(|number| format!("x-{number}")).collect();
        let answer = HeaderMap::from_iter([(VARY, HeaderValue::from_str(&many.join(",")).unwrap())]);
        assert_eq!(names(&answer), Err(Why::Vary));
        assert_eq!(names(&headers(&[("vary", "a, A,b")])).unwrap().len(), 2);
    }
}
