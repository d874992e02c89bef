//! Who may ask a site at all, and how often: address lists and rate zones.
//!
//! A site that uses none of it has no [`Gate`], and its requests pass here without a lock or a look-up. The address is
//! the client's own, as [`super::client`] found it; never one a client made up.
//!
//! Start reading at [`Gate::admit`]; [`zones`] has the settings, [`table`] the counters.

pub mod table;
pub mod zones;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use self::table::{RateTable, Subject};
use self::zones::{Zone, ZoneKey};
use super::client::Network;
use super::config::SiteConfig;
use super::error::ConfigError;
use super::pages::{self, Form};
use crate::base::network::counted_as;
use crate::http::Body;
use crate::limits::Verdict;

const RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RATELIMIT_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// The rules of one site.
#[derive(Clone, Debug)]
pub struct Gate {
    allow: Vec<Network>,
    deny: Vec<Network>,
    zones: Vec<Zone>,
    table: Arc<RateTable>,
}

/// Why a request goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barred {
    /// The address is on the deny-list, or not on the allow-list: 403.
    Address,
    /// A zone's rate is used up: 429.
    Rate {
        /// Most at once.
        limit: u32,
        /// When to come again.
        verdict: Verdict,
    },
}

impl Gate {
    /// The gate of `site`, `None` when it has no rule. `everywhere` are networks denied to every site; `zones` are all
    /// there are, whose counters `table` holds.
    ///
    /// # Errors
    /// A network or a zone that is none.
    pub fn of(
        site: &SiteConfig,
        everywhere: &[String],
        zones: &[Zone],
        table: &Arc<RateTable>,
    ) -> Result<Option<Box<Self>>, ConfigError> {
        let allow = networks("edge.sites.allow", &site.allow)?;
        let mut deny = networks("edge.deny", everywhere)?;
        deny.extend(networks("edge.sites.deny", &site.deny)?);
        let named = |name: &String| {
            zones.iter().find(|zone| zone.name == *name).cloned().ok_or_else(|| ConfigError::Value {
                key: "edge.sites.rates",
                value: name.clone(),
                allowed: "the name of a zone: api, booking, general, admin, or one of edge.zones".to_owned(),
            })
        };
        let zones = site.rates.iter().map(named).collect::<Result<Vec<_>, _>>()?;
        let empty = allow.is_empty() && deny.is_empty() && zones.is_empty();
        Ok((!empty).then(|| Box::new(Self { allow, deny, zones, table: Arc::clone(table) })))
    }

    /// Whether a request of `address` goes on; `now` is monotonic. The zones are asked one after the other, and those
    /// before the one that refuses have counted the request, as in nginx.
    ///
    /// # Errors
    /// [`Barred`].
    pub fn admit(&self, address: IpAddr, headers: &HeaderMap, now: Duration) -> Result<(), Barred> {
        let within = |networks: &[Network]| networks.iter().any(|network| network.contains(address));
        if within(&self.deny) || (!self.allow.is_empty() && !within(&self.allow)) {
            return Err(Barred::Address);
        }
        let now_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        for zone in &self.zones {
            let subject = match &zone.key {
                ZoneKey::Header(name) => headers.get(name).map(|value| Subject::Text(value.as_bytes())),
                ZoneKey::Ip => None,
            };
            let subject = subject.unwrap_or_else(|| Subject::Address(counted_as(address)));
            let verdict = self.table.attempt(zone.number, &subject, &zone.rate, now_us);
            if !verdict.allowed {
                return Err(Barred::Rate { limit: zone.rate.burst, verdict });
            }
        }
        Ok(())
    }
}

impl Gate {
    /// Its rules for a request of `from`, in words.
    pub fn explain(&self, from: Option<IpAddr>) -> Vec<String> {
        let within = |networks: &[Network], address| networks.iter().any(|network| network.contains(address));
        let mut out = Vec::new();
        if !self.allow.is_empty() || !self.deny.is_empty() {
            let shut =
                from.map(|from| within(&self.deny, from) || (!self.allow.is_empty() && !within(&self.allow, from)));
            out.push(match shut {
                None => "addresses: only some are served (edge.deny, edge.sites.allow, edge.sites.deny)".to_owned(),
                Some(true) => "addresses: this one is not served, answered 403".to_owned(),
                Some(false) => "addresses: this one is served".to_owned(),
            });
        }
        for zone in &self.zones {
            out.push(format!("rate zone: {}, {} at once", zone.name, zone.rate.burst));
        }
        out
    }
}

