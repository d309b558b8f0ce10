//! How much the steps of a `tokenizer.json` can make of a text. Each step is harmless by itself; sixteen of them, each with eight letters for
//! one, would take all memory.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::TokenizerError;
use crate::hugging_face::check_size;

/// By how much all steps together may lengthen a text; published ones reach 6.
const MAX_GROWTH: usize = 64;
/// The longest text that a character map has for one character; those of SentencePiece have 33 bytes.
const MAX_MAPPED_BYTES: usize = 64;
/// By how much Unicode's compatibility forms lengthen a character at most.
const COMPATIBILITY_GROWTH: usize = 11;
/// Tokens that a post-processor's template adds to a text, and ids that one name in it stands for.
const MAX_TEMPLATE_TOKENS: usize = 64;

/// Refuses `parts`, which work on a text one after the other, if they could lengthen it too much together.
///
/// # Errors
/// [`TokenizerError::TooLarge`].
pub(crate) fn check_growth(parts: &[&Value]) -> Result<(), TokenizerError> {
    let mut growth = Growth { product: 1, has_compatibility: false, has_map: false };
    for part in parts {
        growth.add(part)?;
    }
    check_size("the factor by which all steps together can lengthen a text", growth.product, MAX_GROWTH)
}

struct Growth {
    product: usize,
    has_compatibility: bool,
    has_map: bool,
}

impl Growth {
    fn add(&mut self, step: &Value) -> Result<(), TokenizerError> {
        let factor = match step["type"].as_str() {
            Some("Replace") => replacement_growth(step),
            // A byte becomes a letter of up to two bytes.
            Some("ByteLevel") => 2,
            Some("Metaspace") => step["replacement"].as_str().map_or(1, str::len),
            // These change nothing that they gave before: once, they are what any text may meet. Between replacements they add up.
            Some("NFKC" | "NFKD") if std::mem::replace(&mut self.has_compatibility, true) => {
                COMPATIBILITY_GROWTH
            }
            Some("Precompiled") => {
                let longest = longest_mapped(step);
                check_size("a text in the character map", longest, MAX_MAPPED_BYTES)?;
                if std::mem::replace(&mut self.has_map, true) { longest } else { 1 }
            }
            _ => 1,
        };
        self.product = self.product.saturating_mul(factor.max(1));
        let inner = ["normalizers", "pretokenizers", "decoders"];
        for step in inner.iter().filter_map(|key| step[*key].as_array()).flatten() {
            self.add(step)?;
        }
        Ok(())
    }
}

fn replacement_growth(step: &Value) -> usize {
    let written = step["content"].as_str().map_or(0, str::len);
    match step["pattern"]["String"].as_str() {
        Some(pattern) => written.div_ceil(pattern.len().max(1)),
        // A regular expression may match between any two bytes.
        None => written + 1,
    }
}

/// The length of the longest text that a character map writes: behind a search tree, whose size stands first, they lie one after the other,
/// each with a zero behind it. 0 for what is no map, which the library refuses.
fn longest_mapped(step: &Value) -> usize {
    let encoded = step["precompiled_charsmap"].as_str().unwrap_or_default();
    let bytes = STANDARD.decode(encoded).unwrap_or_default();
    let texts = bytes.split_first_chunk::<4>().and_then(|(size, rest)| {
        let size = usize::try_from(u32::from_le_bytes(*size)).ok()?;
        rest.get(size..)
    });
    texts.unwrap_or_default().split(|byte| *byte == 0).map(<[u8]>::len).max().unwrap_or(0)
}

