//! `zhenjin chat`: a conversation in the terminal, or one answer for a prompt or a pipe.

mod answer;
mod editor;
mod interactive;
mod slash;

use crate::arguments::ChatArguments;
use crate::home::Home;
use crate::machine;
use crate::text;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::io::{IsTerminal, Read, Write};
use std::sync::Arc;
use zhenjin_assistant::{
    Assistant, ChatRequest, GenerationOptions, Message, RepetitionDetection, Role, SamplingSettings,
    ServedModels,
};
use zhenjin_hub::ModelStore;

/// The most bytes read from a pipe; far more than any context holds.
const PIPE_LIMIT: u64 = 16 << 20;

pub(crate) async fn run(home: &Home, arguments: ChatArguments) -> Result<()> {
    let spec = machine::model_spec(home, arguments.model.as_deref())?;
    let name = spec.name.clone();
    let mut options = machine::serve_options(&arguments.engine, 1, 1)?;
    if let Some(draft) = &arguments.draft {
        let store = ModelStore::new(home.models());
        options.drafts.push(machine::draft_spec(&store, name.clone(), draft)?);
    }
    let models = ServedModels::new(vec![spec], options)?;
    let piped = !std::io::stdin().is_terminal();
    if piped || arguments.prompt.is_some() || arguments.json {
        let prompt = one_prompt(arguments.prompt.as_deref(), piped)?;
        let assistant = models.get(&name).await?;
        return answer_once(&name, &assistant, &arguments, prompt).await;
    }
    eprintln!("loading {name} …");
    let assistant = models.get(&name).await?;
    interactive::run(home, &name, assistant, &arguments).await
}

fn one_prompt(given: Option<&str>, piped: bool) -> Result<String> {
    let mut from_pipe = Vec::new();
    if piped {
        let bytes = std::io::stdin().lock().take(PIPE_LIMIT + 1).read_to_end(&mut from_pipe);
        let bytes = bytes.context("reading the prompt from standard input")?;
        if bytes as u64 > PIPE_LIMIT {
            bail!("standard input holds more than {PIPE_LIMIT} bytes; no context is that long");
        }
    }
    let from_pipe = text::of_bytes(from_pipe, "standard input");
    let prompt = match (given, from_pipe.trim_end()) {
        (Some(prompt), "") => prompt.to_owned(),
        (Some(prompt), text) => format!("{prompt}\n\n{text}"),
        (None, text) => text.to_owned(),
    };
    if prompt.trim().is_empty() {
        bail!("there is nothing to answer: give -p PROMPT, or text on standard input");
    }
    Ok(prompt)
}

#[derive(Serialize)]
struct JsonAnswer<'a> {
    model: &'a str,
    #[serde(flatten)]
    answer: answer::Answer,
}

async fn answer_once(
    name: &str,
    assistant: &Arc<Assistant>,
    arguments: &ChatArguments,
    prompt: String,
) -> Result<()> {
    let mut messages = system_messages(arguments.system.as_deref());
    messages.push(Message::new(Role::User, prompt));
    let request = request(messages, arguments);
    if arguments.json {
        let answer = answer::stream(assistant, &request, &mut std::io::sink()).await?;
        println!("{}", serde_json::to_string(&JsonAnswer { model: name, answer })?);
        return Ok(());
    }
    let mut out = std::io::stdout();
    let answer = answer::stream(assistant, &request, &mut out).await?;
    writeln!(out)?;
    tracing::info!("{}", answer.summary());
    match answer.finish_reason {
        "interrupted" => bail!("the answer was interrupted"),
        _ => Ok(()),
    }
}

fn system_messages(system: Option<&str>) -> Vec<Message> {
    system.map(|text| Message::new(Role::System, text)).into_iter().collect()
}

fn request(messages: Vec<Message>, arguments: &ChatArguments) -> ChatRequest {
    let sampling = &arguments.sampling;
    ChatRequest {
        options: GenerationOptions {
            sampling: SamplingSettings {
                temperature: sampling.temperature,
                top_p: sampling.top_p,
                top_k: sampling.top_k.map(|k| k as usize),
                min_p: sampling.min_p,
                repetition_penalty: sampling.repetition_penalty,
                seed: sampling.seed,
                ..SamplingSettings::default()
            },
            max_tokens: sampling.max_tokens,
            repetition_detection: arguments.no_repetition_detection.then_some(RepetitionDetection::Off),
            ..GenerationOptions::default()
        },
        ..ChatRequest::new(messages)
    }
}
