//! Rate zones as settings name them.

use http::HeaderName;

use crate::base::Span;
use crate::edge::error::ConfigError;
use crate::limits::gcra::Rate;
use crate::settings;

/// Most zones.
const MOST: usize = 256;

settings! {
    /// A rate zone: how often one client may ask the sites that name it in `rates`. Sites that name the same zone share
    /// its counters.
    pub struct ZoneConfig {
        /// Its name. Four are there from the start: `api` (10 a second, burst 20), `booking` (5, 5), `general` (30, 50)
        /// and `admin` (20, 20), by address. One of the same name takes their place.
        pub name: String = String::new(),
        /// How many requests in each `per`.
        pub requests: u32 = 10,
        /// The time `requests` counts for.
        pub per: Span = Span::secs(1),
        /// How many more may come at once before 429 is answered (as `burst` with `nodelay` in nginx).
        pub burst: u32 = 20,
        /// Who counts as one: `ip` (an IPv6 client is its /64), or `header:<name>`, such as `header:X-Api-Key`; a request
        /// without that header counts by address. A client can make up header values: name a zone by `ip` beside it.
        pub key: String = String::from("ip"),
    }
}

/// One zone, ready.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Its name.
    pub name: String,
    /// Tells its counters from other zones'; the same for the same name, whatever the settings around it.
    pub number: u64,
    /// The rate.
    pub rate: Rate,
    /// Who counts as one.
    pub key: ZoneKey,
}

/// Who counts as one.
#[derive(Clone, Debug)]
pub enum ZoneKey {
    /// The client's address.
    Ip,
    /// A header's value.
    Header(HeaderName),
}

/// The presets and what `own` adds or replaces.
///
/// # Errors
/// The first setting that is wrong.
pub fn zones(own: &[ZoneConfig]) -> Result<Vec<Zone>, ConfigError> {
    let preset =
        |name: &str, requests, burst| ZoneConfig { name: name.to_owned(), requests, burst, ..Default::default() };
    let presets = [preset("api", 10, 20), preset("booking", 5, 5), preset("general", 30, 50), preset("admin", 20, 20)];
    let wrong = |key, value: &str, allowed: &str| {
        Err(ConfigError::Value { key, value: value.to_owned(), allowed: allowed.to_owned() })
    };
    if own.len() > MOST {
        return wrong("edge.zones", &own.len().to_string(), "at most 256 zones");
    }
    let mut all: Vec<Zone> = Vec::new();
    for (config, from_file) in presets.iter().map(|zone| (zone, false)).chain(own.iter().map(|zone| (zone, true))) {
        let name = &config.name;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            return wrong("edge.zones.name", name, "letters, digits, - and _");
        }
        if from_file && own.iter().filter(|other| other.name == *name).count() > 1 {
            return wrong("edge.zones.name", name, "each name once");
        }
        if config.requests == 0 || config.requests > 1_000_000 {
            return wrong("edge.zones.requests", &config.requests.to_string(), "1 to 1000000");
        }
        if config.burst > 1_000_000 {
            return wrong("edge.zones.burst", &config.burst.to_string(), "0 to 1000000");
        }
        if !(Span::secs(1)..=Span::days(1)).contains(&config.per) {
            return wrong("edge.zones.per", &config.per.to_string(), "1s to 1d");
        }
        let key = match config.key.split_once(':') {
            None if config.key == "ip" => ZoneKey::Ip,
            Some(("header", header)) => match HeaderName::from_bytes(header.trim().as_bytes()) {
                Ok(header) => ZoneKey::Header(header),
                Err(_) => return wrong("edge.zones.key", &config.key, "header: and the name of a header"),
            },
            _ => return wrong("edge.zones.key", &config.key, "ip or header:<name>"),
        };
        let period_us = u64::try_from(config.per.duration().as_micros()).unwrap_or(u64::MAX);
        let rate = Rate { burst: config.burst + 1, count: config.requests, period_us };
        all.retain(|zone| zone.name != *name);
        all.push(Zone { name: name.clone(), number: 0, rate, key });
    }
    for zone in &mut all {
        let hash = blake3::hash(zone.name.as_bytes());
        zone.number = hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::EdgeConfig;

    #[test]
    fn own_zones_add_to_the_presets_or_take_their_place() {
        let text = "[[zones]]\nname = \"api\"\nrequests = 100\n[[zones]]\nname = \"login\"\nrequests = 5\nper = \"1m\"";
        let config: EdgeConfig = toml::from_str(text).unwrap();
        let zones = zones(&config.zones).unwrap();
        let mut names: Vec<&str> = zones.iter().map(|zone| zone.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["admin", "api", "booking", "general", "login"]);
        let api = zones.iter().find(|zone| zone.name == "api").unwrap();
        assert_eq!(api.rate, Rate { burst: 21, count: 100, period_us: 1_000_000 });
    }
}
