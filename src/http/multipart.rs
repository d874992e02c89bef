//! `multipart/form-data` (RFC 7578) as it streams in: no part is ever held whole.
//!
//! What browsers send is understood; what is lenient in the grammar and never sent (comments, nested parts, folded header
//! lines) is refused. In memory are at most one chunk of the body and [`HEAD_MAX`] bytes.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use memchr::memmem;

use super::Body;

/// Most bytes of a part's header lines.
pub const HEAD_MAX: usize = 8 << 10;

/// Most parts of one body.
pub const PARTS_MAX: usize = 1000;

/// Longest boundary (RFC 2046, 5.1.1).
const BOUNDARY_MAX: usize = 70;

/// Why a body is no form.
#[derive(Debug, thiserror::Error)]
pub enum MultipartError {
    /// The request is of another type.
    #[error("the body is not multipart/form-data with a boundary of at most {BOUNDARY_MAX} characters")]
    NotMultipart,
    /// The body ends before its last boundary.
    #[error("the form did not arrive whole")]
    Truncated,
    /// A part's head is none, or too long.
    #[error("the head of a part of the form {0}")]
    Head(&'static str),
    /// More parts than [`PARTS_MAX`].
    #[error("the form has more than {PARTS_MAX} parts")]
    TooManyParts,
    /// The client left, was too slow or broke the framing.
    #[error("the form could not be read: {0}")]
    Broken(#[source] axum::Error),
}

/// What a part says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The field.
    pub name: String,
    /// The file's name, if the field is a file; empty when none was chosen.
    pub file_name: Option<String>,
    /// The media type.
    pub content_type: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before a delimiter: in a part, or in what stands before the first one.
    Inside,
    /// Right behind a delimiter.
    Behind,
    /// Behind the last delimiter.
    End,
}

/// A form on its way in.
#[derive(Debug)]
pub struct Multipart {
    body: Body,
    buffer: BytesMut,
    /// CR LF, two hyphens, and the boundary.
    delimiter: Vec<u8>,
    place: Place,
    parts: usize,
}

impl Multipart {
    /// The form in `body`, whose request has this `content_type`.
    ///
    /// # Errors
    /// [`MultipartError::NotMultipart`].
    pub fn new(content_type: &str, body: Body) -> Result<Self, MultipartError> {
        let boundary = boundary(content_type).ok_or(MultipartError::NotMultipart)?;
        let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
        // The first delimiter has no line before it.
        let buffer = BytesMut::from(&b"\r\n"[..]);
        Ok(Self { body, buffer, delimiter, place: Place::Inside, parts: 0 })
    }

    /// The next part; what is left of the one before is passed over. `None` behind the last one.
    ///
    /// # Errors
    /// [`MultipartError`]: nothing more can be read.
    ///
    /// # Cancel safety
    /// Dropped before its end, the form cannot be read on.
    pub async fn next_part(&mut self) -> Result<Option<Part>, MultipartError> {
        while self.chunk().await?.is_some() {}
        if self.place == Place::End {
            return Ok(None);
        }
        while self.buffer.len() < 2 {
            self.fill().await?;
        }
        if self.buffer.starts_with(b"--") {
            self.place = Place::End;
            return Ok(None);
        }
        self.parts = self.parts.saturating_add(1);
        if self.parts > PARTS_MAX {
            return Err(MultipartError::TooManyParts);
        }
        let end = loop {
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            if self.buffer.len() > HEAD_MAX {
                return Err(MultipartError::Head("is longer than 8 KiB"));
            }
            self.fill().await?;
        };
        if end > HEAD_MAX {
            return Err(MultipartError::Head("is longer than 8 KiB"));
        }
        let head = self.buffer.split_to(end);
        let _ = self.buffer.split_to(4);
        let part = part(&head)?;
        self.place = Place::Inside;
        Ok(Some(part))
    }

