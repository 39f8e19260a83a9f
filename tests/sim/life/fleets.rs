//! Creating, editing and deleting fleets and their webhooks.

use std::sync::Arc;
use std::time::Duration;

use boathook::internals::{ExpectedVersion, FleetDefinition, FleetFile, FleetId};

use super::{Fleet, Life};
use crate::fleets::{describe, random_file, random_id};

/// Fleets at a time.
const FLEETS_MAX: usize = 6;

impl Life {
    pub(super) fn edit_something(&mut self) {
        if self.random.u8(..3) == 0 {
            return self.edit_access();
        }
        let alive: Vec<usize> =
            (0..self.fleets.len()).filter(|it| self.fleets[*it].is_alive).collect();
        let Some(place) = self.pick(&alive) else { return self.create_fleet() };
        match self.random.u8(..8) {
            0 if alive.len() > 1 => self.delete_fleet(place),
            0 | 1 if alive.len() < FLEETS_MAX => self.create_fleet(),
            2 | 3 => self.edit_webhook(place),
            _ => self.update_fleet(place),
        }
    }

    pub(super) fn create_fleet(&mut self) {
        let name = format!("fleet {}", self.fleets.len());
        let id = random_id(&mut self.random);
        let (told, definition) = self.random_definition(id, &name);
        let text = told.text.clone();
        self.note(format!("new {name}: {}", describe(&definition)));
        let outcome = self.call(|engine| engine.create_fleet(told));
        if let Some(Err(error)) = &outcome.result {
            panic!("{error}");
        }
        if outcome.result.is_some() || outcome.is_durable() {
            self.follow_schedule(id, Some(&definition));
            let versions = vec![definition];
            self.fleets.push(Fleet { id, is_alive: true, name, versions, text, webhook: None });
        }
    }

    fn update_fleet(&mut self, place: usize) {
        let Fleet { id, name, .. } = &self.fleets[place];
        let (id, name) = (*id, name.clone());
        let (told, definition) = self.random_definition(id, &name);
        let text = told.text.clone();
        self.note(format!("edit of {name}: {}", describe(&definition)));
        let current = &self.fleets[place].versions[self.fleets[place].versions.len() - 1];
        let mut same_names = (*definition).clone();
        same_names.keep_vessel_ids(current);
        let is_same = same_names == **current && text == self.fleets[place].text;
        let outcome = self.call(|engine| engine.update_fleet(id, told, &ExpectedVersion::Any));
        if let Some(Err(error)) = &outcome.result {
            panic!("{error}");
        }
        if is_same {
            return assert!(!outcome.is_durable(), "a version like the one before");
        }
        if outcome.result.is_some() || outcome.is_durable() {
            self.follow_schedule(id, Some(&definition));
            self.fleets[place].versions.push(definition);
            self.fleets[place].text = text;
        }
    }

    fn delete_fleet(&mut self, place: usize) {
        let id = self.fleets[place].id;
        self.note(format!("{} is deleted", self.fleets[place].name));
        let outcome = self.call(|engine| engine.delete_fleet(id, &ExpectedVersion::Any));
        if outcome.result.is_some() || outcome.is_durable() {
            self.follow_schedule(id, None);
            self.fleets[place].is_alive = false;
            self.forget_deliveries(id);
        }
    }

    fn edit_webhook(&mut self, place: usize) {
        let Fleet { id, webhook, .. } = &self.fleets[place];
        let (id, has_webhook) = (*id, webhook.is_some());
        let action = self.random.u8(..3);
        let outcome = self.call(|engine| match (has_webhook, action) {
            (false, _) => engine.add_webhook(id, None, |_| Ok(())).map(Some),
            (true, 0) => engine.remove_webhook(id).map(|()| None),
            (true, _) => engine.replace_webhook(id, Duration::from_secs(60)).map(Some),
        });
        match outcome.result {
            Some(Ok(webhook)) => {
                self.fleets[place].webhook = webhook.map(|it| it.webhook.token.reveal().to_owned());
            }
            Some(Err(error)) => panic!("{error}"),
            // The change was not acknowledged: the next server shows whether it is durable.
            None => self.fleets[place].webhook = Some(String::new()),
        }
    }

    /// The catalog that a server must have.
    pub(super) fn check_catalog(&mut self) {
        for place in 0..self.fleets.len() {
            let Fleet { id, is_alive, ref versions, ref webhook, .. } = self.fleets[place];
            let view = self.engine().fleet(id);
            assert_eq!(view.is_ok(), is_alive, "a fleet is there until it is deleted");
            let Ok(view) = view else { continue };
            assert_eq!(view.fleet.version as usize, versions.len(), "every edit is a version");
            let text = self.engine().fleet_text(&view, view.fleet.version);
            assert_eq!(&text, &self.fleets[place].text, "the text of the last edit");
            let stored = self.engine().webhook(id).unwrap_or_else(|error| panic!("{error}"));
            let stored = stored.map(|it| it.webhook.token.reveal().to_owned());
            match webhook.as_deref() {
                Some("") => self.fleets[place].webhook = stored,
                expected => assert_eq!(stored.as_deref(), expected, "the URL of a fleet"),
            }
        }
        let alive = self.fleets.iter().filter(|fleet| fleet.is_alive).count();
        assert_eq!(self.engine().fleets().len(), alive);
    }

    /// A fleet as the engine is told, and as it is.
    fn random_definition(&mut self, id: FleetId, name: &str) -> (FleetFile, Arc<FleetDefinition>) {
        let mut file = random_file(&mut self.random, id, name);
        let definition = Arc::new(file.definition.clone());
        if let Some(sabotage) = self.sabotage {
            sabotage.misread(&mut file.definition);
        }
        (file, definition)
    }
}
