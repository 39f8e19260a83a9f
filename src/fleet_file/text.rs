//! Texts of fleet files as their authors wrote them, comments included. An edit from elsewhere (a webhook
//! setting, a schedule, a renamed project, a file in JSON) replaces the entries that it touches and leaves
//! the rest as it is.

use super::node::{Key, Kind};
use super::write::{sections, text_entry};
use super::{FleetFile, parse_yaml, yaml};
use crate::model::fleet::{DEFAULT_PROJECT, FleetDefinition};

/// `text` with the top-level entries changed that say otherwise than `definition` and `project`. Without
/// the key `webhook` a file leaves the settings alone; `with_webhook` adds the key. `None` when the result
/// would not describe `definition`.
pub fn adapted(
    text: &str,
    definition: &FleetDefinition,
    project: &str,
    with_webhook: bool,
) -> Option<String> {
    let file = parse_yaml(text).ok()?;
    let mut text = file.text.clone()?;
    let mut is_changed = false;
    let mut set = |key: &str, entry: &str| -> Option<()> {
        text = with_entry(&text, key, entry)?;
        is_changed = true;
        Some(())
    };
    let sections = |definition: &FleetDefinition| sections(definition, false).into_iter();
    for ((key, old), (_, new)) in sections(&file.definition).zip(sections(definition)) {
        match (key, new.as_str()) {
            _ if old == new => {}
            ("webhook", _) if !file.has_webhook_settings && !with_webhook => {}
            // Without the key the settings would stay.
            ("webhook", "") => set(key, "webhook: {}\n")?,
            (_, new) => set(key, new)?,
        }
    }
    if file.project.as_deref().unwrap_or(DEFAULT_PROJECT) != project {
        set("project", &text_entry("project", project))?;
    }
    let file = if is_changed { parse_yaml(&text).ok()? } else { file };
    describes(file, definition).then_some(text)
}

fn describes(file: FleetFile, definition: &FleetDefinition) -> bool {
    let mut found = file.definition;
    found.keep_vessel_ids(definition);
    if !file.has_webhook_settings {
        found.webhook.clone_from(&definition.webhook);
    }
    found == *definition
}

/// `text` with `entry` in the place of its top-level `key`, or behind `name` or at the end where it has
/// none. `None` when the keys do not begin their lines.
fn with_entry(text: &str, key: &str, entry: &str) -> Option<String> {
    let Kind::Mapping(entries) = yaml::parse(text).ok()?.kind else { return None };
    let keys: Vec<&Key> = entries.iter().map(|(key, _)| key).collect();
    if keys.iter().any(|key| key.position.column != 1) {
        return None;
    }
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let place = |name: &str| -> Option<(usize, usize)> {
        let at = keys.iter().position(|key| key.text == name)?;
        let begin = keys[at].position.line.checked_sub(1)?;
        let next = keys.get(at + 1).map_or(lines.len(), |key| key.position.line - 1);
        // Comments in front of the next key belong to that key.
        let is_between = |line: &&&str| line.trim().is_empty() || line.starts_with('#');
        let between = lines.get(begin..next)?.iter().rev().take_while(is_between).count();
        Some((begin, next - between))
    };
    let (begin, end) = match (place(key), key) {
        (Some(place), _) => place,
        (None, "project") => place("name").map(|(_, end)| (end, end))?,
        (None, _) => (lines.len(), lines.len()),
    };
    let mut changed = lines.get(..begin)?.concat();
    if !changed.is_empty() && !changed.ends_with('\n') {
        changed.push('\n');
    }
    changed.push_str(entry);
    changed.push_str(&lines.get(end..)?.concat());
    Some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Sends the site.\nname: site   # ours\n\n# Who may start it.\nwebhook:\n  \
                        allow: [192.0.2.0/24]\n\n# What it does.\nvessels:\n  v: {run: x}  # short\n";

    fn change(
        text: &str,
        edit: impl FnOnce(&mut FleetDefinition),
        project: &str,
    ) -> Option<String> {
        let mut definition = parse_yaml(text).unwrap().definition;
        edit(&mut definition);
        adapted(text, &definition, project, true)
    }

    #[test]
    fn an_unchanged_fleet_keeps_its_text() {
        assert_eq!(change(TEXT, |_| (), "default").unwrap(), TEXT);
    }

    #[test]
    fn only_the_entries_that_differ_change() {
        let text = change(TEXT, |it| it.name = "page: 1".into(), "default").unwrap();
        assert_eq!(text, TEXT.replace("name: site   # ours", "name: \"page: 1\""));
        let text = change(TEXT, |_| (), "staging").unwrap();
        assert_eq!(text, TEXT.replace("# ours\n", "# ours\nproject: staging\n"));
        let text = change(TEXT, |it| it.webhook = Default::default(), "default").unwrap();
        assert_eq!(text, TEXT.replace("webhook:\n  allow: [192.0.2.0/24]", "webhook: {}"));
        let rate = Some("5/s".parse().unwrap());
        let text = change(TEXT, |it| it.webhook.rate_limit = rate, "default").unwrap();
        assert!(text.contains("[192.0.2.0/24]\n  rate_limit: 5/s\n\n# What it does.\n"), "{text}");
    }

    #[test]
    fn a_change_of_one_entry_keeps_the_comments_on_the_others() {
        let other = parse_yaml(
            "name: n\nvessels: {w: {run: y}}\npriority: 3\nschedules: [{cron: '0 6 * * *'}]\n",
        );
        let other = other.unwrap().definition;
        let whole = |it: &mut FleetDefinition| {
            (it.vessels, it.priority, it.schedules) =
                (other.vessels, other.priority, other.schedules);
        };
        let text = change(TEXT, whole, "default").unwrap();
        assert!(text.starts_with("# Sends the site.\nname: site   # ours\n"), "{text}");
        assert!(
            text.contains("# What it does.\nvessels:\n  w:\n    run: \"y\"\npriority: 3\n"),
            "{text}"
        );
        assert!(text.ends_with("schedules:\n  - {cron: \"0 6 * * *\"}\n"), "{text}");
        let back =
            change(&text, |it| (it.priority, it.schedules) = (0, Vec::new()), "default").unwrap();
        assert!(!back.contains("priority") && !back.contains("schedules"), "{back}");
    }

    #[test]
    fn a_missing_webhook_block_is_added_on_demand() {
        let without = "name: n\nvessels: {v: {run: x}}";
        let mut definition = parse_yaml(without).unwrap().definition;
        definition.webhook = parse_yaml(TEXT).unwrap().definition.webhook;
        assert_eq!(adapted(without, &definition, "default", false).unwrap(), without);
        let expected = format!("{without}\nwebhook:\n  allow: [192.0.2.0/24]\n");
        assert_eq!(adapted(without, &definition, "default", true).unwrap(), expected);
    }

    #[test]
    fn a_text_that_cannot_follow_is_given_up() {
        assert_eq!(adapted("name: [", &FleetDefinition::default(), "default", true), None);
        let flow = "{name: n, vessels: {v: {run: x}}}";
        assert_eq!(change(flow, |it| it.name = "m".into(), "default"), None);
        assert_eq!(change(flow, |_| (), "default").unwrap(), flow);
    }
}
