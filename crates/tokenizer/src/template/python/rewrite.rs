//! A compiled template with Python's operators in place of the engine's.
//!
//! The engine calls filters, tests and functions by name, but its operators are its own. They differ from Python's where
//! types are mixed; they cannot see guarded text without its marks; and lists are added lazily and, once they
//! are nested deeply, all at once, however long they are: thirty doublings would take all memory. So these instructions
//! become calls of functions of ours, whose names no template can write.

use std::sync::LazyLock;

use minijinja::machinery::{Instruction, Instructions};
use minijinja::value::Value;
use minijinja::{Error, ErrorKind};

use super::{filters, loops, values};

pub(super) const ADD: &str = "+";
pub(super) const REMAINDER: &str = "%";
pub(super) const JOIN: &str = "~";
pub(super) const IN: &str = "in ";
pub(super) const EQUAL: &str = "==";
pub(super) const NOT_EQUAL: &str = "!=";
pub(super) const LESS: &str = "<";
pub(super) const LESS_EQUAL: &str = "<=";
pub(super) const GREATER: &str = ">";
pub(super) const GREATER_EQUAL: &str = ">=";
pub(super) const SUBSCRIPT: &str = "[]";
pub(super) const SLICE: &str = "[:]";

/// The functions for attributes that are called as Python's methods are, with the attributes' names.
pub(super) fn attributes() -> &'static [(&'static str, &'static str)] {
    static FUNCTIONS: LazyLock<Vec<(&'static str, &'static str)>> = LazyLock::new(|| {
        let mut names: Vec<&'static str> = values::method_names().collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| (&*Box::leak(format!(".{name}").into_boxed_str()), name)).collect()
    });
    &FUNCTIONS
}

/// The name under which a filter of the engine is called through a function of ours.
pub(super) fn wrapped(name: &str) -> &'static str {
    static NAMES: LazyLock<Vec<(&'static str, &'static str)>> = LazyLock::new(|| {
        filters::WRAPPED
            .into_iter()
            .map(|name| (name, &*Box::leak(format!("|{name}").into_boxed_str())))
            .collect()
    });
    NAMES.iter().find(|(known, _)| *known == name).map_or("", |(_, wrapped)| wrapped)
}

/// # Errors
/// When the template does what the engine does otherwise than Jinja and cannot be told to.
pub(in crate::template) fn replace_instructions(instructions: &mut Instructions<'_>) -> Result<(), Error> {
    check(instructions)?;
    let mut index = 0;
    while let Some(instruction) = instructions.get_mut(index) {
        let call = |name: &'static str, arguments| Instruction::CallFunction(name, Some(arguments));
        let replacement = match instruction {
            Instruction::Add => call(ADD, 2),
            Instruction::Rem => call(REMAINDER, 2),
            Instruction::StringConcat => call(JOIN, 2),
            Instruction::In => call(IN, 2),
            Instruction::Eq => call(EQUAL, 2),
            Instruction::Ne => call(NOT_EQUAL, 2),
            Instruction::Lt => call(LESS, 2),
            Instruction::Lte => call(LESS_EQUAL, 2),
            Instruction::Gt => call(GREATER, 2),
            Instruction::Gte => call(GREATER_EQUAL, 2),
            Instruction::GetItem => call(SUBSCRIPT, 2),
            Instruction::Slice => call(SLICE, 4),
            Instruction::ApplyFilter(name, arguments, local) if filters::WRAPPED.contains(name) => {
                Instruction::ApplyFilter(wrapped(name), *arguments, *local)
            }
            Instruction::GetAttr(name) => {
                match attributes().binary_search_by(|(_, known)| (*known).cmp(name)) {
                    Ok(found) => call(attributes()[found].0, 1),
                    Err(_) => {
                        index += 1;
                        continue;
                    }
                }
            }
            _ => {
                index += 1;
                continue;
            }
        };
        *instruction = replacement;
        index += 1;
    }
    if let Some(extended) = loops::with_calls(instructions) {
        *instructions = extended;
    }
    Ok(())
}

fn refused(reason: String) -> Error {
    Error::new(ErrorKind::SyntaxError, reason)
}

fn check(instructions: &Instructions<'_>) -> Result<(), Error> {
    let mut index = 0;
    let mut previous: Option<&Instruction<'_>> = None;
    while let Some(instruction) = instructions.get(index) {
        match instruction {
            Instruction::Lookup("self") => {
                return Err(refused("the variable self is not supported".to_owned()));
            }
            Instruction::PushAutoEscape => {
                return Err(refused("the tag autoescape is not supported".to_owned()));
            }
            Instruction::SetAttr(name) if name.starts_with('_') => {
                return Err(refused(format!(
                    "a namespace has no attribute {name}: names that begin with _ are kept back"
                )));
            }
            Instruction::BuildMacro(name, start, _) => {
                if let Some(Instruction::LoadConst(parameters)) = previous {
                    check_defaults(instructions, name, *start, parameters)?;
                }
            }
            _ => {}
        }
        previous = Some(instruction);
        index += 1;
    }
    Ok(())
}

/// A parameter's default that names another parameter: the engine computes defaults from the last to the first, so that it
/// would be undefined there.
fn check_defaults(
    instructions: &Instructions<'_>,
    name: &str,
    start: u32,
    parameters: &Value,
) -> Result<(), Error> {
    let parameters: Vec<Value> = parameters.try_iter()?.collect();
    let mut pending: Vec<&str> = parameters.iter().filter_map(Value::as_str).collect();
    let mut index = start;
    while let (Some(instruction), false) = (instructions.get(index), pending.is_empty()) {
        match instruction {
            Instruction::StoreLocal(stored) => pending.retain(|parameter| parameter != stored),
            Instruction::Lookup(used) if pending.contains(used) => {
                return Err(refused(format!(
                    "the macro {name} has a default that names its parameter {used}, which is not supported"
                )));
            }
            Instruction::Return => break,
            _ => {}
        }
        index += 1;
    }
    Ok(())
}