    /// The next bytes of the part; `None` at its end.
    ///
    /// # Errors
    /// [`MultipartError`]: nothing more can be read.
    ///
    /// # Cancel safety
    /// Nothing is lost: the next call gives what this one would have.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, MultipartError> {
        if self.place != Place::Inside {
            return Ok(None);
        }
        loop {
            match memmem::find(&self.buffer, &self.delimiter) {
                Some(0) => {
                    let _ = self.buffer.split_to(self.delimiter.len());
                    self.place = Place::Behind;
                    return Ok(None);
                }
                Some(at) => return Ok(Some(self.buffer.split_to(at).freeze())),
                None => {
                    // The end may be the beginning of a delimiter.
                    let sure = self.buffer.len().saturating_sub(self.delimiter.len().saturating_sub(1));
                    if sure > 0 {
                        return Ok(Some(self.buffer.split_to(sure).freeze()));
                    }
                    self.fill().await?;
                }
            }
        }
    }

    async fn fill(&mut self) -> Result<(), MultipartError> {
        while let Some(frame) = self.body.frame().await {
            let Ok(data) = frame.map_err(MultipartError::Broken)?.into_data() else { continue };
            if !data.is_empty() {
                self.buffer.extend_from_slice(&data);
                return Ok(());
            }
        }
        Err(MultipartError::Truncated)
    }
}

fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let mut found = parameters.split(';').filter_map(|parameter| parameter.trim().split_once('='));
    let (_, value) = found.find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))?;
    let value = value.trim();
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    ((1..=BOUNDARY_MAX).contains(&value.len()) && value.bytes().all(allowed) && !value.ends_with(' '))
        .then(|| value.to_owned())
}

/// Reads a part's head: CR LF, then its header lines.
fn part(head: &[u8]) -> Result<Part, MultipartError> {
    let text = std::str::from_utf8(head).map_err(|_not_utf8| MultipartError::Head("is not UTF-8"))?;
    let lines = match text.strip_prefix("\r\n") {
        Some(lines) => lines,
        None if text.is_empty() => "",
        None => return Err(MultipartError::Head("does not start on a line of its own")),
    };
    let mut out = Part::default();
    let mut named = false;
    for line in lines.split("\r\n").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(MultipartError::Head("has a line that is no header"))?;
        if name.eq_ignore_ascii_case("content-type") {
            out.content_type = Some(value.trim().to_owned());
        } else if name.eq_ignore_ascii_case("content-disposition") {
            let (kind, parameters) = value.split_once(';').ok_or(MultipartError::Head("names no field"))?;
            if !kind.trim().eq_ignore_ascii_case("form-data") {
                return Err(MultipartError::Head("is of no form"));
            }
            out.name = parameter(parameters, "name").ok_or(MultipartError::Head("names no field"))?;
            out.file_name = parameter(parameters, "filename");
            named = true;
        }
    }
    if named { Ok(out) } else { Err(MultipartError::Head("names no field")) }
}

