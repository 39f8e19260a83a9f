//! A written fleet reads back as the same fleet, with any names, scripts and values.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

use super::keys::PRIORITY_MAX;
use super::*;
use crate::model::computed::{self as command, ComputedValue};
use crate::model::confinement::{Confinement, Limits};
use crate::model::debounce::{self, Debounce};
use crate::model::expression::Expression;
use crate::model::fleet::{FleetDefinition, VesselDefinition};
use crate::model::guardrails::{Backoff, Guardrails};
use crate::model::ids::VesselId;
use crate::model::name::checked_name;
use crate::model::network::Networks;
use crate::model::notification::{EmailNotifications, Format, Notify, Target};
use crate::model::overlap::Overlap;
use crate::model::package::Package;
use crate::model::respond::{FixedAnswer, Respond, Wait, is_without_body};
use crate::model::retention::{KEEP_COUNT_MAX, Retention};
use crate::model::run::Status;
use crate::model::runner::{Runner, RunnerChoice};
use crate::model::schedule::{CatchUp, CronExpression, Hosted, HowOften, Schedule};
use crate::model::sender::Verification;
use crate::model::source::{Argument, CloneLocation, Code, GitSource, Language, Origin};
use crate::model::variable::{FixedValue, SecretName, VariableValue};
use crate::model::webhook::{DEDUPLICATE_WINDOW_MAX, Deduplicate, Mode};

/// Texts that YAML gives another meaning, or that a careless writer damages.
const TRAPS: &[&str] = &[
    "yes",
    "No",
    "null",
    "~",
    "true",
    "3.10",
    "0x10",
    "1e3",
    "1_000",
    "12:30:45",
    "2022-01-01",
    ".inf",
    "- x",
    "x -",
    "-",
    "--",
    "---",
    "...",
    "a: b",
    "a:",
    ":a",
    "a #b",
    "#a",
    "*a",
    "&a",
    "!a",
    "|",
    ">",
    "%a",
    "@a",
    "`a`",
    "'",
    "\"",
    "''",
    "[a]",
    "{a}",
    "a,b",
    "a, b",
    "?",
    "? a",
    "<<",
    "=",
    "\\",
    "\\n",
    " a",
    "a ",
    "a\t",
    "\ta",
    "a\r",
    "a\r\nb",
    "\r",
    "\n",
    "\n\n",
    "a\n",
    "a\n\n",
    "\na",
    " a\nb",
    "a\n b",
    "a\n\n\nb\n",
    "a \nb",
    "a\n \nb",
    "a\n\tb",
    "a\n  ",
    "# a\nb",
    "---\na",
    "a\n---\nb\n...\n",
    "\u{85}",
    "a\u{2028}b\nc",
    "\u{feff}a",
    "a\nb\u{feff}",
    "\u{fffe}",
    "\u{1b}[31m",
    "\u{7f}",
    "ü\n✓ 👩‍🚀\n",
    "if x; then\n  y: z\nfi\n",
    "\u{a0}",
    "a\u{3000}",
    "\u{3000}\n\u{3000}",
    "٣",
    "a\n\u{2003}\nb",
];

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => select(TRAPS).prop_map(str::to_owned),
        2 => "[ -~\n\t\r]{0,30}",
        2 => any::<String>().prop_map(|text| text.replace('\0', "")),
        1 => "([a-z:#-]{0,4}[ \t]{0,2}\n){0,6}",
    ];
    vec(piece, 1..4).prop_map(|pieces| pieces.concat())
}

fn name() -> impl Strategy<Value = String> {
    let traps = TRAPS.iter().copied().filter(|name| checked_name(name).is_ok()).collect::<Vec<_>>();
    prop_oneof![
        "[a-z][a-z0-9-]{0,10}",
        select(traps).prop_map(str::to_owned),
        any::<String>().prop_filter_map("not a name", |name| checked_name(&name).ok()),
    ]
}

fn argument() -> impl Strategy<Value = command::Argument> {
    prop_oneof![
        4 => text().prop_map(command::Argument::Literal),
        1 => (computed(), any::<bool>()).prop_map(|(value, allow_dash)| {
            command::Argument::Computed(ComputedValue { allow_dash, ..value })
        }),
    ]
}

