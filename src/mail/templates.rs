//! The letters Mainstay writes itself, about accounts: text and HTML, from `web/mail`.
//!
//! They go ahead of everything else in the queue. One with a link that works for a time is given up when the link is of
//! no use any more, and its text is shown masked until then ([`Source::Token`]). What users chose themselves (names, what
//! a browser calls itself) is cut and freed of everything that could pass for a line, a link or an address of ours.

use std::fmt;
use std::time::Duration;

use askama::Template;
use lettre::message::Mailbox;

use super::MailError;
use super::address;
use super::compose::Parts;
use super::outbox::{Accepted, Outbox, Submission};
use super::rows::Source;
use crate::base::{Secret, Timestamp};

/// Most characters of a name.
const NAME_MAX: usize = 60;

/// Most characters of what a browser calls itself.
const AGENT_MAX: usize = 120;

/// Who writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brand {
    /// What readers know the server by.
    pub name: String,
    /// Where the console is.
    pub url: String,
}

/// What a letter is about.
#[derive(Clone, Debug)]
pub enum Letter {
    /// An account was made.
    Welcome {
        /// Where to log in.
        link: String,
    },
    /// An address is to be confirmed.
    VerifyEmail {
        /// The link that confirms it.
        link: Secret<String>,
        /// When the link stops working.
        expires: Timestamp,
    },
    /// A new password is to be set.
    PasswordReset {
        /// The link that lets its holder set it.
        link: Secret<String>,
        /// When the link stops working.
        expires: Timestamp,
    },
    /// The password was changed.
    PasswordChanged(Seen),
    /// Somebody logged in from a new device.
    NewSignIn(Seen),
}

/// Something that was done to an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub at: Timestamp,
    /// From which network address.
    pub from: std::net::IpAddr,
    /// With what; as the browser calls itself.
    pub agent: String,
    /// Where a new password can be asked for.
    pub link: String,
}

/// A letter written out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What it is about.
    pub subject: String,
    /// As plain text.
    pub text: String,
    /// As HTML.
    pub html: String,
}

