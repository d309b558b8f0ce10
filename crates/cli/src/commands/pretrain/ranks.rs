//! The other processes of a run: whether `mpirun` or Slurm started several, and what they must agree on before they train.

use anyhow::Result;
use zhenjin_train::communication::CommError;
use zhenjin_train::training::Ranks;

/// By these, mpirun and Slurm tell a process how many ranks its job has: Open MPI, MPICH, PMIx and Slurm's steps.
const RANK_COUNTS: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"];

/// Joins the ranks that were started together with this process.
pub(super) fn join() -> Result<Ranks> {
    let count = |name: &&str| std::env::var(name).ok()?.parse::<usize>().ok();
    match RANK_COUNTS.iter().find_map(count).unwrap_or(1) {
        1 => Ok(Ranks::alone()),
        count => several(count),
    }
}

#[cfg(feature = "mpi")]
fn several(count: usize) -> Result<Ranks> {
    use std::time::Duration;
    use zhenjin_train::communication::{Comm, Mpi};

    /// A rank may wait so long for another: validation, samples and checkpoints of the first rank take their time.
    const PATIENCE: Duration = Duration::from_secs(1800);
    let mpi = Mpi::start(PATIENCE)?;
    if mpi.size() != count {
        anyhow::bail!(
            "{count} processes were started, but MPI connects {}: the launcher and the MPI library do not fit each other",
            mpi.size()
        );
    }
    Ok(Ranks::new(mpi))
}

#[cfg(not(feature = "mpi"))]
fn several(count: usize) -> Result<Ranks> {
    anyhow::bail!(
        "{count} processes were started together, but this zhenjin cannot connect them; \
         build it with `cargo build --release --features mpi`, or start one"
    )
}

/// The first rank's text, on all ranks.
pub(super) fn text_of_first(ranks: &Ranks, own: impl FnOnce() -> Result<String>) -> Result<String> {
    let bytes = ranks.of_first::<anyhow::Error>(|| Ok(own()?.into_bytes()))?;
    Ok(String::from_utf8(bytes)
        .map_err(|_| CommError::Backend("rank 0 sent a text that is not UTF-8".to_owned()))?)
}
