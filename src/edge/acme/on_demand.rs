//! Certificates for names that no setting has, such as customers' own domains: who says which may have one, and how often
//! that is asked.
//!
//! The names come from strangers' handshakes, so everything here has a cap: names in all, new ones a minute, questions at
//! once, and refusals remembered.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{Request, StatusCode, Uri};

use crate::base::Timestamp;
use crate::edge::error::{ConfigError, EdgeError};
use crate::edge::host::is_name;
use crate::http::client::{Client, Reach};
use crate::settings;

/// Longest wait for the app's word.
const ANSWER: Duration = Duration::from_secs(5);
/// Most bytes of its answer that are read; only the status counts.
const ANSWER_MAX: usize = 64 << 10;
/// How long a refusal holds without being asked again.
const REFUSED: Duration = Duration::from_mins(1);
/// How long nothing is asked about a name whose question had no answer.
const UNANSWERED: Duration = Duration::from_secs(10);
/// How long nothing is asked about a name whose orders failed.
const HOPELESS: Duration = Duration::from_hours(1);
/// Most names that are remembered as refused.
const REMEMBERED: usize = 10_000;
/// Most questions at once.
const QUESTIONS: usize = 16;
/// Most names there may be a setting for.
const NAMES_MAX: u32 = 10_000;
/// Failures after which a name that never had a certificate is given up.
pub const TRIES: u32 = 3;
/// How long a handshake waits for a certificate.
pub const PATIENCE: Duration = Duration::from_secs(30);

settings! {
    /// Certificates for names that no setting has, such as your customers' own domains: ordered when somebody first asks for
    /// such a name, if your app says so. Only names that a site answers count.
    pub struct OnDemandConfig {
        /// Address of your app that is asked, such as `http://127.0.0.1:3000/certificate-wanted`: a GET with
        /// `?domain=<name>`, where an answer from 200 to 299 says yes. It is asked again before each renewal. Empty, the
        /// default, orders none.
        pub ask: String = String::new(),
        /// Most names that have or get a certificate so; 10000 at most.
        pub names: u32 = 1_000,
        /// Most new names within a minute.
        pub per_minute: u32 = 10,
    }
}

impl OnDemandConfig {
    /// Checks what can be checked without a call.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |key: &'static str, value: &str, allowed: &str| {
            Err(ConfigError::Value { key, value: value.to_owned(), allowed: allowed.to_owned() })
        };
        if !self.ask.is_empty() && address(&self.ask, "example.com").is_none() {
            return wrong("edge.acme.on_demand.ask", &self.ask, "an address such as http://127.0.0.1:3000/wanted");
        }
        if self.names == 0 || self.names > NAMES_MAX {
            return wrong("edge.acme.on_demand.names", &self.names.to_string(), "1 to 10000");
        }
        if self.per_minute == 0 {
            return wrong("edge.acme.on_demand.per_minute", "0", "at least 1");
        }
        Ok(())
    }
}

/// Where `ask` is asked about `name`.
fn address(ask: &str, name: &str) -> Option<Uri> {
    let mark = if ask.contains('?') { '&' } else { '?' };
    let uri: Uri = format!("{ask}{mark}domain={name}").parse().ok()?;
    (matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()).then_some(uri)
}

/// Whether an authority could know `name`, which a client sent: a host name of several labels, and no address.
pub fn could_have(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    is_name(name)
        && name.contains('.')
        && !name.contains('_')
        && last.bytes().any(|byte| byte.is_ascii_alphabetic())
        && last != "localhost"
}

/// What the app said.
#[derive(Debug)]
pub enum Word {
    /// The name may have a certificate.
    Yes,
    /// It may not.
    No,
    /// Nothing that counts.
    Nothing(String),
}

/// How it stands with a name that nothing is known of.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// The app is to be asked now, by whoever got this; [`OnDemand::asked`] ends it.
    Ask,
    /// Somebody asks already.
    Asked,
    /// There is to be none.
    None,
}

/// Who says which names may have a certificate.
#[derive(Debug)]
pub struct OnDemand {
    ask: String,
    /// Most names in all.
    pub names: usize,
    per_minute: usize,
    client: Client,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    asking: HashSet<String>,
    /// Until when a name is not asked about.
    refused: HashMap<String, Timestamp>,
    /// When the newest names were taken on.
    taken: VecDeque<Timestamp>,
}

impl OnDemand {
    /// By `config`; `None` when it names nobody to ask. Reads the machine's certificate authorities: blocks.
    ///
    /// # Errors
    /// [`EdgeError::Tls`].
    pub fn of(config: &OnDemandConfig) -> Result<Option<Self>, EdgeError> {
        if config.ask.is_empty() {
            return Ok(None);
        }
        let client = Client::new(ANSWER, ANSWER_MAX)?;
        let (names, per_minute) = (config.names as usize, config.per_minute as usize);
        Ok(Some(Self { ask: config.ask.clone(), names, per_minute, client, state: Mutex::default() }))
    }

    /// Whose turn it is to ask about `name`.
    pub fn turn(&self, name: &str, now: Timestamp) -> Turn {
        let mut state = self.state();
        if state.asking.contains(name) {
            return Turn::Asked;
        }
        let refused = state.refused.get(name).is_some_and(|until| now < *until);
        if refused || state.asking.len() >= QUESTIONS || !state.has_room(self.per_minute, now) {
            return Turn::None;
        }
        state.asking.insert(name.to_owned());
        Turn::Ask
    }

