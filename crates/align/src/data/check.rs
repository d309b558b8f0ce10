//! What a data set holds: counts, roles, lengths, duplicates, and what it shares with another one.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use serde::Serialize;
use zhenjin_conversation::Role;
use zhenjin_tokenizer::EncodedDialogue;

use super::dataset::Dataset;
use super::encode_all::{EncodeCounts, EncodeOptions, Encoded, Overlong};
use super::encoder::{Encoder, LearntAnswers};
use super::errors::{BadPolicy, BadRecords, DataError};
use super::example::{Body, Example, Kind, Origin};
use super::formats::Format;
use super::likeness::{Found, Likenesses, Sketch};

/// What is looked at.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions {
    /// The context for which too long examples are counted.
    pub context: Option<usize>,
    /// Which answers are learnt.
    pub learnt: LearntAnswers,
    /// Threads; no result depends on them.
    pub threads: NonZeroUsize,
}

/// A file of the data.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// The file, as the caller named it.
    pub path: String,
    /// What its records are.
    pub format: Option<&'static str>,
    /// Records, the bad ones included.
    pub records: u64,
}

/// How long examples are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lengths {
    /// How many.
    pub count: u64,
    /// All together.
    pub total: u64,
    /// The shortest.
    pub least: u64,
    /// Half of them are at most so long.
    pub median: u64,
    /// 90 % of them are at most so long.
    pub percentile_90: u64,
    /// 99 % of them are at most so long.
    pub percentile_99: u64,
    /// The longest.
    pub most: u64,
    /// How many have up to 2ⁿ, by 2ⁿ.
    pub up_to: BTreeMap<u64, u64>,
}

impl Lengths {
    /// The lengths in any order.
    pub fn of(mut lengths: Vec<u64>) -> Lengths {
        lengths.sort_unstable();
        let (Some(&least), Some(&most)) = (lengths.first(), lengths.last()) else {
            return Lengths::default();
        };
        let count = lengths.len();
        let percentile = |percent: usize| lengths[(count * percent).div_ceil(100).max(1) - 1];
        let mut up_to = BTreeMap::new();
        for length in &lengths {
            *up_to.entry(length.next_power_of_two()).or_default() += 1;
        }
        Lengths {
            count: count as u64,
            total: lengths.iter().sum(),
            least,
            median: percentile(50),
            percentile_90: percentile(90),
            percentile_99: percentile(99),
            most,
            up_to,
        }
    }
}

/// Examples that are alike, counted, with the first two of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Alike {
    /// Examples that are like an earlier one.
    pub count: u64,
    /// The first of them, and the one that it is like, as `file:line`.
    pub first: Option<(String, String)>,
    /// Examples that are like none with which they were compared, where so many are a little like them that only the likeliest were
    /// compared: one of them may be like another all the same. Always 0 where examples are the same or not.
    pub not_all_compared: u64,
}

impl Alike {
    fn add(&mut self, one: impl FnOnce() -> String, other: impl FnOnce() -> String) {
        self.count += 1;
        self.first.get_or_insert_with(|| (one(), other()));
    }

    fn add_found(&mut self, found: Found, one: impl FnOnce() -> String, other: impl FnOnce(usize) -> String) {
        match found {
            Found::Alike(number) => self.add(one, || other(number)),
            Found::NotAllCompared => self.not_all_compared += 1,
            Found::None => {}
        }
    }
}

/// What a model's tokenizer and template make of the data. Of conversations and pairs that are longer than the model's context, no more may be
/// encoded and counted than shows it ([`EncodeCounts::unfinished`]).
#[derive(Clone, Debug, Serialize)]
pub struct TokenReport {
    /// Examples in tokens; both sides of a pair count.
    pub lengths: Lengths,
    /// Of them, tokens that are learnt.
    pub learnt: Lengths,
    /// What was done to conversations.
    pub counts: EncodeCounts,
    /// Records that the template cannot write.
    pub bad: BadRecords,
    /// Examples that are longer than the context that was asked for.
    pub too_long: Option<u64>,
    /// The model's context, in tokens, where it is known.
    pub context: Option<usize>,
    /// Conversations, pairs, judged answers and prompts that are longer than it, wholly encoded or not.
    pub beyond_context: u64,
    /// The longest example, as `file:line`.
    pub longest: Option<String>,
}

