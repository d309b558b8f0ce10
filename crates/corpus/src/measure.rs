//! How well a tokenizer fits text: characters per token by script, and whether every text comes back.

use zhenjin_tokenizer::{ControlText, Specials, Tokenizer};

use crate::CorpusError;

/// Sums over the lines of one script.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScriptCounts {
    /// Characters of text.
    pub characters: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Tokens that they become.
    pub tokens: u64,
}

impl ScriptCounts {
    /// Characters for each token, or `None` without text.
    pub fn characters_per_token(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.characters as f64 / self.tokens as f64)
    }
}

/// What a tokenizer makes of text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenizerFit {
    /// Lines with more Chinese characters than Latin letters.
    pub chinese: ScriptCounts,
    /// Lines with more Latin letters than Chinese characters.
    pub english: ScriptCounts,
    /// All others, such as lines of figures.
    pub other: ScriptCounts,
    /// Lines that were encoded and decoded, each of which came back byte for byte.
    pub lines: u64,
}

impl TokenizerFit {
    /// Tokens of all lines.
    pub fn tokens(&self) -> u64 {
        self.chinese.tokens + self.english.tokens + self.other.tokens
    }

    /// Bytes of all lines.
    pub fn bytes(&self) -> u64 {
        self.chinese.bytes + self.english.bytes + self.other.bytes
    }
}

/// Encodes and decodes every line of `texts`.
///
/// # Errors
/// [`CorpusError::Document`] with the first line that does not come back as it was, or cannot be encoded.
pub fn measure(tokenizer: &Tokenizer, texts: &[String]) -> Result<TokenizerFit, CorpusError> {
    let mut fit = TokenizerFit::default();
    for line in texts.iter().flat_map(|text| text.split_inclusive('\n')) {
        let failed = |error: zhenjin_tokenizer::TokenizerError| CorpusError::Document(error.to_string());
        let ids = tokenizer.encode(line, Specials::AsText).map_err(failed)?;
        if tokenizer.decode_bytes(&ids, ControlText::Show).map_err(failed)? != line.as_bytes() {
            return Err(CorpusError::Document(format!(
                "the line `{line}` does not come back from its tokens"
            )));
        }
        let counts = match (line.chars().filter(is_han).count(), line.chars().filter(is_latin).count()) {
            (han, latin) if han > latin => &mut fit.chinese,
            (han, latin) if latin > han => &mut fit.english,
            _ => &mut fit.other,
        };
        counts.characters += line.chars().count() as u64;
        counts.bytes += line.len() as u64;
        counts.tokens += ids.len() as u64;
        fit.lines += 1;
    }
    Ok(fit)
}

/// The blocks of unified and compatibility ideographs.
fn is_han(character: &char) -> bool {
    matches!(character, '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{2_0000}'..='\u{3_FFFF}')
}

fn is_latin(character: &char) -> bool {
    character.is_ascii_alphabetic()
}
