//! Writes the sequences that training would see, so that another program can train on the same ones:
//! `dump_sequences SHARDS FOLDER '{"sequence_length": 256, "seed": 1, "validation_share": 0.01, "sequences": 1000, "validation_sequences": 64}'`.
//!
//! `training.bin` and `validation.bin` hold 32-bit little-endian integers, `[sequences, 3, sequence_length]`: tokens, targets
//! (−100 where there is none) and the number of each row's document in its sequence. A shorter last sequence is filled with
//! rows of token 0 without a target, each a document of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use zhenjin_corpus::{Loader, LoaderOptions, PackedSequence, ShardSet};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    sequence_length: usize,
    seed: u64,
    validation_share: f64,
    sequences: u64,
    validation_sequences: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [shards, folder, request] = arguments.as_slice() else {
        return Err("expected SHARDS FOLDER REQUEST".into());
    };
    let request: Request = serde_json::from_str(request)?;
    let options = LoaderOptions {
        sequence_length: request.sequence_length,
        seed: request.seed,
        validation_share: request.validation_share,
        across_documents: false,
    };
    let loader = Loader::new(Arc::new(ShardSet::open(Path::new(shards))?), options)?;
    let folder = PathBuf::from(folder);
    std::fs::create_dir_all(&folder)?;
    let training = (0..request.sequences).map(|index| loader.sequence(index));
    write(&folder.join("training.bin"), training, request.sequence_length)?;
    let count = loader.validation_sequences().min(request.validation_sequences);
    let validation = (0..count).map(|index| loader.validation_sequence(index));
    write(&folder.join("validation.bin"), validation, request.sequence_length)
}

fn write<E: std::error::Error + 'static>(
    path: &Path,
    sequences: impl Iterator<Item = Result<PackedSequence, E>>,
    length: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for sequence in sequences {
        let sequence = sequence?;
        let rows = sequence.tokens.len();
        let tokens = sequence.tokens.iter().map(|&token| token as i32);
        let targets = sequence.targets.iter().map(|target| target.map_or(-100, |target| target as i32));
        let lengths = sequence.document_lengths.iter().enumerate();
        let documents = lengths.flat_map(|(number, &rows)| std::iter::repeat_n(number as i32, rows));
        let filler = |first: i32, step: i32| (rows..length).map(move |row| first + step * (row as i32 + 1));
        let values = tokens.chain(filler(0, 0)).chain(targets).chain(filler(-100, 0));
        for value in values.chain(documents).chain(filler(0, 1)) {
            file.write_all(&value.to_le_bytes())?;
        }
    }
    Ok(file.flush()?)
}
