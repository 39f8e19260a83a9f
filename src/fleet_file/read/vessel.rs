//! One vessel of a fleet file.

use super::computed::{ARGUMENT_KEYS, computed};
use super::environment::environment;
use super::notifications::emails;
use super::references::resolve_variables;
use super::source::source;
use crate::fleet_file::cursor::{Cursor, Fields};
use crate::fleet_file::{FleetFileError, HiddenValue, keys};
use crate::model::computed::Argument;
use crate::model::confinement::Confinement;
use crate::model::fleet::{Delivery, Program, VesselDefinition};
use crate::model::guardrails::{Backoff, Guardrails};
use crate::model::ids::VesselId;
use crate::model::limits::ARGUMENT_BYTES_MAX;

/// Bytes of a path: PATH_MAX of Linux, without its NUL.
pub const PATH_BYTES_MAX: usize = 4_095;

/// The vessel `name` that `cursor` describes.
pub fn vessel(
    name: String,
    cursor: &Cursor<'_>,
    delivery: Delivery,
    hidden: &mut Vec<HiddenValue>,
) -> Result<VesselDefinition, FleetFileError> {
    let fields = cursor.fields(&keys::names(keys::VESSEL))?;
    // An id that is no UUID is the hosted system's and means nothing here. The name identifies a vessel
    // within its fleet.
    let id = match fields.get("_id") {
        Some(id) if !id.is_null() => id.text()?.parse().ok(),
        _ => None,
    };
    let working_directory = match fields.get("working_directory") {
        Some(directory) => Some(working_directory(directory)?),
        None => None,
    };
    let (program, source_environment) = program(cursor, &fields)?;
    let variables = match (source_environment, fields.get("environment")) {
        (Some(_), Some(environment)) => {
            let message = "the variables are in `source` already; keep them in one place";
            return Err(environment.invalid_key(message));
        }
        (Some(cursor), None) => {
            let mut variables = environment(&cursor, &name, hidden)?;
            resolve_variables(&mut variables);
            variables
        }
        (None, Some(cursor)) => environment(cursor, &name, hidden)?,
        (None, None) => Vec::new(),
    };
    Ok(VesselDefinition {
        id: id.unwrap_or_else(VesselId::random),
        program,
        working_directory,
        environment: variables,
        guardrails: match fields.get("guardrails") {
            Some(cursor) => guardrails(cursor, &name, delivery)?,
            None => Guardrails::default(),
        },
        runner: match fields.get("runner") {
            Some(cursor) => keys::runner::runner(cursor)?,
            None => None,
        },
        confinement: confinement(&fields)?,
        notifications: match fields.get("notifications") {
            Some(cursor) => emails(cursor)?,
            None => None,
        },
        name,
    })
}

/// The program of the vessel, and the environment in its `source`, if there is one.
fn program<'a>(
    vessel: &Cursor<'a>,
    fields: &Fields<'a>,
) -> Result<(Program, Option<Cursor<'a>>), FleetFileError> {
    const KINDS: [&str; 3] = ["command", "run", "source"];
    let mut given = KINDS.iter().filter_map(|key| Some((*key, fields.get(key)?)));
    let Some((key, value)) = given.next() else {
        return Err(vessel.invalid_key(
            "nothing to run; add `command` (a list of arguments), `run` (a script) or `source` (a \
             file or repository)",
        ));
    };
    if let Some((other, second)) = given.next() {
        let message = format!("a vessel has either `{key}` or `{other}`; remove one of them");
        return Err(second.invalid_key(message));
    }
    match key {
        "command" => Ok((Program::Command(command(value)?), None)),
        "run" => Ok((Program::Script(script(value)?), None)),
        _ => source(value),
    }
}

fn script(run: &Cursor<'_>) -> Result<String, FleetFileError> {
    let script = run.text()?;
    if script.trim().is_empty() {
        return Err(run.invalid("the script is empty; write what the vessel should do"));
    }
    check_argument(script).map_err(|message| run.invalid(message))?;
    Ok(script.to_owned())
}

/// The arguments of a vessel's command. Those after the program may be computed.
fn command(command: &Cursor<'_>) -> Result<Vec<Argument>, FleetFileError> {
    arguments(command, |item| {
        let Some(expr) = item.entry("expr") else {
            return Ok(Argument::Literal(argument(item)?));
        };
        let fields = item.fields(&ARGUMENT_KEYS)?;
        Ok(Argument::Computed(computed(&expr, &fields, check_argument)?))
    })
}

