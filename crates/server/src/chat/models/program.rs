//! The program that makes an improvement: started, watched and ended, and what its end leaves.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use zhenjin_promotions::{Improvement, ImprovementState, Improvements, LOG_FILE, PromotionError};

use super::promotions::{now, promotion_fault};
use crate::errors::ApiError;

/// Bytes of a broken program's error that its record keeps, about.
const LOG_BYTES: usize = 2000;

/// How the program says that it was asked to stop and has saved (EX_TEMPFAIL of sysexits.h): it goes on when it is asked for again.
const INTERRUPTED: i32 = 75;

/// Signals by which a program is ended from outside, for want of memory too: SIGHUP, SIGINT, SIGKILL and SIGTERM.
const ENDING: [i32; 4] = [1, 2, 9, 15];

/// Makes the command that makes an improvement, of its name, the model and the method, if one is named.
type MakeCommand = dyn Fn(&str, &str, Option<&str>) -> Command + Send + Sync;

/// Takes back that an improvement, by its name, learned from judgements.
pub(super) type Forget = Box<dyn Fn(&str) + Send>;

/// How the program that makes an improvement is started.
#[derive(Clone)]
pub struct ImproveCommand(Arc<MakeCommand>);

impl ImproveCommand {
    /// Started by the command that `make` makes of the improvement's name, the model and the method, if one is named.
    pub fn new(make: impl Fn(&str, &str, Option<&str>) -> Command + Send + Sync + 'static) -> ImproveCommand {
        ImproveCommand(Arc::new(make))
    }
}

impl std::fmt::Debug for ImproveCommand {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ImproveCommand").finish_non_exhaustive()
    }
}

/// The program that makes an improvement, while it runs.
#[derive(Default)]
pub(crate) struct RunningImprovement(Mutex<Option<Program>>);

/// A program that makes an improvement.
struct Program {
    begun: Begun,
    child: Child,
    improvements: Improvements,
}

/// What was asked for.
#[derive(Clone)]
pub(super) struct Begun {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) method: Option<String>,
    /// When: milliseconds since 1970 (UTC).
    pub(super) at: i64,
}

impl Begun {
    /// The record that stands for it as long as its program has written none.
    pub(super) fn record(&self) -> Improvement {
        Improvement::begun(&self.id, &self.model, self.method.as_deref().unwrap_or_default(), self.at)
    }
}

/// Starts the program; its words go to a log in the improvement's folder.
fn spawn(command: &ImproveCommand, improvements: &Improvements, begun: &Begun) -> Result<Child, ApiError> {
    let mut process = (command.0)(&begun.id, &begun.model, begun.method.as_deref());
    let failed = |error: std::io::Error| {
        tracing::error!(%error, "an improvement could not be begun");
        ApiError::internal(
            "the program that makes improvements could not be started; the server's log says more",
        )
    };
    let folder = improvements.folder_of(&begun.id).map_err(promotion_fault)?;
    std::fs::create_dir_all(&folder).map_err(failed)?;
    let log = std::fs::File::create(folder.join(LOG_FILE)).map_err(failed)?;
    process.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed)?).stderr(log);
    // Ctrl-C is for the server, which ends the program so that it can go on later.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut process, 0);
    process.spawn().map_err(failed)
}

impl RunningImprovement {
    /// Starts the program that makes what was asked for.
    ///
    /// # Errors
    /// When the system refuses it; then nothing is left of it.
    pub(super) fn start(
        self: &Arc<Self>,
        command: &ImproveCommand,
        improvements: &Improvements,
        begun: Begun,
        forget: Forget,
    ) -> Result<(), ApiError> {
        let child =
            spawn(command, improvements, &begun).inspect_err(|_| forget_unbegun(improvements, &begun.id))?;
        tracing::info!(improvement = %begun.id, model = %begun.model, "an improvement was begun");
        self.keep(Program { begun, child, improvements: improvements.clone() }, forget);
        Ok(())
    }

    /// Keeps the program, and waits for its end in a thread of its own.
    fn keep(self: &Arc<Self>, program: Program, forget: Forget) {
        let (begun, improvements) = (program.begun.clone(), program.improvements.clone());
        // Another program may make the same improvement later.
        let process = program.child.id();
        *self.lock() = Some(program);
        let running = Arc::clone(self);
        std::thread::spawn(move || {
            let status = loop {
                match running.lock().as_mut() {
                    Some(Program { child, .. }) if child.id() == process => match child.try_wait() {
                        Ok(None) => {}
                        ended => break ended.ok().flatten(),
                    },
                    _ => return,
                }
                std::thread::sleep(std::time::Duration::from_millis(200));
            };
            note_end(&improvements, &begun, status, &*forget);
            // Last: the list has what was asked for until its record is there.
            drop(running.lock().take_if(|program| program.child.id() == process));
        });
    }

