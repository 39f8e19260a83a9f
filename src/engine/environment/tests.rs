//! The environment against tables: all variables of one vessel, and the neighbours of vessels in graphs
//! of every shape.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::model::fleet::{
    Delivery, FleetDefinition, FleetVersion, Organization, Program, VesselDefinition,
};
use crate::model::graph::{Condition, Path};
use crate::model::guardrails::Guardrails;
use crate::model::ids::{FleetId, InstanceId, OrganizationId, ProjectId, RunId, RunIds, VesselId};
use crate::model::overlap::Overlap;
use crate::model::run::{PayloadSize, RunRecord, Status};

/// 2022-03-04T00:05:06.007Z.
const ACCEPTED_MS: i64 = 1_646_352_306_007;

fn run_id() -> RunId {
    RunIds::after(None).next(Timestamp::from_millis(ACCEPTED_MS), 0x5)
}

/// Vessels `a`, `b`, ... with ids of `a`s, `b`s, ..., and paths written as `ab` for a to b.
pub(super) fn fleet(vessels: &str, paths: &[&str]) -> Arc<FleetVersion> {
    let index = |letter: u8| vessels.bytes().position(|vessel| vessel == letter).unwrap() as u16;
    let vessel = |name: char| VesselDefinition {
        id: VesselId::from_slice(&[name.to_digit(16).unwrap() as u8 * 0x11; 16]).unwrap(),
        name: name.to_string(),
        program: Program::Command(vec!["true".into()]),
        working_directory: None,
        environment: vec![("OWN".into(), "own".into()), ("LANG".into(), "de_DE".into())],
        guardrails: Guardrails::default(),
        confinement: Default::default(),
        runner: None,
        notifications: None,
    };
    let path = |path: &&str| Path {
        from: index(path.as_bytes()[0]),
        to: index(path.as_bytes()[1]),
        condition: Condition::Success,
    };
    Arc::new(FleetVersion {
        fleet_id: FleetId::from_slice(&[0x01; 16]).unwrap(),
        project_id: ProjectId::from_slice(&[0x02; 16]).unwrap(),
        version: 3,
        created_at: Timestamp::default(),
        definition: FleetDefinition {
            name: "my fleet".into(),
            vessels: vessels.chars().map(vessel).collect(),
            paths: paths.iter().map(path).collect(),
            concurrency: None,
            concurrency_key: None,
            overlap: Overlap::Queue,
            debounce: None,
            priority: 0,
            delivery: Delivery::AtLeastOnce,
            notifications: None,
            user: None,
            runner: None,
            schedules: Vec::new(),
            keep_runs: None,
            notify: Vec::new(),
            webhook: crate::model::webhook::WebhookSettings::default(),
        },
    })
}

fn claim(version: &Arc<FleetVersion>, vessel: usize, payload: PayloadSize) -> Claim {
    let at = |later_ms| Timestamp::from_millis(ACCEPTED_MS + later_ms);
    let run = RunRecord {
        fleet_id: version.fleet_id,
        fleet_name: version.definition.name.clone(),
        fleet_version: version.version,
        project_id: version.project_id,
        status: Status::Running,
        payload,
        queued_at: at(0),
        started_at: Some(at(2_000)),
        ..RunRecord::example(run_id())
    };
    Claim {
        vessel_run: run.id.vessel_run(vessel),
        run,
        version: Arc::clone(version),
        vessel,
        attempt: 2,
        scheduled_at: at(3_000),
        started_at: at(60_000_000),
        expects_directory: false,
        is_resumed: false,
        notice: None,
    }
}

