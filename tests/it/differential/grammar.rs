//! Requests made by chance: mostly valid by their grammar, mostly with something wrong afterwards.

use crate::harness::Random;

const METHODS: [&str; 8] = ["POST", "POST", "POST", "POST", "POST", "POST", "GET", "M-SEARCH"];
const TARGETS: [&str; 11] = [
    "{hook}",
    "{hook}",
    "{hook}",
    "{hook}",
    "{hook}?a=1&b=%20",
    "/",
    "//evil/hooks/a",
    "/hooks/%2e%2e/%00;a=b",
    "http://x{hook}",
    "*",
    "/healthz",
];
const VERSIONS: [&str; 8] = ["1.1", "1.1", "1.1", "1.1", "1.1", "1.1", "1.0", "1.0"];
const HEADERS: [&[u8]; 16] = [
    b"Accept: */*",
    b"X-Empty:",
    b"X-Tabs:\t a\tb \t",
    b"X-Latin: caf\xe9 \x85\xa0",
    b"x-Utf8: caf\xc3\xa9",
    b"From: a@b",
    b"X-Colons: a:b: c",
    b"X-Quoted: \"a, b\"",
    b"Connection: keep-alive",
    b"Connection: close",
    b"Content-Type: multipart/mixed; boundary=x",
    b"Expect: 100-continue",
    b"Trailer: X-Sum",
    b"!#$%&'*+-.^_`|~: token",
    b"Content_Length: 7",
    b"Transfer-Encoding-X: chunked",
];
/// What matters to a parser.
const PIECES: [&[u8]; 29] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\0",
    b"\t",
    b" ",
    b":",
    b";",
    b",",
    b"\x0b",
    b"\x0c",
    b"\x1c",
    b"\x7f",
    b"\x85",
    b"\xff",
    b"0",
    b"+",
    b"#",
    b"2.0",
    b"chunked",
    b"Content-Length: 3\r\n",
    b"content-length:0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Host: x\r\n",
    b" folded\r\n",
    b"0\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
];

/// What comes over one connection. `{hook}` stands for a webhook's path.
pub fn stream(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=random.below(3) {
        let from = bytes.len();
        request(random, &mut bytes);
        if random.one_in(3) {
            for _ in 0..=random.below(3) {
                mutate(random, &mut bytes, from);
            }
        }
    }
    bytes
}

fn request(random: &mut Random, out: &mut Vec<u8>) {
    let (method, target) = (pick(random, &METHODS), pick(random, &TARGETS));
    let version = pick(random, &VERSIONS);
    if random.one_in(8) {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("{method} {target} HTTP/{version}\r\nHost: x\r\n").as_bytes());
    for _ in 0..random.below(4) {
        out.extend_from_slice(pick(random, &HEADERS));
        out.extend_from_slice(b"\r\n");
    }
    let length = random.below(40);
    let body = random.bytes(length);
    match random.below(4) {
        0 => out.extend_from_slice(b"\r\n"),
        1 if version == "1.1" => chunked(random, &body, out),
        _ => {
            let zeros = if random.one_in(6) { "00" } else { "" };
            let header = format!("Content-Length: {zeros}{}\r\n\r\n", body.len());
            out.extend_from_slice(header.as_bytes());
            out.extend_from_slice(&body);
        }
    }
}

fn chunked(random: &mut Random, body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
    for chunk in body.chunks(1 + random.below(20)) {
        let extension = pick(random, &["", "", ";a=b", ";q=\"x;y\"", " ;a"]);
        out.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(
        pick(random, &["0\r\n\r\n", "000\r\n\r\n", "0\r\nX-Sum: 1\r\n\r\n"]).as_bytes(),
    );
}

/// Spoils something from `from` on.
pub fn mutate(random: &mut Random, bytes: &mut Vec<u8>, from: usize) {
    let at = from + random.below(bytes.len() - from + 1);
    let end = (at + 1 + random.below(8)).min(bytes.len());
    match random.below(6) {
        0 => drop(bytes.drain(at.min(end)..end)),
        1 => drop(bytes.splice(at..at, pick(random, &PIECES).iter().copied())),
        2 => drop(bytes.splice(at.min(end)..end, pick(random, &PIECES).iter().copied())),
        3 => {
            let again = bytes[at.min(end)..end].to_vec();
            drop(bytes.splice(at..at, again));
        }
        4 => bytes.truncate(bytes.len() - random.below(10).min(bytes.len() - from)),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
}

pub fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[random.below(from.len())]
}
