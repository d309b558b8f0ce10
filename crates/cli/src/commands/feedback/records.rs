//! Examples as JSON lines in the formats of `zhenjin data check`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use zhenjin_assistant::Transcript;
use zhenjin_store::{
    FeedbackExamples, Prompt, Role, TrainingFeedback, preference_pairs, rated_answers, wanted_answers,
};

use super::ExampleKind;

/// Why a record is not written although the judgement is clear.
const NO_WORDS: &str = "an answer without words, here or earlier in the chat";

/// What is written, and how much was left out for which reason.
pub(super) struct Exported {
    pub(super) lines: Vec<Value>,
    pub(super) left_out: BTreeMap<&'static str, u64>,
}

/// The examples of this kind that the judgements make.
pub(super) fn records(kind: ExampleKind, rows: &[TrainingFeedback]) -> Exported {
    match kind {
        ExampleKind::Preference => exported(preference_pairs(rows), |pair| {
            Some(json!({
                "prompt": before(&pair.prompt)?,
                "chosen": [answer(&pair.chosen)?],
                "rejected": [answer(&pair.rejected)?],
            }))
        }),
        ExampleKind::Kto => exported(rated_answers(rows), |rated| {
            let (prompt, completion) = (before(&rated.prompt)?, [answer(&rated.answer)?]);
            Some(json!({ "prompt": prompt, "completion": completion, "label": rated.liked }))
        }),
        ExampleKind::Sft => exported(wanted_answers(rows), |wanted| {
            let mut messages = before(&wanted.prompt)?;
            // Only the judged answer is to be imitated: nobody has said that the earlier ones are good.
            for message in messages.iter_mut().filter(|message| message["role"] == "assistant") {
                message["weight"] = json!(0);
            }
            messages.push(answer(&wanted.answer)?);
            Some(json!({ "messages": messages }))
        }),
    }
}

fn exported<T>(made: FeedbackExamples<T>, record: impl Fn(&T) -> Option<Value>) -> Exported {
    let mut left_out: BTreeMap<&'static str, u64> =
        made.left_out.into_iter().map(|(reason, count)| (reason.description(), count)).collect();
    let lines: Vec<Value> = made.examples.iter().filter_map(record).collect();
    let without_words = made.examples.len() - lines.len();
    if without_words > 0 {
        left_out.insert(NO_WORDS, without_words as u64);
    }
    Exported { lines, left_out }
}

/// The messages before an answer; `None` when an earlier answer has no words.
fn before(prompt: &Prompt) -> Option<Vec<Value>> {
    let system = (!prompt.system_prompt.trim().is_empty())
        .then(|| json!({ "role": "system", "content": prompt.system_prompt }));
    let turns = prompt.turns.iter().map(|(role, text)| match role {
        Role::User => Some(json!({ "role": "user", "content": text })),
        Role::Assistant => answer(text),
    });
    system.map(Some).into_iter().chain(turns).collect()
}

/// An answer as a message, its thought apart; `None` when it has no words.
fn answer(text: &str) -> Option<Value> {
    let (thought, answer) = Transcript::split(text);
    if answer.trim().is_empty() {
        return None;
    }
    let mut message = json!({ "role": "assistant", "content": answer });
    if let Some(thought) = thought {
        message["reasoning_content"] = json!(thought);
    }
    Some(message)
}
