//! Tones and rhymes of a poem over HTTP.

use axum::Json;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use zhenjin_prosody::{
    self as prosody, Character, Pattern, Place, Poem, Rhymes, Standard, ToneCheck, ToneRule,
};

use super::fields::{self, ProsodyBody};
use crate::blocking::blocking;
use crate::body::ApiJson;
use crate::errors::{ApiError, ErrorBody};
use crate::openai::fields::check;

/// The most characters in a line of verse: lines of ci have at most eleven, and some are written without the pause in them.
const LINE_CHARACTERS: usize = 16;

/// What a text's tones and rhymes are.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Prosody {
    /// The text as verse; null where it is none.
    #[schema(required)]
    verse: Option<Verse>,
    /// Why the text is no verse.
    #[schema(required)]
    problem: Option<NoVerse>,
}

/// Why a text is no verse.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NoVerse {
    /// Fewer than two lines of Chinese characters.
    TooFewLines,
    /// A line has more than 16 characters.
    LineTooLong,
    /// More letters of other scripts than Chinese characters.
    OtherScript,
}

/// A poem, character by character, and how it keeps the rules. Names are in simplified characters where the poem is.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Verse {
    /// The form's name, such as 五言絕句, by the number and length of the lines; null where that has none.
    #[schema(required)]
    form: Option<String>,
    /// The lines without punctuation.
    lines: Vec<VerseLine>,
    /// Judged by the Pingshui rhyme book, and 《詞林正韻》 where lines differ in length.
    rhyme_book: Judgement,
    /// Judged by modern readings, and the rhymes of 《中華新韻》.
    modern: Judgement,
}

/// A line of verse.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct VerseLine {
    characters: Vec<VerseCharacter>,
}

/// A character of verse.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct VerseCharacter {
    /// The character as the text has it.
    text: char,
    /// By the rhyme book.
    pattern: CharacterPattern,
    /// Its groups in the Pingshui rhyme book, such as 上平聲一東; none when the book lacks it.
    groups: Vec<String>,
    /// By modern readings.
    modern_pattern: CharacterPattern,
    /// Modern readings in pinyin, the most usual first.
    readings: Vec<&'static str>,
}

/// How a character counts in a tone pattern.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CharacterPattern {
    /// 平
    Level,
    /// 仄
    Oblique,
    /// Has readings of both kinds.
    Either,
    /// In no table.
    Unknown,
}

/// Rhymes and rules by one of the tables.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Judgement {
    /// The rhyme that most of the lines share which should; null when no two do.
    #[schema(required)]
    rhyme: Option<String>,
    /// Lines that end with it, counted from 0.
    rhyming: Vec<usize>,
    /// Lines that should and do not.
    missing: Vec<usize>,
    /// The rules of regulated verse about tones; null where they are not for poems of this form.
    #[schema(required)]
    rules: Option<ToneRules>,
}

/// Rules of regulated verse, each counted in every place that it is about.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct ToneRules {
    /// How many are kept.
    kept: usize,
    /// How many there are.
    total: usize,
    /// The others.
    broken: Vec<BrokenRule>,
}

/// A rule that a poem breaks.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct BrokenRule {
    rule: RegulatedVerseRule,
    /// The one or two characters that break it.
    places: Vec<VersePlace>,
}

/// A rule about the tones of regulated verse.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RegulatedVerseRule {
    /// Two characters of a line, two apart, are of opposite kinds.
    Alternation,
    /// A line ends level.
    LevelEnd,
    /// A line ends oblique.
    ObliqueEnd,
    /// The lines of a couplet are of opposite kinds at the second character.
    Opposition,
    /// The last line of a couplet and the first of the next are of one kind at the second character.
    Adhesion,
}

/// Where a character stands, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct VersePlace {
    line: usize,
    character: usize,
}

/// Tones and rhymes of a poem, by the Pingshui rhyme book and by modern readings, and the rules of regulated verse that it keeps.
#[utoipa::path(post, path = "/api/prosody", operation_id = "prosody", tag = "chat", request_body = ProsodyBody, responses(
    (status = 200, description = "The poem, or why the text is none.", body = Prosody),
    (status = 400, description = "A field is wrong.", body = ErrorBody)))]
