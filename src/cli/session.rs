//! What the client verbs share: the server they talk to, and how a person names a fleet or a run.

use std::path::PathBuf;

use anyhow::{Context, bail};
use uuid::Uuid;

use super::api::{Fleet, Project, Run};
use super::client::{Client, ClientError, Data};
use super::locate::{ServerOptions, Surroundings, locate, quoted};
use super::usage;
use crate::model::name::is_same_name;
use crate::model::text::percent_encoded;

/// A server and how to show what it says.
pub struct Session {
    pub client: Client,
    /// Print the answers themselves.
    pub json: bool,
    /// Where the server keeps its data, if that is known.
    pub data_dir: Option<PathBuf>,
    /// What a command line must say to mean the same server; empty or with a leading space.
    flags: String,
}

impl Session {
    /// Finds the server that the options mean. Sends nothing yet.
    ///
    /// # Errors
    /// When there is none to be found.
    pub fn open(options: &ServerOptions) -> anyhow::Result<Self> {
        let located = locate(options, &Surroundings::of_process())?;
        let mut flags = String::new();
        let paths = [("--token-file", &options.token_file), ("--data-dir", &options.data_dir)];
        for (flag, path) in paths {
            if let Some(path) = path {
                flags.push_str(&format!(" {flag} {}", quoted(&path.to_string_lossy())));
            }
        }
        if let Some(url) = &options.url {
            flags.push_str(&format!(" --url {}", quoted(url)));
        }
        let client = Client::new(&located)?;
        Ok(Self { client, json: options.json, data_dir: located.data_dir, flags })
    }

    /// The line that runs `boathook` with `words` against the same server, for advice.
    pub fn line(&self, words: &str) -> String {
        format!("boathook {words}{}", self.flags)
    }

    /// The fleet that `text` names: its id, its name or `project/name`.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn fleet(&self, text: &str) -> anyhow::Result<Fleet> {
        if Uuid::try_parse(text).is_ok() {
            return match self.client.get(&format!("/fleets/{text}")) {
                Ok(fleet) => Ok(fleet.parse()?),
                Err(error) if error.is_not_found() => bail!(
                    "there is no fleet with the id {text}; `boathook fleet list` shows what there is"
                ),
                Err(error) => Err(error.into()),
            };
        }
        let fleets = self.client.list("/fleets", usize::MAX)?;
        let fleets = fleets.iter().map(Data::parse).collect::<Result<Vec<Fleet>, _>>()?;
        choose_fleet(text, fleets)
    }

    /// The project that `text` names: its id or its name.
    ///
    /// # Errors
    /// When there is none.
    pub fn project(&self, text: &str) -> anyhow::Result<Project> {
        let projects = self.client.list("/projects", usize::MAX)?;
        let projects = projects.iter().map(Data::parse).collect::<Result<Vec<Project>, _>>()?;
        let mut projects = projects.into_iter();
        let meant = |project: &Project| project.id == text || is_same_name(&project.name, text);
        projects.find(meant).with_context(|| {
            format!("no project is called {text}; `boathook project list` shows what there is")
        })
    }

    /// The id of the fleet that a filter names. What a deleted fleet has left can be asked for by its
    /// id.
    ///
    /// # Errors
    /// When there is no such fleet, or several.
    pub fn fleet_id(&self, text: Option<&str>) -> anyhow::Result<Option<String>> {
        match text {
            Some(id) if Uuid::try_parse(id).is_ok() => Ok(Some(id.to_owned())),
            Some(name) => Ok(Some(self.fleet(name)?.id)),
            None => Ok(None),
        }
    }

    /// The run that `text` means: its id, or a prefix or suffix that only it has.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn run(&self, text: &str) -> anyhow::Result<(Run, Data)> {
        if text.is_empty()
            || !text.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-')
        {
            bail!("{text:?} is no run id, nor a part of one; `boathook runs list` shows them");
        }
        match self.client.get(&format!("/runs/{}", percent_encoded(text))) {
            Ok(data) => Ok((data.parse()?, data)),
            Err(ClientError::Refused { status: 404, .. }) => {
                bail!("there is no run {text}; `boathook runs list` shows what there is")
            }
            Err(error) => Err(error).with_context(|| format!("run {text}")),
        }
    }
}

