//! What a file is, told from how it begins.
//!
//! Only what has a mark of its own is known, and plain text. Sources: WHATWG "MIME Sniffing" (sections 6 and 7, for
//! pictures, sound, archives and markup), ISO/IEC 14496-12 (the `ftyp` box), the formats' own specifications for the rest.
//!
//! A guess by content is no proof: a file may be valid as two things at once. What it protects from is a declared type
//! that says nothing true about the bytes.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

/// How many bytes from the beginning are looked at.
pub const HEAD: usize = 1024;

macro_rules! kinds {
    ($( $kind:ident: $first:literal $(, $media:literal)*; )+) => {
        /// What a file is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $( #[doc = concat!("What is called `", $first, "`.")] $kind, )+
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$( Self::$kind ),+];

            /// The media types that mean it, the usual one first.
            pub const fn media(self) -> &'static [&'static str] {
                match self { $( Self::$kind => &[$first $(, $media)*], )+ }
            }
        }
    };
}

kinds! {
    Png: "image/png", "image/apng", "image/x-png";
    Jpeg: "image/jpeg", "image/jpg", "image/pjpeg";
    Gif: "image/gif";
    Webp: "image/webp";
    Avif: "image/avif", "image/avif-sequence";
    Heic: "image/heic", "image/heif", "image/heic-sequence", "image/heif-sequence";
    Svg: "image/svg+xml";
    Pdf: "application/pdf", "application/x-pdf";
    Zip: "application/zip", "application/x-zip-compressed", "application/x-zip", "application/epub+zip",
        "application/java-archive", "application/vnd.android.package-archive";
    Ole: "application/x-ole-storage", "application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint",
        "application/vnd.ms-outlook", "application/x-msi";
    Gzip: "application/gzip", "application/x-gzip", "application/x-tgz", "application/x-compressed-tar";
    Zstd: "application/zstd";
    Mp4: "video/mp4", "audio/mp4", "application/mp4", "video/quicktime", "video/x-m4v", "audio/x-m4a", "audio/m4a",
        "video/3gpp", "video/3gpp2", "audio/3gpp";
    Webm: "video/webm", "audio/webm", "video/x-matroska", "audio/x-matroska", "video/matroska";
    Mp3: "audio/mpeg", "audio/mp3";
    Ogg: "audio/ogg", "video/ogg", "application/ogg", "audio/opus";
    Wav: "audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave";
    Html: "text/html", "application/xhtml+xml";
    Xml: "application/xml", "text/xml";
    Elf: "application/x-elf", "application/x-executable", "application/x-sharedlib";
    Pe: "application/vnd.microsoft.portable-executable", "application/x-msdownload", "application/x-dosexec";
    Script: "application/x-sh", "text/x-sh", "text/x-shellscript", "application/x-shellscript", "text/x-python",
        "text/x-perl";
    Text: "text/plain";
}

/// What office documents, which are archives inside, are called.
const OFFICE: [&str; 2] = ["application/vnd.openxmlformats-officedocument.", "application/vnd.oasis.opendocument."];

impl Kind {
    /// Whether a file of this kind may be called `media`: a media type in lower case, without parameters.
    pub fn fits(self, media: &str) -> bool {
        self.media().contains(&media)
            || match self {
                Self::Zip => OFFICE.iter().any(|office| media.starts_with(office)),
                Self::Xml => media.ends_with("+xml"),
                // Most types of text have no mark; XML may do without one.
                Self::Text => media.ends_with("+xml") && media != "image/svg+xml" || !has_mark(media),
                _ => false,
            }
    }
}

/// Whether files called `media` would be known by how they begin.
fn has_mark(media: &str) -> bool {
    Kind::ALL.iter().any(|kind| !matches!(kind, Kind::Text | Kind::Xml) && kind.fits(media))
}

/// Whether a file may be called `media` whose first bytes say nothing.
pub fn unknown_fits(media: &str) -> bool {
    !has_mark(media) && !media.starts_with("text/") && !Kind::Xml.fits(media)
}

/// What a file is that begins with `head`, of which [`HEAD`] bytes are looked at; `None` when that is not known.
pub fn sniff(head: &[u8]) -> Option<Kind> {
    let head = head.get(..HEAD).unwrap_or(head);
    binary(head).or_else(|| markup(head)).or_else(|| is_text(head).then_some(Kind::Text))
}

