//! Who submits: user name and password of SMTP AUTH (RFC 4954; PLAIN is RFC 4616).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::base::Secret;
use crate::crypto::mac;

/// The SMTP password that belongs to a secret access key in `region`, so that one key pair serves the SES API and SMTP
/// ("Obtaining Amazon SES SMTP credentials", SES developer guide: a chain of HMACs ending in a version byte 4).
pub fn smtp_password(secret: &Secret<String>, region: &str) -> Secret<String> {
    let first = format!("AWS4{}", secret.expose());
    let mut key = mac::hmac_sha256(first.as_bytes(), &[b"11111111"]);
    for part in [region, "ses", "aws4_request", "SendRawEmail"] {
        key = mac::hmac_sha256(&key, &[part.as_bytes()]);
    }
    Secret::new(STANDARD.encode([&[4][..], &key].concat()))
}

/// A user name and a password, as a client gave them.
#[derive(Debug)]
pub(super) struct Login {
    pub user: String,
    pub password: Secret<String>,
}

/// The login in the base64 text of AUTH PLAIN: `authorisation NUL user NUL password`. `None` when it is none, or asks to
/// act as somebody else.
pub(super) fn plain(text: &str) -> Option<Login> {
    let decoded = Secret::new(String::from_utf8(STANDARD.decode(text.trim()).ok()?).ok()?);
    let mut parts = decoded.expose().split('\0');
    let (acting, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = parts.next().is_none() && (acting.is_empty() || acting == user);
    whole.then(|| Login { user: user.to_owned(), password: Secret::new(password.to_owned()) })
}

/// The text in an answer of AUTH LOGIN.
pub(super) fn login_part(text: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(text.trim()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_derived_as_ses_does() {
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned());
        let derived = smtp_password(&secret, "us-east-1");
        assert_eq!(derived.expose(), "BLBM/9hSUELfq8Gw+rU1YcBjkOxGbhT2XG763xVLGWL9");
        assert_ne!(derived, smtp_password(&secret, "eu-west-1"));
    }

    #[test]
    fn plain_logins_are_read_and_others_refused() {
        let login = plain(&STANDARD.encode("\0ada\0pass word")).unwrap();
        assert_eq!((login.user.as_str(), login.password.expose().as_str()), ("ada", "pass word"));
        assert!(plain(&STANDARD.encode("ada\0ada\0p")).is_some());
        for bad in ["eve\0ada\0p", "ada\0p", "\0a\0b\0c", ""] {
            assert!(plain(&STANDARD.encode(bad)).is_none(), "{bad:?}");
        }
        assert!(plain("*").is_none());
    }
}
