//! A response in CGI form, as a vessel writes it into its response file (RFC 3875, section 6): headers, an
//! empty line, the body. Pure.

use crate::model::request::HOP_BY_HOP_HEADERS;
use crate::model::respond::{STATUSES, is_without_body};
use crate::model::text::is_token;

/// Bytes of the headers: the most that common clients take.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Number of headers.
const HEADERS_MAX: usize = 64;
/// Characters of a line that a message quotes.
const QUOTED_CHARACTERS_MAX: usize = 80;

/// Headers that this server writes itself, beside those of the connection (RFC 3875 6.3.4).
const SERVERS_OWN: [&str; 2] = ["date", "x-request-id"];
/// Begins the names of further headers that this server writes.
const SERVERS_PREFIX: &str = "boathook-";

/// See the module. Each header may go to a client as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgiResponse {
    /// `None`: the response names none.
    pub status: Option<u16>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What a vessel has written for the sender of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VesselAnswer {
    Response(CgiResponse),
    /// It is no response. The vessel's log says why.
    Malformed,
}

impl CgiResponse {
    /// Reads a response. Of one that `is_cut`, the end is missing.
    ///
    /// # Errors
    /// What is wrong with it, for the author of the vessel.
    pub fn parse(bytes: &[u8], is_cut: bool) -> Result<Self, String> {
        let mut response = Self::default();
        let mut content_length = None;
        let mut at = 0;
        for number in 1.. {
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                let shown = quoted(rest);
                return Err(match number {
                    1 => format!("line 1, {shown}, is no header; {FORM}"),
                    _ => format!("no empty line ends its headers; {FORM}"),
                });
            };
            at += end + 1;
            let line = &rest[..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                break;
            }
            if at > HEAD_BYTES_MAX || number > HEADERS_MAX {
                return Err(format!(
                    "its headers are more than {HEADERS_MAX} or {HEAD_BYTES_MAX} bytes"
                ));
            }
            let (name, value) = header(line).map_err(|why| {
                format!("line {number}, {}, is no header: {why}; {FORM}", quoted(line))
            })?;
            response.take(name, value, &mut content_length)?;
        }
        response.body = bytes.get(at..).unwrap_or_default().to_vec();
        response.finish(content_length.filter(|_| !is_cut))
    }

    /// The value of the header called `name`.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Takes one header in.
    fn take(
        &mut self,
        name: &str,
        value: &str,
        content_length: &mut Option<u64>,
    ) -> Result<(), String> {
        let lower = name.to_ascii_lowercase();
        let has_one = match lower.as_str() {
            "status" => self.status.is_some(),
            "content-length" => content_length.is_some(),
            "content-type" | "location" => self.header(&lower).is_some(),
            _ => false,
        };
        if has_one {
            return Err(format!("it has two headers `{name}`"));
        }
        match lower.as_str() {
            "status" => self.status = Some(status(value)?),
            "content-length" => {
                let length = value.parse().map_err(|_| {
                    format!("`{name}: {value}` is no length; leave it out, the server counts")
                })?;
                *content_length = Some(length);
            }
            own if is_servers(own) => {
                return Err(format!("the header `{name}` is the server's own; leave it out"));
            }
            // Tabs are the one control character that a value may have; a space means the same.
            _ => self.headers.push((name.to_owned(), value.replace('\t', " "))),
        }
        Ok(())
    }

    /// Checks what the headers say together.
    fn finish(mut self, content_length: Option<u64>) -> Result<Self, String> {
        if let (None, Some(location)) = (self.status, self.header("location")) {
            // A client is sent elsewhere; the server itself goes nowhere for it (RFC 3875 6.2.2).
            if !is_absolute(location) {
                return Err(format!(
                    "`Location: {location}` is no absolute URL; write one, or a `Status` such as 303 \
                     as well"
                ));
            }
            self.status = Some(302);
        }
        if self.status.is_some_and(is_without_body) {
            self.body = Vec::new();
            return Ok(self);
        }
        match content_length {
            Some(length) if length != self.body.len() as u64 => Err(format!(
                "`Content-Length: {length}` is wrong, as its body has {} bytes; leave it out, the \
                 server counts",
                self.body.len()
            )),
            _ => Ok(self),
        }
    }
}

const FORM: &str = "write headers such as `Status: 200`, an empty line, and then the body";

/// The name and the value of a header.
fn header(line: &[u8]) -> Result<(&str, &str), &'static str> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
    if text.starts_with([' ', '\t']) {
        return Err("it begins with a space; write each header on one line");
    }
    let (name, value) = text.split_once(':').ok_or("it has no colon")?;
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err("its name has other characters than a header's");
    }
    let value = value.trim_matches([' ', '\t']);
    if value.chars().any(|character| character.is_control() && character != '\t') {
        return Err("its value has control characters");
    }
    Ok((name, value))
}

