//! Sizes in text: `512MiB`, `1GiB`, `4096`. Fleet files and the configuration share this form.

/// The binary units, the largest first, and by how many bits each shifts a number of bytes.
const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];

/// Reads a number of bytes, bare or with KiB, MiB or GiB.
///
/// # Errors
/// A message for a person, when the text is something else or too large.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    let shift = match UNITS.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name)) {
        Some((_, shift)) => Some(*shift),
        None => unit.is_empty().then_some(0),
    };
    let bytes = number.parse::<u64>().ok().zip(shift);
    bytes.and_then(|(number, shift)| number.checked_mul(1 << shift)).ok_or_else(|| {
        format!("not a size: {text:?}; write a number of bytes, or one with KiB, MiB or GiB")
    })
}

/// Writes a size so that [`parse_size`] reads the same, in the largest unit that is exact.
pub fn format_size(bytes: u64) -> String {
    let exact = |(_, shift): &&(&str, u32)| bytes > 0 && bytes.is_multiple_of(1 << shift);
    match UNITS.iter().find(exact) {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_carry_a_binary_unit() {
        for (text, bytes) in
            [("0", 0), ("131072", 131_072), ("1KiB", 1024), ("25 MiB", 25 << 20), ("2gib", 2 << 30)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5MiB", "25MB", "99999999999GiB", "1 MiB x"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_read_back() {
        for (bytes, text) in
            [(0, "0"), (1000, "1000"), (1024, "1KiB"), (512 << 20, "512MiB"), (3 << 30, "3GiB")]
        {
            assert_eq!(format_size(bytes), text);
            assert_eq!(parse_size(text), Ok(bytes));
        }
    }
}
