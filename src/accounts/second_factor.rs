//! The second factor: codes from an app (TOTP, RFC 6238), and recovery codes.
//!
//! HMAC-SHA1, steps of 30 seconds, 6 digits, a secret of 160 bits: what every app takes. The step before and the step
//! after count too, for clocks that are a little off. A code works once: its step and all before it are void afterwards.
//! The ten recovery codes have 80 random bits each and work once.

use super::AccountsError;
use super::audit::{self, action};
use super::rows::{self, SECOND_FACTORS, SecondFactorRow};
use super::types::{By, Client, Session};
use super::users::Users;
use crate::base::{Secret, Timestamp, random};
use crate::crypto::mac;
use crate::store::WriteTx;

/// Seconds a code lives.
const STEP: u64 = 30;

/// Recovery codes made at once.
pub const RECOVERY_CODES: usize = 10;

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// What an app needs to know.
#[derive(Debug)]
pub struct NewSecondFactor {
    /// The secret in base32, for typing in.
    pub secret: Secret<String>,
    /// The same as an `otpauth://` address, for a QR code.
    pub url: Secret<String>,
}

/// What let somebody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Code,
    RecoveryCode,
}

impl Users {
    /// Begins to set up a second factor for the session's owner; nothing asks for codes until
    /// [`Users::finish_second_factor`]. The session must be [confirmed](Users::is_confirmed).
    ///
    /// # Errors
    /// [`AccountsError::SecondFactor`] when there is one already, or the session is not confirmed.
    ///
    /// # Cancel safety
    /// Dropped before its end, an earlier beginning may be void.
    pub async fn begin_second_factor(&self, session: &Session) -> Result<NewSecondFactor, AccountsError> {
        self.want_confirmed(session)?;
        let secret: [u8; 20] = random::bytes(self.random());
        let id = session.user.id;
        let write = move |tx: &mut dyn WriteTx| {
            let old: Option<SecondFactorRow> = rows::get(tx, SECOND_FACTORS, &id.to_be_bytes())?;
            if old.is_some_and(|old| old.confirmed) {
                return Err(AccountsError::SecondFactor("there already; remove it first"));
            }
            let row = SecondFactorRow { secret, confirmed: false, last_step: 0, codes: Vec::new() };
            rows::put(tx, SECOND_FACTORS, &id.to_be_bytes(), &row)
        };
        self.store().write(write).await?;
        let text = base32(&secret);
        let email =
            percent_encoding::utf8_percent_encode(session.user.email.as_str(), percent_encoding::NON_ALPHANUMERIC);
        let url = format!("otpauth://totp/Mainstay:{email}?secret={text}&issuer=Mainstay");
        Ok(NewSecondFactor { secret: Secret::new(text), url: Secret::new(url) })
    }

    /// Ends the setting up with a first code; from now on a login needs one. Returns the recovery codes, which are
    /// shown this once.
    ///
    /// # Errors
    /// [`AccountsError::WrongCredentials`] for a wrong code, [`AccountsError::SecondFactor`] when nothing was begun,
    /// [`AccountsError::Throttled`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the second factor may be there, with recovery codes nobody knows: remove it.
    pub async fn finish_second_factor(
        &self,
        session: &Session,
        code: &Secret<String>,
        client: &Client,
    ) -> Result<Vec<Secret<String>>, AccountsError> {
        self.want_confirmed(session)?;
        let attempt = self.throttle().begin(Some(&format!("code/{}", session.user.id)), client.address)?;
        let codes: Vec<Secret<String>> = (0..RECOVERY_CODES).map(|_| recovery_code(self)).collect();
        let hashes: Vec<[u8; 32]> = codes.iter().map(|code| hash(&normal(code))).collect();
        let (id, by, now, code) = (session.user.id, By::user(&session.user, client), self.now(), normal(code));
        let write = move |tx: &mut dyn WriteTx| {
            let row: Option<SecondFactorRow> = rows::get(tx, SECOND_FACTORS, &id.to_be_bytes())?;
            let Some(mut row) = row.filter(|row| !row.confirmed) else {
                return Err(AccountsError::SecondFactor("not being set up; begin again"));
            };
            row.last_step = step_of(&row, &code, now).ok_or(AccountsError::WrongCredentials)?;
            row.confirmed = true;
            row.codes.clone_from(&hashes);
            rows::put(tx, SECOND_FACTORS, &id.to_be_bytes(), &row)?;
            audit::write(tx, now, &by, action::FACTOR_ADDED, "")
        };
        self.store().write(write).await?;
        attempt.succeeded();
        Ok(codes)
    }

