//! Bodies out of their content-encoding, under hard caps: a small body must not become a large one.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::io::Read;

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use ruzstd::decoding::StreamingDecoder;

use super::Refusal;

/// Most bytes of a body as it arrives.
pub const COMPRESSED_MAX: usize = 4 << 20;

/// Most bytes of a body once decompressed.
pub const DECOMPRESSED_MAX: usize = 16 << 20;

/// Most bytes out for a byte in, beyond the first [`RATIO_FREE`]. Stack traces of one event reach about 40.
pub const RATIO_MAX: usize = 200;

/// Bytes a body may decompress to whatever its ratio.
const RATIO_FREE: usize = 1 << 20;

/// Bytes decompressed between two looks at the caps.
const STEP: usize = 64 << 10;

/// Largest window of a zstd frame, which its decoder reserves at once (RFC 8878 recommends 8 MiB).
const ZSTD_WINDOW_MAX: u64 = 8 << 20;

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950, or RFC 1951 from those who took the name literally.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

impl Encoding {
    /// The encoding a `Content-Encoding` header names; `None` for one nobody decodes here.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_lowercase();
        match name.as_str() {
            "" | "identity" => Some(Self::Identity),
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "br" => Some(Self::Brotli),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Decodes `body`. Takes time in proportion to the result: keep it off the threads that serve.
///
/// # Errors
/// [`Refusal::Broken`], [`Refusal::TooLarge`] over [`DECOMPRESSED_MAX`], [`Refusal::Bomb`] over [`RATIO_MAX`].
pub fn decode(encoding: Encoding, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    match encoding {
        Encoding::Identity => Ok(body.to_vec()),
        Encoding::Gzip => drain(MultiGzDecoder::new(body), body.len()),
        Encoding::Deflate if is_zlib(body) => drain(ZlibDecoder::new(body), body.len()),
        Encoding::Deflate => drain(DeflateDecoder::new(body), body.len()),
        Encoding::Brotli => drain(brotli_decompressor::Decompressor::new(body, 4096), body.len()),
        Encoding::Zstd => {
            let decoder = StreamingDecoder::new_with_max_window_size(body, ZSTD_WINDOW_MAX);
            let decoder = decoder.map_err(|_malformed| Refusal::Broken)?;
            drain(decoder, body.len())
        }
    }
}

/// Whether `body` opens with a zlib header (RFC 1950, section 2.2: method 8, a multiple of 31).
pub(super) fn is_zlib(body: &[u8]) -> bool {
    let [first, second, ..] = body else { return false };
    first & 0x0f == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31)
}

fn drain(mut decoder: impl Read, compressed: usize) -> Result<Vec<u8>, Refusal> {
    let by_ratio = compressed.saturating_mul(RATIO_MAX).max(RATIO_FREE);
    let mut out = Vec::new();
    loop {
        let before = out.len();
        let step = decoder.by_ref().take(STEP as u64).read_to_end(&mut out);
        step.map_err(|_malformed| Refusal::Broken)?;
        if out.len() > DECOMPRESSED_MAX {
            return Err(Refusal::TooLarge { what: "the decompressed body", most: DECOMPRESSED_MAX });
        }
        if out.len() > by_ratio {
            return Err(Refusal::Bomb { most: RATIO_MAX });
        }
        if out.len() == before {
            return Ok(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;
    use crate::base::Random as _;
    use crate::testing::TestRandom;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_encoding_sdks_use_is_decoded() {
        let text = br#"{"message":"hello"}"#;
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(text).unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        raw.write_all(text).unwrap();
        // One stored meta-block (RFC 7932, section 9.2) between an empty stream's ends; made with the reference encoder.
        let brotli = [&[0x0b, 0x09, 0x80][..], text, &[0x03]].concat();
        let zstd = ruzstd::encoding::compress_to_vec(&text[..], ruzstd::encoding::CompressionLevel::Fastest);
        for (name, body) in [
            ("", text.to_vec()),
            ("x-gzip", gzip(text)),
            ("deflate", zlib.finish().unwrap()),
            ("deflate", raw.finish().unwrap()),
            ("br", brotli),
            ("zstd", zstd),
        ] {
            assert_eq!(decode(Encoding::named(name).unwrap(), &body).unwrap(), text, "{name}");
        }
        assert_eq!(Encoding::named("compress"), None);
    }

    #[test]
    fn a_bomb_is_refused_by_its_ratio_before_it_is_large() {
        let bomb = gzip(&vec![b' '; 8 << 20]);
        assert!(matches!(decode(Encoding::Gzip, &bomb), Err(Refusal::Bomb { .. })));
    }

    #[test]
    fn more_than_the_cap_is_refused_whatever_the_ratio() {
        let mut noise = vec![0; DECOMPRESSED_MAX + 1];
        TestRandom::new(3).fill(&mut noise);
        let large = gzip(&noise);
        assert!(matches!(decode(Encoding::Gzip, &large), Err(Refusal::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            use Encoding::{Brotli, Deflate, Gzip, Identity, Zstd};
            for encoding in [Identity, Gzip, Deflate, Brotli, Zstd] {
                let _ = decode(encoding, &body);
            }
        }
    }
}
