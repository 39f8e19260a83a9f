//! Archives of code: .zip, .tar.gz, .tgz and .tar. They are read within bounds. What leads out of the directory
//! they are unpacked into is refused by name, and so is all that is no plain file or directory.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Cursor, Read};
use std::sync::Arc;

use data_encoding::BASE64;
use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Files and directories of an archive: more than a project of one's own has.
pub const ENTRIES_MAX: usize = 5_000;
/// Bytes of all that an archive unpacks to: each start writes them.
pub const UNPACKED_BYTES_MAX: u64 = 64 << 20;
/// How many times its own size an archive may unpack to. Source code shrinks to a fifth.
pub const RATIO_MAX: u64 = 100;
/// What an archive may unpack to however small it is.
const UNPACKED_BYTES_FREE: u64 = 1 << 20;
/// Directories above a file.
const DEPTH_MAX: usize = 32;
/// Bytes of a name: NAME_MAX of Linux, less what the name of a temporary copy adds.
const NAME_BYTES_MAX: usize = 150;
/// Bytes of a tar archive that are no content, for each entry.
const TAR_BYTES_PER_ENTRY: u64 = 4 * 512;

/// The bytes of an archive, base64 where they are stored and shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Archive(Arc<[u8]>);

/// The format of an archive, which its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveKind {
    Zip,
    TarGz,
    Tar,
}

/// A file of an archive.
pub struct ArchivedFile<'a> {
    /// Relative, of plain names.
    pub path: &'a str,
    pub is_executable: bool,
    pub content: &'a mut dyn Read,
}

/// Why an archive is not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("{0}")]
    Refused(String),
    /// A file could not be written.
    #[error(transparent)]
    Write(io::Error),
}

impl ArchiveKind {
    /// The format of a file called `name`; `None`: it is no archive.
    pub fn of(name: &str) -> Option<Self> {
        const ENDS: [(&str, ArchiveKind); 4] = [
            (".zip", ArchiveKind::Zip),
            (".tar.gz", ArchiveKind::TarGz),
            (".tgz", ArchiveKind::TarGz),
            (".tar", ArchiveKind::Tar),
        ];
        let name = name.to_ascii_lowercase();
        ENDS.iter().find(|(end, _)| name.ends_with(end)).map(|(_, kind)| *kind)
    }
}

impl From<Vec<u8>> for Archive {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl Archive {
    /// An archive from its text; `None` when that is not base64.
    pub fn from_base64(text: &str) -> Option<Self> {
        let text: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        BASE64.decode(&text).ok().map(Self::from)
    }

    /// The text.
    pub fn to_base64(&self) -> String {
        BASE64.encode(&self.0)
    }

    /// Hands each file to `write`. A file whose content `write` does not read is skipped.
    ///
    /// # Errors
    /// When the archive is damaged, too large, or leads elsewhere, or `write` fails. Files may have been
    /// handed over before.
    pub fn unpack(
        &self,
        kind: ArchiveKind,
        write: &mut dyn FnMut(ArchivedFile<'_>) -> io::Result<()>,
    ) -> Result<(), ArchiveError> {
        let bytes = self.0.len() as u64;
        let room = bytes.saturating_mul(RATIO_MAX).clamp(UNPACKED_BYTES_FREE, UNPACKED_BYTES_MAX);
        let (seen, directories) = (BTreeSet::new(), BTreeSet::new());
        let mut unpacker = Unpacker { room, seen, directories, write };
        match kind {
            ArchiveKind::Zip => unpacker.zip(&self.0),
            ArchiveKind::Tar => unpacker.tar(&*self.0),
            ArchiveKind::TarGz => {
                let headers = TAR_BYTES_PER_ENTRY * ENTRIES_MAX as u64;
                // Headers are unpacked too.
                unpacker.tar(MultiGzDecoder::new(&*self.0).take(room + headers))
            }
        }
    }
}

struct Unpacker<'w> {
    /// Bytes that may still be unpacked.
    room: u64,
    /// Paths of files.
    seen: BTreeSet<String>,
    /// Paths of directories that have an entry of their own.
    directories: BTreeSet<String>,
    write: &'w mut dyn FnMut(ArchivedFile<'_>) -> io::Result<()>,
}

