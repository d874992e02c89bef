//! Bodies of the store endpoint, from before envelopes: a JSON event, which old SDKs also sent as zlib or base64 of
//! zlib without saying so (raven; develop.sentry.dev, "Store endpoint").
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Refusal;
use super::decode::{self, Encoding};

/// The JSON event in `body`, whose content-encoding is undone.
///
/// # Errors
/// [`Refusal::Event`] when it is in none of the forms; what [`decode::decode`] says.
pub fn event(body: &[u8]) -> Result<Cow<'_, [u8]>, Refusal> {
    // Before anything is trimmed: a checksum may end like white space.
    if decode::is_zlib(body) {
        return Ok(Cow::Owned(decode::decode(Encoding::Deflate, body)?));
    }
    let body = body.trim_ascii();
    if body.starts_with(b"{") {
        return Ok(Cow::Borrowed(body));
    }
    let decoded = STANDARD.decode(body).map_err(|_malformed| neither())?;
    if decode::is_zlib(&decoded) {
        return Ok(Cow::Owned(decode::decode(Encoding::Deflate, &decoded)?));
    }
    if decoded.trim_ascii_start().starts_with(b"{") { Ok(Cow::Owned(decoded)) } else { Err(neither()) }
}

fn neither() -> Refusal {
    Refusal::Event("it is no JSON object".to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_old_sdks_used_gives_the_event() {
        let text = br#"{"message":"m"}"#;
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(text).unwrap();
        let zlib = zlib.finish().unwrap();
        let forms =
            [text.to_vec(), zlib.clone(), STANDARD.encode(&zlib).into_bytes(), STANDARD.encode(text).into_bytes()];
        for form in &forms {
            assert_eq!(event(form).unwrap().as_ref(), text);
        }
        assert!(matches!(event(b"sentry_data=1"), Err(Refusal::Event(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_event_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = event(&body);
        }
    }
}
