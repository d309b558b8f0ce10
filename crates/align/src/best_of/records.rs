//! Chosen answers as records in OpenAI's shape, as data for training.

use serde_json::{Map, Value, json};
use zhenjin_conversation::{Message, Role, Tool};

use super::Candidate;
use crate::data::Task;

/// A prompt with an answer to imitate.
pub fn conversation_record(task: &Task, candidate: &Candidate) -> Value {
    let mut messages: Vec<Value> = task.messages.iter().map(message).collect();
    // Only the chosen answer is to be imitated: nobody has said that earlier ones are good.
    for earlier in messages.iter_mut().filter(|message| message["role"] == "assistant") {
        earlier["weight"] = json!(0);
    }
    messages.push(answer(candidate));
    with_tools(json!({ "messages": messages }), &task.tools)
}

/// A prompt with the preferred answer and the other, and what both are worth.
pub fn pair_record(task: &Task, chosen: &Candidate, rejected: &Candidate) -> Value {
    let record = json!({
        "prompt": task.messages.iter().map(message).collect::<Vec<_>>(),
        "chosen": [answer(chosen)],
        "rejected": [answer(rejected)],
        "chosen_score": chosen.reward,
        "rejected_score": rejected.reward,
    });
    with_tools(record, &task.tools)
}

fn with_tools(mut record: Value, tools: &[Tool]) -> Value {
    if !tools.is_empty() {
        record["tools"] = tools.iter().map(Tool::to_template_value).collect();
    }
    record
}

/// A message with its thought.
fn message(message: &Message) -> Value {
    let mut value = message.to_template_value();
    if let Some(thought) = &message.thought {
        value["reasoning_content"] = json!(thought);
    }
    value
}

fn answer(candidate: &Candidate) -> Value {
    let mut value = Map::new();
    value.insert("role".to_owned(), json!(Role::Assistant.name()));
    value.insert("content".to_owned(), json!(candidate.text));
    if let Some(thought) = &candidate.thought {
        value.insert("reasoning_content".to_owned(), json!(thought));
    }
    Value::Object(value)
}
