//! How a document is put together from named fields: `<|title|>{title}\n{lines}`.

use serde_json::{Map, Value};

use super::Piece;
use crate::CorpusError;

/// Texts and fields, in order. Control tokens count in the texts, and never in what a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentFormat {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Field { path: Vec<String>, optional: bool },
}

impl DocumentFormat {
    /// One field is the whole document.
    pub fn field(name: &str) -> DocumentFormat {
        DocumentFormat { parts: vec![Part::Field { path: vec![name.to_owned()], optional: false }] }
    }

    /// Reads a format: `{name}` is a field, `{a.b}` a field of a field, `{name?}` one that may be missing; `{{` and `}}` are
    /// braces, `\n`, `\t` and `\\` what they are elsewhere.
    ///
    /// # Errors
    /// [`CorpusError::Setting`] with the place of what cannot be read, or when there is no field at all.
    pub fn parse(text: &str) -> Result<DocumentFormat, CorpusError> {
        let bad = |reason: String| CorpusError::Setting { field: "format", reason };
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut characters = text.char_indices().peekable();
        while let Some((place, character)) = characters.next() {
            match character {
                '\\' => match characters.next() {
                    Some((_, 'n')) => literal.push('\n'),
                    Some((_, 't')) => literal.push('\t'),
                    Some((_, '\\')) => literal.push('\\'),
                    _ => {
                        return Err(bad(format!(
                            "after the backslash at byte {place} comes n, t or a backslash"
                        )));
                    }
                },
                '{' | '}' if characters.peek().is_some_and(|&(_, next)| next == character) => {
                    characters.next();
                    literal.push(character);
                }
                '{' => {
                    let rest = &text[place + 1..];
                    let length = rest.find('}').ok_or_else(|| {
                        bad(format!("the brace at byte {place} is not closed; {{{{ is a brace itself"))
                    })?;
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(field_part(&rest[..length]).map_err(bad)?);
                    while characters.next_if(|&(at, _)| at <= place + 1 + length).is_some() {}
                }
                '}' => {
                    return Err(bad(format!(
                        "the brace at byte {place} closes nothing; }}}} is a brace itself"
                    )));
                }
                other => literal.push(other),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        if !parts.iter().any(|part| matches!(part, Part::Field { .. })) {
            return Err(bad("it names no field, such as {text}".to_owned()));
        }
        Ok(DocumentFormat { parts })
    }

    /// The first names of all fields, which are the columns of a table.
    pub fn columns(&self) -> Vec<&str> {
        self.parts
            .iter()
            .filter_map(|part| match part {
                Part::Field { path, .. } => path.first().map(String::as_str),
                Part::Literal(_) => None,
            })
            .collect()
    }

    /// Fills the format in.
    ///
    /// # Errors
    /// The field that is missing or holds an object, in words.
    pub fn fill(&self, fields: &Map<String, Value>) -> Result<Vec<Piece>, String> {
        let mut pieces = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            match part {
                Part::Literal(text) => pieces.push(Piece { text: text.clone(), is_literal: true }),
                Part::Field { path, optional } => {
                    let mut text = String::new();
                    match value_at(fields, path) {
                        Some(value) => append(value, &mut text)
                            .map_err(|what| format!("the field `{}` holds {what}", path.join(".")))?,
                        None if *optional => {}
                        None => return Err(missing(fields, path)),
                    }
                    pieces.push(Piece { text, is_literal: false });
                }
            }
        }
        Ok(pieces)
    }
}

fn field_part(name: &str) -> Result<Part, String> {
    let (name, optional) = match name.strip_suffix('?') {
        Some(name) => (name, true),
        None => (name, false),
    };
    let path: Vec<String> = name.split('.').map(str::to_owned).collect();
    if path.iter().any(String::is_empty) || name.contains('{') {
        return Err(format!("{{{name}}} names no field"));
    }
    Ok(Part::Field { path, optional })
}

fn value_at<'a>(fields: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    // A name with a dot in it goes before a field of a field.
    let value = fields.get(&path.join(".")).or_else(|| {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(fields.get(first)?, |value, name| value.get(name))
    });
    value.filter(|value| !value.is_null())
}

