//! The records of a file: JSON lines, or the elements of one JSON array; plain or compressed.

use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::errors::DataError;

/// The most bytes of one file, unpacked: everything is in memory while it is encoded.
pub const MAX_FILE_BYTES: u64 = 4 << 30;

/// A record: its line, counted from 1, and what stands there, or why it is not JSON.
pub(super) type Record = (u64, Result<Value, String>);

/// Reads all records of a file.
///
/// # Errors
/// [`DataError::Io`], and [`DataError::File`] for one that is too large, that is not UTF-8, or that is an array with a mistake in
/// it, behind which no record can be told from another.
pub(super) fn read(path: &Path, max_bytes: u64) -> Result<Vec<Record>, DataError> {
    let refused = |reason: String| DataError::File { path: path.to_owned(), reason };
    if std::fs::metadata(path).map_err(DataError::io(path))?.is_dir() {
        return Err(refused("it is a folder; name the files in it".to_owned()));
    }
    let mut bytes = Vec::new();
    let reader = zhenjin_corpus::open_unpacked(path).map_err(DataError::io(path))?;
    reader.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(DataError::io(path))?;
    if bytes.len() as u64 > max_bytes {
        return Err(refused(format!("it has more than {max_bytes} bytes unpacked; divide it")));
    }
    if bytes.starts_with(b"PAR1") {
        return Err(refused("it is Parquet, which is not read here; write it as JSON lines".to_owned()));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = 1 + count_lines(&bytes[..error.valid_up_to()]);
        refused(format!("line {line} is not UTF-8; files are JSON lines or one JSON array"))
    })?;
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    match array_start(text) {
        Some(start) => of_array(text, start).map_err(refused),
        None => Ok(of_lines(text)),
    }
}

/// Where the elements begin, if the text is one array. A file of JSON lines may have arrays as records: its first line is whole.
fn array_start(text: &str) -> Option<usize> {
    let start = text.len() - text.trim_start().len();
    let body = text[start..].strip_prefix('[')?;
    let line = text[start..].lines().next().unwrap_or_default();
    let rest = &text[start + line.len()..];
    let is_line = serde_json::from_str::<Vec<Value>>(line)
        .is_ok_and(|list| !rest.trim().is_empty() || is_conversation(&list));
    (!is_line).then_some(text.len() - body.len())
}

/// Whether an array is a record, the messages of a conversation, and not a list of records.
fn is_conversation(list: &[Value]) -> bool {
    list.iter().all(|item| {
        let has = |name: &str| item.get(name).is_some_and(Value::is_string);
        has("role") || has("from")
    }) && !list.is_empty()
}

fn of_lines(text: &str) -> Vec<Record> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let value = serde_json::from_str(line).map_err(|error| error.to_string());
            (number as u64 + 1, value)
        })
        .collect()
}

fn of_array(text: &str, start: usize) -> Result<Vec<Record>, String> {
    let mut records = Vec::new();
    let (mut position, mut line, mut counted) = (start, 1 + count_lines(&text.as_bytes()[..start]), start);
    loop {
        position += text[position..].len() - text[position..].trim_start().len();
        line += count_lines(&text.as_bytes()[counted..position]);
        counted = position;
        match text.as_bytes().get(position) {
            Some(b']') => break,
            Some(b',') if !records.is_empty() => {
                position += 1;
                continue;
            }
            Some(_) => {}
            None => return Err(format!("the array does not end: `]` is missing behind line {line}")),
        }
        let mut values = serde_json::Deserializer::from_str(&text[position..]).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => records.push((line, Ok(value))),
            Some(Err(error)) => {
                return Err(format!("the record at line {line} of the array is not JSON: {error}"));
            }
            None => return Err(format!("the array does not end: `]` is missing behind line {line}")),
        }
        position += values.byte_offset();
    }
    let rest = text[position + 1..].trim();
    if rest.is_empty() {
        Ok(records)
    } else {
        Err(format!("something follows the array that ends at line {line}"))
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|&&byte| byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn lines(bytes: &[u8]) -> Result<Vec<(u64, bool)>, String> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(bytes).expect("a write");
        let records = read(file.path(), 1 << 20).map_err(|error| error.to_string())?;
        Ok(records.into_iter().map(|(line, value)| (line, value.is_ok())).collect())
    }

    #[test]
    fn lines_and_arrays_have_the_lines_of_their_records() {
        assert_eq!(lines(b"{}\n\n{}\n{"), Ok(vec![(1, true), (3, true), (4, false)]));
        assert_eq!(
            lines("\u{FEFF}[\n {},\n {\n},{}]\n".as_bytes()),
            Ok(vec![(2, true), (3, true), (4, true)])
        );
        assert_eq!(lines(b"[]"), Ok(vec![]));
        assert_eq!(lines(b""), Ok(vec![]));
        assert_eq!(lines(b"[{\"a\":1},{\"a\":2}]"), Ok(vec![(1, true), (1, true)]));
        let conversation = "[{\"role\":\"user\",\"content\":\"a\"}]";
        assert_eq!(lines(conversation.as_bytes()), Ok(vec![(1, true)]));
        assert_eq!(
            lines(format!("{conversation}\n{conversation}\n").as_bytes()),
            Ok(vec![(1, true), (2, true)])
        );
    }

    #[test]
    fn an_array_with_a_mistake_is_no_data() {
        for (text, expected) in [
            ("[{},\n{]", "line 2"),
            ("[{},\n", "`]` is missing"),
            ("[{}] x", "something follows"),
            ("[,{}]", "not JSON"),
        ] {
            let message = lines(text.as_bytes()).expect_err(text);
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn compressed_files_are_read_by_their_first_bytes() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"{}\n{}\n").expect("a write");
        assert_eq!(lines(&gzip.finish().expect("bytes")), Ok(vec![(1, true), (2, true)]));
        let zstd = zstd::encode_all(&b"[{}]"[..], 1).expect("bytes");
        assert_eq!(lines(&zstd), Ok(vec![(1, true)]));
        assert!(lines(b"\xFF\n{}").is_err_and(|message| message.contains("line 1 is not UTF-8")));
    }
}
