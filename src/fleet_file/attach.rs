//! Archives beside a fleet file: their content is put into the text, which stays as it is otherwise.

use super::cursor::Cursor;
use super::node::{Node, Position};
use super::{FLEET_FILE_BYTES_MAX, FleetFileError, json, yaml};
use crate::model::archive::{Archive, ArchiveKind};

/// `text` with the archives that its vessels name and that it does not hold. `open` gives the bytes of the
/// archive of a name. `None`: there is none to attach, or the text cannot be read.
///
/// # Errors
/// With the position, when `open` fails or the archives are too large for a fleet file.
pub fn attach_archives(
    text: &str,
    open: &dyn Fn(&str) -> Result<Vec<u8>, String>,
) -> Result<Option<String>, FleetFileError> {
    // What is wrong with the text the reader of the file says.
    let root = match json::looks_like_object(text) {
        true => json::parse(text).or_else(|_| yaml::parse(text)),
        false => yaml::parse(text),
    };
    let Ok(root) = root else { return Ok(None) };
    let mut attached = Vec::new();
    for (file, name) in unattached(&root) {
        let bytes = open(name.text()?).map_err(|why| name.invalid(why))?;
        let archive = Archive::from(bytes).to_base64();
        let position = name.key_position();
        let separator = match character_at(text, file.position()) {
            Some('{') => ", ".to_owned(),
            _ => format!("\n{}", " ".repeat(position.column.saturating_sub(1))),
        };
        attached.push((position, name, format!("\"archive\": \"{archive}\"{separator}")));
    }
    let Some((_, first, _)) = attached.first() else { return Ok(None) };
    let length = text.len() + attached.iter().map(|(.., added)| added.len()).sum::<usize>();
    if length > FLEET_FILE_BYTES_MAX {
        let message = format!(
            "with its archives in base64 the fleet file has {length} bytes, more than \
             {FLEET_FILE_BYTES_MAX}; bring large code along as a git repository"
        );
        return Err(first.invalid(message));
    }
    let mut whole = text.to_owned();
    // From the end, so that the places before stay.
    for (position, _, added) in attached.iter().rev() {
        if let Some(offset) = offset_of(text, *position) {
            whole.insert_str(offset, added);
        }
    }
    Ok(Some(whole))
}

/// The blocks `file` of sources that name an archive without its content, and the names.
fn unattached(root: &Node) -> Vec<(Cursor<'_>, Cursor<'_>)> {
    let vessels = Cursor::root(root).entry("vessels");
    let vessels = vessels.and_then(|vessels| vessels.mapping().ok()).unwrap_or_default();
    let files = vessels.iter().filter_map(|(_, vessel)| {
        let file = vessel.entry("source")?.entry("file")?;
        let name = file.entry("name")?;
        let is_archive = name.text().is_ok_and(|name| ArchiveKind::of(name).is_some());
        let is_bare = file.entry("content").is_none() && file.entry("archive").is_none();
        (is_archive && is_bare).then_some((file, name))
    });
    files.collect()
}

/// Where a position lies in the text, in bytes.
fn offset_of(text: &str, position: Position) -> Option<usize> {
    let lines = text.split_inclusive('\n').take(position.line.checked_sub(1)?);
    let start: usize = lines.map(str::len).sum();
    let line = text.get(start..)?;
    let (offset, _) = line.char_indices().nth(position.column.checked_sub(1)?)?;
    Some(start + offset)
}

fn character_at(text: &str, position: Position) -> Option<char> {
    text.get(offset_of(text, position)?..)?.chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet_file::{parse_json, parse_yaml};
    use crate::model::fleet::Program;
    use crate::model::source::Origin;

    /// A zip archive without a file.
    const EMPTY: [u8; 22] = *b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

    fn open(name: &str) -> Result<Vec<u8>, String> {
        if name == "a.zip" { Ok(EMPTY.to_vec()) } else { Err(format!("no {name}")) }
    }

    #[test]
    fn archives_are_put_where_their_names_stand() {
        let source = "type: CODE\n      language: BASH\n      file_to_run: x";
        for file in ["file: {name: a.zip}", "file:\n        name: a.zip", "file: {  name: a.zip }"]
        {
            let text = format!(
                "name: n # kept\nvessels:\n  v:\n    source:\n      {source}\n      {file}\n"
            );
            let whole = attach_archives(&text, &open).unwrap().unwrap();
            let read = parse_yaml(&whole).unwrap_or_else(|error| panic!("{whole}: {error}"));
            let Program::Code(code) = &read.definition.vessels[0].program else {
                panic!("{read:?}")
            };
            let archive = Archive::from(EMPTY.to_vec());
            assert_eq!(code.origin, Origin::Archive { name: "a.zip".to_owned(), archive });
            assert!(whole.contains("# kept"), "{whole}");
            assert_eq!(attach_archives(&whole, &open), Ok(None));
        }
        let text = r#"{"name": "n", "vessels": {"v": {"source": {"type": "CODE", "language": "BASH",
            "file_to_run": "x", "file": {"name": "a.zip"}}}}}"#;
        let whole = attach_archives(text, &open).unwrap().unwrap();
        parse_json(&whole).unwrap();
        let missing =
            attach_archives(&text.replace("a.zip", "b.tgz"), &open).unwrap_err().to_string();
        assert!(
            missing.contains("line 2, column 50: vessels.v.source.file.name: no b.tgz"),
            "{missing}"
        );
        assert_eq!(attach_archives("name: [", &open), Ok(None));
        assert_eq!(attach_archives("name: n\nvessels: {v: {run: x}}\n", &open), Ok(None));
    }
}
