//! The program `zhenjin`: reads the command line, the environment and the home folder, and talks to the terminal.
//!
//! Every command calls a library and prints its result; nothing is computed here.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the one crate that talks to the terminal"
)]

mod arguments;
mod commands;
mod hint;
mod home;
mod logging;
mod machine;
mod memory_size;
mod priority;
mod text;

use anyhow::{Context, Result};
use arguments::{Arguments, Command};
use clap::Parser;
use commands::evaluate::EvaluateCommand;
use commands::training::Interrupted;
use home::Home;
use std::process::ExitCode;
use std::time::Duration;
use zhenjin_align::configuration::Method;
use zhenjin_train::configuration::ConfigurationError;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("zhenjin: {}", text::shown(&text::of_error(&error)));
            if let Some(hint) = hint::hint(&error) {
                eprintln!("hint: {}", text::shown(&hint));
            }
            exit_code(&error)
        }
    }
}

/// 75 for work that was asked to stop and can go on, 2 for settings that do not exist or cannot be, as for wrong usage; else 1.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<Interrupted>() {
        return ExitCode::from(Interrupted::EXIT_CODE);
    }
    let is_setting = |cause: &(dyn std::error::Error + 'static)| cause.is::<ConfigurationError>();
    if error.chain().any(is_setting) { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// Whether the reader of our output closed the pipe, as in `zhenjin models | head -1`.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

fn run(arguments: Arguments) -> Result<()> {
    let is_server = matches!(arguments.command, Command::Serve(_));
    logging::start(arguments.log.as_deref(), arguments.log_format, is_server)?;
    let home = || Home::open(arguments.home.as_deref());
    match arguments.command {
        Command::Pull(command) => wait_for(commands::pull::run(&home()?, command)),
        Command::Models(command) => commands::models::list(&home()?, &command),
        Command::Remove(command) => commands::models::remove(&home()?, &command),
        Command::Inspect(command) => commands::inspect::run(&home()?, &command),
        Command::Serve(command) => wait_for(commands::serve::run(&home()?, command)),
        Command::Chat(command) => wait_for(commands::chat::run(&home()?, command)),
        Command::Embed(command) => commands::embed::run(&home()?, &command),
        Command::Perplexity(command) => commands::perplexity::run(&home()?, &command),
        Command::Export(command) => commands::export::run(&home()?, &command),
        Command::Quantize(command) => commands::quantize::run(&home()?, &command),
        Command::Bench(command) => commands::bench::run(&home()?, &command),
        Command::Evaluate(command) => match command {
            // Rollouts are waited for without a runtime.
            EvaluateCommand::Preferences(command) => commands::evaluate::preferences(&home()?, &command),
            EvaluateCommand::Wins(command) => commands::evaluate::wins(&home()?, &command),
            EvaluateCommand::Rewards(command) => commands::evaluate::rewards(&home()?, &command),
            EvaluateCommand::Text(command) => wait_for(commands::evaluate::text(&home()?, &command)),
            EvaluateCommand::Poems(command) => wait_for(commands::evaluate::poems(&home()?, &command)),
            EvaluateCommand::Arithmetic(command) => {
                wait_for(commands::evaluate::arithmetic(&home()?, &command))
            }
        },
        Command::Plan(command) => commands::plan::run(&command),
        Command::Report(command) => commands::report::run(&command),
        Command::Pretrain(command) => commands::pretrain::run(&command),
        Command::Sft(command) => commands::align::run_offline(&home()?, Method::Sft, &command),
        Command::Reward(command) => commands::align::run_offline(&home()?, Method::Reward, &command),
        Command::Dpo(command) => commands::align::run_offline(&home()?, Method::Dpo, &command),
        Command::Kto(command) => commands::align::run_offline(&home()?, Method::Kto, &command),
        Command::Ppo(command) => commands::align::run_online(&home()?, Method::Ppo, &command),
        Command::Grpo(command) => commands::align::run_online(&home()?, Method::Grpo, &command),
        Command::Distill(command) => commands::align::distill(&home()?, &command),
        Command::BestOfN(command) => commands::best_of_n::run(&home()?, &command),
        Command::Tokenizer(command) => commands::tokenizer::run(&command),
        Command::Tokenize(command) => commands::tokenize::run(&command),
        Command::Data(command) => commands::data::run(&home()?, &command),
        Command::Generate(command) => commands::generate::run(&command),
        Command::Feedback(command) => wait_for(commands::feedback::run(&home()?, command)),
        Command::Improve(command) => wait_for(commands::improve::run(&home()?, command)),
        Command::Promote(command) => commands::promote::promote(&home()?, &command),
        Command::Rollback(command) => commands::promote::roll_back(&home()?, &command),
        Command::Key(command) => wait_for(commands::key::run(&home()?, command)),
        Command::Completions { shell } => {
            commands::manual::completions(shell);
            Ok(())
        }
        Command::Man { folder } => commands::manual::pages(&folder),
    }
}

/// How long threads that still work, although nobody waits for their results any more, hold the program's end up.
const LAST_WAIT: Duration = Duration::from_secs(1);

fn wait_for(work: impl Future<Output = Result<()>>) -> Result<()> {
    wait_and_leave(work, LAST_WAIT)
}

/// Does `work`; what it left in other threads has at most `last_wait` to end. A runtime that is merely dropped waits for them without a limit.
fn wait_and_leave(work: impl Future<Output = Result<()>>, last_wait: Duration) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("starting the asynchronous runtime")?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(last_wait);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: the program ended only when the last text had been embedded, for which nobody waited any more.
    #[test]
    fn a_thread_that_goes_on_does_not_hold_the_programs_end_up() {
        let (end, until) = std::sync::mpsc::channel::<()>();
        let work = async {
            tokio::task::spawn_blocking(move || until.recv());
            Ok(())
        };
        wait_and_leave(work, Duration::from_millis(1)).unwrap();
        drop(end);
    }
}