fn computed() -> impl Strategy<Value = ComputedValue> {
    let texts = select(&["body.ref", "'a: #\"' + text", "{'a': [1, 2]}.a", "body['x y']\n"][..]);
    (texts, proptest::option::of(text())).prop_map(|(expr, default)| ComputedValue {
        expr: Expression::parse(expr).unwrap(),
        default,
        allow_dash: false,
    })
}

fn program() -> impl Strategy<Value = Program> {
    prop_oneof![
        (text().prop_filter("no program", |name| !name.is_empty()), vec(argument(), 0..4))
            .prop_map(|(name, arguments)| {
                let name = command::Argument::Literal(name);
                Program::Command(std::iter::once(name).chain(arguments).collect())
            }),
        text()
            .prop_filter("empty script", |script| !script.trim().is_empty())
            .prop_map(Program::Script),
        code().prop_map(|code| Program::Code(Box::new(code))),
    ]
}

fn code() -> impl Strategy<Value = Code> {
    let language = prop_oneof![
        Just((Language::Bash, None)),
        Just((Language::Node, None)),
        option::of("[0-9]{1,2}(\\.[0-9]{1,2})?").prop_map(|version| (Language::Python, version)),
    ];
    let file = ("[A-Za-z0-9_. ][A-Za-z0-9_.: #-]{1,8}", text())
        .prop_filter("not a name", |(name, _)| name != "..")
        .prop_map(|(name, content)| Origin::File { name, content });
    let repository = prop_oneof![
        "[a-z0-9][a-z0-9_.-]{0,5}/[a-z0-9][a-z0-9_.-]{0,5}x",
        "(https://h|ssh://h|file://)/[a-z0-9#&*!%]{1,5}",
    ];
    let location = select(vec![CloneLocation::RepoName, CloneLocation::Cwd]);
    let git = (repository, option::of("[a-z0-9#%&!'{}]{1,6}(/[a-z0-9]{1,4})?"), location).prop_map(
        |(repository, checkout_point, clone_location)| {
            Origin::Git(GitSource { repository, checkout_point, clone_location })
        },
    );
    // A zip archive without a file.
    let empty = *b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let archive = "[a-z0-9_.]{1,8}\\.zip"
        .prop_map(move |name| Origin::Archive { name, archive: empty.to_vec().into() });
    let argument = (option::of(text()), option::of(text()))
        .prop_filter("no argument", |(key, value)| key.is_some() || value.is_some())
        .prop_map(|(key, value)| Argument { key, value });
    let number = option::of("[0-9]{1,2}(\\.[0-9]{1,2})?");
    let package = ("[a-z0-9]{1,6}", number).prop_map(|(name, version)| Package { name, version });
    let file_to_run = "[a-z0-9_]{1,5}(/[a-z0-9 :#]{1,6})?";
    let packages = (vec(package, 0..3), vec("[a-z0-9][a-z0-9+.-]{1,5}", 0..3));
    (language, prop_oneof![file, git, archive], file_to_run, vec(argument, 0..4), packages)
        .prop_map(
            |((language, version), origin, file_to_run, arguments, (packages, system_packages))| {
                let packages = if language == Language::Bash { Vec::new() } else { packages };
                Code {
                    language,
                    version,
                    origin,
                    file_to_run,
                    arguments,
                    packages,
                    system_packages,
                }
            },
        )
}

fn value() -> impl Strategy<Value = VariableValue> {
    let name =
        "[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}".prop_map(|name| SecretName::try_from(name).unwrap());
    prop_oneof![
        4 => text().prop_map(|text| text.as_str().into()),
        1 => name.prop_map(VariableValue::from),
        1 => computed().prop_map(VariableValue::Computed),
    ]
}

fn guardrails() -> impl Strategy<Value = Guardrails> {
    let codes =
        (any::<u8>(), any::<u8>()).prop_map(|(a, b)| ExitCodes { first: a.min(b), last: a.max(b) });
    let millis = |max: u64| prop_oneof![Just(0), 0..=max].prop_map(Duration::from_millis);
    let retries = (0..=24_u32, millis(3_600_000), any::<bool>());
    let codes = (vec(codes, 0..4), any::<bool>());
    (retries, millis(400_000_000), codes).prop_map(
        |((retry_count, retry_wait, doubles), runtime_cutoff, (codes, are_excluded))| {
            let (exclude_exit_code_ranges, retry_on_exit_codes) =
                if are_excluded { (codes, Vec::new()) } else { (Vec::new(), codes) };
            Guardrails {
                retry_count,
                retry_wait,
                retry_backoff: if doubles && !retry_wait.is_zero() {
                    Backoff::Exponential
                } else {
                    Backoff::Constant
                },
                runtime_cutoff,
                exclude_exit_code_ranges,
                retry_on_exit_codes,
            }
        },
    )
}