/// Texts as they are, numbers as written, the elements of lists in lines of their own.
fn append(value: &Value, text: &mut String) -> Result<(), &'static str> {
    match value {
        Value::String(value) => text.push_str(value),
        Value::Number(_) if is_beyond_whole_numbers(value) => {
            return Err(
                "a number beyond 64 bits, of which not every digit is kept: write it as text, in quotes",
            );
        }
        Value::Number(value) => text.push_str(&value.to_string()),
        Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    text.push('\n');
                }
                append(value, text)?;
            }
        }
        Value::Null => return Err("a list with null in it, not only texts"),
        Value::Object(_) => return Err("an object, not a text"),
    }
    Ok(())
}

/// Whether this can be a whole number that its file had with more digits than a number of 64 bits keeps.
pub(super) fn is_beyond_whole_numbers(value: &Value) -> bool {
    const BELOW: f64 = i64::MIN as f64;
    const ABOVE: f64 = u64::MAX as f64;
    match value {
        Value::Number(number) if number.is_f64() => {
            number.as_f64().is_some_and(|number| number <= BELOW || number >= ABOVE)
        }
        _ => false,
    }
}

fn missing(fields: &Map<String, Value>, path: &[String]) -> String {
    let mut names: Vec<&str> = fields.keys().map(String::as_str).take(20).collect();
    names.sort_unstable();
    format!("the field `{}` is missing (there are {})", path.join("."), names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(format: &str, json: &str) -> Result<String, String> {
        let fields: Map<String, Value> = serde_json::from_str(json).expect("an object");
        let pieces = DocumentFormat::parse(format).expect("a format").fill(&fields)?;
        Ok(pieces
            .iter()
            .map(|piece| if piece.is_literal { format!("[{}]", piece.text) } else { piece.text.clone() })
            .collect())
    }

    #[test]
    fn fields_lists_numbers_and_optional_fields_are_filled_in() {
        let poem = r#"{"title": "日詩", "lines": ["一", "二"], "year": 960, "a": {"b": "c"}, "x.y": "z", "n": null}"#;
        assert_eq!(filled("<|t|>{title}\\n{lines}", poem).expect("text"), "[<|t|>]日詩[\n]一\n二");
        assert_eq!(filled("{year}{{}}{a.b}{x.y}{n?}{none?}", poem).expect("text"), "960[{}]cz");
        let error = filled("{none}", poem).expect_err("missing");
        assert!(error.contains("`none` is missing") && error.contains("lines"), "{error}");
        assert!(filled("{n}", poem).expect_err("null").contains("missing"));
        assert!(filled("{a}", poem).expect_err("an object").contains("an object"));
    }

    /// Regression: the digits of a whole number of more than 64 bits were rounded without a word.
    #[test]
    fn a_number_whose_digits_are_lost_is_refused() {
        let numbers = r#"{"least": -9223372036854775808, "most": 18446744073709551615, "share": 0.1,
            "above": 18446744073709551616, "below": -9223372036854775809, "id": 123456789012345678901,
            "text": "123456789012345678901", "list": [1, 123456789012345678901]}"#;
        let kept = filled("{least} {most} {share} {text}", numbers).expect("numbers");
        assert_eq!(kept, "-9223372036854775808[ ]18446744073709551615[ ]0.1[ ]123456789012345678901");
        for field in ["above", "below", "id", "list"] {
            let error = filled(&format!("{{{field}}}"), numbers).expect_err(field);
            assert!(error.contains(&format!("`{field}` holds a number beyond 64 bits")), "{error}");
        }
    }

    #[test]
    fn a_format_that_cannot_be_read_says_where() {
        for (format, expected) in [
            ("{text", "byte 0 is not closed"),
            ("a}b", "byte 1 closes nothing"),
            ("text", "names no field"),
            ("{}", "names no field"),
            ("{a..b}", "names no field"),
            ("{a}\\x", "byte 3"),
        ] {
            let error = DocumentFormat::parse(format).expect_err(format).to_string();
            assert!(error.contains(expected), "{format}: {error}");
        }
    }
}
