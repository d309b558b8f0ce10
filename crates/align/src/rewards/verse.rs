//! Rewards on the form of classical Chinese verse.

use std::collections::BTreeSet;

use serde_json::Value;
use zhenjin_prosody::{Form, Poem, Standard};

use super::{Answer, Reward, RewardFault};

/// What of a poem is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aspect {
    /// Half for the number of lines, half for the share of lines with the right number of characters.
    Form,
    /// The share of the lines that should rhyme and do, with a character that no earlier one of them ends with.
    Rhyme,
    /// The share of the rules of regulated verse that are kept.
    Tones,
    /// The mean of the three.
    All,
}

/// The forms of regulated verse, of which the nearest counts where none is asked for.
const REGULATED: [Form; 4] = [
    Form { lines: 4, characters: 5 },
    Form { lines: 4, characters: 7 },
    Form { lines: 8, characters: 5 },
    Form { lines: 8, characters: 7 },
];

/// Different characters that are enough for a poem of any length.
const ENOUGH_CHARACTERS: usize = 28;

/// The form of a poem, from 0 to 1. What is asked for is the argument, or the example's field `form`: `4x7`, or a name such as
/// 七言絕句; or a list of such forms and of lists of the characters of each line, as a tune of ci has them, of which the nearest counts;
/// without either, any form of regulated verse. Rhymes and tones need no form; an answer without a poem has 0.
///
/// The rules alone are kept by two characters as well, one level and one oblique, in turn: what has fewer different characters than half of
/// all (28 are enough for any length) is worth less in every aspect, by the share of those that it lacks. Poems by people who play with one
/// word have more: 一帆一槳一漁舟，一個漁翁一釣鉤。一俯一仰一場笑，一江明月一江秋 has 17 of 28.
///
/// A tune has rules of its own for rhymes and tones, which are not known here: where the form is the characters of each line, all aspects
/// together are the form alone.
pub(super) struct VerseReward {
    pub(super) aspect: Aspect,
    pub(super) form: Option<Form>,
    pub(super) standard: Standard,
}

/// A form that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    /// Lines of equally many characters.
    Even(Form),
    /// The characters of each line.
    Lines(Vec<usize>),
}

impl Asked {
    fn of_text(text: &str) -> Result<Asked, &'static str> {
        form_of(text).map(Asked::Even).ok_or("is no form such as 4x7 or 七言絕句")
    }

    /// One of the alternatives in a list.
    fn of_value(value: &Value) -> Result<Asked, &'static str> {
        match value {
            Value::String(text) => Asked::of_text(text),
            Value::Array(lines) if !lines.is_empty() => {
                let characters = lines.iter().map(|line| line.as_u64().filter(|line| *line > 0));
                let read: Option<Vec<usize>> =
                    characters.map(|line| line.and_then(|line| usize::try_from(line).ok())).collect();
                read.map(Asked::Lines).ok_or("has a line that is no number of characters")
            }
            _ => Err("has an alternative that is neither a form nor a list of the characters of each line"),
        }
    }

    fn kept(&self, poem: &Poem) -> f64 {
        match self {
            Asked::Even(form) => kept_lines(poem, std::iter::repeat_n(form.characters, form.lines)),
            Asked::Lines(lines) => kept_lines(poem, lines.iter().copied()),
        }
    }
}

/// Reads `4x7`, `4×7`, or the name of a form in traditional or simplified characters.
pub(super) fn form_of(text: &str) -> Option<Form> {
    let text = text.trim();
    if let Some((lines, characters)) = text.split_once(['x', '×', 'X']) {
        let number =
            |text: &str| text.trim().parse::<usize>().ok().filter(|number| (1..=1000).contains(number));
        return Some(Form { lines: number(lines)?, characters: number(characters)? });
    }
    let characters = match text.chars().next()? {
        '五' => 5,
        '七' => 7,
        _ => return None,
    };
    let lines = match text.chars().skip(1).collect::<String>().as_str() {
        "言絕句" | "言绝句" | "絕" | "绝" => 4,
        "言律詩" | "言律诗" | "律" => 8,
        _ => return None,
    };
    Some(Form { lines, characters })
}

impl Reward for VerseReward {
    fn score(&self, answers: &[Answer<'_>]) -> Vec<Result<f64, RewardFault>> {
        answers.iter().map(|answer| self.of_answer(answer)).collect()
    }
}

impl VerseReward {
    fn of_answer(&self, answer: &Answer<'_>) -> Result<f64, RewardFault> {
        let poem = Poem::parse(answer.text);
        let rhyme = || {
            let rhymes = poem.shi_rhymes_by(self.standard);
            // A line alone rhymes with nothing.
            if rhymes.expected < 2 {
                return 0.0;
            }
            let rhyming = rhymes.lines.len() - rhymes.repeated.len();
            rhyming.min(rhymes.expected) as f64 / rhymes.expected as f64
        };
        let tones = || match poem.tone_checks(self.standard) {
            Some(checks) if !checks.is_empty() => {
                checks.iter().filter(|check| check.holds).count() as f64 / checks.len() as f64
            }
            _ => 0.0,
        };
        let asked = match self.aspect {
            Aspect::Rhyme => return Ok(variety(&poem) * rhyme()),
            Aspect::Tones => return Ok(variety(&poem) * tones()),
            Aspect::Form | Aspect::All => self.asked_for(answer)?,
        };
        let form = asked.iter().map(|form| form.kept(&poem)).fold(0.0, f64::max);
        let is_tune = asked.iter().any(|form| matches!(form, Asked::Lines(_)));
        let kept =
            if self.aspect == Aspect::Form || is_tune { form } else { (form + rhyme() + tones()) / 3.0 };
        Ok(variety(&poem) * kept)
    }

    /// The forms of which one is asked for.
    fn asked_for(&self, answer: &Answer<'_>) -> Result<Vec<Asked>, RewardFault> {
        if let Some(form) = self.form {
            return Ok(vec![Asked::Even(form)]);
        }
        let fault =
            |problem: &str| RewardFault::Field { field: "form".to_owned(), problem: problem.to_owned() };
        match answer.task.fields.get("form") {
            None => Ok(REGULATED.into_iter().map(Asked::Even).collect()),
            Some(Value::String(text)) => Ok(vec![Asked::of_text(text).map_err(fault)?]),
            Some(Value::Array(forms)) if !forms.is_empty() => {
                forms.iter().map(Asked::of_value).collect::<Result<_, _>>().map_err(fault)
            }
            Some(_) => Err(fault("is neither a text nor a list of forms")),
        }
    }
}

/// 1 where a poem has different characters enough, else the share of them that it has.
fn variety(poem: &Poem) -> f64 {
    let characters = || poem.lines.iter().flat_map(|line| &line.characters);
    let needed = (characters().count() / 2).min(ENOUGH_CHARACTERS);
    let different = characters().map(|one| one.traditional).collect::<BTreeSet<char>>().len();
    if different >= needed { 1.0 } else { different as f64 / needed as f64 }
}

/// Half for the number of lines, half for the share of lines with as many characters as they should have; lines too many count among all.
fn kept_lines(poem: &Poem, asked: impl ExactSizeIterator<Item = usize>) -> f64 {
    let lengths = poem.lengths();
    if lengths.is_empty() {
        return 0.0;
    }
    let (lines, longer) = (asked.len(), lengths.len().max(asked.len()));
    let right = lengths.iter().zip(asked).filter(|(length, asked)| *length == asked).count();
    0.5 * f64::from(u8::from(lengths.len() == lines)) + 0.5 * right as f64 / longer as f64
}
