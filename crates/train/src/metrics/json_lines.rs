//! `metrics.jsonl`: one event a line, appended. What was written survives `kill -9`, and a resumed run goes on where its checkpoint is.

use super::{Event, MetricsError, Observer};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Longer lines are not ours.
const MAX_LINE_BYTES: u64 = 4 << 20;

/// When lines are forced to the disk. A killed process loses nothing in either case; a power cut can lose what was not forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// After every event.
    EveryEvent,
    /// When the loop asks for it: before each checkpoint and at the end.
    OnFlush,
}

/// Writes events as JSON lines.
#[derive(Debug)]
pub struct JsonLines {
    file: File,
    path: PathBuf,
    policy: SyncPolicy,
    /// Bytes of whole lines.
    length: u64,
}

/// What [`JsonLines::resume`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resumption {
    /// Lines that stay.
    pub kept: u64,
    /// Lines of steps after the checkpoint, which the resumed run writes again.
    pub dropped: u64,
    /// Lines that are no event, dropped: a last line that was cut off, or damage.
    pub broken: u64,
    /// The line of the checkpoint's own event is there; otherwise the run was killed before it was written.
    pub has_checkpoint: bool,
}

/// The events of a file, and what else stands in it.
#[derive(Clone, Debug, Default)]
pub struct ReadEvents {
    /// The events in order.
    pub events: Vec<Event>,
    /// Numbers (from 1) of lines that are no event.
    pub broken_lines: Vec<u64>,
}

impl JsonLines {
    /// Begins a new file.
    ///
    /// # Errors
    /// [`MetricsError::File`]; also when the file exists already.
    pub fn create(path: &Path, policy: SyncPolicy) -> Result<Self, MetricsError> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(path)
            .map_err(MetricsError::file("creating", path))?;
        Ok(Self { file, path: path.to_path_buf(), policy, length: 0 })
    }

    /// Opens the file of a run that goes on after `step`: lines of later steps and half lines are removed, so that the file of a
    /// resumed run is the one of an undisturbed run. A missing file is begun. The file is replaced as a whole or not at all.
    ///
    /// # Errors
    /// [`MetricsError::File`].
    pub fn resume(path: &Path, step: u64, policy: SyncPolicy) -> Result<(Self, Resumption), MetricsError> {
        if !path.try_exists().map_err(MetricsError::file("looking for", path))? {
            return Ok((Self::create(path, policy)?, Resumption::default()));
        }
        let mut resumption = Resumption::default();
        let mut kept = Vec::new();
        for_each_line(path, |line| match line {
            Some((event, text)) if event.step() <= step => {
                resumption.kept += 1;
                resumption.has_checkpoint |=
                    matches!(event, Event::Checkpoint { step: saved, .. } if saved == step);
                kept.extend_from_slice(text);
                kept.push(b'\n');
            }
            Some(_) => resumption.dropped += 1,
            None => resumption.broken += 1,
        })?;
        if resumption.dropped + resumption.broken > 0 {
            zhenjin_files::write_whole(path, &[&kept])?;
        }
        let mut file =
            OpenOptions::new().append(true).open(path).map_err(MetricsError::file("opening", path))?;
        let length = file.seek(SeekFrom::End(0)).map_err(MetricsError::file("opening", path))?;
        Ok((Self { file, path: path.to_path_buf(), policy, length }, resumption))
    }

    fn sync(&self) -> Result<(), MetricsError> {
        self.file.sync_data().map_err(MetricsError::file("writing to disk", &self.path))
    }
}

