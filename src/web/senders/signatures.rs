//! Reads signatures and timestamps out of headers. Pure; the bytes are a stranger's.

use super::crypto;
use crate::model::clock::Timestamp;
use crate::model::sender::{Encoding, Form, Unit};

/// Signatures in one header: a rotation needs two.
const SIGNATURES_MAX: usize = 16;

/// Why a header has no signature that could be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It does not begin with the prefix, or has no part with the key.
    Absent,
    /// Not hex, not base64.
    Undecodable,
    TooMany,
    /// A part that must be there once is there twice.
    Twice,
}

/// The signatures in `header`, decoded; at least one.
///
/// # Errors
/// When there is none.
pub fn signatures(
    header: &[u8],
    form: Form<'_>,
    encoding: Encoding,
) -> Result<Vec<Vec<u8>>, Malformed> {
    match form {
        Form::Prefixed(prefix) => {
            let text = header.strip_prefix(prefix.as_bytes()).ok_or(Malformed::Absent)?;
            crypto::decode(encoding, text)
                .filter(|bytes| !bytes.is_empty())
                .map(|signature| vec![signature])
                .ok_or(Malformed::Undecodable)
        }
        Form::Parts { separator, divider, key } => {
            let texts: Vec<_> = parts(header, separator, divider, key).collect();
            if texts.len() > SIGNATURES_MAX {
                return Err(Malformed::TooMany);
            }
            let decoded = texts.iter().filter_map(|text| crypto::decode(encoding, text));
            let decoded: Vec<_> = decoded.filter(|bytes| !bytes.is_empty()).collect();
            match (texts.is_empty(), decoded.is_empty()) {
                (true, _) => Err(Malformed::Absent),
                (false, true) => Err(Malformed::Undecodable),
                (false, false) => Ok(decoded),
            }
        }
    }
}

/// The value of the only part called `key`.
///
/// # Errors
/// When there is none, or more than one.
pub fn part<'a>(header: &'a [u8], form: Form<'_>, key: &str) -> Result<&'a [u8], Malformed> {
    let Form::Parts { separator, divider, .. } = form else { return Err(Malformed::Absent) };
    let mut values = parts(header, separator, divider, key);
    let value = values.next().filter(|value| !value.is_empty()).ok_or(Malformed::Absent)?;
    if values.next().is_some() { Err(Malformed::Twice) } else { Ok(value) }
}

fn parts<'a>(
    header: &'a [u8],
    separator: char,
    divider: char,
    key: &str,
) -> impl Iterator<Item = &'a [u8]> {
    header.split(move |byte| char::from(*byte) == separator).filter_map(move |part| {
        let part = part.trim_ascii();
        let at = part.iter().position(|byte| char::from(*byte) == divider)?;
        let (name, value) = part.split_at(at);
        (name == key.as_bytes()).then(|| value.get(1..).unwrap_or_default())
    })
}

