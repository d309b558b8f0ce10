//! Lines of a file, plain or compressed, in bounded memory.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 << 10;
const BYTE_ORDER_MARK: &[u8] = "\u{FEFF}".as_bytes();

/// A line or a part of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LinePart {
    /// Without the newline.
    pub(super) bytes: Vec<u8>,
    /// Whether the line ends here, by a newline or with the file.
    pub(super) ends_line: bool,
    /// Whether there was a newline.
    pub(super) has_newline: bool,
}

/// Reads a file line by line.
pub(super) struct Lines {
    reader: Box<dyn BufRead + Send>,
    /// The beginning of a character whose end was beyond the last part.
    carried: Vec<u8>,
    at_start: bool,
}

/// Opens a file for reading what it holds, unpacked where it is compressed (gzip, zstd), which its first bytes say.
///
/// # Errors
/// The operating system's, or that the file stands for another one (Git LFS).
pub fn open_unpacked(path: &Path) -> std::io::Result<Box<dyn BufRead + Send>> {
    let mut file = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    let start = file.fill_buf()?;
    zhenjin_files::check_no_lfs_pointer(path, start)
        .map_err(|error| std::io::Error::other(error.problem()))?;
    if start.starts_with(&[0x1F, 0x8B]) {
        let decoder = flate2::bufread::MultiGzDecoder::new(file);
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder)));
    }
    if start.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
        let decoder = zstd::stream::read::Decoder::with_buffer(file)?;
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder)));
    }
    Ok(Box::new(file))
}

impl Lines {
    /// Opens a file; what it is compressed with is known from its first bytes.
    pub(super) fn open(path: &Path) -> std::io::Result<Lines> {
        Ok(Lines { reader: open_unpacked(path)?, carried: Vec::new(), at_start: true })
    }

    /// The next line, or its next part where it has more than `limit` bytes; parts are not cut inside a character.
    pub(super) fn next(&mut self, limit: usize) -> std::io::Result<Option<LinePart>> {
        let mut bytes = std::mem::take(&mut self.carried);
        let mut read_any = !bytes.is_empty();
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                self.strip_mark(&mut bytes);
                return Ok(read_any.then_some(LinePart { bytes, ends_line: true, has_newline: false }));
            }
            read_any = true;
            let room = limit.saturating_sub(bytes.len()).min(buffer.len());
            // One byte further, so that a line of exactly `limit` bytes is whole.
            let searched = &buffer[..(room + 1).min(buffer.len())];
            if let Some(end) = searched.iter().position(|&byte| byte == b'\n') {
                bytes.extend_from_slice(&buffer[..end]);
                self.reader.consume(end + 1);
                self.strip_mark(&mut bytes);
                return Ok(Some(LinePart { bytes, ends_line: true, has_newline: true }));
            }
            bytes.extend_from_slice(&buffer[..room]);
            self.reader.consume(room);
            if bytes.len() >= limit && !self.reader.fill_buf()?.is_empty() {
                if self.reader.fill_buf()?[0] == b'\n' {
                    continue;
                }
                let whole = bytes.len() - incomplete_tail(&bytes);
                self.carried = bytes.split_off(if whole == 0 { bytes.len() } else { whole });
                self.strip_mark(&mut bytes);
                return Ok(Some(LinePart { bytes, ends_line: false, has_newline: false }));
            }
        }
    }

    /// Reads to the end of a line that was too long, and says how many bytes more it had.
    pub(super) fn skip_line(&mut self) -> std::io::Result<u64> {
        let mut skipped = std::mem::take(&mut self.carried).len() as u64;
        loop {
            let buffer = self.reader.fill_buf()?;
            let end = buffer.iter().position(|&byte| byte == b'\n');
            let length = end.unwrap_or(buffer.len());
            let at_end = end.is_some() || buffer.is_empty();
            skipped += length as u64;
            self.reader.consume(length + usize::from(end.is_some()));
            if at_end {
                return Ok(skipped);
            }
        }
    }

    /// Some editors begin a file with a byte order mark, which is no text.
    fn strip_mark(&mut self, bytes: &mut Vec<u8>) {
        if std::mem::take(&mut self.at_start) && bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
    }
}

/// How many bytes at the end are the beginning of a character that goes on.
fn incomplete_tail(bytes: &[u8]) -> usize {
    for back in 1..=3.min(bytes.len()) {
        let byte = bytes[bytes.len() - back];
        if byte & 0xC0 == 0x80 {
            continue;
        }
        let length = match byte {
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF7 => 4,
            _ => 1,
        };
        return if length > back { back } else { 0 };
    }
    0
}

/// All bytes of a file, for its hash.
pub(crate) fn for_each_block(path: &Path, mut take: impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        take(&buffer[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn parts(bytes: &[u8], limit: usize) -> Vec<(Vec<u8>, bool)> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(bytes).expect("a write");
        let mut lines = Lines::open(file.path()).expect("a file");
        let mut parts = Vec::new();
        while let Some(part) = lines.next(limit).expect("a part") {
            parts.push((part.bytes, part.has_newline));
        }
        parts
    }

    proptest! {
        #[test]
        fn parts_are_the_file_and_each_is_whole_characters(text in "[a\u{e9}詩🔥\n]{0,200}", limit in 4usize..40) {
            let parts = parts(text.as_bytes(), limit);
            let mut joined = String::new();
            for (bytes, has_newline) in parts {
                prop_assert!(bytes.len() <= limit);
                joined.push_str(&String::from_utf8(bytes).expect("whole characters"));
                if has_newline {
                    joined.push('\n');
                }
            }
            prop_assert_eq!(joined, text);
        }
    }

    #[test]
    fn marks_line_ends_and_bytes_that_are_no_text_come_through() {
        assert_eq!(parts("\u{FEFF}a\n\n".as_bytes(), 9), [(b"a".to_vec(), true), (Vec::new(), true)]);
        assert_eq!(parts(b"abcd\nef", 4), [(b"abcd".to_vec(), true), (b"ef".to_vec(), false)]);
        assert_eq!(parts(&[0x80; 6], 4), [(vec![0x80; 4], false), (vec![0x80; 2], false)]);
        assert_eq!(parts(b"", 4), []);
    }
}
