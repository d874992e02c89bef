//! The dialogue of one connection, without its socket: lines in, answers and actions out.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::borrow::Cow;

use lettre::Address;
use smtp_proto::{AUTH_LOGIN, AUTH_PLAIN, Error, MAIL_BODY_BINARYMIME, Request};

use super::auth::{self, Login};
use crate::mail::{Envelope, address};

/// Longest command line, CR LF included. RFC 5321 asks for 512; AUTH answers may be longer (RFC 4954, 4: 12,288).
pub const LINE_MAX: usize = 12_288;

/// What a session needs to know of the door.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Name the door greets with.
    pub host: String,
    /// Largest message, announced as SIZE.
    pub max_message: u64,
    /// Most recipients of a message.
    pub max_recipients: usize,
}

/// What to do after a line.
#[derive(Debug)]
pub enum Action {
    /// Send this answer and go on.
    Answer(Cow<'static, str>),
    /// Send this answer, counted as an error of the client, and go on.
    Refuse(Cow<'static, str>),
    /// Look these credentials up and say so with [`Session::logged_in`].
    Check(Credentials),
    /// Send this answer and take in a message from this sender to these recipients.
    Data(&'static str, Envelope),
    /// Send this answer and close.
    Close(&'static str),
}

/// Credentials to look up; their `Debug` shows no password.
#[derive(Debug)]
pub struct Credentials {
    login: Login,
}

impl Credentials {
    /// The user name given.
    pub fn user(&self) -> &str {
        &self.login.user
    }

    /// Whether `password` is the one given, in constant time.
    pub fn matches(&self, password: &str) -> bool {
        crate::crypto::mac::equal(self.login.password.expose().as_bytes(), password.as_bytes())
    }
}

/// How far the client came.
#[derive(Debug)]
pub struct Session {
    rules: Rules,
    greeted: bool,
    user: Option<String>,
    awaited: Awaited,
    from: Option<Address>,
    to: Vec<Address>,
}

/// What the next line is.
#[derive(Debug, PartialEq, Eq)]
enum Awaited {
    Command,
    Plain,
    LoginUser,
    LoginPassword(String),
}

const SYNTAX: &str = "501 5.5.4 Syntax error in parameters or arguments\r\n";
const SEQUENCE: &str = "503 5.5.1 Bad sequence of commands\r\n";
const AUTH_FIRST: &str = "530 5.7.0 Authentication required\r\n";

impl Session {
    /// A fresh dialogue.
    pub const fn new(rules: Rules) -> Self {
        Self { rules, greeted: false, user: None, awaited: Awaited::Command, from: None, to: Vec::new() }
    }

    /// The greeting.
    pub fn greeting(&self) -> String {
        format!("220 {} ESMTP Mainstay\r\n", self.rules.host)
    }

    /// Who submits, once they logged in.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Takes in a line, which ends in LF.
    pub fn line(&mut self, line: &[u8]) -> Action {
        let Some(command) = line.strip_suffix(b"\r\n") else {
            return Action::Close("521 5.5.2 Lone line feed\r\n");
        };
        if command.iter().any(|byte| matches!(byte, b'\r' | 0)) {
            return Action::Close("521 5.5.2 Lone carriage return, or a NUL\r\n");
        }
        if self.awaited != Awaited::Command {
            return self.auth_answer(String::from_utf8_lossy(line).trim_end());
        }
        match Request::parse(&mut line.iter()) {
            Ok(request) => self.request(request),
            Err(Error::UnknownCommand) => Action::Refuse("500 5.5.1 Command unrecognised\r\n".into()),
            Err(Error::InvalidSenderAddress) => Action::Refuse("501 5.1.7 Malformed sender address\r\n".into()),
            Err(Error::InvalidRecipientAddress) => Action::Refuse("501 5.1.3 Malformed recipient address\r\n".into()),
            Err(Error::UnsupportedParameter { .. }) => Action::Refuse("555 5.5.4 Parameter not supported\r\n".into()),
            Err(_) => Action::Refuse(SYNTAX.into()),
        }
    }

    /// Ends a login: `user` is theirs, or `None` for wrong credentials.
    pub fn logged_in(&mut self, user: Option<String>) -> Action {
        if user.is_none() {
            return Action::Refuse("535 5.7.8 Authentication credentials invalid\r\n".into());
        }
        self.user = user;
        Action::Answer("235 2.7.0 Authentication successful\r\n".into())
    }

    fn request(&mut self, request: Request<Cow<'_, str>>) -> Action {
        match request {
            Request::Ehlo { .. } => {
                self.reset();
                self.greeted = true;
                Action::Answer(self.capabilities().into())
            }
            Request::Helo { .. } => {
                self.reset();
                self.greeted = true;
                Action::Answer(format!("250 {}\r\n", self.rules.host).into())
            }
            Request::Auth { mechanism, initial_response } => self.auth(mechanism, &initial_response),
            Request::Mail { from } => self.mail(&from),
            Request::Rcpt { to } => self.recipient(&to.address),
            Request::Data => match self.from.take() {
                Some(from) if !self.to.is_empty() => {
                    let to = std::mem::take(&mut self.to);
                    Action::Data("354 Start mail input; end with <CRLF>.<CRLF>\r\n", Envelope { from, to })
                }
                from => {
                    self.from = from;
                    Action::Refuse(SEQUENCE.into())
                }
            },
            Request::Rset => {
                self.reset();
                Action::Answer("250 2.0.0 OK\r\n".into())
            }
            Request::Noop { .. } => Action::Answer("250 2.0.0 OK\r\n".into()),
            Request::Quit => Action::Close("221 2.0.0 Bye\r\n"),
            Request::Vrfy { .. } => Action::Answer("252 2.5.2 Cannot verify, send some mail\r\n".into()),
            _ => Action::Refuse("502 5.5.1 Command not implemented\r\n".into()),
        }
    }

    fn capabilities(&self) -> String {
        format!(
            "250-{}\r\n250-PIPELINING\r\n250-SIZE {}\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n\
             250 AUTH PLAIN LOGIN\r\n",
            self.rules.host, self.rules.max_message
        )
    }

    fn auth(&mut self, mechanism: u64, initial: &str) -> Action {
        if !self.greeted || self.user.is_some() || self.from.is_some() {
            return Action::Refuse(SEQUENCE.into());
        }
        match (mechanism, initial) {
            (AUTH_PLAIN, "") => {
                self.awaited = Awaited::Plain;
                Action::Answer("334 \r\n".into())
            }
            (AUTH_PLAIN, answer) => plain(answer),
            (AUTH_LOGIN, "") => {
                self.awaited = Awaited::LoginUser;
                Action::Answer("334 VXNlcm5hbWU6\r\n".into())
            }
            (AUTH_LOGIN, user) => self.login_user(user),
            _ => Action::Refuse("504 5.5.4 Mechanism not supported; use PLAIN or LOGIN\r\n".into()),
        }
    }

    fn auth_answer(&mut self, answer: &str) -> Action {
        let awaited = std::mem::replace(&mut self.awaited, Awaited::Command);
        if answer == "*" {
            return Action::Refuse("501 5.7.0 Authentication cancelled\r\n".into());
        }
        match awaited {
            Awaited::Plain => plain(answer),
            Awaited::LoginUser => self.login_user(answer),
            Awaited::LoginPassword(user) => match auth::login_part(answer) {
                Some(password) => {
                    Action::Check(Credentials { login: Login { user, password: crate::base::Secret::new(password) } })
                }
                None => Action::Refuse(SYNTAX.into()),
            },
            Awaited::Command => Action::Refuse(SEQUENCE.into()),
        }
    }

    fn login_user(&mut self, answer: &str) -> Action {
        match auth::login_part(answer) {
            Some(user) => {
                self.awaited = Awaited::LoginPassword(user);
                Action::Answer("334 UGFzc3dvcmQ6\r\n".into())
            }
            None => Action::Refuse(SYNTAX.into()),
        }
    }

    fn mail(&mut self, from: &smtp_proto::MailFrom<Cow<'_, str>>) -> Action {
        if !self.greeted || self.from.is_some() {
            return Action::Refuse(SEQUENCE.into());
        }
        if self.user.is_none() {
            return Action::Refuse(AUTH_FIRST.into());
        }
        if from.flags & MAIL_BODY_BINARYMIME != 0 {
            return Action::Refuse("501 5.6.3 BINARYMIME needs CHUNKING, which is not offered\r\n".into());
        }
        if from.size as u64 > self.rules.max_message {
            return Action::Refuse(too_large(self.rules.max_message).into());
        }
        match address::address(&from.address) {
            Ok(address) => {
                self.from = Some(address);
                Action::Answer("250 2.1.0 Sender OK\r\n".into())
            }
            Err(_) => Action::Refuse("553 5.1.7 The sender must be a full address\r\n".into()),
        }
    }

    fn recipient(&mut self, to: &str) -> Action {
        if self.from.is_none() {
            return Action::Refuse(SEQUENCE.into());
        }
        if self.to.len() >= self.rules.max_recipients {
            return Action::Refuse("452 4.5.3 Too many recipients\r\n".into());
        }
        match address::address(to) {
            Ok(address) => {
                if !self.to.contains(&address) {
                    self.to.push(address);
                }
                Action::Answer("250 2.1.5 Recipient OK\r\n".into())
            }
            Err(_) => Action::Refuse("553 5.1.3 The recipient must be a full address\r\n".into()),
        }
    }

    fn reset(&mut self) {
        self.from = None;
        self.to.clear();
    }
}

/// The answer to a message above the limit.
pub fn too_large(most: u64) -> String {
    format!("552 5.3.4 Message larger than the {most} bytes allowed\r\n")
}

fn plain(answer: &str) -> Action {
    match auth::plain(answer) {
        Some(login) => Action::Check(Credentials { login }),
        None => Action::Refuse(SYNTAX.into()),
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
