//! A payload through reading and writing, for the fuzzer, which sees nothing private. Compiled for tests and, behind the
//! feature `testing`, for the fuzzer.

use super::{Frame, RdbError, read, unwrap, wrap, write};
use crate::base::SystemRandom;
use crate::kv::table::Hashing;
use crate::kv::value::Limits;

/// What `RESTORE` makes of `payload`, as `DUMP` writes it.
///
/// # Errors
/// What [`unwrap`] and [`read`] say.
pub fn again(payload: &[u8]) -> Result<Vec<u8>, RdbError> {
    let hashing = Hashing::new(&SystemRandom);
    let limits = Limits { bytes: 64, elements: 4 };
    let frame = Frame { key: b"k", access: 0, limits, hashing: &hashing, most: 1 << 20 };
    Ok(wrap(write(&read(unwrap(payload)?, frame)?)))
}