impl Observer for JsonLines {
    fn event(&mut self, event: &Event) -> Result<(), MetricsError> {
        let mut line = serde_json::to_vec(event)
            .map_err(|error| MetricsError::file("writing", &self.path)(std::io::Error::other(error)))?;
        line.push(b'\n');
        // One call to the system for the whole line. If the disk is full in its middle, the half line is taken back.
        if let Err(source) = self.file.write_all(&line) {
            let error = MetricsError::file("writing", &self.path)(source);
            self.file.set_len(self.length).map_err(MetricsError::file("shortening", &self.path))?;
            return Err(error);
        }
        self.length += line.len() as u64;
        match self.policy {
            SyncPolicy::EveryEvent => self.sync(),
            SyncPolicy::OnFlush => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), MetricsError> {
        self.sync()
    }
}

/// All events of a file. Lines that are no event are listed, not passed over in silence.
///
/// # Errors
/// [`MetricsError::File`].
pub fn read_events(path: &Path) -> Result<ReadEvents, MetricsError> {
    let mut read = ReadEvents::default();
    let mut number = 0;
    for_each_line(path, |line| {
        number += 1;
        match line {
            Some((event, _)) => read.events.push(event),
            None => read.broken_lines.push(number),
        }
    })?;
    Ok(read)
}

/// Calls `take` with each line's event and text, or with `None` for a line that is no event or does not end.
fn for_each_line(path: &Path, mut take: impl FnMut(Option<(Event, &[u8])>)) -> Result<(), MetricsError> {
    let file = File::open(path).map_err(MetricsError::file("opening", path))?;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader
            .by_ref()
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)
            .map_err(MetricsError::file("reading", path))?;
        if read == 0 {
            return Ok(());
        }
        let text = line.strip_suffix(b"\n");
        let event = text.and_then(|text| Some((serde_json::from_slice::<Event>(text).ok()?, text)));
        take(event);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::step;
    use super::*;

    fn write(path: &Path, events: &[Event]) {
        let mut lines = JsonLines::create(path, SyncPolicy::OnFlush).unwrap();
        for event in events {
            lines.event(event).unwrap();
        }
        lines.flush().unwrap();
    }

    fn checkpoint(step: u64) -> Event {
        Event::Checkpoint { step, path: format!("checkpoints/step-{step:08}").into() }
    }

    #[test]
    fn a_resumed_file_equals_the_undisturbed_one_wherever_it_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let all = [
            step(1, 9.0),
            step(2, 8.5),
            checkpoint(2),
            step(3, 8.0),
            Event::Note { step: 3, text: "誠".into() },
            step(4, 7.5),
            checkpoint(4),
        ];
        let undisturbed = folder.path().join("undisturbed.jsonl");
        write(&undisturbed, &all);
        let whole = std::fs::read(&undisturbed).unwrap();
        let after_checkpoint: usize =
            whole.split_inclusive(|byte| *byte == b'\n').take(3).map(<[u8]>::len).sum();
        // Killed at any byte after the checkpoint of step 2 had been made.
        for cut in after_checkpoint..=whole.len() {
            let path = folder.path().join("resumed.jsonl");
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (mut lines, resumption) = JsonLines::resume(&path, 2, SyncPolicy::EveryEvent).unwrap();
            assert_eq!(resumption.kept, 3, "cut at {cut}");
            assert!(resumption.has_checkpoint);
            for event in &all[3..] {
                lines.event(event).unwrap();
            }
            assert_eq!(std::fs::read(&path).unwrap(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn broken_lines_are_counted_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        write(&path, &[step(1, 9.0), step(2, 8.0)]);
        let mut bytes = b"not an event\n".to_vec();
        bytes.extend(std::fs::read(&path).unwrap());
        bytes.extend(b"{\"event\":\"step\",\"st");
        std::fs::write(&path, bytes).unwrap();
        let read = read_events(&path).unwrap();
        assert_eq!((read.events.len(), read.broken_lines), (2, vec![1, 4]));
        let (_, resumption) = JsonLines::resume(&path, 1, SyncPolicy::OnFlush).unwrap();
        assert_eq!(resumption, Resumption { kept: 1, dropped: 1, broken: 2, has_checkpoint: false });
        assert_eq!(read_events(&path).unwrap().events, [step(1, 9.0)]);
    }

    #[test]
    fn a_missing_file_is_begun_and_an_existing_one_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let (mut lines, resumption) = JsonLines::resume(&path, 7, SyncPolicy::OnFlush).unwrap();
        assert_eq!(resumption, Resumption::default());
        lines.event(&step(8, 3.0)).unwrap();
        let error = JsonLines::create(&path, SyncPolicy::OnFlush).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl"), "{error}");
        assert_eq!(read_events(&path).unwrap().events.len(), 1);
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let Ok(file) = OpenOptions::new().append(true).open("/dev/full") else { return };
        let mut lines = JsonLines { file, path: "/dev/full".into(), policy: SyncPolicy::OnFlush, length: 0 };
        assert!(lines.event(&step(1, 9.0)).is_err());
    }
}
