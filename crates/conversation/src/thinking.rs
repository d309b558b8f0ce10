//! Thinking models: how a model's template and vocabulary mark thoughts, how it is told to think or not, and how an earlier
//! thought goes back into a conversation. Does not read answers.

use serde_json::{Map, Value, json};
use zhenjin_tokenizer::ChatTemplate;

use crate::error::ConversationError;
use crate::markers::{AnswerMarkers, ThoughtMarkers};
use crate::message::{Message, ThinkingWish};

/// Whether a model thinks before it answers, and whether it can be told to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThinkingSupport {
    /// Its template knows no thoughts.
    #[default]
    None,
    /// It thinks whenever it likes: its template has no switch.
    Always,
    /// Its template has a switch: on or off.
    Switch,
    /// Its template can be told how much.
    Effort,
}

/// Variables of templates that switch thinking on and off.
const SWITCHES: [&str; 3] = ["enable_thinking", "thinking", "enable_reasoning"];
/// The variable of templates that can be told how much.
const EFFORT: &str = "reasoning_effort";
/// Fields of a message in which templates look for an earlier thought.
const MESSAGE_FIELDS: [&str; 4] = ["reasoning_content", "reasoning", "thinking", "thought"];

/// Whether a model with this template thinks before it answers.
pub fn thinks(template: &ChatTemplate) -> bool {
    ThinkingStyle::of(Some(template), None).support() != ThinkingSupport::None
}

/// How a model thinks.
#[derive(Clone, Debug)]
pub struct ThinkingStyle {
    /// The texts around its thoughts.
    pub markers: ThoughtMarkers,
    /// The template's variable that switches thinking.
    switch: Option<&'static str>,
    takes_effort: bool,
    /// It can be told not to think by an effort of `none`.
    takes_no_effort: bool,
    /// The template names the markers.
    thinks: bool,
    history: ThoughtHistory,
}

/// How an earlier thought reaches the template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ThoughtHistory {
    /// In this field of the message.
    Field(&'static str),
    /// In the message's content, between markers, where the template looks for it.
    Content,
    /// Not at all: the template would not know what it is.
    LeftOut,
}

impl ThinkingStyle {
    /// Finds out by the variables and words of the template; `of_vocabulary` are markers that are control tokens.
    pub fn of(template: Option<&ChatTemplate>, of_vocabulary: Option<ThoughtMarkers>) -> ThinkingStyle {
        let named = template.and_then(ThoughtMarkers::of_template);
        let reads =
            |name: &str| template.is_some_and(|template| template.variables().any(|known| known == name));
        let mentions = |text: &str| template.is_some_and(|template| template.mentions(text));
        let field = MESSAGE_FIELDS.into_iter().find(|field| {
            // As the field of a message, not as a word in a sentence or a variable.
            [
                format!(".{field}"),
                format!("['{field}']"),
                format!("[\"{field}\"]"),
                format!("'{field}' in"),
                format!("\"{field}\" in"),
            ]
            .iter()
            .any(|text| mentions(text))
        });
        ThinkingStyle {
            markers: named.or(of_vocabulary).unwrap_or(ThoughtMarkers::COMMON),
            switch: SWITCHES.into_iter().find(|switch| reads(switch)),
            takes_effort: reads(EFFORT),
            takes_no_effort: reads(EFFORT) && (mentions("'none'") || mentions("\"none\"")),
            thinks: named.is_some(),
            history: match field {
                Some(field) => ThoughtHistory::Field(field),
                None if named.is_some() => ThoughtHistory::Content,
                None => ThoughtHistory::LeftOut,
            },
        }
    }

    /// Whether the model thinks, and whether it can be told to.
    pub fn support(&self) -> ThinkingSupport {
        match self {
            ThinkingStyle { takes_effort: true, .. } => ThinkingSupport::Effort,
            ThinkingStyle { switch: Some(_), .. } => ThinkingSupport::Switch,
            ThinkingStyle { thinks: true, .. } => ThinkingSupport::Always,
            _ => ThinkingSupport::None,
        }
    }

    /// Whether an earlier thought reaches the template.
    pub fn takes_thoughts(&self) -> bool {
        self.history != ThoughtHistory::LeftOut
    }

