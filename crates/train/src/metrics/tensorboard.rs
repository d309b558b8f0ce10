//! Event files that TensorBoard shows: scalars and texts.
//!
//! A file is a row of records (TFRecord): length as u64, its checksum, the bytes, their checksum; all little-endian. Checksums are CRC-32C,
//! rotated right by 15 bits plus 0xa282ead8. The bytes are a protocol-buffer message `Event` (`tensorflow/core/util/event.proto`, `framework/summary.proto`,
//! `framework/tensor.proto`), of which only the fields used here are declared.

use super::{Event, MetricsError, Observer};
use prost::Message;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// `DT_STRING` of TensorFlow's data types.
const STRING_TYPE: i32 = 7;

#[derive(Clone, PartialEq, Message)]
struct EventMessage {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
    #[prost(message, optional, tag = "8")]
    tensor: Option<Tensor>,
    #[prost(message, optional, tag = "9")]
    metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int32, tag = "1")]
    data_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    strings: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "2")]
    dimensions: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, tag = "1")]
    size: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(message, optional, tag = "1")]
    plugin: Option<Plugin>,
}

#[derive(Clone, PartialEq, Message)]
struct Plugin {
    #[prost(string, tag = "1")]
    name: String,
}

/// Writes an event file. A run that is resumed begins another one in the same folder; TensorBoard shows steps that both have as the newer file says.
#[derive(Debug)]
pub struct TensorBoard {
    file: File,
    path: PathBuf,
    /// Bytes of whole records.
    length: u64,
}

impl TensorBoard {
    /// Begins a new file `events.out.tfevents.SECONDS.zhenjin[.N]` in a folder.
    ///
    /// # Errors
    /// [`MetricsError::File`].
    pub fn create(folder: &Path) -> Result<Self, MetricsError> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let mut number = 0;
        // Two runs in one second have different files.
        let (file, path) = loop {
            let suffix = if number == 0 { String::new() } else { format!(".{number}") };
            let path = folder.join(format!("events.out.tfevents.{seconds:010}.zhenjin{suffix}"));
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Ok(file) => break (file, path),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && number < 1000 => {
                    number += 1
                }
                Err(error) => return Err(MetricsError::file("creating", &path)(error)),
            }
        };
        let mut writer = Self { file, path, length: 0 };
        writer.write(&EventMessage {
            wall_time: wall_time(),
            step: 0,
            file_version: Some("brain.Event:2".to_owned()),
            summary: None,
        })?;
        Ok(writer)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, event: &EventMessage) -> Result<(), MetricsError> {
        let bytes = record(&event.encode_to_vec());
        if let Err(source) = self.file.write_all(&bytes) {
            let error = MetricsError::file("writing", &self.path)(source);
            self.file.set_len(self.length).map_err(MetricsError::file("shortening", &self.path))?;
            return Err(error);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }
}

impl Observer for TensorBoard {
    fn event(&mut self, event: &Event) -> Result<(), MetricsError> {
        let values = values(event);
        if values.is_empty() {
            return Ok(());
        }
        self.write(&EventMessage {
            wall_time: wall_time(),
            step: i64::try_from(event.step()).unwrap_or(i64::MAX),
            file_version: None,
            summary: Some(Summary { values }),
        })
    }

    fn flush(&mut self) -> Result<(), MetricsError> {
        self.file.sync_data().map_err(MetricsError::file("writing to disk", &self.path))
    }
}

fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

fn values(event: &Event) -> Vec<Value> {
    match event {
        Event::Step(metrics) => {
            let mut values = vec![
                scalar("train/loss", metrics.loss),
                scalar("train/gradient_norm", metrics.gradient_norm),
                scalar("train/learning_rate", metrics.learning_rate),
                scalar("speed/tokens_per_second", metrics.tokens_per_second),
                scalar("speed/seconds_per_step", metrics.seconds),
            ];
            if metrics.z_loss != 0.0 {
                values.push(scalar("train/z_loss", metrics.z_loss));
            }
            if let Some(routers) = &metrics.routers {
                values.push(scalar("experts/imbalance", routers.imbalance));
                values.push(scalar("experts/balance_loss", routers.balance));
                values.push(scalar("experts/router_entropy", routers.entropy));
            }
            values.extend(
                metrics.measures.iter().map(|(name, value)| scalar(&format!("train/{name}"), *value)),
            );
            values.extend(metrics.peak_fraction.map(|fraction| scalar("speed/peak_fraction", fraction)));
            let mebibytes = metrics.resident_bytes.map(|bytes| bytes as f64 / (1 << 20) as f64);
            values.extend(mebibytes.map(|size| scalar("machine/resident_mebibytes", size)));
            values.extend(metrics.energy.map(|energy| scalar("machine/joules_per_step", energy.joules)));
            values
        }
        Event::Validation(metrics) => {
            vec![
                scalar("validation/loss", metrics.loss),
                scalar("validation/bits_per_byte", metrics.bits_per_byte),
            ]
        }
        Event::HeldOut(metrics) => {
            metrics.measures.iter().map(|(name, value)| scalar(&format!("held_out/{name}"), *value)).collect()
        }
        // Markdown: an indented block is shown as it is.
        Event::Sample(sample) => {
            let shown = format!("{}{}", sample.prompt, sample.text).replace('\n', "\n    ");
            vec![text("samples", &format!("    {shown}"))]
        }
        Event::Note { text: note, .. } => vec![text("notes", note)],
        Event::Checkpoint { .. } => Vec::new(),
    }
}

