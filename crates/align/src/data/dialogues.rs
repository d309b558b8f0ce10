//! The answers of one conversation as examples, as far as they are wanted.
//!
//! Every prompt repeats what was said before it, so the time for all prompts of a conversation is the square of its length. Behind the first
//! prompt that is longer than the bound nothing more is encoded, where no later one can be shorter.

use std::ops::Range;

use zhenjin_conversation::{Message, Role, Tool};
use zhenjin_tokenizer::EncodedDialogue;

use super::encoder::{Apart, Encoder};
use super::errors::{BadKind, Fault};

/// How far a conversation is encoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    /// The most tokens of an example.
    pub(super) tokens: usize,
    /// Whether examples that fit are wanted behind one that does not.
    pub(super) others: bool,
    /// Where there are more examples than this, no more is encoded.
    pub(super) examples: usize,
    /// Likewise where all of them have more tokens than this together.
    pub(super) all_tokens: usize,
}

impl Bound {
    /// As many examples as there are, and of each so many tokens.
    pub(super) fn of_each(tokens: usize, others: bool) -> Bound {
        Bound { tokens, others, examples: usize::MAX, all_tokens: usize::MAX }
    }

    fn is_reached_by(self, examples: &[EncodedDialogue]) -> bool {
        let tokens = || examples.iter().map(|example| example.ids.len()).sum::<usize>();
        examples.len() > self.examples || (self.all_tokens < usize::MAX && tokens() > self.all_tokens)
    }
}

/// The examples of a conversation.
#[derive(Debug, Default)]
pub(super) struct Dialogues {
    pub(super) examples: Vec<EncodedDialogue>,
    /// Why there are several.
    pub(super) apart: Option<Apart>,
    /// Where the last one is longer than the bound and nothing behind it was encoded: how many examples there would be behind it.
    pub(super) left_out: Option<usize>,
    /// How many answers were not encoded, for whichever bound.
    pub(super) unread: usize,
}

impl Dialogues {
    /// Tokens of the longest, as far as it was encoded.
    pub(super) fn longest(&self) -> usize {
        self.examples.iter().map(|example| example.ids.len()).max().unwrap_or(0)
    }
}

impl Encoder<'_> {
    /// The examples of the answers at `places`, which ascend.
    ///
    /// # Errors
    /// What is wrong with the conversation, as far as it was encoded.
    pub(super) fn dialogues(
        &self,
        messages: &[Message],
        tools: &[Tool],
        places: &[usize],
        bound: Bound,
    ) -> Result<Dialogues, Fault> {
        let mut found = Dialogues::default();
        let last = places.last().copied().unwrap_or(0);
        let (mut before, mut is_kept) = (None, None);
        // Whether an answer begins an example where the user said nothing between it and the one before, as far as was seen.
        let mut within = false;
        for (number, &place) in places.iter().enumerate() {
            if bound.is_reached_by(&found.examples) {
                found.unread = places.len() - number;
                return Ok(found);
            }
            let said = &messages[..=place];
            let prompt = self.prompt_of_last(said, tools)?;
            // The first two prompts tell whether answers share an example.
            if let Some(before) = before
                && place < last
                && prompt.tokens.len() > bound.tokens
                && (!bound.others
                    || (only_grows(messages, place, last)
                        && *is_kept.get_or_insert_with(|| self.is_kept(messages, tools, place, last))))
            {
                let is_joined = self.add_answer(&mut found, prompt.tokens, &[]);
                within |= !asks(messages, before..place);
                found.unread = places.len() - number;
                found.left_out =
                    Some(if is_joined { 0 } else { examples_behind(messages, &places[number..], within) });
                return Ok(found);
            }
            let answer = self.answer_behind(&prompt, said, tools)?;
            let is_joined = self.add_answer(&mut found, prompt.tokens, &answer);
            within |= !is_joined && before.is_some_and(|before| !asks(messages, before..place));
            before = Some(place);
        }
        if found.examples.is_empty() {
            return Err(Fault::new(BadKind::NoAnswer, "there is no answer to learn"));
        }
        Ok(found)
    }

    /// Adds a prompt with its answer: to the last example, where the prompt begins with that one's tokens, and otherwise as an example of its own.
    /// Whether it was the last one.
    pub(super) fn add_answer(&self, found: &mut Dialogues, prompt: Vec<u32>, answer: &[u32]) -> bool {
        let last = found.examples.last();
        let is_joined = last.is_some_and(|last| prompt.starts_with(&last.ids));
        if let Some(last) = last
            && !is_joined
        {
            found.apart = found.apart.max(Some(self.apart(&last.ids, &prompt)));
        }
        if !is_joined {
            found.examples.push(EncodedDialogue { ids: Vec::new(), assistant_mask: Vec::new() });
        }
        if let Some(example) = found.examples.last_mut() {
            example.assistant_mask.resize(prompt.len(), false);
            example.ids = prompt;
            example.ids.extend_from_slice(answer);
            example.assistant_mask.resize(example.ids.len(), true);
        }
        is_joined
    }

    /// Whether the prompt of the answer at `last` still has everything that users said before `place`, and so has every prompt between them. Some
    /// templates write the latest question alone. A conversation that the template does not write to its end is too long however it goes on.
    fn is_kept(&self, messages: &[Message], tools: &[Tool], place: usize, last: usize) -> bool {
        let Ok(rendered) = self.rendered(&messages[..last], tools) else { return true };
        let mut rest = &rendered.text[..];
        let mut questions = messages[..place].iter().filter(|message| message.role == Role::User);
        questions.all(|question| {
            let Some((_, behind)) = rest.split_once(question.content.trim()) else { return false };
            rest = behind;
            true
        })
    }
}

/// Whether the user says something at these places.
fn asks(messages: &[Message], places: Range<usize>) -> bool {
    messages[places].iter().any(|message| message.role == Role::User)
}

/// Whether no prompt up to the one of the answer at `last` is shorter than that of the answer at `place`. Templates leave out what was thought before
/// the latest question: a prompt is at its shortest where the assistant has said nothing since, and nothing more is left out where none comes.
fn only_grows(messages: &[Message], place: usize, last: usize) -> bool {
    let is_said = |message: &&Message| matches!(message.role, Role::User | Role::Assistant);
    let latest = messages[..place].iter().rev().find(is_said);
    latest.is_some_and(|message| message.role == Role::User) || !asks(messages, place..last)
}

/// How many examples stand behind the first of `places`, which is one that began with its question; `within`, whether other answers begin one as well.
fn examples_behind(messages: &[Message], places: &[usize], within: bool) -> usize {
    places.windows(2).filter(|pair| within || asks(messages, pair[0]..pair[1])).count()
}
