//! What a disk may hold after a power cut, worked out from a recording of every change and sync
//! (`tests/powercut/record.c`). Knows files and directories, not what is in them.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::harness::Random;

/// What a disk writes at once.
const SECTOR_BYTES: usize = 512;

/// A file or directory, from its creation on; an index into `Recording::objects`.
type ObjectId = usize;
const ROOT: ObjectId = 0;

/// Everything that happened below a directory, in order.
pub struct Recording {
    log: Vec<u8>,
    objects: Vec<Object>,
    entry_changes: Vec<(usize, EntryChange)>,
    records: usize,
}

#[derive(Default)]
struct Object {
    is_directory: bool,
    /// Changes of a file's content, by the number of their record.
    changes: Vec<(usize, ContentChange)>,
    /// (number of the record, records that the sync covers: those with a smaller number)
    syncs: Vec<(usize, usize)>,
}

enum ContentChange {
    /// Bytes of the log, at an offset of the file.
    Write {
        offset: usize,
        data: Range<usize>,
    },
    Truncate {
        length: usize,
    },
}

enum EntryChange {
    Add { directory: ObjectId, name: String, object: ObjectId },
    Remove { directory: ObjectId, name: String },
    Move { from: (ObjectId, String), to: (ObjectId, String), object: ObjectId },
}

impl EntryChange {
    /// The directory whose sync makes the change durable.
    fn directory(&self) -> ObjectId {
        match self {
            Self::Add { directory, .. } | Self::Remove { directory, .. } => *directory,
            Self::Move { to: (directory, _), .. } => *directory,
        }
    }
}

/// What became of changes that no sync covers.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    Dropped,
    Kept,
    /// Those before some moment are kept, as a journal would.
    KeptUntil(usize),
    /// Each is kept or dropped by chance; writes may also be torn between sectors.
    ByChance,
}

impl Fate {
    /// One of them by chance, for a cut after `cut` records.
    pub fn random(random: &mut Random, cut: usize) -> Self {
        match random.below(6) {
            0 => Self::Dropped,
            1 => Self::Kept,
            2 => Self::KeptUntil(cut.saturating_sub(random.below(40))),
            _ => Self::ByChance,
        }
    }

    fn keeps(self, number: usize, random: &mut Random) -> bool {
        match self {
            Self::Dropped => false,
            Self::Kept => true,
            Self::KeptUntil(moment) => number < moment,
            Self::ByChance => random.one_in(2),
        }
    }
}

/// (directory, name) of every entry that is there.
type Entries = BTreeMap<(ObjectId, String), ObjectId>;

impl Recording {
    /// Reads what `record.c` wrote to `log_path` about `root`, which was empty at first.
    pub fn read(log_path: &Path, root: &Path) -> Self {
        let log = fs::read(log_path).unwrap();
        let mut reader = Reader {
            root,
            entries: Entries::new(),
            by_inode: HashMap::from([(fs::metadata(root).unwrap().ino(), ROOT)]),
            recording: Recording {
                log: Vec::new(),
                objects: vec![Object { is_directory: true, ..Object::default() }],
                entry_changes: Vec::new(),
                records: 0,
            },
        };
        let mut position = 0;
        // A record cut short by the end of the process is one that changed nothing yet.
        while let Some(record) = Record::parse(&log, position) {
            position = record.data.end;
            reader.take(&record);
        }
        Recording { log, ..reader.recording }
    }

    /// How many changes and syncs there were.
    pub fn len(&self) -> usize {
        self.records
    }

    /// How many written bytes no sync covers after `cut` records.
    fn unsynced_bytes(&self, cut: usize) -> usize {
        let unsynced = |object: &Object| {
            let covered = object.covered_at(cut);
            let open = object.changes.iter().filter(|(number, _)| (covered..cut).contains(number));
            open.map(|(_, change)| match change {
                ContentChange::Write { data, .. } => data.len(),
                ContentChange::Truncate { .. } => 0,
            })
            .sum::<usize>()
        };
        self.objects.iter().map(unsynced).sum()
    }