    /// Ends the program, if it makes the improvement `id`, or whatever it makes; true if there was one.
    pub(crate) fn stop(&self, id: Option<&str>) -> bool {
        let mut running = self.lock();
        let is_meant = |program: &&mut Program| id.is_none_or(|id| id == program.begun.id);
        let Some(Program { begun, child, improvements }) = running.as_mut().filter(is_meant) else {
            return false;
        };
        // What it wrote is whole at every instant, and it goes on from there.
        if let Err(error) = child.kill().and_then(|()| child.wait()) {
            tracing::warn!(%error, "the program that makes an improvement could not be ended");
        }
        forget_unbegun(improvements, &begun.id);
        running.take();
        true
    }

    /// What this server's program makes now, from the moment on when it was asked for.
    pub(super) fn begun(&self) -> Option<Begun> {
        self.lock().as_ref().map(|program| program.begun.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Program>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the end of a program leaves: a record that says how it ended or that it may go on, or nothing.
fn note_end(improvements: &Improvements, begun: &Begun, status: Option<ExitStatus>, forget: &dyn Fn(&str)) {
    let id = &begun.id;
    let (code, signal) = (status.and_then(|status| status.code()), status.and_then(signal_of));
    tracing::info!(improvement = %id, ?code, ?signal, "an improvement has ended");
    // What it has computed is whole at every instant, so that it goes on from there when it is asked for again.
    let goes_on = signal.is_some_and(|signal| ENDING.contains(&signal)) && improvements.read(id).is_ok();
    if goes_on || matches!(code, Some(0 | INTERRUPTED)) {
        forget_unbegun(improvements, id);
    } else {
        note_failure(improvements, begun, signal, forget);
    }
}

/// Removes the folder of what was asked for and left no record.
fn forget_unbegun(improvements: &Improvements, id: &str) {
    if let Err(error) = improvements.forget_unbegun(id) {
        tracing::warn!(improvement = %id, %error, "what it had begun with could not be removed");
    }
}

/// A program that broke before it could say so leaves no record, or one that still says that it runs; whoever asked for it learns why. Nobody goes
/// on with what has failed: what people wrote and what was computed of it goes, and the note of what it learned from with it.
fn note_failure(improvements: &Improvements, begun: &Begun, signal: Option<i32>, forget: &dyn Fn(&str)) {
    let id = &begun.id;
    let _making = match improvements.begin() {
        // Another program goes on with it already.
        Err(PromotionError::Busy) => return,
        making => making,
    };
    let record = improvements.read(id);
    let state = record.as_ref().map_or(ImprovementState::Running, |record| record.state);
    if matches!(state, ImprovementState::Passed | ImprovementState::Refused) {
        return;
    }
    // The note after what it is about, and the record last: what says that it has failed has left nothing, and what is found half removed
    // after a crash may still go on.
    match improvements.forget_all(id) {
        Ok(()) => forget(id),
        Err(error) => tracing::error!(improvement = %id, %error, "what it had computed could not be removed"),
    }
    if state == ImprovementState::Failed {
        return;
    }
    let mut record = record.unwrap_or_else(|_| begun.record());
    let log =
        improvements.folder_of(id).map(|folder| std::fs::read(folder.join(LOG_FILE)).unwrap_or_default());
    let log = String::from_utf8_lossy(&log.unwrap_or_default()).into_owned();
    record.state = ImprovementState::Failed;
    record.error = Some(reason_in(&log, signal));
    record.finished_at = Some(now());
    if let Err(error) = improvements.write(&record) {
        tracing::error!(improvement = %id, %error, "its failure could not be written down");
    }
}

/// The error with which a program's log ends; without one, how it ended and its last lines.
fn reason_in(log: &str, signal: Option<i32>) -> String {
    const PROGRAM: &str = "zhenjin: ";
    const LINES: usize = 3;
    let error =
        log.rmatch_indices(PROGRAM).map(|(at, _)| at).find(|at| *at == 0 || log[..*at].ends_with('\n'));
    let words = match error {
        Some(at) => log[at..].trim().to_owned(),
        None => {
            let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
            let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
            let how =
                signal.map(|signal| format!("the program was ended by signal {signal}; its last lines:\n"));
            how.unwrap_or_default() + &last
        }
    };
    let end = words.char_indices().map(|(at, _)| at).take_while(|at| *at <= LOG_BYTES).last().unwrap_or(0);
    if words.len() <= LOG_BYTES { words } else { format!("{}…", &words[..end]) }
}

#[cfg(unix)]
fn signal_of(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal_of(_status: ExitStatus) -> Option<i32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole log stood there, and not that the program had been ended.
    #[test]
    fn the_reason_of_a_failure_is_its_error_or_how_it_ended() {
        let log = "step 1: loss 2\nzhenjin: early\nstep 2\nzhenjin: no room: 内存不足\nhint: take less\n";
        assert_eq!(reason_in(log, None), "zhenjin: no room: 内存不足\nhint: take less");
        let last = "the program was ended by signal 11; its last lines:\nb\nc\nd";
        assert_eq!(reason_in("a zhenjin: x\nb\n\nc\nd\n", Some(11)), last);
        assert_eq!(reason_in("", None), "");
        let long = reason_in(&format!("zhenjin: {}", "字".repeat(5000)), None);
        assert!(long.ends_with('…') && long.len() < LOG_BYTES + 10);
    }
}
