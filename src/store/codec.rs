//! The formats of rows. One byte in front tells them apart: JSON, or the compact format of the rows
//! that every run writes, in which fields follow each other without names. Compact rows are short
//! because sled writes each row several times, once per split of its node.
//!
//! An additional field changes the compact format, which takes another first byte. The field is an
//! `Option` or a list at the end: an older row reads as one without it. JSON takes additional fields
//! with a default.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::fleet::FleetVersion;
use crate::model::graph::{Graph, GraphError};
use crate::model::limits::{ROW_BYTES_MAX, VESSELS_PER_FLEET_MAX};

/// The first byte of every JSON row.
const JSON: u8 = b'1';
/// The first byte of every compact row. Schema 2 has JSON rows only.
const COMPACT: u8 = b'6';
/// The same before deliveries told by what they are verified: their rows end before `verified_by`.
const COMPACT_WITHOUT_VERIFIER: u8 = b'5';
/// The same before schedules stored the due times that wait: their rows end before `waiting`.
const COMPACT_WITHOUT_WAITING: u8 = b'4';
/// The same in schema 4, whose runs and queue entries end before `arrival`.
const COMPACT_OF_SCHEMA_4: u8 = b'3';
/// The same in schema 3, whose queue entries end before `queued_at`.
const COMPACT_OF_SCHEMA_3: u8 = b'2';
/// postcard's encoding of `None` and of an empty list.
const NONE: u8 = 0;

/// Why a value cannot be encoded, or a row cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("a row of {bytes} bytes is over the limit of {ROW_BYTES_MAX}")]
    TooLong { bytes: usize },
    #[error("unknown row format {0:?}")]
    UnknownFormat(Option<u8>),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Compact(#[from] postcard::Error),
    #[error("the fleet `{fleet}` has {vessels} vessels, more than {VESSELS_PER_FLEET_MAX}")]
    TooManyVessels { fleet: String, vessels: usize },
    #[error("the paths of the fleet `{fleet}` are no graph: {error}")]
    NoGraph { fleet: String, error: GraphError },
}

/// `value` as one row of JSON.
///
/// # Errors
/// When the row would be longer than [`ROW_BYTES_MAX`].
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    within_limit(encode_long(value)?)
}

/// `value` as one compact row.
///
/// # Errors
/// As [`encode`].
pub fn encode_compact<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut row = Vec::with_capacity(128);
    row.push(COMPACT);
    within_limit(postcard::to_extend(value, row)?)
}

fn within_limit(row: Vec<u8>) -> Result<Vec<u8>, CodecError> {
    if row.len() > ROW_BYTES_MAX {
        return Err(CodecError::TooLong { bytes: row.len() });
    }
    Ok(row)
}

/// `value` as bytes of any length, to be cut into chunks.
///
/// # Errors
/// When the value has no JSON form.
pub fn encode_long<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut row = Vec::with_capacity(512);
    row.push(JSON);
    serde_json::to_writer(&mut row, value)?;
    Ok(row)
}

/// The value of `row`.
///
/// # Errors
/// When the row has an unknown format, or is not such a value.
pub fn decode<T: DeserializeOwned>(row: &[u8]) -> Result<T, CodecError> {
    match row.split_first() {
        Some((&JSON, json)) => Ok(serde_json::from_slice(json)?),
        Some((&COMPACT, fields)) => Ok(postcard::from_bytes(fields)?),
        // Types without new fields leave the last bytes unread.
        Some((
            &(COMPACT_WITHOUT_VERIFIER | COMPACT_WITHOUT_WAITING | COMPACT_OF_SCHEMA_4),
            fields,
        )) => Ok(postcard::from_bytes(&[fields, &[NONE]].concat())?),
        Some((&COMPACT_OF_SCHEMA_3, fields)) => {
            Ok(postcard::from_bytes(&[fields, &[NONE, NONE]].concat())?)
        }
        other => Err(CodecError::UnknownFormat(other.map(|(format, _)| *format))),
    }
}

