//! One conversation on its way through the template, and what is then known about its text.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::guard::{self, Guard, Unguarded};
use super::sandbox::{Costed, Engine};
use super::{Appended, RenderInput, Rendered, Writing, assistant_spans};
use crate::TemplateError;

/// A [`RenderInput`] that can go to another thread.
pub(super) struct Conversation {
    messages: Vec<Value>,
    tools: Vec<Value>,
    add_generation_prompt: bool,
    now: Option<OffsetDateTime>,
    variables: Option<Map<String, Value>>,
    mark_assistant: bool,
    /// What goes behind the text of the message at a place.
    appended: BTreeMap<usize, Appended>,
}

/// A conversation that is being rendered.
pub(super) struct Rendering<'a, 'source> {
    engine: &'a mut Engine<'source>,
    writing: &'a Writing,
    conversation: &'a Conversation,
    /// The variables for the template that are the same in all renderings of the conversation.
    common: Vec<(String, Costed)>,
}

impl Conversation {
    pub(super) fn of(input: &RenderInput<'_>) -> Self {
        Self {
            messages: input.messages.iter().map(prepared).collect(),
            tools: input.tools.to_vec(),
            add_generation_prompt: input.add_generation_prompt,
            now: input.now,
            variables: input.variables.cloned(),
            mark_assistant: input.mark_assistant,
            appended: input.appended.iter().map(|appended| (appended.message, appended.clone())).collect(),
        }
    }

    /// # Errors
    /// See [`super::ChatTemplate::render`].
    pub(super) fn render(
        &self,
        engine: &mut Engine<'_>,
        writing: &Writing,
    ) -> Result<Rendered, TemplateError> {
        let mut rendering = Rendering::new(engine, writing, self);
        let messages: Vec<Costed> = self
            .messages
            .iter()
            .enumerate()
            .map(|(place, message)| protected(message, &writing.guard, self.appended.get(&place)))
            .collect();
        let plain = rendering.unguarded(&messages, self.add_generation_prompt)?;
        let assistant_spans = if !self.mark_assistant {
            Vec::new()
        } else if plain.generated.is_empty() {
            assistant_spans::find(&mut rendering, &self.messages, &messages, &plain)?
        } else {
            plain.generated
        };
        Ok(Rendered { text: plain.text, plain_text_breaks: plain.breaks, assistant_spans })
    }
}

impl<'a, 'source> Rendering<'a, 'source> {
    pub(super) fn new(
        engine: &'a mut Engine<'source>,
        writing: &'a Writing,
        conversation: &'a Conversation,
    ) -> Self {
        let guard = &writing.guard;
        let mut common: Vec<(String, Costed)> = Vec::new();
        // Jinja is given these two always, as Hugging Face's library does.
        common.push(("tools".to_owned(), Costed::nothing()));
        common.push(("documents".to_owned(), Costed::nothing()));
        for (name, value) in conversation.variables.iter().flatten() {
            common.push((name.clone(), Costed::json(value, guard)));
        }
        if !conversation.tools.is_empty() {
            let tools = conversation.tools.iter().map(|tool| Costed::json(tool, guard));
            common.push(("tools".to_owned(), Costed::list(tools)));
        }
        common.push(("bos_token".to_owned(), Costed::text(&writing.bos)));
        common.push(("eos_token".to_owned(), Costed::text(&writing.eos)));
        Self { engine, writing, conversation, common }
    }

    pub(super) fn writing(&self) -> &'a Writing {
        self.writing
    }

    pub(super) fn conversation_adds_prompt(&self) -> bool {
        self.conversation.add_generation_prompt
    }

    /// A message whose texts cannot become control tokens.
    pub(super) fn protected(&self, message: &Value) -> Costed {
        protected(message, &self.writing.guard, None)
    }

    /// Renders messages; the text still has the guard's marks in it.
    pub(super) fn marked(
        &mut self,
        messages: &[Costed],
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let mut variables = self.common.clone();
        variables.push(("messages".to_owned(), Costed::list(messages.iter().cloned())));
        variables.push(("add_generation_prompt".to_owned(), Costed::flag(add_generation_prompt)));
        let with_tools = !self.conversation.tools.is_empty();
        self.engine.render(with_tools, Costed::fields(variables), self.conversation.now)
    }

    pub(super) fn unguarded(
        &mut self,
        messages: &[Costed],
        add_generation_prompt: bool,
    ) -> Result<Unguarded, TemplateError> {
        Ok(guard::unguard(&self.marked(messages, add_generation_prompt)?))
    }
}

fn protected(message: &Value, guard: &Guard, appended: Option<&Appended>) -> Costed {
    let Value::Object(fields) = message else { return Costed::json(message, guard) };
    Costed::fields(fields.iter().map(|(name, value)| {
        let value = match (name.as_str(), value.as_str(), appended) {
            // Templates make control tokens of roles, as `<|user|>`; whoever may choose a role chooses whose turn it is.
            ("role", Some(role), _) => Costed::text(&guard.protect_name(role)),
            ("content", Some(content), Some(Appended { control, text, .. })) => {
                Costed::text(&format!("{}{control}{}", guard.protect(content), guard.protect(text)))
            }
            _ => Costed::json(value, guard),
        };
        (guard.protect_name(name), value)
    }))
}

/// Names under which a message brings an earlier thought, as Hugging Face's library knows them.
const THOUGHTS: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A message as templates expect it: an earlier thought stands under both names that templates read, and a tool call's
/// arguments are an object, which OpenAI writes as JSON text.
fn prepared(message: &Value) -> Value {
    let mut message = message.clone();
    let thought = THOUGHTS.iter().find_map(|name| message.get(name).filter(|value| !value.is_null()));
    if let (Some(thought), Some(fields)) = (thought.cloned(), message.as_object_mut()) {
        let own = fields.shift_remove("thinking");
        fields.shift_insert(0, "thinking".to_owned(), own.unwrap_or_else(|| thought.clone()));
        fields.insert("reasoning_content".to_owned(), thought);
    }
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten() {
        let arguments = match call.get_mut("function") {
            Some(function) => function.get_mut("arguments"),
            None => call.get_mut("arguments"),
        };
        if let Some(arguments) = arguments
            && let Some(text) = arguments.as_str()
            && let Ok(parsed @ Value::Object(_)) = serde_json::from_str(text)
        {
            *arguments = parsed;
        }
    }
    message
}
