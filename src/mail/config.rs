//! Settings of mail.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::{ByteSize, Span};
use crate::settings;

settings! {
    /// Outbound mail: the queue behind the SES and SMTP doors, and how messages leave.
    pub struct MailConfig {
        /// How messages leave: `development` keeps them and sends nothing, `smtp` hands them to the relay
        /// below, `ses` calls Amazon's SES v2 interface.
        pub transport: TransportKind = TransportKind::Development,
        /// Sender of mail Mainstay writes itself, with or without a name (`Notes <no-reply@example.com>`); its address
        /// is the `AWS_SES_FROM_EMAIL` that `mainstay env` prints.
        pub from: String = "no-reply@localhost".to_owned(),
        /// Name that mail Mainstay writes itself goes by.
        pub brand: String = "Mainstay".to_owned(),
        /// The relay, such as `smtps://smtp.example.com:465`, `smtp://smtp.example.com:587?tls=required` or
        /// `smtp://127.0.0.1:25`. No user or password here: they have settings of their own.
        pub relay: String = String::new(),
        /// User name at the relay; empty for a relay that asks for none.
        pub relay_user: String = String::new(),
        /// File that holds the password at the relay (its first line).
        pub relay_password_file: String = String::new(),
        /// SES region, such as `eu-central-1`.
        pub ses_region: String = String::new(),
        /// SES endpoint; empty for Amazon's own of the region.
        pub ses_endpoint: String = String::new(),
        /// SES access key id.
        pub ses_access_key_id: String = String::new(),
        /// File that holds the SES secret access key (its first line).
        pub ses_secret_access_key_file: String = String::new(),
        /// Largest message taken in, headers and attachments included.
        pub max_message: ByteSize = ByteSize::mib(10),
        /// Most recipients of one message.
        pub max_recipients: usize = 100,
        /// Most deliveries waiting at once; past it new messages are refused for now.
        pub max_queue: u64 = 100_000,
        /// Deliveries under way at once.
        pub concurrency: usize = 8,
        /// How long a delivery is tried before it fails for good.
        pub give_up_after: Span = Span::hours(48),
        /// How long one attempt may take.
        pub attempt_timeout: Span = Span::mins(2),
        /// How long messages stay viewable after their last delivery ended.
        pub keep: Span = Span::days(30),
    }
}

/// How messages leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportKind {
    /// Kept for viewing, never sent.
    Development,
    /// Handed to an SMTP relay.
    Smtp,
    /// Handed to Amazon SES.
    Ses,
}

impl TransportKind {
    const ALL: [(&'static str, Self); 3] =
        [("development", Self::Development), ("smtp", Self::Smtp), ("ses", Self::Ses)];

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// Why a text names no transport.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no mail transport: write `development`, `smtp` or `ses`")]
pub struct TransportKindError(String);

impl FromStr for TransportKind {
    type Err = TransportKindError;

    fn from_str(text: &str) -> Result<Self, TransportKindError> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, kind)| *kind).ok_or_else(|| TransportKindError(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for TransportKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for TransportKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl MailConfig {
    /// The settings that contradict each other: key, and what is wrong.
    pub fn contradictions(&self) -> Vec<(&'static str, String)> {
        let mut out = Vec::new();
        let needed: &[(&'static str, &String)] = match self.transport {
            TransportKind::Development => &[],
            TransportKind::Smtp => &[("mail.relay", &self.relay)],
            TransportKind::Ses => &[
                ("mail.ses_region", &self.ses_region),
                ("mail.ses_access_key_id", &self.ses_access_key_id),
                ("mail.ses_secret_access_key_file", &self.ses_secret_access_key_file),
            ],
        };
        for (key, value) in needed {
            if value.is_empty() {
                out.push((
                    *key,
                    format!("{key} is empty, but mail.transport = \"{}\" needs it", self.transport.name()),
                ));
            }
        }
        if !self.relay_user.is_empty() && self.relay_password_file.is_empty() {
            let what = "mail.relay_user is set without mail.relay_password_file".to_owned();
            out.push(("mail.relay_password_file", what));
        }
        if let Err(error) = super::address::mailbox(&self.from) {
            out.push(("mail.from", error.to_string()));
        }
        if self.give_up_after > self.keep {
            let what = "mail.keep is shorter than mail.give_up_after: messages would be forgotten while they wait";
            out.push(("mail.keep", what.to_owned()));
        }
        out
    }

    /// The address in `mail.from`, without the name; as it is written while it is none.
    pub fn from_address(&self) -> String {
        super::address::mailbox(&self.from).map_or_else(|_| self.from.clone(), |mailbox| mailbox.email.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_do_not_contradict_each_other() {
        // lettre asks for a dot in the domain or none at all; `localhost` is the zero-configuration sender.
        assert_eq!(MailConfig::default().contradictions(), []);
    }

    #[test]
    fn the_sender_may_have_a_name() {
        let with = |from: &str| MailConfig { from: from.to_owned(), ..MailConfig::default() };
        let named = with("Notes <no-reply@example.com>");
        assert_eq!((named.contradictions(), named.from_address()), (Vec::new(), "no-reply@example.com".to_owned()));
        assert_eq!(with("no-reply@example.com").from_address(), "no-reply@example.com");
        assert_eq!(with("Notes").contradictions().len(), 1);
    }

    #[test]
    fn a_transport_without_what_it_needs_is_told() {
        let config = MailConfig { transport: TransportKind::Ses, relay_user: "u".to_owned(), ..MailConfig::default() };
        let keys: Vec<_> = config.contradictions().into_iter().map(|(key, _)| key).collect();
        let ses = ["mail.ses_region", "mail.ses_access_key_id", "mail.ses_secret_access_key_file"];
        assert_eq!(keys, [&ses[..], &["mail.relay_password_file"]].concat());
    }
}
