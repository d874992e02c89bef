//! Where a Redis is, as its URLs say.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use percent_encoding::percent_decode_str;

use crate::base::Secret;

/// The port when none is named.
const PORT: u16 = 6379;

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

/// A server, who one is there, and a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub reach: Reach,
    pub user: Option<String>,
    pub password: Option<Secret<String>>,
    pub db: Option<u32>,
}

/// Without user and password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reach {
            Reach::Tcp { host, port, tls } => {
                let (scheme, colon) = (if *tls { "rediss" } else { "redis" }, host.contains(':'));
                let (open, close) = if colon { ("[", "]") } else { ("", "") };
                write!(f, "{scheme}://{open}{host}{close}:{port}")
            }
            Reach::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

fn decoded(text: &str) -> anyhow::Result<String> {
    // The text may be a password: it is not repeated.
    let text = percent_decode_str(text).decode_utf8();
    Ok(text.map_err(|_invalid| anyhow::anyhow!("the address is no UTF-8"))?.into_owned())
}

impl Address {
    /// Reads a URL. Errors never repeat it, as it may hold a password.
    pub fn parse(url: &str) -> anyhow::Result<Self> {
        const FORMS: &str = "an address begins with redis://, rediss:// or unix://";
        let (scheme, rest) = url.split_once("://").context(FORMS)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (place, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (login, host) = place.rsplit_once('@').unwrap_or(("", place));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let given = |text: String| (!text.is_empty()).then_some(text);
        let (user, password) = (given(decoded(user)?), given(decoded(password)?).map(Secret::new));
        let asked = query.split('&').find_map(|pair| pair.strip_prefix("db="));
        let (reach, db) = match scheme {
            "unix" if host.is_empty() && path.len() > 1 => (Reach::Unix(PathBuf::from(decoded(path)?)), asked),
            "unix" => bail!("a Unix socket is named by its whole path: unix:///run/redis.sock"),
            "redis" | "rediss" => {
                let (host, port) = host_and_port(host)?;
                let db = path.strip_prefix('/').filter(|db| !db.is_empty());
                (Reach::Tcp { host, port, tls: scheme == "rediss" }, db.or(asked))
            }
            _ => bail!(FORMS),
        };
        let db = db.map(str::parse).transpose().context("the database in the address is no number")?;
        Ok(Self { reach, user, password, db })
    }
}

fn host_and_port(text: &str) -> anyhow::Result<(String, u16)> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').context("the port does not follow a colon")?)),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(PORT), str::parse).context("the port in the address is no port")?;
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_address_is_read() {
        let tcp = |host: &str, port, tls| Reach::Tcp { host: host.to_owned(), port, tls };
        for (url, reach, login, db) in [
            ("redis://h", tcp("h", 6379, false), (None, None), None),
            ("rediss://me:p%40ss@h.example:1/3", tcp("h.example", 1, true), (Some("me"), Some("p@ss")), Some(3)),
            ("redis://:hunter2@[::1]:7/", tcp("::1", 7, false), (None, Some("hunter2")), None),
            ("redis://h?db=2", tcp("h", 6379, false), (None, None), Some(2)),
            ("unix:///run/r.sock", Reach::Unix("/run/r.sock".into()), (None, None), None),
            ("unix://:x@/run/r.sock?db=4", Reach::Unix("/run/r.sock".into()), (None, Some("x")), Some(4)),
        ] {
            let found = Address::parse(url).unwrap();
            let password = found.password.as_ref().map(|password| password.expose().as_str());
            assert_eq!((found.reach.clone(), (found.user.as_deref(), password), found.db), (reach, login, db), "{url}");
            assert!(!found.to_string().contains("hunter2") && !format!("{found:?}").contains("hunter2"));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for url in ["hunter2", "http://:hunter2@h", "redis://:hunter2@h:x", "redis://:hunter2@h/x", "unix://hunter2"] {
            let told = format!("{:#}", Address::parse(url).unwrap_err());
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}
