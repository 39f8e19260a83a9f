//! Text that is cut, between two characters, and text that is escaped. Where bytes are cut, those that
//! are no UTF-8 stay as they are.

/// Bytes that a character has at most.
const LETTER_BYTES_MAX: usize = 4;

/// The beginning of `text` that has at most `bytes_max` bytes.
pub fn prefix(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// `text` as a part of a path or query (RFC 3986, section 2).
pub fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Whether `byte` may be part of a token, such as a method or a header's name (RFC 9110 5.6.2).
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `bytes`, which were cut somewhere at their end, without the part of a character there.
pub fn without_cut_end(bytes: &[u8]) -> &[u8] {
    let end = bytes.len();
    let from = end.saturating_sub(LETTER_BYTES_MAX - 1);
    let lead = (from..end).rev().find(|at| !is_continuation(bytes[*at]));
    match lead {
        Some(lead) if lead + letter_bytes(bytes[lead]) > end => &bytes[..lead],
        _ => bytes,
    }
}

/// `bytes`, which were cut somewhere at their start, without the part of a character there.
pub fn without_cut_start(bytes: &[u8]) -> &[u8] {
    let part =
        bytes.iter().take(LETTER_BYTES_MAX).take_while(|byte| is_continuation(**byte)).count();
    if part < LETTER_BYTES_MAX { &bytes[part..] } else { bytes }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// How many bytes the character has that begins with `lead`.
fn letter_bytes(lead: u8) -> usize {
    match lead {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_falls_between_characters() {
        let text = "aé€😀z";
        for at in 0..=text.len() {
            let (before, after) = text.as_bytes().split_at(at);
            let before = str::from_utf8(without_cut_end(before)).unwrap();
            let after = str::from_utf8(without_cut_start(after)).unwrap();
            assert!(text.starts_with(before) && text.ends_with(after), "{at}");
            assert!(before.chars().count() + after.chars().count() >= 4, "{at}");
            assert_eq!(prefix(text, at), before);
        }
    }

    #[test]
    fn parts_of_paths_are_encoded() {
        assert_eq!(percent_encoded("a/b é&=~"), "a%2Fb%20%C3%A9%26%3D~");
    }

    #[test]
    fn bytes_that_are_no_utf8_stay() {
        for bytes in [&b""[..], &[0x80; 9], &[0xff, 0xff], b"a\x80"] {
            assert_eq!(without_cut_end(bytes), bytes);
        }
        assert_eq!(without_cut_start(&[0x80; 9]), [0x80; 9]);
    }
}
