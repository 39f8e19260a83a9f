//! How far a vessel is let go: `limits`, `nice` and `umask`; and the `user` of a fleet.

use super::Fields;
use crate::fleet_file::FleetFileError;
use crate::fleet_file::cursor::Cursor;
use crate::model::confinement::{Confinement, Limits};
use crate::model::duration::parse_duration;
use crate::model::limits::{LIMIT_MEMORY_BYTES_MIN, LIMIT_OPEN_FILES_MIN, USER_NAME_BYTES_MAX};
use crate::model::size::parse_size;

const LIMIT_KEYS: &[&str] = &["memory", "cpu_time", "open_files", "processes", "file_size"];
/// More than any of these limits can be: what the kernel takes for a number of files
/// (`fs.nr_open`) and of processes (`kernel.pid_max`) ends far below.
const NUMBER_MAX: u32 = 1 << 30;

/// What the fields of a vessel say about it.
pub(super) fn confinement(fields: &Fields<'_>) -> Result<Confinement, FleetFileError> {
    Ok(Confinement {
        limits: match fields.get("limits") {
            Some(limits) if !limits.is_null() => read_limits(limits)?,
            _ => Limits::default(),
        },
        nice: fields.get("nice").map(nice).transpose()?,
        umask: fields.get("umask").map(umask).transpose()?,
    })
}

/// The name of a user. Whether there is one of this name, and whether it may be used, is not known
/// here.
pub(super) fn user(cursor: &Cursor<'_>) -> Result<String, FleetFileError> {
    let name = cursor.text()?;
    let plain = |character: char| !character.is_control() && !":/, ".contains(character);
    if name.is_empty() || name.len() > USER_NAME_BYTES_MAX || !name.chars().all(plain) {
        return Err(cursor.invalid("expected the name of a user of this machine"));
    }
    Ok(name.to_owned())
}

fn read_limits(cursor: &Cursor<'_>) -> Result<Limits, FleetFileError> {
    let fields = cursor.fields(LIMIT_KEYS)?;
    let size = |key, min| fields.get(key).map(|cursor| size(cursor, min)).transpose();
    let number = |key, min| {
        let number = fields.get(key).map(|cursor| cursor.number(min..=NUMBER_MAX));
        number.transpose().map(|number| number.map(u64::from))
    };
    Ok(Limits {
        memory: size("memory", LIMIT_MEMORY_BYTES_MIN)?,
        cpu_time: fields.get("cpu_time").map(seconds).transpose()?,
        open_files: number("open_files", LIMIT_OPEN_FILES_MIN)?,
        processes: number("processes", 1)?,
        file_size: size("file_size", 0)?,
    })
}

fn size(cursor: &Cursor<'_>, min: u64) -> Result<u64, FleetFileError> {
    let bytes = parse_size(cursor.text()?).map_err(|message| cursor.invalid(message))?;
    if bytes < min {
        return Err(cursor.invalid(format!("less than {min} bytes, with which no program starts")));
    }
    Ok(bytes)
}

/// A duration of whole seconds, which is what the kernel counts.
fn seconds(cursor: &Cursor<'_>) -> Result<u64, FleetFileError> {
    let duration = parse_duration(cursor.text()?).map_err(|message| cursor.invalid(message))?;
    if duration.as_secs() == 0 || duration.subsec_millis() > 0 {
        return Err(cursor.invalid("expected a duration of whole seconds, at least 1s"));
    }
    Ok(duration.as_secs())
}

fn nice(cursor: &Cursor<'_>) -> Result<i32, FleetFileError> {
    let number = cursor.text()?.parse().ok().filter(|number| (-20..=19).contains(number));
    number.ok_or_else(|| cursor.invalid("expected a whole number from -20 to 19"))
}

/// Octal, with or without quotes: what is written counts, not what YAML makes of it.
fn umask(cursor: &Cursor<'_>) -> Result<u32, FleetFileError> {
    let text = cursor.text()?;
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|it| (b'0'..b'8').contains(&it));
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| digits && *mask <= 0o777);
    mask.ok_or_else(|| cursor.invalid("expected three octal digits, such as 027"))
}
