//! Names that were stored before today's rules for names, refused fleets, and the settings of webhooks.

use super::*;
use crate::fleet_file::parse_yaml;
use crate::model::client_address::Client;
use crate::model::ids::OrganizationId;
use crate::model::webhook::{Token, WebhookSettings};

/// A catalog with one project and fleets of these names in it, whatever the rules for names are.
fn catalog(project_name: &str, fleets: &[&str]) -> (Catalog, ProjectId, Vec<FleetId>) {
    let project = Project {
        id: ProjectId::random(),
        name: project_name.to_owned(),
        time_zone: "UTC".to_owned(),
        created_at: Timestamp::default(),
    };
    let stored = fleets.iter().map(|name| {
        let mut definition = parse_yaml("name: n\nvessels: {v: {run: x}}\n").unwrap().definition;
        definition.name = (*name).to_owned();
        let fleet = Fleet {
            id: FleetId::random(),
            project_id: project.id,
            name: definition.name.clone(),
            version: 1,
            created_at: Timestamp::default(),
            updated_at: Timestamp::default(),
            text: None,
        };
        let version = FleetVersion {
            fleet_id: fleet.id,
            project_id: project.id,
            version: 1,
            created_at: Timestamp::default(),
            definition,
        };
        (fleet, Arc::new(version))
    });
    let stored: Vec<_> = stored.collect();
    let ids = stored.iter().map(|(fleet, _)| fleet.id).collect();
    let organization = Organization { id: OrganizationId::random(), name: "o".to_owned() };
    let id = project.id;
    (Catalog::new(organization, vec![project], stored, Vec::new()), id, ids)
}

fn file(name: &str) -> FleetFile {
    parse_yaml(&format!("name: \"{name}\"\nvessels: {{v: {{run: x}}}}\n")).unwrap()
}

#[test]
fn a_stored_name_in_another_encoding_is_found_and_composed() {
    let (mut catalog, _, ids) = catalog("default", &["de\u{301}ploy"]);
    let (applied, view, _) =
        catalog.apply_fleet(file("déploy"), &ExpectedVersion::Any, Timestamp::default()).unwrap();
    assert_eq!((applied, view.fleet.id), (Applied::Updated, ids[0]));
    assert_eq!(view.fleet.name, "déploy");
    let (applied, ..) = catalog
        .apply_fleet(file("de\u{301}ploy"), &ExpectedVersion::Any, Timestamp::default())
        .unwrap();
    assert_eq!(applied, Applied::Unchanged);
    let taken = catalog.create_fleet(file("de\u{301}ploy"), Timestamp::default());
    assert!(matches!(taken, Err(EngineError::Conflict(_))), "{taken:?}");
}

#[test]
fn a_fleet_that_is_refused_makes_no_project() {
    let (mut catalog, _, ids) = catalog("default", &["one"]);
    let file = FleetFile { project: Some("new".to_owned()), id: Some(ids[0]), ..file("two") };
    let refused = catalog.create_fleet(file, Timestamp::default());
    assert!(matches!(refused, Err(EngineError::Conflict(_))), "{refused:?}");
    assert_eq!(catalog.projects().len(), 1);
}

#[test]
fn fleets_with_names_that_are_refused_today_are_shown_and_can_be_renamed() {
    let (mut catalog, _, ids) = catalog("default", &["a\u{a0}b", "\u{200b}"]);
    assert_eq!(catalog.fleets().len(), 2);
    assert_eq!(catalog.fleet(ids[1]).unwrap().fleet.name, "\u{200b}");
    let renamed = catalog
        .update_fleet(ids[1], file("seen"), &ExpectedVersion::Any, Timestamp::default())
        .unwrap();
    assert_eq!(renamed.1.fleet.name, "seen");
    assert!(catalog.delete_fleet(ids[0], &ExpectedVersion::Any).is_ok());
}

#[test]
fn a_project_with_a_name_that_is_refused_today_can_still_be_changed() {
    let (mut catalog, id, _) = catalog("a\u{a0}b", &[]);
    let mut save = |id, name: &str| {
        catalog.save_project(id, name, "UTC", Timestamp::default()).map(|it| it.0.name)
    };
    assert_eq!(save(Some(id), "a\u{a0}b").as_deref(), Ok("a\u{a0}b"));
    assert!(save(None, "c\u{a0}d").is_err());
    assert_eq!(save(Some(id), "e\u{301}").as_deref(), Ok("é"));
    assert!(matches!(save(None, "é"), Err(EngineError::Conflict(_))));
    assert!(matches!(save(None, "e\u{301}"), Err(EngineError::Conflict(_))));
}

/// A catalog whose one fleet has a webhook with these settings.
fn guarded(settings: &str) -> (Catalog, FleetId, TokenHash) {
    let (mut catalog, _, ids) = catalog("default", &["guarded"]);
    let token = Token::random().unwrap();
    let edit = |it: &mut WebhookSettings| {
        *it = serde_json::from_str(settings).unwrap();
        Ok(())
    };
    catalog.add_webhook(ids[0], token.clone(), edit, None, Timestamp::default()).unwrap();
    (catalog, ids[0], token.hash())
}

