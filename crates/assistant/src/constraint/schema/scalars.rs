//! The keywords about one value by itself: its type, its values, numbers and texts.

use serde_json::{Map, Value, json};

use super::check::AnswerCheck;
use super::rewrite::{NOT_TRIED, Rewriter};
use super::strings;
use super::{SchemaError, child};

/// The keywords that listed values must satisfy as well.
const BESIDE_VALUES: [&str; 10] = [
    "type",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "enum",
];
/// The largest whole number that every JSON reader keeps exact (RFC 8259, section 6).
const LARGEST_INTEGER: i64 = (1 << 53) - 1;

impl Rewriter<'_> {
    /// `type`, `enum`, `const`, and the keywords about numbers and texts. Returns what must hold beside them.
    pub(super) fn scalar_keywords(
        &mut self,
        entries: &Map<String, Value>,
        pointer: &str,
        is_value: bool,
        out: &mut Map<String, Value>,
    ) -> Result<Vec<Value>, SchemaError> {
        let values = match (entries.get("const"), entries.get("enum")) {
            (Some(value), _) => Some((std::slice::from_ref(value), "const")),
            (_, Some(Value::Array(values))) => Some((values.as_slice(), "enum")),
            _ => None,
        };
        if let Some((values, keyword)) = values {
            let kept = self.allowed_values(values, entries, &child(pointer, keyword), keyword)?;
            if kept.is_empty() {
                let reason = "none of these values satisfies the keywords beside it";
                return Err(SchemaError::impossible(child(pointer, keyword), reason));
            }
            out.insert("enum".to_owned(), Value::Array(kept));
            return Ok(Vec::new());
        }
        if let Some(types) = entries.get("type") {
            out.insert("type".to_owned(), types.clone());
        } else if let Some(implied) = implied_type(entries).filter(|_| is_value) {
            out.insert("type".to_owned(), json!(implied));
        }
        self.number_keywords(entries, pointer, out)?;
        self.text_keywords(entries, pointer, out)
    }

    fn number_keywords(
        &mut self,
        entries: &Map<String, Value>,
        pointer: &str,
        out: &mut Map<String, Value>,
    ) -> Result<(), SchemaError> {
        let mut limits = Map::new();
        for (limit, exclusive) in [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")] {
            let is_exclusive = entries.get(exclusive) == Some(&Value::Bool(true));
            for (keyword, name) in
                [(limit, if is_exclusive { exclusive } else { limit }), (exclusive, exclusive)]
            {
                if let Some(number) = entries.get(keyword).filter(|value| value.is_number()) {
                    limits.insert(name.to_owned(), number.clone());
                }
            }
        }
        let is_integer = entries.get("type").is_some_and(|name| name == "integer");
        if is_integer && limits.is_empty() {
            limits.insert("minimum".to_owned(), json!(-LARGEST_INTEGER));
            limits.insert("maximum".to_owned(), json!(LARGEST_INTEGER));
        }
        let kind = if is_integer { "integer" } else { "number" };
        let with_kind = |limits: &Map<String, Value>| {
            let mut schema = limits.clone();
            schema.insert("type".to_owned(), json!(kind));
            Value::Object(schema)
        };
        if let Some(step) = entries.get("multipleOf") {
            let mut stepped = limits.clone();
            stepped.insert("multipleOf".to_owned(), step.clone());
            if self.compiles(with_kind(&stepped)).is_ok() { limits = stepped } else { self.relax() }
        }
        if let Err(reason) = self.compiles(with_kind(&limits)) {
            if is_unsatisfiable(&reason) {
                let keyword = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
                let keyword =
                    keyword.into_iter().find(|keyword| entries.contains_key(*keyword)).unwrap_or("type");
                let reason = "no number satisfies this together with the keywords beside it";
                return Err(SchemaError::impossible(child(pointer, keyword), reason));
            }
            limits.clear();
            self.relax();
        }
        out.extend(limits);
        Ok(())
    }

    fn text_keywords(
        &mut self,
        entries: &Map<String, Value>,
        pointer: &str,
        out: &mut Map<String, Value>,
    ) -> Result<Vec<Value>, SchemaError> {
        let mut lengths = Map::new();
        for keyword in ["minLength", "maxLength"] {
            // A number that the format cannot hold as a length bounds nothing that a model could write.
            if let Some(length) = entries.get(keyword).and_then(Value::as_f64).filter(|length| *length <= 1e6)
            {
                lengths.insert(keyword.to_owned(), json!(length as u64));
            }
        }
        let mut text = lengths.clone();
        if let Some(format) = entries.get("format").filter(|format| format.is_string()) {
            text.insert("format".to_owned(), format.clone());
            if self.compiles_as_text(&text).is_err() {
                text.shift_remove("format");
            }
        }
        let mut more = Vec::new();
        if let Some(pattern) = entries.get("pattern").and_then(Value::as_str) {
            let patterns = strings::patterns(pattern);
            if patterns.is_relaxed {
                self.relax();
            }
            for expression in patterns.all {
                let mut tried = text.clone();
                tried.insert("pattern".to_owned(), json!(expression));
                match self.compiles_as_text(&tried) {
                    Err(reason) if is_unsatisfiable(&reason) && text.len() == lengths.len() => {
                        let reason = "no text satisfies this together with the keywords beside it";
                        return Err(SchemaError::impossible(child(pointer, "pattern"), reason));
                    }
                    Err(_) => self.relax(),
                    Ok(()) if out.contains_key("pattern") => more.push(json!({ "pattern": expression })),
                    Ok(()) => {
                        out.insert("pattern".to_owned(), json!(expression));
                    }
                }
            }
        } else if let Err(reason) = self.compiles_as_text(&text).or_else(unless_not_tried) {
            return Err(SchemaError::impossible(child(pointer, "minLength"), reason));
        }
        out.extend(text);
        Ok(more)
    }

    /// The values of `keyword` that satisfy the scalar keywords beside it.
    fn allowed_values(
        &mut self,
        values: &[Value],
        entries: &Map<String, Value>,
        pointer: &str,
        keyword: &str,
    ) -> Result<Vec<Value>, SchemaError> {
        /// The names that would be compared in the time in which a check is built.
        const BUILDING: usize = 50;
        let beside = entries
            .iter()
            .filter(|(beside, _)| BESIDE_VALUES.contains(&beside.as_str()) && beside.as_str() != keyword);
        let beside: Map<String, Value> =
            beside.map(|(keyword, value)| (keyword.clone(), value.clone())).collect();
        if beside.is_empty() {
            return Ok(values.to_vec());
        }
        self.budget.look(values.len() + BUILDING, pointer)?;
        let check = AnswerCheck::new(&Value::Object(beside), &mut self.budget.effort).ok();
        let are_valid = check.and_then(|check| check.are_valid(values, &mut self.budget.effort));
        let Some(are_valid) = are_valid else {
            self.relax();
            return Ok(values.to_vec());
        };
        let kept = values.iter().zip(are_valid).filter(|(_, is_valid)| *is_valid);
        Ok(kept.map(|(value, _)| value.clone()).collect())
    }

    fn compiles_as_text(&mut self, keywords: &Map<String, Value>) -> Result<(), String> {
        let mut schema = keywords.clone();
        schema.insert("type".to_owned(), json!("string"));
        self.compiles(Value::Object(schema))
    }
}

