//! Durations in text: `10s`, `1h30m`, `250ms`. Fleet files and the configuration share this
//! form.

use std::time::Duration;

use jiff::SpanRelativeTo;
use jiff::fmt::friendly::SpanParser;

/// The one parser; its units are the usual ones (`h`, `hour`, `hours`, ...).
static PARSER: SpanParser = SpanParser::new();

/// No duration needs more; a message quotes what it refuses.
const TEXT_BYTES_MAX: usize = 64;

/// Reads a duration: numbers with units from weeks (seven days of 24 hours) to milliseconds,
/// largest first, such as `10s`, `5m0s`, `1h 30m`, `1.5h`, `7d`, `250ms`. `0` needs no unit.
///
/// # Errors
/// A message for a person, when the text is something else, negative, or finer than a millisecond.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err("is too long for a duration; write it like 10s, 5m or 1h30m".to_owned());
    }
    let malformed =
        || format!("{text:?} is not a duration; write it like 10s, 5m or 1h30m (units d h m s ms)");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.starts_with('-') || text.trim_end().ends_with("ago") {
        return Err(format!("{text:?} is negative; a duration is at least 0s"));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{text:?} has no unit; for seconds write {text}s"));
    }
    // The parser also takes signs, commas and clock times. Only texts that a reader takes for a duration
    // at first sight pass this check.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b' ';
    if !text.starts_with(|first: char| first.is_ascii_digit()) || !text.bytes().all(plain) {
        return Err(malformed());
    }
    let span = PARSER.parse_span(text).map_err(|_| malformed())?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| malformed())?;
    let duration = Duration::try_from(signed).map_err(|_| malformed())?;
    if !duration.subsec_nanos().is_multiple_of(1_000_000) {
        return Err(format!("{text:?} is finer than a millisecond; write whole milliseconds"));
    }
    Ok(duration)
}

/// Writes a duration so that [`parse_duration`] reads the same: `1h30m`, `10s`, `250ms`, `0s`.
/// Fractions of a millisecond are dropped.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(duration.subsec_millis()), "ms"),
    ];
    let text: String = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Durations as whole milliseconds, the form of stored rows.
pub mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_in_their_usual_forms() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("0h0m0s", 0),
            ("10s", 10_000),
            ("5m0s", 300_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("90 seconds", 90_000),
            ("250ms", 250),
            ("7d", 604_800_000),
            ("1w", 604_800_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn an_invalid_duration_is_refused_with_the_form_to_write() {
        for (text, part) in [
            ("10", "for seconds write 10s"),
            ("-5s", "is negative"),
            ("5s ago", "is negative"),
            ("1 fortnight", "is not a duration; write it like 10s"),
            ("", "is not a duration"),
            (" 5s", "is not a duration"),
            ("+5s", "is not a duration"),
            ("00:05:00", "is not a duration"),
            ("PT5M", "is not a duration"),
            ("5s 1h", "is not a duration"),
            ("1mo", "is not a duration"),
            ("1y", "is not a duration"),
            ("ten seconds", "is not a duration"),
            ("99999999999999999999h", "is not a duration"),
            ("1us", "finer than a millisecond"),
            ("0.0001s", "finer than a millisecond"),
            (&"9".repeat(1000), "too long"),
        ] {
            let message = parse_duration(text).expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn durations_are_written_in_their_shortest_form() {
        for (millis, text) in [
            (0, "0s"),
            (250, "250ms"),
            (10_000, "10s"),
            (5_400_000, "1h30m"),
            (90_000_000, "25h"),
            (3_600_001, "1h1ms"),
        ] {
            assert_eq!(format_duration(Duration::from_millis(millis)), text);
        }
    }

    proptest! {
        #[test]
        fn a_written_duration_reads_back(millis in 0..=crate::model::guardrails::RUNTIME_CUTOFF_MAX.as_millis() as u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }
}