    /// Removes the second factor of the session's owner. The session must be [confirmed](Users::is_confirmed).
    ///
    /// # Errors
    /// [`AccountsError::SecondFactor`] when there is none, or the session is not confirmed.
    ///
    /// # Cancel safety
    /// Dropped before its end, it may be removed or not.
    pub async fn remove_second_factor(&self, session: &Session, client: &Client) -> Result<(), AccountsError> {
        self.want_confirmed(session)?;
        self.drop_second_factor(session.user.id, &By::user(&session.user, client)).await
    }

    /// Removes the second factor of user `id`, for who lost it and the recovery codes; the command line may.
    ///
    /// # Errors
    /// [`AccountsError::SecondFactor`] when there is none.
    ///
    /// # Cancel safety
    /// Dropped before its end, it may be removed or not.
    pub async fn drop_second_factor(&self, id: u64, by: &By) -> Result<(), AccountsError> {
        let (by, now) = (by.clone(), self.now());
        let write = move |tx: &mut dyn WriteTx| {
            if !tx.delete(SECOND_FACTORS, &id.to_be_bytes())? {
                return Err(AccountsError::SecondFactor("not there"));
            }
            let email = rows::account(tx, id)?.map(|account| account.row.email).unwrap_or_default();
            audit::write(tx, now, &by, action::FACTOR_REMOVED, &email)
        };
        self.store().write(write).await
    }

    fn want_confirmed(&self, session: &Session) -> Result<(), AccountsError> {
        let confirmed = self.is_confirmed(session);
        if confirmed {
            Ok(())
        } else {
            Err(AccountsError::SecondFactor("changed only right after the password was given"))
        }
    }
}

/// A code as people type it, without spaces and dashes, in upper case.
pub(super) fn normal(code: &Secret<String>) -> Secret<String> {
    let kept = code.expose().chars().filter(char::is_ascii_alphanumeric).take(32);
    Secret::new(kept.map(|c| c.to_ascii_uppercase()).collect())
}

/// Uses up `code`, a [normal](normal) one of user `id`.
///
/// # Errors
/// [`AccountsError::WrongCredentials`].
pub(super) fn take(
    tx: &mut dyn WriteTx,
    id: u64,
    code: &Secret<String>,
    now: Timestamp,
) -> Result<Taken, AccountsError> {
    let key = id.to_be_bytes();
    let row: Option<SecondFactorRow> = rows::get(tx, SECOND_FACTORS, &key)?;
    let mut row = row.filter(|row| row.confirmed).ok_or(AccountsError::WrongCredentials)?;
    let taken = if let Some(step) = step_of(&row, code, now) {
        row.last_step = step;
        Taken::Code
    } else {
        let hash = hash(code);
        let found = row.codes.iter().position(|stored| mac::equal(stored, &hash));
        row.codes.remove(found.ok_or(AccountsError::WrongCredentials)?);
        Taken::RecoveryCode
    };
    rows::put(tx, SECOND_FACTORS, &key, &row)?;
    Ok(taken)
}

