//! Messages → tokens, with the code that serves: an answer's tokens stand behind exactly those of the prompt that a server
//! would have made.
//!
//! For every answer that is to be learnt, its prompt is made as for a request, and the answer is what the template writes behind
//! that prompt up to the first token that ends the turn. Answers of one conversation share an example where the prompt of the
//! later one begins with the tokens of the earlier one and its answer. Where a template rewrites what was said before (many
//! leave out earlier thoughts), or where other tokens stand for the same text once more follows it, each answer becomes an example
//! of its own.

use serde_json::{Map, Value};
use time::OffsetDateTime;
use zhenjin_conversation::{
    ConversationError, ConversationStyle, Message, Prompt, PromptOptions, Role, ThinkingWish, Tool, ToolStyle,
};
use zhenjin_tokenizer::{
    ChatTemplate, ControlText, EncodedDialogue, Rendered, Specials, Tokenizer, TokenizerError,
};

use super::control_texts::ControlTexts;
use super::dialogues::{Bound, Dialogues};
use super::encoded::{Beginning, EncodedPair, EncodedTask, EncodedThumb};
use super::errors::{BadKind, DataError, Fault};
use super::example::{Conversation, Pair, Task, Thumb};

/// The most examples of one conversation that are looked at, and the most tokens that they have together: nobody reads more.
const LOOKED_AT_EXAMPLES: usize = 256;
const LOOKED_AT_TOKENS: usize = 1 << 18;

/// Why an answer that a model wrote is none of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrittenFault {
    /// It has no words.
    Empty,
    /// The template would write other text than the model wrote.
    Rewritten,
}

/// Which of a conversation's answers are learnt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LearntAnswers {
    /// All of them.
    #[default]
    All,
    /// The last one.
    Last,
}

/// What a prompt depends on beside the conversation: the same settings as when a model is served.
#[derive(Clone, Debug)]
pub struct PromptSettings {
    /// Whether the model shall think before it answers.
    pub thinking: ThinkingWish,
    /// More variables for the template; one that it does not read is refused.
    pub template_variables: Map<String, Value>,
    /// The time that templates show. A run keeps it, so that the tokens are the same when it goes on.
    pub now: OffsetDateTime,
}

impl PromptSettings {
    /// As a request that asks for nothing, at this time.
    pub fn at(now: OffsetDateTime) -> PromptSettings {
        PromptSettings { thinking: ThinkingWish::ModelsOwn, template_variables: Map::new(), now }
    }
}

/// Encodes for one model.
#[derive(Debug)]
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    template: &'a ChatTemplate,
    style: ConversationStyle,
    settings: PromptSettings,
    /// The model's context; the greatest number where it is not known.
    context: usize,
}

/// Why answers of one conversation are examples of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Apart {
    /// The text is the same, but other tokens stand for it once more follows it.
    OtherTokens,
    /// The template rewrites what was said before.
    Rewritten,
}