fn environment_of(
    claim: &Claim,
    head: &RequestHead,
    body: Option<&str>,
) -> BTreeMap<String, String> {
    let headers_json = serde_json::to_string(&head.headers).unwrap();
    let vessel = &claim.version.definition.vessels[claim.vessel];
    let own = own_variables(vessel, head).into_iter().map(|(name, value)| match value {
        VariableValue::Fixed(FixedValue::Literal(text)) => (name, text),
        _ => panic!("texts alone"),
    });
    let own: Vec<_> = own.collect();
    let pairs = environment(&EnvironmentInputs {
        organization: &Organization {
            id: OrganizationId::from_slice(&[0x03; 16]).unwrap(),
            name: "our house".into(),
        },
        project: &Project {
            id: ProjectId::from_slice(&[0x02; 16]).unwrap(),
            name: "default".into(),
            time_zone: "Europe/Berlin".into(),
            created_at: Timestamp::default(),
        },
        base: &VesselBase::new(&claim.version, claim.vessel),
        instance: InstanceId::from_slice(&[0x04; 16]).unwrap(),
        user: "boat",
        claim,
        head,
        body_text: body,
        headers_json: (!head.headers.is_empty()).then_some(headers_json.as_str()),
        work_directory: "/w/1",
        own: &own,
    });
    let pairs = pairs.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let count = pairs.len();
    let map: BTreeMap<String, String> = pairs.collect();
    assert_eq!(map.len(), count, "names are unique");
    map
}