/// What has a mark of bytes.
fn binary(head: &[u8]) -> Option<Kind> {
    const MARKS: &[(&[u8], Kind)] = &[
        (b"\x89PNG\r\n\x1a\n", Kind::Png),
        (b"\xff\xd8\xff", Kind::Jpeg),
        (b"GIF87a", Kind::Gif),
        (b"GIF89a", Kind::Gif),
        (b"%PDF-", Kind::Pdf),
        (b"PK\x03\x04", Kind::Zip),
        // Empty, and parted.
        (b"PK\x05\x06", Kind::Zip),
        (b"PK\x07\x08", Kind::Zip),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Kind::Ole),
        (b"\x1f\x8b", Kind::Gzip),
        (b"\x28\xb5\x2f\xfd", Kind::Zstd),
        (b"\x1a\x45\xdf\xa3", Kind::Webm),
        (b"ID3", Kind::Mp3),
        (b"OggS\x00", Kind::Ogg),
        (b"\x7fELF", Kind::Elf),
        (b"MZ", Kind::Pe),
        (b"#!", Kind::Script),
    ];
    if let Some((_, kind)) = MARKS.iter().find(|(mark, _)| head.starts_with(mark)) {
        // Letters that a text may begin with, too.
        let is_short = matches!(kind, Kind::Pe | Kind::Mp3);
        return Some(*kind).filter(|_| !is_short || !is_text(head));
    }
    match (head.first_chunk::<4>(), head.get(4..8), head.get(8..12)) {
        (Some(b"RIFF"), _, Some(b"WEBP")) => Some(Kind::Webp),
        (Some(b"RIFF"), _, Some(b"WAVE")) => Some(Kind::Wav),
        (Some(size), Some(b"ftyp"), Some(_)) => Some(media_file(u32::from_be_bytes(*size), head)),
        _ => is_mp3_frame(head).then_some(Kind::Mp3),
    }
}

/// What a file with an `ftyp` box is: by its brands.
fn media_file(size: u32, head: &[u8]) -> Kind {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let content = head.get(8..size.min(head.len())).unwrap_or_default();
    let mut kind = Kind::Mp4;
    // The major brand, its version, then the brands it is compatible with.
    for (place, brand) in content.chunks_exact(4).enumerate().filter(|(place, _)| *place != 1) {
        match brand {
            b"avif" | b"avis" => return Kind::Avif,
            b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" => return Kind::Heic,
            b"mif1" | b"msf1" if place == 0 => kind = Kind::Heic,
            _ => {}
        }
    }
    kind
}

/// Whether it begins with a frame of MPEG audio, layer III (ISO/IEC 11172-3, 2.4.2.3).
fn is_mp3_frame(head: &[u8]) -> bool {
    let Some([sync, second, third]) = head.first_chunk::<3>() else { return false };
    let is_reserved = second & 0x18 == 0x08 || third & 0xf0 == 0xf0 || third & 0x0c == 0x0c;
    *sync == 0xff && second & 0xe6 == 0xe2 && !is_reserved
}

/// Whether no byte is one that text does not have (WHATWG, "binary data byte").
fn is_text(head: &[u8]) -> bool {
    let is_wide = head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]);
    let binary = |byte: &u8| matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    !head.is_empty() && (is_wide || !head.iter().any(binary))
}

/// What has a mark of letters: behind white space, comments and declarations.
fn markup(head: &[u8]) -> Option<Kind> {
    /// Elements that a page begins with (WHATWG, section 7.1).
    const PAGE: [&str; 17] = [
        "html", "head", "script", "iframe", "h1", "div", "font", "table", "a", "style", "title", "b", "body", "br",
        "p", "img", "meta",
    ];
    let mut rest = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let mut otherwise = None;
    loop {
        rest = rest.trim_ascii_start();
        if let Some(comment) = rest.strip_prefix(b"<!--") {
            // One without an end is as good as a page.
            match behind(comment, b"-->") {
                Some(behind) => rest = behind,
                None => return otherwise.or(Some(Kind::Html)),
            }
        } else if let Some(declaration) = rest.strip_prefix(b"<?") {
            if starts_with(declaration, "xml") {
                otherwise = Some(Kind::Xml);
            }
            match behind(declaration, b"?>") {
                Some(behind) => rest = behind,
                None => return otherwise,
            }
        } else if starts_with(rest, "<!doctype") {
            let name = rest.get(9..).unwrap_or_default().trim_ascii_start();
            if is_word(name, "html") {
                return Some(Kind::Html);
            }
            if is_word(name, "svg") {
                return Some(Kind::Svg);
            }
            otherwise = Some(Kind::Xml);
            match behind(rest, b">") {
                Some(behind) => rest = behind,
                None => return otherwise,
            }
        } else {
            let Some(element) = rest.strip_prefix(b"<") else { return otherwise };
            return match element {
                svg if is_word(svg, "svg") || starts_with(svg, "svg:svg") => Some(Kind::Svg),
                page if PAGE.iter().any(|name| is_word(page, name)) => Some(Kind::Html),
                _ => otherwise,
            };
        }
    }
}

