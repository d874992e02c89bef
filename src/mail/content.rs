//! What a message looks like to its reader: decoded header fields, text, HTML and files.
//!
//! The text is foreign and the parser lenient, so everything shown has a cap: [`SHOWN_MAX`] of each body, [`FIELDS_MAX`]
//! header fields, [`FILES_MAX`] files, and a message of more than [`PARTS_MAX`] parts is not decoded at all.

use mail_parser::{Message, MessageParser, MessagePart, MimeHeaders as _, PartType};
use serde::{Deserialize, Serialize};

/// Most bytes shown of the text and of the HTML.
pub const SHOWN_MAX: usize = 256 << 10;

/// Most header fields shown.
pub const FIELDS_MAX: usize = 100;

/// Most characters shown of a header field.
pub const FIELD_MAX: usize = 2000;

/// Most files listed.
pub const FILES_MAX: usize = 100;

/// Most parts of a message that is decoded: each costs memory, and a message can have a million.
pub const PARTS_MAX: usize = 2000;

/// Most characters of a file's name.
const NAME_MAX: usize = 200;

/// A message, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Header fields as written, unfolded, not decoded.
    pub fields: Vec<(String, String)>,
    /// The subject.
    pub subject: String,
    /// The plain text, if it has any.
    pub text: Option<String>,
    /// The HTML, if it has any. Foreign: show it in a sandbox only.
    pub html: Option<String>,
    /// Its files.
    pub files: Vec<FileInfo>,
    /// Whether something was left out because of its size.
    pub cut: bool,
}

/// A file in a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Its number within the message, for asking for it.
    pub index: usize,
    /// Its name; empty if it has none.
    pub name: String,
    /// The media type it claims.
    pub content_type: String,
    /// Bytes once decoded.
    pub size: usize,
}

/// Decodes `message`; blocks for as long as its size takes.
pub fn read(message: &[u8]) -> Content {
    if many_parts(message) {
        return Content { cut: true, ..Content::default() };
    }
    let Some(parsed) = MessageParser::default().parse(message) else { return Content::default() };
    let mut out = Content {
        subject: shown(parsed.subject().unwrap_or_default(), FIELD_MAX),
        fields: parsed
            .headers_raw()
            .take(FIELDS_MAX)
            .map(|(name, value)| (shown(name, NAME_MAX), shown(&unfolded(value), FIELD_MAX)))
            .collect(),
        ..Content::default()
    };
    let (text, html) = bodies(&parsed);
    for (place, index) in [(&mut out.text, text), (&mut out.html, html)] {
        if let Some((body, cut)) = index.and_then(|index| parsed.parts.get(index)).and_then(body) {
            *place = Some(body);
            out.cut |= cut;
        }
    }
    let files = parsed.parts.iter().enumerate().filter(|(index, part)| is_file(part, *index, text, html));
    for (index, part) in files {
        if out.files.len() >= FILES_MAX {
            out.cut = true;
            break;
        }
        let size = part.contents().len();
        let name = shown(part.attachment_name().unwrap_or_default(), NAME_MAX);
        out.files.push(FileInfo { index, name, content_type: media_type(part), size });
    }
    out
}

/// File `index` of `message`: its name, the media type it claims, and its bytes. Blocks.
pub fn file(message: &[u8], index: usize) -> Option<(String, String, Vec<u8>)> {
    if many_parts(message) {
        return None;
    }
    let parsed = MessageParser::default().parse(message)?;
    let (text, html) = bodies(&parsed);
    let part = parsed.parts.get(index).filter(|part| is_file(part, index, text, html))?;
    let name = shown(part.attachment_name().unwrap_or_default(), NAME_MAX);
    Some((name, media_type(part), part.contents().to_vec()))
}

/// A `Subject` field's value (RFC 2047), decoded, without control characters, at most 200 characters.
pub fn subject(value: &str) -> String {
    let field = format!("Subject: {value}\r\n\r\n");
    let parsed = MessageParser::default().parse_headers(field.as_bytes());
    shown(parsed.as_ref().and_then(Message::subject).unwrap_or(value), 200)
}

/// The parts that are text and HTML of the message itself.
fn bodies(message: &Message<'_>) -> (Option<usize>, Option<usize>) {
    let index = |list: &[u32], wanted: fn(&PartType<'_>) -> bool| {
        let indexes = list.iter().filter_map(|index| usize::try_from(*index).ok());
        indexes.into_iter().find(|index| message.parts.get(*index).is_some_and(|part| wanted(&part.body)))
    };
    (
        index(&message.text_body, |body| matches!(body, PartType::Text(_))),
        index(&message.html_body, |body| matches!(body, PartType::Html(_))),
    )
}

