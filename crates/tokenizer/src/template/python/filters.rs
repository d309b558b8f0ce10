//! Filters that Jinja has and the engine lacks, or has otherwise. What Jinja has and is not here is unknown to the engine,
//! which says so by name.

use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State};

use super::arguments::Arguments;
use super::operators::BYTES_PER_FUEL;
use super::strings::{self, soft_text};
use super::text::{Text, plain};
use super::values::{Generator, Range, is_dict};
use super::{invalid, json, operators, print, rewrite, type_name, values};

/// Filters of the engine that go through their value and give a generator in Jinja.
const GENERATING: [&str; 9] =
    ["map", "select", "reject", "selectattr", "rejectattr", "unique", "batch", "slice", "items"];
/// Filters of those called through functions here that take `None`.
const FOR_NONE_TOO: [&str; 6] = ["map", "select", "reject", "selectattr", "rejectattr", "items"];
/// Filters whose arguments the engine takes by name only, with their names in Jinja's order.
const NAMED: [(&str, &[&str]); 6] = [
    ("sort", &["reverse", "case_sensitive", "attribute"]),
    ("dictsort", &["case_sensitive", "by", "reverse"]),
    ("unique", &["case_sensitive", "attribute"]),
    ("min", &["case_sensitive", "attribute"]),
    ("max", &["case_sensitive", "attribute"]),
    ("groupby", &["attribute", "default", "case_sensitive"]),
];

/// Filters of the engine that are called through functions here; `rewrite` puts those in their places.
pub(super) const WRAPPED: [&str; 17] = [
    "map",
    "select",
    "reject",
    "selectattr",
    "rejectattr",
    "unique",
    "batch",
    "slice",
    "items",
    "sort",
    "dictsort",
    "min",
    "max",
    "groupby",
    "last",
    "first",
    "sum",
];

pub(super) fn add_to(environment: &mut Environment<'static>) {
    // Not in Jinja; lists joined by `chain` are views that can be made exponentially long, and the time of `pprint` grows
    // with the third power of the depth of a value.
    for name in ["chain", "pprint", "bool", "lines", "split", "zip"] {
        environment.remove_filter(name);
    }
    for name in WRAPPED {
        environment.add_filter(
            rewrite::wrapped(name),
            move |state: &mut State<'_, '_>, values: Rest<ValueOrKwargs>| {
                wrapped(state, name, &values.into_values())
            },
        );
    }
    environment.add_filter("tojson", json::to_json);
    environment.add_filter("string", print::to_text);
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_filter("list", list);
    environment.add_filter("reverse", reverse);
    environment.add_filter("replace", replace);
    environment.add_filter("trim", trim);
    environment.add_filter("upper", |state: &State<'_, '_>, value: &Value| cased(state, value, "upper"));
    environment.add_filter("lower", |state: &State<'_, '_>, value: &Value| cased(state, value, "lower"));
    environment
        .add_filter("capitalize", |state: &State<'_, '_>, value: &Value| cased(state, value, "capitalize"));
    environment.add_filter("join", join);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("int", integer);
    environment.add_filter("float", float);
    environment.add_filter("attr", attribute);
    environment.add_filter("escape", escape);
    environment.add_filter("e", escape);
    environment.add_filter("forceescape", |state: &State<'_, '_>, value: &Value| -> Result<Value, Error> {
        Ok(Value::from_safe_string(escaped(&soft_text(state, value)?)))
    });
    environment.add_filter("indent", indent);
    environment.add_filter("center", center);
    environment.add_filter("wordcount", word_count);
    environment.add_filter("truncate", truncate);
}

