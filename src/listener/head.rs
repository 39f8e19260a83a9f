//! The head of a request: what it asks for and how its body is framed. Whatever two readers could
//! read differently is refused (RFC 9112, and stricter). Pure.

use super::scan::{HEADERS_MAX, Scanner};
use crate::model::network::split_port;
use crate::model::refusal::{Reason, Refusal};

/// A complete and valid head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// As it was sent; case matters.
    pub method: String,
    /// The path as it was sent, escapes included.
    pub path: String,
    /// Without the question mark; empty when there was none.
    pub query: String,
    /// In the order received: names as received, values as bytes, without the spaces around them.
    pub headers: Vec<(String, Vec<u8>)>,
    pub framing: Framing,
    /// HTTP/1.0: knows no chunks and no interim answers.
    pub is_old: bool,
    /// Whether the client would send another request after this one.
    pub keeps_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes. Without Content-Length and Transfer-Encoding: 0.
    Length(u64),
    Chunked,
}

impl Head {
    /// The first value of the header called `name`, in whatever case it was sent.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.values(name).next()
    }

    /// All values of the header called `name`, in the order received.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        values(&self.headers, name)
    }

    /// Whether a body follows.
    pub fn has_body(&self) -> bool {
        self.framing != Framing::Length(0)
    }

    /// Reads the head in `bytes`, which `scanner` has found to be complete.
    ///
    /// # Errors
    /// When the parts of it do not fit together.
    pub fn parse(bytes: &[u8], scanner: &Scanner) -> Result<Self, Refusal> {
        let bytes = bytes.get(scanner.begin()..).unwrap_or_default();
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(end)) if end == bytes.len() => {}
            // The scanner has let pass what httparse does not, or has found another end.
            _ => return Err(Refusal::new(Reason::Malformed, "this is not an HTTP request")),
        }
        let (Some(method), Some(target), Some(minor)) =
            (request.method, request.path, request.version)
        else {
            return Err(Refusal::new(Reason::Malformed, "this is not an HTTP request"));
        };
        let headers: Vec<(String, Vec<u8>)> = request
            .headers
            .iter()
            .map(|header| (header.name.to_owned(), header.value.trim_ascii().to_vec()))
            .collect();
        let is_old = minor == 0;
        let host = host(&headers, is_old)?;
        let (path, query) = split_target(method, target, host)?;
        Ok(Self {
            framing: framing(&headers, is_old)?,
            keeps_alive: keeps_alive(&headers, is_old),
            expects_continue: expects_continue(&headers, is_old),
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            is_old,
            headers,
        })
    }
}

/// All values of the header called `name`.
fn values<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .iter()
        .filter(move |(given, _)| given.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_slice())
}

/// The members of the list that all headers called `name` make (RFC 9110 5.6.1).
fn members<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> impl Iterator<Item = &'a [u8]> {
    values(headers, name)
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// The Host: one, of HTTP/1.1 (RFC 9112 3.2), and never two.
fn host(headers: &[(String, Vec<u8>)], is_old: bool) -> Result<Option<&[u8]>, Refusal> {
    let mut hosts = values(headers, "Host");
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => Err(Refusal::new(Reason::Malformed, "there is more than one Host")),
        (None, None) if !is_old => Err(Refusal::new(Reason::Malformed, "there is no Host")),
        (Some(host), None) if !host.iter().all(|&byte| is_authority(byte)) => {
            Err(Refusal::new(Reason::Malformed, "the Host is none"))
        }
        (host, _) => Ok(host),
    }
}

/// Whether `byte` may be part of a host and port (RFC 3986 3.2.2).
fn is_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(&byte)
}

/// Path and query of a request target (RFC 9112 3.2). A whole URL must be one of ours, told by its
/// naming the host that Host names. What CONNECT asks for is left to the refusal of that method.
fn split_target<'a>(
    method: &str,
    target: &'a str,
    host: Option<&[u8]>,
) -> Result<(&'a str, &'a str), Refusal> {
    let wrong =
        Refusal::new(Reason::Malformed, "the target is neither a path nor a URL of this server");
    let origin = match target.find("://") {
        Some(scheme) if !target.starts_with('/') => {
            if !["http", "https"].iter().any(|it| it.eq_ignore_ascii_case(&target[..scheme])) {
                return Err(wrong);
            }
            let rest = &target[scheme + "://".len()..];
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            let is_host = host.is_some_and(|host| host.eq_ignore_ascii_case(authority.as_bytes()));
            if !is_host || split_port(authority).is_none() {
                return Err(wrong);
            }
            // "http://host?query" means the path "/".
            match path.strip_prefix('?') {
                Some(query) => return Ok(("/", query)),
                None if path.is_empty() => "/",
                None => path,
            }
        }
        _ => target,
    };
    if !origin.starts_with('/') && origin != "*" && method != "CONNECT" {
        return Err(wrong);
    }
    Ok(origin.split_once('?').unwrap_or((origin, "")))
}

