//! Who goes first on a machine where a model is served while another one is trained: the chats.

use clap::{Args, ValueEnum};

/// The niceness of a program behind others, of 19: beside a program that wants all processors it has about a tenth of them.
#[cfg(unix)]
const NICENESS: i32 = 10;
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
            Priority::Normal => SessionPriority { before: None },
        }
    }
}

/// Asks the system to let other programs go first.
pub(crate) fn go_behind() {
    #[cfg(unix)]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::warn!(%error, "the system does not let this program go behind others");
    }
}

/// The terminal session behind others; dropped, it is where it was.
pub(crate) struct SessionPriority {
    before: Option<String>,
}

impl SessionPriority {
    #[cfg(target_os = "linux")]
    fn lower() -> SessionPriority {
        // Such as `/autogroup-168 nice 0`.
        let state = std::fs::read_to_string(SESSION).unwrap_or_default();
        let niceness =
            state.trim().rsplit_once(" nice ").and_then(|(_, niceness)| niceness.parse::<i32>().ok());
        let is_lowered =
            |niceness: &i32| *niceness < NICENESS && std::fs::write(SESSION, NICENESS.to_string()).is_ok();
        SessionPriority { before: niceness.filter(is_lowered).map(|niceness| niceness.to_string()) }
    }

    #[cfg(not(target_os = "linux"))]
    fn lower() -> SessionPriority {
        SessionPriority { before: None }
    }
}

impl Drop for SessionPriority {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        if let Some(before) = &self.before
            && let Err(error) = std::fs::write(SESSION, before)
        {
            tracing::warn!(%error, "this terminal session stays behind others: {SESSION} cannot be written");
        }
    }
}
