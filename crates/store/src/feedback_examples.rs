//! Judgements as examples of the three kinds that training knows: preference pairs, rated answers, answers to imitate.
//!
//! What one owner says both ways about the same texts is left out whole: nobody can tell which of the two was meant.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Judgement, MessageId, Owner, Role, TrainingFeedback};

/// What a model was told before it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Whose chat it is from.
    pub owner: Owner,
    /// The question that was answered.
    pub question: MessageId,
    /// The system prompt that the model had read; may be empty.
    pub system_prompt: String,
    /// What was said, from the first message to the question.
    pub turns: Vec<(Role, String)>,
}

/// Two answers of which one is better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreferencePair {
    /// What both answer.
    pub prompt: Prompt,
    /// The better one.
    pub chosen: String,
    /// The other one.
    pub rejected: String,
}

/// An answer that is liked or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RatedAnswer {
    /// What it answers.
    pub prompt: Prompt,
    /// The answer.
    pub answer: String,
    /// Whether it is liked.
    pub liked: bool,
}

/// Why something makes no example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOut {
    /// Its owner does not allow learning from it.
    NoConsent,
    /// Its owner says it both ways.
    Contradiction,
    /// It says what another one says.
    Repeated,
    /// The answer that is liked breaks off.
    CutShort,
}

impl LeftOut {
    /// In words.
    pub fn description(self) -> &'static str {
        match self {
            LeftOut::NoConsent => "without consent",
            LeftOut::Contradiction => "said both ways by one owner",
            LeftOut::Repeated => "said before",
            LeftOut::CutShort => "liked, but the answer breaks off",
        }
    }
}

/// Examples, and how much was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedbackExamples<T> {
    /// In the order in which they were said.
    pub examples: Vec<T>,
    /// What makes no example, counted by reason.
    pub left_out: BTreeMap<LeftOut, u64>,
}

/// An owner and everything that stands before an answer: what is equal for judgements about the same thing.
type Subject<'a> = (&'a Owner, &'a str, Vec<(&'static str, &'a str)>);

fn subject(row: &TrainingFeedback) -> Subject<'_> {
    let turns = row.turns.iter().map(|(role, text)| (role.as_str(), text.trim())).collect();
    (&row.owner, row.system_prompt.trim(), turns)
}

fn prompt(row: &TrainingFeedback) -> Prompt {
    Prompt {
        owner: row.owner.clone(),
        question: row.question.clone(),
        system_prompt: row.system_prompt.clone(),
        turns: row.turns.clone(),
    }
}

/// A rating, the answer that it is about, and whether it is liked.
type Rated<'a> = (&'a TrainingFeedback, &'a str, bool);

/// One thing said, before contradictions are known.
struct Candidate<'a, S, T> {
    row: &'a TrainingFeedback,
    /// What is said, with texts whose white space at the ends does not count.
    said: S,
    /// The texts as they are.
    texts: T,
    is_cut_short: bool,
}

/// An opinion about one text.
type Opinion<'a> = Candidate<'a, (&'a str, bool), &'a str>;

/// Those whose owners allow it, and the count of the others.
fn allowed<'a>(
    rows: &'a [TrainingFeedback],
    left_out: &mut BTreeMap<LeftOut, u64>,
) -> Vec<&'a TrainingFeedback> {
    let (allowed, others): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.consents);
    count(left_out, LeftOut::NoConsent, others.len());
    allowed
}

fn count(left_out: &mut BTreeMap<LeftOut, u64>, reason: LeftOut, how_many: usize) {
    if how_many > 0 {
        *left_out.entry(reason).or_default() += how_many as u64;
    }
}

