//! A fleet's `triggers`: the hosted system keeps schedules there, which this server does not have.

use crate::fleet_file::FleetFileError;
use crate::fleet_file::cursor::Cursor;

/// Lets pass a block without schedules.
pub(super) fn refuse_schedules(cursor: &Cursor<'_>) -> Result<(), FleetFileError> {
    if cursor.is_null() {
        return Ok(());
    }
    match cursor.fields(&["schedules"])?.get("schedules") {
        Some(schedules) if !schedules.is_null() && !schedules.sequence()?.is_empty() => {
            Err(schedules.invalid_key(
                "`schedules` are not supported; remove them, and have cron or a systemd timer call \
                 `boathook run`",
            ))
        }
        _ => Ok(()),
    }
}
