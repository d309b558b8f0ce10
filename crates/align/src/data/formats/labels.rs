//! Labels beside answers: whether those of a file judge its answers, or say something else, such as a class or a topic.

use serde_json::Value;

/// The field that only data of judged answers have.
const OF_JUDGEMENTS: &str = "kto_tag";

/// Words by which answers are judged: in lower case, with spaces for `_` and `-`.
const JUDGING: [&str; 69] = [
    "true",
    "false",
    "t",
    "f",
    "yes",
    "no",
    "y",
    "n",
    "good",
    "bad",
    "better",
    "worse",
    "best",
    "worst",
    "great",
    "poor",
    "like",
    "liked",
    "dislike",
    "disliked",
    "chosen",
    "rejected",
    "choose",
    "reject",
    "accept",
    "accepted",
    "preferred",
    "dispreferred",
    "positive",
    "negative",
    "pos",
    "neg",
    "up",
    "down",
    "thumb up",
    "thumb down",
    "thumbs up",
    "thumbs down",
    "thumbsup",
    "thumbsdown",
    "upvote",
    "downvote",
    "upvoted",
    "downvoted",
    "desirable",
    "undesirable",
    "acceptable",
    "unacceptable",
    "correct",
    "incorrect",
    "right",
    "wrong",
    "helpful",
    "unhelpful",
    "safe",
    "unsafe",
    "harmless",
    "harmful",
    "win",
    "lose",
    "好",
    "坏",
    "赞",
    "踩",
    "喜欢",
    "不喜欢",
    "是",
    "否",
    "错误",
];

/// What the labels beside the answers of a file say together: one alone does not tell whether 1 is a judgement or a class.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::data) struct Labels {
    /// Whether one of them judges whatever the others are.
    one_judges: bool,
    /// The greatest number among them.
    greatest: Option<f64>,
}

impl Labels {
    pub(super) fn add(&mut self, name: &str, label: &Value) {
        self.one_judges |=
            name == OF_JUDGEMENTS || label.is_boolean() || label.as_str().is_some_and(is_judging);
        if let Some(number) = number_of(label) {
            // No class has such a number: it is a score, or a vote against.
            self.one_judges |= number.fract() != 0.0 || number < -1.0;
            self.greatest = Some(self.greatest.map_or(number, |greatest| greatest.max(number)));
        }
    }

    /// Whether they are judgements. Those that say it otherwise than plainly (good, −1) are, too: where they are read they are refused, or
    /// answers that were disliked would be imitated. −1, 0 and 1 are classes only beside greater numbers.
    pub(super) fn judge(self) -> bool {
        self.one_judges || self.greatest.is_some_and(|greatest| greatest <= 1.0)
    }
}

/// A number, also where it is written as a text.
fn number_of(label: &Value) -> Option<f64> {
    let number = match label {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite())
}

fn is_judging(text: &str) -> bool {
    let text = text.trim().to_lowercase().replace(['_', '-'], " ");
    // They have variants in other colours.
    JUDGING.contains(&text.as_str()) || text.starts_with(['👍', '👎'])
}

/// Whether a label says that an answer was liked; `None` where it does not plainly say one or the other.
pub(super) fn thumb_of(label: &Value) -> Option<bool> {
    let of_number = |number: f64| (number == 1.0 || number == 0.0).then_some(number == 1.0);
    let of_text = |text: &str| match text.trim().to_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    };
    match label {
        Value::Bool(liked) => Some(*liked),
        Value::Number(number) => number.as_f64().and_then(of_number),
        Value::String(text) => of_text(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judge(labels: &Value) -> bool {
        let mut all = Labels::default();
        labels.as_array().into_iter().flatten().for_each(|label| all.add("label", label));
        all.judge()
    }

    #[test]
    fn the_labels_of_a_file_say_together_whether_they_judge() {
        for labels in [
            json!([0, 1]),
            json!([1, 1.0]),
            json!(["True", " false"]),
            json!([true, 2, "math"]),
            json!(["true", "math"]),
            json!(["good", "bad", "neutral"]),
            json!(["YES"]),
            json!(["thumbs_up"]),
            json!(["👎🏽"]),
            json!(["踩"]),
            json!([-1, 1]),
            json!([0.5, 3]),
            json!([-5, 5]),
            json!(["0", "1"]),
            json!(["-1", "+1"]),
            // Words do not make classes of these numbers, but one such word may be a mistake.
            json!([0, 1, "math"]),
            json!([0, 1, "", [1]]),
        ] {
            assert!(judge(&labels), "{labels}");
        }
        for labels in [
            json!([0, 1, 2, 3]),
            json!([-1, 0, 1, 2]),
            json!(["0", "1", "2"]),
            json!([2]),
            json!(["math", "code"]),
            json!(["math", 2, 1]),
            json!(["nan", "math"]),
            json!([[1], {"topic": "math"}]),
            json!([]),
        ] {
            assert!(!judge(&labels), "{labels}");
        }
        let mut tagged = Labels::default();
        tagged.add("kto_tag", &json!("math"));
        assert!(tagged.judge());
    }
}