/// What is said once and never the other way round, by one owner about one prompt.
fn undisputed<'a, S: Copy + Ord, T>(
    candidates: Vec<Candidate<'a, S, T>>,
    opposite: impl Fn(S) -> S,
    left_out: &mut BTreeMap<LeftOut, u64>,
) -> Vec<Candidate<'a, S, T>> {
    let said: BTreeSet<(Subject<'_>, S)> =
        candidates.iter().map(|candidate| (subject(candidate.row), candidate.said)).collect();
    let mut taken = BTreeSet::new();
    let mut kept = Vec::new();
    for candidate in candidates {
        let subject = subject(candidate.row);
        let reason = if said.contains(&(subject.clone(), opposite(candidate.said))) {
            LeftOut::Contradiction
        } else if candidate.is_cut_short {
            LeftOut::CutShort
        } else if !taken.insert((subject, candidate.said)) {
            LeftOut::Repeated
        } else {
            kept.push(candidate);
            continue;
        };
        count(left_out, reason, 1);
    }
    kept
}

/// Pairs from choices, from corrections (which are better than what they correct), and from answers to one question of which one is
/// liked and the other is not.
pub fn preference_pairs(rows: &[TrainingFeedback]) -> FeedbackExamples<PreferencePair> {
    let mut left_out = BTreeMap::new();
    let mut candidates = Vec::new();
    let mut rated: BTreeMap<(&Owner, &MessageId), Vec<Rated<'_>>> = BTreeMap::new();
    for row in allowed(rows, &mut left_out) {
        let mut add =
            |chosen, rejected, is_cut_short| candidates.push(pair(row, chosen, rejected, is_cut_short));
        match &row.judgement {
            Judgement::Choice { chosen, rejected } => add(chosen, rejected, row.liked_is_cut_short),
            Judgement::Correction { answer, correction } => add(correction, answer, false),
            Judgement::Rating { answer, up, .. } => {
                let siblings = rated.entry((&row.owner, &row.question)).or_default();
                for (other, text, _) in siblings.iter().filter(|(_, _, liked)| *liked != *up) {
                    let is_cut_short = row.liked_is_cut_short || other.liked_is_cut_short;
                    let (chosen, rejected) =
                        if *up { (answer.as_str(), *text) } else { (*text, answer.as_str()) };
                    add(chosen, rejected, is_cut_short);
                }
                siblings.push((row, answer.as_str(), *up));
            }
        }
    }
    let kept = undisputed(candidates, |(chosen, rejected)| (rejected, chosen), &mut left_out);
    let made = kept.into_iter().map(|Candidate { row, texts: (chosen, rejected), .. }| PreferencePair {
        prompt: prompt(row),
        chosen: chosen.to_owned(),
        rejected: rejected.to_owned(),
    });
    FeedbackExamples { examples: made.collect(), left_out }
}

fn pair<'a>(
    row: &'a TrainingFeedback,
    chosen: &'a str,
    rejected: &'a str,
    is_cut_short: bool,
) -> Candidate<'a, (&'a str, &'a str), (&'a str, &'a str)> {
    Candidate { row, said: (chosen.trim(), rejected.trim()), texts: (chosen, rejected), is_cut_short }
}

/// What every judgement says of single answers: a correction and a choice like one and dislike another.
fn opinions<'a>(rows: &[&'a TrainingFeedback]) -> Vec<Opinion<'a>> {
    let mut opinions = Vec::new();
    for row in rows {
        let mut add = |text: &'a str, liked: bool, is_cut_short: bool| {
            opinions.push(Candidate { row, said: (text.trim(), liked), texts: text, is_cut_short });
        };
        match &row.judgement {
            Judgement::Rating { answer, up, .. } => add(answer, *up, row.liked_is_cut_short),
            Judgement::Correction { answer, correction } => {
                add(correction, true, false);
                add(answer, false, false);
            }
            Judgement::Choice { chosen, rejected } => {
                add(chosen, true, row.liked_is_cut_short);
                add(rejected, false, false);
            }
        }
    }
    opinions
}

fn opposite((text, liked): (&str, bool)) -> (&str, bool) {
    (text, !liked)
}

fn rated_answer(Candidate { row, said: (_, liked), texts, .. }: Opinion<'_>) -> RatedAnswer {
    RatedAnswer { prompt: prompt(row), answer: texts.to_owned(), liked }
}

