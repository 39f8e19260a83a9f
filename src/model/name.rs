//! Names of fleets, vessels and projects: which ones are valid, and which ones are the same.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use uuid::Uuid;

/// Bytes of a fleet's, vessel's or project's name. Rows that carry names stay far below a
/// storage row.
pub const NAME_BYTES_MAX: usize = 200;

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
    #[error("the name contains U+{0:04X}, which looks like a space; write a plain space")]
    OtherSpace(u32),
    #[error("the name contains U+{0:04X}, which looks different on each machine; remove it")]
    PrivateUse(u32),
    /// Names and ids are given in the same places.
    #[error("the name reads like a UUID and would be taken for an id; choose another")]
    LikeId,
}

/// The name that `name` stands for: itself in the composed form (NFC), which is how it is stored.
/// A name is one name however its accents are encoded.
///
/// # Errors
/// When it is empty, over [`NAME_BYTES_MAX`] bytes, not printable, could be mistaken for an id, or
/// contains `/`.
pub fn checked_name(name: &str) -> Result<String, NameError> {
    let name = composed(name);
    check(&name)?;
    Ok(name.into_owned())
}

/// Whether both are one name: the same text, however its accents are encoded and whichever style
/// its emoji ask for.
pub fn is_same_name(one: &str, other: &str) -> bool {
    one == other || (!one.is_ascii() || !other.is_ascii()) && name_key(one) == name_key(other)
}

/// The key that all spellings of one name share.
pub fn name_key(name: &str) -> Cow<'_, str> {
    let name = composed(name);
    match name.contains(is_emoji_style) {
        true => Cow::Owned(name.replace(is_emoji_style, "")),
        false => name,
    }
}

/// The one of `items` that is called `name`: exactly so if there is one, else in another spelling.
/// Names from before spellings were one may differ in nothing else.
pub fn find_by_name<T>(
    items: impl Iterator<Item = T> + Clone,
    name: &str,
    name_of: impl Fn(&T) -> &str,
) -> Option<T> {
    let exact = items.clone().find(|item| name_of(item) == name);
    exact.or_else(|| items.into_iter().find(|item| is_same_name(name_of(item), name)))
}

pub fn composed(name: &str) -> Cow<'_, str> {
    match is_nfc_quick(name.chars()) {
        IsNormalized::Yes => Cow::Borrowed(name),
        IsNormalized::No | IsNormalized::Maybe => Cow::Owned(name.nfc().collect()),
    }
}

fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    check_characters(name)?;
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

fn check_characters(name: &str) -> Result<(), NameError> {
    let mut before = None;
    let mut characters = name.chars().peekable();
    while let Some(character) = characters.next() {
        let code = u32::from(character);
        if is_other_space(character) {
            return Err(NameError::OtherSpace(code));
        }
        if is_private(character) {
            return Err(NameError::PrivateUse(code));
        }
        let after = characters.peek().copied();
        if is_invisible(character) && !belongs_to_emoji(before, character, after) {
            return Err(NameError::Unprintable(code));
        }
        before = Some(character);
    }
    Ok(())
}

/// Characters that change lists and logs in ways that a reader cannot see: controls, line and
/// paragraph separators, annotation marks, the blank of Braille, and all that Unicode 16 calls
/// `Default_Ignorable_Code_Point`, among them joiners and the marks that turn the direction of text.
pub fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffc}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d159}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Unicode's spaces (`Zs`) but the plain one.
fn is_other_space(character: char) -> bool {
    matches!(
        character,
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}'
    )
}

/// Private use, and noncharacters.
fn is_private(character: char) -> bool {
    let code = u32::from(character);
    matches!(character, '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{f0000}'..)
        || code & 0xfffe == 0xfffe
}

/// Whether `character` changes how its neighbours look: the joiner between two emoji, and the style
/// behind one (Unicode Technical Standard #51).
fn belongs_to_emoji(before: Option<char>, character: char, after: Option<char>) -> bool {
    let Some(before) = before else { return false };
    match character {
        '\u{200d}' => (is_emoji(before) || is_emoji_style(before)) && after.is_some_and(is_emoji),
        style if is_emoji_style(style) => {
            // A digit has a style where it becomes a keycap.
            let is_key = before.is_ascii_digit() || matches!(before, '#' | '*');
            is_emoji(before) || is_key && after == Some('\u{20e3}')
        }
        _ => false,
    }
}

