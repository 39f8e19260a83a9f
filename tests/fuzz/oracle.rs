//! What must hold whatever bytes come in: the fuzz targets call this, and so does the test that
//! replays their corpus. The listener's parsers are compared with readings that are written as simply
//! as can be and look at the whole input at once.

#![allow(dead_code, reason = "each target uses its part")]

#[path = "senders.rs"]
pub mod senders;

use boathook::internals::{Decoder, Framing, Head, Refusal, Scanner, limits};

/// What a reader makes of the head at the beginning of a connection: nothing yet, or where it ends
/// and what it says.
pub type HeadRead = Result<Option<(usize, Head)>, Refusal>;

/// The body at the beginning of some bytes and how many of them it took; `None` when it goes on.
pub type BodyRead = Result<Option<(Vec<u8>, usize)>, Refusal>;

/// Reads heads. The first byte of `input` says in what pieces the rest arrives.
pub fn head(input: &[u8]) {
    let Some((step, bytes)) = input.split_first() else { return };
    let whole = read_head(bytes, bytes.len());
    assert_eq!(whole, read_head(bytes, piece_length(*step)), "pieces change what is read");
    if let Ok(Some((end, head))) = whole {
        let (read, rest) = bytes.split_at(end);
        check_head(read, &head);
        assert_eq!(read_head(read, end), Ok(Some((end, head))), "{} bytes follow", rest.len());
    }
}

/// Reads chunked bodies. The first byte of `input` says in what pieces the rest arrives.
pub fn chunks(input: &[u8]) {
    let Some((step, bytes)) = input.split_first() else { return };
    let step = piece_length(*step);
    let whole = read_chunks(bytes, bytes.len());
    assert_eq!(whole, read_chunks(bytes, step), "pieces change what is read");
    if let Ok(Some((body, end))) = whole {
        assert_eq!(Some(body), plain_chunks(&bytes[..end]), "another reader sees another body");
    }
    let mut encoded = Vec::new();
    for chunk in bytes.chunks(step) {
        encoded.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
        encoded.extend_from_slice(chunk);
        encoded.extend_from_slice(b"\r\n");
    }
    encoded.extend_from_slice(b"0\r\n\r\n");
    let end = encoded.len();
    encoded.extend_from_slice(b"GET /");
    assert_eq!(read_chunks(&encoded, step), Ok(Some((bytes.to_vec(), end))));
}

fn piece_length(step: u8) -> usize {
    usize::from(step % 64) + 1
}

/// What comes of the head in `bytes` when they arrive `step` at a time.
pub fn read_head(bytes: &[u8], step: usize) -> HeadRead {
    let mut scanner = Scanner::new();
    for piece in bytes.chunks(step.max(1)) {
        if let Some(end) = scanner.scan(piece)? {
            return Head::parse(&bytes[..end], &scanner).map(|head| Some((end, head)));
        }
    }
    Ok(None)
}

/// What comes of the chunked body in `bytes` when they arrive `step` at a time.
pub fn read_chunks(bytes: &[u8], step: usize) -> BodyRead {
    let mut decoder = Decoder::new();
    let (mut body, mut used) = (Vec::new(), 0);
    for piece in bytes.chunks(step.max(1)) {
        let mut rest = piece;
        while !rest.is_empty() && !decoder.is_done() {
            let (took, data) = decoder.next(rest)?;
            assert!(took > 0, "a decoder that takes nothing never ends");
            body.extend_from_slice(data);
            used += took;
            rest = &rest[took..];
        }
    }
    Ok(decoder.is_done().then_some((body, used)))
}

/// Whether `head` is what the bytes of it say, and nothing that two readers may read differently.
fn check_head(bytes: &[u8], head: &Head) {
    assert!(bytes.len() <= limits::HEAD_BYTES_MAX && head.headers.len() <= limits::HEADERS_MAX);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\r' => assert_eq!(bytes.get(at + 1), Some(&b'\n'), "a bare CR"),
            b'\n' => assert!(at > 0 && bytes[at - 1] == b'\r', "a bare LF"),
            _ => assert!(*byte == b'\t' || (*byte >= b' ' && *byte != 0x7f), "a control character"),
        }
    }
    let mut lines = lines(bytes).skip_while(|line| line.is_empty());
    let request_line = lines.next().unwrap_or_default();
    assert!(request_line.len() <= limits::REQUEST_LINE_BYTES_MAX + 1);
    let words: Vec<&[u8]> = request_line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { panic!("not three words") };
    assert_eq!(method, head.method.as_bytes());
    assert_eq!(version, if head.is_old { b"HTTP/1.0" } else { b"HTTP/1.1" });
    if target.first() == Some(&b'/') {
        let question = if target.contains(&b'?') { "?" } else { "" };
        assert_eq!(target, format!("{}{question}{}", head.path, head.query).as_bytes());
    }
    let headers: Vec<(String, Vec<u8>)> =
        lines.take_while(|line| !line.is_empty()).map(header).collect();
    assert_eq!(headers, head.headers);
    check_framing(head);
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn header(line: &[u8]) -> (String, Vec<u8>) {
    let colon = line.iter().position(|byte| *byte == b':').expect("a colon");
    let (name, value) = line.split_at(colon);
    assert!(!name.is_empty() && name.iter().all(u8::is_ascii_graphic), "{name:?}");
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let from =
        value.iter().skip(1).position(|byte| !is_space(byte)).map_or(value.len(), |at| at + 1);
    let to = value.iter().rposition(|byte| !is_space(byte)).map_or(from, |at| at + 1);
    (String::from_utf8(name.to_vec()).unwrap(), value[from..to.max(from)].to_vec())
}

fn check_framing(head: &Head) {
    let values = |name: &str| -> Vec<&[u8]> {
        let named = head.headers.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_slice()).collect()
    };
    let (codings, lengths) = (values("transfer-encoding"), values("content-length"));
    match (&codings[..], &lengths[..]) {
        ([], []) => assert_eq!(head.framing, Framing::Length(0)),
        ([], [digits]) => {
            assert!(!digits.is_empty() && digits.iter().all(u8::is_ascii_digit), "{digits:?}");
            let length = std::str::from_utf8(digits).unwrap().parse().unwrap();
            assert_eq!(head.framing, Framing::Length(length));
        }
        ([coding], []) => {
            assert!(coding.eq_ignore_ascii_case(b"chunked") && !head.is_old);
            assert_eq!(head.framing, Framing::Chunked);
        }
        _ => panic!("framed in more than one way"),
    }
    let hosts = values("host").len();
    assert!(hosts == 1 || (hosts == 0 && head.is_old), "{hosts} hosts");
}

/// The body that `bytes` hold from their first to their last byte.
fn plain_chunks(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut body, mut rest) = (Vec::new(), bytes);
    loop {
        let (line, after) = line(rest)?;
        let digits = line.split(|byte| *byte == b';').next()?.trim_ascii_end();
        let length = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        if length == 0 {
            return ends_with_trailers(after).then_some(body);
        }
        let length = usize::try_from(length).ok()?;
        body.extend_from_slice(after.get(..length)?);
        rest = after.get(length..)?.strip_prefix(b"\r\n")?;
    }
}

fn ends_with_trailers(mut rest: &[u8]) -> bool {
    while let Some((trailer, after)) = line(rest) {
        if trailer.is_empty() {
            return after.is_empty();
        }
        // Without a colon it is no trailer.
        header(trailer);
        rest = after;
    }
    false
}

/// The first line, and what follows it.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[..end], &bytes[end + 2..]))
}
