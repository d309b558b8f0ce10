//! The filter `tojson` as Hugging Face defines it: Python's `json.dumps` with `ensure_ascii=False` and nothing escaped for
//! HTML. This file does not know conversations.

use minijinja::value::{Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Error, State};

use super::arguments::Arguments;
use super::invalid;
use super::print::{check_depth, float_text};
use super::values::is_namespace;
use crate::template::guard::{BREAK, LITERAL, MARK, unguard};

/// An indent beyond this is a mistake or an attack.
const MAX_INDENT: usize = 16;
const MAX_SEPARATOR_BYTES: usize = 16;

/// `value | tojson(ensure_ascii, indent=…, separators=…, sort_keys=…)`.
pub(super) fn to_json(
    state: &State<'_, '_>,
    value: &Value,
    options: Rest<ValueOrKwargs>,
) -> Result<String, Error> {
    let options = options.into_values();
    let options = Arguments::new(&options)?;
    let ensure_ascii = options.flag(0, "ensure_ascii")?;
    let indent = indent_of(options.given(1, "indent")?)?;
    let separators = options.given(2, "separators")?;
    let sort_keys = options.flag(3, "sort_keys")?;
    options.finish(4)?;
    let (item_separator, key_separator) = match separators {
        Some(separators) => (separator(&separators, 0)?, separator(&separators, 1)?),
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let mut writer = JsonWriter {
        state,
        ensure_ascii,
        indent,
        item_separator,
        key_separator,
        sort_keys,
        json: String::new(),
    };
    writer.write(value, 0)?;
    Ok(writer.json)
}

fn indent_of(indent: Option<Value>) -> Result<Option<String>, Error> {
    let Some(indent) = indent else { return Ok(None) };
    let text = match indent.as_str() {
        Some(text) => text.to_owned(),
        None => " ".repeat(usize::try_from(indent)?.min(MAX_INDENT + 1)),
    };
    if text.len() > MAX_INDENT {
        return Err(invalid(format!("tojson: the indent is longer than {MAX_INDENT}")));
    }
    Ok(Some(text))
}

fn separator(separators: &Value, index: usize) -> Result<String, Error> {
    let separator = separators.get_item_by_index(index)?;
    match separator.as_str() {
        Some(text) if text.len() <= MAX_SEPARATOR_BYTES => Ok(text.to_owned()),
        _ => Err(invalid("tojson: separators must be two short texts".to_owned())),
    }
}

struct JsonWriter<'a, 'template, 'environment> {
    state: &'a State<'template, 'environment>,
    ensure_ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
    json: String,
}

impl JsonWriter<'_, '_, '_> {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        check_depth(depth)?;
        let before = self.json.len();
        match value.kind() {
            ValueKind::None => self.json.push_str("null"),
            ValueKind::Bool => self.json.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.json.push_str(&number_text(value)?),
            ValueKind::String => self.write_string(value.as_str().unwrap_or_default()),
            ValueKind::Map if !is_namespace(value) => self.write_map(value, depth)?,
            ValueKind::Seq => {
                // Lists can be views of lists and far longer than the memory that they take.
                let mut items = Vec::new();
                for item in value.try_iter()? {
                    self.state.consume_fuel(1)?;
                    items.push(item);
                }
                self.write_list('[', ']', depth, &items, |writer, item| writer.write(item, depth + 1))?;
            }
            _ => {
                let kind = super::type_name(value);
                return Err(invalid(format!("tojson: a value of the type {kind} cannot be written as JSON")));
            }
        }
        self.state.consume_fuel(1 + (self.json.len() - before) as u64 / 64)
    }

    fn write_map(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut fields = Vec::new();
        for key in value.try_iter()? {
            self.state.consume_fuel(1)?;
            let text = match key.kind() {
                ValueKind::String => key.as_str().unwrap_or_default().to_owned(),
                ValueKind::Bool => if key.is_true() { "true" } else { "false" }.to_owned(),
                ValueKind::None => "null".to_owned(),
                ValueKind::Number => number_text(&key)?,
                other => {
                    return Err(invalid(format!("tojson: a key of kind {other} cannot be written as JSON")));
                }
            };
            fields.push((text, value.get_item(&key)?));
        }
        if self.sort_keys {
            fields.sort_by_cached_key(|(key, _)| unguard(key).text);
        }
        self.write_list('{', '}', depth, &fields, |writer, (key, value)| {
            writer.write_string(key);
            let separator = writer.key_separator.clone();
            writer.json.push_str(&separator);
            writer.write(value, depth + 1)
        })
    }

    fn write_list<T>(
        &mut self,
        open: char,
        close: char,
        depth: usize,
        items: &[T],
        mut write_item: impl FnMut(&mut Self, &T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.json.push(open);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                let separator = self.item_separator.clone();
                self.json.push_str(&separator);
            }
            self.new_line(depth + 1);
            write_item(self, item)?;
        }
        if !items.is_empty() {
            self.new_line(depth);
        }
        self.json.push(close);
        Ok(())
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.json.push('\n');
            self.json.push_str(&indent.repeat(depth));
        }
    }

    fn write_string(&mut self, text: &str) {
        self.json.push('"');
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '"' => self.json.push_str("\\\""),
                '\\' => self.json.push_str("\\\\"),
                '\n' => self.json.push_str("\\n"),
                '\r' => self.json.push_str("\\r"),
                '\t' => self.json.push_str("\\t"),
                '\u{8}' => self.json.push_str("\\b"),
                '\u{C}' => self.json.push_str("\\f"),
                control if (control as u32) < 0x20 => {
                    self.json.push_str(&format!("\\u{:04x}", control as u32))
                }
                // Marks of the guard are not text: a break passes as it is, an escaped character is written once.
                MARK if self.ensure_ascii && characters.peek() == Some(&BREAK) => {
                    self.json.extend([MARK, BREAK]);
                    characters.next();
                }
                MARK if self.ensure_ascii && characters.peek() == Some(&LITERAL) => {
                    self.write_ascii(MARK);
                    characters.next();
                }
                other if self.ensure_ascii && !other.is_ascii() => self.write_ascii(other),
                other => self.json.push(other),
            }
        }
        self.json.push('"');
    }

    fn write_ascii(&mut self, character: char) {
        for unit in character.encode_utf16(&mut [0; 2]) {
            self.json.push_str(&format!("\\u{unit:04x}"));
        }
    }
}

fn number_text(value: &Value) -> Result<String, Error> {
    if value.is_integer() {
        return Ok(value.to_string());
    }
    let number = f64::try_from(value.clone())?;
    Ok(match () {
        () if number.is_nan() => "NaN".to_owned(),
        () if number.is_infinite() => if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        () => float_text(number),
    })
}
