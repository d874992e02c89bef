//! Documents in and out.
//!
//! Reading builds a small tree under caps; documents of S3 are shallow. No document type, no entities beyond XML's own
//! five: an entity that expands is a bomb. Writing is by hand, since an answer may have thousands of rows.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::fmt::{Display, Write as _};

use quick_xml::Reader;
use quick_xml::events::Event;

use super::error::{Code, S3Error};

/// The namespace of S3's documents.
pub const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
/// Most bytes in a document read.
pub const BYTES_MAX: usize = 2 << 20;
/// Most elements within elements.
const DEPTH_MAX: usize = 10;
/// Most elements in a document: 10,000 parts with number, tag and checksum.
const ELEMENTS_MAX: usize = 50_000;

/// An element: its name without prefix, its text, the elements in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// Local name.
    pub name: String,
    /// Text directly in it.
    pub text: String,
    /// Elements directly in it.
    pub children: Vec<Element>,
}

impl Element {
    /// The first element in it called `name`.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first element in it called `name`, space and all: a key may begin with one.
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }

    /// The text of the first element in it called `name`, without the space around it: a number, a tag, a word.
    pub fn word_of(&self, name: &str) -> Option<&str> {
        self.text_of(name).map(str::trim)
    }

    /// The elements in it called `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }
}

/// Reads a document whose outermost element is `root`.
///
/// # Errors
/// `MalformedXML` when it is not well-formed, of another kind, or beyond the caps.
pub fn parse(bytes: &[u8], root: &str) -> Result<Element, S3Error> {
    let malformed = || S3Error::from(Code::MalformedXML);
    let text = std::str::from_utf8(bytes).or(Err(malformed()))?;
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    let mut open: Vec<Element> = Vec::new();
    let mut done: Option<Element> = None;
    let mut elements: usize = 0;
    loop {
        let event = reader.read_event().or(Err(malformed()))?;
        let (name, empty) = match &event {
            Event::Start(start) => (start, false),
            Event::Empty(start) => (start, true),
            Event::End(_) => {
                let element = open.pop().ok_or_else(malformed)?;
                close(&mut open, &mut done, element)?;
                continue;
            }
            Event::Text(part) => {
                add_text(&mut open, part)?;
                continue;
            }
            Event::CData(part) => {
                add_text(&mut open, part)?;
                continue;
            }
            Event::GeneralRef(name) => {
                let mut buffer = [0; 4];
                add_text(&mut open, entity(name).ok_or_else(malformed)?.encode_utf8(&mut buffer))?;
                continue;
            }
            Event::Comment(_) | Event::Decl(_) => continue,
            Event::PI(_) | Event::DocType(_) => return Err(malformed()),
            Event::Eof => break,
        };
        elements = elements.saturating_add(1);
        if elements > ELEMENTS_MAX || open.len() >= DEPTH_MAX {
            return Err(malformed());
        }
        let element = Element { name: name.local_name().into_inner().to_owned(), ..Element::default() };
        if empty {
            close(&mut open, &mut done, element)?;
        } else {
            open.push(element);
        }
    }
    done.filter(|element| open.is_empty() && element.name == root).ok_or_else(malformed)
}

fn close(open: &mut [Element], done: &mut Option<Element>, element: Element) -> Result<(), S3Error> {
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None if done.is_none() => *done = Some(element),
        None => return Err(Code::MalformedXML.into()),
    }
    Ok(())
}

fn add_text(open: &mut [Element], text: &str) -> Result<(), S3Error> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err(Code::MalformedXML.into()),
    }
    Ok(())
}

/// The character a reference stands for.
fn entity(name: &str) -> Option<char> {
    match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "apos" => Some('\''),
        "quot" => Some('"'),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => u32::from_str_radix(hex, 16).ok()?,
                None if number.bytes().all(|b| b.is_ascii_digit()) => number.parse().ok()?,
                _ => return None,
            };
            char::from_u32(code)
        }
    }
}

/// A document being written.
#[derive(Debug)]
pub struct Writer {
    out: String,
    open: Vec<&'static str>,
}

