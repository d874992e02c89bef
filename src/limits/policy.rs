//! Named policies, and what they count by.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::config::{Algorithm, PolicyConfig, RateLimitsConfig};
use super::gcra::Rate;
use super::window::{LIMIT_MAX, Window};
use crate::base::{Span, network};
use crate::crypto::mac;

/// Longest value of a field.
pub const FIELD_MAX: usize = 512;

/// Most counters of a policy.
const COUNTERS_MAX: usize = 4;

/// What a counter is kept under: a digest, so that all have one size and none tells whose it is.
pub type Key = [u8; 16];

/// What an attempt can be counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The client's address; of an IPv6 address its /64, which is what one customer has.
    Ip,
    /// An e-mail address; large and small letters are the same.
    Email,
    /// A user, by whatever name the app has for them.
    User,
    /// Anything else.
    Key,
}

const FIELDS: [(Field, &str); 4] =
    [(Field::Ip, "ip"), (Field::Email, "email"), (Field::User, "user"), (Field::Key, "key")];

impl Field {
    /// Its name.
    pub fn name(self) -> &'static str {
        FIELDS.iter().find(|(field, _)| *field == self).map_or("", |(_, name)| name)
    }
}

/// How a policy counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Exactly.
    Window(Window),
    /// Evenly.
    Gcra(Rate),
}

impl Rule {
    /// What the settings call it.
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Window(_) => Algorithm::SlidingWindow,
            Self::Gcra(_) => Algorithm::Gcra,
        }
    }
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// How it counts.
    pub rule: Rule,
    /// Most in the window.
    pub limit: u32,
    /// The window.
    pub window: Span,
    /// The counters, by the fields of each.
    pub by: Vec<Vec<Field>>,
}