fn notifications() -> impl Strategy<Value = Option<EmailNotifications>> {
    let emails = btree_set("[a-z0-9'#&*%!+-]{1,6}@[a-z]{1,5}", 0..3);
    let emails = emails.prop_map(|emails| emails.into_iter().collect());
    option::of((emails, any::<bool>(), any::<bool>()).prop_map(
        |(emails, after_error, after_on_demand)| EmailNotifications {
            emails,
            after_error,
            after_on_demand,
        },
    ))
}

fn notify() -> impl Strategy<Value = Vec<Notify>> {
    let ends = [Status::Success, Status::Errored, Status::Terminated, Status::Incomplete];
    let command = vec(text(), 0..3).prop_map(|mut arguments| {
        arguments.insert(0, "/bin/tell me".to_owned());
        Target::Command(arguments)
    });
    let secret = || "[a-z][a-z0-9_.-]{0,9}".prop_map(|name| SecretName::try_from(name).unwrap());
    let url = prop_oneof![
        "https?://[a-z]{1,9}(:[1-9][0-9]{0,3})?/([a-z?&=]|%[0-9a-f]{2}){0,9}"
            .prop_map(FixedValue::Literal),
        secret().prop_map(|secret| FixedValue::Secret { secret }),
    ];
    let signing = (option::of(secret()), select(Format::ALL.to_vec()));
    let url = (url, signing, secret()).prop_map(|(url, (secret, format), own)| {
        // Our own JSON is signed.
        let secret = secret.or((format == Format::Json).then_some(own));
        Target::Url { url, secret, format }
    });
    let entry = (vec(select(ends.to_vec()), 1..4), prop_oneof![command, url]);
    vec(entry.prop_map(|(on, target)| Notify { on, target }), 0..3)
}

fn confinement() -> impl Strategy<Value = Confinement> {
    let limits = (
        option::of(1_u64 << 20..1 << 40),
        option::of(1_u64..1_000_000),
        option::of(8_u64..1 << 30),
        option::of(1_u64..1 << 30),
        option::of(0_u64..1 << 40),
    );
    let limits = limits.prop_map(|(memory, cpu_time, open_files, processes, file_size)| Limits {
        memory,
        cpu_time,
        open_files,
        processes,
        file_size,
    });
    (limits, option::of(-20..20), option::of(0..0o1000_u32))
        .prop_map(|(limits, nice, umask)| Confinement { limits, nice, umask })
}

fn runner() -> impl Strategy<Value = Option<RunnerChoice>> {
    let words = || {
        vec(text(), 0..3).prop_map(|mut words| {
            words.insert(0, "srun".to_owned());
            words
        })
    };
    let timeout = prop_oneof![Just(60_000_u64), 1..=3_600_000_u64].prop_map(Duration::from_millis);
    let cleaned = (prop_oneof![Just(Vec::new()), words()], words(), timeout);
    let own = prop_oneof![
        words().prop_map(|command| Runner { command, ..Runner::default() }),
        cleaned.prop_map(|(command, cleanup, cleanup_timeout)| Runner {
            command,
            cleanup,
            cleanup_timeout
        }),
    ];
    let named = "[a-zA-Z0-9_-]{1,9}".prop_filter("a word of its own", |name| name != "none");
    option::of(prop_oneof![
        Just(RunnerChoice::None),
        named.prop_map(RunnerChoice::Named),
        own.prop_map(RunnerChoice::Own),
    ])
}

fn vessel() -> impl Strategy<Value = VesselDefinition> {
    let directory = option::of(text().prop_map(|text| format!("/{text}")));
    let environment = btree_map("[A-Za-z_][A-Za-z0-9_]{0,8}", value(), 0..4);
    let engine = (guardrails(), confinement(), runner());
    (program(), directory, environment, engine, notifications()).prop_map(
        |(program, working_directory, environment, engine, notifications)| {
            let (guardrails, confinement, runner) = engine;
            VesselDefinition {
                id: VesselId::random(),
                name: String::new(),
                program,
                working_directory,
                environment: environment.into_iter().collect(),
                guardrails,
                confinement,
                runner,
                notifications,
            }
        },
    )
}

