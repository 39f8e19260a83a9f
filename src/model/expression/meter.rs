//! Bounds evaluations. Each argument of a call and each range of a loop is wrapped in a call of ours
//! that takes the size of its value from a budget. Loops multiply, so nested loops and values that
//! grow from step to step end when the budget is used up. Nothing that an expression costs is much
//! larger than the sum of these sizes.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, operators};
use cel::common::types::{CelBytes, CelList, CelMap, CelString, DYN_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{Context, Env, ExecutionError};

/// Units of one evaluation: an element or a step costs one, text one for each [`BYTES_PER_UNIT`].
const BUDGET: u64 = 250_000;
const BYTES_PER_UNIT: u64 = 16;
/// A regular expression is compiled at each call.
const REGEX_UNITS: u64 = 2_000;

/// The function that charges, and the variable that holds the budget: names that no text can have.
const CHARGE: &str = "@charge";
const CHARGE_REGEX: &str = "@charge_regex";
const METER: &str = "@meter";

/// The message by which an exhausted budget is told from other errors.
pub(super) const EXHAUSTED: &str = "@exhausted";

static METER_TYPE: Type = Type::new_unspecified_type(METER);

/// What is left of the budget.
#[derive(Debug)]
struct Meter(AtomicU64);

impl Meter {
    fn charge(&self, units: u64) -> Result<(), ExecutionError> {
        let take = |left: u64| left.checked_sub(units);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.map(|_| ()).map_err(|_| ExecutionError::function_error(CHARGE, EXHAUSTED))
    }
}

impl Val for Meter {
    fn get_type(&self) -> &Type {
        Self::cel_type()
    }

    fn cel_type() -> &'static Type {
        &METER_TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(Self(AtomicU64::new(self.0.load(Ordering::Relaxed))))
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Meter {}

/// Declares the functions that charge.
pub(super) fn declare(env: &mut Env) {
    for (name, charge) in [(CHARGE, charge as _), (CHARGE_REGEX, charge_regex as _)] {
        let declared = env.add_overload(name, name, vec![DYN_TYPE, DYN_TYPE], charge);
        debug_assert!(declared.is_ok(), "{name} is declared once");
    }
}

/// Gives `context` a full budget.
pub(super) fn fill(context: &mut Context) {
    context.add_variable_as_val(METER, Box::new(Meter(AtomicU64::new(BUDGET))));
}

fn charge<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    charge_with(arguments, 0)
}

fn charge_regex<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    charge_with(arguments, REGEX_UNITS)
}

/// Charges for the second argument and hands it on.
fn charge_with<'b, 'v>(
    mut arguments: Vec<CowVal<'b, 'v>>,
    more: u64,
) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let value = arguments.pop().ok_or(ExecutionError::MissingArgumentOrTarget)?;
    let meter = arguments.pop().ok_or(ExecutionError::MissingArgumentOrTarget)?;
    let meter = meter.downcast_ref::<Meter>().ok_or(ExecutionError::MissingArgumentOrTarget)?;
    meter.charge(1 + more)?;
    charge_size(meter, value.as_ref())?;
    Ok(value)
}

/// Charges for all that a value holds, and stops when the budget does.
fn charge_size(meter: &Meter, value: &dyn Val) -> Result<(), ExecutionError> {
    if let Some(text) = value.downcast_ref::<CelString>() {
        meter.charge(text.inner().len() as u64 / BYTES_PER_UNIT)
    } else if let Some(bytes) = value.downcast_ref::<CelBytes>() {
        meter.charge(bytes.inner().len() as u64 / BYTES_PER_UNIT)
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        meter.charge(list.inner().len() as u64)?;
        list.inner().iter().try_for_each(|element| charge_size(meter, element.as_ref()))
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        meter.charge(map.inner().len() as u64)?;
        map.inner().values().try_for_each(|element| charge_size(meter, element.as_ref()))
    } else {
        Ok(())
    }
}

/// `parsed`, with all that costs wrapped in a call that charges for it.
pub(super) fn metered(parsed: IdedExpr) -> IdedExpr {
    let IdedExpr { id, mut expr } = parsed;
    for_each_child(&mut expr, &mut |child| *child = metered(std::mem::take(child)));
    match &mut expr {
        // The operands of these are true or false, or are handed on.
        Expr::Call(call) if is_logic(&call.func_name) => {}
        // An element is looked up without going through the others.
        Expr::Call(call) if call.func_name == operators::INDEX => {
            call.args.iter_mut().skip(1).for_each(|index| charge_for(index, CHARGE));
        }
        // A step of `map` and `filter`: the library appends without a copy if it sees this form.
        Expr::Call(call) if is_append(call) => {}
        Expr::Call(call) => {
            let charge = if call.func_name == "matches" { CHARGE_REGEX } else { CHARGE };
            call.target.iter_mut().for_each(|target| charge_for(target, CHARGE));
            call.args.iter_mut().for_each(|argument| charge_for(argument, charge));
        }
        Expr::Comprehension(comprehension) => {
            charge_for(&mut comprehension.iter_range, CHARGE);
            // An error here ends the loop. `all` and `exists` go on after one of their step.
            charge_for(&mut comprehension.loop_cond, CHARGE);
        }
        // What a list or a map holds is copied.
        Expr::List(_) | Expr::Map(_) => {
            for_each_child(&mut expr, &mut |child| charge_for(child, CHARGE));
        }
        _ => {}
    }
    IdedExpr { id, expr }
}

