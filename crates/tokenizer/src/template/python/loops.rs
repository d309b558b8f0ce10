//! Loops over `None`, which Python refuses and the engine takes for an empty list, and texts taken apart into variables
//! (`{% for a, b in ['xy'] %}`), which the engine refuses. So both are preceded by a call of a function of ours.
//! This file does not know what the loop does.

use minijinja::machinery::{Instruction, Instructions};
use minijinja::value::Value;
use minijinja::{Environment, Error, State};

use super::{filters, invalid, type_name};

/// No template can write these names.
const ITERABLE: &str = "for in";
const PARTS: &str = "a, b =";

pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.add_function(ITERABLE, |value: &Value| -> Result<Value, Error> {
        if value.is_none() {
            return Err(invalid(format!("{} cannot be gone through by a loop", type_name(value))));
        }
        Ok(value.clone())
    });
    environment.add_function(PARTS, |state: &State<'_, '_>, value: &Value| -> Result<Value, Error> {
        match value.as_str() {
            Some(_) => filters::list(state, value).map(Value::from),
            None => Ok(value.clone()),
        }
    });
}

/// The function that the value on top of the stack passes through before the instruction takes it.
fn call_before(instruction: &Instruction<'_>) -> Option<&'static str> {
    match instruction {
        Instruction::PushLoop(_) | Instruction::FastRecurse | Instruction::CallFunction("loop", Some(1)) => {
            Some(ITERABLE)
        }
        Instruction::UnpackList(_) => Some(PARTS),
        _ => None,
    }
}

/// The same instructions with these calls between them, or `None` when there is none to add.
pub(super) fn with_calls<'source>(instructions: &Instructions<'source>) -> Option<Instructions<'source>> {
    // Where each instruction, or the call before it, will stand; one place more, for jumps behind the last.
    let mut places = Vec::new();
    let mut next = 0;
    while let Some(instruction) = instructions.get(places.len() as u32) {
        places.push(next);
        next += 1 + u32::from(call_before(instruction).is_some());
    }
    if next as usize == places.len() {
        return None;
    }
    places.push(next);
    let mut extended = Instructions::new(instructions.name(), instructions.source());
    let mut index = 0;
    while let Some(instruction) = instructions.get(index) {
        let mut add = |instruction| match (instructions.get_span(index), instructions.get_line(index)) {
            (Some(span), _) => extended.add_with_span(instruction, span),
            (None, Some(line)) => {
                extended.add_with_line(instruction, u16::try_from(line).unwrap_or(u16::MAX))
            }
            (None, None) => extended.add(instruction),
        };
        if let Some(function) = call_before(instruction) {
            add(Instruction::CallFunction(function, Some(1)));
        }
        let mut instruction = instruction.clone();
        if let Instruction::Iterate(target)
        | Instruction::Jump(target)
        | Instruction::JumpIfFalse(target)
        | Instruction::JumpIfFalseOrPop(target)
        | Instruction::JumpIfTrueOrPop(target)
        | Instruction::BuildMacro(_, target, _) = &mut instruction
        {
            *target = places.get(*target as usize).copied().unwrap_or(next);
        }
        add(instruction);
        index += 1;
    }
    Some(extended)
}