/// The blocks that emoji are in.
fn is_emoji(character: char) -> bool {
    matches!(
        character,
        '\u{a9}' | '\u{ae}' | '\u{203c}' | '\u{2049}' | '\u{2122}' | '\u{2139}'
        | '\u{2194}'..='\u{21aa}' | '\u{231a}'..='\u{23ff}' | '\u{24c2}'
        | '\u{25aa}'..='\u{27bf}' | '\u{2934}'..='\u{2935}' | '\u{2b05}'..='\u{2b55}'
        | '\u{3030}' | '\u{303d}' | '\u{3297}' | '\u{3299}' | '\u{1f000}'..='\u{1faff}'
    )
}

fn is_emoji_style(character: char) -> bool {
    matches!(character, '\u{fe0e}' | '\u{fe0f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_text_is_a_name() {
        for name in [
            "a",
            "deploy-site",
            "-x",
            "My Fleet 2",
            "3.10",
            "~",
            "größe ✓ 👩‍🚀",
            "a.b: c",
            "✔\u{fe0f} done 1\u{fe0f}\u{20e3}",
            "🏳\u{fe0f}\u{200d}🌈",
            "नमस्ते 部署 отдел ג",
        ] {
            assert_eq!(checked_name(name).as_deref(), Ok(name), "{name}");
        }
        assert!(checked_name(&"x".repeat(NAME_BYTES_MAX)).is_ok());
    }

    #[test]
    fn other_text_is_refused() {
        for (name, error) in [
            ("", NameError::Empty),
            (" a", NameError::OuterSpace),
            ("a ", NameError::OuterSpace),
            ("a/b", NameError::Slash),
            ("6f1c2d3e-0000-4000-8000-000000000001", NameError::LikeId),
            ("6F1C2D3E000040008000000000000001", NameError::LikeId),
            ("{6f1c2d3e-0000-4000-8000-000000000001}", NameError::LikeId),
            ("urn:uuid:6f1c2d3e-0000-4000-8000-000000000001", NameError::LikeId),
        ] {
            assert_eq!(checked_name(name), Err(error), "{name:?}");
        }
        assert_eq!(checked_name(&"x".repeat(NAME_BYTES_MAX + 1)), Err(NameError::TooLong));
    }

    #[test]
    fn invisible_characters_are_refused_in_every_place() {
        let invisible = "\0\n\u{85}\u{ad}\u{34f}\u{61c}\u{115f}\u{17b4}\u{180b}\u{180e}\u{200b}\
                         \u{200c}\u{200d}\u{200e}\u{202e}\u{2028}\u{2060}\u{2064}\u{2066}\u{206f}\
                         \u{2800}\u{3164}\u{fe00}\u{fe0f}\u{feff}\u{ffa0}\u{fff9}\u{1d173}\u{e0041}\
                         \u{e0100}";
        let spaces = "\u{a0}\u{1680}\u{2003}\u{202f}\u{205f}\u{3000}";
        let private = "\u{e000}\u{f8ff}\u{fdd0}\u{fffe}\u{1ffff}\u{f0000}\u{10fffd}";
        for (characters, error) in [
            (invisible, NameError::Unprintable as fn(u32) -> NameError),
            (spaces, NameError::OtherSpace),
            (private, NameError::PrivateUse),
        ] {
            for character in characters.chars() {
                for name in
                    [format!("a{character}b"), format!("{character}a"), format!("a{character}")]
                {
                    let expected = Err(error(u32::from(character)));
                    assert_eq!(checked_name(&name), expected, "{name:?}");
                }
            }
        }
    }

    #[test]
    fn encodings_of_one_name_are_the_same_name() {
        assert_eq!(checked_name("de\u{301}ploye\u{301}").as_deref(), Ok("d\u{e9}ploy\u{e9}"));
        for (one, other, is_same) in [
            ("a", "a", true),
            ("a", "b", false),
            ("é", "e\u{301}", true),
            ("é", "e", false),
            ("\u{1e69}", "s\u{307}\u{323}", true),
            ("각", "\u{1100}\u{1161}\u{11a8}", true),
            ("✔\u{fe0f}", "✔", true),
            ("A", "a", false),
        ] {
            assert_eq!(is_same_name(one, other), is_same, "{one:?} {other:?}");
            assert_eq!(name_key(one) == name_key(other), is_same);
        }
        let names = ["e\u{301}", "é"];
        for name in names {
            assert_eq!(find_by_name(names.iter(), name, |name| name), Some(&name));
        }
        assert_eq!(find_by_name(names[..1].iter(), "é", |name| name), Some(&"e\u{301}"));
    }
}
