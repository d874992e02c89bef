//! Passwords: which are taken, and how they are kept.
//!
//! Rules (OWASP ASVS 5.0, 6.2): at least 8 characters, at most 1024 bytes, any characters, nothing is cut off, and none
//! that is among the first an attacker tries (see [`is_common`]). There are no rules about which kinds of characters.
//!
//! Kept as argon2id (RFC 9106) with 19 MiB, 2 passes, 1 lane, in the PHC string format
//! `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`. A hash takes 19 MiB while it runs, so there are one or two places for
//! it, [`QUEUE`] more may wait, and who comes then is told that the server is busy. A place's memory is used again
//! while others wait and given back when nobody does.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tokio::sync::Semaphore;

use super::AccountsError;
use super::types::Email;
use crate::base::{Random, Secret, random};
use crate::crypto::mac;

/// Fewest characters of a new password.
pub const CHARACTERS_MIN: usize = 8;

/// Most bytes of a password.
pub const BYTES_MAX: usize = 1024;

/// Most logins that wait for a place.
pub const QUEUE: usize = 16;

const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT: usize = 16;
const HASH: usize = 32;

/// Words passwords are made from, in lower case, one a line.
const WORDS: &str = include_str!("common_words.txt");

/// Most characters of a password that may be a common one; longer ones are looked at no further.
const LONGEST_COMMON: usize = 40;

/// Most digits and signs around a word that make no password of it.
const DECORATION: usize = 6;

/// Why a new password is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordFault {
    /// It is too short.
    #[error("a password has at least {CHARACTERS_MIN} characters, this one has {length}")]
    TooShort {
        /// Its length in characters.
        length: usize,
    },
    /// It is too long.
    #[error("a password has at most {BYTES_MAX} bytes, this one has {bytes}")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// It is among the first an attacker tries.
    #[error("this password is one of the first an attacker tries; choose another, such as four unrelated words")]
    Common,
    /// It is made from the account's own address.
    #[error("this password is made from the e-mail address; choose another, such as four unrelated words")]
    Address,
}

/// Checks a new password for the account of `email`.
///
/// # Errors
/// [`PasswordFault`].
pub fn check(password: &Secret<String>, email: &Email) -> Result<(), PasswordFault> {
    let text = password.expose();
    let length = text.chars().count();
    if length < CHARACTERS_MIN {
        return Err(PasswordFault::TooShort { length });
    }
    if text.len() > BYTES_MAX {
        return Err(PasswordFault::TooLong { bytes: text.len() });
    }
    let lower = text.to_lowercase();
    if lower == email.as_str() || core(&lower) == core(email.local()) {
        return Err(PasswordFault::Address);
    }
    if is_common(&lower) { Err(PasswordFault::Common) } else { Ok(()) }
}

/// Whether `lower`, a password in lower case, is a word of the list with up to six digits and signs around it, twice
/// the same word, two words of the list, a run of keys, or few characters repeated. Look-alikes (`p@ssw0rd`) count as
/// what they look like. That covers far more than a list of the most used three thousand would.
fn is_common(lower: &str) -> bool {
    let distinct: BTreeSet<char> = lower.chars().collect();
    if distinct.len() <= 3 || lower.chars().count() > LONGEST_COMMON {
        return distinct.len() <= 3;
    }
    let core = core(lower);
    let known = |word: &str| WORDS.lines().any(|known| known == word);
    let joined = |word: &str| {
        word.char_indices().skip(1).any(|(at, _)| {
            let (left, right) = word.split_at(at);
            known(left) && known(right)
        })
    };
    is_run(lower) || core.is_empty() || known(&core) || joined(&core)
}

/// `text` without up to six digits and signs at either end, look-alikes written as letters. Empty when nothing but a
/// few digits and signs is there.
fn core(text: &str) -> String {
    let ends = |c: char| !c.is_alphabetic();
    let leading = text.chars().take_while(|c| ends(*c)).count();
    let trailing = text.chars().rev().take_while(|c| ends(*c)).count();
    let length = text.chars().count();
    if leading == length {
        // All digits: a date or a telephone number, up to twelve of them.
        return if length <= 2 * DECORATION { String::new() } else { text.to_owned() };
    }
    let kept = |count: usize| if count <= DECORATION { count } else { 0 };
    // `p@ssw0rd1`: what stands at the end is decoration, what stands inside looks like a letter.
    let inner = text.chars().skip(kept(leading)).take(length - kept(leading) - kept(trailing));
    inner
        .map(|c| match c {
            '0' => 'o',
            '1' | '!' => 'i',
            '3' => 'e',
            '4' | '@' => 'a',
            '5' | '$' => 's',
            '7' => 't',
            other => other,
        })
        .filter(|c| c.is_alphanumeric())
        .collect()
}