fn is_file(part: &MessagePart<'_>, index: usize, text: Option<usize>, html: Option<usize>) -> bool {
    Some(index) != text && Some(index) != html && !matches!(part.body, PartType::Multipart(_))
}

/// The part's text, cut; whether it was.
fn body(part: &MessagePart<'_>) -> Option<(String, bool)> {
    let (PartType::Text(text) | PartType::Html(text)) = &part.body else { return None };
    let end = text.floor_char_boundary(SHOWN_MAX);
    Some((text.get(..end).unwrap_or_default().to_owned(), end < text.len()))
}

fn media_type(part: &MessagePart<'_>) -> String {
    let Some(kind) = part.content_type() else { return String::from("application/octet-stream") };
    let text = format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or("octet-stream"));
    let plain = text.len() <= 100 && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\;,<>".contains(&byte));
    if plain { text } else { String::from("application/octet-stream") }
}

/// Whether `message` may have more than [`PARTS_MAX`] parts: each begins with a line that starts with two hyphens.
fn many_parts(message: &[u8]) -> bool {
    memchr::memmem::find_iter(message, b"\n--").nth(PARTS_MAX).is_some()
}

fn unfolded(value: &str) -> String {
    value.replace("\r\n", "")
}

/// `text` without control characters, cut.
fn shown(text: &str, most: usize) -> String {
    let clean = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(most).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIXED: &str = "From: Shop <shop@example.com>\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?= and\r\n more\r\n\
        MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=m\r\n\r\n\
        --m\r\nContent-Type: multipart/alternative; boundary=a\r\n\r\n\
        --a\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        Gr=FC=DFe\r\n--a\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<script>alert(1)</script>\r\n--a--\r\n\
        --m\r\nContent-Type: text/html; name=\"../<b>.html\"\r\nContent-Disposition: attachment\r\n\
        Content-Transfer-Encoding: base64\r\n\r\nPGI+\r\n--m--\r\n";

    #[test]
    fn bodies_and_files_are_told_apart_and_decoded() {
        let content = read(MIXED.as_bytes());
        assert_eq!(content.subject, "Grüße and more");
        assert_eq!(content.text.as_deref().map(str::trim_end), Some("Grüße"));
        assert!(content.html.as_deref().is_some_and(|html| html.contains("<script>")));
        let [only] = &content.files[..] else { panic!("{:?}", content.files) };
        assert_eq!((only.name.as_str(), only.content_type.as_str(), only.size), ("../<b>.html", "text/html", 3));
        assert_eq!(file(MIXED.as_bytes(), only.index).map(|(_, _, bytes)| bytes), Some(b"<b>".to_vec()));
        assert_eq!(file(MIXED.as_bytes(), 0), None);
        assert!(content.fields.iter().any(|(name, value)| name == "Subject" && value.ends_with("and more")));
    }

    #[test]
    fn a_subject_is_decoded_and_freed_of_control_characters() {
        assert_eq!(subject("=?utf-8?q?a=0Ab?= =?utf-8?q?=1B[31m?="), "a b [31m");
        assert_eq!(subject("plain"), "plain");
        assert_eq!(subject(""), "");
    }

    #[test]
    fn a_message_of_very_many_parts_is_not_decoded() {
        let mut text = String::from("Content-Type: multipart/mixed; boundary=m\r\n\r\n");
        text.push_str(&"--m\r\n\r\n".repeat(PARTS_MAX + 2));
        let content = read(text.as_bytes());
        assert!(content.cut && content.files.is_empty());
        assert_eq!(file(text.as_bytes(), 1), None);
    }

    #[test]
    fn long_bodies_are_cut_between_characters() {
        let text = format!("Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{}", "ü".repeat(SHOWN_MAX));
        let content = read(text.as_bytes());
        assert_eq!(content.text.map(|text| text.len()), Some(SHOWN_MAX));
        assert!(content.cut);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_within_the_caps(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            prefix in "(Content-Type: multipart/(mixed|alternative|digest); boundary=m\r\n\r\n(--m\r\n){0,4})?",
        ) {
            let message = [prefix.as_bytes(), &bytes].concat();
            let content = read(&message);
            for info in &content.files {
                prop_assert_eq!(file(&message, info.index).map(|(_, _, bytes)| bytes.len()), Some(info.size));
            }
            prop_assert!(content.fields.len() <= FIELDS_MAX && content.files.len() <= FILES_MAX);
        }
    }
}