/// Why a policy or an attempt is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A setting that makes no policy.
    #[error("limits.policies `{name}`: {what}")]
    Setting {
        /// The policy.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// A field the policy counts by was not sent.
    #[error("this policy counts by `{0}`, which is not in the request")]
    Missing(&'static str),
    /// A value that is none.
    #[error("`{0}` is empty or longer than {FIELD_MAX} bytes")]
    Value(&'static str),
}

/// Who attempts something.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// See [`Field::Ip`].
    pub ip: Option<IpAddr>,
    /// See [`Field::Email`].
    pub email: Option<String>,
    /// See [`Field::User`].
    pub user: Option<String>,
    /// See [`Field::Key`].
    pub key: Option<String>,
}

impl Subject {
    /// The value of `field` as it is counted.
    ///
    /// # Errors
    /// [`PolicyError::Missing`], [`PolicyError::Value`].
    fn value(&self, field: Field) -> Result<String, PolicyError> {
        let value = match field {
            Field::Ip => self.ip.map(|ip| network::counted_as(ip).to_string()),
            Field::Email => self.email.as_ref().map(|email| email.trim().to_lowercase()),
            Field::User => self.user.clone(),
            Field::Key => self.key.clone(),
        };
        let value = value.ok_or(PolicyError::Missing(field.name()))?;
        if value.is_empty() || value.len() > FIELD_MAX { Err(PolicyError::Value(field.name())) } else { Ok(value) }
    }

    /// What `fields` of it are counted under, in the counter `of`.
    ///
    /// # Errors
    /// [`PolicyError::Missing`], [`PolicyError::Value`].
    pub fn digest(&self, of: &str, fields: &[Field]) -> Result<Key, PolicyError> {
        let mut text = String::from(of);
        for field in fields {
            let value = self.value(*field)?;
            // Writing into a String cannot fail. The length keeps two values from reading as another two.
            let _ = write!(text, "\n{}:{}:{value}", field.name(), value.len());
        }
        let mut key = Key::default();
        key.copy_from_slice(mac::sha256(text.as_bytes()).get(..16).unwrap_or(&[0; 16]));
        Ok(key)
    }
}

fn preset(name: &str, limit: u32, window: Span, by: &[&str]) -> PolicyConfig {
    let by = by.iter().map(|fields| String::from(*fields)).collect();
    PolicyConfig { name: String::from(name), limit, window, by, ..PolicyConfig::default() }
}

/// The policies that are there from the start.
fn presets() -> Vec<PolicyConfig> {
    vec![
        preset("login", 5, Span::mins(15), &["ip+email"]),
        preset("register", 3, Span::hours(1), &["ip"]),
        preset("password-reset", 3, Span::hours(1), &["ip", "email"]),
        preset("api", 100, Span::mins(1), &["key"]),
        preset("burst", 10, Span::secs(10), &["key"]),
    ]
}

/// All policies of `config`, by name.
///
/// # Errors
/// [`PolicyError::Setting`] for the first that is wrong.
pub fn policies(config: &RateLimitsConfig) -> Result<Vec<Policy>, PolicyError> {
    let mut out: Vec<Policy> = Vec::new();
    for given in &config.policies {
        if out.iter().any(|policy| policy.name == given.name) {
            let what = String::from("is there twice");
            return Err(PolicyError::Setting { name: given.name.clone(), what });
        }
        out.push(Policy::new(given)?);
    }
    for preset in presets() {
        if !out.iter().any(|policy| policy.name == preset.name) {
            out.push(Policy::new(&preset)?);
        }
    }
    out.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(out)
}

impl Policy {
    fn new(config: &PolicyConfig) -> Result<Self, PolicyError> {
        let wrong = |what: &str| PolicyError::Setting { name: config.name.clone(), what: String::from(what) };
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if config.name.is_empty() || config.name.len() > 64 || !config.name.bytes().all(is_name) {
            return Err(wrong("a name has 1 to 64 small letters, digits and `-`"));
        }
        let window_ms = u64::try_from(config.window.duration().as_millis()).unwrap_or(u64::MAX);
        if window_ms == 0 || config.window > Span::days(366) {
            return Err(wrong("the window is at least 1ms and at most 366d"));
        }
        if config.limit == 0 {
            return Err(wrong("the limit is at least 1"));
        }
        let rule = match config.algorithm {
            Algorithm::SlidingWindow if config.burst > 0 => return Err(wrong("burst is for algorithm = \"gcra\"")),
            Algorithm::SlidingWindow if config.limit > LIMIT_MAX => {
                return Err(wrong("a sliding window takes a limit of at most 100; take algorithm = \"gcra\" for more"));
            }
            Algorithm::SlidingWindow => Rule::Window(Window { limit: config.limit, length_ms: window_ms }),
            Algorithm::Gcra => {
                let burst = if config.burst == 0 { config.limit } else { config.burst };
                Rule::Gcra(Rate { burst, count: config.limit, period_us: window_ms.saturating_mul(1000) })
            }
        };
        let mut by = Vec::new();
        for counter in &config.by {
            let fields = counter.split('+').map(|name| FIELDS.iter().find(|(_, known)| *known == name.trim()));
            let fields: Option<Vec<Field>> = fields.map(|found| found.map(|(field, _)| *field)).collect();
            by.push(fields.ok_or_else(|| wrong("by has the fields ip, email, user and key, joined by `+`"))?);
        }
        if by.is_empty() || by.len() > COUNTERS_MAX {
            return Err(wrong("by has 1 to 4 entries"));
        }
        Ok(Self { name: config.name.clone(), rule, limit: config.limit, window: config.window, by })
    }

    /// The fields of each counter, as the settings write them.
    pub fn by_text(&self) -> Vec<String> {
        self.by.iter().map(|fields| fields.iter().map(|field| field.name()).collect::<Vec<_>>().join("+")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_there_and_one_of_the_same_name_takes_their_place() {
        let mine = PolicyConfig { limit: 50, ..preset("login", 1, Span::mins(1), &["ip"]) };
        let config = RateLimitsConfig { policies: vec![mine], ..RateLimitsConfig::default() };
        let all = policies(&config).unwrap();
        let names: Vec<&str> = all.iter().map(|policy| policy.name.as_str()).collect();
        assert_eq!(names, ["api", "burst", "login", "password-reset", "register"]);
        assert_eq!((all[2].limit, all[2].by_text()), (50, vec![String::from("ip")]));
    }

    #[test]
    fn a_setting_that_makes_no_policy_is_told() {
        let good = preset("mine", 5, Span::mins(1), &["ip"]);
        for bad in [
            PolicyConfig { name: String::from("My policy"), ..good.clone() },
            PolicyConfig { limit: 0, ..good.clone() },
            PolicyConfig { limit: 101, ..good.clone() },
            PolicyConfig { burst: 5, ..good.clone() },
            PolicyConfig { window: Span::millis(0), ..good.clone() },
            PolicyConfig { by: Vec::new(), ..good.clone() },
            PolicyConfig { by: vec![String::from("ip+shoe")], ..good.clone() },
        ] {
            assert!(Policy::new(&bad).is_err(), "{bad:?}");
        }
        let twice = RateLimitsConfig { policies: vec![good.clone(), good], ..RateLimitsConfig::default() };
        assert!(policies(&twice).is_err());
    }

    #[test]
    fn whoever_is_the_same_counts_as_one() {
        let subject = |ip: &str, email: &str| Subject {
            ip: Some(ip.parse().unwrap()),
            email: Some(email.to_owned()),
            ..Subject::default()
        };
        let digest = |subject: &Subject| subject.digest("login", &[Field::Ip, Field::Email]).unwrap();
        let one = digest(&subject("2001:db8::1", "Ada@Example.com "));
        assert_eq!(one, digest(&subject("2001:db8::ffff", "ada@example.com")));
        assert_ne!(one, digest(&subject("2001:db8:0:1::1", "ada@example.com")));
        assert_ne!(one, digest(&subject("2001:db8::1", "bob@example.com")));
        assert_eq!(Subject::default().digest("login", &[Field::Ip]), Err(PolicyError::Missing("ip")));
        assert_eq!(subject("::1", " ").digest("x", &[Field::Email]), Err(PolicyError::Value("email")));
    }
}
