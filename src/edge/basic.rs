//! Basic authentication (RFC 7617) of a site.
//!
//! Passwords are kept as argon2id or bcrypt hashes, as `htpasswd -B` and `argon2` write them. A hash is costly on purpose, so
//! it is computed on threads that may block, a few at a time with a bounded queue, and what was found good is remembered for
//! a while under a keyed hash (never the password). An unknown name takes as long as a wrong password.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use tokio::sync::Semaphore;

use super::error::ConfigError;
use super::pages::{self, Form};
use super::site_config::SiteConfig;
use crate::base::Secret;
use crate::crypto::mac;
use crate::http::Body;

/// Most people of one site.
const MOST_PEOPLE: usize = 1000;
/// Hashes computed at once by one site.
const AT_ONCE: usize = 2;
/// Attempts that wait for their turn.
const QUEUE: usize = 32;
/// How long good credentials are remembered.
const REMEMBERED: Duration = Duration::from_mins(5);
/// How many of them.
const MOST_REMEMBERED: usize = 1024;
/// Longest name and password together, in bytes.
const LONGEST: usize = 1024;
/// The most an argon2id hash may ask for: memory in KiB, passes, lanes.
const MOST_ARGON2: (u32, u32, u32) = (64 << 10, 10, 4);
/// bcrypt's costs that are taken.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 8..=14;
/// Passwords longer than this are cut by bcrypt, and so refused.
const BCRYPT_LONGEST: usize = 72;
/// Who it is, as the app sees it.
pub const REMOTE_USER: HeaderName = HeaderName::from_static("remote-user");

/// Who may enter a site.
pub struct BasicAuth {
    people: HashMap<String, Stored>,
    challenge: HeaderValue,
    /// For the keyed hash of what is remembered; of this process only.
    key: [u8; 32],
    remembered: Mutex<HashMap<[u8; 32], Duration>>,
    turns: Arc<Semaphore>,
    inside: Arc<Semaphore>,
}

/// A hash, ready to be compared with.
#[derive(Clone)]
enum Stored {
    Argon2 { params: Params, salt: Vec<u8>, hash: Vec<u8> },
    Bcrypt { text: String },
}

/// Why nobody enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// No credentials, or wrong ones: 401.
    Unknown,
    /// Too many attempts at once: 503.
    Busy,
}

impl std::fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BasicAuth").field("people", &self.people.len()).finish_non_exhaustive()
    }
}

impl BasicAuth {
    /// The people of `site`; `None` when it asks for no password. Reads the file of people: blocks.
    ///
    /// # Errors
    /// A line that is none, a hash of another kind, or one that costs too much or too little.
    pub fn of(site: &SiteConfig) -> Result<Option<Arc<Self>>, ConfigError> {
        let wrong = |key: &'static str, value: &str, allowed: &str| ConfigError::Value {
            key,
            value: value.to_owned(),
            allowed: allowed.to_owned(),
        };
        let mut lines: Vec<(&'static str, String)> =
            site.basic_auth.iter().map(|line| ("edge.sites.basic_auth", line.clone())).collect();
        if !site.basic_auth_file.is_empty() {
            let key = "edge.sites.basic_auth_file";
            let text = std::fs::read_to_string(&site.basic_auth_file)
                .map_err(|error| wrong(key, &site.basic_auth_file, &format!("a readable file ({error})")))?;
            let kept = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            lines.extend(kept.map(|line| (key, line.to_owned())));
            if lines.is_empty() {
                return Err(wrong(key, &site.basic_auth_file, "a file with a line for each person"));
            }
        }
        if lines.is_empty() {
            return Ok(None);
        }
        let mut people = HashMap::new();
        for (key, line) in lines {
            // The line itself holds a hash, which is nobody's business: only the name is shown.
            let (name, hash) = line.split_once(':').unwrap_or((line.as_str(), ""));
            let stored = Stored::parse(hash).map_err(|allowed| wrong(key, name, allowed))?;
            if name.is_empty() || HeaderValue::from_str(name).is_err() || people.len() >= MOST_PEOPLE {
                return Err(wrong(key, name, "`name:hash` in plain text, 1000 people at most"));
            }
            people.insert(name.to_owned(), stored);
        }
        let realm = site.basic_auth_realm.as_str();
        let quotable =
            !realm.is_empty() && realm.bytes().all(|byte| (b' '..=b'~').contains(&byte) && !b"\"\\".contains(&byte));
        let challenge = HeaderValue::from_str(&format!("Basic realm=\"{realm}\", charset=\"UTF-8\"")).ok();
        let challenge = challenge
            .filter(|_| quotable)
            .ok_or_else(|| wrong("edge.sites.basic_auth_realm", realm, "plain text without quotes"))?;
        Ok(Some(Arc::new(Self {
            people,
            challenge,
            key: fresh_key(),
            remembered: Mutex::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            inside: Arc::new(Semaphore::new(AT_ONCE + QUEUE)),
        })))
    }

