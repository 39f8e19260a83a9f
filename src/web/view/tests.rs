use super::*;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::model::access::Role;
use crate::model::fleet::Delivery;
use crate::model::guardrails::ExitCodes;
use crate::model::ids::RunIds;
use crate::model::overlap::Overlap;
use crate::model::run::RunRecord;
use crate::model::runner::RunnerChoice;
use crate::model::webhook::{PreviousToken, Token, Webhook};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + millis)
}

fn run() -> RunView {
    let id = RunIds::after(None).next(at(0), 7);
    let run = RunRecord {
        fleet_name: "deploy".into(),
        fleet_version: 3,
        trigger: Trigger::OnDemand,
        status: Status::Running,
        sequence: 9,
        started_at: Some(at(5)),
        ..RunRecord::example(id)
    };
    let vessel = VesselRunRecord {
        id: id.vessel_run(0),
        vessel_id: VesselId::random(),
        vessel_name: "build".into(),
        status: Status::Errored,
        attempt: 2,
        retries: 1,
        exit_code: Some(4),
        signal: None,
        reason: Some("exit code 4".into()),
        retry_at: None,
        stop_requested: false,
        skip: None,
        scheduled_at: at(0),
        started_at: Some(at(5)),
        ended_at: Some(at(1_255)),
        output: Default::default(),
    };
    RunView { run, is_fleet_deleted: false, vessels: vec![vessel] }
}

