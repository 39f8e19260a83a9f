//! Events of senders: the id and the type that a sender gives a request, by which repeated deliveries
//! are recognised.

use std::io::{self, Read};
use std::time::Duration;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::clock::Timestamp;
use crate::model::concurrency_key::ConcurrencyKey;
use crate::model::debounce::Hold;
use crate::model::delivery::{ID_FAILED, REMARKS};
use crate::model::expression::{Expression, Variables};
use crate::model::ids::{FleetId, RequestId, RunId};
use crate::model::refusal::Reason;
use crate::model::run::shorten;
use crate::model::text::prefix;

/// Bytes of an event's id that are kept as they are. UUIDs have 36, the longest ids in use some 100.
const ID_BYTES_MAX: usize = 200;
/// Bytes of an id over the limit that are kept in front of its hash.
const ID_PREFIX_BYTES: usize = 120;
/// Bytes of an event's type.
const KIND_BYTES_MAX: usize = 100;
/// Bytes of the name of a preset.
const PRESET_BYTES_MAX: usize = 40;
/// Bytes of the reason in a note: one word.
const REASON_BYTES_MAX: usize = 64;
/// Bytes of the detail in a note: every waiting run may hold one in memory.
const DETAIL_BYTES_MAX: usize = 400;

/// The word for the reason of a note that is none of those known.
const REASON_UNKNOWN: &str = "flagged";

/// What a sender calls a request. The order of its fields is part of the format of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The preset that found id and type.
    preset: Option<String>,
    id: Option<String>,
    kind: Option<String>,
}

impl Event {
    /// An event of `preset` with what its request says. Empty values count as absent, long ones are
    /// shortened: an id keeps its beginning and a hash, so that different ids stay different.
    pub fn new(preset: Option<&str>, id: Option<&str>, kind: Option<&str>) -> Self {
        let present = |text: &&str| !text.is_empty();
        Self {
            preset: preset.filter(present).map(|text| bounded(text, PRESET_BYTES_MAX)),
            id: id.filter(present).map(bounded_id),
            kind: kind.filter(present).map(|text| bounded(text, KIND_BYTES_MAX)),
        }
    }

    /// Gives the event the id that `expression` has for its request. `None`: the request has none.
    ///
    /// # Errors
    /// A note for the operator when the expression fails.
    pub fn set_own_id(
        &mut self,
        expression: &Expression,
        variables: &Variables<'_>,
    ) -> Result<Option<()>, Note> {
        match expression.present_value(variables) {
            Ok(id) => {
                let id = id.filter(|id| !id.is_empty());
                Ok(id.map(|id| self.id = Some(bounded_id(&id))))
            }
            Err(why) => Err(Note::new(ID_FAILED, &format!("`{}`: {why}", expression.text()))),
        }
    }

    /// The preset that found id and type.
    pub fn preset(&self) -> Option<&str> {
        self.preset.as_deref()
    }

    /// The id, the same for every delivery of the event.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The type, such as `push`.
    pub fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    /// Whether nothing is known of it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// 128 bits of the SHA-256 of a request's body.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BodyHash([u8; 16]);

impl BodyHash {
    /// The hash of all that `body` has.
    ///
    /// # Errors
    /// When `body` cannot be read.
    pub fn of(body: &mut dyn Read) -> io::Result<Self> {
        let (mut hash, mut buffer) = (Sha256::new(), [0; 16 * 1024]);
        loop {
            match body.read(&mut buffer) {
                Ok(0) => return Ok(Self(first_half(hash))),
                Ok(read) => hash.update(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl From<[u8; 32]> for BodyHash {
    /// From a whole SHA-256.
    fn from(sha256: [u8; 32]) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&sha256[..16]);
        Self(half)
    }
}

/// What the engine learns of a request beside head and body. The default says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    pub event: Event,
    /// How duplicates of the event are recognised. `None`: they run.
    pub deduplicate: Option<Deduplicate>,
    pub note: Option<Note>,
    /// The value of the fleet's `concurrency_key`; `None`: it has none for the request.
    pub key: Option<ConcurrencyKey>,
    pub verified_by: Option<Verifier>,
}

impl Arrival {
    /// Adds a remark. A further one becomes part of the detail of the first.
    pub fn add_note(&mut self, note: Note) {
        match &mut self.note {
            None => self.note = Some(note),
            Some(first) => first.append(&note),
        }
    }
}

/// By what the origin of a request is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verifier {
    /// The fleet's `verify`: what its sender shows is right.
    Sender,
    /// A token of the API: a person or a program tests the webhook.
    Token,
}

/// How duplicates of an event are recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deduplicate {
    /// How long an event is remembered.
    pub window: Duration,
    pub body: BodyHash,
    /// Whether the signature covers the id. If it does not, the same body under another id is a
    /// duplicate as well: a replayed request would pass with any id.
    pub id_is_signed: bool,
}

/// A remark of the sender's verification on a request that runs, for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The word of the refusal that the request would have met.
    reason: String,
    detail: String,
}