    /// Whose credentials `headers` hold; `now` is monotonic.
    ///
    /// # Errors
    /// [`Shut`].
    pub async fn admit(&self, headers: &HeaderMap, now: Duration) -> Result<HeaderValue, Shut> {
        let (name, password) = credentials(headers).ok_or(Shut::Unknown)?;
        let who = HeaderValue::from_str(&name).map_err(|_bad| Shut::Unknown)?;
        let stored = self.people.get(&name);
        let memory = mac::hmac_sha256(&self.key, &[name.as_bytes(), b"\0", password.expose().as_bytes()]);
        if stored.is_some() && self.remembers(&memory, now) {
            return Ok(who);
        }
        let inside = Arc::clone(&self.inside).try_acquire_owned().map_err(|_full| Shut::Busy)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_closed| Shut::Busy)?;
        let known = stored.is_some();
        // Somebody else's hash takes as long as one's own.
        let Some(stored) = stored.or_else(|| self.people.values().next()).cloned() else { return Err(Shut::Unknown) };
        let work = move || {
            let good = stored.fits(&password);
            drop((turn, inside));
            good
        };
        let good = tokio::task::spawn_blocking(work).await.unwrap_or(false);
        if !(good && known) {
            return Err(Shut::Unknown);
        }
        self.remember(memory, now);
        Ok(who)
    }

    fn remembers(&self, memory: &[u8; 32], now: Duration) -> bool {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(memory).is_some_and(|until| now < *until)
    }

    fn remember(&self, memory: [u8; 32], now: Duration) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MOST_REMEMBERED {
            remembered.retain(|_, until| now < *until);
        }
        if remembered.len() >= MOST_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(memory, now.saturating_add(REMEMBERED));
    }

    /// The answer to who does not enter.
    pub fn refuse(&self, shut: Shut, form: Form) -> Response<Body> {
        match shut {
            Shut::Unknown => {
                let text = "This site asks for a name and a password.";
                let mut response = pages::page(StatusCode::UNAUTHORIZED, text, form);
                response.headers_mut().insert(WWW_AUTHENTICATE, self.challenge.clone());
                response
            }
            Shut::Busy => {
                pages::page(StatusCode::SERVICE_UNAVAILABLE, "Too many log-ins at once. Please try again.", form)
            }
        }
    }
}

/// A key nobody outside can guess, made of what the standard library seeds its hash tables with.
fn fresh_key() -> [u8; 32] {
    use std::hash::BuildHasher as _;
    let mut key = [0; 32];
    for (at, part) in key.chunks_exact_mut(8).enumerate() {
        part.copy_from_slice(&std::collections::hash_map::RandomState::new().hash_one(at).to_le_bytes());
    }
    key
}

/// Name and password of the `Authorization` field.
fn credentials(headers: &HeaderMap) -> Option<(String, Secret<String>)> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let line = lines.next()?.to_str().ok()?;
    if lines.next().is_some() || line.len() > 2 * LONGEST {
        return None;
    }
    let (scheme, encoded) = line.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':').filter(|_| text.len() <= LONGEST)?;
    Some((name.to_owned(), Secret::new(password.to_owned())))
}

