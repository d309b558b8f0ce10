//! "Did you mean": the known name nearest to an unknown one.

/// Names that other servers use for what is called differently here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("repeat_penalty", "repetition_penalty"),
    ("max_new_tokens", "max_tokens"),
    ("num_predict", "max_tokens"),
    ("n_predict", "max_tokens"),
    ("max_output_tokens", "max_completion_tokens"),
    ("guided_json", "response_format"),
    ("json_schema", "response_format"),
    ("guided_regex", "regex"),
    ("guided_grammar", "grammar"),
    ("stop_sequences", "stop"),
    ("logit_biases", "logit_bias"),
    ("template_variables", "chat_template_kwargs"),
];

/// The name among `known` that the writer of `unknown` most likely meant.
pub(crate) fn suggestion<'k>(unknown: &str, known: impl Iterator<Item = &'k str> + Clone) -> Option<&'k str> {
    let unknown = unknown.to_ascii_lowercase().replace('-', "_");
    if let Some((_, meant)) = ELSEWHERE.iter().find(|(foreign, _)| *foreign == unknown) {
        return known.clone().find(|name| name == meant);
    }
    // Longer names than any known one are not worth the quadratic comparison.
    if unknown.len() > 64 {
        return None;
    }
    let squeezed = |name: &str| name.replace('_', "").to_ascii_lowercase();
    let (distance, name) = known
        .map(|name| (edit_distance(squeezed(&unknown).as_bytes(), squeezed(name).as_bytes()), name))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + name.len() / 6 && distance < name.len()).then_some(name)
}

/// The least number of letters inserted, left out, replaced or swapped with their neighbour (optimal string alignment).
fn edit_distance(left: &[u8], right: &[u8]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let replaced = last[j] + usize::from(a != b);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                least = least.min(before_last[j - 1] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_far_ones_are_not() {
        let known = ["temperature", "top_p", "top_k", "max_tokens", "repetition_penalty", "n"];
        let near = |unknown| suggestion(unknown, known.iter().copied());
        assert_eq!(near("temprature"), Some("temperature"));
        assert_eq!(near("topP"), Some("top_p"));
        assert_eq!(near("max_tokesn"), Some("max_tokens"));
        assert_eq!(near("maxTokens"), Some("max_tokens"));
        assert_eq!(near("repeat_penalty"), Some("repetition_penalty"));
        assert_eq!(near("colour"), None);
        assert_eq!(near(&"x".repeat(1000)), None);
    }
}
