//! What comes from browsers, for the fuzzer. Compiled for tests and, behind the feature `testing`, for the fuzzer.

use super::beacon::{Beacon, LONGEST};
use super::page::{LONGEST_PAGE, campaign, host, page};

/// Reads `bytes` as a beacon, and their text as a path, an address and a query.
///
/// # Panics
/// What comes of it is longer than it may be, or holds a control character.
pub fn beacon(bytes: &[u8]) {
    if let Ok(beacon) = Beacon::parse(bytes) {
        assert!(bytes.len() <= LONGEST && beacon.page.starts_with('/'));
        assert!(beacon.view || beacon.measured.iter().any(Option::is_some), "it tells something");
        assert!(beacon.measured.iter().flatten().all(|value| *value <= 600_000));
        let _ = page(&beacon.page);
    }
    let text = String::from_utf8_lossy(bytes);
    if let Some(page) = page(&text) {
        assert!(page.starts_with('/') && page.len() <= LONGEST_PAGE && !page.chars().any(char::is_control));
    }
    let found = campaign(&text);
    for name in host(&text).into_iter().chain(found.source).chain(found.campaign) {
        assert!(!name.is_empty() && name.len() <= 100 && !name.chars().any(char::is_control));
    }
}