    /// Writes what is wished for into the template's variables.
    ///
    /// # Errors
    /// [`ConversationError::Invalid`] for `reasoning_effort` where the template has no switch for it.
    pub fn apply(
        &self,
        wish: &ThinkingWish,
        variables: &mut Map<String, Value>,
    ) -> Result<(), ConversationError> {
        let mut set = |name: &str, value: Value| {
            variables.insert(name.to_owned(), value);
            Ok(())
        };
        let can_think = self.support() != ThinkingSupport::None;
        match wish {
            ThinkingWish::ModelsOwn => Ok(()),
            ThinkingWish::Off => match self.switch {
                Some(switch) => set(switch, json!(false)),
                None if self.takes_no_effort => set(EFFORT, json!("none")),
                None if !can_think => Ok(()),
                None => Err(refused(
                    "this model always thinks: its chat template has no switch that turns it off",
                )),
            },
            _ if !can_think => Err(refused(
                "this model does not think before it answers: its chat template has no switch for it",
            )),
            ThinkingWish::On | ThinkingWish::WherePossible => {
                self.switch.map_or(Ok(()), |switch| set(switch, json!(true)))
            }
            ThinkingWish::Effort(effort) => {
                if let Some(switch) = self.switch {
                    set(switch, json!(true))?;
                }
                if self.takes_effort { set(EFFORT, json!(effort)) } else { Ok(()) }
            }
        }
    }

    /// The variables without a wish to think that was written as a switch; `None` where none was.
    pub(crate) fn switched_off(
        &self,
        wish: &ThinkingWish,
        variables: &Map<String, Value>,
    ) -> Option<Map<String, Value>> {
        let switch = self.switch.filter(|_| matches!(wish, ThinkingWish::On | ThinkingWish::Effort(_)))?;
        let mut variables = variables.clone();
        variables.remove(EFFORT);
        variables.insert(switch.to_owned(), json!(false));
        Some(variables)
    }

    /// The message as the template expects it, with the thought where the template looks for it.
    pub fn template_value(&self, message: &Message) -> Value {
        let Some(thought) = message.thought.as_deref().filter(|thought| !thought.is_empty()) else {
            return message.to_template_value();
        };
        match self.history {
            ThoughtHistory::Field(field) => {
                let mut value = message.to_template_value();
                value[field] = json!(thought);
                value
            }
            ThoughtHistory::Content => {
                let ThoughtMarkers { opening, closing, answer } = self.markers;
                let said = match answer {
                    Some(AnswerMarkers { opening, closing }) if !message.content.trim().is_empty() => {
                        format!("{opening}{}{closing}", message.content)
                    }
                    _ => message.content.clone(),
                };
                let content = format!("{opening}\n{thought}\n{closing}\n\n{said}");
                Message { content, ..message.clone() }.to_template_value()
            }
            ThoughtHistory::LeftOut => message.to_template_value(),
        }
    }
}

/// Variables of a chat template that follow from the request itself.
pub const REQUEST_VARIABLES: [&str; 8] = [
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "bos_token",
    "eos_token",
    "raise_exception",
    "strftime_now",
];

/// Refuses variables that the template does not read: they would change nothing without a word.
///
/// # Errors
/// [`ConversationError::Invalid`] for `chat_template_kwargs`, with the variables that there are.
pub(crate) fn check_variables(
    template: &ChatTemplate,
    variables: &Map<String, Value>,
) -> Result<(), ConversationError> {
    let Some(unread) = variables.keys().find(|name| template.variables().all(|read| read != name.as_str()))
    else {
        return Ok(());
    };
    let read: Vec<&str> = template.variables().filter(|name| !REQUEST_VARIABLES.contains(name)).collect();
    let others = if read.is_empty() { "none".to_owned() } else { read.join(", ") };
    let reason = format!("this model's chat template does not read `{unread}`; what it reads: {others}");
    Err(ConversationError::invalid("chat_template_kwargs", reason))
}

/// The refusal of a wish to think that changes nothing.
pub(crate) fn left_aside() -> ConversationError {
    refused(
        "the model's chat template leaves its switch aside in this conversation: with a system message or tools, some templates do not tell \
         the model to think; leave this out, or the system message and the tools",
    )
}