/// The engine's filter with Python's arguments and results.
fn wrapped(state: &mut State<'_, '_>, name: &str, values: &[Value]) -> Result<Value, Error> {
    let (value, rest) = values.split_first().ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
    // Jinja's `map`, `select` and their like give nothing for every value that counts as false, and so does the engine.
    if value.is_none() && FOR_NONE_TOO.iter().all(|taking| *taking != name) {
        return Err(invalid(format!("{name}: None has no items")));
    }
    if name == "last" && operators::has_no_text(value).is_some() {
        return Err(invalid(format!("{name}: not of {}", type_name(value))));
    }
    if name == "sort" {
        check_order(state, value, rest)?;
    }
    let result = match NAMED.iter().find(|(named, _)| *named == name) {
        Some((_, names)) => {
            let named = Arguments::new(rest)?.by_name(names)?;
            state.apply_filter(name, &[value.clone(), Value::from(named)])?
        }
        None => state.apply_filter(name, values)?,
    };
    if GENERATING.contains(&name) {
        return Ok(Generator::of(result.try_iter()?.collect()));
    }
    Ok(result)
}

/// What is sorted must have an order: Python refuses to compare a number with a text.
fn check_order(state: &mut State<'_, '_>, value: &Value, rest: &[Value]) -> Result<(), Error> {
    let arguments = Arguments::new(rest)?;
    if arguments.given(2, "attribute")?.is_some() || value.downcast_object_ref::<Range>().is_some() {
        return Ok(());
    }
    if value.kind() == ValueKind::Seq {
        state.consume_fuel(value.len().unwrap_or(0) as u64 / 16)?;
        let mut previous: Option<Value> = None;
        for item in value.try_iter()? {
            if let Some(previous) = &previous {
                operators::compare("sort", previous, &item)?;
            }
            previous = Some(item);
        }
    }
    Ok(())
}

fn length(value: &Value) -> Result<usize, Error> {
    if let Some(text) = value.as_str() {
        return Ok(Text::new(text).length());
    }
    if value.is_undefined() {
        return Ok(0);
    }
    let counted =
        matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable | ValueKind::Bytes);
    value
        .len()
        .filter(|_| counted)
        .ok_or_else(|| invalid(format!("length: {} has no length", type_name(value))))
}

pub(super) fn list(state: &State<'_, '_>, value: &Value) -> Result<Vec<Value>, Error> {
    if let Some(text) = value.as_str() {
        state.consume_fuel(text.len() as u64)?;
        let text = Text::new(text);
        return Ok(text.characters().into_iter().map(|range| Value::from(text.part(range))).collect());
    }
    let mut items = Vec::new();
    if !value.is_undefined() {
        if value.is_none() {
            return Err(invalid("list: None has no items"));
        }
        for item in value.try_iter()? {
            state.consume_fuel(1)?;
            items.push(item);
        }
    }
    Ok(items)
}

fn reverse(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    let mut items = list(state, value)?;
    items.reverse();
    if value.as_str().is_some() {
        return Ok(Value::from(items.iter().filter_map(Value::as_str).collect::<String>()));
    }
    Ok(Generator::of(items))
}

fn replace(state: &State<'_, '_>, value: &Value, rest: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let rest = rest.into_values();
    let arguments = Arguments::new(&rest)?;
    let part = |position, name| -> Result<String, Error> {
        let value = arguments.get(position, name)?.ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
        soft_text(state, &value)
    };
    let (old, new) = (part(0, "old")?, part(1, "new")?);
    let count = arguments.integer(2, "count")?;
    arguments.finish(3)?;
    let text = soft_text(state, value)?;
    strings::replace(state, &Text::new(&text), &old, &new, count).map(Value::from)
}

fn trim(state: &State<'_, '_>, value: &Value, rest: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let rest = rest.into_values();
    let arguments = Arguments::new(&rest)?;
    let characters = arguments.text(0, "chars")?;
    arguments.finish(1)?;
    let marked = soft_text(state, value)?;
    let text = Text::new(&marked);
    Ok(Value::from(text.part(strings::stripped(&text, characters.as_deref(), "strip"))))
}

fn cased(state: &State<'_, '_>, value: &Value, method: &str) -> Result<Value, Error> {
    let text = soft_text(state, value)?;
    strings::call(state, &text, method, &Arguments::new(&[])?)
}