/// What the data share with others.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Leaks {
    /// Examples of the others.
    pub against: u64,
    /// Records of the others that are bad, and are compared with nothing.
    pub bad: BadRecords,
    /// Examples that are there word by word.
    pub examples: Alike,
    /// Examples whose conversation begins with the same question, whatever the system messages before it.
    pub questions: Alike,
    /// Examples whose question is nearly the same, likewise.
    pub near_questions: Alike,
}

/// What a data set holds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Its files.
    pub files: Vec<FileReport>,
    /// Good examples by kind.
    pub kinds: BTreeMap<Kind, u64>,
    /// Messages by role, in both sides of a pair.
    pub roles: BTreeMap<&'static str, u64>,
    /// Characters of an example, all messages together.
    pub characters: Lengths,
    /// Records that are bad before any template.
    pub bad: BadRecords,
    /// In tokens; without a model nothing is known of them.
    pub tokens: Option<TokenReport>,
    /// Examples that are the same as an earlier one.
    pub duplicates: Alike,
    /// Examples that nearly are, by the runs of five characters in them; system messages do not count.
    pub near_duplicates: Alike,
    /// What the data share with others.
    pub leaks: Option<Leaks>,
    /// Fields that have no effect.
    pub unread_fields: BTreeMap<String, u64>,
    /// What was done beside reading.
    pub notes: BTreeMap<String, u64>,
    /// SHA-256 of the contents.
    pub fingerprint: String,
}

/// Looks at data; `against` are others with which they should share nothing, such as those of a test.
///
/// # Errors
/// None for what is in the data: that is what the report says.
pub fn check(
    data: &Dataset,
    against: Option<&Dataset>,
    encoder: Option<&Encoder<'_>>,
    options: &CheckOptions,
) -> Result<Report, DataError> {
    let mut roles = BTreeMap::new();
    let mut characters = Vec::new();
    for Example { body, .. } in &data.examples {
        body.messages().for_each(|message| *roles.entry(message.role.name()).or_default() += 1);
        characters.push(body.messages().map(|message| message.content.chars().count() as u64).sum());
    }
    let (duplicates, near_duplicates) = duplicates(data);
    let mut notes = data.notes.clone();
    notes.extend(encoder.map(|encoder| control_letters(data, encoder)).unwrap_or_default());
    let files = data.files.iter().map(|file| FileReport {
        path: file.path.display().to_string(),
        format: file.format,
        records: file.records,
    });
    Ok(Report {
        files: files.collect(),
        kinds: data.kinds(),
        roles,
        characters: Lengths::of(characters),
        bad: data.bad.clone(),
        tokens: encoder.map(|encoder| tokens(data, encoder, options)).transpose()?,
        duplicates,
        near_duplicates,
        leaks: against.map(|against| leaks(data, against)),
        unread_fields: data.unread_fields.clone(),
        notes,
        fingerprint: data.fingerprint(),
    })
}