/// Paths lead from a vessel to a later one, so there is no cycle.
fn paths(vessels: usize, edges: Vec<(Index, Index, Condition)>) -> Vec<Path> {
    let mut paths: Vec<Path> = Vec::new();
    for (from, to, condition) in edges {
        let (from, to) = (from.index(vessels) as u16, to.index(vessels) as u16);
        let (from, to) = (from.min(to), from.max(to));
        if from != to && !paths.iter().any(|path| (path.from, path.to) == (from, to)) {
            paths.push(Path { from, to, condition });
        }
    }
    // A file groups them by where they start.
    paths.sort_by_key(|path| std::cmp::Reverse(path.from));
    paths
}

/// No two vessels put their code in the same place: any two may run at the same time.
fn keep_apart(vessels: &mut [VesselDefinition]) {
    let mut fills_directory = false;
    for (index, vessel) in vessels.iter_mut().enumerate() {
        let Program::Code(code) = &mut vessel.program else { continue };
        if code.language == Language::Node {
            code.packages.clear();
        }
        match &mut code.origin {
            Origin::File { name, .. } => *name = format!("{index}.{name}"),
            Origin::Archive { .. } | Origin::Git(_)
                if !std::mem::replace(&mut fills_directory, true) => {}
            Origin::Archive { .. } | Origin::Git(_) => {
                vessel.program = Program::Script("x".to_owned());
            }
        }
    }
}

fn keep_runs() -> impl Strategy<Value = Retention> {
    let seconds = option::of(1..=3_153_600_000_u64);
    (seconds, option::of(1..=KEEP_COUNT_MAX)).prop_map(|(seconds, count)| {
        Retention::new(seconds.map(Duration::from_secs), count).expect("within bounds")
    })
}

fn verify() -> impl Strategy<Value = Verification> {
    let checks = [
        r#"{"preset": "github", "secret": "A"}"#,
        r#"{"preset": "mailchimp"}"#,
        r#"{"preset": "meta", "secret": ["A", "1.5"], "verify_token": "yes"}"#,
        r#"{"preset": "grafana", "secret": "A", "header": "X-A", "timestamp_header": "X-B",
            "tolerance": "90s"}"#,
        r#"{"preset": "query", "secret": "null", "name": "a: #b"}"#,
        r#"{"header": "X-Sig", "prefix": "v0: ", "signed": "{id}:{ts}.{body}", "algorithm": "sha512",
            "encoding": "base64", "key": "hex", "secret": "A", "event_id": {"header": "X-Id"},
            "timestamp": {"header": "X-T", "unit": "ms", "tolerance": "1m30s"},
            "event_type": {"body": "a.b"}}"#,
    ];
    let check = select(checks.map(|text| serde_json::from_str::<Value>(text).unwrap()).to_vec());
    vec(check, 1..4).prop_map(|checks| serde_json::from_value(checks.into()).expect("checks"))
}

fn when() -> impl Strategy<Value = Expression> {
    let texts =
        ["body.ref == 'refs/heads/main'", "true", "headers[\"x-a\"] == \"b: # c\"", "1 < 2"];
    select(texts.map(|text| Expression::parse(text).unwrap()).to_vec())
}

fn respond() -> impl Strategy<Value = Respond> {
    let texts = ["", "thanks", "{\"a\": \"b: # c\"}\n\u{7}", "null", "5"];
    let fixed = (200..=599_u16, select(texts.to_vec())).prop_map(|(status, body)| {
        let body = if is_without_body(status) { "" } else { body };
        let content_type = "application/json; charset=\"utf-8\"".to_owned();
        Respond::Fixed(FixedAnswer { status, content_type, body: body.to_owned() })
    });
    let waits = (1..=300_000_u64).prop_map(|millis| {
        Respond::Wait(Wait { wait: Duration::from_millis(millis), vessel: None })
    });
    prop_oneof![fixed, waits]
}

