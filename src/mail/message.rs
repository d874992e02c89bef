//! A message ready for the queue: RFC 5322 text whose header section has been looked through.
//!
//! Every line ends in CR LF and no other CR or LF is left, so nothing in a message can end it early on its way through
//! a relay (SMTP smuggling). `Bcc` and `Return-Path` are gone, `Date` and `Message-ID` are there.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use lettre::Address;

use super::MailError;
use super::error::shown;
use crate::base::Timestamp;

/// Most bytes of a header section.
const HEADERS_MAX: usize = 128 << 10;

/// Longest line, CR LF included: over it relays cut or refuse (RFC 5321, 4.5.3.1.6, says 1000).
pub const LINE_MAX: usize = 1000;

/// What a message is sent by and to, apart from its text (RFC 5321, 2.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Who hears of failures.
    pub from: Address,
    /// Who gets it; at least one, each once.
    pub to: Vec<Address>,
}

/// The text of a message, checked and completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    bytes: Vec<u8>,
    header_len: usize,
}

/// How line ends of foreign text are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnds {
    /// CR LF only; a lone CR or LF is an error (SMTP).
    Strict,
    /// A lone LF is read as CR LF (SES raw messages, as files hold them); a lone CR is an error.
    Lenient,
}

impl Message {
    /// Takes `text` in: checks its header section and its lines, removes `Bcc` and `Return-Path`, and adds `Date` and
    /// `Message-ID` (`<id@host>`) where missing.
    ///
    /// # Errors
    /// [`MailError::Malformed`] for broken lines or header fields, or a line over [`LINE_MAX`].
    pub fn parse(text: &[u8], ends: LineEnds, now: Timestamp, id: &str, host: &str) -> Result<Self, MailError> {
        let lines = split_lines(text, ends)?;
        let body_at = lines.iter().position(|line| line.is_empty()).unwrap_or(lines.len());
        let (head, body) = lines.split_at_checked(body_at).unwrap_or((&lines, &[]));
        let mut bytes = Vec::with_capacity(text.len().saturating_add(256));
        let (mut dated, mut named) = (false, false);
        for field in fields(head)? {
            if ["bcc", "resent-bcc", "return-path"].iter().any(|name| field.name.eq_ignore_ascii_case(name)) {
                continue;
            }
            dated |= field.name.eq_ignore_ascii_case("date");
            named |= field.name.eq_ignore_ascii_case("message-id");
            for line in field.lines {
                push_line(&mut bytes, line);
            }
        }
        if !dated {
            push_line(&mut bytes, format!("Date: {}", rfc5322_date(now)).as_bytes());
        }
        if !named {
            push_line(&mut bytes, format!("Message-ID: <{id}@{host}>").as_bytes());
        }
        let header_len = bytes.len();
        if header_len > HEADERS_MAX {
            return Err(MailError::Malformed("its header section is over 128 KiB"));
        }
        // `body` starts with the empty line; a message of headers alone gets one.
        if body.is_empty() {
            push_line(&mut bytes, b"");
        }
        for line in body {
            push_line(&mut bytes, line);
        }
        Ok(Self { bytes, header_len })
    }

    /// The whole text; every line ends in CR LF.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The value of the first header field called `name`, unfolded, not decoded; `None` when there is none.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Header fields in order: name, unfolded value.
    pub fn headers(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let head = String::from_utf8_lossy(self.bytes.get(..self.header_len).unwrap_or_default()).into_owned();
        let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        let fields: Vec<(String, String)> = unfolded
            .split("\r\n")
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim_end().to_owned(), value.trim().to_owned()))
            .collect();
        fields.into_iter()
    }
}

/// A `Received` field (RFC 5321, 4.4) to stand before the message; ends in CR LF. `with` is `ESMTPA`, `HTTP`, ….
pub fn received(peer: std::net::IpAddr, host: &str, with: &str, id: &str, now: Timestamp) -> Vec<u8> {
    let peer = match peer {
        std::net::IpAddr::V4(v4) => format!("[{v4}]"),
        std::net::IpAddr::V6(v6) => format!("[IPv6:{v6}]"),
    };
    let date = rfc5322_date(now);
    format!("Received: from {peer}\r\n\tby {host} with {with} id {id};\r\n\t{date}\r\n").into_bytes()
}

/// `Fri, 20 Nov 2026 19:04:05 +0000` (RFC 5322, 3.3).
pub fn rfc5322_date(now: Timestamp) -> String {
    now.to_jiff().strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// Checks that `value` can stand in a header field called `name`: nothing that ends a line, no other control character.
///
/// # Errors
/// [`MailError::Header`].
pub fn check_header(name: &str, value: &str) -> Result<(), MailError> {
    let bad = |reason| MailError::Header { name: shown(name), reason };
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
        return Err(bad("has a name with characters that a name may not have"));
    }
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(bad("has a line break or another control character in its value"));
    }
    Ok(())
}

struct Field<'a> {
    name: &'a str,
    lines: &'a [&'a [u8]],
}