/// The moment that `text` tells in `unit`, in milliseconds since the epoch; `None` when it is no such time.
/// Numbers are digits alone. What lies outside of the years that can be written is held at their end.
pub fn moment(text: &[u8], unit: Unit) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let factor = match unit {
        Unit::Seconds => 1000,
        Unit::Millis => 1,
        Unit::Rfc3339 => return text.parse().ok(),
    };
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<i64>().ok().filter(|_| is_number)?;
    Some(Timestamp::from_millis(number.saturating_mul(factor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRIPE: Form<'_> = Form::Parts { separator: ',', divider: '=', key: "v1" };
    const STANDARD: Form<'_> = Form::Parts { separator: ' ', divider: ',', key: "v1" };

    #[test]
    fn signatures_are_read_in_every_form() {
        let hex = |header: &str, form| signatures(header.as_bytes(), form, Encoding::Hex);
        assert_eq!(hex("sha256=0aff", Form::Prefixed("sha256=")), Ok(vec![vec![0x0a, 0xff]]));
        assert_eq!(hex("0aff", Form::Prefixed("")), Ok(vec![vec![0x0a, 0xff]]));
        assert_eq!(hex("t=1,v1=01,v0=02, v1=03", STRIPE), Ok(vec![vec![1], vec![3]]));
        assert_eq!(hex("v1=zz,v1=03", STRIPE), Ok(vec![vec![3]]));
        let standard = signatures(b"v1,AQ== v1a,Ag== v1,Aw==", STANDARD, Encoding::Base64);
        assert_eq!(standard, Ok(vec![vec![1], vec![3]]));
        assert_eq!(part(b"t=12,v1=01", STRIPE, "t"), Ok(&b"12"[..]));
    }

    #[test]
    fn what_is_no_signature_is_refused() {
        let many = "v1=01,".repeat(17);
        for (header, form, expected) in [
            ("sha1=0aff", Form::Prefixed("sha256="), Malformed::Absent),
            ("SHA256=0aff", Form::Prefixed("sha256="), Malformed::Absent),
            ("sha256=", Form::Prefixed("sha256="), Malformed::Undecodable),
            ("sha256=0AFF", Form::Prefixed("sha256="), Malformed::Undecodable),
            ("sha256=0af", Form::Prefixed("sha256="), Malformed::Undecodable),
            (" 0aff", Form::Prefixed(""), Malformed::Undecodable),
            ("t=1,v0=02", STRIPE, Malformed::Absent),
            ("", STRIPE, Malformed::Absent),
            ("v1", STRIPE, Malformed::Absent),
            ("v1=", STRIPE, Malformed::Undecodable),
            ("v1=zz", STRIPE, Malformed::Undecodable),
            (&many, STRIPE, Malformed::TooMany),
        ] {
            assert_eq!(
                signatures(header.as_bytes(), form, Encoding::Hex),
                Err(expected),
                "{header}"
            );
        }
        for (header, expected) in
            [("v1=1", Malformed::Absent), ("t=", Malformed::Absent), ("t=1,t=1", Malformed::Twice)]
        {
            assert_eq!(part(header.as_bytes(), STRIPE, "t"), Err(expected), "{header}");
        }
        // Other bits behind the last letter, other padding, another alphabet: other texts.
        for text in [&b"AR=="[..], b"AQ", b"AQ=", b"_w==", b"AQ==\n", b"AQ==AQ=="] {
            assert_eq!(crypto::decode(Encoding::Base64, text), None);
        }
    }

    #[test]
    fn timestamps_are_digits_or_rfc_3339() {
        let at = |text: &str, unit| moment(text.as_bytes(), unit).map(Timestamp::as_millis);
        assert_eq!(at("1614265330", Unit::Seconds), Some(1_614_265_330_000));
        assert_eq!(at("1614265330123", Unit::Millis), Some(1_614_265_330_123));
        assert_eq!(at("2021-02-25T15:02:10.5Z", Unit::Rfc3339), Some(1_614_265_330_500));
        // Milliseconds where seconds are meant, and the year 30,000: far in the future.
        let last = jiff::Timestamp::MAX.as_millisecond();
        assert_eq!(at("1614265330123", Unit::Seconds), Some(last));
        assert_eq!(at("884541351600", Unit::Seconds), Some(last));
        assert_eq!(at("9223372036854775807", Unit::Seconds), Some(last));
        for text in
            ["", "-1", "+1", "1.5", "1e9", "0x1", " 1", "1\n", "99999999999999999999", "\u{661}"]
        {
            assert_eq!(at(text, Unit::Seconds), None, "{text}");
        }
        for text in ["", "1614265330", "2021-02-25", "+030000-01-01T00:00:00Z", "never"] {
            assert_eq!(at(text, Unit::Rfc3339), None, "{text}");
        }
        assert_eq!(moment(b"\xff", Unit::Seconds), None);
    }
}
