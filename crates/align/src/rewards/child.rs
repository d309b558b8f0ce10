//! A process that is spoken to in lines, with a limit on every wait; it and what it started can always be ended.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::STOP_INTERVAL;

/// The longest line that is read.
const MAX_LINE: u64 = 1 << 20;
/// How much of what it wrote to standard error is kept.
const KEPT_ERRORS: usize = 2048;
/// How long an ended process has to be gone.
const GONE: Duration = Duration::from_secs(2);

/// What came instead of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoLine {
    TimedOut,
    Ended,
    TooLong,
    /// Whoever waits was asked to stop.
    Stopped,
}

pub(super) struct LineProcess {
    child: Child,
    lines: Receiver<Result<String, NoLine>>,
    input: Option<Sender<String>>,
    errors: Arc<Mutex<VecDeque<u8>>>,
}

impl LineProcess {
    /// Starts it, in a process group of its own.
    pub(super) fn start(command: &mut Command) -> std::io::Result<LineProcess> {
        in_group(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (sender, lines) = sync_channel(1024);
        if let Some(output) = child.stdout.take() {
            thread::spawn(move || read_lines(output, &sender));
        }
        let errors = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(output) = child.stderr.take() {
            let errors = Arc::clone(&errors);
            thread::spawn(move || keep_last(output, &errors));
        }
        let input = child.stdin.take().map(write_lines);
        Ok(LineProcess { child, lines, input, errors })
    }

    /// Hands it a line; it is written as fast as the process reads.
    pub(super) fn send(&self, line: String) {
        // Where the process has ended, the next line that is waited for says so.
        if let Some(input) = &self.input {
            let _ = input.send(line);
        }
    }

    /// The next line. A process that writes at once is listened to also where `stop` says so.
    pub(super) fn line(&self, until: Instant, stop: fn() -> bool) -> Result<String, NoLine> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left.min(STOP_INTERVAL)) {
                Ok(line) => return line,
                Err(RecvTimeoutError::Disconnected) => return Err(NoLine::Ended),
                Err(RecvTimeoutError::Timeout) if stop() => return Err(NoLine::Stopped),
                Err(RecvTimeoutError::Timeout) if left <= STOP_INTERVAL => return Err(NoLine::TimedOut),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Ends it, and says how it ended and what it last wrote to standard error.
    pub(super) fn end(&mut self) -> String {
        self.input = None;
        let by_itself = wait(&mut self.child, Duration::from_millis(200));
        end_group(&mut self.child);
        let status =
            by_itself.map_or_else(|| "did not end by itself".to_owned(), |status| how_it_ended(&status));
        let errors = self.errors.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let bytes: Vec<u8> = errors.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        match text.trim().lines().last() {
            Some(last) => format!("{status}; its last error line: {}", super::shortened(last)),
            None => status,
        }
    }
}

impl Drop for LineProcess {
    fn drop(&mut self) {
        end_group(&mut self.child);
    }
}

pub(super) fn how_it_ended(status: &ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("ended with the exit code {code}"),
        None => format!("was ended by a {status}"),
    }
}

fn read_lines(output: impl Read, sender: &SyncSender<Result<String, NoLine>>) {
    let mut output = BufReader::new(output);
    loop {
        let mut bytes = Vec::new();
        let result = match output.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(_) if !bytes.ends_with(b"\n") && bytes.len() as u64 == MAX_LINE => Err(NoLine::TooLong),
            Ok(_) => Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned()),
        };
        let ends = result.is_err();
        if sender.send(result).is_err() || ends {
            return;
        }
    }
}

fn write_lines(mut stdin: ChildStdin) -> Sender<String> {
    let (sender, lines) = channel::<String>();
    thread::spawn(move || {
        for line in lines {
            if stdin.write_all(line.as_bytes()).and_then(|()| stdin.write_all(b"\n")).is_err()
                || stdin.flush().is_err()
            {
                return;
            }
        }
    });
    sender
}

fn keep_last(mut output: impl Read, kept: &Mutex<VecDeque<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = output.read(&mut buffer) {
        let mut kept = kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        kept.extend(&buffer[..count]);
        let over = kept.len().saturating_sub(KEPT_ERRORS);
        kept.drain(..over);
    }
}

/// Waits for the end of a process.
pub(super) fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < until => {}
            _ => return None,
        }
        thread::sleep(pause.min(until.saturating_duration_since(Instant::now())));
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

#[cfg(unix)]
pub(super) fn in_group(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
pub(super) fn in_group(_command: &mut Command) {}

/// Ends a process and those that it started in its group.
pub(super) fn end_group(child: &mut Child) {
    #[cfg(unix)]
    {
        let kill = format!("kill -s KILL -- -{}", child.id());
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &kill]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Where nothing of the group is left, there is nothing to end.
        let _ = command.status();
    }
    let _ = child.kill();
    wait(child, GONE);
}
