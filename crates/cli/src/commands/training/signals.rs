//! SIGTERM, SIGINT and SIGUSR1 ask a run to stop after the step that it is at: it saves and ends with an exit code of its own.

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Whether a signal came since a run listened last.
static ASKED: AtomicBool = AtomicBool::new(false);
/// Whether no run listens. A signal then ends the program at once, as what it had saved is whole at every instant.
static IDLE: AtomicBool = AtomicBool::new(true);

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

/// A run listens to signals as long as it has this.
pub(crate) struct Stop(());

impl Stop {
    pub(crate) fn is_asked(&self) -> bool {
        was_asked()
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        IDLE.store(true, Ordering::SeqCst);
    }
}

/// Whether a run was asked to stop. A signal may come when its last step is made: whoever does more after a run looks here.
pub(crate) fn was_asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// Turns signals into a question to the run that listens, until the result is dropped. From the first run of a program on, a signal that comes
/// while none listens ends the program with [`Interrupted::EXIT_CODE`].
pub(crate) fn listen() -> Result<Stop> {
    register()?;
    ASKED.store(false, Ordering::SeqCst);
    IDLE.store(false, Ordering::SeqCst);
    Ok(Stop(()))
}

/// Registers once for all runs of the program: what is registered takes the place of the default action for good.
fn register() -> Result<()> {
    static IS_DONE: Mutex<bool> = Mutex::new(false);
    let mut is_done = IS_DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if *is_done {
        return Ok(());
    }
    for signal in [SIGTERM, SIGINT, SIGUSR1] {
        // In this order: the program ends before it takes a note that nobody reads.
        signal_hook::flag::register_conditional_shutdown(signal, Interrupted::EXIT_CODE.into(), &IDLE)
            .and_then(|_| signal_hook::flag::register(signal, &ASKED))
            .context("listening to signals")?;
    }
    *is_done = true;
    Ok(())
}
