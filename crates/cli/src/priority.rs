//! Who goes first on a machine where a model is served while another one is trained: the chats.

use std::process::Child;
#[cfg(target_os = "linux")]
use std::process::{Command, Stdio};

use clap::{Args, ValueEnum};

/// The niceness of a program behind others that have none: beside one that wants all processors it has about a tenth of them.
#[cfg(unix)]
const NICENESS: i32 = 10;
/// The greatest niceness that there is.
#[cfg(unix)]
const MOST_NICENESS: i32 = 19;
/// The niceness of all processes of this terminal session, by which Linux shares time between sessions before it looks at processes;
/// where the file is missing, it does not.
#[cfg(target_os = "linux")]
const SESSION: &str = "/proc/self/autogroup";

/// How much of the processors a training run takes while others want them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Priority {
    /// What other programs leave, and a tenth beside them.
    Low,
    /// As much as any program.
    Normal,
}

/// The option of commands that train.
#[derive(Clone, Debug, Args)]
pub(crate) struct PriorityArgument {
    /// While other programs want the processors: `low` lets them go first (a served chat keeps its speed), and with them, until the
    /// run ends, what else its terminal session runs; `normal` takes as much as they do
    #[arg(long, value_enum, default_value = "low", value_name = "low|normal")]
    pub(crate) priority: Priority,
}

impl PriorityArgument {
    /// Takes effect until the result is dropped, as far as the system lets it.
    pub(crate) fn begin(&self) -> SessionPriority {
        match self.priority {
            Priority::Low => {
                go_behind();
                SessionPriority::lower()
            }
            Priority::Normal => SessionPriority::unchanged(),
        }
    }
}

/// Asks the system to let other programs go first.
pub(crate) fn go_behind() {
    #[cfg(unix)]
    {
        // Whoever began it may be behind others itself, and is not to be overtaken by it.
        let now = rustix::process::getpriority_process(None).unwrap_or_default();
        if let Err(error) = rustix::process::setpriority_process(None, behind(now)) {
            tracing::warn!(%error, "the system does not let this program go behind others");
        }
    }
}

/// The niceness of a program that goes behind those of the niceness `now`, as far as there is one.
#[cfg(unix)]
fn behind(now: i32) -> i32 {
    now.saturating_add(NICENESS).min(MOST_NICENESS)
}

/// The terminal session behind others, until this is dropped or the process ends in any way, `kill -9` included: a shell that
/// waits for the end of a pipe puts it back where it was.
pub(crate) struct SessionPriority {
    guard: Option<Child>,
}

impl SessionPriority {
    fn unchanged() -> SessionPriority {
        SessionPriority { guard: None }
    }

    #[cfg(target_os = "linux")]
    fn lower() -> SessionPriority {
        // Such as `/autogroup-168 nice 0`.
        let state = std::fs::read_to_string(SESSION).unwrap_or_default();
        let niceness =
            state.trim().rsplit_once(" nice ").and_then(|(_, niceness)| niceness.parse::<i32>().ok());
        let Some(before) = niceness.filter(|niceness| *niceness < NICENESS) else {
            return SessionPriority::unchanged();
        };
        let guard = match start_guard(before) {
            Ok(guard) => guard,
            Err(error) => {
                tracing::warn!(%error, "this terminal session is not put behind others: `sh`, which would put it back, cannot be started");
                return SessionPriority::unchanged();
            }
        };
        if let Err(error) = std::fs::write(SESSION, NICENESS.to_string()) {
            tracing::debug!(%error, "{SESSION} cannot be written");
        }
        SessionPriority { guard: Some(guard) }
    }

    #[cfg(not(target_os = "linux"))]
    fn lower() -> SessionPriority {
        SessionPriority::unchanged()
    }
}

/// The shell that gives the session its niceness of before. It is no member of this process's group, so that neither Ctrl-C nor a
/// signal to the group ends it.
#[cfg(target_os = "linux")]
fn start_guard(before: i32) -> std::io::Result<Child> {
    use std::os::unix::process::CommandExt;
    // The system takes one such change in a tenth of a second from users without rights.
    let script = format!(
        "while read -r line; do :; done
        for attempt in 1 2 3 4 5 6 7 8 9; do
            echo {before} 2>/dev/null > {SESSION} && exit 0
            sleep 0.2
        done
        exit 1"
    );
    Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

impl Drop for SessionPriority {
    fn drop(&mut self) {
        let Some(mut guard) = self.guard.take() else { return };
        // `wait` closes the pipe.
        if !guard.wait().is_ok_and(|status| status.success()) {
            tracing::warn!("this terminal session stays behind others: its niceness cannot be set back");
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// Regression: every program behind others took the niceness 10, so that what a server at 19 had begun went before the server's own chats.
    #[test]
    fn a_program_goes_behind_whoever_began_it_as_far_as_that_is_possible() {
        for (now, then) in [(-5, 5), (0, 10), (5, 15), (10, 19), (19, 19)] {
            assert_eq!(behind(now), then, "{now}");
        }
    }
}
