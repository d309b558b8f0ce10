//! The process that makes an improvement: who it is, so that a server that was started anew can end what the one before it had begun.

use std::io::ErrorKind;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::PromotionError;
use crate::improvements::{Improvements, Running};
use crate::json_file;

/// Beside the lock, which some systems let nobody read while it is held.
const MAKER_FILE: &str = "running.json";
/// How often is looked whether a process that was ended has let go of the lock, and the pause in between.
const LOOKS: usize = 500;
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A process that makes an improvement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    /// Its number.
    pub process: u32,
    /// When it began, in the system's own words: numbers of processes are given anew. `None` where the system does not say it, or where there was
    /// no such process.
    began: Option<String>,
    /// The name of the improvement that a server had it make in the background; `None` where a person started it.
    pub for_server: Option<String>,
}

impl Maker {
    /// The process of this number, which makes an improvement; `for_server` is its name, if it makes it for a server.
    pub fn of(process: u32, for_server: Option<String>) -> Maker {
        Maker { process, began: began(process), for_server }
    }

    /// Whether it has not ended: a later process of the same number is another one.
    pub fn is_alive(&self) -> bool {
        self.began.is_some() && began(self.process) == self.began
    }
}

impl Improvements {
    /// Writes down which process makes an improvement from now on.
    ///
    /// # Errors
    /// [`PromotionError::File`].
    pub fn tell_maker(&self, _making: &Running, maker: &Maker) -> Result<(), PromotionError> {
        json_file::write(&self.root().join(MAKER_FILE), maker)
    }

    /// The process that makes an improvement now; `None` where nobody makes one, or its process is not known.
    pub fn maker(&self) -> Option<Maker> {
        let maker: Option<Maker> = json_file::read(&self.root().join(MAKER_FILE)).ok().flatten();
        maker.filter(|maker| maker.is_alive() && self.is_running())
    }

    /// Ends the process, which had no time to clean up: what it wrote is whole at every instant, and the improvement goes on from there when it is
    /// asked for again. Returns when it has let go of the right to make improvements.
    ///
    /// # Errors
    /// Where the system refuses to end it, or it has not ended after seconds.
    pub fn end_maker(&self, maker: &Maker) -> std::io::Result<()> {
        if !maker.is_alive() {
            return Ok(());
        }
        kill(maker.process)?;
        for _ in 0..LOOKS {
            // Threads of a process may hold the lock for a moment longer than the process has its number.
            if !self.is_running() {
                return Ok(());
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        // By now it may be another program that has the lock.
        if maker.is_alive() { Err(ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

/// When a process began, if one of this number has not ended: the name of the system's start, and the clock's ticks since.
#[cfg(target_os = "linux")]
fn began(process: u32) -> Option<String> {
    let stat = std::fs::read(format!("/proc/{process}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let start = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Some(format!("{} {}", start.trim(), ticks_in(&stat)?))
}

/// The ticks in the text of `/proc/…/stat`, field 22 of proc_pid_stat(5). The name before it may hold anything, parentheses and spaces too.
#[cfg(any(target_os = "linux", test))]
fn ticks_in(stat: &str) -> Option<&str> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    // One that has ended keeps its number until its parent has asked how.
    let has_ended = matches!(fields.next()?, "Z" | "X" | "x");
    fields.nth(18).filter(|_| !has_ended)
}

#[cfg(all(unix, not(target_os = "linux")))]
fn began(process: u32) -> Option<String> {
    let mut asked = std::process::Command::new("ps");
    asked.env("LC_ALL", "C").env("TZ", "UTC").args(["-o", "state=,lstart=", "-p", &process.to_string()]);
    let said = String::from_utf8(asked.output().ok()?.stdout).ok()?;
    let (state, since) = said.trim().split_once(char::is_whitespace)?;
    (!state.starts_with('Z')).then(|| since.trim().to_owned())
}

#[cfg(not(unix))]
fn began(_process: u32) -> Option<String> {
    None
}

#[cfg(unix)]
fn kill(process: u32) -> std::io::Result<()> {
    let process = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    let process = process.ok_or_else(|| std::io::Error::from(ErrorKind::InvalidInput))?;
    match rustix::process::kill_process(process, rustix::process::Signal::KILL) {
        // It has ended by itself meanwhile.
        Err(rustix::io::Errno::SRCH) => Ok(()),
        sent => Ok(sent?),
    }
}

#[cfg(not(unix))]
fn kill(_process: u32) -> std::io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_process_is_read_whatever_its_name() {
        let fields = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18";
        assert_eq!(ticks_in(&format!("7 (a) b (c) S {fields} 4711 20")), Some("4711"));
        assert_eq!(ticks_in(&format!("7 (a) Z {fields} 4711 20")), None, "it has ended");
        assert_eq!(ticks_in("7 (a) S 1 2"), None);
        assert_eq!(ticks_in(""), None);
    }

    /// Regression: nothing said which process makes an improvement, so that one whose server had been killed could not be ended.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_that_makes_an_improvement_is_known_and_a_later_one_of_its_number_is_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let improvements = Improvements::new(folder.path().join("improvements"));
        assert_eq!(improvements.maker(), None);
        let making = improvements.begin().expect("nobody else");
        let maker = Maker::of(std::process::id(), Some("one".to_owned()));
        improvements.tell_maker(&making, &maker).expect("written");
        assert_eq!(improvements.maker(), Some(maker.clone()));
        let mut sleeper = std::process::Command::new("sleep").arg("600").spawn().expect("a process");
        let earlier = Maker { began: Some("before".to_owned()), ..Maker::of(sleeper.id(), None) };
        improvements.tell_maker(&making, &earlier).expect("written");
        assert_eq!(improvements.maker(), None);
        improvements.end_maker(&earlier).expect("nothing to end");
        assert!(sleeper.try_wait().expect("a status").is_none(), "another process has the number by now");
        sleeper.kill().and_then(|()| sleeper.wait()).expect("its end");
        improvements.tell_maker(&making, &maker).expect("written");
        assert_eq!(improvements.maker(), Some(maker));
        drop(making);
        assert_eq!(improvements.maker(), None, "nobody makes one any more");
    }
}
