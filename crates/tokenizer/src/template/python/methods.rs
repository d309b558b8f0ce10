//! Methods of texts, lists and dictionaries. The engine charges only for what a call returns, so those that search cost
//! fuel for the text that they look at.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use super::arguments::Arguments;
use super::{lists, strings, values};

/// Searching and replacing take longer per byte than copying, so they cost one unit for so many bytes.
const SEARCHED_BYTES_PER_FUEL: usize = 16;

/// Calls a method that the engine does not know.
///
/// # Errors
/// [`ErrorKind::UnknownMethod`], and what Python raises.
pub(in crate::template) fn call(
    state: &mut State<'_, '_>,
    receiver: &Value,
    method: &str,
    values: &[Value],
) -> Result<Value, Error> {
    let arguments = Arguments::new(values)?;
    match receiver.kind() {
        ValueKind::String => {
            let text = receiver.as_str().unwrap_or_default();
            if method == "format" {
                return strings::format(text, values);
            }
            charge_search(state, text.len())?;
            strings::call(state, text, method, &arguments)
        }
        ValueKind::Seq => lists::call_list(state, receiver, method, &arguments),
        ValueKind::Map if values::is_dict(receiver) => lists::call_dict(state, receiver, method, &arguments),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

pub(super) fn charge_search(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    state.consume_fuel((bytes / SEARCHED_BYTES_PER_FUEL) as u64)
}
