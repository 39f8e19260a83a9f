//! Functions on text beside those of CEL, named as in the strings extension of other implementations.
//! Each bounds its own result.

use cel::common::types::{CelInt, CelList, CelString};
use cel::common::value::Val;
use cel::{Env, ExecutionError};

use super::meter;

/// Bytes of a result. What is longer ends the evaluation.
const BYTES_MAX: usize = 1 << 20;
const PARTS_MAX: usize = 10_000;

/// Declares them.
pub(super) fn declare(env: &mut Env) {
    let declared = add_all(env);
    debug_assert!(declared.is_ok(), "they are declared once: {declared:?}");
}

fn add_all(env: &mut Env) -> Result<(), cel::DeclarationError> {
    cel::add_member_overload!(env, fn lower_ascii: (CelString) -> CelString)?;
    cel::add_member_overload!(env, fn upper_ascii: (CelString) -> CelString)?;
    cel::add_member_overload!(env, fn trim: (CelString) -> CelString)?;
    cel::add_member_overload!(env, fn replace: (CelString, CelString, CelString) -> Result<CelString>)?;
    cel::add_member_overload!(env, fn split: (CelString, CelString) -> Result<CelList>)?;
    cel::add_member_overload!(env, fn join: (CelList, CelString) -> Result<CelString>)?;
    cel::add_member_overload!(env, fn substring: (CelString, CelInt) -> Result<CelString>)?;
    cel::add_member_overload!(env, fn substring_range: (CelString, CelInt, CelInt) -> Result<CelString>,
        name = "substring")
}

fn lower_ascii(text: &CelString<'_>) -> CelString<'static> {
    text.inner().to_ascii_lowercase().into()
}

fn upper_ascii(text: &CelString<'_>) -> CelString<'static> {
    text.inner().to_ascii_uppercase().into()
}

fn trim(text: &CelString<'_>) -> CelString<'static> {
    text.inner().trim().to_owned().into()
}

fn replace(
    text: &CelString<'_>,
    from: &CelString<'_>,
    to: &CelString<'_>,
) -> Result<CelString<'static>, ExecutionError> {
    let (text, from, to) = (text.inner(), from.inner(), to.inner());
    let places = text.matches(from).take(BYTES_MAX).count();
    if text.len().saturating_add(places.saturating_mul(to.len())) > BYTES_MAX {
        return Err(too_long("replace"));
    }
    Ok(text.replace(from, to).into())
}

fn split(
    text: &CelString<'_>,
    separator: &CelString<'_>,
) -> Result<CelList<'static>, ExecutionError> {
    let part = |part: &str| Box::new(CelString::from(part.to_owned())) as Box<dyn Val>;
    let parts = text.inner().split(separator.inner()).take(PARTS_MAX + 1).map(part);
    let parts: Vec<Box<dyn Val>> = parts.collect();
    if parts.len() > PARTS_MAX { Err(too_long("split")) } else { Ok(parts.into()) }
}

fn join(
    list: &CelList<'_>,
    separator: &CelString<'_>,
) -> Result<CelString<'static>, ExecutionError> {
    let mut joined = String::new();
    for (at, element) in list.inner().iter().enumerate() {
        let text = element.downcast_ref::<CelString>().ok_or_else(|| {
            ExecutionError::function_error("join", "the list holds something that is not text")
        })?;
        if at > 0 {
            joined.push_str(separator.inner());
        }
        joined.push_str(text.inner());
        if joined.len() > BYTES_MAX {
            return Err(too_long("join"));
        }
    }
    Ok(joined.into())
}

fn substring(text: &CelString<'_>, from: &CelInt) -> Result<CelString<'static>, ExecutionError> {
    let count = text.inner().chars().count() as i64;
    substring_range(text, from, &CelInt::from(count))
}

fn substring_range(
    text: &CelString<'_>,
    from: &CelInt,
    to: &CelInt,
) -> Result<CelString<'static>, ExecutionError> {
    let range = (usize::try_from(*from.inner()), usize::try_from(*to.inner()));
    let count = text.inner().chars().count();
    match range {
        (Ok(from), Ok(to)) if from <= to && to <= count => {
            Ok(text.inner().chars().skip(from).take(to - from).collect::<String>().into())
        }
        _ => Err(ExecutionError::function_error("substring", "the text is not that long")),
    }
}

fn too_long(function: &str) -> ExecutionError {
    ExecutionError::function_error(function, meter::EXHAUSTED)
}
