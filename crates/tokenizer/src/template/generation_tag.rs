//! Hugging Face's `{% generation %} … {% endgeneration %}` tag, which marks what the assistant wrote, rewritten as a
//! filter block that the engine knows. This file does not know what the filter does.

/// Name of the filter that stands for the tag.
pub(super) const FILTER: &str = "assistant_generation";

/// Rewrites the two tags wherever they occur, with their white space control.
pub(super) fn as_filter(source: &str) -> String {
    let mut rewritten = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        rewritten.push_str(before);
        let Some(length) = tag.find("%}").map(|end| end + 2) else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(length);
        let inner = &tag[2..length - 2];
        let name = inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        match name {
            "generation" => rewritten.push_str(&tag.replacen("generation", &format!("filter {FILTER}"), 1)),
            "endgeneration" => rewritten.push_str(&tag.replacen("endgeneration", "endfilter", 1)),
            _ => rewritten.push_str(tag),
        }
        rest = after;
    }
    rewritten.push_str(rest);
    rewritten
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_tags_change() {
        assert_eq!(
            as_filter(
                "a{%- generation -%}b{% endgeneration %}{% if generation %}{{ generation }}{% endif %}"
            ),
            "a{%- filter assistant_generation -%}b{% endfilter %}{% if generation %}{{ generation }}{% endif %}"
        );
        assert_eq!(as_filter("{% generation"), "{% generation");
        assert_eq!(as_filter("{%%}{%-%}"), "{%%}{%-%}");
    }
}
