use super::*;

fn header() -> Header {
    Header::new(2, Timestamp::from_millis(1_700_000_000_000), 7)
}

/// A backup of some rows and two files, one of them longer than a frame.
fn backup() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(&mut bytes, &header()).unwrap();
    for number in 0..200_u32 {
        let (key, value) = (number.to_be_bytes(), vec![number as u8; 20]);
        writer.change(RowChange { key: &key, value: Some(&value) }).unwrap();
    }
    writer.change(RowChange { key: b"gone", value: None }).unwrap();
    writer.file("short.1", 5).unwrap();
    writer.data(b"short").unwrap();
    let long = vec![7; FRAME_BYTES + 9];
    writer.file("long.2", long.len() as u64).unwrap();
    long.chunks(FRAME_BYTES).for_each(|it| writer.data(it).unwrap());
    writer.finish().unwrap();
    bytes
}

#[test]
fn a_written_backup_reads_back() {
    let bytes = backup();
    let mut reader = Reader::open(bytes.as_slice()).unwrap();
    assert_eq!(reader.header(), &header());
    let (mut rows, mut files) = (Vec::new(), Vec::new());
    while let Some(frame) = reader.next_frame().unwrap() {
        match frame {
            Frame::Rows(changes) => rows.extend(changes.map(|change| {
                let RowChange { key, value } = change.unwrap();
                (key.to_vec(), value.map(<[u8]>::to_vec))
            })),
            Frame::File { name } => files.push((name.to_owned(), Vec::new())),
            Frame::Data(bytes) => files.last_mut().unwrap().1.extend_from_slice(bytes),
        }
    }
    assert_eq!(rows.len(), 201);
    assert_eq!(rows[3], (3_u32.to_be_bytes().to_vec(), Some(vec![3; 20])));
    assert_eq!(rows[200], (b"gone".to_vec(), None));
    assert_eq!(files[0], ("short.1".to_owned(), b"short".to_vec()));
    assert_eq!(files[1], ("long.2".to_owned(), vec![7; FRAME_BYTES + 9]));
    let file_bytes = 5 + FRAME_BYTES as u64 + 9;
    assert_eq!(reader.totals(), Totals { row_changes: 201, files: 2, file_bytes });
    assert_eq!(reader.position(), bytes.len() as u64);
}

fn verify(bytes: &[u8]) -> Result<(), FormatError> {
    let mut reader = Reader::open(bytes)?;
    while reader.next_frame()?.is_some() {}
    Ok(())
}

#[test]
fn every_change_and_every_missing_byte_is_noticed() {
    let whole = backup();
    verify(&whole).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let everywhere =
        (0..400).chain(std::iter::repeat_with(|| random.usize(..whole.len())).take(400));
    for at in everywhere.collect::<Vec<_>>() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << random.u8(..8);
        assert!(verify(&damaged).is_err(), "a bit is flipped at {at}");
        assert!(verify(&whole[..at]).is_err(), "cut off at {at}");
        let mut shorter = whole.clone();
        shorter.remove(at);
        assert!(verify(&shorter).is_err(), "a byte is missing at {at}");
    }
    assert!(matches!(verify(&whole[..whole.len() - 1]), Err(FormatError::Incomplete { .. })));
    assert!(matches!(verify(&[&whole[..], b"\0"].concat()), Err(FormatError::Damaged { .. })));
    assert!(matches!(verify(b"boathook"), Err(FormatError::NotOne)));
    assert!(matches!(verify(&[b'x'; 100]), Err(FormatError::NotOne)));
}

/// The frames after the magic, each with its digest.
fn frames(backup: &[u8]) -> Vec<&[u8]> {
    let (mut frames, mut rest) = (Vec::new(), &backup[MAGIC.len()..]);
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[1..FRAME_HEAD_BYTES].try_into().unwrap());
        let end = FRAME_HEAD_BYTES + length as usize + DIGEST_BYTES;
        frames.push(&rest[..end]);
        rest = &rest[end..];
    }
    frames
}

#[test]
fn a_missing_or_repeated_frame_is_noticed() {
    let whole = backup();
    let frames = frames(&whole);
    for at in 0..frames.len() {
        let mut without = frames.clone();
        without.remove(at);
        assert!(verify(&[&MAGIC[..], &without.concat()].concat()).is_err(), "without {at}");
        let mut twice = frames.clone();
        twice.insert(at, frames[at]);
        assert!(verify(&[&MAGIC[..], &twice.concat()].concat()).is_err(), "{at} twice");
    }
}

#[test]
fn the_errors_of_a_newer_format_and_of_an_abandoned_backup_say_why() {
    let mut bytes = Vec::new();
    let newer = Header { format: FORMAT + 1, version: "9.9".to_owned(), ..header() };
    Writer::begin(&mut bytes, &newer).unwrap();
    let error = verify(&bytes).unwrap_err();
    assert!(error.to_string().contains("9.9"), "{error}");
    bytes.clear();
    Writer::begin(&mut bytes, &header()).unwrap().abandon("the disk is full").unwrap();
    let error = verify(&bytes).unwrap_err();
    assert!(error.to_string().contains("the disk is full"), "{error}");
}

#[test]
fn changes_are_copied_one_by_one() {
    let mut written = Vec::new();
    write_change(&mut written, RowChange { key: b"a", value: Some(b"") });
    write_change(&mut written, RowChange { key: b"bc", value: None });
    let (mut source, mut copied) = (written.as_slice(), Vec::new());
    assert!(read_change(&mut source, &mut copied).unwrap());
    assert!(read_change(&mut source, &mut copied).unwrap());
    assert!(!read_change(&mut source, &mut copied).unwrap());
    assert_eq!(copied, written);
    let torn = &mut &written[..4];
    assert!(read_change(torn, &mut Vec::new()).is_err());
}
