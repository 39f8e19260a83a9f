use super::*;
use crate::model::clock::Timestamp;
use crate::model::ids::RunIds;

const NO_WAIT: Duration = Duration::ZERO;
const PATIENCE: Duration = Duration::from_secs(20);

fn vessel_run() -> VesselRunId {
    RunIds::after(None).next(Timestamp::from_millis(1_700_000_000_000), 1).vessel_run(0)
}

fn begun(directory: &Path, bytes_max: u64) -> LiveOutput {
    let output = LiveOutput::default();
    output.begin(directory, vessel_run(), 1, bytes_max);
    output
}

/// Ends an output as the launcher and the engine do.
fn finish(output: &LiveOutput) -> CapturedOutput {
    let captured = output.capture();
    output.finish();
    captured
}

/// Bytes that depend on their offset.
fn pattern(from: u64, bytes: usize) -> Vec<u8> {
    (from..from + bytes as u64).map(|at| (at / 251 + at) as u8).collect()
}

/// All chunks from `offset` to the end.
fn read_all(mut read: impl FnMut(u64) -> OutputChunk) -> Vec<(u64, Vec<u8>)> {
    let mut chunks = Vec::new();
    let mut offset = 0;
    loop {
        let chunk = read(offset);
        offset = chunk.next_offset();
        if !chunk.bytes.is_empty() {
            chunks.push((chunk.offset, chunk.bytes));
        }
        if chunk.ended {
            return chunks;
        }
    }
}

fn concatenated(chunks: &[(u64, Vec<u8>)]) -> Vec<u8> {
    chunks.iter().flat_map(|(_, bytes)| bytes.clone()).collect()
}

#[test]
fn small_output_stays_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let output = begun(directory.path(), 1 << 20);
    output.append(b"one");
    output.append_line("boathook: two");
    let captured = finish(&output);
    assert_eq!(captured.bytes, 18);
    assert!(matches!(captured.kept, Kept::Inline(bytes) if bytes == b"one\nboathook: two\n"));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    let rest = output.read(4, NO_WAIT).unwrap();
    assert_eq!(rest, OutputChunk { offset: 4, bytes: b"boathook: two\n".to_vec(), ended: true });
    assert!(matches!(finish(&begun(directory.path(), 9)).kept, Kept::Nothing));
}

#[test]
fn whole_output_is_read_in_chunks() {
    let output = pattern(0, CHUNK_BYTES_MAX + 5);
    let chunks = read_all(|offset| OutputChunk::of_whole(&output, offset));
    assert_eq!(chunks.len(), 2);
    assert_eq!(concatenated(&chunks), output);
    assert!(OutputChunk::of_whole(b"", 0).ended);
    assert_eq!(OutputChunk::of_whole(b"ab", 9).bytes, b"");
}

#[test]
fn larger_output_moves_to_a_file_and_reads_back_whole() {
    let directory = tempfile::tempdir().unwrap();
    let output = begun(&directory.path().join("made"), 1 << 20);
    let written = pattern(0, 300_000);
    for piece in written.chunks(7_001) {
        output.append(piece);
    }
    let captured = finish(&output);
    assert_eq!(captured.bytes, 300_000);
    assert!(matches!(captured.kept, Kept::File));
    let stored = StoredOutput::open(&directory.path().join("made"), vessel_run(), 1).unwrap();
    assert_eq!(concatenated(&read_all(|at| stored.read(at).unwrap())), written);
    assert_eq!(concatenated(&read_all(|at| output.read(at, NO_WAIT).unwrap())), written);
    let path = output_path(&directory.path().join("made"), vessel_run(), 1);
    let mode = std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap());
    assert_eq!(mode & 0o777, 0o600);
    assert!(remove_output(&directory.path().join("made"), vessel_run(), 1).unwrap());
    assert!(!remove_output(&directory.path().join("made"), vessel_run(), 1).unwrap());
    let gone = StoredOutput::open(&directory.path().join("made"), vessel_run(), 1).unwrap_err();
    assert_eq!(gone.kind(), io::ErrorKind::NotFound);
}

#[test]
fn head_and_tail_of_more_than_the_cap_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    for (bytes_max, piece) in [(20_000, 4_096), (20_001, 65_536), (200_000, 10_007), (7, 3), (0, 5)]
    {
        let output = begun(directory.path(), bytes_max);
        let mut total = 0;
        for _ in 0..50 {
            output.append(&pattern(total, piece));
            total += piece as u64;
        }
        let captured = finish(&output);
        assert_eq!(captured.bytes, total);
        let stored = StoredOutput::open(directory.path(), vessel_run(), 1).unwrap();
        for chunks in [
            read_all(|at| stored.read(at).unwrap()),
            read_all(|at| output.read(at, NO_WAIT).unwrap()),
        ] {
            let kept: usize = chunks.iter().map(|(_, bytes)| bytes.len()).sum();
            assert_eq!(kept as u64, bytes_max);
            for (offset, bytes) in &chunks {
                assert_eq!(*bytes, pattern(*offset, bytes.len()));
            }
            if bytes_max > 1 {
                assert_eq!(chunks.first().unwrap().0, 0);
                let (offset, bytes) = chunks.last().unwrap();
                assert_eq!(offset + bytes.len() as u64, total);
            }
        }
        let path = output_path(directory.path(), vessel_run(), 1);
        assert!(path.metadata().unwrap().len() <= bytes_max + 64 * 1024 + 4096);
    }
}

