use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::*;
use crate::model::change::{Change, QueueEntry, ServerRecord};
use crate::model::clock::Timestamp;
use crate::model::fleet::Organization;
use crate::model::ids::{FleetId, InstanceId, OrganizationId, RunIds};
use crate::model::run::{PayloadSize, Trigger};
use crate::store::backup::format::change::RowChanges;
use crate::store::backup::format::{Frame, Header, Reader, Writer};
use crate::store::backup::restore::Restoration;
use crate::store::tables::Rows;
use crate::store::{self, SCHEMA};

type Database = BTreeMap<Vec<u8>, Vec<u8>>;

/// Commits whose changes follow from their number.
struct Script {
    organization: OrganizationId,
    fleet: FleetId,
    runs: Vec<RunId>,
}

impl Script {
    fn new() -> Self {
        let mut ids = RunIds::after(None);
        let runs = (0..64).map(|_| ids.next(Timestamp::from_millis(1), 0)).collect();
        Self { organization: OrganizationId::random(), fleet: FleetId::random(), runs }
    }

    /// Rows in the first table and in later ones, put, put again and removed.
    fn commit(&self, n: u64) -> Vec<Change> {
        let run = self.runs[n as usize * 7 % self.runs.len()];
        let entry = |sequence| QueueEntry {
            sequence,
            run,
            fleet: self.fleet,
            version: n as u32,
            trigger: Trigger::Api,
            payload: PayloadSize::default(),
            started: false,
            queued_at: None,
            replay_of: None,
            arrival: None,
        };
        let mut changes = vec![
            Change::PutOrganization(Organization { id: self.organization, name: n.to_string() }),
            Change::PutPayload { run, chunk: 0, bytes: vec![n as u8; 20_000] },
            Change::PutQueueEntry(entry(n)),
            Change::PutQueueEntry(entry(n % 100)),
        ];
        if let Some(older) = n.checked_sub(150) {
            changes.push(Change::RemoveQueueEntry { sequence: older });
        }
        if n.is_multiple_of(3) {
            changes.push(Change::RemovePayload { run, chunks: 0..5 });
        }
        changes
    }

    /// The database after the commits up to number `n`.
    fn after(&self, n: u64) -> Database {
        let mut rows = Rows::recorded();
        for change in (0..=n).flat_map(|n| self.commit(n)) {
            rows.add(&change).unwrap();
        }
        let mut database = Database::new();
        apply(&mut database, RowChanges::of(rows.record().unwrap()));
        database
    }
}

fn apply(database: &mut Database, changes: RowChanges<'_>) {
    for change in changes {
        let RowChange { key, value } = change.unwrap();
        match value {
            Some(value) => database.insert(key.to_vec(), value.to_vec()),
            None => database.remove(key),
        };
    }
}

fn replay(backup: &[u8]) -> Database {
    let (mut reader, mut database) = (Reader::open(backup).unwrap(), Database::new());
    while let Some(frame) = reader.next_frame().unwrap() {
        if let Frame::Rows(changes) = frame {
            apply(&mut database, changes);
        }
    }
    database
}

fn header() -> Header {
    Header::new(SCHEMA, Timestamp::from_millis(1), 0)
}