fn tokens(data: &Dataset, encoder: &Encoder<'_>, options: &CheckOptions) -> Result<TokenReport, DataError> {
    let encode = EncodeOptions {
        context: usize::MAX,
        overlong: Overlong::Drop,
        bad: BadPolicy::Drop,
        learnt: options.learnt,
        threads: options.threads,
    };
    // What is asked about is encoded, and what the model can read. Thumbs and prompts have one answer at most, so that they are encoded once.
    let context = encoder.context().max(options.context.unwrap_or(0));
    let up_to_context = EncodeOptions { context, ..encode };
    let (mut lengths, mut learnt) = (Vec::new(), Vec::new());
    let (mut bad, mut counts) = (BadRecords::default(), EncodeCounts::default());
    let mut longest = None;
    let (mut too_long, mut beyond_context) = (0, 0);
    // Whether one of them is longer than the model's context.
    let mut add = |place: &dyn Fn() -> String, dialogues: &[&EncodedDialogue]| -> bool {
        for dialogue in dialogues {
            let length = dialogue.ids.len() as u64;
            if longest.as_ref().is_none_or(|(most, _)| *most < length) {
                longest = Some((length, place()));
            }
            lengths.push(length);
            learnt.push(dialogue.assistant_mask.iter().filter(|learnt| **learnt).count() as u64);
        }
        let limit = options.context.unwrap_or(usize::MAX);
        let is_longer = |most: usize| dialogues.iter().any(|dialogue| dialogue.ids.len() > most);
        too_long += u64::from(is_longer(limit));
        is_longer(encoder.context())
    };
    for (kind, part) in data.by_kind() {
        macro_rules! collect {
            ($encoded:expr, |$example:ident| $dialogues:expr) => {{
                let Encoded { examples, origins, sources, bad: others, counts: more } = $encoded;
                // The answers of one conversation may be examples of their own, which stand together.
                let mut counted = None;
                for ($example, (origin, source)) in examples.iter().zip(origins.into_iter().zip(sources)) {
                    if add(&|| data.place(origin), &$dialogues) && counted != Some(source) {
                        counted = Some(source);
                        beyond_context += 1;
                    }
                }
                bad.merge(others);
                counts.add(&more);
            }};
        }
        match kind {
            Kind::Conversations => {
                collect!(encoder.encode_beginnings(&part, &up_to_context)?, |one| [one]);
            }
            Kind::Pairs => {
                let pairs = encoder.encode_pair_beginnings(&part, &up_to_context)?;
                collect!(pairs, |pair| [&pair.chosen, &pair.rejected]);
            }
            Kind::Thumbs => collect!(encoder.encode_thumbs(&part, &encode)?, |thumb| [&thumb.dialogue]),
            Kind::Tasks => {
                collect!(encoder.encode_tasks(&part, &encode)?, |task| [&EncodedDialogue {
                    ids: task.prompt.clone(),
                    assistant_mask: vec![false; task.prompt.len()],
                }])
            }
        }
    }
    Ok(TokenReport {
        lengths: Lengths::of(lengths),
        learnt: Lengths::of(learnt),
        counts,
        bad,
        too_long: options.context.map(|_| too_long + counts.too_long),
        context: Some(encoder.context()).filter(|tokens| *tokens < usize::MAX),
        beyond_context,
        longest: longest.map(|(_, place)| place),
    })
}

impl Dataset {
    /// The examples of each kind.
    fn by_kind(&self) -> Vec<(Kind, Dataset)> {
        let of = |kind: Kind| {
            let examples =
                self.examples.iter().filter(|example| example.body.kind() == kind).cloned().collect();
            (kind, Dataset { files: self.files.clone(), examples, ..Dataset::default() })
        };
        self.kinds().into_keys().map(of).collect()
    }
}

/// The text of an example's messages, or only of its question. System messages are left out: where all examples have one long system
/// message, different questions behind it would nearly be the same.
fn text_of(example: &Example, question_alone: bool) -> String {
    let mut text = String::new();
    let is_counted = |role: Role| !question_alone || role != Role::Assistant;
    for message in example.body.messages().take_while(|message| is_counted(message.role)) {
        if message.role != Role::System {
            text.push_str(&message.content);
            text.push('\n');
        }
    }
    text
}