/// The right branch of a diamond, started 60,000 s after it was accepted, as a whole.
const DIAMOND_RIGHT: &str = "\
BOATHOOK_ATTEMPT=2
BOATHOOK_FLEET_RUN_ID=017f523e-8f57-7000-8000-000000000005
BOATHOOK_INSTANCE=04040404-0404-0404-0404-040404040404
BOATHOOK_REMOTE_ADDR=192.0.2.1:5
BOATHOOK_TRIGGER=webhook
BOATHOOK_WEBHOOK_BODY={}
BOATHOOK_WEBHOOK_CONTENT_TYPE=text/odd
BOATHOOK_WEBHOOK_HEADERS={\"Content-Type\":[\"text/odd\"]}
BOATHOOK_WEBHOOK_QUERY=x=1
HOME=/w/1
LANG=de_DE
OWN=own
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
SHIPYARD_FLEET_CURRENTSTREAM_COUNT=2
SHIPYARD_FLEET_CURRENTSTREAM_INDEX=1
SHIPYARD_FLEET_CURRENTSTREAM_LOG_IDS=017f523e-8f57-7000-8020-000000000005,017f523e-8f57-7000-8030-000000000005
SHIPYARD_FLEET_CURRENTSTREAM_VESSEL_IDS=bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb,cccccccc-cccc-cccc-cccc-cccccccccccc
SHIPYARD_FLEET_DOWNSTREAM_COUNT=1
SHIPYARD_FLEET_DOWNSTREAM_LOG_IDS=017f523e-8f57-7000-8040-000000000005
SHIPYARD_FLEET_DOWNSTREAM_VESSEL_IDS=dddddddd-dddd-dddd-dddd-dddddddddddd
SHIPYARD_FLEET_ID=01010101-0101-0101-0101-010101010101
SHIPYARD_FLEET_LOG_ID=017f523e-8f57-7000-8000-000000000005
SHIPYARD_FLEET_NAME=my fleet
SHIPYARD_FLEET_SCHEDULED_TIME=2022-03-04T00:05:06Z
SHIPYARD_FLEET_START_TIME=2022-03-04T00:05:08Z
SHIPYARD_FLEET_START_TIME_DAY=04
SHIPYARD_FLEET_START_TIME_EPOCH=1646352308
SHIPYARD_FLEET_START_TIME_HOUR=0
SHIPYARD_FLEET_START_TIME_MILLISECOND=7
SHIPYARD_FLEET_START_TIME_MINUTE=5
SHIPYARD_FLEET_START_TIME_MONTH=03
SHIPYARD_FLEET_START_TIME_SECOND=8
SHIPYARD_FLEET_START_TIME_YEAR=2022
SHIPYARD_FLEET_UPSTREAM_COUNT=1
SHIPYARD_FLEET_UPSTREAM_LOG_IDS=017f523e-8f57-7000-8010-000000000005
SHIPYARD_FLEET_UPSTREAM_VESSEL_IDS=aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa
SHIPYARD_LOG_ID=017f523e-8f57-7000-8030-000000000005
SHIPYARD_LOG_WORKDIR=/w/1
SHIPYARD_ORG_ID=03030303-0303-0303-0303-030303030303
SHIPYARD_ORG_NAME=our house
SHIPYARD_PROJECT_ID=02020202-0202-0202-0202-020202020202
SHIPYARD_PROJECT_NAME=default
SHIPYARD_VESSEL_ID=cccccccc-cccc-cccc-cccc-cccccccccccc
SHIPYARD_VESSEL_NAME=c
SHIPYARD_VESSEL_SCHEDULED_TIME=2022-03-04T00:05:09Z
SHIPYARD_VESSEL_START_TIME=2022-03-04T16:45:06Z
SHIPYARD_VESSEL_START_TIME_DAY=04
SHIPYARD_VESSEL_START_TIME_EPOCH=1646412306
SHIPYARD_VESSEL_START_TIME_HOUR=16
SHIPYARD_VESSEL_START_TIME_MILLISECOND=7
SHIPYARD_VESSEL_START_TIME_MINUTE=45
SHIPYARD_VESSEL_START_TIME_MONTH=03
SHIPYARD_VESSEL_START_TIME_SECOND=6
SHIPYARD_VESSEL_START_TIME_YEAR=2022
SHIPYARD_WEBHOOK_BODY_FILE=/w/1/017f523e-8f57-7000-8000-000000000005.webhook_body
SHIPYARD_WEBHOOK_HEADERS_FILE=/w/1/017f523e-8f57-7000-8000-000000000005.webhook_headers
TZ=Europe/Berlin
USER=boat
";

#[test]
fn the_environment_of_one_vessel_to_the_letter() {
    let version = fleet("abcd", &["ab", "ac", "bd", "cd"]);
    let mut head = RequestHead {
        query: "x=1".into(),
        remote_addr: "192.0.2.1:5".into(),
        ..RequestHead::default()
    };
    head.push_header("content-type", "text/odd".into());
    let claim = claim(&version, 2, PayloadSize { head_bytes: 9, body_bytes: 2 });
    let lines: String = environment_of(&claim, &head, Some("{}"))
        .iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    assert_eq!(lines, DIAMOND_RIGHT);
    let vessel = &version.definition.vessels[2];
    for line in DIAMOND_RIGHT.lines() {
        let (name, _) = line.split_once('=').unwrap();
        assert!(has_variable(vessel, name), "{name}");
    }
    for name in ["OTHER", "SHIPYARD_FLEET_START_TIME_", "SHIPYARD_LOG_ID_YEAR", "path", ""] {
        assert!(!has_variable(vessel, name), "{name}");
    }
}

/// A vessel and its neighbours: (vessel, upstream, currentstream, its index, downstream).
type Row = (&'static str, &'static str, &'static str, usize, &'static str);

/// (shape, vessels, paths, a row for each vessel)
const SHAPES: [(&str, &str, &[&str], &[Row]); 7] = [
    ("alone", "a", &[], &[("a", "", "a", 0, "")]),
    (
        "chain",
        "abc",
        &["ab", "bc"],
        &[("a", "", "a", 0, "b"), ("b", "a", "b", 0, "c"), ("c", "b", "c", 0, "")],
    ),
    (
        "diamond",
        "abcd",
        &["ab", "ac", "bd", "cd"],
        &[
            ("a", "", "a", 0, "bc"),
            ("b", "a", "bc", 0, "d"),
            ("c", "a", "bc", 1, "d"),
            ("d", "bc", "d", 0, ""),
        ],
    ),
    (
        "fan-out",
        "abcd",
        &["ab", "ac", "ad"],
        &[
            ("a", "", "a", 0, "bcd"),
            ("b", "a", "bcd", 0, ""),
            ("c", "a", "bcd", 1, ""),
            ("d", "a", "bcd", 2, ""),
        ],
    ),
    (
        "fan-in",
        "abcd",
        &["ad", "bd", "cd"],
        &[
            ("a", "", "abc", 0, "d"),
            ("b", "", "abc", 1, "d"),
            ("c", "", "abc", 2, "d"),
            ("d", "abc", "d", 0, ""),
        ],
    ),
    (
        // Upstream and downstream vessels are in the order of the connections, the others in that of the vessels.
        "fan-in and fan-out, written backwards",
        "edcba",
        &["ed", "ec", "ca", "ba", "da"],
        &[
            ("e", "", "eb", 0, "dc"),
            ("d", "e", "dc", 0, "a"),
            ("c", "e", "dc", 1, "a"),
            ("b", "", "eb", 1, "a"),
            ("a", "cbd", "a", 0, ""),
        ],
    ),
    (
        // c shares one upstream with d and the other with e.
        "overlapping branches",
        "abcde",
        &["ac", "ad", "bc", "be"],
        &[
            ("a", "", "ab", 0, "cd"),
            ("b", "", "ab", 1, "ce"),
            ("c", "ab", "cde", 0, ""),
            ("d", "a", "cd", 1, ""),
            ("e", "b", "ce", 1, ""),
        ],
    ),
];

#[test]
fn neighbours_are_right_in_graphs_of_every_shape() {
    for (shape, vessels, paths, rows) in SHAPES {
        assert_eq!(rows.len(), vessels.len(), "{shape}");
        let version = fleet(vessels, paths);
        let position = |name: char| vessels.find(name).unwrap();
        let logs = |names: &str| {
            let ids = names.chars().map(|name| run_id().vessel_run(position(name)).to_string());
            ids.collect::<Vec<_>>().join(",")
        };
        let ids = |names: &str| {
            let ids =
                names.chars().map(|name| version.definition.vessels[position(name)].id.to_string());
            ids.collect::<Vec<_>>().join(",")
        };
        for (vessel, upstream, current, index, downstream) in rows {
            let claim =
                claim(&version, position(vessel.chars().next().unwrap()), PayloadSize::default());
            let environment = environment_of(&claim, &RequestHead::default(), None);
            let streams =
                [("UPSTREAM", upstream), ("CURRENTSTREAM", current), ("DOWNSTREAM", downstream)];
            for (stream, names) in streams {
                let is =
                    |what: &str| environment[&format!("SHIPYARD_FLEET_{stream}_{what}")].as_str();
                let context = format!("{stream} of {vessel} in {shape}");
                assert_eq!(is("COUNT"), names.len().to_string(), "{context}");
                assert_eq!(is("LOG_IDS"), logs(names), "{context}");
                assert_eq!(is("VESSEL_IDS"), ids(names), "{context}");
            }
            let is = &environment["SHIPYARD_FLEET_CURRENTSTREAM_INDEX"];
            assert_eq!(*is, index.to_string(), "{vessel} in {shape}");
            assert_eq!(environment["SHIPYARD_LOG_ID"], logs(vessel));
            assert_eq!(environment["SHIPYARD_VESSEL_ID"], ids(vessel));
        }
    }
}

#[test]
fn overrides_change_the_fleets_variables_and_nothing_of_the_servers() {
    let version = fleet("a", &[]);
    let claim = claim(&version, 0, PayloadSize::default());
    let mut head = RequestHead::default();
    let variables = &mut head.overrides.entry("a").environment;
    for (name, value) in [("OWN", None), ("LANG", None), ("NEW", Some("new")), ("EMPTY", Some(""))]
    {
        variables.insert(name.into(), value.map(str::to_owned));
    }
    head.overrides.entry("of a vessel that is gone").environment.insert("X".into(), None);
    let environment = environment_of(&claim, &head, None);
    assert_eq!(environment.get("OWN"), None);
    assert_eq!(environment["LANG"], "C.UTF-8", "what a vessel has without its fleet");
    assert_eq!((environment["NEW"].as_str(), environment["EMPTY"].as_str()), ("new", ""));
    for absent in ["SHIPYARD_WEBHOOK_BODY_FILE", "SHIPYARD_WEBHOOK_HEADERS_FILE"] {
        assert_eq!(environment.get(absent), None, "there was no request");
    }
}