fn webhook() -> impl Strategy<Value = WebhookSettings> {
    let window = (1..=2_592_000_000_u64).prop_map(|millis| {
        let window = Duration::from_millis(millis);
        assert!(window <= DEDUPLICATE_WINDOW_MAX);
        Deduplicate::Window(window)
    });
    let own = (computed(), 1..=2_592_000_000_u64).prop_map(|(value, millis)| Deduplicate::Own {
        id: value.expr,
        window: Duration::from_millis(millis),
    });
    let deduplicate = prop_oneof![Just(Deduplicate::Usual), Just(Deduplicate::Off), window, own];
    let network = prop_oneof![
        any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).to_string()),
        any::<u8>().prop_map(|first| format!("{first}.0.0.0/8")),
        any::<u128>().prop_map(|bits| Ipv6Addr::from(bits).to_string()),
    ];
    let allow = vec(network, 0..4)
        .prop_map(|texts| Networks::parse(texts.iter().map(String::as_str)).expect("networks"));
    let rate = (1..=1_000_000_u32, select(vec!["s", "m"]), option::of(1..=1000_u32)).prop_map(
        |(count, period, burst)| {
            let burst = burst.map(|burst| format!(" burst {burst}")).unwrap_or_default();
            format!("{count}/{period}{burst}").parse().expect("a rate")
        },
    );
    let mode = select(vec![Mode::Enforce, Mode::Observe]);
    let answers = (option::of(when()), option::of(respond()));
    (option::of(verify()), mode, deduplicate, answers, allow, option::of(rate)).prop_map(
        |(verify, mode, deduplicate, (when, respond), allow, rate_limit)| WebhookSettings {
            verify,
            mode,
            deduplicate,
            when,
            respond,
            keep_path: !allow.is_empty() && rate_limit.is_some(),
            allow,
            rate_limit,
        },
    )
}

/// Schedules of our own form, then those of the hosted system: as a file has them.
fn schedules() -> impl Strategy<Value = Vec<Schedule>> {
    let crons =
        ["*/5 * * * *", "30 2 * * MON-FRI", "0 0 L * *", "@daily", "0 9 * * 5#1", " 1  2 * * *"];
    let zones = ["Europe/Berlin", "UTC", "Australia/Lord_Howe"];
    let own = (
        select(crons.map(str::to_owned).to_vec()),
        option::of(select(zones.map(str::to_owned).to_vec())),
        select(vec![CatchUp::Latest, CatchUp::All, CatchUp::None]),
    );
    let own = own.prop_map(|(cron, time_zone, catch_up)| Schedule {
        cron: CronExpression::try_from(cron).expect("an expression"),
        time_zone,
        catch_up,
        hosted: None,
    });
    let hosted = [
        (HowOften::Hourly, ":25", None),
        (HowOften::Daily, "2:00", None),
        (HowOften::Weekly, "03:30", Some("WEDNESDAY")),
        (HowOften::Monthly, "23:59", Some("31")),
    ];
    let hosted = select(hosted.to_vec()).prop_map(|(how_often, at, when)| {
        let hosted = Hosted { how_often, at: at.to_owned(), when: when.map(str::to_owned) };
        let cron = hosted.cron().expect("an expression");
        Schedule { cron, hosted: Some(hosted), ..Schedule::default() }
    });
    (vec(own, 0..3), vec(hosted, 0..3)).prop_map(|(own, hosted)| [own, hosted].concat())
}

/// Values of `concurrency_key` and `debounce`.
fn keys() -> impl Strategy<Value = (Option<Expression>, Option<Debounce>)> {
    let millis = |max: Duration| 1..=max.as_millis() as u64;
    let debounce = (millis(debounce::WAIT_MAX), millis(debounce::MAX_WAIT_MAX)).prop_map(
        |(wait, max_wait)| Debounce {
            wait: Duration::from_millis(wait),
            max_wait: Duration::from_millis(max_wait.max(wait)),
        },
    );
    (option::of(computed().prop_map(|value| value.expr)), option::of(debounce))
}