impl Barred {
    /// The answer. A 429 says when to come again: `Retry-After` (RFC 9110 section 10.2.3) and the three `RateLimit`
    /// fields clients know (draft-ietf-httpapi-ratelimit-headers-07), in whole seconds.
    pub fn answer(self, form: Form) -> Response<Body> {
        match self {
            Self::Address => pages::page(StatusCode::FORBIDDEN, "This address is not served here.", form),
            Self::Rate { limit, verdict } => {
                let text = "Too many requests. Please try again a little later.";
                let mut response = pages::page(StatusCode::TOO_MANY_REQUESTS, text, form);
                let headers = response.headers_mut();
                headers.insert(RETRY_AFTER, HeaderValue::from(verdict.retry_ms.div_ceil(1000).max(1)));
                headers.insert(RATELIMIT_LIMIT, HeaderValue::from(limit));
                headers.insert(RATELIMIT_REMAINING, HeaderValue::from(verdict.remaining));
                headers.insert(RATELIMIT_RESET, HeaderValue::from(verdict.reset_ms.div_ceil(1000)));
                response
            }
        }
    }
}

/// Reads a list of addresses and networks.
///
/// # Errors
/// The first that is none, under `key`.
pub fn networks(key: &'static str, texts: &[String]) -> Result<Vec<Network>, ConfigError> {
    let parse = |text: &String| {
        text.parse().map_err(|_bad| ConfigError::Value {
            key,
            value: text.clone(),
            allowed: "an address or a network such as 10.0.0.0/8".to_owned(),
        })
    };
    texts.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::config::EdgeConfig;

    fn gate(settings: &str) -> Option<Box<Gate>> {
        let config: EdgeConfig = toml::from_str(settings).unwrap();
        let zones = zones::zones(&config.zones).unwrap();
        let site = config.sites.first().cloned().unwrap_or_default();
        Gate::of(&site, &config.deny, &zones, &Arc::new(RateTable::new(1_000))).unwrap()
    }

    fn admit(gate: &Gate, address: &str, key: Option<&'static str>) -> Result<(), Barred> {
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            headers.insert("x-api-key", HeaderValue::from_static(key));
        }
        gate.admit(address.parse().unwrap(), &headers, Duration::from_secs(100))
    }

    #[test]
    fn a_site_without_rules_has_no_gate() {
        assert!(gate("").is_none());
    }

    #[test]
    fn deny_wins_over_allow_and_allow_shuts_out_the_rest() {
        let gate = gate(
            "deny = [\"192.0.2.66\"]\n[[sites]]\nallow = [\"192.0.2.0/24\", \"::1\"]\ndeny = [\"192.0.2.128/25\"]",
        )
        .unwrap();
        for (address, admitted) in [
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("::1", true),
            ("192.0.2.200", false),
            ("192.0.2.66", false),
            ("198.51.100.1", false),
        ] {
            assert_eq!(admit(&gate, address, None).is_ok(), admitted, "{address}");
        }
    }

    #[test]
    fn a_zone_lets_the_rate_and_its_burst_through() {
        let gate = gate("[[sites]]\nrates = [\"booking\"]").unwrap();
        for _ in 0..6 {
            admit(&gate, "2001:db8::1", None).unwrap();
        }
        let Err(Barred::Rate { limit, verdict }) = admit(&gate, "2001:db8::2", None) else {
            panic!("the same /64 is one client")
        };
        assert_eq!((limit, verdict.remaining, verdict.retry_ms), (6, 0, 200));
        admit(&gate, "2001:db8:0:1::1", None).unwrap();
    }

    #[test]
    fn a_header_zone_counts_by_value_and_by_address_without_one() {
        let zone = "[[zones]]\nname = \"keys\"\nrequests = 1\nburst = 0\nkey = \"header:X-Api-Key\"\n";
        let gate = gate(&format!("{zone}[[sites]]\nrates = [\"keys\"]")).unwrap();
        admit(&gate, "192.0.2.1", Some("a")).unwrap();
        admit(&gate, "192.0.2.1", Some("b")).unwrap();
        assert!(admit(&gate, "192.0.2.9", Some("a")).is_err());
        admit(&gate, "192.0.2.1", None).unwrap();
        assert!(admit(&gate, "192.0.2.1", None).is_err());
    }
}