/// The fleet called `text` (its name, or `project/name`) among `fleets`.
fn choose_fleet(text: &str, fleets: Vec<Fleet>) -> anyhow::Result<Fleet> {
    // A fleet's name has no slash, so what is in front of the last one is its project.
    let (project, name) = match text.rsplit_once('/') {
        Some((project, name)) => (Some(project), name),
        None => (None, text),
    };
    // Names from before all encodings of one were the same may differ in nothing else.
    let is_exact = |fleet: &Fleet| {
        fleet.name == name && project.is_none_or(|project| fleet.project_name == project)
    };
    let is_meant = |fleet: &Fleet| {
        is_same_name(&fleet.name, name)
            && project.is_none_or(|project| is_same_name(&fleet.project_name, project))
    };
    let has_exact = fleets.iter().any(is_exact);
    let (mut found, others): (Vec<_>, Vec<_>) = fleets
        .into_iter()
        .partition(|fleet| if has_exact { is_exact(fleet) } else { is_meant(fleet) });
    match (found.pop(), found.is_empty()) {
        (Some(fleet), true) => Ok(fleet),
        (Some(fleet), false) => {
            found.push(fleet);
            found.sort_by(|a, b| a.project_name.cmp(&b.project_name));
            let names: Vec<_> = found
                .iter()
                .map(|fleet| format!("\n    {}/{}  {}", fleet.project_name, fleet.name, fleet.id))
                .collect();
            bail!("several fleets are called {name}; write one of{}", names.concat())
        }
        (None, _) => {
            let similar = others.iter().find(|fleet| {
                fleet.name.eq_ignore_ascii_case(name) || fleet.name.starts_with(name)
            });
            match similar {
                Some(fleet) => {
                    bail!("no fleet is called {text}; is it {}/{}?", fleet.project_name, fleet.name)
                }
                None => match usage::meant(&["run".into(), text.into()]) {
                    // `boathook run logs` asks for a fleet of this name.
                    Some(meant) => {
                        bail!("no fleet is called {text}; did you mean `boathook {meant}`?")
                    }
                    None => {
                        bail!(
                            "no fleet is called {text}; `boathook fleet list` shows what there is"
                        )
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleets() -> Vec<Fleet> {
        [("default", "deploy"), ("staging", "deploy"), ("default", "Alarm")]
            .iter()
            .map(|(project, name)| {
                let json = serde_json::json!({
                    "id": format!("id-of-{project}-{name}"), "name": name, "project_id": "p",
                    "project_name": project, "version": 1, "webhook": false,
                    "created_at": "2026-01-02T03:04:05.000Z",
                    "updated_at": "2026-01-02T03:04:05.000Z",
                });
                serde_json::from_value(json).unwrap()
            })
            .collect()
    }

    #[test]
    fn fleets_are_found_by_name_and_by_project() {
        let id = |text: &str| choose_fleet(text, fleets()).map(|fleet| fleet.id).unwrap();
        assert_eq!(id("Alarm"), "id-of-default-Alarm");
        assert_eq!(id("staging/deploy"), "id-of-staging-deploy");
    }

    #[test]
    fn what_is_not_one_fleet_is_refused_with_what_there_is() {
        let message = |text: &str| choose_fleet(text, fleets()).unwrap_err().to_string();
        let ambiguous = message("deploy");
        assert!(ambiguous.contains("default/deploy"), "{ambiguous}");
        assert!(ambiguous.contains("staging/deploy"), "{ambiguous}");
        assert!(message("alarm").contains("default/Alarm"));
        assert!(message("other/deploy").contains("is it default/deploy?"));
        assert!(message("nothing").contains("fleet list"));
    }
}
