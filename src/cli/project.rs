//! `boathook project`: list, show, create, set, delete.

use anyhow::bail;
use clap::Subcommand;
use serde_json::{Map, Value};
use ureq::http::Method;

use super::api::{Fleet, Project};
use super::client::{Content, Data, joined};
use super::locate::ServerOptions;
use super::output::{advise, command, print, print_json, printable};
use super::session::Session;
use super::table::Table;
use super::{Outcome, time};
use crate::model::clock::{Clock, SystemClock, Timestamp};

/// Arguments of `project`.
#[derive(Debug, clap::Args)]
pub struct ProjectArgs {
    #[command(subcommand)]
    verb: ProjectVerb,
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Debug, Subcommand)]
enum ProjectVerb {
    /// List the projects and their time zones
    List,
    /// Show a project and its fleets
    Show {
        /// Id or name
        project: String,
    },
    /// Make a project
    Create {
        name: String,
        /// An IANA name, such as Europe/Berlin [default: UTC]
        #[arg(long, value_name = "TZ")]
        time_zone: Option<String>,
    },
    /// Rename a project, or give it another time zone
    #[command(group = clap::ArgGroup::new("changes").required(true).multiple(true).args(["name", "time_zone"]))]
    Set {
        /// Id or name
        project: String,
        /// Its new name
        #[arg(long)]
        name: Option<String>,
        /// An IANA name, such as Europe/Berlin
        #[arg(long, value_name = "TZ")]
        time_zone: Option<String>,
    },
    /// Delete a project that has no fleets
    Delete {
        /// Id or name
        project: String,
    },
}

/// Does what `arguments` say.
///
/// # Errors
/// When the server is not there or refuses.
pub fn run(arguments: ProjectArgs) -> anyhow::Result<Outcome> {
    let session = Session::open(&arguments.server)?;
    match arguments.verb {
        ProjectVerb::List => list(&session)?,
        ProjectVerb::Show { project } => show(&session, &session.project(&project)?)?,
        ProjectVerb::Create { name, time_zone } => {
            let content = fields([("name", Some(name)), ("time_zone", time_zone)]);
            let answer = session.client.send(Method::POST, "/projects", content)?;
            told(&session, &answer, "created")?;
        }
        ProjectVerb::Set { project, name, time_zone } => {
            let path = path(&session.project(&project)?);
            let content = fields([("name", name), ("time_zone", time_zone)]);
            let answer = session.client.send(Method::PUT, &path, content)?;
            told(&session, &answer, "changed")?;
        }
        ProjectVerb::Delete { project } => delete(&session, &session.project(&project)?)?,
    }
    Ok(Outcome::Done)
}

fn path(project: &Project) -> String {
    format!("/projects/{}", project.id)
}

/// The fields that are given, as JSON.
fn fields(given: [(&str, Option<String>); 2]) -> Content {
    let given = given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.into())));
    let body: Map<String, Value> = given.collect();
    Content::text("application/json", Value::Object(body).to_string())
}

fn told(session: &Session, answer: &Data, done: &str) -> anyhow::Result<()> {
    if session.json {
        return Ok(print_json(answer.raw())?);
    }
    let project: Project = answer.parse()?;
    let (name, zone) = (printable(&project.name), printable(&project.time_zone));
    Ok(print(&format!("{done}  {name}  {zone}\n"))?)
}

fn list(session: &Session) -> anyhow::Result<()> {
    let projects = session.client.list("/projects", usize::MAX)?;
    if session.json {
        return Ok(print_json(&joined(&projects))?);
    }
    let projects = projects.iter().map(Data::parse).collect::<Result<Vec<Project>, _>>()?;
    let fleets = session.client.list("/fleets", usize::MAX)?;
    let fleets = fleets.iter().map(Data::parse).collect::<Result<Vec<Fleet>, _>>()?;
    Ok(print(&render(&projects, &fleets, SystemClock.now()))?)
}

fn render(projects: &[Project], fleets: &[Fleet], now: Timestamp) -> String {
    let mut table = Table::new(["NAME", "TIME ZONE", "FLEETS", "CREATED", "ID"]);
    for project in projects {
        let fleets = fleets.iter().filter(|fleet| fleet.project_name == project.name).count();
        table.row([
            project.name.as_str().into(),
            project.time_zone.as_str().into(),
            fleets.to_string().into(),
            time::relative(now, project.created_at).into(),
            project.id.as_str().into(),
        ]);
    }
    table.render()
}

fn show(session: &Session, project: &Project) -> anyhow::Result<()> {
    if session.json {
        return Ok(print_json(session.client.get(&path(project))?.raw())?);
    }
    let (name, zone) = (printable(&project.name), printable(&project.time_zone));
    let facts = [("id", project.id.as_str()), ("name", &name), ("time zone", &zone)];
    for (label, value) in facts {
        print(&format!("{label:<10}  {value}\n"))?;
    }
    print(&format!("{:<10}  {}\n", "created", project.created_at))?;
    let fleets = session.client.list("/fleets", usize::MAX)?;
    let fleets = fleets.iter().map(Data::parse).collect::<Result<Vec<Fleet>, _>>()?;
    for fleet in fleets.iter().filter(|fleet| fleet.project_name == project.name) {
        print(&format!("{:<10}  {}\n", "fleet", printable(&fleet.name)))?;
    }
    Ok(())
}

fn delete(session: &Session, project: &Project) -> anyhow::Result<()> {
    let answer = match session.client.delete(&path(project)) {
        Ok(answer) => answer,
        Err(error) => {
            advise("To see what it has:");
            advise(&command(&session.line(&format!("project show {}", project.id))));
            bail!(error);
        }
    };
    if session.json {
        return Ok(print_json(answer.raw())?);
    }
    Ok(print(&format!("deleted  {}\n", printable(&project.name)))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_counts_the_fleets_of_each_project() {
        let projects: Vec<Project> = serde_json::from_str(
            r#"[{"id":"1","name":"default","time_zone":"UTC","created_at":"2026-01-01T00:00:00Z"},
                {"id":"2","name":"web","time_zone":"Europe/Berlin","created_at":"2026-01-01T00:00:00Z"}]"#,
        )
        .unwrap();
        let fleets: Vec<Fleet> = serde_json::from_str(
            r#"[{"id":"f","name":"deploy","project_name":"web","version":1,
                 "updated_at":"2026-01-01T00:00:00Z"}]"#,
        )
        .unwrap();
        let text = render(&projects, &fleets, "2026-01-01T02:00:00Z".parse().unwrap());
        let expected = "\
NAME     TIME ZONE      FLEETS  CREATED  ID
default  UTC            0       2h ago   1
web      Europe/Berlin  1       2h ago   2
";
        assert_eq!(anstream::adapter::strip_str(&text).to_string(), expected);
    }
}