impl Note {
    /// A note with a reason of one word and a detail for a person. Long texts are shortened.
    pub fn new(reason: &str, detail: &str) -> Self {
        Self {
            reason: bounded(reason, REASON_BYTES_MAX),
            detail: bounded(detail, DETAIL_BYTES_MAX),
        }
    }

    /// Adds another remark to the detail. The reason stays. Each has half of the room at least.
    pub fn append(&mut self, other: &Self) {
        let (separator, half) = ("; ", DETAIL_BYTES_MAX / 2);
        let own_bytes = self.detail.len().min(half);
        let own_room = |more: &str| DETAIL_BYTES_MAX - separator.len() - more.len();
        let more = format!("{}: {}", other.reason, other.detail);
        let more = prefix(&more, DETAIL_BYTES_MAX - separator.len() - own_bytes);
        let own = prefix(&self.detail, own_room(more));
        self.detail = format!("{own}{separator}{more}");
    }

    /// The reason as a word of the metric.
    pub fn word(&self) -> &'static str {
        let remark = || REMARKS.into_iter().find(|remark| *remark == self.reason);
        Reason::from_word(&self.reason).map(Reason::word).or_else(remark).unwrap_or(REASON_UNKNOWN)
    }

    /// See [`Note::new`].
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// See [`Note::new`].
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

/// What a run keeps of its arrival. The order of its fields is part of the format; a new field is an
/// `Option` at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrivalRecord {
    pub event: Event,
    /// The first run of the event, if this is a later one.
    pub first_run: Option<RunId>,
    /// The id came before with another body.
    pub is_id_reused: bool,
    /// How the event is remembered; `None` when it is not.
    pub memory: Option<EventMemory>,
    pub note: Option<Note>,
    /// The delivery that the run replays. It had started none.
    pub delivery: Option<RequestId>,
    /// The due time of the schedule that started the run.
    pub due_at: Option<Timestamp>,
    /// The value of the fleet's `concurrency_key`; `None`: it has none for the request.
    pub key: Option<ConcurrencyKey>,
    /// Until when the run waits for more requests of its key.
    pub hold: Option<Hold>,
    pub verified_by: Option<Verifier>,
}

impl From<Arrival> for ArrivalRecord {
    fn from(arrival: Arrival) -> Self {
        let Arrival { event, deduplicate, note, key, verified_by } = arrival;
        let memory = deduplicate.map(EventMemory::from);
        Self { event, memory, note, key, verified_by, ..Self::default() }
    }
}

impl ArrivalRecord {
    /// The keys by which the event is remembered, if it is.
    pub fn keys(&self, fleet: FleetId) -> Vec<EventKey> {
        self.memory.map(|memory| EventKey::all(fleet, &self.event, memory)).unwrap_or_default()
    }

    /// The record in its compact form; `None` when it says nothing.
    pub fn pack(&self) -> Option<PackedArrival> {
        if *self == Self::default() {
            return None;
        }
        let bytes = postcard::to_extend(self, Vec::new()).unwrap_or_else(|error| {
            // Plain data of bounded length has a compact form.
            unreachable!("an arrival has no compact form: {error}")
        });
        Some(PackedArrival(bytes.into_boxed_slice()))
    }
}

/// An [`ArrivalRecord`] in its compact form, as rows and waiting runs hold it: some 80 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PackedArrival(Box<[u8]>);

