//! Values that an expression gives: `{expr: body.ref, default: main}`.

use crate::fleet_file::FleetFileError;
use crate::fleet_file::cursor::{Cursor, Fields};
use crate::model::computed::ComputedValue;
use crate::model::expression::Expression;

/// Keys of a computed variable.
pub const VARIABLE_KEYS: [&str; 2] = ["expr", "default"];
/// Keys of a computed argument.
pub const ARGUMENT_KEYS: [&str; 3] = ["expr", "default", "allow_dash"];

/// The value whose expression stands at `expr`, with what `fields` say of it.
pub fn computed(
    expr: &Cursor<'_>,
    fields: &Fields<'_>,
    check: impl Fn(&str) -> Result<(), String>,
) -> Result<ComputedValue, FleetFileError> {
    let default = fields.get("default").map(|default| {
        let text = default.text()?;
        check(text).map_err(|message| default.invalid(message))?;
        Ok(text.to_owned())
    });
    Ok(ComputedValue {
        expr: expression(expr)?,
        default: default.transpose()?,
        allow_dash: fields.get("allow_dash").map_or(Ok(false), Cursor::truth)?,
    })
}

/// The expression that `cursor` holds.
pub fn expression(cursor: &Cursor<'_>) -> Result<Expression, FleetFileError> {
    Expression::parse(cursor.text()?).map_err(|error| {
        let place = error.column.map(|column| format!(" (character {column} of the expression)"));
        cursor.invalid(format!("{}{}", error.message, place.unwrap_or_default()))
    })
}