fn join(state: &mut State<'_, '_>, value: &Value, rest: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let rest = rest.into_values();
    let arguments = Arguments::new(&rest)?;
    let separator = match arguments.get(0, "d")? {
        Some(separator) => soft_text(state, &separator)?,
        None => String::new(),
    };
    let attribute = arguments.given(1, "attribute")?;
    arguments.finish(2)?;
    let items = match attribute {
        Some(attribute) => {
            let named: Kwargs = [("attribute", attribute)].into_iter().collect();
            state.apply_filter("map", &[value.clone(), Value::from(named)])?.try_iter()?.collect()
        }
        None => list(state, value)?,
    };
    let mut joined = String::new();
    for (index, item) in items.iter().enumerate() {
        let separator = if index == 0 { "" } else { separator.as_str() };
        let text = soft_text(state, item)?;
        state.consume_fuel(1 + ((separator.len() + text.len()) / BYTES_PER_FUEL) as u64)?;
        joined.push_str(separator);
        joined.push_str(&text);
    }
    Ok(joined)
}

fn default(value: &Value, rest: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let rest = rest.into_values();
    let arguments = Arguments::new(&rest)?;
    let default = arguments.get(0, "default_value")?.unwrap_or_else(|| Value::from(""));
    let falsy_too = arguments.flag(1, "boolean")?;
    arguments.finish(2)?;
    let replaced = value.is_undefined() || (falsy_too && !value.is_true());
    Ok(if replaced { default } else { value.clone() })
}

/// The number that a text writes as Python's `int` reads it, with the digits of a base.
fn parse_integer(text: &str, base: u32) -> Option<i128> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let prefixes: &[&str] = match base {
        16 => &["0x", "0X"],
        8 => &["0o", "0O"],
        2 => &["0b", "0B"],
        _ => &[],
    };
    let digits = prefixes.iter().find_map(|prefix| digits.strip_prefix(prefix)).unwrap_or(digits);
    let separated = digits.starts_with('_') || digits.ends_with('_') || digits.contains("__");
    if separated || digits.is_empty() || digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from_str_radix(&digits.replace('_', ""), base).ok()?;
    Some(if negative { -value } else { value })
}

/// The number that a text writes as Python's `float` reads it.
fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim();
    let digits = text.trim_start_matches(['+', '-']);
    let separated = digits.starts_with('_') || digits.ends_with('_') || digits.contains("__");
    if separated || text.len() > digits.len() + 1 {
        return None;
    }
    text.replace('_', "").parse().ok()
}

fn integer(value: &Value, rest: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let rest = rest.into_values();
    let arguments = Arguments::new(&rest)?;
    let default = arguments.get(0, "default")?.unwrap_or_else(|| Value::from(0));
    let base = arguments.integer(1, "base")?.unwrap_or(10);
    arguments.finish(2)?;
    let base = u32::try_from(base)
        .ok()
        .filter(|base| (2..=36).contains(base))
        .ok_or_else(|| invalid("int: the base must be from 2 to 36"))?;
    let truncated = |number: f64| {
        (number.is_finite() && number.abs() < 1e38).then(|| Value::from(number.trunc() as i128))
    };
    let integer = match value.kind() {
        ValueKind::Bool => Some(Value::from(i64::from(value.is_true()))),
        ValueKind::Number if value.is_integer() => Some(value.clone()),
        ValueKind::Number => truncated(f64::try_from(value.clone())?),
        ValueKind::String => {
            let text = plain(value.as_str().unwrap_or_default()).into_owned();
            parse_integer(&text, base).map(Value::from).or_else(|| parse_float(&text).and_then(truncated))
        }
        ValueKind::Undefined => return Err(Error::from(ErrorKind::UndefinedError)),
        _ => None,
    };
    Ok(integer.unwrap_or(default))
}