fn is_unsatisfiable(reason: &str) -> bool {
    reason.contains("Unsatisfiable") || reason.contains("empty")
}

/// Lengths that have not been tried are kept: the whole grammar is compiled in any case.
fn unless_not_tried(reason: String) -> Result<(), String> {
    if reason == NOT_TRIED { Ok(()) } else { Err(reason) }
}

/// The type that a schema without `type` is about, if it is about one.
fn implied_type(entries: &Map<String, Value>) -> Option<&'static str> {
    const ABOUT: [(&str, &[&str]); 3] = [
        (
            "object",
            &[
                "properties",
                "patternProperties",
                "additionalProperties",
                "required",
                "propertyNames",
                "minProperties",
            ],
        ),
        ("array", &["items", "prefixItems", "minItems", "contains", "uniqueItems"]),
        ("string", &["pattern", "minLength", "maxLength"]),
    ];
    let is_about = |keywords: &[&str]| keywords.iter().any(|keyword| entries.contains_key(*keyword));
    let mut about = ABOUT.into_iter().filter(|(_, keywords)| is_about(keywords)).map(|(name, _)| name);
    let first = about.next()?;
    let has_others =
        ["allOf", "anyOf", "oneOf", "not", "if", "$ref"].iter().any(|keyword| entries.contains_key(*keyword));
    (about.next().is_none() && (!has_others || first == "object")).then_some(first)
}
