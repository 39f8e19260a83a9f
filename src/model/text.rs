//! Text that is cut: between two characters, never inside one. Bytes that are no UTF-8 stay as they
//! are.

/// Bytes that a character has at most.
const LETTER_BYTES_MAX: usize = 4;

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
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_stay() {
        for bytes in [&b""[..], &[0x80; 9], &[0xff, 0xff], b"a\x80"] {
            assert_eq!(without_cut_end(bytes), bytes);
        }
        assert_eq!(without_cut_start(&[0x80; 9]), [0x80; 9]);
    }
}
