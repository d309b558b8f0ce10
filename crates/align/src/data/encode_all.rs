//! All examples of a data set → tokens, on several threads; too long ones dropped or split, and everything counted.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Mutex;
use std::thread;

use serde::Serialize;
use sha2::{Digest, Sha256};
use zhenjin_conversation::{Message, Role};
use zhenjin_tokenizer::EncodedDialogue;

use super::dataset::Dataset;
use super::dialogues::{Bound, Dialogues};
use super::encoded::{Beginning, EncodedPair, EncodedTask, EncodedThumb};
use super::encoder::{Apart, Encoder, LearntAnswers, learnt_places};
use super::errors::{BadPolicy, BadRecords, DataError, Fault};
use super::example::{Body, Conversation, Example, Kind, Origin};

/// Examples that a thread takes at once.
const AT_ONCE: usize = 16;

/// What happens to examples with more tokens than the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlong {
    /// The first one is an error.
    #[default]
    Error,
    /// They are left out and counted.
    Drop,
    /// Conversations are divided between turns, each part with the system message and with an answer that is learnt; a turn that is too
    /// long alone is left out. For other kinds this cannot be.
    Split,
}

/// How examples are encoded.
#[derive(Clone, Copy, Debug)]
pub struct EncodeOptions {
    /// The most tokens of an example; of a prompt for rewards, the most tokens of the prompt.
    pub context: usize,
    /// What happens to longer ones.
    pub overlong: Overlong,
    /// What happens to examples that the template cannot write.
    pub bad: BadPolicy,
    /// Which answers of a conversation are learnt.
    pub learnt: LearntAnswers,
    /// Threads; no result depends on them.
    pub threads: NonZeroUsize,
}

/// What was done to examples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EncodeCounts {
    /// Examples, or turns that stood alone, that were too long and left out.
    pub too_long: u64,
    /// Conversations that were divided because they were too long.
    pub split: u64,
    /// Into how many parts.
    pub parts: u64,
    /// Conversations whose answers are examples of their own, because the template rewrites what was said before.
    pub turns_apart: u64,
    /// Conversations whose answers are examples of their own, because other tokens stand for the same text once more
    /// follows it.
    pub boundaries_apart: u64,
    /// Where data are only looked at: conversations and pairs that are longer than the model's context, of which no more was encoded than is needed
    /// to know it. Of each, the last example has fewer tokens than it would have, and examples behind that one are among those that are too long.
    pub unfinished: u64,
}

impl EncodeCounts {
    /// Of a conversation whose answers stand apart for this reason.
    fn of(apart: Option<Apart>) -> EncodeCounts {
        EncodeCounts {
            turns_apart: u64::from(apart == Some(Apart::Rewritten)),
            boundaries_apart: u64::from(apart == Some(Apart::OtherTokens)),
            ..EncodeCounts::default()
        }
    }

    /// Adds those of others.
    pub(super) fn add(&mut self, others: &EncodeCounts) {
        self.too_long += others.too_long;
        self.split += others.split;
        self.parts += others.parts;
        self.turns_apart += others.turns_apart;
        self.boundaries_apart += others.boundaries_apart;
        self.unfinished += others.unfinished;
    }
}

/// Examples in tokens, in the order of the data.
#[derive(Clone, Debug)]
pub struct Encoded<T> {
    /// The examples.
    pub examples: Vec<T>,
    /// Where each stands.
    pub origins: Vec<Origin>,
    /// Of which example of the data each was made, by its place there.
    pub sources: Vec<usize>,
    /// Those that the template cannot write.
    pub bad: BadRecords,
    /// What was done to the others.
    pub counts: EncodeCounts,
}

/// What one example became.
struct Outcome<T> {
    parts: Vec<T>,
    counts: EncodeCounts,
}

/// Why an example is not there.
enum Missing {
    Bad(Fault),
    /// It has so many tokens, or more if this is not all of it.
    TooLong {
        tokens: usize,
        is_whole: bool,
    },
}