/// In how many records an answer holds the letters of a control token, by what is said of it. They are most often left over from another
/// template.
fn control_letters(data: &Dataset, encoder: &Encoder<'_>) -> BTreeMap<String, u64> {
    let texts = encoder.control_texts();
    let mut records: BTreeMap<&str, BTreeSet<Origin>> = BTreeMap::new();
    for Example { origin, body } in &data.examples {
        for message in body.messages().filter(|message| message.role == Role::Assistant) {
            for text in [Some(&message.content), message.thought.as_ref()].into_iter().flatten() {
                if let Some(found) = texts.first_in(text) {
                    records.entry(found).or_default().insert(*origin);
                }
            }
        }
    }
    let note = |(text, records): (&str, BTreeSet<Origin>)| {
        let note =
            format!("answers with the letters of the control token {text}, which are learnt as letters");
        (note, records.len() as u64)
    };
    records.into_iter().map(note).collect()
}

/// Whether two examples that follow one another are pairs of one list of ranked answers. All records of an array in one line have that line, so
/// that their prompts tell as well.
fn are_of_one_list(data: &Dataset, one: &Example, other: &Example) -> bool {
    let format = data.files.get(one.origin.file).and_then(|file| file.format);
    let is_list = format == Some(Format::RankedAnswers.name()) && one.origin == other.origin;
    match (&one.body, &other.body) {
        (Body::Pair(one), Body::Pair(other)) => is_list && one.prompt == other.prompt,
        _ => false,
    }
}

/// Examples that are the same as an earlier one, and those that nearly are. Pairs of one list share their answers by their nature, and are not
/// compared with one another.
fn duplicates(data: &Dataset) -> (Alike, Alike) {
    let (mut same, mut near) = (Alike::default(), Alike::default());
    let mut seen = BTreeMap::new();
    let mut likenesses = Likenesses::default();
    let mut of_list: Vec<(usize, Sketch)> = Vec::new();
    let mut before: Option<&Example> = None;
    for (number, example) in data.examples.iter().enumerate() {
        if !before.is_some_and(|before| are_of_one_list(data, before, example)) {
            of_list.drain(..).for_each(|(number, sketch)| likenesses.add(number, sketch));
        }
        before = Some(example);
        let place = |number: usize| data.place(data.examples[number].origin);
        let earlier = *seen.entry(example.body.content_hash()).or_insert(number);
        if earlier != number {
            if !are_of_one_list(data, &data.examples[earlier], example) {
                same.add(|| place(number), || place(earlier));
            }
            continue;
        }
        let sketch = Sketch::of(&text_of(example, false));
        near.add_found(likenesses.find(&sketch), || place(number), place);
        of_list.push((number, sketch));
    }
    (same, near)
}

fn leaks(data: &Dataset, against: &Dataset) -> Leaks {
    let (count, bad) = (against.examples.len() as u64, against.bad.clone());
    let mut leaks = Leaks { against: count, bad, ..Leaks::default() };
    let (mut contents, mut questions) = (BTreeMap::new(), BTreeMap::new());
    let mut likenesses = Likenesses::default();
    for (number, example) in against.examples.iter().enumerate() {
        contents.entry(example.body.content_hash()).or_insert(number);
        questions.entry(example.body.question_hash()).or_insert_with(|| {
            likenesses.add(number, Sketch::of(&text_of(example, true)));
            number
        });
    }
    for example in &data.examples {
        let here = || data.place(example.origin);
        let there = |number: usize| against.place(against.examples[number].origin);
        if let Some(&number) = contents.get(&example.body.content_hash()) {
            leaks.examples.add(here, || there(number));
        }
        if let Some(&number) = questions.get(&example.body.question_hash()) {
            leaks.questions.add(here, || there(number));
        } else {
            let found = likenesses.find(&Sketch::of(&text_of(example, true)));
            leaks.near_questions.add_found(found, here, there);
        }
    }
    leaks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occur() {
        let lengths = Lengths::of((1..=100).rev().collect());
        assert_eq!((lengths.least, lengths.median, lengths.percentile_90), (1, 50, 90));
        assert_eq!((lengths.percentile_99, lengths.most, lengths.total), (99, 100, 5050));
        assert_eq!(lengths.up_to.get(&64), Some(&32));
        assert_eq!(Lengths::of(vec![7]).median, 7);
        assert_eq!(Lengths::of(Vec::new()), Lengths::default());
    }
}