fn scalar(tag: &str, value: f64) -> Value {
    Value { tag: tag.to_owned(), simple_value: Some(value as f32), tensor: None, metadata: None }
}

fn text(tag: &str, text: &str) -> Value {
    Value {
        tag: tag.to_owned(),
        simple_value: None,
        tensor: Some(Tensor {
            data_type: STRING_TYPE,
            shape: Some(Shape { dimensions: vec![Dimension { size: 1 }] }),
            strings: vec![text.as_bytes().to_vec()],
        }),
        metadata: Some(Metadata { plugin: Some(Plugin { name: "text".to_owned() }) }),
    }
}

/// A message in its frame.
fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut bytes = Vec::with_capacity(message.len() + 16);
    bytes.extend(length);
    bytes.extend(masked_checksum(&length).to_le_bytes());
    bytes.extend(message);
    bytes.extend(masked_checksum(message).to_le_bytes());
    bytes
}

fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::super::tests::step;
    use super::super::{SampleText, ValidationMetrics};
    use super::*;

    /// Reads a file by the description at the head of this file, checksums bit by bit.
    fn read(path: &Path) -> Vec<EventMessage> {
        let bytes = std::fs::read(path).unwrap();
        let mut rest = bytes.as_slice();
        let mut events = Vec::new();
        while !rest.is_empty() {
            let (header, body) = rest.split_at(12);
            let length = u64::from_le_bytes(header[..8].try_into().unwrap()) as usize;
            assert_eq!(u32::from_le_bytes(header[8..].try_into().unwrap()), by_definition(&header[..8]));
            let (message, tail) = body.split_at(length);
            assert_eq!(u32::from_le_bytes(tail[..4].try_into().unwrap()), by_definition(message));
            events.push(EventMessage::decode(message).unwrap());
            rest = &tail[4..];
        }
        events
    }

    /// CRC-32C (polynomial 0x1EDC6F41, reflected), masked.
    fn by_definition(bytes: &[u8]) -> u32 {
        let mut register = !0_u32;
        for byte in bytes {
            register ^= u32::from(*byte);
            for _ in 0..8 {
                register = if register & 1 == 1 { register >> 1 ^ 0x82f6_3b78 } else { register >> 1 };
            }
        }
        let checksum = !register;
        checksum.rotate_right(15).wrapping_add(0xa282_ead8)
    }

    #[test]
    fn files_are_what_tensorboard_reads() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = TensorBoard::create(folder.path()).unwrap();
        writer.event(&step(7, 3.25)).unwrap();
        let validation = ValidationMetrics { step: 7, loss: 3.0, bits_per_byte: 1.5, targets: 9, bytes: 30 };
        writer.event(&Event::Validation(validation)).unwrap();
        let sample = SampleText { step: 7, prompt: "春".into(), text: "眠\n不覺曉".into() };
        writer.event(&Event::Sample(sample)).unwrap();
        writer.event(&Event::Checkpoint { step: 7, path: "x".into() }).unwrap();
        writer.flush().unwrap();
        let events = read(writer.path());
        assert_eq!(events.len(), 4);
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        assert!(events.iter().all(|event| event.wall_time > 1.7e9));
        let scalars: Vec<_> = events[1].summary.iter().flat_map(|summary| &summary.values).collect();
        assert_eq!((scalars[0].tag.as_str(), scalars[0].simple_value), ("train/loss", Some(3.25)));
        assert_eq!(events[1].step, 7);
        let sample = &events[3].summary.as_ref().unwrap().values[0];
        assert_eq!(sample.tensor.as_ref().unwrap().strings, ["    春眠\n    不覺曉".as_bytes()]);
        let again = TensorBoard::create(folder.path()).unwrap();
        assert_ne!(again.path(), writer.path());
    }
}