#[test]
fn an_edit_a_pause_and_a_new_url_keep_what_the_rate_limit_has_counted() {
    let (mut catalog, id, hash) = guarded(r#"{"rate_limit": "2/d"}"#);
    let now = Timestamp::default();
    let client = Client { address: [192, 0, 2, 7].into(), is_disputed: false };
    assert!(catalog.admit(&hash, client, now).is_ok());
    assert!(catalog.admit(&hash, client, now).is_ok());
    let is_refused = |catalog: &Catalog, hash| {
        matches!(catalog.admit(hash, client, now), Err(AdmitError::TooSoon(_)))
    };
    assert!(is_refused(&catalog, &hash));
    let allow = |it: &mut WebhookSettings| {
        it.allow = "192.0.2.0/24".parse().unwrap();
        Ok(())
    };
    catalog.edit_webhook_settings(id, allow, &ExpectedVersion::Any, None, now).unwrap();
    assert!(is_refused(&catalog, &hash));
    catalog.pause_webhook(id, true, now).unwrap();
    assert_eq!(catalog.admit(&hash, client, now), Err(AdmitError::Paused));
    catalog.pause_webhook(id, false, now).unwrap();
    assert!(is_refused(&catalog, &hash));
    let token = Token::random().unwrap();
    catalog.replace_webhook(id, token.clone(), std::time::Duration::ZERO, now).unwrap();
    assert!(is_refused(&catalog, &token.hash()));
    assert_eq!(catalog.admit(&hash, client, now), Err(AdmitError::UnknownToken));
}

#[test]
fn an_edit_that_changes_nothing_or_fails_makes_no_version() {
    let (mut catalog, id, _) = guarded(r#"{"rate_limit": "2/d"}"#);
    let now = Timestamp::default();
    assert_eq!(catalog.fleet(id).unwrap().fleet.version, 2);
    let expected = ExpectedVersion::OneOf(vec![2]);
    let (_, changes) = catalog.edit_webhook_settings(id, |_| Ok(()), &expected, None, now).unwrap();
    assert_eq!(changes, []);
    let stale = ExpectedVersion::OneOf(vec![1]);
    let refused = catalog.edit_webhook_settings(id, |_| Ok(()), &stale, None, now);
    assert!(matches!(refused, Err(EngineError::Stale(_))), "{refused:?}");
    let invalid = file("n").refuse_user("no".to_owned());
    let refused = catalog.edit_webhook_settings(id, |_| Err(invalid), &expected, None, now);
    assert!(matches!(refused, Err(EngineError::Invalid(_))), "{refused:?}");
    assert_eq!(catalog.fleet(id).unwrap().fleet.version, 2);
}

#[test]
fn a_token_opens_nothing_from_its_end_on_nor_after_its_revocation() {
    use crate::model::access::{Role, Scope};
    use crate::model::server_proof::TokenHint;
    use std::time::Duration;

    let at = |seconds: i64| Timestamp::from_millis((1_700_000_000 + seconds) * 1000);
    let (mut catalog, project, _) = catalog("web", &[]);
    let new = |name: &str, expires_in| NewAccessToken {
        name: name.to_owned(),
        role: Role::Reader,
        scope: Scope::Project(project),
        expires_in,
        created_by: "admin.token".to_owned(),
    };
    let secrets = [Token::random().unwrap(), Token::random().unwrap()];
    let [brief, lasting] = secrets.map(|secret| secret.hash());
    let life = Some(Duration::from_secs(60));
    let (made, changes) = catalog.create_access_token(new("brief", life), brief, at(0)).unwrap();
    assert_eq!(changes, [Change::PutAccessToken { hash: brief, token: made.clone() }]);
    let (kept, _) = catalog.create_access_token(new("lasting", None), lasting, at(0)).unwrap();

    let opens = |catalog: &Catalog, hash: TokenHash, id, seconds| {
        let hint = TokenHint::of(hash.as_bytes());
        let ways = [
            catalog.use_access_token(&hash, at(seconds)).is_some(),
            catalog.holder_of(id, at(seconds)).is_some(),
            catalog.hinted_token(hint, at(seconds)) == Some(hash),
        ];
        assert!(ways.iter().all(|way| *way == ways[0]), "{ways:?}");
        ways[0]
    };
    assert!(opens(&catalog, brief, made.id, 59) && !opens(&catalog, brief, made.id, 60));
    assert!(opens(&catalog, lasting, kept.id, 1_000_000_000));
    let (_, changes) = catalog.revoke_access_token(kept.id).unwrap();
    assert_eq!(changes, [Change::RemoveAccessToken(lasting)]);
    assert!(!opens(&catalog, lasting, kept.id, 1));
    assert!(matches!(catalog.revoke_access_token(kept.id), Err(EngineError::NotFound(_))));
    // Its name is free again, that of the other one is not.
    assert!(catalog.create_access_token(new("lasting", None), lasting, at(2)).is_ok());
    let taken = catalog.create_access_token(new("brief", None), brief, at(61));
    assert!(matches!(taken, Err(EngineError::Conflict(_))));
}
