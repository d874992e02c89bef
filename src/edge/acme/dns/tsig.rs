//! Signatures over DNS messages with a key both sides know (RFC 8945).

use aws_lc_rs::hmac;

use super::wire::{self, ANY, Answer, TSIG};
use crate::base::{Secret, Timestamp};

/// Seconds that clocks may differ (RFC 8945 section 10 recommends them).
const FUDGE: u16 = 300;
/// What a server says of a signature (RFC 8945 section 3).
const BADTIME: u16 = 18;

/// How messages are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Sha256,
    /// HMAC with SHA-512.
    Sha512,
}

impl Algorithm {
    /// The one called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "hmac-sha256" => Some(Self::Sha256),
            "hmac-sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "hmac-sha256",
            Self::Sha512 => "hmac-sha512",
        }
    }

    const fn digest(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }
}

/// A key that a server knows by name.
#[derive(Debug)]
pub struct Key {
    name: String,
    wire: Vec<u8>,
    algorithm: Algorithm,
    secret: Secret<Vec<u8>>,
}

/// A message as it goes out, and what its answer is signed with as well.
#[derive(Debug)]
pub struct Signed {
    /// The message.
    pub message: Vec<u8>,
    mac: Vec<u8>,
}

/// Why an answer is not believed, or what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrue {
    /// It has no signature, or another key's, and says no more than its code.
    #[error("its answer is not signed with the key")]
    Unsigned,
    /// The signature is not the key's.
    #[error("the signature of its answer is wrong")]
    Wrong,
    /// The server's clock, or this one, is wrong.
    #[error("its clock and this machine's differ by more than five minutes")]
    Time,
    /// The server refuses the key.
    #[error("it refuses the key {key}: {}", refusal(*.error))]
    Refused {
        /// Its name.
        key: String,
        /// The code.
        error: u16,
    },
}

const fn refusal(error: u16) -> &'static str {
    match error {
        16 => "the secret or the algorithm differs (BADSIG)",
        17 => "it knows no such key (BADKEY)",
        22 => "the signature is too short (BADTRUNC)",
        _ => "it does not say why",
    }
}

impl Key {
    /// The key called `name`; `None` when that is no name.
    pub fn new(name: &str, algorithm: Algorithm, secret: Secret<Vec<u8>>) -> Option<Self> {
        let wire = wire::name(name)?;
        Some(Self { name: name.trim_end_matches('.').to_ascii_lowercase(), wire, algorithm, secret })
    }

    /// `message` signed at `now` (RFC 8945 section 5.1).
    pub fn sign(&self, message: Vec<u8>, now: Timestamp) -> Signed {
        let time = now.millis() / 1_000;
        let variables = Variables { time, fudge: FUDGE, error: 0, other: &[] };
        let mac = self.mac(None, &message, &variables);
        let id = message.get(..2).map_or([0; 2], |id| [id[0], id[1]]);
        let mut data = wire::name(self.algorithm.name()).unwrap_or_default();
        data.extend_from_slice(&time.to_be_bytes()[2..]);
        wire::words(&mut data, &[FUDGE, u16::try_from(mac.len()).unwrap_or(0)]);
        data.extend_from_slice(&mac);
        wire::words(&mut data, &[u16::from_be_bytes(id), 0, 0]);
        let mut record = self.wire.clone();
        wire::words(&mut record, &[TSIG, ANY, 0, 0, u16::try_from(data.len()).unwrap_or(0)]);
        record.extend_from_slice(&data);
        Signed { message: wire::with_record(message, &record), mac }
    }

    /// Checks that `bytes`, read as `answer`, is this key's answer to `signed` (RFC 8945 section 5.3).
    ///
    /// # Errors
    /// [`Untrue`].
    pub fn check(&self, signed: &Signed, bytes: &[u8], answer: &Answer, now: Timestamp) -> Result<(), Untrue> {
        let Some((at, signature)) = &answer.signature else { return Err(Untrue::Unsigned) };
        if signature.key != self.name || signature.algorithm != self.algorithm.name() {
            return Err(Untrue::Unsigned);
        }
        if ![0, BADTIME].contains(&signature.error) {
            // RFC 8945 section 5.3.2: such an answer cannot be signed.
            return Err(Untrue::Refused { key: self.name.clone(), error: signature.error });
        }
        let mut message = bytes.get(..*at).ok_or(Untrue::Wrong)?.to_vec();
        if message.len() < 12 {
            return Err(Untrue::Wrong);
        }
        // As it was before the signature: with the id it had, and one record less.
        message[..2].copy_from_slice(&signature.original_id.to_be_bytes());
        let count = u16::from_be_bytes([message[10], message[11]]).saturating_sub(1);
        message[10..12].copy_from_slice(&count.to_be_bytes());
        let variables =
            Variables { time: signature.time, fudge: signature.fudge, error: signature.error, other: &signature.other };
        let digested = self.digested(Some(&signed.mac), &message, &variables);
        let key = hmac::Key::new(self.algorithm.digest(), self.secret.expose());
        hmac::verify(&key, &digested, &signature.mac).map_err(|_differs| Untrue::Wrong)?;
        let apart = signature.time.abs_diff(now.millis() / 1_000);
        if signature.error == BADTIME || apart > FUDGE.into() { Err(Untrue::Time) } else { Ok(()) }
    }

