//! Forms (application/x-www-form-urlencoded, WHATWG URL, section 5.1): in pieces, or one field of a form of any
//! size.

use std::io::{self, Read};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 16 * 1024;
/// Bytes of a field's name that are kept: longer names are none that anything asks for.
const NAME_BYTES_MAX: usize = 64;

/// The names and values of a form in memory, decoded.
pub fn pairs(form: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + '_ {
    form.split(|byte| *byte == b'&').filter(|field| !field.is_empty()).map(|field| {
        let divider = field.iter().position(|byte| *byte == b'=');
        let (name, value) = field.split_at(divider.unwrap_or(field.len()));
        (decoded(name), decoded(value.get(1..).unwrap_or_default()))
    })
}

/// What Twilio signs of a form: names and values, sorted, equal pairs once.
pub fn sorted(form: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut pairs: Vec<_> = pairs(form).collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

/// `query` without the fields called `name`.
pub fn without(query: &str, name: &str) -> String {
    let is_other = |field: &&str| {
        let given = field.split('=').next().unwrap_or_default();
        decoded(given.as_bytes()) != name.as_bytes()
    };
    query.split('&').filter(is_other).collect::<Vec<_>>().join("&")
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let mut decoder = Decoder::default();
    let mut bytes = Vec::with_capacity(text.len());
    for byte in text {
        decoder.push(*byte, &mut bytes);
    }
    decoder.finish(&mut bytes);
    bytes
}

/// Feeds the decoded value of the first field called `name` to `sink`, in pieces. Memory is bounded whatever
/// the form's size.
///
/// # Errors
/// When the form cannot be read.
pub fn field(mut form: impl Read, name: &[u8], sink: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut piece = Vec::with_capacity(BUFFER_BYTES);
    let mut decoder = Decoder::default();
    let mut current = Vec::new();
    let mut place = FieldPart::Name;
    loop {
        let read = form.read(&mut buffer)?;
        for byte in buffer.get(..read).unwrap_or_default() {
            match (place, byte) {
                (FieldPart::Wanted, b'&') => {
                    decoder.finish(&mut piece);
                    sink(&piece);
                    return Ok(());
                }
                (_, b'&') => {
                    decoder = Decoder::default();
                    current.clear();
                    place = FieldPart::Name;
                }
                (FieldPart::Name, b'=') => {
                    decoder.finish(&mut current);
                    place = if current == name { FieldPart::Wanted } else { FieldPart::Other };
                }
                (FieldPart::Name, byte) if current.len() < NAME_BYTES_MAX => {
                    decoder.push(*byte, &mut current);
                }
                (FieldPart::Wanted, byte) => decoder.push(*byte, &mut piece),
                _ => {}
            }
        }
        if read == 0 && place == FieldPart::Wanted {
            decoder.finish(&mut piece);
        }
        sink(&piece);
        piece.clear();
        if read == 0 {
            return Ok(());
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FieldPart {
    Name,
    /// A value that is not asked for.
    Other,
    Wanted,
}

/// Decodes `+` and `%XX`, byte by byte. A percent sign without two digits stands for itself.
#[derive(Default)]
struct Decoder {
    escape: Option<Option<u8>>,
}

impl Decoder {
    fn push(&mut self, byte: u8, bytes: &mut Vec<u8>) {
        match self.escape {
            None if byte == b'%' => self.escape = Some(None),
            None => bytes.push(if byte == b'+' { b' ' } else { byte }),
            Some(None) if byte.is_ascii_hexdigit() => self.escape = Some(Some(byte)),
            Some(Some(high)) if byte.is_ascii_hexdigit() => {
                self.escape = None;
                bytes.push(digit(high) << 4 | digit(byte));
            }
            Some(_) => {
                self.finish(bytes);
                self.push(byte, bytes);
            }
        }
    }

    /// An escape that has not ended stands for itself.
    fn finish(&mut self, bytes: &mut Vec<u8>) {
        if let Some(high) = self.escape.take() {
            bytes.push(b'%');
            bytes.extend(high);
        }
    }
}

fn digit(hex: u8) -> u8 {
    char::from(hex).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a byte at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let end = buffer.len().min(1);
            self.0.read(&mut buffer[..end])
        }
    }

    #[test]
    fn fields_are_decoded_alike_in_memory_and_in_pieces() {
        for (form, expected) in [
            ("payload=%7B%22a%22%3A+1%7D&x=1", Some("{\"a\": 1}")),
            ("x=1&payload=a%26b", Some("a&b")),
            ("p%61yload=a", Some("a")),
            ("payload=first&payload=second", Some("first")),
            ("payload=%", Some("%")),
            ("payload=%4", Some("%4")),
            ("payload=%4&", Some("%4")),
            ("payload=%zz%%41", Some("%zz%A")),
            ("payload=a=b", Some("a=b")),
            ("payload", Some("")),
            ("payload=", Some("")),
            ("&&=&x", None),
            ("", None),
        ] {
            let found = pairs(form.as_bytes()).find(|(name, _)| name == b"payload");
            let found = found.map(|(_, value)| String::from_utf8(value).unwrap());
            assert_eq!(found.as_deref(), expected, "{form}");
            let mut streamed = Vec::new();
            field(Slow(form.as_bytes()), b"payload", &mut |it| streamed.extend_from_slice(it))
                .unwrap();
            assert_eq!(streamed, expected.unwrap_or_default().as_bytes(), "{form}");
        }
        let pairs = sorted(b"b=2&a=2&a=1&a=1&B=%C3%A4");
        let text: Vec<u8> =
            pairs.into_iter().flat_map(|(name, value)| [name, value].concat()).collect();
        assert_eq!(text, "B\u{e4}a1a2b2".as_bytes());
    }
}
