//! Networks of addresses, as allow lists and trusted proxies name them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize, de};

/// Bits in front of the IPv4 address in an IPv4-mapped IPv6 address (RFC 4291 2.5.5.2).
const MAPPED_PREFIX_BITS: u8 = 96;

/// A set of networks. Addresses and networks are compared in one form: what is an IPv4 address
/// within an IPv6 one is the IPv4 address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Networks(Vec<IpNet>);

/// Why a text names no network. The message says what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    #[error(
        "not a network: {0:?}; write an address or one with a prefix, such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32"
    )]
    Malformed(String),
    #[error("{given:?} is an address within {network}; write that, or the address alone")]
    HostBits { given: String, network: IpNet },
}

impl Networks {
    /// The networks that `texts` name: `10.0.0.0/8`, `2001:db8::/32`, `192.0.2.7`.
    ///
    /// # Errors
    /// When one of them is not a network.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, NetworkError> {
        let mut networks = Self::default();
        texts.into_iter().try_for_each(|text| networks.add(text))?;
        Ok(networks)
    }

    /// Adds the network that `text` names.
    ///
    /// # Errors
    /// When it is not a network.
    pub fn add(&mut self, text: &str) -> Result<(), NetworkError> {
        parse_network(text).map(|network| self.0.push(network))
    }

    /// Each of them as [`add`](Self::add) takes it.
    pub fn texts(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(ToString::to_string)
    }

    /// Whether `address` is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether one of them holds every address there is.
    pub fn has_everybody(&self) -> bool {
        self.0.iter().any(|network| network.prefix_len() == 0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn parse_network(text: &str) -> Result<IpNet, NetworkError> {
    let given = text.trim();
    if let Ok(address) = given.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let network: IpNet = given.parse().map_err(|_| NetworkError::Malformed(text.to_owned()))?;
    if network.trunc() != network {
        let (given, network) = (given.to_owned(), network.trunc());
        return Err(NetworkError::HostBits { given, network });
    }
    Ok(canonical(network))
}

fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let inner = v6.prefix_len().checked_sub(MAPPED_PREFIX_BITS);
    let mapped = v6.addr().to_ipv4_mapped().zip(inner);
    let v4 = mapped.and_then(|(address, bits)| Ipv4Net::new(address, bits).ok());
    v4.map_or(network, IpNet::V4)
}

/// The address that stands for a sender where senders are counted: an IPv4 address, or the /64 of an IPv6
/// address, since one host may choose any address of its /64 (RFC 6177).
pub fn sender_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// The site that an address belongs to: an IPv4 address alone, or the /48 that an IPv6 address is in,
/// of which one customer may have every /64 (RFC 6177).
pub fn site_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

impl FromStr for Networks {
    type Err = NetworkError;

    /// Networks separated by commas.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        Self::parse(text.split(',').filter(|part| !part.trim().is_empty()))
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, network) in self.0.iter().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            write!(f, "{separator}{network}")?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        Self::parse(texts.iter().map(String::as_str)).map_err(de::Error::custom)
    }
}

/// The host and the port of an authority (RFC 3986 3.2). `None` when what follows the host's colon is
/// no port from 0 to 65535. The host itself is not checked.
pub fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    // An IPv6 address has colons within its brackets.
    let host_min = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let Some(colon) = authority[host_min..].find(':') else { return Some((authority, None)) };
    let (host, port) = authority.split_at(host_min + colon);
    let digits = &port[1..];
    // `parse` would take a sign as well.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((host, Some(digits.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(text: &str) -> Networks {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_in_the_networks_that_hold_them() {
        for (list, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.0.0.0"),
            ("::ffff:10.0.0.0/104", "10.255.0.1", "11.0.0.0"),
            ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::1, 127.0.0.0/8", "127.3.2.1", "128.0.0.1"),
            ("0.0.0.0/0", "203.0.113.1", "2001:db8::1"),
            ("::/0", "2001:db8::1", "203.0.113.1"),
        ] {
            let networks = networks(list);
            assert!(networks.contains(inside.parse().unwrap()), "{inside} in {list}");
            assert!(!networks.contains(outside.parse().unwrap()), "{outside} in {list}");
        }
        assert!(!Networks::default().contains("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn an_invalid_network_is_refused_with_the_form_to_write() {
        for text in [
            "10.0.0.0/33",
            "10.0.0/8",
            "example.com",
            "10.0.0.0/-1",
            "::1/129",
            "/8",
            "10.0.0.1:80",
        ] {
            let error = text.parse::<Networks>().unwrap_err();
            assert_eq!(error, NetworkError::Malformed(text.to_owned()));
        }
        let error = "10.0.0.1/8".parse::<Networks>().unwrap_err().to_string();
        assert!(error.contains("within 10.0.0.0/8"), "{error}");
        assert!(Networks::parse([""]).is_err());
    }

    #[test]
    fn networks_read_back_what_they_print() {
        let list = networks("192.0.2.7,10.0.0.0/8 , 2001:db8::/32,");
        assert_eq!(list.to_string(), "192.0.2.7/32, 10.0.0.0/8, 2001:db8::/32");
        assert_eq!(networks(&list.to_string()), list);
        let json = serde_json::to_string(&list).unwrap();
        assert_eq!(json, r#"["192.0.2.7/32","10.0.0.0/8","2001:db8::/32"]"#);
        assert_eq!(serde_json::from_str::<Networks>(&json).unwrap(), list);
    }

    #[test]
    fn one_host_is_one_sender() {
        for (address, sender, site) in [
            ("192.0.2.7", "192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::", "2001:db8:1::"),
            ("::1", "::", "::"),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(sender_of(address), sender.parse::<IpAddr>().unwrap());
            assert_eq!(site_of(address), site.parse::<IpAddr>().unwrap());
        }
    }

    #[test]
    fn an_authority_has_a_port_up_to_65535_or_none() {
        for (authority, expected) in [
            ("a.example", Some(("a.example", None))),
            ("a.example:0", Some(("a.example", Some(0)))),
            ("a.example:65535", Some(("a.example", Some(65535)))),
            ("[::1]", Some(("[::1]", None))),
            ("[::1]:9000", Some(("[::1]", Some(9000)))),
            ("a.example:65536", None),
            ("a.example:85218", None),
            ("[::1]:85218", None),
            ("a.example:", None),
            ("a.example:+80", None),
            ("a.example:80:90", None),
        ] {
            assert_eq!(split_port(authority), expected, "{authority}");
        }
    }
}
