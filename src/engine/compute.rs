//! The values that the request of a run gives to a vessel, computed at each start from what is stored.

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::engine::Engine;
use crate::engine::request::RunRequest;
use crate::model::computed::Argument;
use crate::model::expression::Variables;
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
        request: &RunRequest,
        variables: Vec<(String, VariableValue)>,
    ) -> Result<ComputedStart<'a>, String> {
        let program = &claim.version.definition.vessels[claim.vessel].program;
        let bytes_max = self.settings.max_expression_body_bytes;
        // Most vessels compute nothing: the request is looked at for the first value that does.
        let given = OnceCell::new();
        let of_request = || given.get_or_init(|| variables_of(claim, request, bytes_max));
        with_texts(program, variables, of_request)
    }
}

/// The variables of expressions over the stored request of a run.
fn variables_of<'r>(claim: &Claim, request: &'r RunRequest, bytes_max: u64) -> Variables<'r> {
    let run = &claim.run;
    let (payload, event) = (request.payload(bytes_max), run.arrival().event);
    Variables::of_request(&request.head, payload, &event, run.trigger, run.queued_at)
}

/// Replaces the computed values by their texts. `request` gives the variables of the request.
fn with_texts<'a, 'r>(
    program: &'a Program,
    variables: Vec<(String, VariableValue)>,
    request: impl Fn() -> &'r Variables<'r>,
) -> Result<ComputedStart<'a>, String> {
    let mut fixed = Vec::with_capacity(variables.len());
    for (name, value) in variables {
        match value {
            VariableValue::Fixed(value) => fixed.push((name, value)),
            VariableValue::Computed(value) => {
                let text = value.value_for(request()).map_err(|why| format!("{name}: {why}"))?;
                fixed.extend(text.map(|text| (name, FixedValue::Literal(text))));
            }
        }
    }
    let program = match program {
        Program::Command(arguments) if arguments.iter().any(|it| it.literal().is_none()) => {
            let text = |argument: &Argument| argument.text_for(request()).map(Argument::Literal);
            Cow::Owned(Program::Command(arguments.iter().map(text).collect::<Result<_, _>>()?))
        }
        program => Cow::Borrowed(program),
    };
    Ok(ComputedStart { program, variables: fixed })
}
