//! How long a sender wants to wait, by its header `Prefer` (RFC 7240).

use std::time::Duration;

/// The time that `Prefer` asks for: `wait=N` seconds, or none with `respond-async` alone. Of a preference
/// that is given twice the first counts (RFC 7240, section 2). `values` are those of the header, in order.
pub(super) fn wait_wanted<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<Duration> {
    let mut is_async = false;
    for value in values {
        for preference in String::from_utf8_lossy(value).split(',') {
            // Parameters of a preference follow a semicolon. Neither of the two has any.
            let preference = preference.split(';').next().unwrap_or_default();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            if name.eq_ignore_ascii_case("wait") && is_number {
                // What is too large for the type is longer than any wait.
                return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
            }
            is_async |= name.eq_ignore_ascii_case("respond-async");
        }
    }
    is_async.then_some(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_found_among_other_preferences() {
        let wanted = |values: &[&str]| {
            wait_wanted(values.iter().map(|value| value.as_bytes())).map(|it| it.as_secs())
        };
        for (values, expected) in [
            (&["wait=10"][..], Some(10)),
            (&["respond-async, WAIT = 5; x=1, wait=9"], Some(5)),
            (&["return=minimal", "wait=\"7\""], Some(7)),
            (&["wait=0"], Some(0)),
            (&["respond-async"], Some(0)),
            (&["wait=99999999999999999999999"], Some(u64::MAX)),
            (&["wait=-1"], None),
            (&["wait=soon"], None),
            (&["wait"], None),
            (&["handling=lenient", ""], None),
            (&[], None),
        ] {
            assert_eq!(wanted(values), expected, "{values:?}");
        }
    }
}
