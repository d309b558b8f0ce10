//! Examples of one kind as examples of another: the chosen answers of pairs to imitate, the prompts of anything for rewards.

use serde_json::{Map, Value, json};
use zhenjin_conversation::{Message, Role};

use super::dataset::Dataset;
use super::errors::DataError;
use super::example::{Body, Conversation, Example, Kind, Pair, Task, Thumb};
use super::formats;

impl Dataset {
    /// The examples as those of `kind`. What had to be done for it is among the notes, with counts.
    ///
    /// Pairs become conversations with the chosen answer, two thumbs, or prompts; thumbs become conversations where they are
    /// up, or prompts with the fields that rewards may read; conversations become prompts with their last answer in the field
    /// `answer`; questions with a text as `answer` become conversations.
    ///
    /// # Errors
    /// [`DataError::Purpose`] where examples cannot be used so, [`DataError::Empty`] where none is left.
    pub fn for_kind(mut self, kind: Kind) -> Result<Dataset, DataError> {
        if kind == Kind::Tasks {
            self.count_fields_for_rewards_as_read();
        }
        let mut examples = Vec::with_capacity(self.examples.len());
        for example in std::mem::take(&mut self.examples) {
            let from = example.body.kind();
            if from == kind {
                examples.push(example);
                continue;
            }
            let origin = example.origin;
            let misspelt = match &example.body {
                Body::Task(task) if !task.fields.contains_key("answer") => {
                    formats::misspelt_answer(&task.fields)
                }
                _ => None,
            };
            if let (Body::Task(task), Kind::Conversations) = (&example.body, kind) {
                for name in task.fields.keys().filter(|name| name.as_str() != "answer") {
                    *self.unread_fields.entry(name.clone()).or_default() += 1;
                }
            }
            let Some((note, bodies)) = converted(example.body, kind) else {
                let path = self.files.get(origin.file).map(|file| file.path.clone()).unwrap_or_default();
                return Err(refused(path, from, kind, misspelt));
            };
            *self.notes.entry(note.to_owned()).or_default() += 1;
            examples.extend(bodies.into_iter().map(|body| Example { origin, body }));
        }
        if examples.is_empty() {
            return Err(DataError::Empty(self.why_empty()));
        }
        Ok(Dataset { examples, ..self })
    }

    /// Where rewards judge, fields that only they read are not without effect.
    fn count_fields_for_rewards_as_read(&mut self) {
        for (name, read) in std::mem::take(&mut self.fields_for_rewards) {
            if let Some(count) = self.unread_fields.get_mut(&name) {
                *count = count.saturating_sub(read);
            }
        }
        self.unread_fields.retain(|_, count| *count > 0);
    }

    /// Which files hold nothing, and what is wrong with the records that there are.
    fn why_empty(&self) -> String {
        let mut reasons: Vec<String> = self
            .files
            .iter()
            .filter(|file| file.records == 0)
            .map(|file| file.path.display().to_string())
            .collect();
        if !reasons.is_empty() {
            let verb = if reasons.len() == 1 { "holds" } else { "hold" };
            reasons = vec![format!(
                "{} {verb} no records, at most empty lines or an empty array",
                reasons.join(", ")
            )];
        }
        let bad = self.bad.by_kind().next();
        if let Some((_, first)) = bad {
            reasons.push(format!("{} records are bad, such as {}", self.bad.total(), first.first));
        }
        // A file of bad records alone is an error before: those that are left are good for something else.
        if self.files.iter().any(|file| file.records > 0) {
            let which = if bad.is_some() { "no other record" } else { "no record" };
            reasons.push(format!("{which} is one to learn from in this way"));
        }
        reasons.join("; ")
    }
}

