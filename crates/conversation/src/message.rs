//! What a conversation is made of: messages, calls of tools, tools.

use serde_json::{Map, Value, json};

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; may be empty beside tool calls.
    pub content: String,
    /// What the assistant thought before it.
    pub thought: Option<String>,
    /// The speaker's name, for templates that show it.
    pub name: Option<String>,
    /// The calls that an assistant's message makes.
    pub tool_calls: Vec<ToolCall>,
    /// The call that a tool's message answers.
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A message of plain text.
    pub fn new(role: Role, content: impl Into<String>) -> Message {
        Message {
            role,
            content: content.into(),
            thought: None,
            name: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }

    /// The message in OpenAI's shape, as templates expect it, without its thought.
    pub fn to_template_value(&self) -> Value {
        let mut message = Map::new();
        message.insert("role".to_owned(), json!(self.role.name()));
        message.insert("content".to_owned(), json!(self.content));
        if let Some(name) = &self.name {
            message.insert("name".to_owned(), json!(name));
        }
        if !self.tool_calls.is_empty() {
            let calls = self.tool_calls.iter().map(|call| {
                json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}})
            });
            message.insert("tool_calls".to_owned(), calls.collect());
        }
        if let Some(id) = &self.tool_call_id {
            message.insert("tool_call_id".to_owned(), json!(id));
        }
        Value::Object(message)
    }
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Whoever set the assistant up (OpenAI's `developer` is the same).
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// A function that the model called.
    Tool,
}

impl Role {
    /// The name that templates use.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

/// A call of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// Identifies the call within its conversation.
    pub id: String,
    /// The function's name.
    pub name: String,
    /// JSON text of an object.
    pub arguments: String,
}

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name: letters, digits, `_`, `-` and `.`, at most 64.
    pub name: String,
    /// What it does, for the model to read.
    pub description: Option<String>,
    /// The JSON schema of its arguments, an object; `None`: no arguments.
    pub parameters: Option<Value>,
}

impl Tool {
    /// The tool in OpenAI's shape, as templates expect it.
    pub fn to_template_value(&self) -> Value {
        let mut function = Map::new();
        function.insert("name".to_owned(), json!(self.name));
        if let Some(description) = &self.description {
            function.insert("description".to_owned(), json!(description));
        }
        let parameters =
            self.parameters.clone().unwrap_or_else(|| json!({"type": "object", "properties": {}}));
        function.insert("parameters".to_owned(), parameters);
        json!({"type": "function", "function": function})
    }
}

/// Whether a model shall think before it answers. Refused where its chat template has no switch for what is wished.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ThinkingWish {
    /// As the template does by itself.
    #[default]
    ModelsOwn,
    /// It shall not.
    Off,
    /// It shall.
    On,
    /// It shall where the template lets it in this conversation: clients of Ollama ask so of every model that can think, unless they are told
    /// otherwise.
    WherePossible,
    /// It shall, so much: `low`, `medium`, `high` and so on. Where the template can only be switched on, that.
    Effort(String),
}