impl Unpacker<'_> {
    fn zip(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let damaged =
            |error: zip::result::ZipError| refused(format!("is no sound zip archive: {error}"));
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
        if archive.len() > ENTRIES_MAX {
            return Err(too_many());
        }
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).map_err(damaged)?;
            let name = entry.name().map_err(damaged)?.into_owned();
            if entry.is_dir() {
                self.directory(&name)?;
                continue;
            }
            let mode = entry.unix_mode().unwrap_or(0);
            // The bits of the file's type; none where the archive was made elsewhere.
            if !matches!(mode & 0o170_000, 0 | 0o100_000) {
                return Err(not_plain(&name));
            }
            self.file(&name, mode & 0o111 != 0, &mut entry)?;
        }
        Ok(())
    }

    fn tar(&mut self, bytes: impl Read) -> Result<(), ArchiveError> {
        let damaged = |error: io::Error| refused(format!("is no sound tar archive: {error}"));
        let mut archive = tar::Archive::new(bytes);
        for (index, entry) in archive.entries().map_err(damaged)?.enumerate() {
            if index >= ENTRIES_MAX {
                return Err(too_many());
            }
            let mut entry = entry.map_err(damaged)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let mode = entry.header().mode().map_err(damaged)?;
            match entry.header().entry_type() {
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    self.file(&name, mode & 0o111 != 0, &mut entry)?;
                }
                tar::EntryType::Directory => self.directory(&name)?,
                tar::EntryType::XGlobalHeader => {}
                _ => return Err(not_plain(&name)),
            }
        }
        Ok(())
    }

    /// An entry for a directory alone.
    fn directory(&mut self, name: &str) -> Result<(), ArchiveError> {
        let path = plain_path(name)?;
        if self.seen.contains(&path) {
            return Err(both(&path));
        }
        self.check_above(&path)?;
        self.directories.insert(path);
        Ok(())
    }

    /// Refuses a path below a file.
    fn check_above(&self, path: &str) -> Result<(), ArchiveError> {
        let mut ends = path.match_indices('/').map(|(end, _)| &path[..end]);
        ends.find(|above| self.seen.contains(*above)).map_or(Ok(()), |above| Err(both(above)))
    }

    fn file(
        &mut self,
        name: &str,
        is_executable: bool,
        content: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        let path = plain_path(name)?;
        if path.is_empty() {
            return Err(refused(format!(
                "holds a file called `{}`, which is no name",
                shown(name)
            )));
        }
        let below = format!("{path}/");
        let mut from = self.seen.range(below.clone()..);
        let has_files_below = from.next().is_some_and(|next| next.starts_with(&below));
        if has_files_below || self.directories.contains(&path) {
            return Err(both(&path));
        }
        self.check_above(&path)?;
        if !self.seen.insert(path.clone()) {
            return Err(refused(format!("has `{}` twice", shown(&path))));
        }
        let mut limited = Limited { content, room: &mut self.room, fault: None };
        let written =
            (self.write)(ArchivedFile { path: &path, is_executable, content: &mut limited });
        match limited.fault.take() {
            Some(fault) => Err(refused(format!("`{}`: {fault}", shown(&path)))),
            None => written.map_err(ArchiveError::Write),
        }
    }
}

/// The content of a file within the room of its archive. Keeps its own fault apart from those of the writer.
struct Limited<'a> {
    content: &'a mut dyn Read,
    room: &'a mut u64,
    fault: Option<String>,
}

impl Read for Limited<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer).inspect_err(|error| {
            self.fault = Some(format!("cannot be unpacked: {error}"));
        })?;
        match self.room.checked_sub(read as u64) {
            Some(left) => *self.room = left,
            None => {
                self.fault = Some(format!(
                    "unpacks to too much: at most {RATIO_MAX} times the archive, and {} MiB",
                    UNPACKED_BYTES_MAX >> 20
                ));
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
        Ok(read)
    }
}

/// The path of an entry, if it stays below the directory that it is unpacked into.
fn plain_path(name: &str) -> Result<String, ArchiveError> {
    let leads_out = |why: &str| Err(refused(format!("holds `{}`, which {why}", shown(name))));
    if name.starts_with('/') || name.contains('\\') || name.get(1..2) == Some(":") {
        return leads_out("is not relative");
    }
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return leads_out("leads out of the run's directory");
    }
    if parts.iter().any(|part| part.len() > NAME_BYTES_MAX) || parts.len() > DEPTH_MAX {
        return leads_out("is too long or too deep");
    }
    if name.chars().any(|letter| letter.is_control() || letter == '\u{fffd}') {
        return leads_out("has characters that no name of a file should have");
    }
    Ok(parts.join("/"))
}

