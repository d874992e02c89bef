//! What a page's script tells of it: one small JSON object, read strictly.
//!
//! ```text
//! {"page":"/shop","lcp":1203,"fcp":640,"ttfb":88,"inp":56,"cls":0.013}      what was measured of a page
//! {"page":"/shop/2","view":true}                                            a page was shown without a request for it
//! {"page":"/shop","view":true,"referrer":"https://news.example/"}           the same, from elsewhere
//! ```

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use serde::Deserialize;

use super::vitals::Measured;

/// Largest beacon, in bytes.
pub const LONGEST: usize = 2_048;
/// Longest time a browser may have measured, in milliseconds.
const LONGEST_MS: f64 = 600_000.0;
/// Largest shift a browser may have measured.
const LARGEST_SHIFT: f64 = 100.0;

/// What a page told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// The path of the page.
    pub page: String,
    /// Whether it was shown without a request for it.
    pub view: bool,
    /// The address that led there, when the page tells one; empty for none.
    pub referrer: Option<String>,
    /// What was measured.
    pub measured: Measured,
}

/// A beacon that is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBeacon {
    /// Too long.
    #[error("it is longer than {LONGEST} bytes")]
    Long,
    /// Not the object that is expected.
    #[error("it is no such object")]
    Shape,
    /// A value that cannot have been measured.
    #[error("a value is out of range")]
    Range,
    /// It tells of no page, or nothing of it.
    #[error("it tells nothing")]
    Empty,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    page: String,
    #[serde(default)]
    view: bool,
    #[serde(default)]
    referrer: Option<String>,
    #[serde(default)]
    lcp: Option<f64>,
    #[serde(default)]
    inp: Option<f64>,
    #[serde(default)]
    cls: Option<f64>,
    #[serde(default)]
    fcp: Option<f64>,
    #[serde(default)]
    ttfb: Option<f64>,
}

impl Beacon {
    /// Reads `bytes`.
    ///
    /// # Errors
    /// [`BadBeacon`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BadBeacon> {
        if bytes.len() > LONGEST {
            return Err(BadBeacon::Long);
        }
        let sent: Sent = serde_json::from_slice(bytes).map_err(|_other| BadBeacon::Shape)?;
        let measured = [
            within(sent.lcp, LONGEST_MS, 1.0)?,
            within(sent.inp, LONGEST_MS, 1.0)?,
            within(sent.cls, LARGEST_SHIFT, 1_000.0)?,
            within(sent.fcp, LONGEST_MS, 1.0)?,
            within(sent.ttfb, LONGEST_MS, 1.0)?,
        ];
        let tells = sent.view || measured.iter().any(Option::is_some);
        if !sent.page.starts_with('/') || !tells {
            return Err(BadBeacon::Empty);
        }
        Ok(Self { page: sent.page, view: sent.view, referrer: sent.referrer, measured })
    }
}

/// `value` times `scale` as a whole number.
fn within(value: Option<f64>, most: f64, scale: f64) -> Result<Option<u32>, BadBeacon> {
    let Some(value) = value else { return Ok(None) };
    if !(0.0..=most).contains(&value) {
        return Err(BadBeacon::Range);
    }
    Ok(Some((value * scale).round() as u32))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_beacon_is_what_its_script_sends_and_nothing_else() {
        let read = |text: &str| Beacon::parse(text.as_bytes());
        let beacon = read(r#"{"page":"/a","lcp":1203.4,"inp":0,"cls":0.0126,"fcp":640,"ttfb":88}"#).unwrap();
        assert_eq!((beacon.page.as_str(), beacon.view), ("/a", false));
        assert_eq!(beacon.measured, [Some(1_203), Some(0), Some(13), Some(640), Some(88)]);
        let beacon = read(r#"{"page":"/a","view":true,"referrer":""}"#).unwrap();
        assert_eq!((beacon.view, beacon.referrer.as_deref(), beacon.measured), (true, Some(""), [None; 5]));
        for (text, why) in [
            ("", BadBeacon::Shape),
            ("[]", BadBeacon::Shape),
            (r#"{"page":"/a"}"#, BadBeacon::Empty),
            (r#"{"page":"a","view":true}"#, BadBeacon::Empty),
            (r#"{"page":"/a","lcp":-1}"#, BadBeacon::Range),
            (r#"{"page":"/a","lcp":1e9}"#, BadBeacon::Range),
            (r#"{"page":"/a","cls":101}"#, BadBeacon::Range),
            (r#"{"page":"/a","lcp":"1"}"#, BadBeacon::Shape),
            (r#"{"page":"/a","lcp":1,"lcp":2}"#, BadBeacon::Shape),
            (r#"{"page":"/a","view":true,"user":"ada"}"#, BadBeacon::Shape),
            (r#"{"page":"/a","view":true}x"#, BadBeacon::Shape),
        ] {
            assert_eq!(read(text), Err(why), "{text}");
        }
        let long = format!(r#"{{"page":"/{}","view":true}}"#, "a".repeat(LONGEST));
        assert_eq!(read(&long), Err(BadBeacon::Long));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Beacon::parse(&bytes);
        }

        #[test]
        fn what_is_measured_comes_through(lcp in 0_u32..600_000, cls in 0_u32..100_000) {
            let text = format!(r#"{{"page":"/x","lcp":{lcp},"cls":{}}}"#, f64::from(cls) / 1_000.0);
            let beacon = Beacon::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(beacon.measured, [Some(lcp), None, Some(cls), None, None]);
        }
    }
}
