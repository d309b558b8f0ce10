//! SIGTERM, SIGINT and SIGUSR1 ask a run to stop after the step that it is at: it saves and ends with an exit code of its own.

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A run was asked to stop and has been saved.
#[derive(Debug)]
pub(crate) struct Interrupted {
    /// Steps made.
    pub(crate) step: u64,
}

impl Interrupted {
    /// EX_TEMPFAIL of sysexits.h: try again later. A batch system requeues the job by it.
    pub(crate) const EXIT_CODE: u8 = 75;
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "asked to stop: saved after step {}; `--resume auto` goes on", self.step)
    }
}

impl std::error::Error for Interrupted {}

pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) fn listen() -> Result<Stop> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGUSR1] {
        signal_hook::flag::register(signal, Arc::clone(&asked)).context("listening to signals")?;
    }
    Ok(Stop(asked))
}
