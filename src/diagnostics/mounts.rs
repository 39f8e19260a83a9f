//! The mounts of this process, from /proc/self/mountinfo (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// All mounts, in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub struct Mounts(Vec<Mount>);

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The directory of the file system that is mounted.
    pub root: PathBuf,
    pub point: PathBuf,
    /// `ext4`, `tmpfs`, `nfs4`, `fuse.sshfs`, ...
    pub kind: String,
    /// Of the mount and of the file system, separated by commas.
    pub options: String,
}

impl Mounts {
    /// The mounts of this process; none when they cannot be read.
    pub fn of_process() -> Self {
        Self::parse(&std::fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    fn parse(text: &[u8]) -> Self {
        Self(text.split(|byte| *byte == b'\n').filter_map(Mount::parse).collect())
    }

    /// The mount of `path`, which is absolute and need not exist.
    pub fn of(&self, path: &Path) -> Option<&Mount> {
        let real = path.ancestors().find_map(|known| {
            let rest = path.strip_prefix(known).ok()?;
            Some(std::fs::canonicalize(known).ok()?.join(rest))
        });
        let path = real.as_deref().unwrap_or(path);
        let above = self.0.iter().filter(|mount| path.starts_with(&mount.point));
        // The last mount at a point hides the others.
        above.max_by_key(|mount| mount.point.components().count())
    }
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let root = fields.nth(3)?;
        let (point, options) = (fields.next()?, fields.next()?);
        let mut of_file_system = fields.skip_while(|field| *field != b"-").skip(1);
        let (kind, more) = (of_file_system.next()?, of_file_system.nth(1).unwrap_or_default());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(Self {
            root: unescaped(root),
            point: unescaped(point),
            kind: text(kind),
            options: format!("{},{}", text(options), text(more)),
        })
    }

    /// Whether its options contain `option`.
    pub fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|given| given == option)
    }

    pub fn is_read_only(&self) -> bool {
        self.has("ro")
    }
}

/// A path with its octal escapes (blanks, backslashes) decoded.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                path.push(byte);
                rest = &after[3..];
            }
            _ => {
                path.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SANDBOXED: &[u8] = b"\
27 1 254:0 / / ro,relatime shared:1 - ext4 /dev/vda rw,barrier=0
28 27 0:21 / /no\\040such rw - tmpfs tmpfs rw,size=4k
29 27 0:24 /systemd/inaccessible/dir /no/home ro,nosuid shared:2 master:1 - tmpfs tmpfs rw
30 27 254:0 /srv/site /no/srv/site rw,noexec - ext4 /dev/vda rw
31 30 0:30 / /no/srv/site rw - nfs4 host:/x rw
garbage
";

    #[test]
    fn the_nearest_and_latest_mount_counts() {
        let mounts = Mounts::parse(SANDBOXED);
        let of = |path: &str| mounts.of(Path::new(path)).unwrap();
        assert!(of("/no").is_read_only() && of("/no").has("barrier=0"));
        assert_eq!(of("/no such/x").kind, "tmpfs");
        assert!(!of("/no such/x").is_read_only());
        assert_eq!(of("/no/home/me/.ssh").root, Path::new("/systemd/inaccessible/dir"));
        assert_eq!(of("/no/homes").point, Path::new("/"));
        assert_eq!(of("/no/srv/site/a").kind, "nfs4");
        assert!(Mounts::default().of(Path::new("/")).is_none());
    }

    #[test]
    fn the_mounts_of_this_process_have_a_root() {
        assert_eq!(Mounts::of_process().of(Path::new("/")).unwrap().point, Path::new("/"));
    }
}