    /// Ends the turn for `name` with what the app said; true when the name is taken on.
    pub fn asked(&self, name: &str, word: &Word, now: Timestamp) -> bool {
        let mut state = self.state();
        state.asking.remove(name);
        match word {
            Word::Yes if state.has_room(self.per_minute, now) => {
                state.taken.push_back(now);
                true
            }
            Word::Yes | Word::No => state.refuse(name, now.after(REFUSED), now),
            Word::Nothing(_) => state.refuse(name, now.after(UNANSWERED), now),
        }
    }

    /// Asks nothing about `name` for a while: its orders have failed.
    pub fn give_up(&self, name: &str, now: Timestamp) {
        self.state().refuse(name, now.after(HOPELESS), now);
    }

    /// Asks the app about `name`.
    ///
    /// # Cancel safety
    /// Dropped before its end, the app may have been asked.
    pub async fn ask(&self, name: &str) -> Word {
        let Some(uri) = address(&self.ask, name) else { return Word::Nothing("no address to ask".to_owned()) };
        let host = uri.authority().map(ToString::to_string).unwrap_or_default();
        let request = Request::get(uri).header(HOST, host).header(USER_AGENT, "Mainstay").body(Bytes::new());
        let Ok(request) = request else { return Word::Nothing("no address to ask".to_owned()) };
        match self.client.call(request, Reach::Any).await {
            Ok(answer) if answer.status().is_success() => Word::Yes,
            // An app that is down or broken has not said no.
            Ok(answer) if answer.status().is_server_error() || answer.status() == StatusCode::TOO_MANY_REQUESTS => {
                Word::Nothing(format!("edge.acme.on_demand.ask answered {}", answer.status()))
            }
            Ok(_) => Word::No,
            Err(error) => Word::Nothing(format!("edge.acme.on_demand.ask: {error}")),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&mut self, per_minute: usize, now: Timestamp) -> bool {
        while self.taken.front().is_some_and(|taken| now.since(*taken) >= Duration::from_mins(1)) {
            self.taken.pop_front();
        }
        self.taken.len() < per_minute
    }

    fn refuse(&mut self, name: &str, until: Timestamp, now: Timestamp) -> bool {
        if self.refused.len() >= REMEMBERED {
            self.refused.retain(|_, until| now < *until);
        }
        // Full of refusals that hold: somebody tries names, and the next question is asked a little sooner.
        if self.refused.len() < REMEMBERED {
            self.refused.insert(name.to_owned(), until);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    fn on_demand(per_minute: u32) -> OnDemand {
        let config = OnDemandConfig { ask: "http://127.0.0.1:1/x".to_owned(), per_minute, ..OnDemandConfig::default() };
        OnDemand::of(&config).unwrap().unwrap()
    }

    #[test]
    fn only_names_that_an_authority_could_know_count() {
        for (name, could) in [
            ("shop.example.com", true),
            ("xn--bcher-kva.example", true),
            ("example", false),
            ("192.0.2.1", false),
            ("a.localhost", false),
            ("a_b.example.com", false),
            ("a..example.com", false),
            ("*.example.com", false),
            ("", false),
        ] {
            assert_eq!(could_have(name), could, "{name}");
        }
    }

    #[test]
    fn a_name_is_asked_about_once_and_a_refusal_holds_for_a_while() {
        let names = on_demand(10);
        assert_eq!(names.turn("a.example", NOW), Turn::Ask);
        assert_eq!(names.turn("a.example", NOW), Turn::Asked);
        assert!(!names.asked("a.example", &Word::No, NOW));
        assert_eq!(names.turn("a.example", NOW), Turn::None);
        assert_eq!(names.turn("a.example", NOW.after(REFUSED)), Turn::Ask);
        assert!(!names.asked("a.example", &Word::Nothing(String::new()), NOW));
        assert_eq!(names.turn("a.example", NOW.after(UNANSWERED)), Turn::Ask);
        assert!(names.asked("a.example", &Word::Yes, NOW));
        names.give_up("a.example", NOW);
        assert_eq!(names.turn("a.example", NOW.after(REFUSED)), Turn::None);
    }

    #[test]
    fn new_names_come_no_faster_than_allowed_and_questions_are_capped() {
        let names = on_demand(2);
        for name in ["a.example", "b.example"] {
            assert_eq!(names.turn(name, NOW), Turn::Ask);
            assert!(names.asked(name, &Word::Yes, NOW));
        }
        assert_eq!(names.turn("c.example", NOW), Turn::None);
        let later = NOW.after(Duration::from_mins(1));
        for number in 0..QUESTIONS {
            assert_eq!(names.turn(&format!("{number}.example"), later), Turn::Ask);
        }
        assert_eq!(names.turn("d.example", later), Turn::None);
        assert!(names.asked("0.example", &Word::Yes, later) && names.asked("1.example", &Word::Yes, later));
        assert!(!names.asked("2.example", &Word::Yes, later), "the minute is full meanwhile");
    }

    #[test]
    fn every_wrong_value_is_told_by_its_key() {
        OnDemandConfig::default().validate().unwrap();
        for (text, key) in [
            ("ask = \"127.0.0.1:3000\"", "edge.acme.on_demand.ask"),
            ("ask = \"ftp://x/y\"", "edge.acme.on_demand.ask"),
            ("names = 0", "edge.acme.on_demand.names"),
            ("per_minute = 0", "edge.acme.on_demand.per_minute"),
        ] {
            let config: OnDemandConfig = toml::from_str(text).unwrap();
            assert!(config.validate().unwrap_err().to_string().contains(key), "{text}");
        }
        let asked = address("http://127.0.0.1:3000/x?key=1", "a.example").unwrap();
        assert_eq!(asked.to_string(), "http://127.0.0.1:3000/x?key=1&domain=a.example");
    }
}
