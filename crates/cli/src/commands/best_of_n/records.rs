//! Chosen answers as JSON lines in the formats of `zhenjin data check`.

use super::Written;
use super::report::left_out;
use anyhow::Result;
use std::io::Write;
use std::path::Path;
use zhenjin_align::best_of::{Candidate, Choice, Chosen, conversation_record, pair_record};
use zhenjin_align::data::Task;
use zhenjin_files::NewFile;

/// Writes what is chosen of the answers to each prompt into a file that is there whole or not at all; where nothing is chosen, a file of that
/// name stays as it is.
pub(crate) fn write(
    path: &Path,
    tasks: &[Task],
    answers: &[Vec<Candidate>],
    choice: &Choice,
) -> Result<Written> {
    let mut out = NewFile::create(path)?;
    let mut written = Written::default();
    let (mut sum, mut count) = (0.0, 0usize);
    let mut add = |candidate: &Candidate| {
        sum += candidate.reward.unwrap_or_default();
        count += 1;
    };
    for (task, answers) in tasks.iter().zip(answers) {
        let lines = match choice.of(answers) {
            Err(reason) => {
                *written.left_out.entry(left_out(reason)).or_default() += 1;
                continue;
            }
            Ok(Chosen::Best(chosen)) => {
                chosen.iter().for_each(|candidate| add(candidate));
                chosen.into_iter().map(|candidate| conversation_record(task, candidate)).collect()
            }
            Ok(Chosen::Pair(chosen, rejected)) => {
                add(chosen);
                vec![pair_record(task, chosen, rejected)]
            }
        };
        written.prompts += 1;
        written.records += lines.len();
        for line in lines {
            writeln!(out, "{line}")?;
        }
    }
    if written.records > 0 {
        out.finish()?;
    }
    written.mean_reward = (count > 0).then(|| sum / count as f64);
    Ok(written)
}
