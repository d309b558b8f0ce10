//! Rewards on the form of classical Chinese verse.

use serde_json::Value;
use zhenjin_prosody::{Form, Poem, Standard};

use super::{Answer, Reward, RewardFault};

/// What of a poem is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aspect {
    /// Half for the number of lines, half for the share of lines with the right number of characters.
    Form,
    /// The share of the lines that should rhyme and do.
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

/// The form of a poem, from 0 to 1. What is asked for is the argument, or the example's field `form`: `4x7`, or a name such as
/// 七言絕句; without either, any form of regulated verse. Rhymes and tones need no form; an answer without a poem has 0.
pub(super) struct VerseReward {
    pub(super) aspect: Aspect,
    pub(super) form: Option<Form>,
    pub(super) standard: Standard,
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
        let form = || -> Result<f64, RewardFault> {
            Ok(match self.form_for(answer)? {
                Some(form) => kept_form(&poem, form),
                None => REGULATED.into_iter().map(|form| kept_form(&poem, form)).fold(0.0, f64::max),
            })
        };
        let rhyme = || {
            let rhymes = poem.shi_rhymes_by(self.standard);
            // A line alone rhymes with nothing.
            if rhymes.expected < 2 {
                return 0.0;
            }
            rhymes.lines.len().min(rhymes.expected) as f64 / rhymes.expected as f64
        };
        let tones = || match poem.tone_checks(self.standard) {
            Some(checks) if !checks.is_empty() => {
                checks.iter().filter(|check| check.holds).count() as f64 / checks.len() as f64
            }
            _ => 0.0,
        };
        Ok(match self.aspect {
            Aspect::Form => form()?,
            Aspect::Rhyme => rhyme(),
            Aspect::Tones => tones(),
            Aspect::All => (form()? + rhyme() + tones()) / 3.0,
        })
    }

    /// The form that is asked for; `None` where nobody asks for one.
    fn form_for(&self, answer: &Answer<'_>) -> Result<Option<Form>, RewardFault> {
        if let Some(form) = self.form {
            return Ok(Some(form));
        }
        let fault =
            |problem: &str| RewardFault::Field { field: "form".to_owned(), problem: problem.to_owned() };
        let Some(value) = answer.task.fields.get("form") else { return Ok(None) };
        value.as_str().and_then(form_of).map(Some).ok_or_else(|| match value {
            Value::String(_) => fault("is no form such as 4x7 or 七言絕句"),
            _ => fault("is no text"),
        })
    }
}

fn kept_form(poem: &Poem, form: Form) -> f64 {
    let lengths = poem.lengths();
    if lengths.is_empty() {
        return 0.0;
    }
    let right = lengths.iter().filter(|length| **length == form.characters).count();
    let lines = f64::from(u8::from(lengths.len() == form.lines));
    0.5 * lines + 0.5 * right as f64 / lengths.len().max(form.lines) as f64
}
