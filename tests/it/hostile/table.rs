//! The table: what is sent, what comes back, and what becomes of the connection.

use super::{Case, Ending::*, Sending::*};

/// Bytes of a request line, of a head, and of a chunk's first line that are just too many.
const LINE: usize = 16 * 1024 + 1;
const HEAD: usize = 32 * 1024 + 1;
const CHUNK_LINE: usize = 257;

/// A request to the webhook listener. `{hook}` stands for a webhook's path.
fn case(name: &'static str, request: impl AsRef<[u8]>, statuses: &[u16]) -> Case {
    Case {
        name,
        request: request.as_ref().to_vec(),
        statuses: statuses.to_vec(),
        ending: Closed,
        sending: Whole,
    }
}

/// A POST to the webhook with `headers`, each with its line end, and `body`.
fn post(name: &'static str, headers: &str, body: &str, statuses: &[u16]) -> Case {
    let request = format!("POST {{hook}} HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}");
    case(name, request, statuses)
}

/// A POST with a `header` that is not what it should be.
fn header(name: &'static str, header: &[u8], status: u16) -> Case {
    let head = b"POST {hook} HTTP/1.1\r\nHost: x\r\n";
    case(name, [head, header, b"\r\nContent-Length: 0\r\n\r\n"].concat(), &[status])
}

/// A POST whose body is `body`, chunked as it claims to be.
fn chunked(name: &'static str, body: &str, statuses: &[u16]) -> Case {
    post(name, "Transfer-Encoding: chunked\r\n", body, statuses)
}

impl Case {
    fn kept(self) -> Self {
        Self { ending: Kept, ..self }
    }

    fn half_closed(self) -> Self {
        Self { sending: HalfClosed, ..self }
    }

    fn reset(self) -> Self {
        Self { sending: Reset, ..self }
    }
}

