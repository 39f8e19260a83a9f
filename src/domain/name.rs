//! What fleets, vessels and projects may be called. Whether a name is free is not known here.

use uuid::Uuid;

use crate::limits::NAME_BYTES_MAX;

/// Why a text cannot be a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name cannot be empty")]
    Empty,
    #[error("the name is longer than {NAME_BYTES_MAX} bytes; shorten it")]
    TooLong,
    #[error("a name cannot begin or end with a space; remove it")]
    OuterSpace,
    /// `project/name` is how an ambiguous fleet is addressed.
    #[error("a name cannot contain `/`; use another character")]
    Slash,
    #[error("the name contains U+{0:04X}, which cannot be seen; remove it")]
    Unprintable(u32),
    /// Names and ids are given in the same places.
    #[error("the name reads like a UUID and would be taken for an id; choose another")]
    LikeId,
}

/// Checks a name of a fleet, vessel or project.
///
/// # Errors
/// When it is empty, over [`NAME_BYTES_MAX`] bytes, not printable, could be mistaken for an id, or
/// contains `/`.
pub fn check_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    if let Some(hidden) = name.chars().find(|character| is_unprintable(*character)) {
        return Err(NameError::Unprintable(u32::from(hidden)));
    }
    if name.trim() != name {
        return Err(NameError::OuterSpace);
    }
    if name.contains('/') {
        return Err(NameError::Slash);
    }
    if Uuid::try_parse(name).is_ok() {
        return Err(NameError::LikeId);
    }
    Ok(())
}

/// Control characters, line and paragraph separators, and the marks that turn the direction of
/// the text around a name: all of them change lists and logs in ways that a reader cannot see.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_text_is_a_name() {
        for name in ["a", "deploy-site", "My Fleet 2", "3.10", "~", "größe ✓ 👩‍🚀", "a.b: c"]
        {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        assert_eq!(check_name(&"x".repeat(NAME_BYTES_MAX)), Ok(()));
    }

    #[test]
    fn everything_else_is_not() {
        for (name, error) in [
            ("", NameError::Empty),
            (" a", NameError::OuterSpace),
            ("a ", NameError::OuterSpace),
            ("\u{a0}a", NameError::OuterSpace),
            ("a/b", NameError::Slash),
            ("a\nb", NameError::Unprintable(0x0a)),
            ("a\0", NameError::Unprintable(0)),
            ("a\u{85}", NameError::Unprintable(0x85)),
            ("a\u{202e}b", NameError::Unprintable(0x202e)),
            ("6f1c2d3e-0000-4000-8000-000000000001", NameError::LikeId),
            ("6F1C2D3E000040008000000000000001", NameError::LikeId),
            ("{6f1c2d3e-0000-4000-8000-000000000001}", NameError::LikeId),
            ("urn:uuid:6f1c2d3e-0000-4000-8000-000000000001", NameError::LikeId),
        ] {
            assert_eq!(check_name(name), Err(error), "{name:?}");
        }
        assert_eq!(check_name(&"x".repeat(NAME_BYTES_MAX + 1)), Err(NameError::TooLong));
    }
}
