//! Just enough of URLs: the address of a server, the public URL that webhooks begin with, and the path
//! that those of the admin listener begin with.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::model::network::split_port;

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

/// From where a host can be reached, as far as its name or address tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// From this machine: a loopback address or name, or the address that stands for all interfaces
    /// and leads nowhere from elsewhere.
    Machine,
    /// From the networks it is in: an address that is not routed on the internet, or a name that is
    /// not known there.
    Network,
    Internet,
}

/// Ends of names that only networks of one's own know (RFC 6762, RFC 8375, and by custom).
const NETWORK_SUFFIXES: [&str; 6] =
    [".local", ".lan", ".internal", ".home.arpa", ".home", ".localdomain"];

impl Reach {
    /// From where `address` can be reached.
    pub fn of_address(address: IpAddr) -> Self {
        let address = address.to_canonical();
        if address.is_loopback() || address.is_unspecified() {
            return Self::Machine;
        }
        Self::beyond(match address {
            IpAddr::V4(v4) => {
                let [a, b, ..] = v4.octets();
                // Also what providers share out behind a translation of theirs (RFC 6598).
                let is_shared = a == 100 && b & 0b1100_0000 == 64;
                v4.is_private() || v4.is_link_local() || is_shared
            }
            IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
        })
    }

    /// Of what is not on this machine.
    fn beyond(is_own_network: bool) -> Self {
        if is_own_network { Self::Network } else { Self::Internet }
    }
}

impl HttpUrl {
    /// From where the host can be reached.
    pub fn reach(&self) -> Reach {
        let name = self.host.trim_end_matches('.').to_ascii_lowercase();
        if let Ok(address) = name.parse() {
            return Reach::of_address(address);
        }
        if name == "localhost" || name.ends_with(".localhost") {
            return Reach::Machine;
        }
        let is_own = !name.contains('.') || NETWORK_SUFFIXES.iter().any(|it| name.ends_with(it));
        Reach::beyond(is_own)
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
        if port == Some(0) {
            return Err(format!("port 0 is no address that answers: {authority:?}"));
        }
        if !is_escaped(path) {
            return Err(format!(
                "a path has ASCII letters, digits, -._~!$&'()*+,;=:@/ and %XX for all else: {path:?}"
            ));
        }
        Ok(Self { is_https, host: host.to_owned(), port, path: path.to_owned() })
    }
}

fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = split_port(authority)?;
    if let Some(rest) = host.strip_prefix('[') {
        let host = rest.strip_suffix(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return Some((host, port));
    }
    is_host(host).then_some((host, port))
}

/// Whether `host` is an IPv4 address or a name that the DNS can hold, as a URL has them: what ends in a
/// number is an address (WHATWG URL 3.5).
fn is_host(host: &str) -> bool {
    const NAME_BYTES_MAX: usize = 253;
    const LABEL_BYTES_MAX: usize = 63;
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(is_letter)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or(name);
    match last.bytes().all(|byte| byte.is_ascii_digit()) {
        true => name.parse::<Ipv4Addr>().is_ok(),
        false => name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label),
    }
}

/// Whether path, query and fragment hold what a URL can, the rest as `%XX` (RFC 3986).
fn is_escaped(path: &str) -> bool {
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let fits = match byte {
            b'%' => (0..2).all(|_| bytes.next().is_some_and(|it| it.is_ascii_hexdigit())),
            _ => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?#".contains(&byte),
        };
        if !fits {
            return false;
        }
    }
    true
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

/// What the paths of the admin listener begin with where a proxy shows it beside other pages: empty, or
/// `/boathook`. Never ends in a slash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BasePath(String);

impl BasePath {
    /// First segments of the admin listener's own paths for programs. A base path that began with one of
    /// them would hide these.
    const TAKEN: [&str; 5] = ["api", "orgs", "ui", "metrics", "healthz"];

    /// The path, to which those of the server are appended.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `path` as the server's routes have it. One that does not begin with the base path stays as it is: it
    /// comes from this machine, or the proxy has taken the base path away.
    pub fn strip<'p>(&self, path: &'p str) -> &'p str {
        match path.strip_prefix(&self.0) {
            Some("") => "/",
            Some(rest) if rest.starts_with('/') => rest,
            _ => path,
        }
    }
}

impl FromStr for BasePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let base = text.trim_end_matches('/');
        let Some(path) = base.strip_prefix('/') else {
            let is_none = base.is_empty() && text.starts_with('/');
            let message = || format!("not a path: {text:?}; it begins with a slash: /boathook");
            return is_none.then(Self::default).ok_or_else(message);
        };
        let is_segment = |segment: &str| {
            !segment.is_empty()
                && ![".", ".."].contains(&segment)
                && segment.chars().all(|it| it.is_ascii_alphanumeric() || "-._~".contains(it))
        };
        if !path.split('/').all(is_segment) {
            return Err(format!(
                "between its slashes a base path has ASCII letters, digits and -._~: {text:?}"
            ));
        }
        match Self::TAKEN.iter().find(|taken| path.split('/').next() == Some(**taken)) {
            Some(taken) => Err(format!("/{taken} is a path of the server's own; choose another")),
            None => Ok(Self(base.to_owned())),
        }
    }
}

