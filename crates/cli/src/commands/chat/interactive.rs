//! The conversation at a terminal.

use super::answer::{self, Answer};
use super::editor::{Input, QuestionEditor};
use super::slash::{self, Line};
use crate::arguments::ChatArguments;
use crate::home::Home;
use anyhow::{Context, Result};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use zhenjin_assistant::{Assistant, Message, Role};

struct Conversation<'a> {
    assistant: Arc<Assistant>,
    arguments: &'a ChatArguments,
    system: Option<String>,
    turns: Vec<Message>,
    last: Option<Answer>,
}

pub(super) async fn run(
    home: &Home,
    name: &str,
    assistant: Arc<Assistant>,
    arguments: &ChatArguments,
) -> Result<()> {
    let context = assistant.info().context_length;
    eprintln!("{name} · context {context} tokens · /help lists the commands, Ctrl-D leaves");
    let mut editor = QuestionEditor::new(home.chat_history())?;
    let mut conversation = Conversation {
        assistant,
        arguments,
        system: arguments.system.clone(),
        turns: Vec::new(),
        last: None,
    };
    loop {
        let (returned, input) = tokio::task::spawn_blocking(move || {
            let input = editor.read("» ");
            (editor, input)
        })
        .await
        .context("reading from the terminal")?;
        editor = returned;
        let text = match input? {
            Input::Text(text) => text,
            Input::Dropped => continue,
            Input::End => return Ok(()),
        };
        match slash::parse(&text) {
            Line::Exit => return Ok(()),
            Line::Question("") => {}
            line => conversation.follow(line).await?,
        }
    }
}

impl Conversation<'_> {
    async fn follow(&mut self, line: Line<'_>) -> Result<()> {
        match line {
            Line::Help => eprintln!("{}", slash::HELP),
            Line::Reset => self.reset(),
            Line::System(None) => eprintln!("{}", self.system.as_deref().unwrap_or("(no system message)")),
            Line::System(Some(text)) => {
                self.system = Some(text.to_owned());
                self.reset();
            }
            Line::Save(file) => match self.save(Path::new(file)) {
                Ok(()) => eprintln!("written to {file}"),
                Err(error) => eprintln!("not written: {error:#}"),
            },
            Line::Stats => self.show_stats(),
            Line::Unknown(command) => eprintln!("{command} is no command here; /help lists them"),
            Line::Question(question) => self.ask(question).await?,
            Line::Exit => {}
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.turns.clear();
        self.last = None;
        eprintln!("(a new conversation)");
    }

    fn messages(&self) -> Vec<Message> {
        let mut messages = super::system_messages(self.system.as_deref());
        messages.extend(self.turns.iter().cloned());
        messages
    }

    async fn ask(&mut self, question: &str) -> Result<()> {
        self.turns.push(Message::new(Role::User, question));
        let request = super::request(self.messages(), self.arguments);
        match answer::stream(&self.assistant, &request, &mut std::io::stdout()).await {
            Ok(answer) => {
                println!();
                match answer.finish_reason {
                    "interrupted" => eprintln!("(stopped)"),
                    "length" => {
                        eprintln!("(the context or --max-tokens is reached; the answer is not complete)")
                    }
                    "repetition" => eprintln!(
                        "(ended, as the answer repeated itself; --no-repetition-detection lets it go on)"
                    ),
                    _ => {}
                }
                let said = Message::new(Role::Assistant, answer.answer.clone());
                self.turns.push(Message { thought: answer.reasoning.clone(), ..said });
                self.last = Some(answer);
            }
            Err(error) => {
                self.turns.pop();
                eprintln!("{error:#}");
            }
        }
        Ok(())
    }

    fn show_stats(&self) {
        let Some(last) = &self.last else {
            eprintln!("(no answer yet)");
            return;
        };
        eprintln!("{}", last.summary());
        let used = last.prompt_tokens + last.completion_tokens;
        eprintln!(
            "context: {used} of {} tokens; a question that does not fit is refused, never cut",
            self.assistant.info().context_length
        );
    }

    fn save(&self, file: &Path) -> Result<()> {
        let messages: Vec<_> = self
            .messages()
            .iter()
            .map(|message| json!({"role": message.role.name(), "content": message.content}))
            .collect();
        let text = serde_json::to_string_pretty(&json!({ "messages": messages }))?;
        Ok(zhenjin_files::write_whole(file, &[text.as_bytes()])?)
    }
}