impl PackedArrival {
    /// The record. An unreadable one reads as the default, and the log names the damage.
    pub fn unpack(&self) -> ArrivalRecord {
        // postcard's `None` is a zero: fields that a later program has added read as that.
        let bytes = [&self.0, [0; 16].as_slice()].concat();
        postcard::from_bytes(&bytes).unwrap_or_else(|error| {
            log::error!(error:%; "the arrival of a run is damaged: its event and its notes are lost");
            ArrivalRecord::default()
        })
    }
}

/// An event that is remembered: a row of `events`, by its key. The order of its fields is part of the
/// format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventEntry {
    /// The latest run of the event.
    pub run: RunId,
    /// Its first one.
    pub first_run: RunId,
    /// When the latest run was accepted.
    pub since: Timestamp,
    pub window_seconds: u64,
    /// Whether the latest run has ended without success, so that a delivery runs again.
    pub has_failed: bool,
}

impl EventEntry {
    /// Whether the event is remembered at `now` for `window`. A clock that has stepped back
    /// does not make it forgotten.
    pub fn is_within(&self, window: Duration, now: Timestamp) -> bool {
        now.since(self.since) < window
    }
}

/// How an event is remembered: see [`Deduplicate`]. The order of its fields is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventMemory {
    pub window_seconds: u64,
    pub body: BodyHash,
    pub id_is_signed: bool,
}

impl From<Deduplicate> for EventMemory {
    fn from(deduplicate: Deduplicate) -> Self {
        let Deduplicate { window, body, id_is_signed } = deduplicate;
        Self { window_seconds: window.as_secs(), body, id_is_signed }
    }
}

/// By what an event of a fleet is recognised: a digest of its id, or of its body alone, and the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKey {
    pub fleet: FleetId,
    pub digest: [u8; 16],
    pub body: BodyHash,
}

impl EventKey {
    /// The keys of an event: that of its id first. None without an id.
    pub fn all(fleet: FleetId, event: &Event, memory: EventMemory) -> Vec<Self> {
        let EventMemory { body, id_is_signed, .. } = memory;
        let Some(id) = event.id() else { return Vec::new() };
        let preset = event.preset().unwrap_or_default();
        // No preset has a NUL in its name.
        let of_id = digest(&[b"id\0", preset.as_bytes(), b"\0", id.as_bytes()]);
        let mut keys = vec![Self { fleet, digest: of_id, body }];
        if !id_is_signed {
            keys.push(Self { fleet, digest: digest(&[b"body\0", &body.0]), body });
        }
        keys
    }

    /// The key as the bytes that store it.
    pub fn to_bytes(self) -> [u8; 48] {
        let mut bytes = [0; 48];
        bytes[..16].copy_from_slice(self.fleet.as_bytes());
        bytes[16..32].copy_from_slice(&self.digest);
        bytes[32..].copy_from_slice(&self.body.0);
        bytes
    }

    /// The key that is stored as `bytes`; `None` when it is none.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 48] = bytes.try_into().ok()?;
        let fleet = FleetId::from_slice(&bytes[..16])?;
        let (digest, body) = (bytes[16..32].try_into().ok()?, bytes[32..].try_into().ok()?);
        Some(Self { fleet, digest, body: BodyHash(body) })
    }
}

fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    first_half(hash)
}

fn first_half(hash: Sha256) -> [u8; 16] {
    BodyHash::from(<[u8; 32]>::from(hash.finalize())).0
}

/// `text` on one line of at most `bytes_max` bytes.
fn bounded(text: &str, bytes_max: usize) -> String {
    prefix(&shorten(text), bytes_max).to_owned()
}

