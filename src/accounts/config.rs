//! Settings of people's accounts.

use crate::base::Span;
use crate::settings;

settings! {
    /// People's accounts: how long a session lives, and how failed logins are slowed down.
    pub struct AccountsConfig {
        /// How long a session lives without being used.
        pub session_idle: Span = Span::hours(24),
        /// How long a session lives at most; then its owner logs in again.
        pub session_absolute: Span = Span::days(30),
        /// How long after the password was given it need not be given again for a sensitive change.
        pub confirm_for: Span = Span::mins(15),
        /// Failed logins to one account from one address before that address has to wait. Other addresses are not
        /// affected, so that nobody can lock somebody else out. 1 to 100.
        pub failures_per_account: u32 = 5,
        /// Failed logins from one address, to any account and with any token, before it has to wait. 1 to
        /// 100.
        pub failures_per_address: u32 = 30,
        /// How long a failed login counts.
        pub failures_window: Span = Span::mins(15),
    }
}