/// Whether `text` follows the rows of a keyboard, the alphabet or the digits from key to key, either way, all along
/// but for at most two breaks.
fn is_run(text: &str) -> bool {
    const ROWS: [&str; 11] = [
        "01234567890",
        "abcdefghijklmnopqrstuvwxyz",
        "qwertyuiop",
        "asdfghjkl",
        "zxcvbnm",
        "qwertzuiop",
        "yxcvbnm",
        "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
        "1q2w3e4r5t6y7u8i9o0p",
        "1q2w3e4r5t6z7u8i9o0p",
        "q1w2e3r4t5y6u7i8o9p0",
    ];
    let letters: Vec<char> = text.chars().collect();
    let follows = |pair: &[char]| {
        let [left, right] = pair else { return true };
        let beside = |row: &str| {
            let row: Vec<char> = row.chars().collect();
            row.windows(2).any(|keys| keys == [*left, *right] || keys == [*right, *left])
        };
        left == right || ROWS.iter().any(|row| beside(row))
    };
    letters.len() <= LONGEST_COMMON && letters.windows(2).filter(|pair| !follows(pair)).count() <= 2
}

/// Where hashes are made, a few at a time.
pub(super) struct Hasher {
    places: Arc<Semaphore>,
    /// Those in a place and those who wait.
    inside: Arc<Semaphore>,
    most_inside: usize,
    memory: Arc<Mutex<Vec<Vec<Block>>>>,
    random: Arc<dyn Random>,
}

impl Hasher {
    /// A hasher with `places`.
    pub fn new(places: usize, random: Arc<dyn Random>) -> Self {
        let most_inside = places + QUEUE;
        Self {
            places: Arc::new(Semaphore::new(places)),
            inside: Arc::new(Semaphore::new(most_inside)),
            most_inside,
            memory: Arc::default(),
            random,
        }
    }

    /// The PHC string of `password` with a fresh salt.
    ///
    /// # Errors
    /// [`AccountsError::Busy`].
    pub async fn hash(&self, password: &Secret<String>) -> Result<String, AccountsError> {
        let salt: [u8; SALT] = random::bytes(self.random.as_ref());
        let hash = self.run(password, Stored { salt, hash: [0; HASH] }).await?;
        let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
        Ok(format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${hash}"))
    }

    /// Whether `password` is the one of `phc`. Takes the same time without a `phc`, or with one that does not read; the
    /// answer is no then.
    ///
    /// # Errors
    /// [`AccountsError::Busy`].
    pub async fn verify(&self, password: &Secret<String>, phc: Option<&str>) -> Result<bool, AccountsError> {
        let stored = phc.and_then(Stored::parse);
        let known = stored.is_some();
        let stored = stored.unwrap_or(Stored { salt: random::bytes(self.random.as_ref()), hash: [0; HASH] });
        let expected = stored.hash;
        let hash = self.run(password, stored).await?;
        Ok(mac::equal(&hash, &expected) & known)
    }

    async fn run(&self, password: &Secret<String>, stored: Stored) -> Result<[u8; HASH], AccountsError> {
        let inside = Arc::clone(&self.inside).try_acquire_owned().map_err(|_full| AccountsError::Busy)?;
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_closed| AccountsError::Stopping)?;
        let (password, memory) = (password.clone(), Arc::clone(&self.memory));
        let (gate, most_inside) = (Arc::clone(&self.inside), self.most_inside);
        // The permits go along: work that nobody waits for any more still takes its place.
        let work = move || {
            let mut blocks = lock(&memory).pop().unwrap_or_default();
            let hash = argon2id(&password, &stored.salt, &mut blocks);
            drop(place);
            drop(inside);
            if gate.available_permits() < most_inside {
                lock(&memory).push(blocks);
            } else {
                drop(blocks);
                lock(&memory).clear();
            }
            hash
        };
        tokio::task::spawn_blocking(work).await.map_err(|_stopping| AccountsError::Stopping)?
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hasher").field("free", &self.inside.available_permits()).finish_non_exhaustive()
    }
}

fn lock(memory: &Mutex<Vec<Vec<Block>>>) -> std::sync::MutexGuard<'_, Vec<Vec<Block>>> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

fn argon2id(
    password: &Secret<String>,
    salt: &[u8; SALT],
    blocks: &mut Vec<Block>,
) -> Result<[u8; HASH], AccountsError> {
    let wrong = |_: argon2::Error| AccountsError::WrongCredentials;
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(HASH)).map_err(wrong)?;
    blocks.resize(params.block_count(), Block::default());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut hash = [0; HASH];
    let password = password.expose().as_bytes();
    argon2.hash_password_into_with_memory(password, salt, &mut hash, blocks.as_mut_slice()).map_err(wrong)?;
    Ok(hash)
}