/// What stands behind the first `mark`.
fn behind<'a>(text: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(mark.len()).position(|window| window == mark)?;
    text.get(at..)?.get(mark.len()..)
}

fn starts_with(text: &[u8], word: &str) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
}

/// Whether `text` begins with `word`, which ends there.
fn is_word(text: &[u8], word: &str) -> bool {
    let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/' | b'[');
    starts_with(text, word) && text.get(word.len()).is_none_or(ends)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn files_are_known_by_how_they_begin() {
        let known: [(&[u8], Kind); 34] = [
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", Kind::Png),
            (b"\xff\xd8\xff\xe0\0\x10JFIF", Kind::Jpeg),
            (b"GIF89a\x01\0", Kind::Gif),
            (b"RIFF\x10\0\0\0WEBPVP8 ", Kind::Webp),
            (b"RIFF\x10\0\0\0WAVEfmt ", Kind::Wav),
            (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", Kind::Avif),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", Kind::Avif),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", Kind::Heic),
            (b"\0\0\0\x18ftypisom\0\0\0\0isomavc1", Kind::Mp4),
            (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", Kind::Mp4),
            (b"%PDF-1.7\n", Kind::Pdf),
            (b"PK\x03\x04\x14\0", Kind::Zip),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", Kind::Ole),
            (b"\x1f\x8b\x08\0", Kind::Gzip),
            (b"\x28\xb5\x2f\xfd\x04", Kind::Zstd),
            (b"\x1a\x45\xdf\xa3\x9f", Kind::Webm),
            (b"ID3\x04\0", Kind::Mp3),
            (b"\xff\xfb\x90\x64", Kind::Mp3),
            (b"OggS\0\x02", Kind::Ogg),
            (b"\x7fELF\x02", Kind::Elf),
            (b"MZ\x90\0", Kind::Pe),
            (b"#!/bin/sh\n", Kind::Script),
            (b" \n<!DOCTYPE HTML>", Kind::Html),
            (b"<ScRiPt src=x>", Kind::Html),
            (b"\xef\xbb\xbf<html>", Kind::Html),
            (b"<!-- a --><body>", Kind::Html),
            (b"<!-- no end", Kind::Html),
            (b"<?xml version=\"1.0\"?><!-- a --><!DOCTYPE svg PUBLIC \"x\"><svg>", Kind::Svg),
            (b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", Kind::Svg),
            (b"<?xml version=\"1.0\"?><!DOCTYPE x SYSTEM \"y\"><svg:svg>", Kind::Svg),
            (b"<?xml version=\"1.0\"?><rss>", Kind::Xml),
            (b"<?xml version=\"1.0\"?><html xmlns=\"x\">", Kind::Html),
            (b"{\"a\": 1}", Kind::Text),
            (b"\xff\xfea\0b\0", Kind::Text),
        ];
        for (head, kind) in known {
            assert_eq!(sniff(head), Some(kind), "{}", head.escape_ascii());
        }
        for head in [&b""[..], b"\0\x01\x02", b"\xff\xf5\x90\x64\0"] {
            assert_eq!(sniff(head), None, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn a_file_is_called_only_what_it_may_be() {
        for (kind, media, fits) in [
            (Kind::Png, "image/png", true),
            (Kind::Png, "image/jpeg", false),
            (Kind::Zip, "application/vnd.openxmlformats-officedocument.wordprocessingml.document", true),
            (Kind::Text, "text/csv", true),
            (Kind::Text, "application/json", true),
            (Kind::Text, "application/rss+xml", true),
            (Kind::Text, "image/svg+xml", false),
            (Kind::Text, "image/png", false),
            (Kind::Text, "text/html", false),
            (Kind::Html, "text/plain", false),
            (Kind::Svg, "application/xml", false),
            (Kind::Xml, "application/atom+xml", true),
        ] {
            assert_eq!(kind.fits(media), fits, "{kind:?} as {media}");
        }
        for (media, fits) in
            [("image/png", false), ("text/csv", false), ("application/x-sqlite3", true), ("model/stl", true)]
        {
            assert_eq!(unknown_fits(media), fits, "{media}");
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_behind_the_head_says_nothing(
            head in proptest::collection::vec(any::<u8>(), HEAD..HEAD + 1),
            tail in proptest::collection::vec(any::<u8>(), 0..9),
        ) {
            prop_assert_eq!(sniff(&[head.as_slice(), tail.as_slice()].concat()), sniff(&head));
        }

        #[test]
        fn every_text_is_something(text in "(?s)[<>!?a-z \"\\-]{1,60}") {
            prop_assert!(sniff(text.as_bytes()).is_some());
        }
    }
}