/// Answers that are liked or not: rated ones, corrections and what they correct, chosen ones and those that were not.
pub fn rated_answers(rows: &[TrainingFeedback]) -> FeedbackExamples<RatedAnswer> {
    let mut left_out = BTreeMap::new();
    let opinions = opinions(&allowed(rows, &mut left_out));
    let kept = undisputed(opinions, opposite, &mut left_out);
    FeedbackExamples { examples: kept.into_iter().map(rated_answer).collect(), left_out }
}

/// Answers to imitate: corrections, and answers that were rated up; none that its owner dislikes as well. All of them are liked.
pub fn wanted_answers(rows: &[TrainingFeedback]) -> FeedbackExamples<RatedAnswer> {
    let mut left_out = BTreeMap::new();
    let rows = allowed(rows, &mut left_out);
    let all = opinions(&rows);
    let disliked: BTreeSet<(Subject<'_>, &str)> = all
        .iter()
        .filter(|opinion| !opinion.said.1)
        .map(|opinion| (subject(opinion.row), opinion.said.0))
        .collect();
    let is_wanted =
        |opinion: &Opinion<'_>| opinion.said.1 && !matches!(opinion.row.judgement, Judgement::Choice { .. });
    let wanted = all.into_iter().filter(is_wanted);
    let (disputed, wanted): (Vec<_>, Vec<_>) =
        wanted.partition(|opinion| disliked.contains(&(subject(opinion.row), opinion.said.0)));
    count(&mut left_out, LeftOut::Contradiction, disputed.len());
    let kept = undisputed(wanted, opposite, &mut left_out);
    FeedbackExamples { examples: kept.into_iter().map(rated_answer).collect(), left_out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ApiKeyId, ConversationId, FeedbackId, Timestamp};

    fn owner(name: &str) -> Owner {
        Owner::Key(ApiKeyId::from_database(name.to_owned()))
    }

    fn row(whose: &str, question: &str, judgement: Judgement) -> TrainingFeedback {
        TrainingFeedback {
            id: FeedbackId::from_database("row".to_owned()),
            owner: owner(whose),
            conversation: ConversationId::from_database("chat".to_owned()),
            question: MessageId::from_database(question.to_owned()),
            at: Timestamp::from_milliseconds(0),
            model: "tiny".to_owned(),
            rejected_model: None,
            consents: true,
            trained_in: Vec::new(),
            system_prompt: String::new(),
            turns: vec![(Role::User, question.to_owned())],
            judgement,
            liked_is_cut_short: false,
        }
    }

    fn choice(chosen: &str, rejected: &str) -> Judgement {
        Judgement::Choice { chosen: chosen.to_owned(), rejected: rejected.to_owned() }
    }

    fn rating(answer: &str, up: bool) -> Judgement {
        Judgement::Rating { answer: answer.to_owned(), up, reasons: Vec::new(), comment: None }
    }

    fn correction(answer: &str, correction: &str) -> Judgement {
        Judgement::Correction { answer: answer.to_owned(), correction: correction.to_owned() }
    }

    fn pairs(rows: &[TrainingFeedback]) -> (Vec<(String, String)>, BTreeMap<LeftOut, u64>) {
        let made = preference_pairs(rows);
        (made.examples.into_iter().map(|pair| (pair.chosen, pair.rejected)).collect(), made.left_out)
    }

    fn rated(made: FeedbackExamples<RatedAnswer>) -> (Vec<(String, bool)>, BTreeMap<LeftOut, u64>) {
        (made.examples.into_iter().map(|rated| (rated.answer, rated.liked)).collect(), made.left_out)
    }

    fn texts(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(chosen, rejected)| ((*chosen).to_owned(), (*rejected).to_owned())).collect()
    }

    fn answers(rated: &[(&str, bool)]) -> Vec<(String, bool)> {
        rated.iter().map(|(text, liked)| ((*text).to_owned(), *liked)).collect()
    }

    #[test]
    fn pairs_come_from_choices_corrections_and_ratings_of_siblings() {
        let rows = [
            row("anna", "q", choice("A", "B")),
            row("anna", "q", correction("B", "C")),
            row("anna", "q", rating("D", true)),
            row("anna", "q", rating("E", false)),
            row("anna", "other", rating("F", false)),
            row("ben", "q", rating("G", false)),
            row("anna", "q", rating("H", true)),
        ];
        let expected = texts(&[("A", "B"), ("C", "B"), ("D", "E"), ("H", "E")]);
        assert_eq!(pairs(&rows), (expected, BTreeMap::new()));
        let (expected, none) = (answers(&[("C", true), ("D", true), ("H", true)]), BTreeMap::new());
        assert_eq!(rated(wanted_answers(&rows)), (expected, none));
        let said = [
            ("A", true),
            ("B", false),
            ("C", true),
            ("D", true),
            ("E", false),
            ("F", false),
            ("G", false),
            ("H", true),
        ];
        assert_eq!(rated(rated_answers(&rows)), (answers(&said), BTreeMap::from([(LeftOut::Repeated, 1)])));
    }

    #[test]
    fn what_one_owner_says_both_ways_is_left_out_and_another_owner_does_not_contradict() {
        let rows = [
            row("anna", "q", choice("A", "B")),
            row("ben", "q", choice("B", "A")),
            row("anna", "q", choice("B ", "A")),
            row("anna", "q", choice("A", "C")),
        ];
        let left_out = BTreeMap::from([(LeftOut::Contradiction, 2)]);
        assert_eq!(pairs(&rows), (texts(&[("B", "A"), ("A", "C")]), left_out));
        let indented = [row("anna", "q", choice("  A", "B"))];
        assert_eq!(pairs(&indented).0, texts(&[("  A", "B")]), "texts stay as they are");

        let rows = [
            row("anna", "q", rating("A", true)),
            row("anna", "q", correction("A", "B")),
            row("anna", "elsewhere", rating("A", false)),
            row("anna", "q", rating("same", true)),
            row("anna", "q", rating("same", false)),
        ];
        let contradictions = |count| BTreeMap::from([(LeftOut::Contradiction, count)]);
        assert_eq!(rated(rated_answers(&rows)), (answers(&[("B", true), ("A", false)]), contradictions(4)));
        assert_eq!(rated(wanted_answers(&rows)), (answers(&[("B", true)]), contradictions(2)));
        let (made, left_out) = pairs(&rows);
        assert_eq!(made, texts(&[("B", "A"), ("A", "same")]));
        assert_eq!(left_out, contradictions(1), "a text is not better than itself");
    }

    #[test]
    fn what_may_not_or_should_not_be_learned_is_counted() {
        let mut refused = row("anna", "q", choice("A", "B"));
        refused.consents = false;
        let mut cut = row("ben", "q", choice("A", "B"));
        cut.liked_is_cut_short = true;
        let mut liked = row("ben", "p", rating("C", true));
        liked.liked_is_cut_short = true;
        let rows =
            [refused, cut, liked, row("ben", "p", rating("D", false)), row("ben", "p", rating("D", false))];
        let left_out = BTreeMap::from([(LeftOut::NoConsent, 1), (LeftOut::CutShort, 3)]);
        assert_eq!(pairs(&rows), (Vec::new(), left_out));
        let left_out =
            BTreeMap::from([(LeftOut::NoConsent, 1), (LeftOut::CutShort, 2), (LeftOut::Repeated, 1)]);
        assert_eq!(rated(rated_answers(&rows)), (answers(&[("B", false), ("D", false)]), left_out));
        let left_out = BTreeMap::from([(LeftOut::NoConsent, 1), (LeftOut::CutShort, 1)]);
        assert_eq!(rated(wanted_answers(&rows)), (Vec::new(), left_out));
    }
}
