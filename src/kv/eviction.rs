//! What a database does when memory is full: the policies of Redis, one for each database.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::config::DATABASES;

/// What happens to the keys of a database when memory is full, by the names Redis gives to `maxmemory-policy`
/// (redis.io, "Key eviction").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// No key is lost; values not used for long move to disk.
    #[default]
    NoEviction,
    /// Keys not used for long are deleted.
    AllKeysLru,
    /// Keys seldom used are deleted.
    AllKeysLfu,
    /// Any keys are deleted.
    AllKeysRandom,
    /// As [`Policy::AllKeysLru`], among keys with an expiry; the values of others move to disk.
    VolatileLru,
    /// As [`Policy::AllKeysLfu`], among keys with an expiry; the values of others move to disk.
    VolatileLfu,
    /// As [`Policy::AllKeysRandom`], among keys with an expiry; the values of others move to disk.
    VolatileRandom,
    /// Keys with the nearest expiry are deleted; the values of others move to disk.
    VolatileTtl,
}

/// A text that names no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no eviction policy: write noeviction, allkeys-lru, allkeys-lfu, allkeys-random, volatile-lru, \
     volatile-lfu, volatile-random or volatile-ttl"
)]
pub struct PolicyError(String);

impl Policy {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::NoEviction,
        Self::AllKeysLru,
        Self::AllKeysLfu,
        Self::AllKeysRandom,
        Self::VolatileLru,
        Self::VolatileLfu,
        Self::VolatileRandom,
        Self::VolatileTtl,
    ];

    /// The name Redis gives it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoEviction => "noeviction",
            Self::AllKeysLru => "allkeys-lru",
            Self::AllKeysLfu => "allkeys-lfu",
            Self::AllKeysRandom => "allkeys-random",
            Self::VolatileLru => "volatile-lru",
            Self::VolatileLfu => "volatile-lfu",
            Self::VolatileRandom => "volatile-random",
            Self::VolatileTtl => "volatile-ttl",
        }
    }

    /// Whether it deletes keys at all.
    pub const fn evicts(self) -> bool {
        !matches!(self, Self::NoEviction)
    }

    /// Whether only keys with an expiry are deleted.
    pub const fn volatile(self) -> bool {
        matches!(self, Self::VolatileLru | Self::VolatileLfu | Self::VolatileRandom | Self::VolatileTtl)
    }

    /// Whether the number of uses matters.
    pub const fn counts_uses(self) -> bool {
        matches!(self, Self::AllKeysLfu | Self::VolatileLfu)
    }
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let named = Self::ALL.into_iter().find(|policy| policy.name().eq_ignore_ascii_case(text));
        named.ok_or_else(|| PolicyError(text.to_owned()))
    }
}

/// The policy of each database that has another than [`Policy::NoEviction`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Eviction(BTreeMap<u8, Policy>);

impl Eviction {
    /// One policy for one database; for tests and for settings made by hand.
    #[must_use]
    pub fn with(mut self, db: u8, policy: Policy) -> Self {
        self.0.insert(db, policy);
        self
    }

    /// By database number.
    pub fn policies(&self) -> [Policy; DATABASES as usize] {
        std::array::from_fn(|db| self.0.get(&(db as u8)).copied().unwrap_or_default())
    }
}

impl Eviction {
    fn read<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        let mut out = BTreeMap::new();
        for (number, name) in pairs {
            let db = number.trim().parse().ok().filter(|db| *db < DATABASES).ok_or_else(|| {
                format!("`{}` is no database: they are numbered 0 to {}", number.trim(), DATABASES - 1)
            })?;
            out.insert(db, name.trim().parse().map_err(|error: PolicyError| error.to_string())?);
        }
        Ok(Self(out))
    }
}

impl<'de> Deserialize<'de> for Eviction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Text(String),
            Table(BTreeMap<String, String>),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Text(text) => Self::read(
                text.split(',')
                    .filter(|part| !part.trim().is_empty())
                    .map(|part| part.split_once('=').unwrap_or((part, ""))),
            ),
            Raw::Table(table) => Self::read(table.iter().map(|(db, policy)| (db.as_str(), policy.as_str()))),
        }
        .map_err(serde::de::Error::custom)
    }
}

impl Serialize for Eviction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parts: Vec<String> = self.0.iter().map(|(db, policy)| format!("{db}={}", policy.name())).collect();
        serializer.serialize_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_databases_and_policies() {
        #[derive(Deserialize, Serialize)]
        struct Section {
            eviction: Eviction,
        }
        let section: Section = toml::from_str("eviction = \"0=allkeys-lru, 3 = volatile-ttl\"").unwrap();
        let policies = section.eviction.policies();
        assert_eq!(
            (policies[0], policies[1], policies[3]),
            (Policy::AllKeysLru, Policy::NoEviction, Policy::VolatileTtl)
        );
        let again: Section = toml::from_str(&toml::to_string(&section).unwrap()).unwrap();
        assert_eq!(again.eviction, section.eviction);
        let table: Section = toml::from_str("eviction.0 = \"allkeys-lru\"\neviction.3 = \"volatile-ttl\"").unwrap();
        assert_eq!(table.eviction, section.eviction);
        for bad in [
            "eviction = \"0\"",
            "eviction = \"16=noeviction\"",
            "eviction.16 = \"noeviction\"",
            "eviction.x = \"noeviction\"",
            "eviction.0 = \"lru\"",
        ] {
            assert!(toml::from_str::<Section>(bad).is_err(), "{bad}");
        }
    }
}
