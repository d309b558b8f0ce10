//! Judgements of the store as examples are made of them: answers with their thoughts apart.

use zhenjin_assistant::Transcript;
use zhenjin_improve::{Answer, Judged, Judgement, Turn};
use zhenjin_store::{Judgement as Stored, Owner, Role, TrainingFeedback};

/// A judgement of the store, ready to be made an example of.
pub fn judged(feedback: TrainingFeedback) -> Judged {
    let system = Some(&*feedback.system_prompt).filter(|prompt| !prompt.trim().is_empty());
    let said = feedback.turns.iter().map(|(role, content)| match role {
        Role::User => Turn::new("user", &**content),
        Role::Assistant => {
            let Answer { text, thought } = answer(content);
            Turn { role: "assistant".to_owned(), content: text, thought }
        }
    });
    let judgement = match feedback.judgement {
        Stored::Rating { answer: text, up, .. } => Judgement::Rating { answer: answer(&text), up },
        Stored::Correction { answer: text, correction } => {
            Judgement::Correction { answer: answer(&text), correction }
        }
        Stored::Choice { chosen, rejected } => {
            Judgement::Choice { chosen: answer(&chosen), rejected: answer(&rejected) }
        }
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
        prompt: system.map(|prompt| Turn::new("system", prompt)).into_iter().chain(said).collect(),
        judgement,
    }
}

fn answer(text: &str) -> Answer {
    let (thought, text) = Transcript::split(text);
    Answer { text, thought }
}