/// The number in a `Status`; a reason phrase may follow.
fn status(value: &str) -> Result<u16, String> {
    let number = value.split([' ', '\t']).next().unwrap_or_default();
    let is_number = number.len() == 3 && number.bytes().all(|byte| byte.is_ascii_digit());
    let status = number.parse().ok().filter(|status| is_number && STATUSES.contains(status));
    status.ok_or_else(|| {
        format!(
            "`Status: {}` is no status; write a number from {} to {}",
            quoted(value.as_bytes()).trim_matches('`'),
            STATUSES.start(),
            STATUSES.end()
        )
    })
}

/// Whether the header called `name`, in lower case, is no vessel's to write.
fn is_servers(name: &str) -> bool {
    let mut own = HOP_BY_HOP_HEADERS.iter().chain(&SERVERS_OWN);
    own.any(|own| *own == name) || name.starts_with(SERVERS_PREFIX)
}

/// Whether `location` begins with a scheme (RFC 3986 3.1).
fn is_absolute(location: &str) -> bool {
    let is_scheme = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    location.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme))
}

/// A line as a message shows it.
fn quoted(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let shown: String =
        text.chars().take(QUOTED_CHARACTERS_MAX).flat_map(char::escape_default).collect();
    let rest = if text.chars().nth(QUOTED_CHARACTERS_MAX).is_some() { "…" } else { "" };
    format!("`{shown}{rest}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<CgiResponse, String> {
        CgiResponse::parse(text.as_bytes(), false)
    }

    fn response(status: Option<u16>, headers: &[(&str, &str)], body: &str) -> CgiResponse {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        CgiResponse { status, headers: headers.iter().map(own).collect(), body: body.into() }
    }

    #[test]
    fn responses_are_read_with_either_line_end() {
        let json = [("Content-Type", "application/json")];
        for (text, expected) in [
            ("Status: 404\n\n", response(Some(404), &[], "")),
            (
                "Status: 202 Taken\r\ncontent-type:  text/html \r\n\r\na\r\n\r\nb",
                response(Some(202), &[("content-type", "text/html")], "a\r\n\r\nb"),
            ),
            ("Content-Type: application/json\n\n{}\n", response(None, &json, "{}\n")),
            (
                "Content-Type: application/json\nContent-Length: 2\n\n{}",
                response(None, &json, "{}"),
            ),
            ("\nbare", response(None, &[], "bare")),
            ("Status: 204\n\n\n", response(Some(204), &[], "")),
            (
                "Location: https://example.com/x\n\n",
                response(Some(302), &[("Location", "https://example.com/x")], ""),
            ),
            ("Status: 303\nLocation: /x\n\n", response(Some(303), &[("Location", "/x")], "")),
            (
                "Set-Cookie: a=1\nSet-Cookie: b=2\n\n",
                response(None, &[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], ""),
            ),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn a_wrong_response_is_named_with_what_is_wrong() {
        for (text, part) in [
            ("hello", "line 1, `hello`, is no header"),
            ("hello\n", "it has no colon"),
            ("Status: 200\nX-A: b\n", "no empty line"),
            ("Status: 200\nbad header: x\n\n", "line 2"),
            ("Status: abc\n\n", "no status"),
            ("Status: 99\n\n", "no status"),
            ("Status: 101\n\n", "from 200 to 599"),
            ("Status: 600\n\n", "no status"),
            ("Status: +20\n\n", "no status"),
            ("Status: 200\nStatus: 201\n\n", "two headers `Status`"),
            ("Content-Type: a/b\ncontent-type: c/d\n\n", "two headers"),
            ("Transfer-Encoding: chunked\n\n", "the server's own"),
            ("connection: close\n\n", "the server's own"),
            ("Boathook-Run: 1\n\n", "the server's own"),
            ("Content-Length: 3\n\nbody", "its body has 4 bytes"),
            ("Content-Length: -3\n\nbody", "is no length"),
            ("X-A: 1\r\r\nX-B: 2\n\n", "control characters"),
            ("X-A: 1\0\n\n", "control characters"),
            (" folded: 1\n\n", "begins with a space"),
            (": 1\n\n", "its name"),
            ("Location: /elsewhere\n\n", "no absolute URL"),
        ] {
            let why = parse(text).expect_err(text);
            assert!(why.contains(part), "{text:?}: {why}");
        }
        assert!(CgiResponse::parse(b"X: \xff\n\n", false).unwrap_err().contains("UTF-8"));
        let many = "X-A: 1\n".repeat(HEADERS_MAX + 1) + "\n";
        assert!(parse(&many).unwrap_err().contains("more than"));
        let long = format!("X-A: {}\n\n", "x".repeat(HEAD_BYTES_MAX));
        assert!(parse(&long).unwrap_err().contains("more than"));
        assert!(parse(&"x".repeat(1 << 20)).unwrap_err().len() < 400);
    }

    #[test]
    fn a_cut_response_has_the_body_that_is_left() {
        let cut = CgiResponse::parse(b"Content-Length: 100\n\nthe beginn", true).unwrap();
        assert_eq!(cut, response(None, &[], "the beginn"));
    }
}
