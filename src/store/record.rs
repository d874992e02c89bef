//! Values with a version: how a room's types become bytes and come back, also from older releases.
//!
//! ```text
//! offset  bytes  what
//! 0       1      version of the type, 1 to 255
//! 1       rest   the type in postcard's wire format 1 (https://postcard.jamesmunns.com/wire-format)
//! ```
//!
//! Postcard writes no names and no tags: a changed field is a new version, with the old shape kept for
//! [`Record::decode_old`] or turned over by a migration.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A type stored as a value.
pub trait Record: Serialize + DeserializeOwned {
    /// The version written today. Raised with every change of the type's shape.
    const VERSION: u8;

    /// Reads `bytes` (without the version byte) of an older `version`; `None` when that version never was, or does not
    /// fit.
    fn decode_old(_version: u8, _bytes: &[u8]) -> Option<Self> {
        None
    }
}

/// Why bytes are no record of the type asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// No bytes at all.
    #[error("the record is empty")]
    Empty,
    /// Written by a newer Mainstay.
    #[error("the record has version {found}, known are versions up to {known}: a newer Mainstay wrote it")]
    Newer {
        /// Its version.
        found: u8,
        /// The newest this program knows.
        known: u8,
    },
    /// The bytes do not fit the version they name.
    #[error("the record does not fit its version {version}")]
    Malformed {
        /// Its version.
        version: u8,
    },
}

/// The bytes of `record`.
#[expect(
    clippy::panic,
    reason = "only a type that counts its elements wrongly fails to serialise; its first test shows"
)]
pub fn encode<T: Record>(record: &T) -> Vec<u8> {
    match postcard::to_extend(record, vec![T::VERSION]) {
        Ok(bytes) => bytes,
        Err(error) => panic!("{} does not serialise: {error}", std::any::type_name::<T>()),
    }
}

/// The record in `bytes`, whatever known version they have.
///
/// # Errors
/// See [`RecordError`].
pub fn decode<T: Record>(bytes: &[u8]) -> Result<T, RecordError> {
    let (&version, body) = bytes.split_first().ok_or(RecordError::Empty)?;
    if version > T::VERSION {
        return Err(RecordError::Newer { found: version, known: T::VERSION });
    }
    if version < T::VERSION {
        return T::decode_old(version, body).ok_or(RecordError::Malformed { version });
    }
    match postcard::take_from_bytes(body) {
        Ok((record, [])) => Ok(record),
        _ => Err(RecordError::Malformed { version }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Bucket {
        name: String,
        created: u64,
    }

    impl Record for Bucket {
        const VERSION: u8 = 2;

        /// Version 1 had no time.
        fn decode_old(version: u8, bytes: &[u8]) -> Option<Self> {
            let name = (version == 1).then(|| postcard::from_bytes(bytes).ok())??;
            Some(Self { name, created: 0 })
        }
    }

    #[test]
    fn a_record_survives_a_round_trip_and_its_bytes_stay_the_same() {
        let bucket = Bucket { name: "a".to_owned(), created: 300 };
        assert_eq!(encode(&bucket), [2, 1, b'a', 0xac, 0x02]);
        assert_eq!(decode::<Bucket>(&encode(&bucket)), Ok(bucket));
    }

    #[test]
    fn an_older_version_is_turned_into_todays() {
        assert_eq!(decode::<Bucket>(&[1, 1, b'a']), Ok(Bucket { name: "a".to_owned(), created: 0 }));
        assert_eq!(decode::<Bucket>(&[0]), Err(RecordError::Malformed { version: 0 }));
    }

    #[test]
    fn a_newer_version_is_an_error_that_says_so() {
        assert_eq!(decode::<Bucket>(&[3, 1]), Err(RecordError::Newer { found: 3, known: 2 }));
    }

    #[test]
    fn missing_and_leftover_bytes_are_errors() {
        assert_eq!(decode::<Bucket>(&[]), Err(RecordError::Empty));
        assert_eq!(decode::<Bucket>(&[2, 1, b'a']), Err(RecordError::Malformed { version: 2 }));
        assert_eq!(decode::<Bucket>(&[2, 1, b'a', 0, 0]), Err(RecordError::Malformed { version: 2 }));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(bucket) = decode::<Bucket>(&bytes) {
                prop_assert_eq!(decode(&encode(&bucket)), Ok(bucket));
            }
        }
    }
}
