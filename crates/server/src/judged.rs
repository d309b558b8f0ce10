//! Judgements of the store as examples are made of them: answers with their thoughts apart.

use std::collections::BTreeMap;
use std::sync::Arc;

use zhenjin_assistant::Transcript;
use zhenjin_improve::{Answer, Judged, Judgement, Turn};
use zhenjin_store::{Judgement as Stored, MessageId, Owner, Role, TrainingFeedback};

/// Judgements of the store, ready to be made examples of, in the same order. They share the texts that they have in common, as those of the
/// store do. Of whoever does not allow that models learn from it there is no word: such a judgement can be counted and nothing else.
pub fn judged(said: Vec<TrainingFeedback>) -> Vec<Judged> {
    let mut texts = Texts::default();
    said.into_iter().map(|feedback| texts.judged(feedback)).collect()
}

/// The texts of judgements, each kept once: the choices between a question's answers alone would else hold its chat hundreds of times.
#[derive(Default)]
struct Texts {
    /// By what the store has of them.
    answers: BTreeMap<Arc<str>, Answer>,
    /// By question and system prompt.
    prompts: BTreeMap<(MessageId, Arc<str>), Arc<[Turn]>>,
}

impl Texts {
    fn judged(&mut self, feedback: TrainingFeedback) -> Judged {
        let (prompt, judgement) = if feedback.consents {
            (self.prompt(&feedback), self.judgement(feedback.judgement))
        } else {
            (Arc::default(), without_words(&feedback.judgement))
        };
        Judged {
            id: feedback.id.to_string(),
            is_operator: feedback.owner == Owner::Local,
            owner: feedback.owner.to_string(),
            conversation: feedback.conversation.to_string(),
            question: feedback.question.to_string(),
            at: feedback.at.milliseconds(),
            model: feedback.model,
            consents: feedback.consents,
            breaks_off: feedback.liked_is_cut_short,
            prompt,
            judgement,
        }
    }

    /// What was said before an answer, the system prompt first.
    fn prompt(&mut self, feedback: &TrainingFeedback) -> Arc<[Turn]> {
        let key = (feedback.question.clone(), Arc::clone(&feedback.system_prompt));
        if let Some(prompt) = self.prompts.get(&key) {
            return Arc::clone(prompt);
        }
        let system = Some(&feedback.system_prompt).filter(|prompt| !prompt.trim().is_empty());
        let system = system.map(|prompt| Turn::new("system", Arc::clone(prompt)));
        let said = feedback.turns.iter().map(|(role, content)| match role {
            Role::User => Turn::new("user", Arc::clone(content)),
            Role::Assistant => {
                let Answer { text, thought } = self.answer(content);
                Turn { role: "assistant", content: text, thought }
            }
        });
        let prompt: Arc<[Turn]> = system.into_iter().chain(said).collect();
        self.prompts.insert(key, Arc::clone(&prompt));
        prompt
    }

    fn judgement(&mut self, said: Stored) -> Judgement {
        match said {
            Stored::Rating { answer, up, .. } => Judgement::Rating { answer: self.answer(&answer), up },
            Stored::Correction { answer, correction } => {
                Judgement::Correction { answer: self.answer(&answer), correction }
            }
            Stored::Choice { chosen, rejected } => {
                Judgement::Choice { chosen: self.answer(&chosen), rejected: self.answer(&rejected) }
            }
        }
    }

    fn answer(&mut self, text: &Arc<str>) -> Answer {
        let split = || {
            let (thought, text) = Transcript::split(text);
            Answer { text: text.into(), thought: thought.map(Arc::from) }
        };
        self.answers.entry(Arc::clone(text)).or_insert_with(split).clone()
    }
}