/// `id` as it is, or the beginning and the hash of an id that is long or has control characters.
pub(super) fn bounded_id(id: &str) -> String {
    if id.len() <= ID_BYTES_MAX && !id.chars().any(char::is_control) {
        return id.to_owned();
    }
    let hash = HEXLOWER.encode(&digest(&[id.as_bytes()]));
    format!("{}…{hash}", bounded(id, ID_PREFIX_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: EventMemory =
        EventMemory { window_seconds: 60, body: BodyHash([7; 16]), id_is_signed: false };

    #[test]
    fn values_are_bounded_and_long_ids_stay_different() {
        let long = |last: char| format!("{}{last}", "ä".repeat(200));
        let of = |id: &str| Event::new(Some("github"), Some(id), Some(&long('x')));
        let (one, other) = (of(&long('1')), of(&long('2')));
        assert_ne!(one, other);
        for event in [&one, &other, &of("a\nb")] {
            assert!(event.id().is_some_and(|id| id.len() <= ID_BYTES_MAX && !id.contains('\n')));
            assert!(event.kind().is_some_and(|kind| kind.len() <= KIND_BYTES_MAX));
        }
        assert_ne!(of("a\nb"), of("a\rb"));
        assert_eq!(of("plain").id(), Some("plain"));
        assert!(Event::new(Some(""), Some(""), Some("")).is_empty());
    }

    #[test]
    fn keys_tell_ids_presets_and_fleets_apart_and_read_back() {
        let (fleet, other) = (FleetId::random(), FleetId::random());
        let event = |preset, id| Event::new(Some(preset), Some(id), None);
        let all = |fleet, event: &Event| EventKey::all(fleet, event, MEMORY);
        let keys = all(fleet, &event("github", "1"));
        assert_eq!(keys.len(), 2);
        assert_ne!(keys[0], keys[1]);
        for key in &keys {
            assert_eq!(EventKey::from_slice(&key.to_bytes()), Some(*key));
        }
        for unlike in [event("github", "2"), event("linear", "1")] {
            let unlike = all(fleet, &unlike);
            assert!(unlike[0] != keys[0] && unlike[1] == keys[1], "one body is one event");
        }
        assert!(all(other, &event("github", "1")).iter().all(|key| !keys.contains(key)));
        let signed = EventMemory { id_is_signed: true, ..MEMORY };
        assert_eq!(EventKey::all(fleet, &event("stripe", "1"), signed).len(), 1);
        assert!(all(fleet, &Event::new(Some("github"), None, Some("push"))).is_empty());
    }

    #[test]
    fn arrivals_read_back_also_from_a_program_that_knew_fewer_fields() {
        let record = ArrivalRecord {
            event: Event::new(Some("github"), Some("1"), Some("push")),
            memory: Some(MEMORY),
            note: Some(Note::new("signature_missing", "no header X-Hub-Signature-256")),
            ..ArrivalRecord::default()
        };
        let packed = record.pack().unwrap();
        assert_eq!(packed.unpack(), record);
        assert!(packed.0.len() < 120, "{} bytes", packed.0.len());
        let shorter = PackedArrival(packed.0[..packed.0.len() - 1].into());
        assert_eq!(shorter.unpack(), record, "the last field is absent");
        assert_eq!(ArrivalRecord::default().pack(), None);
    }

    #[test]
    fn a_second_remark_is_part_of_the_first() {
        let mut arrival = Arrival::default();
        for (reason, detail) in [(ID_FAILED, "`body.a`: no"), ("signature_missing", "no header")] {
            arrival.add_note(Note::new(reason, detail));
        }
        let note = arrival.note.unwrap();
        assert_eq!((note.reason(), note.word()), (ID_FAILED, ID_FAILED));
        assert_eq!(note.detail(), "`body.a`: no; signature_missing: no header");
        for (first, second) in [(1, 900), (900, 1), (900, 900), (250, 250)] {
            let mut note = Note::new("a", &"x".repeat(first));
            note.append(&Note::new("b", &"y".repeat(second)));
            assert!(note.detail.len() <= DETAIL_BYTES_MAX, "{first} and {second}");
            let count = |letter| note.detail.matches(letter).count();
            assert!(count('x') >= first.min(190) && count('y') >= second.min(190), "{note:?}");
        }
        assert_eq!(Note::new("of a later program", "").word(), REASON_UNKNOWN);
    }

    #[test]
    fn a_body_is_hashed_to_its_end() {
        let body = vec![1; 100_000];
        let whole = <[u8; 32]>::from(Sha256::digest(&body));
        assert_eq!(BodyHash::of(&mut body.as_slice()).unwrap(), BodyHash::from(whole));
    }
}
