//! Where a door listens.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An address to listen on, written `127.0.0.1:6379` or `[::]:443`; port 0 takes a free one; the empty text turns the
/// door off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listen(pub Option<SocketAddr>);

impl Listen {
    /// A door that is off.
    pub const OFF: Self = Self(None);

    /// IPv4 loopback at `port`.
    pub const fn loopback(port: u16) -> Self {
        Self(Some(SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)))
    }

    /// The address, unless the door is off.
    pub const fn address(self) -> Option<SocketAddr> {
        self.0
    }

    /// Whether only this machine can reach the address; true for a door that is off.
    pub fn is_loopback(self) -> bool {
        self.0.is_none_or(|address| address.ip().is_loopback())
    }
}

/// Why a text is no [`Listen`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no address to listen on: write an IP address and a port such as `127.0.0.1:8080` or `[::]:443`, or nothing to turn it off"
)]
pub struct ListenError(String);

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        match text.trim() {
            "" => Ok(Self::OFF),
            text => {
                text.parse().map(|address| Self(Some(address))).map_err(|_not_an_address| ListenError(text.to_owned()))
            }
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |address| address.fmt(f))
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_text_turns_the_door_off() {
        assert_eq!("".parse(), Ok(Listen::OFF));
        assert!(Listen::OFF.is_loopback());
    }

    #[test]
    fn addresses_need_ip_and_port() {
        assert_eq!("127.0.0.1:80".parse(), Ok(Listen::loopback(80)));
        assert!(!"[::]:443".parse::<Listen>().unwrap().is_loopback());
        for text in ["localhost:80", "80", "127.0.0.1", ":80", "127.0.0.1:99999"] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }
}
