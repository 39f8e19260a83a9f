//! Which page a browser's request comes from, and by which name it has found this server. A cookie
//! goes along with whatever any page makes a browser send; these two questions tell our own pages
//! from others.

use std::net::IpAddr;

use crate::listener::Head;

/// A header that our pages add to what they send. A page of another origin could not without a
/// preflight request (Fetch standard, "CORS-safelisted request-header"), which this server does not answer.
pub const PAGE_HEADER: &str = "X-Boathook-Page";

/// The header in which our pages send the key of their session; see [`Sessions`](super::session).
pub const SESSION_HEADER: &str = "X-Boathook-Session";

/// The names by which this server may be asked for, besides addresses and loopback names. A page
/// whose name is made to lead here (DNS rebinding) is known by its name; an address in figures
/// cannot be made to lead elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Admits `names` besides.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether a request with this Host may be meant for us.
    pub fn admit(&self, host: Option<&[u8]>) -> bool {
        let Some(name) = host.and_then(host_name) else { return false };
        name.parse::<IpAddr>().is_ok()
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.0.contains(&name)
    }
}

/// The name in a Host header, without the port, in lower case.
fn host_name(host: &[u8]) -> Option<String> {
    let host = std::str::from_utf8(host).ok()?.trim();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    (!name.is_empty()).then(|| name.to_ascii_lowercase())
}

/// Whether a page of ours sent the request, or the user's own hand.
pub fn is_ours(head: &Head) -> bool {
    match head.header("Sec-Fetch-Site") {
        Some(b"same-origin") => true,
        // Typed in, or opened from a bookmark.
        Some(b"none") => matches!(head.method.as_str(), "GET" | "HEAD"),
        Some(_) => false,
        // Browsers tell it only to hosts they trust: HTTPS and loopback. They send no Origin with
        // a GET to the page's own origin.
        None => match head.header("Origin") {
            Some(origin) => is_origin_of(origin, head.header("Host")),
            None => head.header(PAGE_HEADER).is_some(),
        },
    }
}

/// Whether the page of this Origin is sure to have come over TLS.
pub fn is_secure(origin: Option<&[u8]>) -> bool {
    origin.is_some_and(|origin| origin.starts_with(b"https://"))
}

fn is_origin_of(origin: &[u8], host: Option<&[u8]>) -> bool {
    let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    match (authority, host) {
        (Some(authority), Some(host)) => authority.eq_ignore_ascii_case(host.trim_ascii()),
        _ => false,
    }
}

/// The value of the cookie called `name` in a Cookie header (RFC 6265 4.2.1).
pub fn cookie<'h>(header: Option<&'h [u8]>, name: &str) -> Option<&'h str> {
    let cookies = std::str::from_utf8(header?).ok()?;
    cookies.split(';').find_map(|pair| {
        let (given, value) = pair.trim().split_once('=')?;
        (given == name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::Framing;

    fn head(method: &str, headers: &[(&str, &str)]) -> Head {
        Head {
            method: method.into(),
            path: "/".into(),
            query: String::new(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
                .collect(),
            framing: Framing::Length(0),
            is_old: false,
            keeps_alive: true,
            expects_continue: false,
        }
    }

    #[test]
    fn names_that_anybody_could_own_are_refused() {
        let hosts = Hosts::new(["Boat.Example.com".to_owned()]);
        for host in [
            "localhost:9001",
            "LOCALHOST",
            "boat.localhost:1",
            "127.0.0.1:9001",
            "192.0.2.7",
            "[::1]:9001",
            "boat.example.com",
            "BOAT.example.com.:443",
        ] {
            assert!(hosts.admit(Some(host.as_bytes())), "{host}");
        }
        for host in [
            "",
            ":9001",
            "example.com",
            "evil.boat.example.com",
            "127.0.0.1.example.com",
            "localhost.example.com",
            "notlocalhost",
            "[::1",
            "boat.example.com@evil.example",
        ] {
            assert!(!hosts.admit(Some(host.as_bytes())), "{host}");
        }
        assert!(!hosts.admit(None) && !hosts.admit(Some(b"\xff")));
    }

    #[test]
    fn other_pages_are_told_from_ours() {
        let host = ("Host", "127.0.0.1:9001");
        for (method, headers, expected) in [
            ("POST", vec![host, ("Sec-Fetch-Site", "same-origin")], true),
            ("GET", vec![host, ("Sec-Fetch-Site", "none")], true),
            ("POST", vec![host, ("Sec-Fetch-Site", "none")], false),
            ("GET", vec![host, ("Sec-Fetch-Site", "same-site"), (PAGE_HEADER, "1")], false),
            ("GET", vec![host, ("Sec-Fetch-Site", "cross-site")], false),
            ("POST", vec![host, ("Origin", "http://127.0.0.1:9001")], true),
            ("POST", vec![host, ("Origin", "https://127.0.0.1:9001")], true),
            ("POST", vec![host, ("Origin", "http://127.0.0.1:9002"), (PAGE_HEADER, "1")], false),
            ("POST", vec![host, ("Origin", "null")], false),
            ("POST", vec![("Origin", "http://x")], false),
            ("GET", vec![host, (PAGE_HEADER, "1")], true),
            ("GET", vec![host], false),
        ] {
            assert_eq!(is_ours(&head(method, &headers)), expected, "{method} {headers:?}");
        }
    }

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let header = Some(&b"a=1; session_9001=x=y;session_9=z; session_9001=second"[..]);
        assert_eq!(cookie(header, "session_9001"), Some("x=y"));
        assert_eq!(cookie(header, "session_9"), Some("z"));
        assert_eq!(cookie(header, "session"), None);
        assert_eq!(cookie(None, "session_9"), None);
    }
}
