//! Kinds of values that Python has and the engine lacks: views of dictionaries, generators, ranges and bound methods.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{
    DynObject, Enumerator, Kwargs, Object, ObjectRepr, Rest, Value, ValueKind, ValueOrKwargs,
};
use minijinja::{Environment, Error, State, functions};

use super::invalid;

/// As many numbers as Jinja's sandbox allows in a range.
const MAX_RANGE: u64 = 100_000;

/// `dict.keys()`, `dict.values()` and `dict.items()`.
#[derive(Debug)]
pub(super) struct DictView {
    pub(super) name: &'static str,
    pub(super) items: Vec<Value>,
}

impl Object for DictView {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items.clone())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.items.len())
    }
}

/// What filters such as `map` give: it is true, has no length, and can be gone through once.
#[derive(Debug)]
pub(super) struct Generator(Mutex<Vec<Value>>);

impl Generator {
    pub(super) fn of(items: Vec<Value>) -> Value {
        Value::from_object(Self(Mutex::new(items)))
    }
}

impl Object for Generator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        None
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<std::cmp::Ordering> {
        // Equal to itself alone. Comparing must not go through the items.
        let own = Arc::as_ptr(self) as usize;
        let other = other.downcast_ref::<Self>().map_or(0, |other| std::ptr::from_ref(other) as usize);
        Some(own.cmp(&other))
    }
}

/// `range(…)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    start: i64,
    stop: i64,
    step: i64,
}

impl Range {
    fn length(self) -> u64 {
        let (from, to) = if self.step > 0 { (self.start, self.stop) } else { (self.stop, self.start) };
        let distance = i128::from(to) - i128::from(from);
        let steps = if distance <= 0 { 0 } else { (distance - 1) / i128::from(self.step).abs() + 1 };
        u64::try_from(steps).unwrap_or(u64::MAX)
    }

    fn numbers(self) -> impl DoubleEndedIterator<Item = Value> + Send + Sync {
        (0..self.length()).map(move |index| Value::from(self.start + index as i64 * self.step))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "range({}, {}", self.start, self.stop)?;
        if self.step != 1 {
            write!(formatter, ", {}", self.step)?;
        }
        formatter.write_str(")")
    }
}

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let index = i64::try_from(key.clone()).ok().filter(|_| key.is_integer())?;
        let length = self.length() as i64;
        let index = if index < 0 { index + length } else { index };
        (0..length).contains(&index).then(|| Value::from(self.start + index * self.step))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::RevIter(Box::new(self.numbers()))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        usize::try_from(self.length()).ok()
    }
}

fn range(first: i64, second: Option<i64>, step: Option<i64>) -> Result<Value, Error> {
    let (start, stop) = second.map_or((0, first), |second| (first, second));
    let range = Range { start, stop, step: step.unwrap_or(1) };
    if range.step == 0 {
        return Err(invalid("range() must not have a step of zero"));
    }
    if range.length() > MAX_RANGE {
        return Err(invalid(format!("range() has more than {MAX_RANGE} numbers")));
    }
    Ok(Value::from_object(range))
}

/// A method that is named and not called. It is true and nothing else is known of it.
#[derive(Debug)]
pub(super) struct Method {
    receiver: Value,
    name: &'static str,
}

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, arguments: &[Value]) -> Result<Value, Error> {
        super::call_method(state, &self.receiver, self.name, arguments)
    }
}

const STRING_METHODS: [&str; 47] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];
const LIST_METHODS: [&str; 11] =
    ["append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort"];
const TUPLE_METHODS: [&str; 2] = ["count", "index"];
const DICT_METHODS: [&str; 11] =
    ["clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"];

/// The names of all methods of texts, lists and dictionaries; some stand in several lists.
pub(super) fn method_names() -> impl Iterator<Item = &'static str> {
    STRING_METHODS.into_iter().chain(LIST_METHODS).chain(DICT_METHODS)
}

/// The method of a value, where its type has one of that name.
pub(super) fn method(receiver: &Value, name: &str) -> Option<Value> {
    let names: &[&'static str] = match receiver.kind() {
        ValueKind::String => &STRING_METHODS,
        ValueKind::Seq if receiver.is_tuple() => &TUPLE_METHODS,
        ValueKind::Seq => &LIST_METHODS,
        ValueKind::Map if is_dict(receiver) => &DICT_METHODS,
        _ => &[],
    };
    let name = names.iter().find(|&&known| known == name)?;
    Some(Value::from_object(Method { receiver: receiver.clone(), name }))
}

/// Whether a value of the kind `map` is a dictionary, and not one of the engine's own: a namespace or a loop.
pub(super) fn is_dict(value: &Value) -> bool {
    value.kind() == ValueKind::Map
        && value.as_object().is_some_and(|object| {
            let name = object.type_name();
            !["Namespace", "Loop", "Macro"].iter().any(|own| name.ends_with(own))
        })
}

pub(super) fn is_namespace(value: &Value) -> bool {
    value.kind() == ValueKind::Map
        && value.as_object().is_some_and(|object| object.type_name().ends_with("Namespace"))
}

fn namespace(state: &mut State<'_, '_>, from: Option<Value>, named: Kwargs) -> Result<Value, Error> {
    let mut fields: Vec<(Value, Value)> = Vec::new();
    if let Some(from) = from {
        if from.is_none() {
            return Err(invalid("namespace: None has no fields"));
        }
        for field in from.try_iter()? {
            fields.push(match from.kind() {
                ValueKind::Map => (field.clone(), from.get_item(&field)?),
                _ => (field.get_item_by_index(0)?, field.get_item_by_index(1)?),
            });
        }
    }
    for name in named.args().map(str::to_owned).collect::<Vec<_>>() {
        fields.push((Value::from(name.clone()), named.get::<Value>(&name)?));
    }
    if let Some((name, _)) =
        fields.iter().find(|(name, _)| name.as_str().is_some_and(|name| name.starts_with('_')))
    {
        return Err(invalid(format!(
            "a namespace has no attribute {name}: names that begin with _ are kept back"
        )));
    }
    let fields = Value::from_pairs(fields.into_iter().map(|(name, value)| (name.to_string(), value)));
    Value::from_function(functions::namespace).call(state, &[fields])
}

fn dict(from: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let from = from.into_values();
    let arguments = super::arguments::Arguments::new(&from)?;
    let mut fields: Vec<(Value, Value)> = Vec::new();
    if let Some(first) = arguments.get(0, "")? {
        if first.is_none() {
            return Err(invalid("dict: None has no fields"));
        }
        for field in first.try_iter()? {
            fields.push(match first.kind() {
                ValueKind::Map => (field.clone(), first.get_item(&field)?),
                _ => (field.get_item_by_index(0)?, field.get_item_by_index(1)?),
            });
        }
    }
    if let Some(named) = from.last().filter(|last| last.is_kwargs()) {
        for name in named.try_iter()? {
            fields.push((name.clone(), named.get_item(&name)?));
        }
    }
    if from.len() > 2 || (from.len() == 2 && !from[1].is_kwargs()) {
        return Err(Error::from(minijinja::ErrorKind::TooManyArguments));
    }
    Ok(Value::from_pairs(fields))
}

pub(super) fn add_to(environment: &mut Environment<'static>) {
    // It prints the engine's insides, and Jinja has no such function.
    environment.remove_global("debug");
    environment.add_function("range", range);
    environment.add_function("namespace", namespace);
    environment.add_function("dict", dict);
}