/// The words of a command, each read by `read`. The first is the program and is literal.
pub fn arguments<T>(
    command: &Cursor<'_>,
    read: impl Fn(&Cursor<'_>) -> Result<T, FleetFileError>,
) -> Result<Vec<T>, FleetFileError> {
    if !command.is_sequence() {
        let message = "expected a list such as [./build.sh, --prod]; for a line of shell use `run`";
        return Err(command.invalid(message));
    }
    let items = command.sequence()?;
    let Some(program) = items.first() else {
        return Err(command.invalid("the list is empty; its first item is the program"));
    };
    if program.is_mapping() {
        let message = "a request cannot decide which program is started; write its name, and let \
                       the arguments after it be expressions";
        return Err(program.invalid(message));
    }
    if program.text()?.is_empty() {
        return Err(program.invalid("the program's name is empty"));
    }
    items.iter().map(read).collect()
}

/// An argument as it is written.
pub fn argument(item: &Cursor<'_>) -> Result<String, FleetFileError> {
    let argument = item.text()?;
    check_argument(argument).map_err(|message| item.invalid(message))?;
    Ok(argument.to_owned())
}

pub fn check_argument(text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err("contains a NUL, which no program can be given; remove it".to_owned());
    }
    if text.len() > ARGUMENT_BYTES_MAX {
        return Err(format!(
            "{} bytes, more than {ARGUMENT_BYTES_MAX}, which is what Linux passes to a program; \
             put it into a file",
            text.len()
        ));
    }
    Ok(())
}

fn working_directory(cursor: &Cursor<'_>) -> Result<String, FleetFileError> {
    const NOT_ABSOLUTE: &str = "expected an absolute path, beginning with `/` (`~` and variables \
                                are not expanded); leave it out for the run's own directory";
    if cursor.is_null() {
        return Err(cursor.invalid(NOT_ABSOLUTE));
    }
    let directory = cursor.text()?;
    if !directory.starts_with('/') {
        return Err(cursor.invalid(NOT_ABSOLUTE));
    }
    if directory.contains('\0') {
        return Err(cursor.invalid("contains a NUL, which no path can; remove it"));
    }
    if directory.len() > PATH_BYTES_MAX {
        let message = format!("longer than {PATH_BYTES_MAX} bytes, which Linux refuses");
        return Err(cursor.invalid(message));
    }
    Ok(directory.to_owned())
}

/// The guardrails of the vessel called `vessel`.
fn guardrails(
    cursor: &Cursor<'_>,
    vessel: &str,
    delivery: Delivery,
) -> Result<Guardrails, FleetFileError> {
    let mut guardrails = Guardrails::default();
    if cursor.is_null() {
        return Ok(guardrails);
    }
    let fields = cursor.fields(&keys::names(keys::GUARDRAILS))?;
    keys::read(keys::GUARDRAILS, &fields, &mut guardrails)?;
    if let Some(codes) = fields.get("retry_on_exit_codes")
        && !guardrails.retry_on_exit_codes.is_empty()
        && !guardrails.exclude_exit_code_ranges.is_empty()
    {
        return Err(codes.invalid_key(
            "says which exit codes alone are retried, and `exclude_exit_code_ranges` which are \
             not; remove one of them",
        ));
    }
    if let Some(count) = fields.get("retry_count")
        && delivery == Delivery::AtMostOnce
        && guardrails.retry_count > 0
    {
        return Err(count.invalid(format!(
            "delivery at_most_once never starts a vessel twice; set retry_count of `{vessel}` to 0"
        )));
    }
    if let Some(backoff) = fields.get("retry_backoff")
        && guardrails.retry_backoff == Backoff::Exponential
        && guardrails.retry_wait.is_zero()
    {
        return Err(backoff.invalid(
            "exponential doubles `retry_wait` with every retry, and that is 0; set it, as in \
             `retry_wait: 1s`",
        ));
    }
    Ok(guardrails)
}

/// The `limits`, `nice` and `umask` of a vessel.
fn confinement(fields: &Fields<'_>) -> Result<Confinement, FleetFileError> {
    let mut confinement = Confinement::default();
    keys::read(keys::VESSEL, fields, &mut confinement)?;
    if let Some(limits) = fields.get("limits").filter(|limits| !limits.is_null()) {
        let fields = limits.fields(&keys::names(keys::LIMITS))?;
        keys::read(keys::LIMITS, &fields, &mut confinement.limits)?;
    }
    Ok(confinement)
}
