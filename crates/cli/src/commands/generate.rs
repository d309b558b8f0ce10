//! `zhenjin generate`: data that the program makes itself, for experiments without any other.

use super::text_input::{BrokenRecords, TextInputArguments};
use crate::memory_size::MemorySize;
use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::PathBuf;
use zhenjin_corpus::{
    ArithmeticOptions, ArithmeticProblem, ExcerptOptions, arithmetic, discover, excerpt, story,
};
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
    /// So many bytes of a text: different documents, chosen by a hash of their contents, as JSON lines
    #[command(after_help = "Examples:
  zhenjin generate excerpt book/ --split paragraph --bytes 8MB --out excerpt.jsonl
  zhenjin generate excerpt poems.jsonl.zst --format '{lines}' --bytes 8MB --out poems.jsonl")]
    Excerpt(ExcerptArguments),
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

#[derive(Debug, Args)]
pub(crate) struct ExcerptArguments {
    #[command(flatten)]
    input: TextInputArguments,
    /// Bytes of text at most
    #[arg(long, value_name = "SIZE")]
    bytes: MemorySize,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print one JSON object with the numbers
    #[arg(long)]
    json: bool,
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
        GenerateCommand::Excerpt(arguments) => write_excerpt(arguments),
    }
}

fn write_problem(file: &mut NewFile, problem: &ArithmeticProblem) -> Result<()> {
    let mut line = serde_json::to_vec(problem)?;
    line.push(b'\n');
    Ok(file.append(&line)?)
}

fn write_excerpt(arguments: &ExcerptArguments) -> Result<()> {
    let input = arguments.input.options()?;
    let mut inputs = Vec::new();
    for path in arguments.input.inputs(&[])? {
        inputs.push(discover(&path, input.kind)?.files);
    }
    let options =
        ExcerptOptions { input, limit_bytes: arguments.bytes.0, threads: arguments.input.threads() };
    let mut broken = BrokenRecords::default();
    let found = excerpt(&inputs, &options, &mut |record| broken.show(record))?;
    let mut file = NewFile::create(&arguments.out)?;
    for text in &found.documents {
        let mut line = serde_json::to_vec(&json!({ "text": text }))?;
        line.push(b'\n');
        file.append(&line)?;
    }
    file.finish()?;
    let (documents, bytes) = (found.documents.len(), found.bytes);
    if arguments.json {
        let line = json!({
            "file": arguments.out.display().to_string(), "documents": documents, "bytes": bytes, "broken": found.broken,
            "read_documents": found.read_documents, "read_bytes": found.read_bytes,
        });
        println!("{line}");
        return Ok(());
    }
    println!(
        "{}: {documents} documents of {}, {bytes} bytes of {}",
        arguments.out.display(),
        found.read_documents,
        found.read_bytes
    );
    if found.broken > 0 {
        println!("broken and left out: {}", found.broken);
    }
    Ok(())
}