/// The version of a fleet in `row`.
///
/// # Errors
/// When `row` is no such version, or its vessels could not run in the order of its paths.
pub fn decode_fleet_version(row: &[u8]) -> Result<FleetVersion, CodecError> {
    let version: FleetVersion = decode(row)?;
    let (name, vessels) = (&version.definition.name, version.definition.vessels.len());
    if vessels > VESSELS_PER_FLEET_MAX {
        return Err(CodecError::TooManyVessels { fleet: name.clone(), vessels });
    }
    match Graph::new(vessels, &version.definition.paths) {
        Ok(_) => Ok(version),
        Err(error) => Err(CodecError::NoGraph { fleet: name.clone(), error }),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use uuid::Uuid;

    use super::*;
    use crate::model::change::QueueEntry;
    use crate::model::clock::Timestamp;
    use crate::model::delivery::{Delivery, KeptRequest, Verdict};
    use crate::model::event::{Event, Verifier};
    use crate::model::ids::{FleetId, ProjectId, RequestId, RunId, VesselId};
    use crate::model::run::{
        OutputPlace, OutputRecord, PayloadSize, RunRecord, Skip, Status, Trigger, VesselRunRecord,
    };
    use crate::model::schedule::ScheduleEntry;

    #[test]
    fn rows_read_back_and_stay_short() {
        let row = encode(&vec!["a", "b"]).unwrap();
        assert_eq!(decode::<Vec<String>>(&row).unwrap(), ["a", "b"]);
        let row = encode_compact(&vec!["a", "b"]).unwrap();
        assert_eq!(decode::<Vec<String>>(&row).unwrap(), ["a", "b"]);
        let long = "x".repeat(ROW_BYTES_MAX);
        assert!(matches!(encode(&long), Err(CodecError::TooLong { .. })));
        assert!(matches!(encode_compact(&long), Err(CodecError::TooLong { .. })));
        assert!(matches!(decode::<String>(b"0\"a\""), Err(CodecError::UnknownFormat(Some(b'0')))));
        assert!(matches!(decode::<String>(b""), Err(CodecError::UnknownFormat(None))));
    }

    /// Compact rows have no field names: an added, moved or changed field would misread the rows of
    /// older programs. A change that fails this test needs another first byte for its rows.
    #[test]
    fn the_format_of_compact_rows_does_not_change() {
        fn assert_stored_as<T: Serialize + DeserializeOwned + PartialEq + Debug>(
            value: &T,
            json: &str,
            hex: &str,
        ) {
            let row = encode_compact(value).unwrap();
            assert_eq!(data_encoding::HEXLOWER.encode(&row), hex);
            assert_eq!(&decode::<T>(&row).unwrap(), value);
            for older in [COMPACT_WITHOUT_WAITING, COMPACT_OF_SCHEMA_4, COMPACT_OF_SCHEMA_3] {
                let row = [&[older], &row[1..]].concat();
                assert_eq!(&decode::<T>(&row).unwrap(), value);
            }
            // The row of schema 2.
            assert_eq!(&decode::<T>(json.as_bytes()).unwrap(), value);
        }
        fn id<T>(bytes: [u8; 16], from: fn(&[u8]) -> Option<T>) -> T {
            from(&bytes).unwrap()
        }
        let (run, older) = (id([1; 16], RunId::from_slice), id([2; 16], RunId::from_slice));
        let (fleet, project) =
            (id([3; 16], FleetId::from_slice), id([4; 16], ProjectId::from_slice));
        let at = |millis: i64| Timestamp::from_millis(1_700_000_000_000 + millis);
        let payload = PayloadSize { head_bytes: 130, body_bytes: 500 };
        let entry = QueueEntry {
            sequence: 300,
            run,
            fleet,
            version: 2,
            trigger: Trigger::Replay,
            replay_of: Some(older),
            payload,
            started: true,
            queued_at: Some(at(0)),
            arrival: None,
        };
        let uuid = |byte| Uuid::from_bytes([byte; 16]);
        let json = format!(
            r#"1{{"sequence":300,"run":"{}","fleet":"{}","version":2,"trigger":"replay","replay_of":"{}","payload":{{"head_bytes":130,"body_bytes":500}},"started":true,"queued_at":"{}"}}"#,
            uuid(1),
            uuid(3),
            uuid(2),
            at(0),
        );
        assert_stored_as(
            &entry,
            &json,
            "36ac021001010101010101010101010101010101100303030303030303030303030303030302030110020202020202020202020202020202028201f403010180a0abfef96200",
        );
        let record = RunRecord {
            id: run,
            fleet_id: fleet,
            fleet_name: "site".to_owned(),
            fleet_version: 2,
            project_id: project,
            trigger: Trigger::Webhook,
            status: Status::Errored,
            reason: Some("exit code 3".to_owned()),
            replay_of: None,
            sequence: 300,
            payload,
            output_bytes: 0,
            crashes: 1,
            queued_at: at(0),
            started_at: Some(at(1)),
            ended_at: Some(at(2)),
            arrival: None,
        };
        let json = format!(
            r#"1{{"id":"{}","fleet_id":"{}","fleet_name":"site","fleet_version":2,"project_id":"{}","trigger":"webhook","status":"Errored","reason":"exit code 3","sequence":300,"payload":{{"head_bytes":130,"body_bytes":500}},"crashes":1,"queued_at":"{}","started_at":"{}","ended_at":"{}"}}"#,
            uuid(1),
            uuid(3),
            uuid(4),
            at(0),
            at(1),
            at(2),
        );
        assert_stored_as(
            &record,
            &json,
            "361001010101010101010101010101010101100303030303030303030303030303030304736974650210040404040404040404040404040404040004010b6578697420636f6465203300ac028201f403000180a0abfef9620182a0abfef9620184a0abfef96200",
        );
        let vessel = VesselRunRecord {
            id: run.vessel_run(1),
            vessel_id: id([5; 16], VesselId::from_slice),
            vessel_name: "main".to_owned(),
            status: Status::Incomplete,
            attempt: 3,
            retries: 2,
            exit_code: Some(-1),
            signal: Some(9),
            reason: None,
            retry_at: Some(at(3)),
            stop_requested: true,
            skip: Some(Skip::Replay { status: Status::Success, exit_code: Some(0) }),
            scheduled_at: at(0),
            started_at: None,
            ended_at: Some(at(2)),
            output: OutputRecord { place: OutputPlace::File, bytes: 70_000, kept: 0 },
        };
        let json = format!(
            r#"1{{"id":"{}","vessel_id":"{}","vessel_name":"main","status":"Incomplete","attempt":3,"retries":2,"exit_code":-1,"signal":9,"retry_at":"{}","stop_requested":true,"skip":{{"replay":{{"status":"Success","exit_code":0}}}},"scheduled_at":"{}","ended_at":"{}","output":{{"place":"file","bytes":70000}}}}"#,
            vessel.id,
            uuid(5),
            at(3),
            at(0),
            at(2),
        );
        assert_stored_as(
            &vessel,
            &json,
            "3610010101010101010101210101010101011005050505050505050505050505050505046d61696e06030201010112000186a0abfef96201010103010080a0abfef962000184a0abfef96202f0a20400",
        );
    }

    #[test]
    fn rows_of_schedules_without_waiting_due_times_read_back() {
        let at = |millis: i64| Timestamp::from_millis(1_700_000_000_000 + millis);
        let entry = ScheduleEntry { settled: at(0), ran: vec![at(0)], waiting: Vec::new() };
        let row = "3480a0abfef9620180a0abfef962";
        let row = data_encoding::HEXLOWER.decode(row.as_bytes()).unwrap();
        assert_eq!(decode::<ScheduleEntry>(&row).unwrap(), entry);
        let entry = ScheduleEntry { waiting: vec![at(1)], ..entry };
        assert_eq!(decode::<ScheduleEntry>(&encode_compact(&entry).unwrap()).unwrap(), entry);
    }

    #[test]
    fn rows_of_deliveries_without_a_verifier_read_back() {
        let at = Timestamp::from_millis(1_700_000_000_000);
        let delivery = Delivery {
            id: RequestId::arriving(at),
            received_at: at,
            fleet_id: FleetId::random(),
            fleet_name: "site".to_owned(),
            remote_addr: "192.0.2.1".to_owned(),
            event: Event::default(),
            verdict: Verdict::Handshake,
            note: None,
            status: 200,
            run: None,
            bytes: 0,
            kept: KeptRequest::default(),
            memory: None,
            verified_by: None,
        };
        let mut row = encode_compact(&delivery).unwrap();
        assert_eq!(row.pop(), Some(NONE));
        row[0] = COMPACT_WITHOUT_VERIFIER;
        assert_eq!(decode::<Delivery>(&row).unwrap(), delivery);
        let delivery = Delivery { verified_by: Some(Verifier::Token), ..delivery };
        assert_eq!(decode::<Delivery>(&encode_compact(&delivery).unwrap()).unwrap(), delivery);
    }

    #[test]
    fn queue_entries_of_schema_3_read_back_without_a_time() {
        let row = "32ac021001010101010101010101010101010101100303030303030303030303030303030302030110020202020202020202020202020202028201f40301";
        let row = data_encoding::HEXLOWER.decode(row.as_bytes()).unwrap();
        let entry: QueueEntry = decode(&row).unwrap();
        assert_eq!((entry.sequence, entry.started, entry.queued_at), (300, true, None));
        assert_eq!(entry.arrival, None);
    }

    #[test]
    fn rows_of_schema_4_read_back_without_an_arrival() {
        let row = "33ac021001010101010101010101010101010101100303030303030303030303030303030302030110020202020202020202020202020202028201f403010180a0abfef962";
        let row = data_encoding::HEXLOWER.decode(row.as_bytes()).unwrap();
        let entry: QueueEntry = decode(&row).unwrap();
        let queued_at = Some(Timestamp::from_millis(1_700_000_000_000));
        assert_eq!((entry.queued_at, entry.arrival), (queued_at, None));
        let row = "331001010101010101010101010101010101100303030303030303030303030303030304736974650210040404040404040404040404040404040004010b6578697420636f6465203300ac028201f403000180a0abfef9620182a0abfef9620184a0abfef962";
        let row = data_encoding::HEXLOWER.decode(row.as_bytes()).unwrap();
        let run: RunRecord = decode(&row).unwrap();
        assert_eq!((run.status, run.arrival), (Status::Errored, None));
    }
}