/// A thread commits without a pause, and the backups are so slow that many commits happen during each.
#[test]
fn a_backup_beside_commits_equals_the_database_after_one_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _committer) = store::open(directory.path()).unwrap();
    let script = Script::new();
    let (next, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let wait_for = |n| {
        while next.load(Ordering::SeqCst) < n {
            thread::yield_now();
        }
    };
    let backups = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                let n = next.load(Ordering::SeqCst);
                store.commit(script.commit(n)).wait();
                next.store(n + 1, Ordering::SeqCst);
            }
        });
        wait_for(400);
        let backups: Vec<_> = (0..5)
            .map(|_| {
                let before = next.load(Ordering::SeqCst);
                let recording = store.begin_backup().unwrap();
                let mut bytes = Vec::new();
                let receiver = Slow { bytes: &mut bytes, next: &next, seen: 0 };
                let mut backup = Writer::begin(receiver, &header()).unwrap();
                store.copy_rows(&recording, &mut backup, &|| Ok(())).unwrap();
                backup.finish().unwrap();
                (before, next.load(Ordering::SeqCst), bytes)
            })
            .collect();
        is_over.store(true, Ordering::SeqCst);
        backups
    });
    for (before, after, bytes) in backups {
        let copied = replay(&bytes);
        let last = (before.saturating_sub(1)..=after + 1).find(|n| script.after(*n) == copied);
        assert!(last.is_some_and(|last| last + 1 >= before), "of no commit {before}..{after}");
        assert!(last.is_some_and(|last| last > before + 2), "commits went by meanwhile");
    }
}

/// A receiver that takes each frame after three more commits.
struct Slow<'a> {
    bytes: &'a mut Vec<u8>,
    next: &'a AtomicU64,
    seen: u64,
}

impl Write for Slow<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.seen = self.next.load(Ordering::SeqCst);
        while self.next.load(Ordering::SeqCst) < self.seen + 3 {
            thread::yield_now();
        }
        Ok(())
    }
}

#[test]
fn a_copy_restores_to_the_same_rows() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, _committer) = store::open(from.path()).unwrap();
    let script = Script::new();
    (0..300).for_each(|n| store.commit(script.commit(n)).wait());
    let recording = store.begin_backup().unwrap();
    let mut bytes = Vec::new();
    let mut backup = Writer::begin(&mut bytes, &header()).unwrap();
    store.copy_rows(&recording, &mut backup, &|| Ok(())).unwrap();
    backup.finish().unwrap();

    let target = to.path().join("new");
    let mut restoration = Restoration::begin(&target).unwrap();
    let mut reader = Reader::open(bytes.as_slice()).unwrap();
    while let Some(frame) = reader.next_frame().unwrap() {
        let Frame::Rows(changes) = frame else { panic!("there are only rows") };
        changes.for_each(|change| restoration.change(change.unwrap()).unwrap());
    }
    let server = ServerRecord {
        instance: InstanceId::random(),
        boot_id: String::new(),
        stopped_cleanly: true,
        restored: None,
    };
    // A server refuses the directory of an unfinished restore.
    let early = store::open(&target).map(drop).unwrap_err().to_string();
    assert!(early.contains("boathook restore"), "{early}");
    restoration.finish(&server, SCHEMA).unwrap();

    let (restored, _committer) = store::open(&target).unwrap();
    assert_eq!(restored.server().unwrap(), Some(server));
    let rows = |store: &Store| -> Database {
        let rows = store.database.everything().map(Result::unwrap);
        let own = rows.map(|(key, row)| (key.to_vec(), row.to_vec()));
        own.filter(|(key, _)| !key.ends_with(b"server")).collect()
    };
    assert!(rows(&restored) == rows(&store));
    assert!(rows(&restored) == script.after(299));
}

#[test]
fn one_backup_at_a_time_and_its_failure_leaves_commits_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _committer) = store::open(directory.path()).unwrap();
    let script = Script::new();
    store.commit(script.commit(0)).wait();
    let recording = store.begin_backup().unwrap();
    assert!(matches!(store.begin_backup(), Err(BackupError::Busy)));
    let mut backup = Writer::begin(io::sink(), &header()).unwrap();
    let stopped = store.copy_rows(&recording, &mut backup, &|| Err(BackupError::DiskFull));
    assert!(matches!(stopped, Err(BackupError::DiskFull)));
    assert!(matches!(store.begin_backup(), Err(BackupError::Busy)), "until it is dropped");
    drop(recording);
    store.commit(script.commit(1)).wait();
    drop(store.begin_backup().unwrap());
}