/// Some turns of a conversation, with the system message before them.
struct Part {
    messages: Vec<Message>,
    found: Dialogues,
}

impl From<Fault> for Missing {
    fn from(fault: Fault) -> Missing {
        Missing::Bad(fault)
    }
}

impl Encoder<'_> {
    /// Conversations to imitate.
    ///
    /// # Errors
    /// [`DataError::Purpose`] for examples of another kind (see [`Dataset::for_kind`]), [`DataError::Bad`] and
    /// [`DataError::TooLong`] where the options say so.
    pub fn encode_conversations(
        &self,
        data: &Dataset,
        options: &EncodeOptions,
    ) -> Result<Encoded<EncodedDialogue>, DataError> {
        encode_all(data, options, Kind::Conversations, |body| match body {
            Body::Conversation(conversation) => Some(self.conversation_within(conversation, options)),
            _ => None,
        })
    }

    /// Preference pairs.
    ///
    /// # Errors
    /// As [`Encoder::encode_conversations`], and [`DataError::Setting`] where long ones are to be split.
    pub fn encode_pairs(
        &self,
        data: &Dataset,
        options: &EncodeOptions,
    ) -> Result<Encoded<EncodedPair>, DataError> {
        cannot_split(options, "a pair")?;
        encode_all(data, options, Kind::Pairs, |body| match body {
            Body::Pair(pair) => {
                let found = self.pair_within(pair, options.context).map_err(Missing::from);
                Some(found.and_then(|Beginning { example, unread }| {
                    let tokens = example.chosen.ids.len().max(example.rejected.ids.len());
                    whole(example, tokens, unread == 0, options)
                }))
            }
            _ => None,
        })
    }

    /// Judged answers.
    ///
    /// # Errors
    /// As [`Encoder::encode_pairs`].
    pub fn encode_thumbs(
        &self,
        data: &Dataset,
        options: &EncodeOptions,
    ) -> Result<Encoded<EncodedThumb>, DataError> {
        cannot_split(options, "a judged answer")?;
        encode_all(data, options, Kind::Thumbs, |body| match body {
            Body::Thumb(thumb) => Some(self.thumb(thumb).map_err(Missing::from).and_then(|thumb| {
                let tokens = thumb.dialogue.ids.len();
                whole(thumb, tokens, true, options)
            })),
            _ => None,
        })
    }

    /// Prompts for rewards.
    ///
    /// # Errors
    /// As [`Encoder::encode_pairs`].
    pub fn encode_tasks(
        &self,
        data: &Dataset,
        options: &EncodeOptions,
    ) -> Result<Encoded<EncodedTask>, DataError> {
        cannot_split(options, "a prompt")?;
        encode_all(data, options, Kind::Tasks, |body| match body {
            Body::Task(task) => Some(self.task(task).map_err(Missing::from).and_then(|task| {
                let tokens = task.prompt.len();
                whole(task, tokens, true, options)
            })),
            _ => None,
        })
    }

    /// Conversations of any length. Of those that are longer than `options.context`, no more is encoded than is needed to know it: see
    /// [`EncodeCounts::unfinished`].
    ///
    /// # Errors
    /// As [`Encoder::encode_conversations`], but for [`DataError::TooLong`].
    pub(super) fn encode_beginnings(
        &self,
        data: &Dataset,
        options: &EncodeOptions,
    ) -> Result<Encoded<EncodedDialogue>, DataError> {
        encode_all(data, options, Kind::Conversations, |body| match body {
            Body::Conversation(conversation) => Some(self.beginning(conversation, options)),
            _ => None,
        })
    }

    /// Preference pairs of any length, as [`Encoder::encode_beginnings`].
    ///
    /// # Errors
    /// As [`Encoder::encode_beginnings`].
    pub(super) fn encode_pair_beginnings(
        &self,
        data: &Dataset,
        options: &EncodeOptions,
    ) -> Result<Encoded<EncodedPair>, DataError> {
        encode_all(data, options, Kind::Pairs, |body| match body {
            Body::Pair(pair) => {
                let found = self.pair_within(pair, options.context).map_err(Missing::from);
                Some(found.map(|Beginning { example, unread }| {
                    let counts =
                        EncodeCounts { unfinished: u64::from(unread > 0), ..EncodeCounts::default() };
                    Outcome { parts: vec![example], counts }
                }))
            }
            _ => None,
        })
    }

    fn beginning(
        &self,
        conversation: &Conversation,
        options: &EncodeOptions,
    ) -> Result<Outcome<EncodedDialogue>, Missing> {
        let places = learnt_places(conversation, options.learnt);
        let bound = Bound::of_each(options.context, true);
        let found = self.dialogues(&conversation.messages, &conversation.tools, &places, bound)?;
        let Dialogues { examples, apart, left_out, .. } = found;
        let counts = EncodeCounts {
            too_long: left_out.unwrap_or(0) as u64,
            unfinished: u64::from(left_out.is_some()),
            ..EncodeCounts::of(apart)
        };
        Ok(Outcome { parts: examples, counts })
    }

    fn conversation_within(
        &self,
        conversation: &Conversation,
        options: &EncodeOptions,
    ) -> Result<Outcome<EncodedDialogue>, Missing> {
        let places = learnt_places(conversation, options.learnt);
        let bound = Bound::of_each(options.context, options.overlong == Overlong::Drop);
        let found = self.dialogues(&conversation.messages, &conversation.tools, &places, bound)?;
        let tokens = found.longest();
        let Dialogues { examples, apart, left_out, .. } = found;
        let counts = EncodeCounts::of(apart);
        if tokens <= options.context {
            return Ok(Outcome { parts: examples, counts });
        }
        match options.overlong {
            Overlong::Error => Err(Missing::TooLong { tokens, is_whole: left_out.is_none() }),
            Overlong::Drop => {
                let (parts, dropped): (Vec<_>, Vec<_>) =
                    examples.into_iter().partition(|example| example.ids.len() <= options.context);
                let too_long = (dropped.len() + left_out.unwrap_or(0)) as u64;
                Ok(Outcome { parts, counts: EncodeCounts { too_long, ..counts } })
            }
            Overlong::Split => {
                let (found, too_long) = self.split(conversation, options)?;
                let counts = EncodeCounts {
                    too_long,
                    split: u64::from(!found.examples.is_empty()),
                    parts: found.examples.len() as u64,
                    ..EncodeCounts::of(apart.max(found.apart))
                };
                Ok(Outcome { parts: found.examples, counts })
            }
        }
    }

    /// The conversation in parts that fit, each as many turns as fit, and how many turns are too long alone. Turns without a learnt answer
    /// are no parts of their own: those that fit stand before the next one that has one. No more is encoded at once than fits, and one turn.
    fn split(
        &self,
        conversation: &Conversation,
        options: &EncodeOptions,
    ) -> Result<(Dialogues, u64), Missing> {
        let messages = &conversation.messages;
        // Those of the whole conversation: a part by itself would learn its own last answer.
        let learnt = learnt_places(conversation, options.learnt);
        let system = messages.iter().take_while(|message| message.role == Role::System).count();
        let mut starts: Vec<usize> =
            (system..messages.len()).filter(|&place| begins_turn(messages, place)).collect();
        starts.push(messages.len());
        let next_learnt = |first: usize| -> Option<usize> {
            let place = learnt.get(learnt.partition_point(|place| *place < starts[first]))?;
            Some(starts.partition_point(|start| start <= place).saturating_sub(1))
        };
        // The turns as a part, if they fit.
        let encoded = |first: usize, end: usize| -> Result<Option<Part>, Missing> {
            let part = part_of(conversation, system, starts[first]..starts[end], &learnt);
            let places = learnt_places(&part, LearntAnswers::All);
            let bound = Bound::of_each(options.context, false);
            let found = self.dialogues(&part.messages, &part.tools, &places, bound)?;
            let fits = found.longest() <= options.context;
            Ok(fits.then_some(Part { messages: part.messages, found }))
        };
        let mut all = Dialogues::default();
        let (mut too_long, mut behind) = (0, 0);
        while let Some(turn) = next_learnt(behind) {
            let (mut first, mut end) = (turn, turn + 1);
            if let Some(mut part) = encoded(first, end)? {
                while first > behind
                    && let Some(longer) = encoded(first - 1, end)?
                {
                    (part, first) = (longer, first - 1);
                }
                while let Some(next) = next_learnt(end)
                    && self.grow(&mut part, conversation, starts[end]..starts[next + 1], &learnt, options)?
                {
                    end = next + 1;
                }
                all.apart = all.apart.max(part.found.apart);
                all.examples.append(&mut part.found.examples);
            } else {
                too_long += 1;
            }
            behind = end;
        }
        Ok((all, too_long))
    }

    /// Adds the messages at `places` behind a part, if it still fits; its examples are otherwise as they were. What was encoded before stays as
    /// it is, since the prompts of earlier answers do.
    fn grow(
        &self,
        part: &mut Part,
        conversation: &Conversation,
        places: Range<usize>,
        learnt: &[usize],
        options: &EncodeOptions,
    ) -> Result<bool, Missing> {
        let Part { messages, found } = part;
        let (start, apart) = (messages.len(), found.apart);
        let (count, tokens) = (found.examples.len(), found.examples.last().map_or(0, |last| last.ids.len()));
        messages.extend_from_slice(&conversation.messages[places.clone()]);
        let first = learnt.partition_point(|place| *place < places.start);
        for place in learnt[first..].iter().take_while(|place| **place < places.end) {
            let said = &messages[..=start + place - places.start];
            let prompt = self.prompt_of_last(said, &conversation.tools)?;
            let mut fits = prompt.tokens.len() <= options.context;
            if fits {
                let answer = self.answer_behind(&prompt, said, &conversation.tools)?;
                self.add_answer(found, prompt.tokens, &answer);
                fits = found.examples.last().is_none_or(|last| last.ids.len() <= options.context);
            }
            if !fits {
                found.apart = apart;
                found.examples.truncate(count);
                if let Some(last) = found.examples.last_mut() {
                    last.ids.truncate(tokens);
                    last.assistant_mask.truncate(tokens);
                }
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn begins_turn(messages: &[Message], place: usize) -> bool {
    let follows = place.checked_sub(1).map(|before| messages[before].role);
    messages[place].role == Role::User || follows.is_none_or(|role| role == Role::System)
}

/// Some messages with the system message before them. Of their answers those are learnt whose place in the whole is among `learnt`.
fn part_of(
    conversation: &Conversation,
    system: usize,
    places: Range<usize>,
    learnt: &[usize],
) -> Conversation {
    let start = places.start;
    let messages = [&conversation.messages[..system], &conversation.messages[places.clone()]].concat();
    let unlearnt = places.filter(|place| learnt.binary_search(place).is_err());
    let unlearnt = unlearnt.map(|place| place - start + system).collect();
    Conversation { messages, tools: conversation.tools.clone(), unlearnt }
}

fn cannot_split(options: &EncodeOptions, what: &str) -> Result<(), DataError> {
    if options.overlong != Overlong::Split {
        return Ok(());
    }
    let reason =
        format!("only conversations can be split at their turns; {what} cannot, but it can be dropped");
    Err(DataError::Setting { field: "overlong", reason })
}

/// An example that is used whole or not at all.
fn whole<T>(
    example: T,
    tokens: usize,
    is_whole: bool,
    options: &EncodeOptions,
) -> Result<Outcome<T>, Missing> {
    let counts = EncodeCounts::default();
    if tokens <= options.context {
        return Ok(Outcome { parts: vec![example], counts });
    }
    match options.overlong {
        Overlong::Error => Err(Missing::TooLong { tokens, is_whole }),
        _ => Ok(Outcome { parts: Vec::new(), counts: EncodeCounts { too_long: 1, ..counts } }),
    }
}

fn encode_all<T: Send>(
    data: &Dataset,
    options: &EncodeOptions,
    kind: Kind,
    encode: impl Fn(&Body) -> Option<Result<Outcome<T>, Missing>> + Sync,
) -> Result<Encoded<T>, DataError> {
    let mut results: Vec<Option<Result<Outcome<T>, Missing>>> = Vec::new();
    results.resize_with(data.examples.len(), || None);
    {
        let parts = Mutex::new(data.examples.chunks(AT_ONCE).zip(results.chunks_mut(AT_ONCE)));
        let work = || {
            loop {
                let part = parts.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
                let Some((examples, results)) = part else { break };
                for (example, result) in examples.iter().zip(results) {
                    *result = encode(&example.body);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..options.threads.get().min(data.examples.len().div_ceil(AT_ONCE)) {
                scope.spawn(work);
            }
            work();
        });
    }
    collect(data, options, kind, results)
}

fn collect<T>(
    data: &Dataset,
    options: &EncodeOptions,
    kind: Kind,
    results: Vec<Option<Result<Outcome<T>, Missing>>>,
) -> Result<Encoded<T>, DataError> {
    let (bad, counts) = (BadRecords::default(), EncodeCounts::default());
    let mut encoded = Encoded { examples: Vec::new(), origins: Vec::new(), sources: Vec::new(), bad, counts };
    for (source, (Example { origin, body }, result)) in data.examples.iter().zip(results).enumerate() {
        match result {
            Some(Ok(Outcome { parts, counts })) => {
                encoded.origins.extend(parts.iter().map(|_| *origin));
                encoded.sources.extend(parts.iter().map(|_| source));
                encoded.examples.extend(parts);
                encoded.counts.add(&counts);
            }
            Some(Err(Missing::Bad(fault))) => {
                encoded.bad.take(data.bad_record(*origin, fault), options.bad)?;
            }
            Some(Err(Missing::TooLong { tokens, is_whole })) => {
                return Err(DataError::TooLong {
                    origin: data.place(*origin),
                    tokens,
                    is_whole,
                    context: options.context,
                    can_split: kind == Kind::Conversations,
                });
            }
            None => {
                let path = data.files.get(origin.file).map(|file| file.path.clone()).unwrap_or_default();
                let hint = String::new();
                return Err(DataError::Purpose {
                    path,
                    found: body.kind().name(),
                    needed: kind.name(),
                    hint,
                });
            }
        }
    }
    Ok(encoded)
}

/// Examples whose tokens have a hash.
pub trait HashTokens {
    /// Adds everything that is trained on.
    fn hash_tokens(&self, hash: &mut Sha256);
}

impl HashTokens for EncodedDialogue {
    fn hash_tokens(&self, hash: &mut Sha256) {
        hash.update((self.ids.len() as u64).to_le_bytes());
        for (id, is_learnt) in self.ids.iter().zip(&self.assistant_mask) {
            hash.update(id.to_le_bytes());
            hash.update([u8::from(*is_learnt)]);
        }
    }
}

impl HashTokens for EncodedPair {
    fn hash_tokens(&self, hash: &mut Sha256) {
        self.chosen.hash_tokens(hash);
        self.rejected.hash_tokens(hash);
        hash.update(self.margin.map_or(u32::MAX, f32::to_bits).to_le_bytes());
    }
}

impl HashTokens for EncodedThumb {
    fn hash_tokens(&self, hash: &mut Sha256) {
        self.dialogue.hash_tokens(hash);
        hash.update([u8::from(self.liked)]);
    }
}

impl HashTokens for EncodedTask {
    fn hash_tokens(&self, hash: &mut Sha256) {
        hash.update((self.prompt.len() as u64).to_le_bytes());
        self.prompt.iter().for_each(|id| hash.update(id.to_le_bytes()));
        hash.update(serde_json::Value::Object(self.fields.clone()).to_string());
    }
}

impl<T: HashTokens> Encoded<T> {
    /// SHA-256 over all tokens and what is learnt of them, in hexadecimal: what a checkpoint remembers of its data.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        self.examples.iter().for_each(|example| example.hash_tokens(&mut hash));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
