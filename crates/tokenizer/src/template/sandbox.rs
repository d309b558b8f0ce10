//! The engine that runs templates: Jinja as Hugging Face configures it, Python's methods, and a budget of work.
//! This file does not know conversations.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;

use minijinja::machinery::{self, CompiledTemplate, TemplateConfig};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind};
use time::OffsetDateTime;

use super::guard::{GENERATION_END, GENERATION_START, Guard, MARK};
use super::{Sources, python, source, strftime};
use crate::TemplateError;

/// Work that every rendering may do, in the engine's units: one instruction, or 64 bytes of data. A unit takes 20 to 200
/// nanoseconds, so a hostile template is stopped after a few milliseconds in an ordinary conversation.
const BASE_FUEL: u64 = 20_000;
/// More for every value in the conversation (a message has about four), so that long ones render.
const FUEL_PER_VALUE: u64 = 120;
/// One unit more for so many bytes of the conversation.
const INPUT_BYTES_PER_FUEL: u64 = 4;
/// Upper limit of the budget: bounds time and memory for any conversation.
const MAX_FUEL: u64 = 3_000_000;
/// Bytes of code between two braces, texts in quotes not counted. The engine walks a chain such as `1 + 1 + 1 …` with one
/// stack frame per link; real templates stay below a few hundred bytes.
const MAX_TAG_BYTES: usize = 2048;
/// The engine compiles a chain of `elif` in quadratic time; real templates have a handful.
const MAX_ELIFS: usize = 500;
/// Depth of macros and includes; real templates use fewer than ten.
const RECURSION_LIMIT: usize = 100;
/// Address space for the engine's stack; only what is used takes memory.
pub(super) const STACK_BYTES: usize = 256 << 20;
/// A rendering that used more than this may have nested values deeply enough to touch megabytes of the stack.
const WEARING_FUEL: u64 = 200_000;
/// How the engine calls the template in its messages.
const NAME: &str = "chat_template";
/// Prefix of the error that `raise_exception` raises.
const REFUSAL: &str = "raise_exception: ";

/// An environment without templates.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_recursion_limit(RECURSION_LIMIT);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(python::call_method);
    environment.set_formatter(python::write_value);
    python::add_to(&mut environment);
    environment.add_filter(source::FILTER, |text: &str| {
        format!("{MARK}{GENERATION_START}{text}{MARK}{GENERATION_END}")
    });
    environment.add_function("raise_exception", raise_exception);
    environment
}

/// Compiles a template as Hugging Face configures Jinja.
///
/// # Errors
/// The engine's, with the line.
pub(super) fn compile<'source>(
    name: &'source str,
    source: &'source str,
) -> Result<CompiledTemplate<'source>, Error> {
    check_tags(source)?;
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    let config =
        TemplateConfig { syntax_config: syntax, default_auto_escape: Arc::new(|_| AutoEscape::None) };
    let mut compiled = CompiledTemplate::new(name, source, &config)?;
    python::replace_instructions(&mut compiled.instructions)?;
    compiled.blocks.values_mut().try_for_each(python::replace_instructions)?;
    Ok(compiled)
}

