//! Just enough of URLs: the address of a server, and the public URL that webhooks begin with.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The parts of an `http` or `https` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    pub is_https: bool,
    /// As it was written, an IPv6 address without its brackets.
    pub host: String,
    pub port: Option<u16>,
    /// Empty, or with the slash it begins with.
    pub path: String,
}

impl HttpUrl {
    /// Whether only this machine can reach the host: a loopback address or name, or the address
    /// that stands for all interfaces and leads nowhere from elsewhere.
    pub fn is_local(&self) -> bool {
        let name = self.host.to_ascii_lowercase();
        match name.parse::<IpAddr>() {
            Ok(address) => {
                let address = address.to_canonical();
                address.is_loopback() || address.is_unspecified()
            }
            Err(_) => name == "localhost" || name.ends_with(".localhost"),
        }
    }
}

impl FromStr for HttpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| format!("not a URL: {text:?}; it begins with http:// or https://"))?;
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(format!("not an http or https URL: {text:?}")),
        };
        if rest.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
            return Err(format!("a URL has no spaces: {text:?}"));
        }
        let path_start = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path_start);
        if authority.contains('@') {
            return Err("a URL with a user or password in it is refused".to_owned());
        }
        let (host, port) = split_authority(authority)
            .ok_or_else(|| format!("no valid host and port: {authority:?}"))?;
        Ok(Self { is_https, host: host.to_owned(), port, path: path.to_owned() })
    }
}

fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
    } else {
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
        (!host.is_empty() && host.chars().all(is_name)).then_some(())?;
        (host, port)
    };
    match port {
        None => Some((host, None)),
        Some(digits) => Some((host, Some(digits.parse().ok()?))),
    }
}

/// What webhook URLs begin with, as senders see it. Never ends in a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// The URL, to which `/hooks/<token>` is appended.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url: HttpUrl = text.parse()?;
        if url.path.contains(['?', '#']) {
            return Err(format!("a public URL has no query and no fragment: {text:?}"));
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_urls_lose_their_trailing_slash_and_keep_their_prefix() {
        for (text, kept) in [
            ("http://a.example", "http://a.example"),
            ("https://a.example:8443/", "https://a.example:8443"),
            ("https://a.example/boat//", "https://a.example/boat"),
            ("http://[2001:db8::1]:9000", "http://[2001:db8::1]:9000"),
        ] {
            assert_eq!(text.parse::<PublicUrl>().unwrap().as_str(), kept);
        }
        for text in [
            "",
            "a.example",
            "ftp://a.example",
            "http://",
            "http://:80",
            "http://a b",
            "http://a:port",
            "http://a:99999",
            "http://user:secret@a",
            "http://a/?x=1",
            "http://a#b",
            "http://[::1",
        ] {
            assert!(text.parse::<PublicUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn local_hosts_are_those_that_no_other_machine_can_reach() {
        let is_local = |url: &str| url.parse::<HttpUrl>().unwrap().is_local();
        for url in [
            "http://127.0.0.1:9000/hooks/x",
            "http://127.1.2.3",
            "http://0.0.0.0:9000",
            "http://[::1]:9000",
            "http://[::]:9000",
            "http://[::ffff:127.0.0.1]",
            "https://LOCALHOST",
            "http://a.localhost:1",
        ] {
            assert!(is_local(url), "{url}");
        }
        for url in ["http://192.168.1.2:9000", "https://hooks.example.com", "http://[2001:db8::1]"]
        {
            assert!(!is_local(url), "{url}");
        }
    }
}