impl Letter {
    /// The template's name, as pages and metrics call it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Welcome { .. } => "welcome",
            Self::VerifyEmail { .. } => "verify",
            Self::PasswordReset { .. } => "reset",
            Self::PasswordChanged(_) => "changed",
            Self::NewSignIn(_) => "sign-in",
        }
    }

    /// One of each with made-up facts, for looking at. None of their links leads anywhere.
    pub fn samples(brand: &Brand, now: Timestamp) -> [Self; 5] {
        let link = |path: &str| format!("{}/{path}", brand.url.trim_end_matches('/'));
        let sample = || Secret::new(link("sample/0123456789abcdef0123456789abcdef"));
        let seen = || Seen {
            at: now,
            from: std::net::Ipv4Addr::new(192, 0, 2, 7).into(),
            agent: String::from("Firefox on Linux"),
            link: link("forgot"),
        };
        [
            Self::Welcome { link: link("login") },
            Self::VerifyEmail { link: sample(), expires: now.after(Duration::from_hours(24)) },
            Self::PasswordReset { link: sample(), expires: now.after(Duration::from_hours(1)) },
            Self::PasswordChanged(seen()),
            Self::NewSignIn(seen()),
        ]
    }

    /// The letter to `name` (may be empty) at `address`.
    ///
    /// # Errors
    /// [`MailError::Template`], which only a bug can cause.
    pub fn write(&self, brand: &Brand, name: &str, address: &str, now: Timestamp) -> Result<Written, MailError> {
        let name = person(name);
        let brand_name = &brand.name;
        match self {
            Self::Welcome { link } => {
                let subject = format!("Welcome to {brand_name}");
                let subject = subject.as_str();
                let (name, link) = (name.as_str(), link.as_str());
                let html = WelcomeHtml { brand, subject, name, address, link };
                self.written(subject, &WelcomeText { brand, name, address, link }, &html)
            }
            Self::VerifyEmail { link, expires } => {
                let subject = format!("Confirm your address for {brand_name}");
                let (until, span) = (moment(*expires), left(*expires, now));
                let (link, name) = (link.expose().as_str(), name.as_str());
                let text = VerifyText { brand, name, link, until: &until, span: &span };
                let html = VerifyHtml { brand, subject: &subject, name, link, until: &until, span: &span };
                self.written(&subject, &text, &html)
            }
            Self::PasswordReset { link, expires } => {
                let subject = format!("Set a new password for {brand_name}");
                let (until, span) = (moment(*expires), left(*expires, now));
                let (link, name) = (link.expose().as_str(), name.as_str());
                let text = ResetText { brand, name, link, until: &until, span: &span };
                let html = ResetHtml { brand, subject: &subject, name, link, until: &until, span: &span };
                self.written(&subject, &text, &html)
            }
            Self::PasswordChanged(seen) => {
                let subject = format!("Your password for {brand_name} was changed");
                let (at, from, agent) = (moment(seen.at), seen.from.to_string(), device(&seen.agent));
                let (at, from, agent, link) = (at.as_str(), from.as_str(), agent.as_str(), seen.link.as_str());
                let text = ChangedText { brand, name: &name, at, from, agent, link };
                let html = ChangedHtml { brand, subject: &subject, name: &name, at, from, agent, link };
                self.written(&subject, &text, &html)
            }
            Self::NewSignIn(seen) => {
                let subject = format!("New sign-in to {brand_name}");
                let (at, from, agent) = (moment(seen.at), seen.from.to_string(), device(&seen.agent));
                let (at, from, agent, link) = (at.as_str(), from.as_str(), agent.as_str(), seen.link.as_str());
                let text = SignInText { brand, name: &name, at, from, agent, link };
                let html = SignInHtml { brand, subject: &subject, name: &name, at, from, agent, link };
                self.written(&subject, &text, &html)
            }
        }
    }

    fn written(&self, subject: &str, text: &impl Template, html: &impl Template) -> Result<Written, MailError> {
        let failed =
            |error: askama::Error| MailError::Template { name: self.name().to_owned(), reason: error.to_string() };
        Ok(Written {
            subject: subject.to_owned(),
            text: text.render().map_err(failed)?,
            html: html.render().map_err(failed)?,
        })
    }

    /// How long it is of use; `None` when it does not grow old.
    fn useful_for(&self, now: Timestamp) -> Option<Duration> {
        match self {
            Self::VerifyEmail { expires, .. } | Self::PasswordReset { expires, .. } => Some(expires.since(now)),
            Self::Welcome { .. } | Self::PasswordChanged(_) | Self::NewSignIn(_) => None,
        }
    }
}

impl Outbox {
    /// Queues `letter` to `name` (may be empty) at `to`, ahead of everything that waits. It survives a power cut once
    /// this returns.
    ///
    /// # Errors
    /// [`MailError::Address`] when `to`, or `mail.from`, is no address; else those of [`Outbox::accept`].
    ///
    /// # Cancel safety
    /// As [`Outbox::accept`].
    pub async fn send(&self, letter: &Letter, brand: &Brand, name: &str, to: &str) -> Result<Accepted, MailError> {
        let now = self.0.clock.now();
        let written = letter.write(brand, name, to, now)?;
        let from = address::mailbox(&self.config().from)?;
        let host = from.email.domain().to_owned();
        let from = Mailbox { name: from.name.or_else(|| Some(person(&brand.name))), email: from.email };
        let parts = Parts {
            from,
            reply_to: Vec::new(),
            to: vec![Mailbox { name: None, email: address::address(to)? }],
            cc: Vec::new(),
            bcc: Vec::new(),
            subject: written.subject,
            text: Some(written.text),
            html: Some(written.html),
            // RFC 3834: programs answer no message that says this.
            headers: vec![("Auto-Submitted".to_owned(), "auto-generated".to_owned())],
            attachments: Vec::new(),
        };
        let id = self.fresh_id();
        let useful_for = letter.useful_for(now);
        self.accept(Submission {
            id,
            envelope: parts.envelope()?,
            trace: Vec::new(),
            message: parts.message(now, &id.to_string(), &host)?,
            source: if useful_for.is_some() { Source::Token } else { Source::Template },
            idempotency: None,
            urgent: true,
            useful_for,
        })
        .await
    }
}

