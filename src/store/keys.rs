//! The keys of every table. Numbers are big-endian, so that keys sort by number.

use crate::model::access::Scope;
use crate::model::audit::AuditClass;
use crate::model::ids::{FleetId, ProjectId, RequestId, RunId, VesselRunId};
use crate::model::statistics::Hour;
use crate::store::tables::Table;

/// Bytes of the chunk's number at the end of a payload's, output's or definition's key.
pub const CHUNK_BYTES: usize = 4;

/// `key` behind the byte of `table`: the full key.
pub fn of_table(table: Table, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + key.len());
    bytes.push(table as u8);
    bytes.extend_from_slice(key);
    bytes
}

/// A full key behind all of `table`.
pub fn end_of_table(table: Table) -> Vec<u8> {
    vec![table as u8 + 1]
}

/// `queue`: the sequence number.
pub fn sequence(sequence: u64) -> [u8; 8] {
    sequence.to_be_bytes()
}

/// The sequence number in a key of `queue`.
pub fn sequence_in(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

/// `runs_by_fleet`: the fleet, then the run.
pub fn run_of_fleet(fleet: FleetId, run: RunId) -> Vec<u8> {
    [fleet.as_bytes().as_slice(), run.as_bytes()].concat()
}

/// `vessel_runs`: the vessel run, then the attempt.
pub fn attempt(vessel_run: VesselRunId, attempt: u32) -> Vec<u8> {
    [vessel_run.as_bytes().as_slice(), &attempt.to_be_bytes()].concat()
}

/// `notifications` and `undelivered`: the run, then the number.
pub fn notification(run: RunId, number: u32) -> Vec<u8> {
    [run.as_bytes().as_slice(), &number.to_be_bytes()].concat()
}

/// `payloads`: the run, then the chunk.
pub fn payload(run: RunId, chunk: u32) -> Vec<u8> {
    [run.as_bytes().as_slice(), &chunk.to_be_bytes()].concat()
}

/// `outputs`: the vessel run, the attempt, then the chunk.
pub fn output(vessel_run: VesselRunId, attempt: u32, chunk: u32) -> Vec<u8> {
    [vessel_run.as_bytes().as_slice(), &attempt.to_be_bytes(), &chunk.to_be_bytes()].concat()
}

/// `fleet_versions` and `fleet_texts`: the fleet, the version, then the chunk.
pub fn fleet_version(fleet: FleetId, version: u32, chunk: u32) -> Vec<u8> {
    [fleet.as_bytes().as_slice(), &version.to_be_bytes(), &chunk.to_be_bytes()].concat()
}

/// `history`: the fleet, then the number.
pub fn history(fleet: FleetId, number: u64) -> Vec<u8> {
    [fleet.as_bytes().as_slice(), &number.to_be_bytes()].concat()
}

/// The number in a key of `history`.
pub fn history_number(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// `deliveries_by_fleet`: the fleet, then the delivery.
pub fn delivery_of_fleet(fleet: FleetId, delivery: RequestId) -> Vec<u8> {
    [fleet.as_bytes().as_slice(), delivery.as_bytes()].concat()
}

/// `delivery_requests`: the delivery, then the chunk.
pub fn delivery_request(delivery: RequestId, chunk: u32) -> Vec<u8> {
    [delivery.as_bytes().as_slice(), &chunk.to_be_bytes()].concat()
}

/// `audit`: the class, then the id of the request.
pub fn audit(class: AuditClass, id: RequestId) -> Vec<u8> {
    [&[class as u8], id.as_bytes().as_slice()].concat()
}

/// `statistics`: the hour, the kind of scope, then the id of its project or fleet.
pub fn tally(hour: Hour, scope: Scope) -> Vec<u8> {
    let (kind, id): (u8, &[u8]) = match &scope {
        Scope::Everything => (0, &[]),
        Scope::Project(project) => (1, project.as_bytes()),
        Scope::Fleet(fleet) => (2, fleet.as_bytes()),
    };
    [hour.number().to_be_bytes().as_slice(), &[kind], id].concat()
}

/// The hour and the scope in a key of `statistics`.
pub fn tally_in(key: &[u8]) -> Option<(Hour, Scope)> {
    let (hour, rest) = key.split_first_chunk()?;
    let scope = match rest.split_first()? {
        (0, []) => Scope::Everything,
        (1, id) => Scope::Project(ProjectId::from_slice(id)?),
        (2, id) => Scope::Fleet(FleetId::from_slice(id)?),
        _ => return None,
    };
    Some((Hour::from_number(u32::from_be_bytes(*hour)), scope))
}

/// A key behind all that begin with `prefix`.
pub fn after(prefix: &[u8]) -> Vec<u8> {
    // No key is longer than its prefix and this.
    [prefix, &[0xff; 32]].concat()
}

/// The common prefix of the ids of all vessel runs of `run`: the run's time and counter, which no other
/// run has.
pub fn vessel_runs_of(run: RunId) -> [u8; 8] {
    let mut prefix = [0; 8];
    prefix.copy_from_slice(&run.as_bytes()[..8]);
    prefix
}

/// The number at the end of `key`: an attempt or a chunk.
pub fn last_number(key: &[u8]) -> Option<u32> {
    key.last_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}