fn refused(reason: &str) -> ConversationError {
    ConversationError::invalid(EFFORT, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Role;

    const QWEN: &str = "{% for m in messages %}{% if m.reasoning_content is string %}<think>{{ m.reasoning_content }}</think>{% endif %}\
        {{ m.content }}{% endfor %}{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>{% endif %}";
    const R1: &str = "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}<think>\n";
    const PLAIN: &str = "{% for m in messages %}{{ m.content }}{% endfor %}";
    const EFFORT_WORDS: &str = "{{ reasoning_effort }}[THINK]{{ messages[0]['thinking'] }}[/THINK]";

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate::with_special_texts(source, "", "", Vec::new(), Vec::new()).expect("a template")
    }

    fn style(source: &str) -> ThinkingStyle {
        ThinkingStyle::of(Some(&template(source)), None)
    }

    fn applied(source: &str, wish: ThinkingWish) -> Result<Value, String> {
        let mut variables = Map::new();
        style(source).apply(&wish, &mut variables).map_err(|error| error.to_string())?;
        Ok(Value::Object(variables))
    }

    #[test]
    fn wishes_reach_the_template_or_are_refused() {
        let effort = || ThinkingWish::Effort("low".to_owned());
        assert_eq!(style(QWEN).support(), ThinkingSupport::Switch);
        assert_eq!(applied(QWEN, ThinkingWish::ModelsOwn), Ok(json!({})));
        assert_eq!(applied(QWEN, ThinkingWish::Off), Ok(json!({"enable_thinking": false})));
        assert_eq!(applied(QWEN, effort()), Ok(json!({"enable_thinking": true})));
        assert_eq!(style(R1).support(), ThinkingSupport::Always);
        assert_eq!(applied(R1, effort()), Ok(json!({})));
        assert!(applied(R1, ThinkingWish::Off).is_err_and(|error| error.contains("always thinks")));
        assert_eq!(style(PLAIN).support(), ThinkingSupport::None);
        assert_eq!(applied(PLAIN, ThinkingWish::Off), Ok(json!({})));
        assert!(applied(PLAIN, ThinkingWish::On).is_err_and(|error| error.contains("does not think")));
        assert!(applied(PLAIN, effort()).is_err_and(|error| error.starts_with("reasoning_effort: ")));
        assert_eq!(style(EFFORT_WORDS).support(), ThinkingSupport::Effort);
        assert_eq!(applied(EFFORT_WORDS, effort()), Ok(json!({"reasoning_effort": "low"})));
        assert!(applied(EFFORT_WORDS, ThinkingWish::Off).is_err());
    }

    #[test]
    fn earlier_thoughts_go_where_the_template_looks_for_them() {
        let mut message = Message::new(Role::Assistant, "yes");
        message.thought = Some("hm".to_owned());
        assert_eq!(style(QWEN).template_value(&message)["reasoning_content"], "hm");
        assert_eq!(style(QWEN).template_value(&message)["content"], "yes");
        assert_eq!(style(R1).template_value(&message)["content"], "<think>\nhm\n</think>\n\nyes");
        assert_eq!(style(PLAIN).template_value(&message), json!({"role": "assistant", "content": "yes"}));
        assert_eq!(style(EFFORT_WORDS).template_value(&message)["thinking"], "hm");
        assert_eq!(style(EFFORT_WORDS).markers.opening, "[THINK]");
    }

    /// Granite's variable `thinking` is no field of a message.
    #[test]
    fn granite_is_told_to_think_by_a_variable() {
        let granite = include_str!("../../tokenizer/tests/data/family_templates/granite3.jinja");
        assert_eq!(style(granite).support(), ThinkingSupport::Switch);
        assert_eq!(applied(granite, ThinkingWish::On), Ok(json!({"thinking": true})));
        assert_eq!(applied(granite, ThinkingWish::Off), Ok(json!({"thinking": false})));
        for plain in [
            include_str!("../../tokenizer/tests/data/family_templates/gemma3.jinja"),
            include_str!("../../tokenizer/tests/data/family_templates/olmo2.jinja"),
        ] {
            assert_eq!(style(plain).support(), ThinkingSupport::None);
        }
    }

    /// Regressions: Granite 3.3's markers around an answer, and Granite 3.2's sentences around a thought, were text.
    #[test]
    fn the_markers_of_granite_are_known() {
        let granite =
            style(include_str!("../../tokenizer/tests/data/family_templates/granite3.jinja")).markers;
        assert_eq!((granite.opening, granite.closing), ("<think>", "</think>"));
        let answer = granite.answer.expect("markers around the answer");
        assert_eq!((answer.opening, answer.closing), ("<response>", "</response>"));
        // Earlier answers stand there as the model wrote them, and come out of its own text as they stand in conversations.
        let source = include_str!("../../tokenizer/tests/data/family_templates/granite3.jinja");
        let mut message = Message::new(Role::Assistant, "yes");
        message.thought = Some("hm".to_owned());
        let written = "<think>\nhm\n</think>\n\n<response>yes</response>";
        assert_eq!(style(source).template_value(&message)["content"], written);
        for (said, text) in
            [("<response>yes</response>\n", "yes"), ("<response>cut", "cut"), ("plain", "plain")]
        {
            assert_eq!(granite.without_answer_markers(said), text);
        }
        assert_eq!(style(QWEN).markers.answer, None);
        let older = "{% if thinking %}Write thoughts after 'Here is my thought process:' and the answer after \
            'Here is my response:'.{% endif %}{{ messages[0].content }}";
        let older = style(older).markers;
        assert_eq!((older.opening, older.closing), ("Here is my thought process:", "Here is my response:"));
        assert_eq!(older.answer, None);
    }

    #[test]
    fn variables_that_no_template_reads_are_refused() {
        let checked = |variables: Value| {
            let variables = variables.as_object().expect("an object");
            check_variables(&template(QWEN), variables).map_err(|error| error.to_string())
        };
        assert_eq!(checked(json!({"enable_thinking": false})), Ok(()));
        let message = checked(json!({"enable_thinkin": false})).expect_err("unread");
        assert!(
            message.contains("does not read `enable_thinkin`; what it reads: enable_thinking"),
            "{message}"
        );
    }
}
