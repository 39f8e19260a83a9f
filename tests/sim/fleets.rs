//! Random fleets, written as fleet files.

use std::fmt::Write;

use boathook::internals::{FleetDefinition, FleetFile, FleetId, parse_yaml};
use fastrand::Rng;

use crate::life::{RULES, SCHEDULES};

/// A fleet of a random shape, called `name`.
pub fn random_file(random: &mut Rng, id: FleetId, name: &str) -> FleetFile {
    let text = random_text(random, name);
    let mut file = parse_yaml(&text).unwrap_or_else(|error| panic!("{error} in\n{text}"));
    file.id = Some(id);
    file
}

pub fn random_id(random: &mut Rng) -> FleetId {
    let bytes = random.u128(..).to_be_bytes();
    FleetId::from_slice(&bytes).unwrap_or_else(|| unreachable!("16 bytes are an id"))
}

/// What the graph of `definition` looks like, in a line.
pub fn describe(definition: &FleetDefinition) -> String {
    let paths = definition.paths.iter();
    let paths: Vec<String> =
        paths.map(|it| format!("{}-{:?}->{}", it.from, it.condition, it.to)).collect();
    let retries = definition.vessels.iter().map(|it| it.guardrails.retry_count);
    format!(
        "{} vessels, paths {paths:?}, retries {:?}, concurrency {:?} {:?} by {:?}, debounce {:?}, {:?}, schedules {:?}",
        definition.vessels.len(),
        retries.collect::<Vec<_>>(),
        definition.concurrency,
        definition.overlap,
        definition.concurrency_key,
        definition.debounce,
        definition.delivery,
        definition.schedules.iter().map(|it| (it.cron.text(), it.catch_up)).collect::<Vec<_>>(),
    )
}

fn random_text(random: &mut Rng, name: &str) -> String {
    let vessels = random.usize(1..=5);
    let at_most_once = random.u8(..5) == 0;
    let mut text = format!("name: {name}\nvessels:\n");
    for vessel in 0..vessels {
        let _ = writeln!(text, "  v{vessel}:\n    command: ['true']");
        if random.u8(..3) == 0 {
            let _ = writeln!(text, "    runner: {{cleanup: [scancel]}}");
        }
        let retries = if at_most_once { 0 } else { [0, 0, 1, 2, 3][random.usize(..5)] };
        let wait = ["0s", "0s", "500ms", "7s", "1m0s"][random.usize(..5)];
        let is_growing = wait != "0s" && random.bool();
        let backoff = if is_growing { "exponential" } else { "constant" };
        let cutoff = ["0s", "9s"][random.usize(..2)];
        let excluded = ["[]", "[3]", "[2, '4-6']"][random.usize(..3)];
        let _ = writeln!(
            text,
            "    guardrails: {{retry_count: {retries}, retry_wait: {wait}, retry_backoff: {backoff}, runtime_cutoff: {cutoff}, exclude_exit_code_ranges: {excluded}}}"
        );
    }
    let density = random.u8(1..=4);
    let mut connections = String::new();
    for from in 0..vessels {
        let below: Vec<String> = (from + 1..vessels)
            .filter(|_| random.u8(..5) < density)
            .collect::<Vec<_>>()
            .into_iter()
            .map(|to| {
                let condition = ["SUCCESS", "SUCCESS", "ERRORED", "COMPLETED"][random.usize(..4)];
                format!("v{to}: {condition}")
            })
            .collect();
        if !below.is_empty() {
            let _ = writeln!(connections, "  v{from}: {{{}}}", below.join(", "));
        }
    }
    if !connections.is_empty() {
        let _ = write!(text, "connections:\n{connections}");
    }
    if random.bool() {
        let _ = writeln!(text, "concurrency: {}", random.u8(1..=3));
        let overlap = ["queue", "queue", "skip", "replace", "cancel"][random.usize(..5)];
        let _ = writeln!(text, "overlap: {overlap}");
        if random.bool() {
            text.push_str("concurrency_key: query.k\n");
        }
    }
    if random.u8(..4) == 0 {
        let (wait, max_wait) = [("500ms", "2s"), ("7s", "7s"), ("1m", "90s")][random.usize(..3)];
        let _ = writeln!(text, "debounce: {{wait: {wait}, max_wait: {max_wait}}}");
    }
    if random.bool() {
        let _ = writeln!(text, "priority: {}", random.i8(-2..=2));
    }
    if random.u8(..4) == 0 {
        let _ = writeln!(text, "keep_runs: {}", RULES[random.usize(..RULES.len())]);
    }
    if random.u8(..3) == 0 {
        let (cron, _) = SCHEDULES[random.usize(..SCHEDULES.len())];
        let catch_up = ["latest", "all", "none"][random.usize(..3)];
        let _ = writeln!(text, "schedules: [{{cron: '{cron}', catch_up: {catch_up}}}]");
    }
    if at_most_once {
        text.push_str("delivery: at_most_once\n");
    }
    text
}
