//! Time zones by their IANA names, as far as this machine's database (the package tzdata) has them.
//! UTC needs none.

use jiff::tz::{TimeZone, TimeZoneDatabase};

/// The names of UTC, by which it is known on a machine without a database as well.
const UTC_NAMES: [&str; 12] = [
    "UTC",
    "Etc/UTC",
    "UCT",
    "Etc/UCT",
    "Zulu",
    "Etc/Zulu",
    "Universal",
    "Etc/Universal",
    "GMT",
    "Etc/GMT",
    "Greenwich",
    "Etc/Greenwich",
];

/// Whether `name` is UTC by one of its names.
pub fn is_utc(name: &str) -> bool {
    UTC_NAMES.iter().any(|utc| utc.eq_ignore_ascii_case(name))
}

/// Whether this machine has a time zone database. Looks each time: it may be installed while the
/// server runs.
pub fn has_database() -> bool {
    TimeZoneDatabase::from_env().available().next().is_some()
}

/// Whether the time zone `name` is known here.
pub fn is_known(name: &str) -> bool {
    // jiff takes this name for an unknown zone.
    let is_none = name.eq_ignore_ascii_case("Etc/Unknown");
    is_utc(name) || !is_none && TimeZoneDatabase::from_env().get(name).is_ok()
}

/// The time zone `name`.
///
/// # Errors
/// As [`check`].
pub fn get(name: &str) -> Result<TimeZone, String> {
    if is_utc(name) {
        return Ok(TimeZone::UTC);
    }
    // This database keeps what it has read, but does not see one that is installed later.
    let known = jiff::tz::db().get(name).ok().filter(|zone| !zone.is_unknown());
    if let Some(zone) = known {
        return Ok(zone);
    }
    check(name)?;
    TimeZoneDatabase::from_env()
        .get(name)
        .map_err(|error| format!("the time zone {name:?} cannot be read: {error}"))
}

/// Checks that the time zone `name` is known here.
///
/// # Errors
/// A message for a person that says what to do.
pub fn check(name: &str) -> Result<(), String> {
    if is_known(name) {
        Ok(())
    } else if has_database() {
        Err(format!("unknown time zone {name:?}; write an IANA name such as Europe/Berlin"))
    } else {
        Err(format!(
            "the time zone {name:?} cannot be looked up: this machine has no time zone database; \
             install the package tzdata, or write UTC"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc_is_known_by_all_its_names() {
        for name in ["UTC", "utc", "Etc/UTC", "GMT", "Zulu"] {
            assert!(is_utc(name) && check(name).is_ok(), "{name}");
        }
        for name in ["", "Etc/Unknown", "Nowhere/City", "../etc/passwd", "/etc/localtime"] {
            assert!(check(name).is_err(), "{name}");
        }
    }
}