fn charge_for(expr: &mut IdedExpr, charge: &str) {
    if matches!(expr.expr, Expr::Literal(_)) && charge == CHARGE {
        return;
    }
    let id = expr.id;
    let meter = IdedExpr { id, expr: Expr::Ident(METER.to_owned()) };
    let args = vec![meter, std::mem::take(expr)];
    let call = CallExpr { func_name: charge.to_owned(), target: None, args };
    *expr = IdedExpr { id, expr: Expr::Call(call) };
}

/// Whether the call adds to the accumulator of a comprehension.
fn is_append(call: &CallExpr) -> bool {
    let first = call.args.first().map(|first| &first.expr);
    call.func_name == operators::ADD
        && matches!(first, Some(Expr::Ident(name)) if name.starts_with('@'))
}

fn is_logic(operator: &str) -> bool {
    [
        operators::LOGICAL_AND,
        operators::LOGICAL_OR,
        operators::LOGICAL_NOT,
        operators::CONDITIONAL,
        operators::NOT_STRICTLY_FALSE,
    ]
    .contains(&operator)
}

/// How many levels `expr` is nested.
pub(super) fn depth(expr: &IdedExpr) -> usize {
    let mut deepest = 0;
    visit_children(&expr.expr, &mut |child, _| deepest = deepest.max(depth(child)));
    deepest + 1
}

/// The first thing that `test` finds in `expr`. It is given each part with the loop variables there.
pub(super) fn find<T>(expr: &IdedExpr, test: &dyn Fn(&Expr, &[&str]) -> Option<T>) -> Option<T> {
    find_within(expr, &[], test)
}

fn find_within<T>(
    expr: &IdedExpr,
    locals: &[&str],
    test: &dyn Fn(&Expr, &[&str]) -> Option<T>,
) -> Option<T> {
    let mut found = test(&expr.expr, locals);
    visit_children(&expr.expr, &mut |child, more| {
        if found.is_none() {
            let locals = [locals, more].concat();
            found = find_within(child, &locals, test);
        }
    });
    found
}

/// Calls `visit` with each child and the variables that are new there.
pub(super) fn visit_children<'e>(expr: &'e Expr, visit: &mut dyn FnMut(&'e IdedExpr, &[&'e str])) {
    match expr {
        Expr::Call(call) => {
            call.target.iter().for_each(|target| visit(target, &[]));
            call.args.iter().for_each(|argument| visit(argument, &[]));
        }
        Expr::Comprehension(it) => {
            let mut locals = vec![it.iter_var.as_str(), it.accu_var.as_str()];
            locals.extend(it.iter_var2.as_deref());
            visit(&it.iter_range, &[]);
            visit(&it.accu_init, &[]);
            for part in [&it.loop_cond, &it.loop_step, &it.result] {
                visit(part, &locals);
            }
        }
        Expr::List(list) => list.elements.iter().for_each(|element| visit(element, &[])),
        Expr::Map(map) => {
            for entry in &map.entries {
                if let EntryExpr::MapEntry(entry) = &entry.expr {
                    visit(&entry.key, &[]);
                    visit(&entry.value, &[]);
                }
            }
        }
        Expr::Select(select) => visit(&select.operand, &[]),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) | Expr::Struct(_) => {}
    }
}

fn for_each_child(expr: &mut Expr, change: &mut dyn FnMut(&mut IdedExpr)) {
    match expr {
        Expr::Call(call) => {
            call.target.iter_mut().for_each(|target| change(target));
            call.args.iter_mut().for_each(change);
        }
        Expr::Comprehension(it) => {
            let it = &mut **it;
            let before = [&mut it.iter_range, &mut it.accu_init];
            let of_loop = [&mut it.loop_cond, &mut it.loop_step, &mut it.result];
            before.into_iter().chain(of_loop).for_each(change);
        }
        Expr::List(list) => list.elements.iter_mut().for_each(change),
        Expr::Map(map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    change(&mut entry.key);
                    change(&mut entry.value);
                }
            }
        }
        Expr::Select(select) => change(&mut select.operand),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) | Expr::Struct(_) => {}
    }
}
