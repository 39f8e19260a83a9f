//! When the runs of a fleet have their turn: how many at a time, what becomes of more, and before
//! whose.

use super::expected_word;
use crate::fleet_file::FleetFileError;
use crate::fleet_file::cursor::Fields;
use crate::model::limits::PRIORITY_MAX;
use crate::model::overlap::Overlap;

/// `concurrency` and `overlap`. Whoever says what happens to a second run, and not how many may
/// run at a time, means one.
pub(super) fn concurrency(fields: &Fields<'_>) -> Result<(Option<u32>, Overlap), FleetFileError> {
    let limit = match fields.get("concurrency") {
        Some(limit) => Some(limit.number(1..=u32::MAX)?),
        None => None,
    };
    let Some(cursor) = fields.get("overlap") else { return Ok((limit, Overlap::default())) };
    let word = cursor.text()?;
    let overlap = Overlap::ALL.into_iter().find(|overlap| overlap.word() == word);
    let overlap = overlap
        .ok_or_else(|| cursor.invalid(expected_word(word, &Overlap::ALL.map(Overlap::word))))?;
    Ok((limit.or(Some(1)), overlap))
}

/// `priority`.
pub(super) fn priority(fields: &Fields<'_>) -> Result<i8, FleetFileError> {
    fields.get("priority").map_or(Ok(0), |priority| priority.signed_number(PRIORITY_MAX))
}
