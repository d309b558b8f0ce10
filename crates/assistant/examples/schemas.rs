//! Measures which of a folder's JSON schemas can be held to, and whether what comes out satisfies them.
//!
//!     cargo run --release --locked --workspace --example schemas -- MODEL.gguf FOLDER WALKS OUT.jsonl
//!
//! Every file of FOLDER is a schema. It is compiled for the tokenizer of MODEL, then WALKS random walks are taken through the
//! tokens that the constraint allows: no model, so that every corner is visited. Walks prefer tokens that close something and
//! close all they may after 200 tokens; one that has not ended after 3,000 is cut. OUT gets one line for each file: whether it
//! compiled, the error, seconds, and the complete answers with what their check said.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use zhenjin_assistant::{CompiledFormat, FormatCompiler, OutputFormat};
use zhenjin_engine::sampling::random::uniform;
use zhenjin_engine::{TokenConstraint, TokenMask};
use zhenjin_tokenizer::Tokenizer;

const CLOSES_AFTER: usize = 200;
const CUT_AFTER: usize = 3000;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, folder, walks, out] = arguments.as_slice() else {
        return Err("usage: schemas MODEL.gguf FOLDER WALKS OUT.jsonl".into());
    };
    let walks: u64 = walks.parse()?;
    let tokenizer = zhenjin_hub::open(Path::new(model))?.tokenizer;
    let compiler = FormatCompiler::new(&tokenizer)?;
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.sort();
    let mut out = std::fs::File::create(out)?;
    let (mut compiled, mut complete, mut valid, mut cut) = (0, 0, 0, 0);
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let schema: Value = serde_json::from_slice(&std::fs::read(file)?)?;
        let begun = Instant::now();
        let format = compiler.compile(&OutputFormat::JsonSchema(schema));
        let seconds = begun.elapsed().as_secs_f64();
        let format = match format {
            Ok(format) => format.ok_or("a schema is a format")?,
            Err(error) => {
                writeln!(out, "{}", json!({ "file": name, "error": error.to_string(), "seconds": seconds }))?;
                continue;
            }
        };
        compiled += 1;
        let mut answers = Vec::new();
        for seed in 0..walks {
            let answer = walk(&format, &tokenizer, seed)?;
            match &answer {
                Walk::Complete(text) => {
                    let check = format.check(text);
                    complete += 1;
                    valid += usize::from(check.is_ok());
                    answers.push(json!({ "text": text, "error": check.err() }));
                }
                Walk::Cut(text) => {
                    cut += 1;
                    answers.push(json!({ "cut": text }));
                }
                Walk::Broken(reason) => answers.push(json!({ "broken": reason })),
            }
        }
        writeln!(
            out,
            "{}",
            json!({ "file": name, "seconds": seconds, "relaxed": format.is_relaxed(), "answers": answers })
        )?;
    }
    let line = format!(
        "{} schemas, {compiled} compiled; {complete} complete answers, of which the check lets {valid} pass; {cut} cut\n",
        files.len()
    );
    std::io::stdout().write_all(line.as_bytes())?;
    Ok(())
}

enum Walk {
    Complete(String),
    Cut(String),
    Broken(String),
}

fn walk(format: &CompiledFormat, tokenizer: &Tokenizer, seed: u64) -> Result<Walk, Failure> {
    let mut constraint = format.constraint();
    let mut bytes = Vec::new();
    let mut mask = TokenMask::none(tokenizer.vocabulary_size());
    for position in 0..CUT_AFTER as u64 {
        let mut draws = (0..8u64).map(|draw| uniform(seed, 8 * position + draw));
        let mut draw = || draws.next().unwrap_or(0.5);
        if position == CLOSES_AFTER as u64 {
            constraint.close();
        }
        if let Err(error) = constraint.mask(&mut mask) {
            return Ok(Walk::Broken(error.to_string()));
        }
        let allowed: Vec<u32> =
            (0..tokenizer.vocabulary_size() as u32).filter(|&token| mask.allows(token)).collect();
        let closes = |token: &&u32| {
            let bytes = tokenizer.token_bytes(**token).unwrap_or_default();
            !bytes.is_empty() && bytes.iter().all(|byte| b"\"}]".contains(byte))
        };
        let closing: Vec<u32> = allowed.iter().filter(closes).copied().collect();
        let from = if !closing.is_empty() && draw() < 0.3 { &closing } else { &allowed };
        let Some(&token) = from.get((draw() * from.len() as f64) as usize) else {
            return Ok(Walk::Broken("no token is allowed".to_owned()));
        };
        if tokenizer.end_of_turn().contains(&token) {
            return Ok(Walk::Complete(String::from_utf8_lossy(&bytes).into_owned()));
        }
        bytes.extend_from_slice(tokenizer.token_bytes(token).unwrap_or_default());
        if let Err(error) = constraint.accept(token) {
            return Ok(Walk::Broken(error.to_string()));
        }
        if constraint.is_finished() {
            return Ok(Walk::Complete(String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    Ok(Walk::Cut(String::from_utf8_lossy(&bytes).into_owned()))
}
