//! What the console signs: the token in each form, and the message for the next page.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::base::Timestamp;
use crate::crypto::{Key, mac};

/// The console's own key.
#[derive(Clone, Debug)]
pub struct Seals(Key);

impl Seals {
    /// Signs with `key`.
    pub const fn new(key: Key) -> Self {
        Self(key)
    }

    /// The form token of `subject`: a session's or a visitor's secret. Nobody without the subject's cookie and this
    /// server's key can make it.
    pub fn form_token(&self, subject: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.mac(b"form/v1", subject, b""))
    }

    /// Whether `token` is the form token of `subject`.
    pub fn form_token_holds(&self, subject: &str, token: &str) -> bool {
        mac::equal(self.form_token(subject).as_bytes(), token.as_bytes())
    }

    /// `text` in a form that a cookie carries and only `subject` gets back.
    pub fn seal_text(&self, subject: &str, text: &str) -> String {
        let tag = self.mac(b"flash/v1", subject, text.as_bytes());
        format!("{}.{}", URL_SAFE_NO_PAD.encode(text), URL_SAFE_NO_PAD.encode(tag))
    }

    /// The text sealed for `subject`.
    pub fn open_text(&self, subject: &str, sealed: &str) -> Option<String> {
        let (text, tag) = sealed.split_once('.')?;
        let (text, tag) = (URL_SAFE_NO_PAD.decode(text).ok()?, URL_SAFE_NO_PAD.decode(tag).ok()?);
        let genuine = mac::equal(&self.mac(b"flash/v1", subject, &text), &tag);
        String::from_utf8(text).ok().filter(|_| genuine)
    }

    /// The mark a browser keeps of `user`, whose password was set at `password_set`: with a new password every browser is
    /// new.
    pub fn known_mark(&self, user: u64, password_set: Timestamp) -> String {
        let subject = format!("{user}/{}", password_set.millis());
        URL_SAFE_NO_PAD.encode(self.mac(b"known/v1", &subject, b""))
    }

    fn mac(&self, purpose: &[u8], subject: &str, text: &[u8]) -> [u8; 32] {
        let length = (subject.len() as u64).to_be_bytes();
        mac::hmac_sha256(self.0.expose(), &[purpose, &length, subject.as_bytes(), text])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestRandom;

    fn seals() -> Seals {
        Seals::new(Key::random(&TestRandom::new(1)))
    }

    #[test]
    fn a_form_token_is_one_subjects_alone() {
        let seals = seals();
        let token = seals.form_token("session a");
        assert!(seals.form_token_holds("session a", &token));
        assert!(!seals.form_token_holds("session b", &token));
        assert!(!seals.form_token_holds("session a", ""));
        assert!(!Seals::new(Key::random(&TestRandom::new(2))).form_token_holds("session a", &token));
    }

    #[test]
    fn a_mark_is_of_one_user_and_one_password() {
        let (seals, set) = (seals(), Timestamp(1000));
        assert_eq!(seals.known_mark(1, set), seals.known_mark(1, set));
        assert_ne!(seals.known_mark(1, set), seals.known_mark(2, set));
        assert_ne!(seals.known_mark(1, set), seals.known_mark(1, Timestamp(1001)));
    }

    #[test]
    fn a_message_comes_back_unchanged_or_not_at_all() {
        let seals = seals();
        let sealed = seals.seal_text("a", "dücked <b>");
        assert_eq!(seals.open_text("a", &sealed).as_deref(), Some("dücked <b>"));
        assert_eq!(seals.open_text("b", &sealed), None);
        assert_eq!(seals.open_text("a", &format!("{}x", &sealed)), None);
        assert_eq!(seals.open_text("a", "x"), None);
    }
}