/// The quoted value of parameter `wanted`. Browsers write a quote as `%22` and line ends as `%0D` and `%0A` (HTML,
/// "multipart form data"); the quote alone is put back, since no name of ours may hold a line end.
fn parameter(text: &str, wanted: &str) -> Option<String> {
    let mut rest = text;
    loop {
        let (name, after) = rest.split_once('=')?;
        let quoted = after.trim_start().strip_prefix('"')?;
        let (value, after) = quoted.split_once('"')?;
        if name.trim_matches([' ', ';', '\t']).eq_ignore_ascii_case(wanted) {
            return Some(value.replace("%22", "\""));
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Read = Vec<(String, Option<String>, Vec<u8>)>;

    async fn read(content_type: &str, chunks: Vec<Vec<u8>>) -> Result<Read, MultipartError> {
        let stream = futures_util::stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>));
        let mut form = Multipart::new(content_type, Body::from_stream(stream))?;
        let mut out = Vec::new();
        while let Some(part) = form.next_part().await? {
            let mut bytes = Vec::new();
            while let Some(chunk) = form.chunk().await? {
                bytes.extend_from_slice(&chunk);
            }
            out.push((part.name, part.file_name, bytes));
        }
        Ok(out)
    }

    fn blocking<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    const TYPE: &str = "multipart/form-data; boundary=----WebKitFormBoundaryx1";

    const FORM: &[u8] = b"------WebKitFormBoundaryx1\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\n\r\n\
        ------WebKitFormBoundaryx1\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a%22;b=.txt\"\r\n\
        Content-Type: text/plain\r\n\r\nline\r\n------WebKitFormBoundaryx\r\nmore\r\n------WebKitFormBoundaryx1--\r\n";

    #[test]
    fn a_browsers_form_is_read_however_it_is_cut_up() {
        let expected = vec![
            ("note".to_owned(), None, Vec::new()),
            ("file".to_owned(), Some("a\";b=.txt".to_owned()), b"line\r\n------WebKitFormBoundaryx\r\nmore".to_vec()),
        ];
        for size in 1..FORM.len() {
            let chunks = FORM.chunks(size).map(<[u8]>::to_vec).collect();
            assert_eq!(blocking(read(TYPE, chunks)).unwrap(), expected, "{size}");
        }
    }

    #[test]
    fn a_form_that_ends_early_is_an_error() {
        for end in 0..FORM.len() - 4 {
            let read = blocking(read(TYPE, vec![FORM[..end].to_vec()]));
            assert!(matches!(read, Err(MultipartError::Truncated)), "{end}: {read:?}");
        }
    }

    #[test]
    fn heads_are_bounded_and_checked() {
        let form = |head: &str| format!("--b\r\n{head}\r\n\r\nx\r\n--b--").into_bytes();
        let kind = "multipart/form-data; boundary=b";
        let long = format!("Content-Disposition: form-data; name=\"a\"\r\nX: {}", "x".repeat(HEAD_MAX));
        for head in
            [long.as_str(), "Content-Type: text/plain", "nonsense", "Content-Disposition: attachment; name=\"a\""]
        {
            assert!(matches!(blocking(read(kind, vec![form(head)])), Err(MultipartError::Head(_))), "{head:.40}");
        }
        let many = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n".repeat(PARTS_MAX + 1);
        assert!(matches!(blocking(read(kind, vec![many.into_bytes()])), Err(MultipartError::TooManyParts)));
    }

    #[test]
    fn other_types_are_no_form() {
        let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
        for kind in ["", "multipart/form-data", "text/plain; boundary=b", "multipart/form-data; boundary=", &long] {
            assert!(Multipart::new(kind, Body::empty()).is_err(), "{kind}");
        }
        assert!(Multipart::new("Multipart/Form-Data; charset=x; Boundary=\"a b\"", Body::empty()).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            parts in proptest::collection::vec(("[a-z]{1,8}", proptest::collection::vec(any::<u8>(), 0..60)), 0..5),
            size in 1usize..20,
        ) {
            let mut text = Vec::new();
            for (name, bytes) in &parts {
                text.extend_from_slice(format!("--q7Z\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").as_bytes());
                text.extend_from_slice(bytes);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"--q7Z--\r\n");
            prop_assume!(!parts.iter().any(|(_, bytes)| memmem::find(bytes, b"--q7Z").is_some()));
            let chunks = text.chunks(size).map(<[u8]>::to_vec).collect();
            let found = blocking(read("multipart/form-data; boundary=q7Z", chunks)).unwrap();
            let found: Vec<(String, Vec<u8>)> = found.into_iter().map(|(name, _, bytes)| (name, bytes)).collect();
            prop_assert_eq!(found, parts);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in "(--b(--)?|\r\n|name=|\"|:|;|Content-Disposition: form-data|[a-z]|\u{0}){0,40}") {
            let _ = blocking(read("multipart/form-data; boundary=b", vec![bytes.into_bytes()]));
        }
    }
}