fn shown(name: &str) -> String {
    let plain = |letter: char| if letter.is_control() { '\u{fffd}' } else { letter };
    name.chars().take(NAME_BYTES_MAX).map(plain).collect()
}

fn refused(message: String) -> ArchiveError {
    ArchiveError::Refused(message)
}

fn both(path: &str) -> ArchiveError {
    refused(format!("has `{}` both as a file and as a directory", shown(path)))
}

fn too_many() -> ArchiveError {
    refused(format!("has more than {ENTRIES_MAX} files and directories"))
}

fn not_plain(name: &str) -> ArchiveError {
    let name = shown(name);
    refused(format!(
        "holds `{name}`, which is a link or a device; put in files and directories alone"
    ))
}

impl Serialize for Archive {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for Archive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_base64(&text).ok_or_else(|| serde::de::Error::custom("an archive is base64"))
    }
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Archive({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// What an archive holds: path, whether it is executable, content.
    type Files = Vec<(String, bool, String)>;

    fn unpacked(kind: ArchiveKind, bytes: Vec<u8>) -> Result<Files, String> {
        let mut files = Vec::new();
        let mut keep = |file: ArchivedFile<'_>| {
            let mut content = Vec::new();
            file.content.read_to_end(&mut content)?;
            files.push((
                file.path.to_owned(),
                file.is_executable,
                String::from_utf8_lossy(&content).into(),
            ));
            Ok(())
        };
        match Archive::from(bytes).unpack(kind, &mut keep) {
            Ok(()) => Ok(files),
            Err(error) => Err(error.to_string()),
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// A tar archive of entries with a name as it is, a type and content.
    fn tar_of(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_size(content.len() as u64);
            if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
                header.set_link_name("/etc/passwd").unwrap();
            }
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    /// A zip archive of entries with a name as it is, a Unix mode and content.
    fn zip_of(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, mode, content) in entries {
            let options = zip::write::SimpleFileOptions::default().unix_permissions(*mode);
            if mode & 0o170_000 == 0o120_000 {
                writer.add_symlink(*name, "/etc/passwd", options).unwrap();
                continue;
            }
            writer.start_file(*name, options).unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn files_and_directories_are_unpacked() {
        use tar::EntryType::{Directory, Regular};
        let entries: [(&str, _, &[u8]); 3] = [
            ("src/", Directory, b""),
            ("./src/main.py", Regular, b"print(1)"),
            ("run.sh", Regular, b"x"),
        ];
        let expected = vec![
            ("src/main.py".to_owned(), true, "print(1)".to_owned()),
            ("run.sh".to_owned(), true, "x".to_owned()),
        ];
        let tar = tar_of(&entries);
        assert_eq!(unpacked(ArchiveKind::Tar, tar.clone()), Ok(expected.clone()));
        assert_eq!(unpacked(ArchiveKind::TarGz, gzip(&tar)), Ok(expected));
        let zip = zip_of(&[("src/main.py", 0o644, b"print(1)"), ("run.sh", 0o755, b"x")]);
        let expected = vec![
            ("src/main.py".to_owned(), false, "print(1)".to_owned()),
            ("run.sh".to_owned(), true, "x".to_owned()),
        ];
        assert_eq!(unpacked(ArchiveKind::Zip, zip), Ok(expected));
        for (name, kind) in [
            ("a.ZIP", Some(ArchiveKind::Zip)),
            ("a.tar.gz", Some(ArchiveKind::TarGz)),
            ("a.tgz", Some(ArchiveKind::TarGz)),
            ("a.tar", Some(ArchiveKind::Tar)),
            ("a.gz", None),
            ("zip", None),
        ] {
            assert_eq!(ArchiveKind::of(name), kind, "{name}");
        }
    }

    #[test]
    fn what_leads_elsewhere_is_refused_by_name() {
        use tar::EntryType::{Block, Fifo, Link, Regular, Symlink};
        for (name, kind, expected) in [
            ("../x", Regular, "holds `../x`, which leads out"),
            ("a/../../x", Regular, "leads out"),
            ("/etc/x", Regular, "is not relative"),
            ("C:x", Regular, "is not relative"),
            ("a\\b", Regular, "is not relative"),
            ("a\nb", Regular, "characters"),
            ("link", Symlink, "is a link or a device"),
            ("link", Link, "is a link or a device"),
            ("pipe", Fifo, "is a link or a device"),
            ("disk", Block, "is a link or a device"),
        ] {
            let error = unpacked(ArchiveKind::Tar, tar_of(&[(name, kind, b"")])).unwrap_err();
            assert!(error.contains(expected), "{name}: {error}");
        }
        let twice = tar_of(&[("a", Regular, b"1"), ("./a", Regular, b"2")]);
        assert!(unpacked(ArchiveKind::Tar, twice).unwrap_err().contains("`a` twice"));
        let error = unpacked(ArchiveKind::Zip, zip_of(&[("l", 0o120_777, b"")])).unwrap_err();
        assert!(error.contains("is a link"), "{error}");
        for name in ["../x", "/x"] {
            let error = unpacked(ArchiveKind::Zip, zip_of(&[(name, 0o644, b"")])).unwrap_err();
            assert!(error.contains("holds"), "{name}: {error}");
        }
        let deep = "a/".repeat(40) + "x";
        assert!(
            unpacked(ArchiveKind::Zip, zip_of(&[(&deep, 0o644, b"")]))
                .unwrap_err()
                .contains("too deep")
        );
    }

    #[test]
    fn a_path_is_a_file_or_a_directory() {
        use tar::EntryType::{Directory, Regular};
        for entries in [
            [("a", Regular), ("a/b", Regular)],
            [("a/b", Regular), ("a", Regular)],
            [("a/b/c", Regular), ("./a", Regular)],
            [("a/", Directory), ("a", Regular)],
            [("a", Regular), ("a/b/", Directory)],
        ] {
            let entries = entries.map(|(name, kind)| (name, kind, &b""[..]));
            let error = unpacked(ArchiveKind::Tar, tar_of(&entries)).unwrap_err();
            assert!(
                error.contains("`a` both as a file and as a directory"),
                "{entries:?}: {error}"
            );
        }
        for name in [".", "./"] {
            let error = unpacked(ArchiveKind::Tar, tar_of(&[(name, Regular, b"")])).unwrap_err();
            assert!(error.contains("which is no name"), "{error}");
        }
        let zip = zip_of(&[("a/b", 0o644, b""), ("a", 0o644, b"")]);
        assert!(unpacked(ArchiveKind::Zip, zip).unwrap_err().contains("both as"));
        let alike = [("a-b", Regular, &b""[..]), ("a", Regular, b""), ("ab/c", Regular, b"")];
        assert!(unpacked(ArchiveKind::Tar, tar_of(&alike)).is_ok());
    }

    #[test]
    fn bombs_and_damage_end_in_words() {
        use tar::EntryType::Regular;
        let zeros = vec![0; 8 << 20];
        let large = vec![0; UNPACKED_BYTES_MAX as usize + 1];
        for (kind, bytes) in [
            (ArchiveKind::TarGz, gzip(&tar_of(&[("zeros", Regular, &zeros)]))),
            (ArchiveKind::Zip, zip_of(&[("zeros", 0o644, &zeros)])),
            (ArchiveKind::Tar, tar_of(&[("zeros", Regular, &large)])),
        ] {
            let error = unpacked(kind, bytes).unwrap_err();
            assert!(error.contains("too much"), "{kind:?}: {error}");
        }
        let names: Vec<String> = (0..=ENTRIES_MAX).map(|number| format!("f{number}")).collect();
        let many: Vec<(&str, _, &[u8])> =
            names.iter().map(|name| (name.as_str(), Regular, &b""[..])).collect();
        assert!(unpacked(ArchiveKind::Tar, tar_of(&many)).unwrap_err().contains("more than 5000"));
        let sound = gzip(&tar_of(&[("a", Regular, &[7; 3000])]));
        for kind in [ArchiveKind::Zip, ArchiveKind::TarGz, ArchiveKind::Tar] {
            for bytes in [vec![], b"nonsense".repeat(100), sound[..sound.len() / 2].to_vec()] {
                let result = unpacked(kind, bytes);
                assert!(result.is_err() || result == Ok(Vec::new()), "{kind:?}: {result:?}");
            }
        }
    }
}