fn float(value: &Value, rest: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let rest = rest.into_values();
    let arguments = Arguments::new(&rest)?;
    let default = arguments.get(0, "default")?.unwrap_or_else(|| Value::from(0.0));
    arguments.finish(1)?;
    let float = match value.kind() {
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => Some(f64::try_from(value.clone())?),
        ValueKind::String => parse_float(&plain(value.as_str().unwrap_or_default())),
        ValueKind::Undefined => return Err(Error::from(ErrorKind::UndefinedError)),
        _ => None,
    };
    Ok(float.map_or(default, Value::from))
}

/// An attribute in Python's sense: a dictionary has only methods.
fn attribute(value: &Value, name: &str) -> Result<Value, Error> {
    if let Some(method) = values::method(value, name) {
        return Ok(method);
    }
    if is_dict(value) || value.is_undefined() {
        return Ok(Value::UNDEFINED);
    }
    Ok(value.get_attr(name).unwrap_or(Value::UNDEFINED))
}

pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&#39;"),
            '"' => escaped.push_str("&#34;"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn escape(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    if value.is_safe() {
        return Ok(value.clone());
    }
    let text = soft_text(state, value)?;
    state.consume_fuel((text.len() / 16) as u64)?;
    Ok(Value::from_safe_string(escaped(&text)))
}

fn indent(state: &State<'_, '_>, value: &Value, rest: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let rest = rest.into_values();
    let arguments = Arguments::new(&rest)?;
    let width = arguments.given(0, "width")?;
    let (first, blank) = (arguments.flag(1, "first")?, arguments.flag(2, "blank")?);
    arguments.finish(3)?;
    let indention = match width {
        None => " ".repeat(4),
        Some(width) => match width.as_str() {
            Some(text) => text.to_owned(),
            None => {
                let width = usize::try_from(width)?;
                state.consume_fuel((width / BYTES_PER_FUEL) as u64)?;
                " ".repeat(width)
            }
        },
    };
    let marked = soft_text(state, value)? + "\n";
    let text = Text::new(&marked);
    let lines = strings::lines(&text, false);
    state.consume_fuel((lines.len().saturating_mul(indention.len() + 1) / BYTES_PER_FUEL) as u64)?;
    let mut indented = String::new();
    for (index, line) in lines.into_iter().enumerate() {
        let indents = if index == 0 { first } else { blank || !line.is_empty() };
        indented.push_str(if index == 0 { "" } else { "\n" });
        indented.push_str(if indents { &indention } else { "" });
        indented.push_str(text.part(line));
    }
    Ok(indented)
}

fn center(state: &State<'_, '_>, value: &Value, width: Option<i64>) -> Result<Value, Error> {
    let text = soft_text(state, value)?;
    strings::call(state, &text, "center", &Arguments::new(&[Value::from(width.unwrap_or(80))])?)
}

fn word_count(state: &State<'_, '_>, value: &Value) -> Result<usize, Error> {
    let text = soft_text(state, value)?;
    state.consume_fuel((text.len() / 16) as u64)?;
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    Ok(plain(&text).split(|character| !is_word(character)).filter(|word| !word.is_empty()).count())
}

fn truncate(state: &State<'_, '_>, value: &Value, rest: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let rest = rest.into_values();
    let arguments = Arguments::new(&rest)?;
    let length = arguments.integer(0, "length")?.unwrap_or(255);
    let kill_words = arguments.flag(1, "killwords")?;
    let end = arguments.text(2, "end")?.unwrap_or_else(|| "...".to_owned());
    let leeway = arguments.integer(3, "leeway")?.unwrap_or(5);
    arguments.finish(4)?;
    let room = length - Text::new(&end).length() as i64;
    if room < 0 || leeway < 0 {
        return Err(invalid("truncate: the length is less than that of the end, or the leeway is negative"));
    }
    let marked = soft_text(state, value)?;
    let text = Text::new(&marked);
    if text.length() as i64 <= length.saturating_add(leeway) {
        return Ok(marked);
    }
    let cut = text.byte_of(room as usize);
    let kept = match text.plain()[..cut].rfind(' ') {
        Some(space) if !kill_words => text.part(0..space),
        _ => text.part(0..cut),
    };
    Ok(format!("{kept}{end}"))
}