/// The step whose code is `code`, if it is one of the three around `now` and later than the last one taken.
fn step_of(row: &SecondFactorRow, code: &Secret<String>, now: Timestamp) -> Option<u64> {
    let step = now.seconds() / STEP;
    let near = [step.saturating_sub(1), step, step.saturating_add(1)];
    let fits = |step: &u64| mac::equal(totp(&row.secret, *step).as_bytes(), code.expose().as_bytes());
    near.into_iter().filter(|step| *step > row.last_step).find(fits)
}

/// The code of a step: RFC 4226, 5.3, over the step's number (RFC 6238, 4.2).
fn totp(secret: &[u8], step: u64) -> String {
    let tag = mac::hmac_sha1(secret, &step.to_be_bytes());
    let offset = usize::from(tag.last().copied().unwrap_or_default() & 0xf);
    let word = tag.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes));
    format!("{:06}", (word & 0x7fff_ffff) % 1_000_000)
}

/// Sixteen letters and digits in groups of four, 80 random bits.
fn recovery_code(users: &Users) -> Secret<String> {
    let bytes: [u8; 10] = random::bytes(users.random());
    let text = base32(&bytes);
    let groups: Vec<&str> = [0, 4, 8, 12].into_iter().filter_map(|at| text.get(at..at + 4)).collect();
    Secret::new(groups.join("-"))
}

fn hash(code: &Secret<String>) -> [u8; 32] {
    mac::sha256(code.expose().as_bytes())
}

/// RFC 4648, section 6, for whole groups of five bytes.
fn base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 8 / 5);
    for group in bytes.chunks(5) {
        let word = group.iter().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
        for place in (0..8).rev() {
            let letter = BASE32.get((word >> (5 * place) & 31) as usize).copied().unwrap_or_default();
            out.push(char::from(letter));
        }
    }
    out
}

/// What an app with `secret` (base32) shows now.
#[cfg(test)]
pub(super) fn code_of(secret: &Secret<String>, clock: &dyn crate::base::Clock) -> String {
    let place = |letter: u8| BASE32.iter().position(|known| *known == letter).unwrap() as u64;
    let groups = secret.expose().as_bytes().chunks(8);
    let words = groups.map(|group| group.iter().fold(0, |word, letter| word << 5 | place(*letter)));
    let bytes: Vec<u8> = words.flat_map(|word: u64| word.to_be_bytes()[3..].to_vec()).collect();
    totp(&bytes, clock.now().seconds() / STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RFC_SECRET: &[u8; 20] = b"12345678901234567890";

    /// RFC 6238, appendix B (SHA1), the last six of its eight digits.
    #[test]
    fn codes_are_those_of_the_standard() {
        for (seconds, code) in
            [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (20_000_000_000_u64, "353130")]
        {
            assert_eq!(totp(RFC_SECRET, seconds / STEP), code);
        }
        assert_eq!(base32(RFC_SECRET), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
    }

    #[test]
    fn a_code_counts_one_step_either_way_and_never_again() {
        let now = Timestamp::from_seconds(3000);
        let mut row = SecondFactorRow { secret: *RFC_SECRET, confirmed: true, last_step: 0, codes: Vec::new() };
        let code = |step: u64| Secret::new(totp(RFC_SECRET, step));
        for (step, taken) in [(98, None), (99, Some(99)), (100, Some(100)), (101, Some(101)), (102, None)] {
            assert_eq!(step_of(&row, &code(step), now), taken);
        }
        row.last_step = 100;
        assert_eq!(step_of(&row, &code(100), now), None);
        assert_eq!(step_of(&row, &code(99), now), None);
        assert_eq!(step_of(&row, &code(101), now), Some(101));
    }

    #[test]
    fn codes_are_read_as_people_type_them() {
        assert_eq!(normal(&Secret::new(" 287 082\n".to_owned())).expose(), "287082");
        assert_eq!(normal(&Secret::new("abcd-efgh-2345-6723".to_owned())).expose(), "ABCDEFGH23456723");
    }
}