impl<'a> Encoder<'a> {
    /// An encoder for a model's tokenizer and template.
    ///
    /// # Errors
    /// [`DataError::Template`] where the model has no template, where the template refuses a question with its answer, or where
    /// the end of that answer is no token that ends a turn: a model trained so would never learn to stop.
    pub fn new(
        tokenizer: &'a Tokenizer,
        template: Option<&'a ChatTemplate>,
        settings: PromptSettings,
    ) -> Result<Encoder<'a>, DataError> {
        let encoder = Encoder::for_prompts(tokenizer, template, settings)?;
        encoder.check_end()?;
        Ok(encoder)
    }

    /// An encoder for prompts alone: answers are written by the model and ended by the tokenizer's tokens, whatever the template writes behind
    /// them.
    ///
    /// # Errors
    /// [`DataError::Template`] where the model has no template.
    pub fn for_prompts(
        tokenizer: &'a Tokenizer,
        template: Option<&'a ChatTemplate>,
        settings: PromptSettings,
    ) -> Result<Encoder<'a>, DataError> {
        let no_template =
            "the model has no chat template, so it is not known how conversations are written for it";
        let template = template.ok_or_else(|| DataError::Template(no_template.to_owned()))?;
        let style = ConversationStyle::of(Some(template), tokenizer);
        Ok(Encoder { tokenizer, template, style, settings, context: usize::MAX })
    }

    /// The same for a model with a context of so many tokens: where examples are only looked at, longer conversations are not encoded to their
    /// end.
    #[must_use]
    pub fn with_context(self, tokens: usize) -> Encoder<'a> {
        Encoder { context: tokens, ..self }
    }

    pub(super) fn context(&self) -> usize {
        self.context
    }

    /// The texts of the tokenizer's control tokens, to be looked for in what is learnt.
    pub(super) fn control_texts(&self) -> ControlTexts {
        ControlTexts::new(self.tokenizer.special_texts())
    }

    /// Tries one question and its answer.
    fn check_end(&self) -> Result<(), DataError> {
        let mut answer = Message::new(Role::Assistant, "Yes.");
        answer.thought = self.style.thinking.takes_thoughts().then(|| "Short.".to_owned());
        let messages = [Message::new(Role::User, "Hello?"), answer];
        let fault = match self.answer(&messages, &[]) {
            Ok(_) => return Ok(()),
            Err(fault) => fault,
        };
        Err(DataError::Template(format!("this chat template cannot be trained with: {}", fault.reason)))
    }

    /// A conversation as examples, to look at: one, or several where the template rewrites what was said before, or other tokens stand for it. It
    /// is encoded up to the model's context, and no further than somebody could read.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn conversation(
        &self,
        conversation: &Conversation,
        learnt: LearntAnswers,
    ) -> Result<Beginning<Vec<EncodedDialogue>>, Fault> {
        let places = learnt_places(conversation, learnt);
        let bound = Bound {
            tokens: self.context.min(LOOKED_AT_TOKENS),
            others: true,
            examples: LOOKED_AT_EXAMPLES,
            all_tokens: LOOKED_AT_TOKENS,
        };
        let found = self.dialogues(&conversation.messages, &conversation.tools, &places, bound)?;
        Ok(Beginning { example: found.examples, unread: found.unread })
    }

    /// Why a later prompt does not begin with the tokens of what was said before it.
    pub(super) fn apart(&self, before: &[u32], prompt: &[u32]) -> Apart {
        let text = |ids: &[u32]| self.tokenizer.decode_bytes(ids, ControlText::Show);
        match (text(before), text(prompt)) {
            (Ok(before), Ok(prompt)) if prompt.starts_with(&before) => Apart::OtherTokens,
            _ => Apart::Rewritten,
        }
    }

    /// A preference pair, up to the model's context; both dialogues begin with the prompt's tokens.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn pair(&self, pair: &Pair) -> Result<Beginning<EncodedPair>, Fault> {
        self.pair_within(pair, self.context)
    }

    /// The same, of which no more is encoded than is needed to know that a side has more than so many tokens.
    pub(super) fn pair_within(&self, pair: &Pair, tokens: usize) -> Result<Beginning<EncodedPair>, Fault> {
        let chosen = self.answer_to(&pair.prompt, &pair.chosen, &pair.tools, tokens)?;
        let rejected = self.answer_to(&pair.prompt, &pair.rejected, &pair.tools, tokens)?;
        let unread = chosen.unread + rejected.unread;
        let (chosen, rejected) = (chosen.example, rejected.example);
        // Two that are alike as far as they were encoded may go on differently.
        if unread == 0 && chosen.ids == rejected.ids {
            let reason = "the template writes the chosen answer and the rejected one alike";
            return Err(Fault::new(BadKind::SameAnswers, reason));
        }
        Ok(Beginning { example: EncodedPair { chosen, rejected, margin: pair.margin }, unread })
    }

    /// A judged answer: always one message, however much stands before it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn thumb(&self, thumb: &Thumb) -> Result<EncodedThumb, Fault> {
        let dialogue = self.answer_to(&thumb.prompt, &thumb.answer, &thumb.tools, usize::MAX)?.example;
        Ok(EncodedThumb { dialogue, liked: thumb.liked })
    }

    fn answer_to(
        &self,
        prompt: &[Message],
        answer: &[Message],
        tools: &[Tool],
        tokens: usize,
    ) -> Result<Beginning<EncodedDialogue>, Fault> {
        let messages = [prompt, answer].concat();
        let is_answer = |place: &usize| messages[*place].role == Role::Assistant;
        let places: Vec<usize> = (prompt.len()..messages.len()).filter(is_answer).collect();
        // Its turns are one example or none: the second one tells.
        let bound = Bound { examples: 1, ..Bound::of_each(tokens, false) };
        let Dialogues { mut examples, apart, unread, .. } =
            self.dialogues(&messages, tools, &places, bound)?;
        match (examples.pop(), examples.is_empty()) {
            (Some(example), true) => Ok(Beginning { example, unread }),
            _ => {
                let reason = match apart {
                    Some(Apart::OtherTokens) => {
                        "the answer has several turns, and other tokens stand for the text of the earlier ones once more follows \
                         them: they are not one sequence of tokens"
                    }
                    _ => {
                        "the answer has several turns, and the template rewrites earlier ones: they are not one text"
                    }
                };
                Err(Fault::new(BadKind::NotWritable, reason))
            }
        }
    }

    /// A prompt for rewards.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn task(&self, task: &Task) -> Result<EncodedTask, Fault> {
        let prompt = self.prompt(&task.messages, &task.tools)?.tokens;
        let messages = task.messages.iter().map(Message::to_template_value).collect();
        Ok(EncodedTask { prompt, messages, fields: task.fields.clone() })
    }

    /// The prompt that a server would make.
    ///
    /// # Errors
    /// What is wrong with the conversation.
    pub fn prompt(&self, messages: &[Message], tools: &[Tool]) -> Result<Prompt, Fault> {
        self.check_writable(messages, tools)?;
        let tools: Vec<&Tool> = tools.iter().collect();
        let prompt = self.style.prompt(self.tokenizer, self.template, messages, &tools, &self.options());
        prompt.map_err(|error| refused(&error))
    }

    /// The assistant's message that a model wrote behind the prompt of `task`, without the token that ends it; its thought apart, where the
    /// template knows thoughts. White space at its ends may be lost, as templates cut it off.
    ///
    /// # Errors
    /// [`WrittenFault`].
    pub fn written_answer(&self, task: &Task, answer: &[u32]) -> Result<Message, WrittenFault> {
        let prompt = self.prompt(&task.messages, &task.tools).map_err(|_| WrittenFault::Rewritten)?;
        let shown = |ids: &[u32]| {
            let bytes = self.tokenizer.decode_bytes(ids, ControlText::Show).unwrap_or_default();
            // Half a character is no text.
            String::from_utf8(bytes).map_err(|_| WrittenFault::Rewritten)
        };
        let text = shown(answer)?;
        let mut message = Message::new(Role::Assistant, "");
        let markers = self.style.thinking.markers;
        let thought = text.trim_start().strip_prefix(markers.opening);
        let thought = thought.or(prompt.opens_thought.then_some(&text)).filter(|_| self.takes_thoughts());
        message.content = match thought {
            None => text.clone(),
            // A thought that did not end has no answer behind it.
            Some(thought) => {
                let (thought, said) = thought.split_once(markers.closing).ok_or(WrittenFault::Empty)?;
                message.thought = Some(thought.trim().to_owned()).filter(|thought| !thought.is_empty());
                markers.without_answer_markers(said.trim_start()).to_owned()
            }
        };
        if message.content.trim().is_empty() {
            return Err(WrittenFault::Empty);
        }
        let messages = [&task.messages[..], std::slice::from_ref(&message)].concat();
        let again = self.answer(&messages, &task.tools).map_err(|_| WrittenFault::Rewritten)?;
        let again = &again[..again.len().saturating_sub(1)];
        let specials =
            |ids: &[u32]| ids.iter().copied().filter(|id| self.tokenizer.is_special(*id)).collect::<Vec<_>>();
        let is_same =
            without_spaces(&shown(again)?) == without_spaces(&text) && specials(again) == specials(answer);
        if is_same { Ok(message) } else { Err(WrittenFault::Rewritten) }
    }

    /// Whether the template knows what was thought before an answer.
    pub fn takes_thoughts(&self) -> bool {
        self.style.thinking.takes_thoughts()
    }

    fn options(&self) -> PromptOptions<'_> {
        let PromptSettings { thinking, template_variables, now } = &self.settings;
        PromptOptions { thinking, template_variables, now: *now }
    }

    fn check_writable(&self, messages: &[Message], tools: &[Tool]) -> Result<(), Fault> {
        let calls = messages.iter().any(|message| !message.tool_calls.is_empty());
        if self.style.tools == ToolStyle::Unknown && (calls || !tools.is_empty()) {
            let reason = "the template writes tool calls in a format that is not known here";
            return Err(Fault::new(BadKind::NotWritable, reason));
        }
        let has_thought =
            |message: &Message| message.thought.as_ref().is_some_and(|thought| !thought.is_empty());
        if !self.style.thinking.takes_thoughts() && messages.iter().any(has_thought) {
            let reason = "an answer has a thought, and the template knows no thoughts";
            return Err(Fault::new(BadKind::NotWritable, reason));
        }
        Ok(())
    }

    pub(super) fn rendered(&self, messages: &[Message], tools: &[Tool]) -> Result<Rendered, Fault> {
        let tools: Vec<&Tool> = tools.iter().collect();
        let written = self.style.written(self.template, messages, &tools, &self.options());
        let written = written.map_err(|error| refused(&error))?;
        self.template
            .render(&written.input(false))
            .map_err(|error| Fault::new(BadKind::RefusedByTemplate, error.to_string()))
    }

    /// The last message as the answer to those before it.
    fn answer(&self, messages: &[Message], tools: &[Tool]) -> Result<Vec<u32>, Fault> {
        let prompt = self.prompt_of_last(messages, tools)?;
        self.answer_behind(&prompt, messages, tools)
    }

    /// The prompt that the last message answers.
    pub(super) fn prompt_of_last(&self, messages: &[Message], tools: &[Tool]) -> Result<Prompt, Fault> {
        let (_, before) = last_of(messages)?;
        self.check_writable(messages, tools)?;
        self.prompt(before, tools)
    }

    /// The last message as the answer to those before it, whose prompt this is.
    pub(super) fn answer_behind(
        &self,
        prompt: &Prompt,
        messages: &[Message],
        tools: &[Tool],
    ) -> Result<Vec<u32>, Fault> {
        let (last, before) = last_of(messages)?;
        let rendered = self.rendered(messages, tools)?;
        if rendered.text == prompt.text && !last.content.trim().is_empty() && last.tool_calls.is_empty() {
            return self.behind_a_prompt_alone(last);
        }
        let answer = if rendered.text.starts_with(&prompt.text) {
            self.behind(&rendered, prompt)?
        } else {
            self.behind_another(prompt, last, before)?
        };
        self.up_to_the_end(&prompt.text, answer)
    }

    /// What the template writes behind the token that ends a conversation's last answer, such as a line break. None where the template refuses
    /// a question with its answer, or does not write the prompt's text before the answer.
    pub fn behind_the_last_turn(&self) -> Vec<u32> {
        let messages = [Message::new(Role::User, "Hello?"), Message::new(Role::Assistant, "Yes.")];
        let behind = || -> Result<Vec<u32>, Fault> {
            let prompt = self.prompt(&messages[..1], &[])?;
            let rendered = self.rendered(&messages, &[])?;
            match rendered.text.starts_with(&prompt.text) {
                true => self.behind(&rendered, &prompt),
                false => Ok(Vec::new()),
            }
        };
        let Ok(mut tokens) = behind() else { return Vec::new() };
        let end = tokens.iter().rposition(|token| self.tokenizer.end_of_turn().contains(token));
        end.map_or_else(Vec::new, |end| tokens.split_off(end + 1))
    }

    fn behind(&self, rendered: &Rendered, prompt: &Prompt) -> Result<Vec<u32>, Fault> {
        let bytes = prompt.text.len();
        self.tokenizer
            .encode_rendered_behind(rendered, &prompt.tokens, bytes)
            .map_err(|error| not_encodable(&error))
    }

    /// The answer where the template writes prompts alone, as those of models that only continue what they are given: its text, and the
    /// token that ends a sequence, where a server stops.
    fn behind_a_prompt_alone(&self, last: &Message) -> Result<Vec<u32>, Fault> {
        let Some(end) = self.tokenizer.end_of_turn().first() else {
            let reason = "the template writes no answers and the tokenizer has no token that ends one: \
                the end of the answer would never be learnt";
            return Err(Fault::new(BadKind::NotEncodable, reason));
        };
        let pieces = [(last.content.as_str(), Specials::AsText)];
        let mut ids = self.tokenizer.encode_pieces(&pieces).map_err(|error| not_encodable(&error))?;
        ids.push(*end);
        Ok(ids)
    }

    /// The answer where the template does not write the prompt's text before it: as it writes it behind the question alone, or
    /// with the thought that the prompt opens.
    fn behind_another(&self, prompt: &Prompt, last: &Message, before: &[Message]) -> Result<Vec<u32>, Fault> {
        let question = before.iter().rposition(|message| message.role == Role::User);
        let alone = &before[question.unwrap_or(0)..];
        let rendered = self.rendered(&[alone, std::slice::from_ref(last)].concat(), &[])?;
        let short = self.prompt(alone, &[])?;
        if rendered.text.starts_with(&short.text) {
            return self.behind(&rendered, &short);
        }
        let opening = self.style.thinking.markers.opening;
        let closed = short.text.trim_end().strip_suffix(opening).filter(|_| prompt.opens_thought);
        let Some(start) = closed.filter(|closed| rendered.text.starts_with(closed)).map(str::len) else {
            let reason = "the template does not write the answer behind the prompt that it makes for it";
            return Err(Fault::new(BadKind::NotEncodable, reason));
        };
        self.with_thought(&rendered, start, last)
    }

    /// The answer behind a prompt that opens a thought, where the template leaves the thought out of what was said.
    fn with_thought(&self, rendered: &Rendered, start: usize, message: &Message) -> Result<Vec<u32>, Fault> {
        let markers = self.style.thinking.markers;
        let written = &rendered.text[start..];
        let encoded =
            |from| self.tokenizer.encode_rendered_from(rendered, from).map_err(|error| not_encodable(&error));
        if let Some(place) = written.find(markers.opening).filter(|&place| written[..place].trim().is_empty())
        {
            let thought = start + place + markers.opening.len();
            let spaces = rendered.text[thought..].len() - rendered.text[thought..].trim_start().len();
            return encoded(thought + spaces);
        }
        let Some(thought) = message.thought.as_deref().map(str::trim).filter(|thought| !thought.is_empty())
        else {
            let reason = "the prompt opens a thought, and the answer has none (`reasoning_content`)";
            return Err(Fault::new(BadKind::NotWritable, reason));
        };
        let end_of_thought = format!("\n{}\n\n", markers.closing);
        let pieces = [(thought, Specials::AsText), (end_of_thought.as_str(), Specials::Parse)];
        let mut ids = self.tokenizer.encode_pieces(&pieces).map_err(|error| not_encodable(&error))?;
        ids.extend(encoded(start)?);
        Ok(ids)
    }

    /// The answer up to the first token that ends the turn, where a server stops.
    fn up_to_the_end(&self, prompt: &str, mut answer: Vec<u32>) -> Result<Vec<u32>, Fault> {
        let ends = self.tokenizer.end_of_turn();
        let Some(end) = answer.iter().position(|id| ends.contains(id)) else {
            let reason = "the template ends an answer with no token that ends a turn: \
                the end of the answer would never be learnt";
            return Err(Fault::new(BadKind::NotEncodable, reason));
        };
        let rest = self.tokenizer.decode_bytes(&answer[end + 1..], ControlText::Show).unwrap_or_default();
        let is_end = |id: &u32| ends.contains(id) || self.tokenizer.token_bytes(*id).is_some_and(is_blank);
        // Some templates begin the next answer whether they are asked to or not.
        let begins_next = prompt.as_bytes().ends_with(&rest);
        let rest_is_blank = begins_next || answer[end + 1..].iter().all(is_end);
        if !rest_is_blank {
            let reason = "the template writes more behind the token that ends the turn, which a model would never come to write";
            return Err(Fault::new(BadKind::NotEncodable, reason));
        }
        if end == 0 {
            return Err(Fault::new(BadKind::EmptyAnswer, "the template writes nothing of the answer"));
        }
        answer.truncate(end + 1);
        Ok(answer)
    }
}

fn last_of(messages: &[Message]) -> Result<(&Message, &[Message]), Fault> {
    messages.split_last().ok_or_else(|| Fault::new(BadKind::NoAnswer, "there are no messages"))
}

/// The places of the answers of a conversation that are learnt, ascending.
pub(super) fn learnt_places(conversation: &Conversation, learnt: LearntAnswers) -> Vec<usize> {
    let is_learnt = |place: &usize| {
        conversation.messages[*place].role == Role::Assistant
            && conversation.unlearnt.binary_search(place).is_err()
    };
    let mut places: Vec<usize> = (0..conversation.messages.len()).filter(is_learnt).collect();
    if learnt == LearntAnswers::Last && places.len() > 1 {
        places.drain(..places.len() - 1);
    }
    places
}

/// Words alone: around a thought templates write their own white space.
fn without_spaces(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_whitespace)
}

fn refused(error: &ConversationError) -> Fault {
    Fault::new(BadKind::RefusedByTemplate, error.to_string())
}

fn not_encodable(error: &TokenizerError) -> Fault {
    Fault::new(BadKind::NotEncodable, error.to_string())
}