/// How the body is framed (RFC 9112 6), in one way only.
fn framing(headers: &[(String, Vec<u8>)], is_old: bool) -> Result<Framing, Refusal> {
    let mut codings = values(headers, "Transfer-Encoding");
    let mut lengths = values(headers, "Content-Length");
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(Framing::Length(0)),
        (Some(_), Some(_)) => Err(Refusal::new(
            Reason::Malformed,
            "there are a Content-Length and a Transfer-Encoding",
        )),
        (Some(_), None) if is_old => {
            Err(Refusal::new(Reason::Malformed, "HTTP/1.0 has no Transfer-Encoding"))
        }
        (Some(_), None) if codings.next().is_some() => {
            Err(Refusal::new(Reason::Malformed, "there is more than one Transfer-Encoding"))
        }
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (Some(_), None) => {
            Err(Refusal::new(Reason::NotImplemented, "the only Transfer-Encoding here is chunked"))
        }
        (None, Some(_)) if lengths.next().is_some() => {
            Err(Refusal::new(Reason::Malformed, "there is more than one Content-Length"))
        }
        (None, Some(digits)) => length(digits).map(Framing::Length),
    }
}

fn length(digits: &[u8]) -> Result<u64, Refusal> {
    let text = std::str::from_utf8(digits).unwrap_or_default();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::new(Reason::Malformed, "the Content-Length is not a number"));
    }
    text.parse().map_err(|_| Refusal::new(Reason::TooLarge, "the body is too large"))
}

/// Whether the connection outlasts the answer (RFC 9112 9.3).
fn keeps_alive(headers: &[(String, Vec<u8>)], is_old: bool) -> bool {
    let has = |option: &[u8]| {
        members(headers, "Connection").any(|member| member.eq_ignore_ascii_case(option))
    };
    !has(b"close") && (!is_old || has(b"keep-alive"))
}