/// Refuses a post-processor that adds many tokens to a text, or repeats it.
///
/// # Errors
/// [`TokenizerError::Part`] says what is too much.
pub(crate) fn check_templates(step: &Value) -> Result<(), TokenizerError> {
    let refused = |reason: String| Err(TokenizerError::Part { part: "post-processor", reason });
    let ids_of = |name: &str| step["special_tokens"][name]["ids"].as_array().map_or(0, Vec::len);
    for (name, token) in step["special_tokens"].as_object().into_iter().flatten() {
        let most = ids_of(name).max(token["tokens"].as_array().map_or(0, Vec::len));
        if most > MAX_TEMPLATE_TOKENS {
            let shown: String = name.chars().take(64).collect();
            return refused(format!(
                "the special token {shown:?} stands for {most} tokens; at most {MAX_TEMPLATE_TOKENS} are read"
            ));
        }
    }
    for key in ["single", "pair"] {
        let pieces = step[key].as_array().map(Vec::as_slice).unwrap_or_default();
        let names = pieces.iter().filter_map(|piece| piece["SpecialToken"]["id"].as_str());
        let added: usize = names.map(ids_of).sum();
        if added > MAX_TEMPLATE_TOKENS {
            return refused(format!(
                "its template `{key}` adds {added} tokens to a text; at most {MAX_TEMPLATE_TOKENS} may be added"
            ));
        }
        for text in ["A", "B"] {
            let times = pieces.iter().filter(|piece| piece["Sequence"]["id"] == text).count();
            if times > 1 {
                return refused(format!(
                    "its template `{key}` has the text {text} {times} times; a text stands in it once"
                ));
            }
        }
    }
    for inner in step["processors"].as_array().into_iter().flatten() {
        check_templates(inner)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Regression: each of 16 steps was checked by itself, and together they made 8^15 letters of one.
    #[test]
    fn steps_that_multiply_are_refused() {
        let replace = json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "aaaaaaaa" });
        let several = |count| json!({ "type": "Sequence", "normalizers": vec![replace.clone(); count] });
        assert!(check_growth(&[&several(2)]).is_ok());
        let error = check_growth(&[&several(15)]).unwrap_err().to_string();
        assert!(error.contains("the factor by which all steps together can lengthen a text"), "{error}");
        // Two parts multiply too.
        let meta = json!({ "type": "Metaspace", "replacement": "▁" });
        assert!(check_growth(&[&several(2), &meta]).is_err());
        let decoder = json!({ "type": "Sequence", "decoders": vec![replace.clone(); 3] });
        assert!(check_growth(&[&decoder]).is_err());
        // Compatibility forms undo what a replacement made shorter, again and again.
        let again = json!({ "type": "Sequence", "normalizers": vec![json!({ "type": "NFKC" }); 3] });
        assert!(check_growth(&[&again]).is_err());
    }

    #[test]
    fn what_published_tokenizers_do_is_taken() {
        let replace = |pattern: Value, content: &str| json!({ "type": "Replace", "pattern": pattern, "content": content });
        let albert = json!({ "type": "Sequence", "normalizers": [
            replace(json!({ "String": "``" }), "\""), replace(json!({ "String": "''" }), "\""),
            { "type": "NFKD" }, { "type": "StripAccents" }, { "type": "Lowercase" },
            replace(json!({ "Regex": " {2,}" }), " "),
        ] });
        let meta = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always" });
        check_growth(&[&albert, &meta]).unwrap();
        let llama = json!({ "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" }, replace(json!({ "String": " " }), "▁"),
        ] });
        check_growth(&[&llama]).unwrap();
    }

    #[test]
    fn a_character_map_with_a_long_text_is_refused() {
        let map = |longest: usize| {
            let tree = [0u8; 8];
            let texts = [b"ab\0".to_vec(), vec![b'x'; longest], vec![0]].concat();
            let bytes = [&8u32.to_le_bytes()[..], &tree[..], &texts[..]].concat();
            json!({ "type": "Precompiled", "precompiled_charsmap": STANDARD.encode(bytes) })
        };
        check_growth(&[&map(33)]).unwrap();
        let error = check_growth(&[&map(1000)]).unwrap_err().to_string();
        assert!(error.contains("a text in the character map holds 1000"), "{error}");
        check_growth(&[&json!({ "type": "Precompiled", "precompiled_charsmap": "?" })]).unwrap();
    }

    /// Regression: nothing bounded the ids that a template's token stands for, nor how often the text stands in it.
    #[test]
    fn templates_that_add_many_tokens_are_refused() {
        let template = |pieces: Vec<Value>, ids: usize| {
            let token = json!({ "id": "[X]", "ids": vec![1; ids], "tokens": vec!["[X]"; ids] });
            json!({ "type": "TemplateProcessing", "single": pieces, "pair": [], "special_tokens": { "[X]": token } })
        };
        let token = json!({ "SpecialToken": { "id": "[X]", "type_id": 0 } });
        let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
        check_templates(&template(vec![token.clone(), text.clone(), token.clone()], 1)).unwrap();
        for (pieces, ids, words) in [
            (vec![text.clone()], 65, "stands for 65 tokens"),
            (vec![token.clone(), text.clone(), token], 33, "`single` adds 66 tokens"),
            (vec![text.clone(), text], 1, "has the text A 2 times"),
        ] {
            let processor = json!({ "type": "Sequence", "processors": [template(pieces, ids)] });
            let error = check_templates(&processor).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