impl Writer {
    /// A document whose outermost element is `root`, in S3's namespace.
    pub fn new(root: &'static str) -> Self {
        let mut out = String::with_capacity(512);
        // Writing into a String cannot fail, here and below.
        let _ = write!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root} xmlns=\"{NAMESPACE}\">");
        Self { out, open: vec![root] }
    }

    /// A document of one element with `text` in it.
    pub fn with_text(root: &'static str, text: &str) -> Self {
        let mut xml = Self::new(root);
        escape(&mut xml.out, text);
        xml
    }

    /// A document whose outermost element is `root`, in no namespace (errors).
    pub fn plain(root: &'static str) -> Self {
        Self { out: format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root}>"), open: vec![root] }
    }

    /// Opens an element; [`Writer::end`] closes it.
    pub fn start(&mut self, name: &'static str) -> &mut Self {
        let _ = write!(self.out, "<{name}>");
        self.open.push(name);
        self
    }

    /// Opens an element with `attributes`, which stand in it as they are.
    pub fn start_with(&mut self, name: &'static str, attributes: &'static str) -> &mut Self {
        let _ = write!(self.out, "<{name} {attributes}>");
        self.open.push(name);
        self
    }

    /// Closes the element opened last.
    pub fn end(&mut self) -> &mut Self {
        if let Some(name) = self.open.pop() {
            let _ = write!(self.out, "</{name}>");
        }
        self
    }

    /// An element with `value` as its text.
    pub fn leaf(&mut self, name: &'static str, value: impl Display) -> &mut Self {
        let _ = write!(self.out, "<{name}>");
        escape(&mut self.out, &value.to_string());
        let _ = write!(self.out, "</{name}>");
        self
    }

    /// An element, when there is a value.
    pub fn maybe(&mut self, name: &'static str, value: Option<impl Display>) -> &mut Self {
        if let Some(value) = value {
            self.leaf(name, value);
        }
        self
    }

    /// The finished document.
    pub fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.end();
        }
        self.out
    }
}

/// Control characters, which XML 1.0 has no place for, become references as Amazon S3 writes them; a client that
/// cannot read those asks with `encoding-type=url`.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\u{0}'..='\u{1f}' | '\u{7f}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(out, "&#x{:x};", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_document_becomes_a_tree() {
        let text = "<?xml version=\"1.0\"?><!-- c --><D xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n \
                    <O><Key> a&amp;b&#x21;<![CDATA[<c>]]></Key></O><Quiet/></D>";
        let tree = parse(text.as_bytes(), "D").unwrap();
        assert_eq!(tree.child("O").unwrap().text_of("Key"), Some(" a&b!<c>"));
        assert_eq!(tree.text_of("Quiet"), Some(""));
        assert_eq!(tree.all("O").count(), 1);
    }

    #[test]
    fn what_is_no_plain_document_is_refused() {
        let deep = format!("{}{}", "<D>".repeat(11), "</D>".repeat(11));
        let wide = format!("<D>{}</D>", "<a/>".repeat(ELEMENTS_MAX));
        for text in [
            "",
            "D",
            "<D>",
            "<D></E>",
            "<E/>",
            "<D/><D/>",
            "<D/>x",
            "<!DOCTYPE D [<!ENTITY a \"b\">]><D>&a;</D>",
            "<D>&nbsp;</D>",
            "<D>&#x110000;</D>",
            "<D>&#+1;</D>",
            "<D><?php?></D>",
            &deep,
            &wide,
        ] {
            assert!(parse(text.as_bytes(), "D").is_err(), "{}", text.get(..40).unwrap_or(text));
        }
    }

    #[test]
    fn written_elements_are_closed_in_order() {
        let mut xml = Writer::new("R");
        xml.start("A").leaf("B", "x<y").maybe("C", None::<u8>).end().leaf("D", 7);
        assert!(xml.finish().ends_with("<A><B>x&lt;y</B></A><D>7</D></R>"));
    }

    proptest! {
        #[test]
        fn written_text_reads_back(text in "[^\u{0}-\u{1f}\u{7f}]{0,20}") {
            let mut xml = Writer::new("R");
            xml.leaf("A", &text);
            let tree = parse(xml.finish().as_bytes(), "R").unwrap();
            prop_assert_eq!(tree.text_of("A"), Some(text.as_str()));
        }

        #[test]
        fn any_bytes_are_read_or_refused(text in "[<>/&;#x!\\[\\]A-D\" ?-]{0,60}") {
            let _ = parse(text.as_bytes(), "D");
        }
    }
}