/// A name as a letter says it: nothing that could pass for a link, an address or a line of its own.
fn person(name: &str) -> String {
    let name: String = name.trim().chars().filter(|c| !c.is_control()).take(NAME_MAX).collect();
    if name.contains(['/', ':', '@', '<', '>']) || name.contains("www.") { String::new() } else { name }
}

/// What a browser calls itself, as a letter says it.
fn device(agent: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = agent.trim().chars().map(clean).take(AGENT_MAX).collect();
    if text.is_empty() || text.contains("://") { String::from("an unknown program") } else { text }
}

/// `25 Nov 2026, 20:25 UTC`.
fn moment(at: Timestamp) -> String {
    at.to_jiff().strftime("%-d %b %Y, %H:%M UTC").to_string()
}

/// `for 30 minutes`, `for 24 hours`, `for 7 days`.
fn left(until: Timestamp, now: Timestamp) -> String {
    let minutes = until.since(now).as_secs().div_ceil(60);
    let (count, unit) = match minutes {
        0..=119 => (minutes, "minute"),
        120..=2880 => (minutes / 60, "hour"),
        _ => (minutes / 1440, "day"),
    };
    format!("for {count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// The templates: each takes what its files in `web/mail` name.
macro_rules! letters {
    ($($html:ident, $html_path:literal, $text:ident, $text_path:literal, { $($field:ident),+ };)+) => {$(
        #[derive(Template)]
        #[template(path = $html_path, whitespace = "preserve")]
        struct $html<'a> { brand: &'a Brand, subject: &'a str, $($field: &'a str),+ }

        #[derive(Template)]
        #[template(path = $text_path, whitespace = "preserve", escape = "none")]
        struct $text<'a> { brand: &'a Brand, $($field: &'a str),+ }
    )+};
}

letters! {
    WelcomeHtml, "mail/welcome.html", WelcomeText, "mail/welcome.txt", { name, address, link };
    VerifyHtml, "mail/verify.html", VerifyText, "mail/verify.txt", { name, link, until, span };
    ResetHtml, "mail/reset.html", ResetText, "mail/reset.txt", { name, link, until, span };
    ChangedHtml, "mail/changed.html", ChangedText, "mail/changed.txt", { name, at, from, agent, link };
    SignInHtml, "mail/sign_in.html", SignInText, "mail/sign_in.txt", { name, at, from, agent, link };
}

impl fmt::Display for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Welcome { .. } => "Welcome",
            Self::VerifyEmail { .. } => "Confirm an address",
            Self::PasswordReset { .. } => "Set a new password",
            Self::PasswordChanged(_) => "Password changed",
            Self::NewSignIn(_) => "New sign-in",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::MailConfig;
    use super::super::outbox::tests::bench;
    use super::*;

    fn brand() -> Brand {
        Brand { name: "Example & Sons".to_owned(), url: "https://console.example.com".to_owned() }
    }

    const NOW: Timestamp = Timestamp::from_seconds(1_795_201_445);

    #[test]
    fn every_letter_is_as_its_golden_file() {
        let golden = [
            include_str!("../../tests/golden/mail/welcome.txt"),
            include_str!("../../tests/golden/mail/verify.txt"),
            include_str!("../../tests/golden/mail/reset.txt"),
            include_str!("../../tests/golden/mail/changed.txt"),
            include_str!("../../tests/golden/mail/sign-in.txt"),
        ];
        let mut differ = Vec::new();
        for (letter, golden) in Letter::samples(&brand(), NOW).iter().zip(golden) {
            let Written { subject, text, html } = letter.write(&brand(), "Ada", "ada@example.com", NOW).unwrap();
            let now = format!("Subject: {subject}\n\n{text}\n{}\n\n{html}\n", "-".repeat(72));
            if now != golden {
                let path = std::env::temp_dir().join(format!("mainstay-golden-{}.txt", letter.name()));
                std::fs::File::create(&path).unwrap().write_all(now.as_bytes()).unwrap();
                differ.push(path);
            }
        }
        assert!(differ.is_empty(), "not as in tests/golden/mail, look at {differ:?}");
    }

    #[test]
    fn what_users_chose_is_escaped_and_cannot_pass_for_a_link() {
        let seen = Seen {
            at: NOW,
            from: std::net::Ipv4Addr::LOCALHOST.into(),
            agent: "<script>alert(1)</script>\r\n\r\nhttps//evil".to_owned(),
            link: "https://console.example.com/forgot".to_owned(),
        };
        let letter = Letter::NewSignIn(seen.clone());
        let written = letter.write(&brand(), "<b>Ada</b>", "ada@example.com", NOW).unwrap();
        assert!(!written.html.contains("<script>") && !written.html.contains("<b>Ada"), "{}", written.html);
        assert!(written.text.starts_with("Hello,\n"), "{}", written.text);
        assert!(!written.text.contains('\r'));
        assert_eq!(person("pay at evil.example/x"), "");
        assert_eq!(device("see https://evil.example"), "an unknown program");
    }

    #[test]
    fn a_link_says_how_long_it_works() {
        for (seconds, text) in
            [(59, "for 1 minute"), (1800, "for 30 minutes"), (86_400, "for 24 hours"), (604_800, "for 7 days")]
        {
            assert_eq!(left(NOW.after(Duration::from_secs(seconds)), NOW), text);
        }
    }

    #[tokio::test]
    async fn a_letter_is_queued_ahead_and_given_up_with_its_link() {
        let bench = bench(MailConfig { from: "no-reply@example.com".to_owned(), ..MailConfig::default() });
        bench.accept(&["a@e.org"]).await;
        let now = crate::base::Clock::now(bench.clock.as_ref());
        for letter in Letter::samples(&brand(), now) {
            let id = bench.outbox.send(&letter, &brand(), "Ada", "ada@example.com").await.unwrap().id;
            let detail = bench.outbox.detail(id).await.unwrap();
            let hours = if matches!(letter, Letter::PasswordReset { .. }) { 1 } else { 48 };
            let hours = if matches!(letter, Letter::VerifyEmail { .. }) { 24 } else { hours };
            assert_eq!(detail.give_up, now.after(Duration::from_hours(hours)).to_string(), "{letter}");
            assert_eq!(detail.masked, hours < 48, "{letter}");
            let content = bench.outbox.content(id).await.unwrap();
            let auto = ("Auto-Submitted".to_owned(), "auto-generated".to_owned());
            assert!(content.fields.contains(&auto), "{:?}", content.fields);
            let shown = [content.text.unwrap(), content.html.unwrap()].concat();
            assert!(!shown.contains("0123456789abcdef0123456789abcdef"), "{shown}");
        }
        let claims = bench.outbox.claim(9).await.unwrap();
        assert_eq!(claims.len(), 6);
        assert!(claims[..5].iter().all(|claim| claim.to == "ada@example.com"));
    }

    #[tokio::test]
    async fn a_letter_to_what_is_no_address_is_refused() {
        let bench = bench(MailConfig::default());
        let letter = Letter::Welcome { link: "https://console.example.com/login".to_owned() };
        for to in ["ada", "ada@example.com\r\nBcc: eve@example.com", ""] {
            assert!(bench.outbox.send(&letter, &brand(), "", to).await.is_err(), "{to:?}");
        }
    }
}