/// Header fields with their folded lines.
fn fields<'a>(head: &'a [&'a [u8]]) -> Result<Vec<Field<'a>>, MailError> {
    let folded = |line: &&[u8]| matches!(line.first(), Some(b' ' | b'\t'));
    let mut out = Vec::new();
    let mut rest = head;
    while let Some((first, more)) = rest.split_first() {
        let continued = more.iter().take_while(|line| folded(line)).count();
        let (lines, after) = rest.split_at_checked(continued.saturating_add(1)).unwrap_or((rest, &[]));
        let colon = first.iter().position(|byte| *byte == b':');
        let name = colon
            .and_then(|at| first.get(..at))
            .and_then(|name| std::str::from_utf8(name).ok())
            .map(str::trim_end)
            .filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()))
            .ok_or(MailError::Malformed("a line of its header section is no header field"))?;
        out.push(Field { name, lines });
        rest = after;
    }
    Ok(out)
}

/// The lines of `text` without their ends. A last line without an end counts as a line.
fn split_lines(text: &[u8], ends: LineEnds) -> Result<Vec<&[u8]>, MailError> {
    let mut out = Vec::new();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let line = match (line.strip_suffix(b"\r\n"), line.strip_suffix(b"\n")) {
            (Some(line), _) => line,
            (None, Some(line)) if ends == LineEnds::Lenient => line,
            (None, Some(_)) => return Err(MailError::Malformed("it has a line feed without carriage return")),
            (None, None) => line,
        };
        if line.contains(&b'\r') {
            return Err(MailError::Malformed("it has a carriage return without line feed"));
        }
        if line.contains(&0) {
            return Err(MailError::Malformed("it has a NUL byte"));
        }
        if line.len().saturating_add(2) > LINE_MAX {
            return Err(MailError::Malformed("it has a line over 998 bytes; encode such bodies in base64"));
        }
        out.push(line);
    }
    Ok(out)
}

fn push_line(out: &mut Vec<u8>, line: &[u8]) {
    out.extend_from_slice(line);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str, ends: LineEnds) -> Result<Message, MailError> {
        Message::parse(text.as_bytes(), ends, Timestamp::from_seconds(1_795_201_445), "id1", "mail.example.com")
    }

    fn text(message: &Message) -> &str {
        std::str::from_utf8(message.bytes()).unwrap()
    }

    #[test]
    fn blind_recipients_never_leave_and_missing_fields_are_added() {
        let message =
            parse("To: a@example.com\r\nBcc: b@example.com,\r\n c@example.com\r\n\r\nhi\r\n", LineEnds::Strict);
        assert_eq!(
            text(&message.unwrap()),
            "To: a@example.com\r\nDate: Fri, 20 Nov 2026 19:04:05 +0000\r\n\
             Message-ID: <id1@mail.example.com>\r\n\r\nhi\r\n"
        );
    }

    #[test]
    fn a_lone_line_feed_is_refused_over_smtp_and_mended_elsewhere() {
        let lone = "Date: x\nMessage-ID: y\n\n.\nhi";
        assert!(matches!(parse(lone, LineEnds::Strict), Err(MailError::Malformed(_))));
        assert_eq!(text(&parse(lone, LineEnds::Lenient).unwrap()), "Date: x\r\nMessage-ID: y\r\n\r\n.\r\nhi\r\n");
        for smuggled in ["A: b\r\n\r\n\r.\r\n", "A: b\r\n\r\nx\rMAIL FROM:<a@b>\r\n", "A: b\r\n\r\n\0\r\n"] {
            assert!(parse(smuggled, LineEnds::Lenient).is_err(), "{smuggled:?}");
        }
    }

    #[test]
    fn header_values_cannot_start_a_new_field() {
        assert!(check_header("Subject", "hello\r\nBcc: x@example.com").is_err());
        assert!(check_header("Sub ject", "hello").is_err());
        assert!(check_header("Subject:", "hello").is_err());
        assert!(check_header("Subject", "grüße").is_ok());
    }

    #[test]
    fn folded_fields_read_as_one_line() {
        let message = parse("Subject: a\r\n b\r\nX: 1\r\n\r\n", LineEnds::Strict).unwrap();
        assert_eq!(message.header("subject").as_deref(), Some("a b"));
    }

    #[test]
    fn a_body_that_looks_like_headers_is_refused_when_the_empty_line_is_missing() {
        assert!(parse("hello world\r\n", LineEnds::Strict).is_err());
        assert!(parse(" folded first\r\n\r\n", LineEnds::Strict).is_err());
    }

    proptest! {
        #[test]
        fn what_is_taken_in_has_only_whole_line_ends(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(message) = Message::parse(&bytes, LineEnds::Lenient, Timestamp(0), "i", "h") {
                let bare = String::from_utf8_lossy(message.bytes()).replace("\r\n", "");
                prop_assert!(!bare.contains(['\r', '\n', '\0']));
                let again = Message::parse(message.bytes(), LineEnds::Strict, Timestamp(0), "i", "h").unwrap();
                prop_assert_eq!(again, message);
            }
        }
    }
}