    /// A moment when more is waiting for a sync than at most others.
    pub fn cut_with_much_unsynced(&self, random: &mut Random) -> usize {
        let candidates = (0..20).map(|_| random.below(self.records + 1));
        candidates.max_by_key(|cut| self.unsynced_bytes(*cut)).unwrap_or_default()
    }

    /// Makes `target` hold what the disk may hold when the power goes after `cut` records: all that
    /// a sync covers, and of the rest what the fates of file contents and of entries leave.
    pub fn restore(
        &self,
        cut: usize,
        contents: Fate,
        entries: Fate,
        random: &mut Random,
        target: &Path,
    ) {
        let mut there = Entries::new();
        for (number, change) in self.entry_changes.iter().take_while(|(number, _)| *number < cut) {
            let durable = *number < self.objects[change.directory()].covered_at(cut);
            if durable || entries.keeps(*number, random) {
                change.apply(&mut there);
            }
        }
        make_directory(target);
        self.restore_directory(ROOT, &there, cut, contents, random, target);
    }

    fn restore_directory(
        &self,
        directory: ObjectId,
        there: &Entries,
        cut: usize,
        contents: Fate,
        random: &mut Random,
        target: &Path,
    ) {
        let entries = there.range((directory, String::new())..(directory + 1, String::new()));
        for ((_, name), object) in entries {
            let path = target.join(name);
            if self.objects[*object].is_directory {
                make_directory(&path);
                self.restore_directory(*object, there, cut, contents, random, &path);
            } else {
                let content = self.content(*object, cut, contents, random);
                let mut options = OpenOptions::new();
                let file = options.write(true).create_new(true).mode(0o600).open(&path);
                file.unwrap().write_all(&content).unwrap();
            }
        }
    }

    fn content(&self, object: ObjectId, cut: usize, fate: Fate, random: &mut Random) -> Vec<u8> {
        let object = &self.objects[object];
        let covered = object.covered_at(cut);
        let mut content = Vec::new();
        for (number, change) in object.changes.iter().take_while(|(number, _)| *number < cut) {
            match change {
                ContentChange::Truncate { length } => {
                    if *number < covered || fate.keeps(*number, random) {
                        content.resize(*length, 0);
                    }
                }
                ContentChange::Write { offset, data } => {
                    let data = &self.log[data.clone()];
                    if *number < covered {
                        put(&mut content, *offset, data);
                    } else if matches!(fate, Fate::ByChance) && random.one_in(2) {
                        put_torn(&mut content, *offset, data, random);
                    } else if fate.keeps(*number, random) {
                        put(&mut content, *offset, data);
                    }
                }
            }
        }
        content
    }
}

impl Object {
    /// Records before this number are on the disk, as far as they are about this object.
    fn covered_at(&self, cut: usize) -> usize {
        let before = self.syncs.iter().take_while(|(number, _)| *number < cut);
        before.map(|(_, covered)| *covered).max().unwrap_or(0)
    }
}

impl EntryChange {
    fn apply(&self, there: &mut Entries) {
        match self {
            Self::Add { directory, name, object } => {
                there.insert((*directory, name.clone()), *object);
            }
            Self::Remove { directory, name } => {
                there.remove(&(*directory, name.clone()));
            }
            Self::Move { from, to, object } => {
                if there.get(from) == Some(object) {
                    there.remove(from);
                }
                there.insert(to.clone(), *object);
            }
        }
    }
}

fn make_directory(path: &Path) {
    DirBuilder::new().mode(0o700).create(path).unwrap();
}

fn put(content: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if content.len() < offset + data.len() {
        content.resize(offset + data.len(), 0);
    }
    content[offset..offset + data.len()].copy_from_slice(data);
}

/// Puts only some of the sectors: up to one of them, or each by chance.
fn put_torn(content: &mut Vec<u8>, offset: usize, data: &[u8], random: &mut Random) {
    let end_at = random.one_in(2).then(|| offset + random.below(data.len() + 1));
    let mut at = offset;
    while at < offset + data.len() {
        let sector_end = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
        let end = sector_end.min(offset + data.len());
        let kept = end_at.map_or_else(|| random.one_in(2), |end_at| end <= end_at);
        if kept {
            put(content, at, &data[at - offset..end - offset]);
        }
        at = end;
    }
}