#[test]
fn a_run_has_the_fields_of_the_contract() {
    let view = run();
    let shown = serde_json::to_string(&RunJson::from(&view)).unwrap();
    let fields = |object: &Value| -> Vec<String> {
        let mut keys: Vec<_> = object.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    let value: Value = serde_json::from_str(&shown).unwrap();
    let mut expected: Vec<_> = "id fleet_id fleet_name fleet_version project_id trigger status \
        reason replay_of event first_run delivery_id note queued_at started_at ended_at duration_ms \
        vessels"
        .split_whitespace()
        .collect();
    expected.sort();
    assert_eq!(fields(&value), expected);
    let mut expected: Vec<_> = "id vessel_id vessel_name status attempt exit_code signal reason \
        started_at ended_at duration_ms"
        .split_whitespace()
        .collect();
    expected.sort();
    assert_eq!(fields(&value["vessels"][0]), expected);
    assert_eq!(value["trigger"], "on_demand");
    assert_eq!(value["status"], "Running");
    assert_eq!(value["started_at"], "2023-11-14T22:13:20.005Z");
    assert_eq!(value["duration_ms"], Value::Null);
    assert_eq!(value["vessels"][0]["duration_ms"], 1_250);
}

#[test]
fn a_fleet_names_its_vessels_and_connections() {
    let vessel = |name: &str, program| VesselDefinition {
        id: VesselId::random(),
        name: name.into(),
        program,
        working_directory: None,
        environment: vec![("B".into(), "1".into()), ("A".into(), "2".into())],
        guardrails: Guardrails {
            retry_wait: std::time::Duration::from_secs(10),
            exclude_exit_code_ranges: vec![
                ExitCodes { first: 2, last: 2 },
                ExitCodes { first: 3, last: 5 },
            ],
            ..Guardrails::default()
        },
        confinement: Confinement {
            limits: Limits { memory: Some(1 << 30), ..Limits::default() },
            nice: None,
            umask: Some(0o27),
        },
        runner: None,
        notifications: None,
    };
    let definition = FleetDefinition {
        name: "deploy".into(),
        vessels: vec![
            vessel("build", Program::Command(vec!["make".into()])),
            vessel("notify", Program::Script("mail".into())),
        ],
        paths: vec![crate::model::graph::Path { from: 0, to: 1, condition: Condition::Errored }],
        concurrency: Some(1),
        concurrency_key: None,
        overlap: Overlap::Skip,
        debounce: None,
        priority: -2,
        delivery: Delivery::AtLeastOnce,
        user: Some("deploy".into()),
        runner: Some(RunnerChoice::Named("slurm".into())),
        notifications: None,
        schedules: Vec::new(),
        keep_runs: None,
        webhook: WebhookSettings::default(),
        notify: vec![
            Notify {
                on: vec![Status::Errored, Status::Terminated],
                target: Target::Command(vec!["/bin/tell".into(), "me".into()]),
            },
            Notify {
                on: vec![Status::Success],
                target: Target::Url {
                    url: "https://example.com/".into(),
                    secret: Some(SecretName::try_from("signing".to_owned()).unwrap()),
                    format: Format::Json,
                },
            },
        ],
    };
    let (id, project_id) = (FleetId::random(), ProjectId::random());
    let version =
        FleetVersion { fleet_id: id, project_id, version: 2, created_at: at(0), definition };
    let view = FleetView {
        fleet: crate::model::fleet::Fleet {
            id,
            project_id,
            name: "deploy".into(),
            version: 2,
            created_at: at(0),
            updated_at: at(1),
            text: None,
        },
        project_name: "default".into(),
        current: std::sync::Arc::new(version),
        has_webhook: true,
    };
    let text = serde_json::to_string(&FleetJson::from(&view)).unwrap();
    assert!(text.contains(r#""environment":{"B":"1","A":"2"}"#), "order is kept: {text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["vessels"][0]["command"], json!(["make"]));
    assert_eq!(value["vessels"][1]["run"], "mail");
    assert_eq!(value["vessels"][1].get("command"), None);
    assert_eq!(value["vessels"][0]["guardrails"]["retry_wait_ms"], 10_000);
    assert_eq!(value["vessels"][0]["guardrails"]["exclude_exit_code_ranges"], json!(["2", "3-5"]));
    assert_eq!(
        value["connections"],
        json!([{"from": "build", "to": "notify", "condition": "ERRORED"}])
    );
    assert_eq!(value["webhook"], true);
    assert_eq!(value["delivery"], "at_least_once");
    assert_eq!((&value["overlap"], &value["priority"]), (&json!("skip"), &json!(-2)));
    assert_eq!(value["vessels"][0]["guardrails"]["retry_backoff"], "constant");
    assert_eq!(value["vessels"][0]["limits"], json!({"memory": 1 << 30}));
    assert_eq!(value["vessels"][0]["umask"], "027");
    assert_eq!((&value["runner"], &value["vessels"][0]["runner"]), (&json!("slurm"), &Value::Null));
    assert_eq!(value["user"], "deploy");
    let told = json!([
        {"on": ["Errored", "Terminated"], "command": ["/bin/tell", "me"]},
        {"on": ["Success"], "url": "https://example.com/", "secret": "signing"},
    ]);
    assert_eq!(value["notify"], told);
    assert_eq!(value.get("changed"), None);
    let applied = serde_json::to_value(FleetJson::from(&view).with_changed(false)).unwrap();
    assert_eq!(applied["changed"], false);
}

#[test]
fn a_webhook_shows_its_urls() {
    let (token, previous) = (Token::random().unwrap(), Token::random().unwrap());
    let webhook = Webhook {
        fleet_id: FleetId::random(),
        token: token.clone(),
        created_at: at(0),
        last_used_at: None,
        previous: Some(PreviousToken { token: previous.clone(), valid_until: at(60_000) }),
        paused_at: None,
        handshake_until: None,
    };
    let definition = FleetDefinition {
        webhook: serde_json::from_str(r#"{"allow": ["10.0.0.0/8"], "rate_limit": "9/s"}"#).unwrap(),
        ..FleetDefinition::default()
    };
    let current = Arc::new(FleetVersion {
        fleet_id: webhook.fleet_id,
        project_id: ProjectId::random(),
        version: 1,
        created_at: at(0),
        definition,
    });
    let view = WebhookView { webhook, current };
    let shown = |principal: Principal| {
        serde_json::to_value(WebhookJson::new(&view, "https://example.com/", &principal)).unwrap()
    };
    for (role, is_seen) in [(Role::Reader, false), (Role::Operator, false), (Role::Author, true)] {
        let value = shown(Principal { role, ..Principal::OWNER });
        assert!(value["url"].is_string() == is_seen, "{role}");
        assert!(value["previous"]["url"].is_string() == is_seen, "{role}");
        assert!(value["previous"]["valid_until"].is_string() && value["allow"].is_array());
    }
    let value = shown(Principal::OWNER);
    // Compared as a whole so that a failure prints no token.
    assert!(value["url"] == format!("https://example.com/hooks/{}", token.reveal()));
    assert!(value["previous"]["url"] == format!("https://example.com/hooks/{}", previous.reveal()));
    assert_eq!(value["last_used_at"], Value::Null);
    assert_eq!(value["allow"], json!(["10.0.0.0/8"]));
    assert_eq!(value["rate_limit"], "9/s");
}
