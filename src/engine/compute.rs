//! The values that the request of a run gives to a vessel, computed at each start from what is stored.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::io::Read;

use crate::engine::Engine;
use crate::engine::request::StoredRequest;
use crate::model::computed::{Argument, ComputedValue};
use crate::model::event::PackedArrival;
use crate::model::expression::{Payload, Variables};
use crate::model::fleet::Program;
use crate::model::variable::{FixedValue, VariableValue};
use crate::scheduler::Claim;

/// What a vessel is started with, as far as the request decides it.
pub(super) struct ComputedStart<'a> {
    pub(super) program: Cow<'a, Program>,
    pub(super) variables: Vec<(String, FixedValue)>,
}

impl Engine {
    /// Gives each computed value among `variables` and among the arguments of the vessel its text. A
    /// variable that the request gives no value is left out.
    ///
    /// # Errors
    /// A message for the vessel's log.
    pub(super) fn compute<'a>(
        &self,
        claim: &'a Claim,
        request: &StoredRequest,
        variables: Vec<(String, VariableValue)>,
    ) -> Result<ComputedStart<'a>, String> {
        let program = &claim.version.definition.vessels[claim.vessel].program;
        // Many expressions need no payload.
        let reads_payload =
            computed_values(program, &variables).any(|value| value.expr.reads_payload());
        let length = request.body_bytes();
        let is_read = reads_payload && length <= self.settings.max_expression_body_bytes;
        // Most vessels compute nothing: the request is read for the first value that does.
        let given = OnceCell::new();
        let request = || match given.get() {
            Some(given) => Ok(given),
            None => {
                let read = expression_variables(claim, request, is_read)?;
                Ok(given.get_or_init(|| read))
            }
        };
        with_texts(program, variables, request).map_err(|why| match reads_payload && !is_read {
            true => format!(
                "{why}; expressions see nothing of its body, as {length} bytes are more than \
                 max_expression_body_bytes"
            ),
            false => why,
        })
    }
}

/// Replaces the computed values by their texts. `request` reads the request, once.
fn with_texts<'a, 'r>(
    program: &'a Program,
    variables: Vec<(String, VariableValue)>,
    request: impl Fn() -> Result<&'r Variables, String>,
) -> Result<ComputedStart<'a>, String> {
    let mut fixed = Vec::with_capacity(variables.len());
    for (name, value) in variables {
        match value {
            VariableValue::Fixed(value) => fixed.push((name, value)),
            VariableValue::Computed(value) => {
                let text = value.value_for(request()?).map_err(|why| format!("{name}: {why}"))?;
                fixed.extend(text.map(|text| (name, FixedValue::Literal(text))));
            }
        }
    }
    let program = match program {
        Program::Command(arguments) if arguments.iter().any(|it| it.literal().is_none()) => {
            let text = |argument: &Argument| argument.text_for(request()?).map(Argument::Literal);
            Cow::Owned(Program::Command(arguments.iter().map(text).collect::<Result<_, _>>()?))
        }
        program => Cow::Borrowed(program),
    };
    Ok(ComputedStart { program, variables: fixed })
}

/// The variables of expressions over a stored request. Without the payload, `body` and `text` are null.
fn expression_variables(
    claim: &Claim,
    request: &StoredRequest,
    with_payload: bool,
) -> Result<Variables, String> {
    let head = &request.head;
    let payload = match with_payload {
        true => {
            let length = usize::try_from(request.body_bytes()).unwrap_or_default();
            let mut bytes = Vec::with_capacity(length);
            let read = request.open_body().read_to_end(&mut bytes);
            read.map_err(|error| format!("the stored body cannot be read: {error}"))?;
            Payload::parse(&bytes, head.header("Content-Type"))
        }
        false => Payload::null(),
    };
    let headers = head.headers.iter();
    let headers =
        headers.filter_map(|(name, values)| Some((name.as_str(), values.first()?.as_str())));
    let trigger = claim.run.trigger.to_string();
    let arrival = claim.run.arrival.as_ref().map(PackedArrival::unpack).unwrap_or_default();
    Ok(Variables::new(payload, headers, &head.query, &arrival.event)
        .with_request("POST", &head.remote_addr, &trigger)
        .with_received_at(claim.run.queued_at.as_millis()))
}

/// The computed values of a start.
fn computed_values<'a>(
    program: &'a Program,
    variables: &'a [(String, VariableValue)],
) -> impl Iterator<Item = &'a ComputedValue> {
    let arguments = match program {
        Program::Command(arguments) => arguments.as_slice(),
        Program::Script(_) | Program::Code(_) => &[],
    };
    let of_arguments = arguments.iter().filter_map(|argument| match argument {
        Argument::Computed(value) => Some(value),
        Argument::Literal(_) => None,
    });
    let of_variables = variables.iter().filter_map(|(_, value)| match value {
        VariableValue::Computed(value) => Some(value),
        VariableValue::Fixed(_) => None,
    });
    of_arguments.chain(of_variables)
}