/// What a PHC string of this room holds.
struct Stored {
    salt: [u8; SALT],
    hash: [u8; HASH],
}

impl Stored {
    /// Reads a string that [`Hasher::hash`] wrote. Other parameters will need another version of this.
    fn parse(phc: &str) -> Option<Self> {
        let expected = format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}$");
        let (salt, hash) = phc.strip_prefix(&expected)?.split_once('$')?;
        let bytes = |text: &str| STANDARD_NO_PAD.decode(text).ok();
        Some(Self { salt: bytes(salt)?.try_into().ok()?, hash: bytes(hash)?.try_into().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SystemRandom;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    fn verdict(text: &str) -> Result<(), PasswordFault> {
        check(&secret(text), &"marianne@example.com".parse().unwrap())
    }

    #[test]
    fn passwords_of_eight_characters_and_of_sixty_four_and_more_are_taken() {
        for good in ["kitewort", "correct horse battery staple", "täglich-ein-Ei", &"long enough ".repeat(50)] {
            assert_eq!(verdict(good), Ok(()), "{good}");
        }
        assert_eq!(verdict("kitewor"), Err(PasswordFault::TooShort { length: 7 }));
        assert_eq!(verdict(&"ab cd ef ".repeat(114)), Err(PasswordFault::TooLong { bytes: 1026 }));
    }

    #[test]
    fn the_first_passwords_an_attacker_tries_are_refused() {
        for common in [
            "password",
            "Password1",
            "P@ssw0rd",
            "p@ssw0rd2024!",
            "12345678",
            "123456789",
            "1234567890",
            "qwertyui",
            "qwerty123",
            "1q2w3e4r",
            "1qaz2wsx",
            "aaaaaaaa",
            "abababab",
            "abc12345",
            "iloveyou",
            "ILoveYou2",
            "letmein1",
            "football",
            "sunshine",
            "monkey123",
            "dragon1987",
            "superman!",
            "trustno1",
            "welcome1",
            "Admin123!",
            "changeme",
            "mainstay",
            "mainstay2026",
            "asdfghjk",
            "zxcvbnm1",
            "00000000",
            "11223344",
            "20261125",
            "passwordpassword",
            "loveyou1",
            "starwars",
            "princess1",
            "qwertyuiop",
            "asdf1234",
            "q1w2e3r4",
        ] {
            assert_eq!(verdict(common), Err(PasswordFault::Common), "{common}");
        }
    }

    #[test]
    fn a_password_made_from_the_address_is_refused() {
        for own in ["marianne", "Marianne1!", "marianne@example.com"] {
            assert_eq!(verdict(own), Err(PasswordFault::Address), "{own}");
        }
    }

    #[tokio::test]
    async fn a_hash_fits_its_password_alone() {
        let hasher = Hasher::new(1, Arc::new(SystemRandom));
        let phc = hasher.hash(&secret("kitewort")).await.unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert!(hasher.verify(&secret("kitewort"), Some(&phc)).await.unwrap());
        assert!(!hasher.verify(&secret("kitewort "), Some(&phc)).await.unwrap());
        assert!(!hasher.verify(&secret("kitewort"), None).await.unwrap());
        assert!(!hasher.verify(&secret("kitewort"), Some("$argon2id$v=19$m=8,t=1,p=1$AAAA$AAAA")).await.unwrap());
        assert!(lock(&hasher.memory).is_empty(), "the memory is given back when nobody waits");
    }

    #[tokio::test]
    async fn a_storm_of_logins_waits_in_a_short_queue_or_is_refused() {
        let hasher = Hasher::new(1, Arc::new(SystemRandom));
        let password = secret("kitewort");
        let storm = futures_util::future::join_all((0..40).map(|_| hasher.verify(&password, None))).await;
        let busy = storm.iter().filter(|answer| matches!(answer, Err(AccountsError::Busy))).count();
        assert_eq!((busy, storm.len() - busy), (40 - 1 - QUEUE, 1 + QUEUE));
        assert!(!hasher.verify(&password, None).await.unwrap());
        assert!(lock(&hasher.memory).is_empty());
    }

    #[test]
    fn the_list_is_lower_case_and_without_doubles() {
        let words: Vec<&str> = WORDS.lines().collect();
        let distinct: BTreeSet<&&str> = words.iter().collect();
        assert_eq!(words.len(), distinct.len());
        assert!(words.iter().all(|word| word.chars().all(|c| c.is_ascii_lowercase())));
    }
}
