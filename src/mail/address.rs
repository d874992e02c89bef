//! Addresses and mailboxes out of foreign text.

use lettre::Address;
use lettre::message::Mailbox;

use super::MailError;
use super::error::shown;

/// Most bytes of an address (RFC 5321, 4.5.3.1.3, less the angle brackets).
const ADDRESS_MAX: usize = 254;

/// The address in `text` (`ada@example.com`).
///
/// # Errors
/// [`MailError::Address`].
pub fn address(text: &str) -> Result<Address, MailError> {
    check(text)?;
    text.trim().parse().map_err(|error: lettre::address::AddressError| refused(text, &error.to_string()))
}

/// The mailbox in `text` (`Ada Lovelace <ada@example.com>` or a bare address), as SES takes senders and recipients.
///
/// # Errors
/// [`MailError::Address`].
pub fn mailbox(text: &str) -> Result<Mailbox, MailError> {
    check(text)?;
    let mailbox: Mailbox =
        text.trim().parse().map_err(|error: lettre::address::AddressError| refused(text, &error.to_string()))?;
    check(mailbox.email.as_ref())?;
    Ok(mailbox)
}

/// Every address in the header value `text` (`a@example.com, Ada <ada@example.com>`).
///
/// # Errors
/// [`MailError::Address`].
pub fn addresses(text: &str) -> Result<Vec<Address>, MailError> {
    let list: lettre::message::Mailboxes =
        text.trim().parse().map_err(|error: lettre::address::AddressError| refused(text, &error.to_string()))?;
    list.iter().map(|mailbox| address(mailbox.email.as_ref())).collect()
}

fn check(text: &str) -> Result<(), MailError> {
    if text.chars().any(char::is_control) {
        return Err(refused(text, "it has a control character"));
    }
    // A mailbox may carry a name; the address alone is measured again by `mailbox`.
    if !text.contains('<') && text.trim().len() > ADDRESS_MAX {
        return Err(refused(text, "it is longer than 254 bytes"));
    }
    Ok(())
}

fn refused(text: &str, reason: &str) -> MailError {
    MailError::Address { text: shown(text), reason: reason.to_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_named_mailboxes_are_read() {
        assert_eq!(address(" ada@example.com ").unwrap().domain(), "example.com");
        assert_eq!(mailbox("Ada L <ada@example.com>").unwrap().name.as_deref(), Some("Ada L"));
        assert_eq!(addresses("a@example.com, \"B, C\" <b@example.com>").unwrap().len(), 2);
    }

    #[test]
    fn what_could_end_a_command_or_a_header_is_refused() {
        for text in ["", "ada", "a@b@c", "a@example.com\r\nRCPT TO:<b@example.com>", "a\0@example.com", "<>", "a@b>"] {
            assert!(address(text).is_err(), "{text:?}");
            assert!(mailbox(text).is_err(), "{text:?}");
        }
        assert!(address(&format!("{}@example.com", "a".repeat(300))).is_err());
    }
}