impl Stored {
    /// Reads a PHC string of argon2id, or a bcrypt hash.
    fn parse(text: &str) -> Result<Self, &'static str> {
        const SHAPES: &str = "`name:hash` with a hash of argon2id ($argon2id$v=19$m=…) or bcrypt ($2b$…)";
        if let Some(cost) = ["$2a$", "$2b$", "$2y$"].iter().find_map(|start| text.strip_prefix(start)) {
            let cost = cost.split('$').next().and_then(|cost| cost.parse::<u32>().ok());
            if text.len() != 60 || !cost.is_some_and(|cost| BCRYPT_COSTS.contains(&cost)) {
                return Err("a whole bcrypt hash with a cost from 8 to 14");
            }
            return Ok(Self::Bcrypt { text: text.to_owned() });
        }
        let rest = text.strip_prefix("$argon2id$v=19$").ok_or(SHAPES)?;
        let mut parts = rest.split('$');
        let (Some(costs), Some(salt), Some(hash), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(SHAPES);
        };
        let (mut memory, mut passes, mut lanes) = (0, 0, 0);
        for pair in costs.split(',') {
            match pair.split_once('=').map(|(name, value)| (name, value.parse::<u32>().unwrap_or(0))) {
                Some(("m", value)) => memory = value,
                Some(("t", value)) => passes = value,
                Some(("p", value)) => lanes = value,
                _ => return Err(SHAPES),
            }
        }
        let (most_memory, most_passes, most_lanes) = MOST_ARGON2;
        if memory > most_memory || passes > most_passes || lanes > most_lanes {
            return Err("an argon2id hash of at most 64 MiB (m=65536), 10 passes and 4 lanes");
        }
        let bytes = |text: &str| STANDARD_NO_PAD.decode(text).ok();
        let (Some(salt), Some(hash)) = (bytes(salt), bytes(hash)) else { return Err(SHAPES) };
        if salt.len() < 8 || salt.len() > 64 || hash.len() < 16 || hash.len() > 64 {
            return Err(SHAPES);
        }
        let params = Params::new(memory, passes, lanes, Some(hash.len())).map_err(|_bad| SHAPES)?;
        Ok(Self::Argon2 { params, salt, hash })
    }

    /// Whether `password` is the one. Costs what the hash asks for: blocks.
    fn fits(&self, password: &Secret<String>) -> bool {
        let password = password.expose().as_bytes();
        match self {
            Self::Argon2 { params, salt, hash } => {
                let mut blocks = vec![Block::default(); params.block_count()];
                let mut found = vec![0; hash.len()];
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
                let done = argon2.hash_password_into_with_memory(password, salt, &mut found, blocks.as_mut_slice());
                done.is_ok() && mac::equal(&found, hash)
            }
            Self::Bcrypt { text } => {
                let fits = bcrypt::verify(password, text).unwrap_or(false);
                fits && password.len() <= BCRYPT_LONGEST
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `htpasswd -nbB -C 8`, password `open sesame`.
    fn bcrypt_line() -> String {
        format!("ada:{}", bcrypt::hash("open sesame", 8).unwrap())
    }

    fn argon2_line() -> String {
        let (salt, mut hash) = ([7; 16], [0; 32]);
        let params = Params::new(64, 1, 1, Some(32)).unwrap();
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(b"open sesame", &salt, &mut hash)
            .unwrap();
        format!("grace:$argon2id$v=19$m=64,t=1,p=1${}${}", STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash))
    }

    fn site(lines: &[String]) -> SiteConfig {
        SiteConfig { basic_auth: lines.to_vec(), ..SiteConfig::default() }
    }

    fn with(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(text))).unwrap());
        headers
    }

    #[tokio::test]
    async fn people_enter_with_their_password_only() {
        let auth = BasicAuth::of(&site(&[bcrypt_line(), argon2_line()])).unwrap().unwrap();
        let now = Duration::ZERO;
        for (text, enters) in [
            ("ada:open sesame", true),
            ("grace:open sesame", true),
            ("ada:open sesame", true),
            ("ada:open", false),
            ("nobody:open sesame", false),
            ("ada", false),
            ("", false),
        ] {
            assert_eq!(auth.admit(&with(text), now).await.is_ok(), enters, "{text}");
        }
        assert_eq!(auth.admit(&HeaderMap::new(), now).await, Err(Shut::Unknown));
        assert_eq!(auth.remembered.lock().unwrap().len(), 2);
        let mut twice = with("ada:open sesame");
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        assert_eq!(auth.admit(&twice, now).await, Err(Shut::Unknown));
    }

    #[test]
    fn hashes_that_cost_too_much_or_nothing_are_refused_without_being_shown() {
        for hash in [
            "plain",
            "$apr1$x$y",
            "$2b$04$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234",
            "$2b$31$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234",
            "$argon2id$v=19$m=9999999,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$argon2i$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
        ] {
            let error = BasicAuth::of(&site(&[format!("ada:{hash}")])).unwrap_err().to_string();
            assert!(error.contains("edge.sites.basic_auth") && error.contains("`ada`"), "{error}");
            assert!(!error.contains(hash), "{error}");
        }
        assert!(BasicAuth::of(&site(&[])).unwrap().is_none());
    }
}