    fn mac(&self, request: Option<&[u8]>, message: &[u8], variables: &Variables<'_>) -> Vec<u8> {
        let key = hmac::Key::new(self.algorithm.digest(), self.secret.expose());
        hmac::sign(&key, &self.digested(request, message, variables)).as_ref().to_vec()
    }

    /// What is signed (RFC 8945 section 4.3).
    fn digested(&self, request: Option<&[u8]>, message: &[u8], variables: &Variables<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(mac) = request {
            wire::words(&mut out, &[u16::try_from(mac.len()).unwrap_or(0)]);
            out.extend_from_slice(mac);
        }
        out.extend_from_slice(message);
        out.extend_from_slice(&self.wire);
        wire::words(&mut out, &[ANY, 0, 0]);
        out.extend_from_slice(&wire::name(self.algorithm.name()).unwrap_or_default());
        out.extend_from_slice(&variables.time.to_be_bytes()[2..]);
        let other = u16::try_from(variables.other.len()).unwrap_or(0);
        wire::words(&mut out, &[variables.fudge, variables.error, other]);
        out.extend_from_slice(variables.other);
        out
    }
}

struct Variables<'a> {
    time: u64,
    fudge: u16,
    error: u16,
    other: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    fn key(secret: &[u8]) -> Key {
        Key::new("Key.example.", Algorithm::Sha256, Secret::new(secret.to_vec())).unwrap()
    }

    /// The server's side: an answer to `signed`, signed with `key`.
    fn answered(key: &Key, signed: &Signed, now: Timestamp, error: u16) -> Vec<u8> {
        let message = vec![0, 7, 0xa8, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let time = now.millis() / 1_000;
        let mac = key.mac(Some(&signed.mac), &message, &Variables { time, fudge: FUDGE, error, other: &[] });
        let mut data = wire::name("hmac-sha256").unwrap();
        data.extend_from_slice(&time.to_be_bytes()[2..]);
        wire::words(&mut data, &[FUDGE, 32]);
        data.extend_from_slice(&mac);
        wire::words(&mut data, &[7, error, 0]);
        let mut record = wire::name("key.example").unwrap();
        wire::words(&mut record, &[TSIG, ANY, 0, 0, u16::try_from(data.len()).unwrap()]);
        record.extend_from_slice(&data);
        wire::with_record(message, &record)
    }

    fn checked(key: &Key, signed: &Signed, bytes: &[u8], now: Timestamp) -> Result<(), Untrue> {
        key.check(signed, bytes, &Answer::read(bytes).unwrap(), now)
    }

    #[test]
    fn only_the_key_that_signed_the_question_signs_its_answer() {
        let (ours, other) = (key(b"secret"), key(b"another"));
        let signed = ours.sign(vec![0, 7, 0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0], NOW);
        let answer = answered(&ours, &signed, NOW, 0);
        assert_eq!(checked(&ours, &signed, &answer, NOW), Ok(()));
        assert_eq!(checked(&ours, &signed, &answered(&other, &signed, NOW, 0), NOW), Err(Untrue::Wrong));
        let second = ours.sign(vec![0, 8, 0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0], NOW);
        assert_eq!(checked(&ours, &second, &answer, NOW), Err(Untrue::Wrong));
        for place in [2, 3] {
            let mut changed = answer.clone();
            changed[place] ^= 1;
            assert_eq!(checked(&ours, &signed, &changed, NOW), Err(Untrue::Wrong));
        }
        let bare = [0, 7, 0xa8, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(checked(&ours, &signed, &bare, NOW), Err(Untrue::Unsigned));
    }

    #[test]
    fn an_old_answer_and_a_refused_key_are_told_apart() {
        let ours = key(b"secret");
        let signed = ours.sign(vec![0, 7, 0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0], NOW);
        let answer = answered(&ours, &signed, NOW, 0);
        assert_eq!(checked(&ours, &signed, &answer, NOW.after(std::time::Duration::from_secs(301))), Err(Untrue::Time));
        assert_eq!(checked(&ours, &signed, &answered(&ours, &signed, NOW, BADTIME), NOW), Err(Untrue::Time));
        let refused = checked(&ours, &signed, &answered(&key(b"?"), &signed, NOW, 17), NOW).unwrap_err();
        assert!(refused.to_string().contains("BADKEY"), "{refused}");
        assert!(!format!("{ours:?}").contains("secret\""));
    }
}