/// # Errors
/// When a tag holds more code than [`MAX_TAG_BYTES`], or there are more than [`MAX_ELIFS`].
fn check_tags(source: &str) -> Result<(), Error> {
    if source.matches("elif").count() > MAX_ELIFS {
        return Err(Error::new(ErrorKind::SyntaxError, format!("there are more than {MAX_ELIFS} elif tags")));
    }
    let bytes = source.as_bytes();
    let mut position = 0;
    while let Some(start) = source[position..].find('{').map(|offset| position + offset) {
        let close = match bytes.get(start + 1) {
            Some(b'{') => b"}}",
            Some(b'%') => b"%}",
            _ => {
                position = start + 1;
                continue;
            }
        };
        let mut quote = None;
        let mut code_bytes = 0;
        position = start + 2;
        while position < bytes.len() && !(quote.is_none() && bytes[position..].starts_with(close)) {
            match (quote, bytes[position]) {
                (Some(_), b'\\') => position += 1,
                (Some(open), byte) if byte == open => quote = None,
                (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
                _ => {}
            }
            code_bytes += usize::from(quote.is_none());
            if code_bytes > MAX_TAG_BYTES {
                let line = source[..start].lines().count().max(1);
                let reason = format!("the tag in line {line} holds more than {MAX_TAG_BYTES} bytes of code");
                return Err(Error::new(ErrorKind::SyntaxError, reason));
            }
            position += 1;
        }
        // It stands at a closing brace, or behind the end after a last backslash.
        position = position.min(source.len());
    }
    Ok(())
}

/// The variables that a template asks for, in the order of their names.
pub(super) fn variables(source: &str) -> BTreeSet<String> {
    let environment = Environment::new();
    let template = environment.template_from_str(source);
    template.map_or_else(
        |_| BTreeSet::new(),
        |template| template.undeclared_variables(false).into_iter().collect(),
    )
}

/// What a thread renders with: the compiled templates and the engine's settings.
pub(super) struct Engine<'source> {
    environment: Environment<'static>,
    default: Result<CompiledTemplate<'source>, TemplateError>,
    tool_use: Option<Result<CompiledTemplate<'source>, TemplateError>>,
    worn: bool,
}

impl<'source> Engine<'source> {
    /// Compiles the templates. They have been compiled once before, so errors are kept for the first rendering.
    pub(super) fn new(sources: &'source Sources) -> Self {
        let compiled =
            |source| compile(NAME, source).map_err(|error| TemplateError::Syntax(describe(&error)));
        Self {
            environment: environment(),
            default: compiled(&sources.default),
            tool_use: sources.tool_use.as_deref().map(compiled),
            worn: false,
        }
    }

    /// Whether a rendering failed or used much of its budget.
    pub(super) fn is_worn(&self) -> bool {
        self.worn
    }

    /// Runs the template for conversations with or without tools. `costed` is the conversation with its cost.
    ///
    /// # Errors
    /// See [`super::ChatTemplate::render`].
    pub(super) fn render(
        &mut self,
        with_tools: bool,
        context: Costed,
        now: Option<OffsetDateTime>,
    ) -> Result<String, TemplateError> {
        let fuel = (BASE_FUEL + context.fuel).min(MAX_FUEL);
        self.environment.set_fuel(Some(fuel));
        self.environment.add_function("strftime_now", move |format: &str| strftime_now(now, format));
        let compiled = self.tool_use.as_ref().filter(|_| with_tools).unwrap_or(&self.default);
        let compiled = match compiled {
            Ok(compiled) => compiled,
            Err(error) => return Err(TemplateError::Syntax(error.to_string())),
        };
        match evaluate(&self.environment, compiled, context.value) {
            Ok((text, used)) => {
                self.worn |= used > WEARING_FUEL;
                Ok(text)
            }
            Err(error) => {
                self.worn = true;
                Err(template_error(&error, fuel))
            }
        }
    }
}

/// Runs `work` where it cannot exhaust the stack: within its budget a template can nest lists a hundred thousand deep, and
/// the engine compares, prints and drops them with a few stack frames per level.
///
/// # Errors
/// [`TemplateError::Failed`] when the system has no thread left, or the engine panics.
pub(super) fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, TemplateError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("chat template".to_owned()).stack_size(STACK_BYTES);
        let running = thread
            .spawn_scoped(scope, work)
            .map_err(|error| TemplateError::Failed(format!("no thread can be started for it: {error}")))?;
        running.join().map_err(|_| TemplateError::Failed("the template engine panicked".to_owned()))
    })
}

