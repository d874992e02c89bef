//! Addresses and networks, and who counts as one client.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Leading bits that every IPv4 address has in common when it is written as IPv6 (RFC 4291 section 2.5.5.2).
const MAPPED_BITS: u32 = 96;
/// Leading bits of an IPv6 address that name a customer.
const CUSTOMER_BITS: u32 = 64;

/// What limits count `address` as: an IPv4 address itself, of an IPv6 address its /64, which is what one customer has
/// (RFC 6177). An IPv4 address written as IPv6 is the IPv4 address.
pub fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// An address or a network in CIDR notation (RFC 4632, RFC 4291).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    base: u128,
    /// Leading bits that count, of 128.
    bits: u32,
}

/// A text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an IP address or network")]
pub struct BadNetwork;

impl Network {
    /// What `address` counts as, see [`counted_as`]: an IPv4 address alone, an IPv6 address with its /64.
    pub fn of_client(address: IpAddr) -> Self {
        let bits = if address.to_canonical().is_ipv4() { u128::BITS } else { CUSTOMER_BITS };
        Self::around(address, bits)
    }

    /// The network of `address` in which the first `bits` of 128 are the same; an IPv4 address counts as mapped into IPv6.
    pub fn around(address: IpAddr, bits: u32) -> Self {
        let bits = bits.min(u128::BITS);
        Self { base: widened(address) & mask(bits), bits }
    }

    /// Reads who is meant by `text`: a network, or an address, of which IPv6 means its /64.
    ///
    /// # Errors
    /// It is neither.
    pub fn client(text: &str) -> Result<Self, BadNetwork> {
        match text.trim().parse::<IpAddr>() {
            Ok(address) => Ok(Self::of_client(address)),
            Err(_) => text.parse(),
        }
    }

    /// Whether `address` lies in the network; an IPv4 address mapped into IPv6 counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        (widened(address) ^ self.base) & mask(self.bits) == 0
    }

    /// Whether the two have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        (self.base ^ other.base) & mask(self.bits.min(other.bits)) == 0
    }

    /// Leading bits that count, of 128.
    pub const fn bits(&self) -> u32 {
        self.bits
    }

    /// The network in 17 bytes: address, then bits. Their order is that of networks.
    pub fn to_bytes(self) -> [u8; 17] {
        let mut out = [0; 17];
        for (to, from) in out.iter_mut().zip(self.base.to_be_bytes().into_iter().chain([self.bits.to_le_bytes()[0]])) {
            *to = from;
        }
        out
    }

    /// What [`Self::to_bytes`] has written.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (base, rest) = bytes.split_first_chunk::<16>()?;
        let bits = u32::from(*rest.first().filter(|bits| rest.len() == 1 && **bits <= 128)?);
        Some(Self { base: u128::from_be_bytes(*base) & mask(bits), bits })
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, bits) = text.trim().split_once('/').map_or((text.trim(), None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().map_err(|_no_address| BadNetwork)?;
        let (width, prefix) = if address.is_ipv4() { (32u32, MAPPED_BITS) } else { (128, 0) };
        let bits = match bits {
            None => width,
            Some(bits) if !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= width).ok_or(BadNetwork)?
            }
            Some(_) => return Err(BadNetwork),
        };
        Ok(Self::around(address, bits.saturating_add(prefix)))
    }
}

/// As [`Network::client`] reads it.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = Ipv6Addr::from_bits(self.base);
        match (address.to_ipv4_mapped(), self.bits.checked_sub(MAPPED_BITS)) {
            (Some(address), Some(32)) => write!(f, "{address}"),
            (Some(address), Some(bits)) => write!(f, "{address}/{bits}"),
            _ => write!(f, "{address}/{}", self.bits),
        }
    }
}

/// The bits of `address` as IPv6; IPv4 is mapped (RFC 4291 section 2.5.5.2).
fn widened(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn mask(bits: u32) -> u128 {
    u128::MAX.checked_shl(128u32.saturating_sub(bits)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_customer_counts_once() {
        let counted = |text: &str| counted_as(text.parse().unwrap()).to_string();
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted("::ffff:1.2.3.4"), "1.2.3.4");
        assert_eq!(counted("1.2.3.4"), "1.2.3.4");
    }

    #[test]
    fn networks_contain_what_their_prefix_says() {
        for (network, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), inside, "{network} {address}");
        }
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "x/8", "10.0.0/8"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn who_is_meant_is_an_address_or_the_64_of_an_ipv6_customer() {
        for (text, shown) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.77/24", "192.0.2.0/24"),
            ("2001:db8::1", "2001:db8::/64"),
            ("2001:db8::1/128", "2001:db8::1/128"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
        ] {
            let network = Network::client(text).unwrap();
            assert_eq!(network.to_string(), shown);
            assert_eq!(Network::client(shown), Ok(network), "{shown} reads as itself");
        }
        assert!(Network::client("example.com").is_err());
    }

    #[test]
    fn networks_overlap_when_one_holds_the_other() {
        let overlap = |a: &str, b: &str| a.parse::<Network>().unwrap().overlaps(&b.parse().unwrap());
        assert!(overlap("10.0.0.0/8", "10.1.2.3") && overlap("10.1.2.3", "10.0.0.0/8") && overlap("::/0", "10.0.0.1"));
        assert!(!overlap("10.0.0.0/8", "11.0.0.0/8"));
    }

    proptest::proptest! {
        #[test]
        fn a_network_comes_back_from_its_bytes_and_its_text(base: u128, bits in 0..=128_u32) {
            let network = Network::around(IpAddr::V6(Ipv6Addr::from_bits(base)), bits);
            proptest::prop_assert_eq!(Network::from_bytes(&network.to_bytes()), Some(network));
            proptest::prop_assert_eq!(network.to_string().parse(), Ok(network));
        }
    }
}