/// A record as `record.c` writes it: see `struct header` there.
struct Record<'a> {
    kind: u32,
    path: &'a str,
    second: &'a str,
    inode: u64,
    offset: u64,
    data: Range<usize>,
}

impl<'a> Record<'a> {
    const HEADER_BYTES: usize = 40;

    fn parse(log: &'a [u8], position: usize) -> Option<Self> {
        let header = log.get(position..position + Self::HEADER_BYTES)?;
        let u32_at = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_ne_bytes(header[at..at + 8].try_into().unwrap());
        let path = position + Self::HEADER_BYTES;
        let second = path + u32_at(4) as usize;
        let data = second + u32_at(8) as usize;
        let data = data..data + u64_at(32) as usize;
        if data.end > log.len() {
            return None;
        }
        let text = |range: Range<usize>| std::str::from_utf8(&log[range]).unwrap();
        Some(Self {
            kind: u32_at(0),
            path: text(path..second),
            second: text(second..data.start),
            inode: u64_at(16),
            offset: u64_at(24),
            data,
        })
    }
}

/// Follows the recording: which inode is which object, and which entries there are meanwhile.
struct Reader<'a> {
    root: &'a Path,
    entries: Entries,
    by_inode: HashMap<u64, ObjectId>,
    recording: Recording,
}

impl Reader<'_> {
    fn take(&mut self, record: &Record<'_>) {
        let number = self.recording.records;
        self.recording.records += 1;
        let offset = record.offset as usize;
        match record.kind {
            1 => self.add(number, record, false),
            2 => self.add(number, record, true),
            3 => {
                let (directory, name) = self.place(record.path);
                self.change_entry(number, EntryChange::Remove { directory, name });
            }
            4 => {
                let (from, to) = (self.place(record.path), self.place(record.second));
                let object = self.entries[&from];
                self.change_entry(number, EntryChange::Move { from, to, object });
            }
            5 => {
                let change = ContentChange::Write { offset, data: record.data.clone() };
                self.change_content(record.inode, number, change);
            }
            6 => {
                let change = ContentChange::Truncate { length: offset };
                self.change_content(record.inode, number, change);
            }
            7 => {
                if let Some(object) = self.object(record.inode) {
                    object.syncs.push((number, offset));
                }
            }
            _ => panic!("the server did what the recorder cannot describe: {}", record.path),
        }
    }

    fn add(&mut self, number: usize, record: &Record<'_>, is_directory: bool) {
        let (directory, name) = self.place(record.path);
        let object = self.recording.objects.len();
        self.recording.objects.push(Object { is_directory, ..Object::default() });
        // Inodes are used again: from here on this one means the new object.
        self.by_inode.insert(record.inode, object);
        self.change_entry(number, EntryChange::Add { directory, name, object });
    }

    fn change_entry(&mut self, number: usize, change: EntryChange) {
        change.apply(&mut self.entries);
        self.recording.entry_changes.push((number, change));
    }

    fn change_content(&mut self, inode: u64, number: usize, change: ContentChange) {
        if let Some(object) = self.object(inode) {
            object.changes.push((number, change));
        }
    }

    /// What a change is of; nothing for a file that never had a name, since no power cut leaves
    /// anything of it.
    fn object(&mut self, inode: u64) -> Option<&mut Object> {
        let object = self.by_inode.get(&inode)?;
        Some(&mut self.recording.objects[*object])
    }

    /// The directory and name of an absolute path.
    fn place(&self, path: &str) -> (ObjectId, String) {
        let path = Path::new(path);
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut directory = ROOT;
        for part in path.parent().unwrap().strip_prefix(self.root).unwrap() {
            let part = part.to_str().unwrap().to_owned();
            directory = self.entries[&(directory, part)];
        }
        (directory, name)
    }
}