/// The text and the units of work that it took.
fn evaluate(
    environment: &Environment<'_>,
    compiled: &CompiledTemplate<'_>,
    context: Value,
) -> Result<(String, u64), Error> {
    let mut text = String::new();
    let mut output = machinery::make_string_output(&mut text);
    let (_, state) = machinery::eval(
        environment,
        &compiled.instructions,
        context,
        &compiled.blocks,
        &mut output,
        AutoEscape::None,
    )?;
    let used = state.fuel_levels().map_or(0, |(used, _)| used);
    drop(state);
    drop(output);
    Ok((text, used))
}

/// The engine's message with the line in the template, and what caused it.
pub(super) fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn template_error(error: &Error, fuel: u64) -> TemplateError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(current) = current.downcast_ref::<Error>() {
            if current.kind() == ErrorKind::OutOfFuel {
                return TemplateError::OutOfFuel { fuel };
            }
            if let Some(reason) = current.detail().and_then(|detail| detail.strip_prefix(REFUSAL)) {
                return TemplateError::Refused(super::guard::unguard(reason).text);
            }
        }
        cause = current.source();
    }
    TemplateError::Failed(super::guard::unguard(&describe(error)).text)
}

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, format!("{REFUSAL}{message}")))
}

fn strftime_now(now: Option<OffsetDateTime>, format: &str) -> Result<String, Error> {
    let Some(now) = now else {
        return Err(Error::new(ErrorKind::InvalidOperation, "strftime_now: the time is not known here"));
    };
    strftime::format(now, format).map_err(|reason| Error::new(ErrorKind::InvalidOperation, reason))
}

/// A value for the template with what it adds to the budget.
#[derive(Debug, Clone)]
pub(super) struct Costed {
    pub(super) value: Value,
    pub(super) fuel: u64,
}

impl Costed {
    /// A text, as it stands.
    pub(super) fn text(text: &str) -> Self {
        Self { value: Value::from(text), fuel: FUEL_PER_VALUE + text.len() as u64 / INPUT_BYTES_PER_FUEL }
    }

    pub(super) fn nothing() -> Self {
        Self { value: Value::from(()), fuel: FUEL_PER_VALUE }
    }

    pub(super) fn flag(flag: bool) -> Self {
        Self { value: Value::from(flag), fuel: FUEL_PER_VALUE }
    }

    pub(super) fn list(items: impl IntoIterator<Item = Costed>) -> Self {
        let mut fuel = FUEL_PER_VALUE;
        let items: Vec<Value> = items
            .into_iter()
            .map(|item| {
                fuel += item.fuel;
                item.value
            })
            .collect();
        Self { value: items.into(), fuel }
    }

    pub(super) fn fields(fields: impl IntoIterator<Item = (String, Costed)>) -> Self {
        let mut fuel = FUEL_PER_VALUE;
        let value = Value::from_pairs(fields.into_iter().map(|(name, field)| {
            fuel += field.fuel;
            (name, field.value)
        }));
        Self { value, fuel }
    }

    /// A JSON value whose texts, keys included, are guarded.
    pub(super) fn json(json: &serde_json::Value, guard: &Guard) -> Self {
        match json {
            serde_json::Value::Null => Self::nothing(),
            serde_json::Value::Bool(flag) => Self::flag(*flag),
            serde_json::Value::Number(number) => Self { value: number_of(number), fuel: FUEL_PER_VALUE },
            serde_json::Value::String(string) => Self::text(&guard.protect(string)),
            serde_json::Value::Array(items) => Self::list(items.iter().map(|item| Self::json(item, guard))),
            serde_json::Value::Object(fields) => Self::fields(
                fields.iter().map(|(key, value)| (guard.protect_name(key), Self::json(value, guard))),
            ),
        }
    }
}

fn number_of(number: &serde_json::Number) -> Value {
    if let Some(integer) = number.as_i64() {
        Value::from(integer)
    } else if let Some(integer) = number.as_u64() {
        Value::from(integer)
    } else {
        Value::from(number.as_f64().unwrap_or(f64::NAN))
    }
}
