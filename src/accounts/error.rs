//! What can go wrong with credentials and accounts.

use std::time::Duration;

use super::password::PasswordFault;
use crate::store::{RecordError, StoreError};

/// Why credentials are not there, or not taken. Never holds a secret. Unless a variant says otherwise, nothing has
/// changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored credential does not read.
    #[error("the stored credential `{name}` does not read: {source}")]
    Record {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: RecordError,
    },
    /// An access key's id, given by the operator, is no id.
    #[error("MINIO_ROOT_USER: an access key has 3 to 128 letters, digits or `-_.@`, this one has {length} characters")]
    BadId {
        /// Its length in characters.
        length: usize,
    },
    /// An access key's secret, given by the operator, is too short or too long.
    #[error("MINIO_ROOT_PASSWORD: a secret key has 8 to 128 visible ASCII characters, this one has {length}")]
    BadSecret {
        /// Its length in characters.
        length: usize,
    },
    /// Only half of a pair was given.
    #[error("{0} belong together: set both or neither")]
    HalfPair(&'static str),
    /// A password was given in two ways.
    #[error("the password is given twice: set one of the two")]
    TwoPasswords,
    /// The server has its first account already.
    #[error("this server is set up already; log in, or run `mainstay user reset-password EMAIL` on the server")]
    AlreadyClaimed,
    /// A link was never made, was used, has expired, or a later one took its place.
    #[error("this link is not valid (any more): a link works once, for 24 hours, until the next one is made")]
    BadLink,
    /// A text is no e-mail address.
    #[error("an e-mail address looks like name@example.com and has at most 254 characters")]
    BadEmail,
    /// Another account has the e-mail address.
    #[error("another account has this e-mail address")]
    EmailTaken,
    /// A new password is not taken.
    #[error(transparent)]
    Password(#[from] PasswordFault),
    /// E-mail address, password, code, or token are not those of an account. Which of them, nobody is told.
    #[error("these credentials are not right")]
    WrongCredentials,
    /// Too many failures from this address.
    #[error("too many failed attempts; try again in {} seconds", wait.as_secs().max(1))]
    Throttled {
        /// How long until the next attempt is looked at.
        wait: Duration,
    },
    /// Too many logins at once.
    #[error("too many logins at once; try again in a few seconds")]
    Busy,
    /// The user does not exist.
    #[error("there is no such user")]
    NoSuchUser,
    /// The last administrator would be gone.
    #[error("this is the last administrator; make another one first")]
    LastAdmin,
    /// The session does not exist.
    #[error("there is no such session")]
    NoSuchSession,
    /// The token does not exist.
    #[error("there is no such token")]
    NoSuchToken,
    /// The access key does not exist.
    #[error("there is no such access key")]
    NoSuchKey,
    /// The last access key that may do everything would be gone.
    #[error(
        "this is the last access key that may do everything and does not end; make another such key, give it to your apps, and then change or revoke this one"
    )]
    LastKey,
    /// A key has two secrets already.
    #[error("the key has two secrets already; retire the old one first")]
    TwoSecrets,
    /// What a key is to be allowed is malformed.
    #[error(transparent)]
    Grant(#[from] super::rights::GrantError),
    /// A key's end lies in the past.
    #[error("a key's end must lie in the future")]
    BadEnd,
    /// A label is empty, too long, or has control characters.
    #[error("a label has 1 to {most} characters and no control characters", most = super::LABEL_MAX)]
    BadLabel,
    /// A token's end lies in the past, or it may do nothing.
    #[error("a token needs at least one scope, and an end that lies in the future")]
    BadToken,
    /// There is no second factor where one is needed, or there is one already.
    #[error("the second factor is {0}")]
    SecondFactor(&'static str),
    /// There are as many as may be.
    #[error("there are {most} {what}, no more are allowed; remove one that is not used any more")]
    TooMany {
        /// What there are many of.
        what: &'static str,
        /// How many may be.
        most: usize,
    },
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}
