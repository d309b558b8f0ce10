//! `zhenjin generate`: data that the program makes itself, for experiments without any other.

use anyhow::Result;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use zhenjin_corpus::{ArithmeticOptions, ArithmeticProblem, arithmetic, story};
use zhenjin_files::NewFile;

#[derive(Debug, Subcommand)]
pub(crate) enum GenerateCommand {
    /// Sums, differences and products with worked steps: JSON lines with question, steps and answer
    #[command(after_help = "Examples:
  zhenjin generate arithmetic --count 100000 --out train.jsonl
  zhenjin generate arithmetic --count 500 --test --out test.jsonl
  zhenjin tokenize train.jsonl --format '{question}\\n{steps}\\n{answer}' --tokenizer ./tokenizer --out ./shards")]
    Arithmetic(ArithmeticArguments),
    /// Short children's stories, one a line
    #[command(after_help = "Examples:\n  zhenjin generate stories --count 20000 --out stories.txt")]
    Stories(StoriesArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ArithmeticArguments {
    /// Problems to make
    #[arg(long, value_name = "N")]
    count: u64,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Another seed gives other problems
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Numbers have at most this many digits
    #[arg(long, value_name = "N", default_value_t = 3)]
    digits: u32,
    /// Questions for testing, each once; none of them is ever among those for training
    #[arg(long)]
    test: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StoriesArguments {
    /// Stories to make
    #[arg(long, value_name = "N")]
    count: u64,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Another seed gives other stories
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

pub(crate) fn run(command: &GenerateCommand) -> Result<()> {
    match command {
        GenerateCommand::Arithmetic(arguments) => {
            let options =
                ArithmeticOptions { seed: arguments.seed, digits: arguments.digits, test: arguments.test };
            let mut file = NewFile::create(&arguments.out)?;
            let mut failed = None;
            arithmetic(&options, arguments.count, &mut |problem| {
                failed = write_problem(&mut file, problem).err();
                failed.is_none()
            })?;
            failed.map_or(Ok(()), Err)?;
            Ok(file.finish()?)
        }
        GenerateCommand::Stories(arguments) => {
            let mut file = NewFile::create(&arguments.out)?;
            for number in 0..arguments.count {
                let line = format!("{}\n", story(arguments.seed, number));
                file.append(line.as_bytes())?;
            }
            Ok(file.finish()?)
        }
    }
}

fn write_problem(file: &mut NewFile, problem: &ArithmeticProblem) -> Result<()> {
    let mut line = serde_json::to_vec(problem)?;
    line.push(b'\n');
    Ok(file.append(&line)?)
}