pub(crate) async fn prosody(ApiJson(body): ApiJson<Value>) -> Result<Json<Prosody>, ApiError> {
    let fields = check(fields::PROSODY, &body)?;
    let text = fields::full_text(&fields, "text")?.to_owned();
    Ok(Json(blocking(move || Ok(Prosody::of(&text))).await?))
}

impl Prosody {
    fn of(text: &str) -> Self {
        let poem = Poem::parse(text);
        match problem(text, &poem) {
            Some(problem) => Prosody { verse: None, problem: Some(problem) },
            None => Prosody { verse: Some(Verse::of(text, &poem)), problem: None },
        }
    }
}

fn problem(text: &str, poem: &Poem) -> Option<NoVerse> {
    let chinese: usize = poem.lines.iter().map(|line| line.characters.len()).sum();
    let letters = text.chars().filter(|character| character.is_alphabetic()).count();
    if poem.lines.len() < 2 {
        Some(NoVerse::TooFewLines)
    } else if poem.lines.iter().any(|line| line.characters.len() > LINE_CHARACTERS) {
        Some(NoVerse::LineTooLong)
    } else if letters.saturating_sub(chinese) > chinese {
        Some(NoVerse::OtherScript)
    } else {
        None
    }
}

impl Verse {
    fn of(text: &str, poem: &Poem) -> Self {
        let simplified = prosody::is_simplified(text);
        let name = |name: &str| if simplified { prosody::simplified(name) } else { name.to_owned() };
        let form = poem.form();
        let judgement = |standard| {
            let rhymes = match form {
                Some(_) => poem.shi_rhymes_by(standard),
                None => poem.ci_rhymes_by(standard),
            };
            Judgement::of(rhymes, poem.tone_checks(standard), name)
        };
        let lines = poem.lines.iter().map(|line| VerseLine {
            characters: line
                .characters
                .iter()
                .map(|character| VerseCharacter::of(*character, name))
                .collect(),
        });
        Verse {
            form: form.and_then(prosody::Form::name).map(name),
            lines: lines.collect(),
            rhyme_book: judgement(Standard::RhymeBook),
            modern: judgement(Standard::Modern),
        }
    }
}

impl VerseCharacter {
    fn of(character: Character, name: impl Fn(&str) -> String) -> Self {
        VerseCharacter {
            text: character.written,
            pattern: character.pattern().into(),
            groups: character.groups().iter().map(|group| name(group.name())).collect(),
            modern_pattern: character.pattern_by(Standard::Modern).into(),
            readings: character.readings().map(|reading| reading.pinyin).collect(),
        }
    }
}

impl Judgement {
    fn of(rhymes: Rhymes, checks: Option<Vec<ToneCheck>>, name: impl Fn(&str) -> String) -> Self {
        let rules = checks.map(|checks| ToneRules {
            kept: checks.iter().filter(|check| check.holds).count(),
            total: checks.len(),
            broken: checks.into_iter().filter(|check| !check.holds).map(BrokenRule::from).collect(),
        });
        // One line alone rhymes with nothing.
        if rhymes.lines.len() < 2 {
            let mut missing = [rhymes.lines, rhymes.missing].concat();
            missing.sort_unstable();
            return Judgement { rhyme: None, rhyming: Vec::new(), missing, rules };
        }
        Judgement {
            rhyme: rhymes.shared.as_deref().map(name),
            rhyming: rhymes.lines,
            missing: rhymes.missing,
            rules,
        }
    }
}

impl From<Pattern> for CharacterPattern {
    fn from(pattern: Pattern) -> Self {
        match pattern {
            Pattern::Level => CharacterPattern::Level,
            Pattern::Oblique => CharacterPattern::Oblique,
            Pattern::Either => CharacterPattern::Either,
            Pattern::Unknown => CharacterPattern::Unknown,
        }
    }
}

impl From<ToneCheck> for BrokenRule {
    fn from(check: ToneCheck) -> Self {
        let rule = match check.rule {
            ToneRule::Alternation => RegulatedVerseRule::Alternation,
            ToneRule::LevelEnd => RegulatedVerseRule::LevelEnd,
            ToneRule::ObliqueEnd => RegulatedVerseRule::ObliqueEnd,
            ToneRule::Opposition => RegulatedVerseRule::Opposition,
            ToneRule::Adhesion => RegulatedVerseRule::Adhesion,
        };
        let place = |Place { line, character }| VersePlace { line, character };
        BrokenRule { rule, places: check.places.into_iter().map(place).collect() }
    }
}
