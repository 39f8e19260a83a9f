//! The values that the request of a run gives to a vessel, computed at each start from what is stored.

use std::borrow::Cow;
use std::io::Read;

use crate::engine::Engine;
use crate::engine::request::StoredRequest;
use crate::model::computed::{Argument, ComputedValue};
use crate::model::event::Event;
use crate::model::expression::{Payload, Variables};
use crate::model::fleet::Program;
use crate::model::variable::VariableValue;
use crate::scheduler::Claim;

impl Engine {
    /// Gives each computed value among `variables` its text, and returns the program of the vessel with
    /// the text of each argument. A variable that the request gives no value is left out.
    ///
    /// # Errors
    /// A message for the vessel's log.
    pub(super) fn compute<'a>(
        &self,
        claim: &'a Claim,
        request: &StoredRequest,
        variables: &mut Vec<(String, VariableValue)>,
    ) -> Result<Cow<'a, Program>, String> {
        let program = &claim.version.definition.vessels[claim.vessel].program;
        // Most vessels compute nothing, and many expressions need no payload.
        let mut computed = computed_values(program, variables).peekable();
        if computed.peek().is_none() {
            return Ok(Cow::Borrowed(program));
        }
        let reads_payload = computed.any(|value| value.expr.reads_payload());
        drop(computed);
        let length = request.body_bytes();
        let is_read = reads_payload && length <= self.settings.max_expression_body_bytes;
        let request = expression_variables(claim, request, is_read)?;
        let texts = with_texts(program, variables, &request);
        texts.map_err(|why| match reads_payload && !is_read {
            true => format!(
                "{why}; expressions see nothing of its body, as {length} bytes are more than \
                 max_expression_body_bytes"
            ),
            false => why,
        })
    }
}

/// Replaces the computed values among `variables`, and returns the program with those of its arguments
/// replaced.
fn with_texts<'a>(
    program: &'a Program,
    variables: &mut Vec<(String, VariableValue)>,
    request: &Variables,
) -> Result<Cow<'a, Program>, String> {
    let mut computed = Vec::with_capacity(variables.len());
    for (name, value) in variables.drain(..) {
        match value {
            VariableValue::Computed(value) => {
                let text = value.value_for(request).map_err(|why| format!("{name}: {why}"))?;
                computed.extend(text.map(|text| (name, VariableValue::Literal(text))));
            }
            value => computed.push((name, value)),
        }
    }
    *variables = computed;
    let Program::Command(arguments) = program else { return Ok(Cow::Borrowed(program)) };
    let arguments: Result<Vec<_>, String> = arguments
        .iter()
        .map(|argument| argument.text_for(request).map(Argument::Literal))
        .collect();
    Ok(Cow::Owned(Program::Command(arguments?)))
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
    Ok(Variables::new(payload, headers, &head.query, &Event::default())
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
        VariableValue::Literal(_) | VariableValue::Secret { .. } => None,
    });
    of_arguments.chain(of_variables)
}