fn definition() -> impl Strategy<Value = FleetDefinition> {
    let condition = select(vec![Condition::Success, Condition::Errored, Condition::Completed]);
    (
        name(),
        btree_map(name(), vessel(), 1..5),
        vec((any::<Index>(), any::<Index>(), condition), 0..6),
        (option::of(1..=u32::MAX), keys(), select(&Overlap::ALL[..]), -PRIORITY_MAX..=PRIORITY_MAX),
        any::<bool>(),
        option::of("[a-z_][a-z0-9_-]{0,8}"),
        notifications(),
        notify(),
        (option::of(keep_runs()), webhook(), schedules(), runner()),
    )
        .prop_map(
            |(
                name,
                vessels,
                edges,
                turns,
                at_most_once,
                user,
                notifications,
                notify,
                (keep_runs, webhook, schedules, runner),
            )| {
                let (concurrency, (concurrency_key, debounce), overlap, priority) = turns;
                let concurrency_key = concurrency_key.filter(|_| concurrency.is_some());
                let mut vessels: Vec<_> = vessels
                    .into_iter()
                    .map(|(name, vessel)| VesselDefinition { name, ..vessel })
                    .collect();
                keep_apart(&mut vessels);
                if at_most_once {
                    vessels.iter_mut().for_each(|vessel| vessel.guardrails.retry_count = 0);
                }
                let delivery =
                    if at_most_once { Delivery::AtMostOnce } else { Delivery::AtLeastOnce };
                let paths = paths(vessels.len(), edges);
                let overlap = if concurrency.is_some() { overlap } else { Overlap::Queue };
                FleetDefinition {
                    name,
                    vessels,
                    paths,
                    concurrency,
                    concurrency_key,
                    overlap,
                    debounce,
                    priority,
                    delivery,
                    user,
                    runner,
                    notifications,
                    notify,
                    schedules,
                    keep_runs,
                    webhook,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_written_fleet_reads_back(definition in definition(), project in name()) {
        let id = FleetId::random();
        let yaml = to_yaml(&definition, &project, Some(id));
        let file = parse_yaml(&yaml).map_err(|error| TestCaseError::fail(format!("{error}\n{yaml}")))?;
        let positions = file.positions;
        prop_assert_eq!(positions.user.is_some(), definition.user.is_some());
        let project_read = Some(project.clone());
        let has_webhook_settings = definition.webhook != WebhookSettings::default();
        let expected = FleetFile {
            project: project_read,
            has_webhook_settings,
            positions,
            text: Some(yaml.clone()),
            ..FleetFile::of(id, definition)
        };
        prop_assert_eq!(&file, &expected, "{}", yaml);

        let json = to_json(&expected.definition, &project, Some(id)).unwrap();
        let file = parse_json(&json).map_err(|error| TestCaseError::fail(format!("{error}\n{json}")))?;
        let positions = file.positions;
        let expected = FleetFile { positions, text: None, ..expected };
        prop_assert_eq!(&file, &expected, "{}", json);

        let mut copy = parse_yaml(&to_yaml(&expected.definition, &project, None)).unwrap();
        prop_assert_eq!(copy.id, None);
        copy.definition.keep_vessel_ids(&expected.definition);
        prop_assert_eq!(&copy.definition, &expected.definition);
    }

    #[test]
    fn a_text_follows_a_change_of_name_project_and_webhook(
        definition in definition(),
        other in definition(),
        projects in (name(), name()),
    ) {
        let text = format!("# A comment.\n{}", to_yaml(&definition, &projects.0, None));
        let mut changed = definition;
        (changed.name, changed.webhook) = (other.name, other.webhook);
        let adapted = adapted(&text, &changed, &projects.1, true);
        prop_assert!(adapted.is_some(), "{}", text);
        let adapted = adapted.unwrap();
        prop_assert!(adapted.starts_with("# A comment.\n"), "{}", adapted);
        let mut file = parse_yaml(&adapted).map_err(|error| TestCaseError::fail(format!("{error}\n{adapted}")))?;
        file.definition.keep_vessel_ids(&changed);
        prop_assert_eq!((file.project, file.definition), (Some(projects.1), changed));
    }

    #[test]
    fn any_text_gives_a_fleet_or_an_error(text in text(), tail in any::<String>()) {
        let text = format!("{text}{tail}");
        let _ = parse_yaml(&text);
        let _ = parse_json(&text);
        let _ = parse_json(&format!("{{{text}"));
    }
}

#[test]
fn every_trap_reads_back_in_every_place() {
    for trap in TRAPS {
        let vessel = |name: &str, program| VesselDefinition {
            id: VesselId::random(),
            name: name.to_owned(),
            program,
            working_directory: Some(format!("/{trap}")),
            environment: vec![("A".to_owned(), (*trap).into())],
            guardrails: Guardrails::default(),
            confinement: Confinement::default(),
            runner: Some(RunnerChoice::Own(Runner {
                command: vec!["x".to_owned(), (*trap).to_owned()],
                ..Runner::default()
            })),
            notifications: None,
        };
        let mut vessels = vec![vessel("v", Program::command(["x", *trap]))];
        vessels.push(vessel(
            "c",
            Program::Code(Box::new(Code {
                language: Language::Bash,
                version: None,
                origin: Origin::File { name: "c.sh".to_owned(), content: (*trap).to_owned() },
                file_to_run: "c.sh".to_owned(),
                arguments: vec![Argument { key: Some((*trap).to_owned()), value: None }],
                packages: Vec::new(),
                system_packages: Vec::new(),
            })),
        ));
        if !trap.trim().is_empty() {
            vessels.push(vessel("s", Program::Script((*trap).to_owned())));
        }
        let definition = FleetDefinition {
            name: "n".to_owned(),
            vessels,
            paths: Vec::new(),
            concurrency: None,
            concurrency_key: None,
            overlap: Overlap::Queue,
            debounce: None,
            priority: 0,
            delivery: Delivery::default(),
            user: None,
            runner: None,
            notifications: None,
            schedules: Vec::new(),
            keep_runs: None,
            notify: Vec::new(),
            webhook: WebhookSettings::default(),
        };
        let yaml = to_yaml(&definition, "default", Some(FleetId::random()));
        let read = parse_yaml(&yaml).unwrap_or_else(|error| panic!("{trap:?}: {error}\n{yaml}"));
        assert_eq!(read.definition, definition, "{yaml}");
    }
}

#[test]
fn the_short_form_is_what_is_written() {
    let yaml = "\
name: deploy-site
project: default
vessels:
  build:
    command: [./build.sh, --prod, \"3.10\", \"yes\"]
    working_directory: /srv/site
    environment:
      TARGET: prod
      EMPTY: \"\"
    guardrails:
      retry_count: 2
      retry_wait: 10s
      retry_backoff: exponential
      runtime_cutoff: 15m
      exclude_exit_code_ranges: [2, \"3-5\"]
  tell everyone:
    run: |
      set -e

      echo \"failed: $1\" # loudly
connections:
  build:
    tell everyone: ERRORED
concurrency: 1
overlap: replace
priority: -3
delivery: at_most_once
keep_runs: 30d, 1000 runs
webhook:
  mode: observe
  deduplicate: {window: 12h}
  allow: [192.0.2.0/24, 2001:db8::/32]
  rate_limit: 60/m burst 10
schedules:
  - {cron: \"*/5 * * * *\"}
  - {cron: \"30 2 * * MON-FRI\", time_zone: Europe/Berlin, catch_up: all}
triggers:
  schedules:
    - {how_often: HOURLY, at: \":25\"}
    - {how_often: MONTHLY, at: \"2:00\", when: \"31\"}
";
    let yaml = yaml.replace("      retry_count: 2\n", "");
    assert_eq!(to_yaml(&parse_yaml(&yaml).unwrap().definition, "default", None), yaml);
}

/// The hosted system writes lists, people single values.
#[test]
fn exit_codes_that_are_never_retried_may_be_one_or_none() {
    for (written, expected) in [
        ("2", vec![ExitCodes { first: 2, last: 2 }]),
        ("\"3-5\"", vec![ExitCodes { first: 3, last: 5 }]),
        ("3-5", vec![ExitCodes { first: 3, last: 5 }]),
        ("null", vec![]),
        ("", vec![]),
        ("[]", vec![]),
    ] {
        let yaml = format!(
            "name: f\nvessels:\n  v:\n    run: x\n    guardrails:\n      \
             exclude_exit_code_ranges: {written}\n"
        );
        let read = parse_yaml(&yaml).unwrap_or_else(|error| panic!("{written}: {error}"));
        let guardrails = &read.definition.vessels[0].guardrails;
        assert_eq!(guardrails.exclude_exit_code_ranges, expected, "{written}");
    }
}
