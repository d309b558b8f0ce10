//! The other processes of a run: whether `mpirun` or Slurm started several, and what they must agree on before they train.

use std::path::PathBuf;

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
    use zhenjin_train::communication::{Comm, Limits, Mpi};

    /// Validation, samples and checkpoints of the first rank take their time: a rank that lives is waited for. One that is stopped, or whose machine is
    /// gone, is noticed by the missing signs of life, of which there is one a second.
    const LIMITS: Limits = Limits { patience: Duration::from_secs(1800), silence: Duration::from_secs(20) };
    let mpi = Mpi::start(LIMITS)?;
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

/// The first rank's path, on all ranks. Where paths are bytes, any path.
pub(super) fn path_of_first(ranks: &Ranks, own: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        let bytes = ranks.of_first::<anyhow::Error>(|| Ok(own()?.into_os_string().into_vec()))?;
        Ok(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
    }
    #[cfg(not(unix))]
    {
        use anyhow::Context;
        let text = |path: PathBuf| {
            let text = path.to_str().map(str::to_owned);
            text.with_context(|| format!("{} must have a name in UTF-8", path.display()))
        };
        text_of_first(ranks, || text(own()?)).map(PathBuf::from)
    }
}

/// How many ranks compute on the same processors as this one, itself included. A launcher that gives each rank processors of its own makes it 1.
pub(super) fn sharing(ranks: &Ranks) -> Result<usize> {
    if ranks.size() == 1 {
        return Ok(1);
    }
    let mut comm = ranks.comm();
    let own = format!("{} {}", comm.machine(), crate::machine::allowed_processors().unwrap_or_default());
    let all = comm.all_gather_bytes(own.as_bytes())?;
    Ok(all.iter().filter(|other| **other == *own.as_bytes()).count())
}

/// Threads of one of the ranks that share a machine's cores, where nobody said how many.
pub(super) fn threads_of_each(cores: usize, sharing: usize) -> usize {
    (cores / sharing.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_of_one_machine_share_its_cores() {
        assert_eq!(threads_of_each(8, 1), 8);
        assert_eq!(threads_of_each(8, 2), 4);
        assert_eq!(threads_of_each(8, 3), 2);
        assert_eq!(threads_of_each(2, 4), 1);
    }
}