/// What must be refused by its first bytes, whatever follows.
pub fn beginnings() -> Vec<Case> {
    vec![
        case("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[400]),
        case("SSLv2 hello", b"\x80\x2e\x01\x03\x01", &[400]),
        case("SSH banner", b"SSH-2.0-OpenSSH_9.9\r\n", &[400]),
        case("SOCKS5", b"\x05\x01\x00", &[400]),
        case("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[505]),
        case("HTTP/2.0", b"GET / HTTP/2.0\r\n\r\n", &[505]),
        case("HTTP/0.9 by number", b"GET / HTTP/0.9\r\n\r\n", &[505]),
        case("HTTP/1.2", b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", &[505]),
        case("HTTP/3", b"GET / HTTP/3\r\n\r\n", &[505]),
        case("no version", b"GET /\r\n\r\n", &[400]),
        case("HTTP/1.10", b"GET / HTTP/1.10\r\nHost: x\r\n\r\n", &[400]),
        case("version in small letters", b"GET / http/1.1\r\nHost: x\r\n\r\n", &[400]),
        case("a comma for the dot", b"GET / HTTP/1,1\r\nHost: x\r\n\r\n", &[400]),
        case("space after the version", b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n", &[400]),
        case("four words", b"GET / / HTTP/1.1\r\nHost: x\r\n\r\n", &[400]),
        case("two spaces", b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", &[400]),
        case("tabs for spaces", b"GET\t/\tHTTP/1.1\r\nHost: x\r\n\r\n", &[400]),
        case("a space before the method", b" GET / HTTP/1.1\r\nHost: x\r\n\r\n", &[400]),
        case("NUL", b"\0", &[400]),
        case("NUL in the method", b"PO\0ST / HTTP/1.1\r\n\r\n", &[400]),
        case("NUL in the target", b"POST /\0 HTTP/1.1\r\n\r\n", &[400]),
        case("é in the method", b"P\xc3\xa9ST / HTTP/1.1\r\n\r\n", &[400]),
        case("é in the target", b"POST /hooks/\xc3\xa9 HTTP/1.1\r\n\r\n", &[400]),
        case("0xFF in the target", b"POST /hooks/\xff HTTP/1.1\r\n\r\n", &[400]),
        case("DEL in the target", b"POST /hooks/\x7f HTTP/1.1\r\n\r\n", &[400]),
        case("fragment in the target", b"POST {hook}#x HTTP/1.1\r\nHost: x\r\n\r\n", &[400]),
        case("target without a slash", b"POST hooks HTTP/1.1\r\nHost: x\r\n\r\n", &[400]),
        case("bare LF", b"\n", &[400]),
        case("bare LF after the request line", b"POST {hook} HTTP/1.1\nHost: x\n\n", &[400]),
        case("bare CR in the request line", b"POST {hook}\rX HTTP/1.1\r\n", &[400]),
        case("long method", "A".repeat(LINE + 1), &[414]),
        case("long target", format!("POST /hooks/{}", "a".repeat(LINE)), &[414]),
        case("long query", format!("POST {{hook}}?{}", "a".repeat(LINE)), &[414]),
        case("empty lines without end", "\r\n".repeat(HEAD), &[431]),
    ]
}

/// Header lines that are not what they should be.
pub fn headers() -> Vec<Case> {
    let long = format!("X-Long: {}", "a".repeat(HEAD));
    let many = "A: b\r\n".repeat(100);
    vec![
        header("a folded header", b"X-A: b\r\n folded", 400),
        header("a header folded by a tab", b"X-A: b\r\n\tfolded", 400),
        header("a space before the colon", b"Content-Length : 5", 400),
        header("a tab before the colon", b"X-A\t: b", 400),
        header("a space before the name", b" X-A: b", 400),
        header("no colon", b"X-A", 400),
        header("no name", b": b", 400),
        header("a name in brackets", b"X(A): b", 400),
        header("é in a name", b"X-\xc3\xa9: b", 400),
        header("NUL in a name", b"X\0A: b", 400),
        header("NUL in a value", b"X-A: b\0c", 400),
        header("DEL in a value", b"X-A: b\x7fc", 400),
        header("escape in a value", b"X-A: \x1b[31m", 400),
        header("bare CR in a value", b"X-A: b\rX-B: c", 400),
        header("bare LF in a value", b"X-A: b\nX-B: c", 400),
        header("CR CR LF", b"X-A: b\r", 400),
        header("a long header", long.as_bytes(), 431),
        header("too many headers", many.as_bytes(), 431),
        header("two hosts", b"Host: x", 400),
        case("no host", b"POST {hook} HTTP/1.1\r\nContent-Length: 0\r\n\r\n", &[400]),
        case("a host with a path", b"POST {hook} HTTP/1.1\r\nHost: x/y\r\n\r\n", &[400]),
        case("a host with a user", b"POST {hook} HTTP/1.1\r\nHost: a@x\r\n\r\n", &[400]),
        case("another host's URL", b"POST http://y{hook} HTTP/1.1\r\nHost: x\r\n\r\n", &[400]),
        case("another scheme", b"POST ftp://x{hook} HTTP/1.1\r\nHost: x\r\n\r\n", &[400]),
        case("an LF for the empty line", b"POST {hook} HTTP/1.1\r\nHost: x\r\n\n", &[400]),
    ]
}

/// Requests whose end two readers could see at different places. What could be a second request
/// follows each.
pub fn framings() -> Vec<Case> {
    let smuggled = "5\r\nhello\r\n0\r\n\r\nPOST {hook} HTTP/1.1\r\nHost: x\r\n\r\n";
    let framed =
        |name, headers: &str, status| post(name, &format!("{headers}\r\n"), smuggled, &[status]);
    let old = format!("POST {{hook}} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{smuggled}");
    vec![
        framed("absurd length", "Content-Length: 1000000000000000", 413),
        framed("largest length", "Content-Length: 18446744073709551615", 413),
        framed("length of 65 bits", "Content-Length: 18446744073709551616", 413),
        framed("length with a plus", "Content-Length: +5", 400),
        framed("length with a minus", "Content-Length: -5", 400),
        framed("hexadecimal length", "Content-Length: 0x5", 400),
        framed("length with a dot", "Content-Length: 5.0", 400),
        framed("length in words", "Content-Length: five", 400),
        framed("no length", "Content-Length:", 400),
        framed("two numbers", "Content-Length: 5 5", 400),
        framed("list of lengths", "Content-Length: 5, 5", 400),
        framed("two lengths", "Content-Length: 5\r\nContent-Length: 48", 400),
        framed("the same length twice", "Content-Length: 5\r\ncontent-length: 5", 400),
        framed("chunked and a length", "Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
        framed("a length and chunked", "Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        framed("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        framed("chunked, identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: x", 400),
        framed("gzip, chunked", "Transfer-Encoding: gzip, chunked", 501),
        framed("chunked, chunked", "Transfer-Encoding: chunked, chunked", 501),
        framed("chunked and a comma", "Transfer-Encoding: chunked,", 501),
        framed("quoted chunked", "Transfer-Encoding: \"chunked\"", 501),
        framed("chunked with a parameter", "Transfer-Encoding: chunked;q=1", 501),
        framed("xchunked", "Transfer-Encoding: xchunked", 501),
        framed("identity", "Transfer-Encoding: identity", 501),
        framed("no coding", "Transfer-Encoding:", 501),
        framed("chunked and a vertical tab", "Transfer-Encoding: chunked\x0b", 400),
        framed("coding with a space before the colon", "Transfer-Encoding : chunked", 400),
        framed("folded coding", "Transfer-Encoding:\r\n chunked", 400),
        case("chunked HTTP/1.0", old, &[400]),
        post(
            "smuggled beside a CL",
            "Content-Length: 0\r\nX: y\nContent-Length: 9\r\n",
            "",
            &[400],
        ),
    ]
}

/// Chunked bodies that are none.
pub fn chunks() -> Vec<Case> {
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(CHUNK_LINE));
    let trailers = format!("0\r\n{}\r\n", "X-A: b\r\n".repeat(1025));
    vec![
        chunked("no size", "\r\nhello\r\n0\r\n\r\n", &[400]),
        chunked("size with 0x", "0x5\r\nhello\r\n0\r\n\r\n", &[400]),
        chunked("size with a plus", "+5\r\nhello\r\n0\r\n\r\n", &[400]),
        chunked("size with a minus", "-5\r\nhello\r\n0\r\n\r\n", &[400]),
        chunked("size with a space before", " 5\r\nhello\r\n0\r\n\r\n", &[400]),
        chunked("size with a space after", "5 \r\nhello\r\n0\r\n\r\n", &[400]),
        chunked("size of 65 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n", &[400]),
        chunked("largest size", "ffffffffffffffff\r\nhello\r\n0\r\n\r\n", &[413]),
        chunked("size with leading zeros", "00000000000000005\r\nhello\r\n0\r\n\r\n", &[400]),
        chunked("size with an underscore", "1_0\r\nhello\r\n0\r\n\r\n", &[400]),
        chunked("bare LF after the size", "5\nhello\r\n0\r\n\r\n", &[400]),
        chunked("bare CR after the size", "5\rXhello\r\n0\r\n\r\n", &[400]),
        chunked("bare LF in an extension", "5;x\nhello\r\n0\r\n\r\n", &[400]),
        chunked("longer than it says", "5\r\nhello!\r\n0\r\n\r\n", &[400]),
        chunked("shorter than it says", "6\r\nhello\r\n0\r\n\r\n", &[400]),
        chunked("bare LF after the data", "5\r\nhello\n0\r\n\r\n", &[400]),
        chunked("bare LF for the last line", "5\r\nhello\r\n0\r\n\n", &[400]),
        chunked("a long first line", &long, &[400]),
        chunked("long trailers", &trailers, &[431]),
        chunked("NUL in a trailer", "0\r\nX: \0\r\n\r\n", &[400]),
    ]
}

/// Senders that go away, or stop in the middle.
pub fn cuts() -> Vec<Case> {
    let head = "POST {hook} HTTP/1.1\r\nHost: x\r\n";
    let length = "Content-Length: 5\r\n";
    let coded = "5\r\nhello\r\n";
    vec![
        case("nothing", b"", &[]).half_closed(),
        case("an empty line", b"\r\n", &[]).half_closed(),
        case("half an empty line", b"\r", &[]).half_closed(),
        case("half an empty line at the end", format!("{head}\r\n\r"), &[201]).half_closed(),
        case("half a request line", b"POST /ho", &[400]).half_closed(),
        case("half a head", head, &[400]).half_closed(),
        post("no body", length, "", &[400]).half_closed(),
        post("half a body", length, "hell", &[400]).half_closed(),
        chunked("half a size", "5", &[400]).half_closed(),
        chunked("half a chunk", "5\r\nhel", &[400]).half_closed(),
        chunked("no last chunk", coded, &[400]).half_closed(),
        chunked("no end of the last chunk", "5\r\nhello\r\n0\r\n", &[400]).half_closed(),
        chunked("half a trailer", "5\r\nhello\r\n0\r\nX: ", &[400]).half_closed(),
        case("reset at once", b"", &[]).reset(),
        case("reset in the request line", b"POST /ho", &[]).reset(),
        case("reset in the head", head, &[]).reset(),
        post("reset in the body", length, "hell", &[]).reset(),
        chunked("reset in a chunk", "5\r\nhel", &[]).reset(),
        post("reset in a large body", "Content-Length: 9000000\r\n", &"x".repeat(99_999), &[])
            .reset(),
        case("reset before the answer", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50), &[])
            .reset(),
    ]
}

/// What is odd but valid, and what is refused without an end of the connection.
pub fn valid() -> Vec<Case> {
    let wrong = "POST /hooks/wrong HTTP/1.1\r\nHost: x\r\n";
    let health = "GET /healthz HTTP/1.1\r\nHost: x\r\n";
    let hook = "POST {hook} HTTP/1.1\r\nHost: x\r\n";
    let old = "POST {hook} HTTP/1.0\r\n";
    vec![
        case("no length", format!("{hook}\r\n"), &[201]).kept(),
        case("empty lines first", format!("\r\n\r\n{hook}\r\n"), &[201]).kept(),
        case("a URL of this host", "POST http://x{hook} HTTP/1.1\r\nHost: x\r\n\r\n", &[201])
            .kept(),
        post("bytes over 0x7F in a value", "X-A: café\r\n", "", &[201]).kept(),
        post("a length with zeros", "Content-Length: 0005\r\n", "hello", &[201]).kept(),
        post("unknown Connection options", "Connection: TE, x\r\n", "", &[201]).kept(),
        post("upgrades", "Connection: Upgrade\r\nUpgrade: h2c\r\n", "", &[201]).kept(),
        post("closing", "Connection: close\r\n", "", &[201]),
        post("nothing after closing", "Connection: close\r\n", &format!("{hook}\r\n"), &[201]),
        chunked("extensions and trailers", "5;a=\"b\"\r\nhello\r\n0;c\r\nX: y\r\n\r\n", &[201])
            .kept(),
        case("pipelined", format!("{hook}\r\n").repeat(5), &[201; 5]).kept(),
        case(
            "pipelined answers keep their order",
            format!("{hook}\r\n{wrong}\r\n{health}\r\n{hook}\r\n"),
            &[201, 400, 200, 201],
        )
        .kept(),
        case("garbage after a request", format!("{hook}\r\n\0"), &[201, 400]),
        post("a body longer than its length", "Content-Length: 5\r\n", "hello!\x01", &[201, 400]),
        case("HTTP/1.0", format!("{old}\r\n"), &[201]),
        case("HTTP/1.0 kept", format!("{old}Connection: keep-alive\r\n\r\n"), &[201]).kept(),
        case("HTTP/1.0 twice", format!("{old}\r\n{old}\r\n"), &[201]),
        case("a wrong token", format!("{wrong}\r\n"), &[400]).kept(),
        case("a wrong token with a body", format!("{wrong}Content-Length: 5\r\n\r\nhello"), &[400])
            .kept(),
        case(
            "a wrong token with an absurd body",
            format!("{wrong}Content-Length: 1000000000000000\r\n\r\n"),
            &[400],
        ),
        case(
            "a wrong token and chunks",
            format!("{wrong}Transfer-Encoding: chunked\r\n\r\n5\r\nhe"),
            &[400],
        ),
        case(
            "a wrong token that waits",
            format!("{wrong}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"),
            &[400],
        ),
        case(
            "too large a body that waits",
            format!("{hook}Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"),
            &[413],
        ),
        case("health with a body", format!("{health}Content-Length: 5\r\n\r\nhello"), &[200])
            .kept(),
        case("another method", "DELETE {hook} HTTP/1.1\r\nHost: x\r\n\r\n", &[405]).kept(),
        case("TRACE", "TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", &[405]).kept(),
        case("CONNECT", "CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", &[405]).kept(),
        case("OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", &[405]).kept(),
        case("a method of our own", "M-SEARCH * HTTP/1.1\r\nHost: x\r\n\r\n", &[405]).kept(),
        case("post", "post {hook} HTTP/1.1\r\nHost: x\r\n\r\n", &[405]).kept(),
    ]
}

/// Senders that stop without going away, and are told when their time is up.
pub fn silences() -> Vec<Case> {
    vec![
        case("silence", b"", &[]),
        case("silence after an empty line", b"\r\n", &[]),
        case("silence within an empty line", b"\r", &[]),
        case("silence in the request line", b"POST /ho", &[408]),
        case("silence in a header", b"POST {hook} HTTP/1.1\r\nHost: x", &[408]),
        case("silence before the empty line", b"POST {hook} HTTP/1.1\r\nHost: x\r\n", &[408]),
        post("silence before the body", "Content-Length: 5\r\n", "", &[408]),
        post("silence in the body", "Content-Length: 5\r\n", "hell", &[408]),
        post("silence in a large body", "Content-Length: 999999\r\n", &"x".repeat(99_999), &[408]),
        chunked("silence before a size", "", &[408]),
        chunked("silence in a chunk", "5\r\nhel", &[408]),
        chunked("silence in a trailer", "0\r\nX: y", &[408]),
        case("silence between requests", b"POST {hook} HTTP/1.1\r\nHost: x\r\n\r\n", &[201]),
    ]
}

/// What reaches the admin listener without a token.
pub fn admin() -> Vec<Case> {
    let smuggled = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    let api = "POST /api/v1/fleets HTTP/1.1\r\nHost: x\r\n";
    vec![
        case("TLS hello", b"\x16\x03\x01\x02\x00\x01", &[400]),
        case("HTTP/2.0", b"GET / HTTP/2.0\r\n\r\n", &[505]),
        case("bare LF", b"GET / HTTP/1.1\n\n", &[400]),
        case("two hosts", b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", &[400]),
        case("long target", format!("GET /{}", "a".repeat(LINE)), &[414]),
        case("too many headers", format!("{api}{}\r\n", "A: b\r\n".repeat(101)), &[431]),
        case("NUL in a header", format!("{api}A: \0\r\n\r\n"), &[400]),
        case("chunked and a length", format!("{api}{smuggled}\r\n0\r\n\r\n"), &[400]),
        case("gzip", format!("{api}Transfer-Encoding: gzip\r\n\r\n"), &[501]),
        case("half a head", api, &[400]).half_closed(),
        case("no token", format!("{api}\r\n"), &[401]).kept(),
        case("no token and a body", format!("{api}Content-Length: 2\r\n\r\n{{}}"), &[401]).kept(),
        case(
            "no token and an absurd body",
            format!("{api}Content-Length: 1000000000000000\r\n\r\n"),
            &[401],
        ),
        case(
            "no token and chunks",
            format!("{api}Transfer-Encoding: chunked\r\n\r\n0\r\n"),
            &[401],
        ),
        case(
            "a token of bytes",
            [api.as_bytes(), b"Authorization: Bearer \xff\xfe\r\n\r\n"].concat(),
            &[401],
        )
        .kept(),
        case("reset in the head", api, &[]).reset(),
    ]
}