#[test]
fn an_interrupted_attempt_leaves_its_whole_output() {
    let directory = tempfile::tempdir().unwrap();
    let output = begun(directory.path(), 1 << 20);
    output.append(b"before the crash");
    let now = Instant::now();
    let due = output.move_when_due(now).expect("something was written");
    assert!(due > now);
    assert_eq!(output.move_when_due(due), None);
    output.append(b", and after the move");
    // No `finish`: the server was killed.
    let stored = StoredOutput::open(directory.path(), vessel_run(), 1).unwrap();
    let chunk = stored.read(0).unwrap();
    assert_eq!(chunk.bytes, b"before the crash, and after the move");
    assert!(chunk.ended);
}

#[test]
fn an_empty_output_has_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let output = begun(directory.path(), 1 << 20);
    assert_eq!(output.move_when_due(Instant::now() + Duration::from_secs(3600)), None);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_file_after_a_power_loss_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let output = begun(directory.path(), 1 << 20);
    output.append(&pattern(0, 100_000));
    let path = output_path(directory.path(), vessel_run(), 1);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    for (length, kept) in [(4096 + 70_000, 70_000), (4096, 0), (100, 0), (0, 0)] {
        file.set_len(length).unwrap();
        let stored = StoredOutput::open(directory.path(), vessel_run(), 1).unwrap();
        let read = concatenated(&read_all(|at| stored.read(at).unwrap()));
        assert_eq!(read, pattern(0, kept));
    }
    std::fs::write(&path, [7; 5000]).unwrap();
    let error = StoredOutput::open(directory.path(), vessel_run(), 1).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn output_is_dropped_with_a_notice_when_no_file_can_be_made() {
    let directory = tempfile::tempdir().unwrap();
    let blocked = directory.path().join("a file");
    std::fs::write(&blocked, "").unwrap();
    let output = begun(&blocked, 1 << 20);
    output.append(&pattern(0, 60_000));
    output.append(&pattern(60_000, 10_000));
    output.append(b"more");
    let captured = finish(&output);
    let Kept::Inline(bytes) = captured.kept else { panic!("{captured:?}") };
    assert_eq!(captured.bytes, bytes.len() as u64);
    assert_eq!(bytes[..60_000], pattern(0, 60_000));
    let notice = String::from_utf8(bytes[60_000..].to_vec()).unwrap();
    assert!(notice.starts_with("\nboathook: output after this could not be kept: "), "{notice}");
}

/// The notice goes to the header, which was on the disk before the disk was full.
#[test]
fn a_full_disk_drops_only_the_rest_of_the_output() {
    let directory = tempfile::tempdir().unwrap();
    let output = begun(directory.path(), 1 << 20);
    output.append(&pattern(0, 100_000));
    output.lock().give_up(&io::Error::from(io::ErrorKind::StorageFull));
    output.append(b"lost");
    let captured = finish(&output);
    let stored = StoredOutput::open(directory.path(), vessel_run(), 1).unwrap();
    assert_eq!(stored.bytes(), captured.bytes);
    for read in [
        concatenated(&read_all(|at| stored.read(at).unwrap())),
        concatenated(&read_all(|at| output.read(at, NO_WAIT).unwrap())),
    ] {
        assert_eq!(read.len() as u64, captured.bytes);
        assert_eq!(read[..100_000], pattern(0, 100_000));
        let notice = String::from_utf8(read[100_000..].to_vec()).unwrap();
        assert!(
            notice.starts_with("\nboathook: output after this could not be kept: "),
            "{notice}"
        );
    }
}

#[test]
fn followers_are_woken_by_bytes_and_by_the_end() {
    let output = Arc::new(LiveOutput::default());
    let follower = {
        let output = Arc::clone(&output);
        std::thread::spawn(move || read_all(|at| output.read(at, PATIENCE).unwrap()))
    };
    output.append(b"first ");
    while output.lock().waiting == 0 {
        std::thread::yield_now();
    }
    output.append(b"second");
    finish(&output);
    assert_eq!(concatenated(&follower.join().unwrap()), b"first second");
}

#[test]
fn a_follower_reads_no_byte_that_the_ring_has_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let output = Arc::new(begun(directory.path(), 40_000));
    let follower = {
        let output = Arc::clone(&output);
        std::thread::spawn(move || read_all(|at| output.read(at, PATIENCE).unwrap()))
    };
    let mut total = 0;
    while total < 5_000_000 {
        output.append(&pattern(total, 50_000));
        total += 50_000;
    }
    finish(&output);
    let chunks = follower.join().unwrap();
    let mut at = 0;
    for (offset, bytes) in &chunks {
        assert!(*offset >= at);
        assert!(*bytes == pattern(*offset, bytes.len()), "wrong bytes at {offset}");
        at = offset + bytes.len() as u64;
    }
    assert_eq!(at, total);
}