/// What the URLs of a service begin with to which the server sends a secret. Never ends in a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceUrl(String);

impl ServiceUrl {
    /// GitHub's own.
    pub fn of_github() -> Self {
        Self("https://api.github.com".to_owned())
    }

    /// The URL, to which a path is appended.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let PublicUrl(base) = text.parse()?;
        let url: HttpUrl = text.parse()?;
        if !url.is_https && url.reach() != Reach::Machine {
            return Err(format!("a secret is sent there, so it begins with https://: {text:?}"));
        }
        Ok(Self(base))
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
            ("http://192.0.2.1/a%20b", "http://192.0.2.1/a%20b"),
            ("http://xn--bcher-kva.example.", "http://xn--bcher-kva.example."),
            ("http://my_box:80", "http://my_box:80"),
            ("http://3com.7a", "http://3com.7a"),
        ] {
            assert_eq!(text.parse::<PublicUrl>().unwrap().as_str(), kept);
        }
        let long = format!("http://{}.example", "a".repeat(64));
        for text in [
            &long,
            "",
            "a.example",
            "ftp://a.example",
            "http://",
            "http://:80",
            "http://a b",
            "http://a:port",
            "http://a:99999",
            "http://a:0",
            "http://[::1]:0/x",
            "http://a:85218/",
            "http://a:+80",
            "http://a:",
            "http://[::1]:65536",
            "http://user:secret@a",
            "http://a/?x=1",
            "http://a#b",
            "http://[::1",
            "http://256.1.1.1",
            "http://1.2.3",
            "http://example.1",
            "http://a..b",
            "http://.",
            "http://.a",
            "http://-a.example",
            "http://a-",
            "http://a/%zz",
            "http://a/%2",
            "http://a/ü",
            "http://a/{x}",
            "http://a/\\b",
        ] {
            assert!(text.parse::<PublicUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_base_path_is_taken_from_paths_that_begin_with_it() {
        let base = |text: &str| text.parse::<BasePath>();
        for (text, path, expected) in [
            ("/boathook", "/boathook/api/v1/runs", "/api/v1/runs"),
            ("/boathook/", "/boathook/", "/"),
            ("/boathook", "/boathook", "/"),
            ("/boathook", "/boathooks", "/boathooks"),
            ("/boathook", "/api/v1/runs", "/api/v1/runs"),
            ("/a/b~1", "/a/b~1/runs", "/runs"),
            ("/a", "/a/a/runs", "/a/runs"),
            ("/", "/runs", "/runs"),
            ("/", "/", "/"),
        ] {
            assert_eq!(base(text).unwrap().strip(path), expected, "{text} {path}");
        }
        for text in ["", "boathook", "/a//b", "//", "/a/../b", "/a b", "/a%20", "/a?x", "http://a"]
        {
            assert_eq!(base(text).is_ok(), text == "//", "{text}");
        }
        let refused = base("/api/boathook").unwrap_err();
        assert!(refused.starts_with("/api is a path of the server's own"), "{refused}");
        assert!(base("/apis").is_ok());
    }

    #[test]
    fn secrets_are_sent_encrypted_or_to_this_machine() {
        let kept = |text: &str| text.parse::<ServiceUrl>().ok().map(|url| url.as_str().to_owned());
        assert_eq!(kept("https://ghe.lan/api/v3/").as_deref(), Some("https://ghe.lan/api/v3"));
        assert_eq!(kept("http://127.0.0.1:8080").as_deref(), Some("http://127.0.0.1:8080"));
        for text in ["http://ghe.lan/api/v3", "http://192.0.2.1", "https://a/?x=1", "ghe.lan"] {
            assert_eq!(kept(text), None, "{text}");
        }
    }

    #[test]
    fn hosts_tell_from_where_they_can_be_reached() {
        let reach = |url: &str| url.parse::<HttpUrl>().unwrap().reach();
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
            assert_eq!(reach(url), Reach::Machine, "{url}");
        }
        for url in [
            "http://192.168.1.2:9000",
            "http://10.1.2.3",
            "http://172.31.0.1",
            "http://169.254.1.1",
            "http://100.64.0.1",
            "http://[fd00::1]",
            "http://[fe80::1]",
            "http://[::ffff:10.0.0.1]",
            "http://boat",
            "http://boat.LOCAL:9000",
            "http://boat.home.arpa.",
        ] {
            assert_eq!(reach(url), Reach::Network, "{url}");
        }
        for url in [
            "https://hooks.example.com",
            "http://[2001:db8::1]",
            "http://172.32.0.1",
            "http://100.128.0.1",
            "http://203.0.113.7",
        ] {
            assert_eq!(reach(url), Reach::Internet, "{url}");
        }
    }
}