fn refused(path: std::path::PathBuf, from: Kind, kind: Kind, misspelt: Option<String>) -> DataError {
    let hint = match (from, kind) {
        (Kind::Thumbs, Kind::Pairs) => "; KTO learns from thumbs",
        (Kind::Conversations, Kind::Pairs | Kind::Thumbs) => {
            "; supervised fine-tuning learns from conversations"
        }
        (Kind::Tasks, _) => "; PPO, GRPO and best-of-n learn from prompts with rewards",
        _ => "",
    };
    let hint = misspelt.map_or_else(|| hint.to_owned(), |misspelt| format!("; {misspelt}"));
    DataError::Purpose { path, found: from.name(), needed: kind.name(), hint }
}

/// What an example of one kind is as examples of another, and what is said of it.
fn converted(body: Body, kind: Kind) -> Option<(&'static str, Vec<Body>)> {
    match (body, kind) {
        (Body::Pair(pair), Kind::Conversations) => {
            let unlearnt = earlier_answers(&pair.prompt);
            let messages = [pair.prompt, pair.chosen].concat();
            let conversation = Conversation { messages, tools: pair.tools, unlearnt };
            Some(("pairs of which the chosen answer is imitated", vec![Body::Conversation(conversation)]))
        }
        (Body::Pair(pair), Kind::Thumbs) => {
            let Pair { prompt, tools, chosen, rejected, .. } = pair;
            let thumb = |answer, liked| {
                let (prompt, tools) = (prompt.clone(), tools.clone());
                Body::Thumb(Thumb { prompt, tools, answer, liked, fields: Map::new() })
            };
            Some((
                "pairs that count as a thumb up and a thumb down",
                vec![thumb(chosen, true), thumb(rejected, false)],
            ))
        }
        (Body::Pair(pair), Kind::Tasks) => {
            let task = Task { messages: pair.prompt, tools: pair.tools, fields: Map::new() };
            Some(("pairs of which the prompt alone is used", vec![Body::Task(task)]))
        }
        (Body::Thumb(thumb), Kind::Conversations) if thumb.liked => {
            let unlearnt = earlier_answers(&thumb.prompt);
            let messages = [thumb.prompt, thumb.answer].concat();
            let conversation = Conversation { messages, tools: thumb.tools, unlearnt };
            Some(("answers with a thumb up, which are imitated", vec![Body::Conversation(conversation)]))
        }
        (Body::Thumb(_), Kind::Conversations) => {
            Some(("answers with a thumb down, which are left out", Vec::new()))
        }
        (Body::Thumb(thumb), Kind::Tasks) => {
            let task = Task { messages: thumb.prompt, tools: thumb.tools, fields: thumb.fields };
            Some((
                "judged answers of which the prompt is used, and other fields by rewards",
                vec![Body::Task(task)],
            ))
        }
        (Body::Conversation(conversation), Kind::Tasks) => Some((
            "conversations of which the prompt of the last answer is used",
            vec![task_of(conversation)],
        )),
        (Body::Task(task), Kind::Conversations) => {
            let answer = task.fields.get("answer").and_then(Value::as_str)?.to_owned();
            if answer.trim().is_empty() {
                return None;
            }
            let mut messages = task.messages;
            messages.push(Message::new(Role::Assistant, answer));
            let conversation = Conversation { messages, tools: task.tools, unlearnt: Vec::new() };
            Some(("questions whose `answer` is imitated", vec![Body::Conversation(conversation)]))
        }
        _ => None,
    }
}

/// Answers in a prompt are not what somebody chose or liked.
fn earlier_answers(prompt: &[Message]) -> Vec<usize> {
    let places = prompt.iter().enumerate();
    places.filter(|(_, message)| message.role == Role::Assistant).map(|(place, _)| place).collect()
}

fn task_of(conversation: Conversation) -> Body {
    let Conversation { mut messages, tools, .. } = conversation;
    let last = messages.iter().rposition(|message| message.role == Role::Assistant).unwrap_or(0);
    let answer = messages.get(last).map(|message| message.content.clone()).unwrap_or_default();
    messages.truncate(last);
    let fields = [("answer".to_owned(), json!(answer))].into_iter().collect();
    Body::Task(Task { messages, tools, fields })
}