fn without_words(said: &Stored) -> Judgement {
    let nothing = || Answer::from("");
    match said {
        Stored::Rating { up, .. } => Judgement::Rating { answer: nothing(), up: *up },
        Stored::Correction { .. } => Judgement::Correction { answer: nothing(), correction: String::new() },
        Stored::Choice { .. } => Judgement::Choice { chosen: nothing(), rejected: nothing() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zhenjin_store::Timestamp;

    const QUESTION: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAA";

    /// A choice between answers to a question of a chat.
    fn choice(system_prompt: &str, chosen: &Arc<str>, rejected: &Arc<str>) -> TrainingFeedback {
        let said = |role: Role, text: &str| (role, Arc::<str>::from(text));
        TrainingFeedback {
            id: "01ARZ3NDEKTSV4RRFFQ69G5FAB".parse().expect("an id"),
            owner: Owner::Local,
            conversation: "01ARZ3NDEKTSV4RRFFQ69G5FAC".parse().expect("an id"),
            question: QUESTION.parse().expect("an id"),
            at: Timestamp::from_milliseconds(1),
            model: "tiny".to_owned(),
            rejected_model: None,
            consents: true,
            trained_in: Vec::new(),
            system_prompt: system_prompt.into(),
            turns: [
                said(Role::User, "hi"),
                said(Role::Assistant, "<think>\ngreet\n</think>\n\nhello"),
                said(Role::User, "why?"),
            ]
            .into(),
            judgement: Stored::Choice { chosen: Arc::clone(chosen), rejected: Arc::clone(rejected) },
            liked_is_cut_short: false,
        }
    }

    fn answers_of(row: &Judged) -> [&Answer; 2] {
        match &row.judgement {
            Judgement::Choice { chosen, rejected } => [chosen, rejected],
            other => panic!("{other:?}"),
        }
    }

    /// Regression: each judgement had a copy of its own of the chat before the answer and of the answers, so that a long chat with many choices
    /// took gigabytes while an improvement was previewed.
    #[test]
    fn judgements_share_the_texts_that_they_have_in_common() {
        let [good, bad]: [Arc<str>; 2] = ["<think>\nhm\n</think>\n\nBecause.".into(), "No.".into()];
        let rows = judged(vec![
            choice("Be brief.", &good, &bad),
            choice("Be brief.", &bad, &good),
            choice(" ", &good, &bad),
        ]);
        let [first, second, other] = &rows[..] else { panic!("three") };
        let said: Vec<(&str, &str, Option<&str>)> =
            first.prompt.iter().map(|turn| (turn.role, &*turn.content, turn.thought.as_deref())).collect();
        assert_eq!(
            said,
            [
                ("system", "Be brief.", None),
                ("user", "hi", None),
                ("assistant", "hello", Some("greet")),
                ("user", "why?", None),
            ]
        );
        assert!(Arc::ptr_eq(&first.prompt, &second.prompt), "one question and one system prompt");
        assert_eq!(first.prompt[1..], other.prompt[..], "and another system prompt, which is none");
        assert!(Arc::ptr_eq(&first.prompt[2].content, &other.prompt[1].content));
        let [chosen, rejected] = answers_of(first);
        assert_eq!((&*chosen.text, chosen.thought.as_deref()), ("Because.", Some("hm")));
        let [now_chosen, now_rejected] = answers_of(second);
        assert!(Arc::ptr_eq(&chosen.text, &now_rejected.text));
        assert!(Arc::ptr_eq(&rejected.text, &now_chosen.text));
    }

    /// Regression: the words of people who do not allow that models learn from them were copied as well, only to be left out.
    #[test]
    fn without_consent_there_are_no_words() {
        let [good, bad]: [Arc<str>; 2] = ["Because.".into(), "No.".into()];
        let rows = judged(vec![TrainingFeedback { consents: false, ..choice("Be brief.", &good, &bad) }]);
        assert!(!rows[0].consents && rows[0].prompt.is_empty());
        assert!(answers_of(&rows[0]).iter().all(|answer| answer.text.is_empty()));
        assert_eq!((rows[0].model.as_str(), rows[0].question.as_str()), ("tiny", QUESTION));
    }
}