/// Whether `100 Continue` is waited for. Other expectations are passed over, as RFC 9110 10.1.1 lets a
/// server do; HTTP/1.0 has none.
fn expects_continue(headers: &[(String, Vec<u8>)], is_old: bool) -> bool {
    !is_old && members(headers, "Expect").any(|member| member.eq_ignore_ascii_case(b"100-continue"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(head: &[u8]) -> Result<Head, u16> {
        let mut scanner = Scanner::new();
        let end = scanner.scan(head).map_err(|refusal| refusal.status())?;
        assert_eq!(end, Some(head.len()), "{:?}", String::from_utf8_lossy(head));
        Head::parse(head, &scanner).map_err(|refusal| refusal.status())
    }

    fn with(line: &str, headers: &str) -> Result<Head, u16> {
        parsed(format!("{line}\r\n{headers}\r\n").as_bytes())
    }

    fn post(headers: &str) -> Result<Head, u16> {
        with("POST /hooks/a HTTP/1.1", &format!("Host: x\r\n{headers}"))
    }

    #[test]
    fn a_head_is_kept_as_it_was_sent() {
        let head = parsed(
            b"\r\nPOST /hooks/%61?q=1?2 HTTP/1.1\r\nhOst: a:1\r\nX-Name: \t caf\xc3\xa9 \xff \r\nX-Name:\r\n\r\n",
        )
        .unwrap();
        assert_eq!((head.method.as_str(), head.path.as_str()), ("POST", "/hooks/%61"));
        assert_eq!(head.query, "q=1?2");
        assert_eq!(
            head.headers,
            [
                ("hOst".to_owned(), b"a:1".to_vec()),
                ("X-Name".to_owned(), b"caf\xc3\xa9 \xff".to_vec()),
                ("X-Name".to_owned(), Vec::new()),
            ]
        );
        assert_eq!(head.header("x-name"), Some(&b"caf\xc3\xa9 \xff"[..]));
        assert_eq!(head.framing, Framing::Length(0));
        assert!(head.keeps_alive && !head.is_old && !head.expects_continue && !head.has_body());
    }

    #[test]
    fn bodies_are_framed_in_one_way() {
        for (headers, expected) in [
            ("", Ok(Framing::Length(0))),
            ("Content-Length: 0\r\n", Ok(Framing::Length(0))),
            ("content-length: 0012\r\n", Ok(Framing::Length(12))),
            ("Content-Length: 18446744073709551615\r\n", Ok(Framing::Length(u64::MAX))),
            ("Content-Length: 18446744073709551616\r\n", Err(413)),
            ("Content-Length:\r\n", Err(400)),
            ("Content-Length: +5\r\n", Err(400)),
            ("Content-Length: -1\r\n", Err(400)),
            ("Content-Length: 5, 5\r\n", Err(400)),
            ("Content-Length: 0x5\r\n", Err(400)),
            ("Content-Length: 5 5\r\n", Err(400)),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(400)),
            ("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
            ("transfer-encoding:  CHUNKED \r\n", Ok(Framing::Chunked)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(501)),
            ("Transfer-Encoding: chunked, chunked\r\n", Err(501)),
            ("Transfer-Encoding: identity\r\n", Err(501)),
            ("Transfer-Encoding: xchunked\r\n", Err(501)),
            ("Transfer-Encoding: \"chunked\"\r\n", Err(501)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(400)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", Err(400)),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(400)),
            ("Transfer-Encoding: x\r\nContent-Length: 5\r\n", Err(400)),
        ] {
            assert_eq!(post(headers).map(|head| head.framing), expected, "{headers:?}");
        }
        let old = with("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n");
        assert_eq!(old, Err(400));
    }

    #[test]
    fn http_1_1_names_one_host() {
        for (host, is_valid) in [
            ("Host: example.com:80\r\n", true),
            ("Host: [::1]:9000\r\n", true),
            ("Host:\r\n", true),
            ("", false),
            ("Host: a\r\nHost: a\r\n", false),
            ("Host: a b\r\n", false),
            ("Host: a/b\r\n", false),
            ("Host: a,b\r\n", false),
            ("Host: a@b\r\n", false),
            ("Host: \u{e9}\r\n", false),
        ] {
            assert_eq!(with("GET / HTTP/1.1", host).is_ok(), is_valid, "{host:?}");
        }
        assert!(with("GET / HTTP/1.0", "").is_ok());
        assert_eq!(with("GET / HTTP/1.0", "Host: a\r\nHost: a\r\n"), Err(400));
    }

    #[test]
    fn targets_are_ours() {
        for (target, expected) in [
            ("/", Ok(("/", ""))),
            ("/a?b?c", Ok(("/a", "b?c"))),
            ("//evil/a", Ok(("//evil/a", ""))),
            ("/a?u=http://b", Ok(("/a", "u=http://b"))),
            ("*", Ok(("*", ""))),
            ("http://x/a?b", Ok(("/a", "b"))),
            ("HTTPS://X", Ok(("/", ""))),
            ("http://x?b", Ok(("/", "b"))),
            ("http://y/a", Err(400)),
            ("http://x:80/a", Err(400)),
            ("http://x:85218/a", Err(400)),
            ("http://u@x/a", Err(400)),
            ("http:///a", Err(400)),
            ("ftp://x/a", Err(400)),
            ("a", Err(400)),
            ("x:443", Err(400)),
            ("?a", Err(400)),
        ] {
            let head = with(&format!("GET {target} HTTP/1.1"), "Host: x\r\n");
            let seen = head.as_ref().map(|head| (head.path.as_str(), head.query.as_str()));
            assert_eq!(seen.map_err(|status| *status), expected, "{target}");
        }
        assert!(with("CONNECT x:443 HTTP/1.1", "Host: x\r\n").is_ok());
        let far = with("GET http://x:85218/ HTTP/1.1", "Host: x:85218\r\n");
        assert_eq!(far, Err(400), "a port over 65535");
    }

    #[test]
    fn connections_are_kept_as_the_version_says() {
        for (version, connection, keeps) in [
            ("1.1", "", true),
            ("1.1", "Connection: keep-alive\r\n", true),
            ("1.1", "Connection: CLOSE\r\n", false),
            ("1.1", "Connection: keep-alive, Close\r\n", false),
            ("1.1", "Connection: x\r\nConnection: close\r\n", false),
            ("1.1", "Connection: closed\r\n", true),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ] {
            let head = with(&format!("GET / HTTP/{version}"), &format!("Host: x\r\n{connection}"));
            assert_eq!(head.unwrap().keeps_alive, keeps, "{version} {connection:?}");
        }
    }

    #[test]
    fn only_one_expectation_is_met() {
        let expects = |headers: &str| post(headers).map(|head| head.expects_continue);
        assert_eq!(expects(""), Ok(false));
        assert_eq!(expects("Expect: 100-Continue\r\n"), Ok(true));
        assert_eq!(expects("Expect: 200-ok\r\n"), Ok(false));
        assert_eq!(expects("Expect: more, 100-continue\r\n"), Ok(true));
        let old = with("POST / HTTP/1.0", "Expect: 100-continue\r\n");
        assert_eq!(old.map(|head| head.expects_continue), Ok(false));
    }
}
