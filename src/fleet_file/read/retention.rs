//! Which runs of a fleet are kept.

use crate::fleet_file::FleetFileError;
use crate::fleet_file::cursor::Cursor;
use crate::model::duration::parse_duration;
use crate::model::limits::KEEP_COUNT_MAX;
use crate::model::retention::Retention;

/// `keep_runs`: as text, or with the keys `age` and `count`; `None` for an empty one.
pub(super) fn keep_runs(cursor: &Cursor<'_>) -> Result<Option<Retention>, FleetFileError> {
    if cursor.is_null() {
        return Ok(None);
    }
    if !cursor.is_mapping() {
        let parsed = cursor.text()?.parse();
        return parsed.map(Some).map_err(|message: String| cursor.invalid(message));
    }
    let fields = cursor.fields(&["age", "count"])?;
    let age = match fields.get("age") {
        Some(age) => Some(parse_duration(age.text()?).map_err(|message| age.invalid(message))?),
        None => None,
    };
    let count = fields.get("count").map(|count| count.number(1..=KEEP_COUNT_MAX)).transpose()?;
    if age.is_none() && count.is_none() {
        return Err(cursor.invalid("says neither `age` nor `count`; to keep all, write `forever`"));
    }
    Retention::new(age, count).map(Some).map_err(|message| cursor.invalid(message))
}
