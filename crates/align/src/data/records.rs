//! The records of a file: JSON lines, or the elements of one JSON array; plain or compressed.

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use super::errors::{BadKind, DataError, Fault};
use super::parsed::Parsed;

/// The most bytes of one file, unpacked: everything is in memory while it is encoded.
pub const MAX_FILE_BYTES: u64 = 4 << 30;

/// The most bytes of a line. No model's context is so long.
const MAX_RECORD_BYTES: usize = 64 << 20;

/// A record: its line, counted from 1, and what stands there, or why it cannot be read.
pub(super) type Record = (u64, Result<Value, Fault>);

/// The records of a file.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) records: Vec<Record>,
    /// How many have a key twice in an object that no format reads.
    pub(super) with_key_twice: u64,
}

impl Records {
    /// Adds one, unless it has a key twice where it is read.
    fn add(&mut self, line: u64, record: Result<Parsed, Fault>) {
        let record = record.and_then(|Parsed { value, twice }| match twice.where_read {
            None => {
                self.with_key_twice += u64::from(twice.elsewhere);
                Ok(value)
            }
            Some(key) => {
                let reason = format!(
                    "the field `{key}` stands twice in one object, and only one of the two could be read; leave one out or \
                     give it another name"
                );
                Err(Fault::new(BadKind::WrongField, reason))
            }
        });
        self.records.push((line, record));
    }
}

/// Reads all records of a file.
///
/// # Errors
/// [`DataError::Io`], and [`DataError::File`] for one that is too large, that is not UTF-8, or that is an array with a mistake in
/// it, behind which no record can be told from another.
pub(super) fn read(path: &Path, max_bytes: u64) -> Result<Records, DataError> {
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
    if let Some(reason) = of_another_encoding(&bytes) {
        return Err(refused(reason));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| refused(not_utf8(&bytes, error.valid_up_to())))?;
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    if text.contains('\r') && !text.contains('\n') && text.trim().contains('\r') {
        return Err(refused(
            "its lines end with carriage returns alone, which end no line here; end them with line feeds"
                .to_owned(),
        ));
    }
    match array_start(text) {
        Some(start) => of_array(text, start).map_err(refused),
        None => Ok(of_one_object(text).unwrap_or_else(|| of_lines(text))),
    }
}

/// What to do with text that is not UTF-8 from byte `place` on.
fn not_utf8(bytes: &[u8], place: usize) -> String {
    let (before, behind) = bytes.split_at(place);
    let line = 1 + count_lines(before);
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let rest = behind.split(|byte| *byte == b'\n').next().unwrap_or_default();
    // Of another encoding hardly a character is UTF-8 by chance; behind text with more of them, a byte is wrong.
    let is_of_another = before.iter().filter(|byte| !byte.is_ascii()).count() <= 4;
    let likely = match is_of_another && is_gb18030(&[&before[start..], rest].concat()) {
        true => "the file is probably GBK or GB18030; ",
        false => "",
    };
    format!(
        "line {line} is not UTF-8; {likely}write it anew as UTF-8; files are JSON lines or one JSON array"
    )
}

/// Whether all bytes of a line form characters of GB18030, which has those of GBK in two bytes each.
fn is_gb18030(mut line: &[u8]) -> bool {
    loop {
        line = match line {
            [] => return true,
            [0..=0x7F, rest @ ..] => rest,
            [0x81..=0xFE, 0x40..=0x7E | 0x80..=0xFE, rest @ ..] => rest,
            [0x81..=0xFE, b'0'..=b'9', 0x81..=0xFE, b'0'..=b'9', rest @ ..] => rest,
            _ => return false,
        }
    }
}

/// What the first bytes say of a file that is no UTF-8 text: other ways to write Unicode leave a zero byte beside every Latin letter.
fn of_another_encoding(bytes: &[u8]) -> Option<String> {
    let start = &bytes[..bytes.len().min(64)];
    let zeros = |of: usize| start.iter().skip(of).step_by(2).filter(|byte| **byte == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    let most = start.len() / 4;
    let name = match start {
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] => "UTF-32",
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => "UTF-16",
        _ if (even > most) != (odd > most) => "UTF-16",
        _ if even + odd > 0 => {
            return Some(
                "it holds zero bytes, so it is no text; files are JSON lines or one JSON array".to_owned(),
            );
        }
        _ => return None,
    };
    Some(format!("it is {name}, not UTF-8; write it anew as UTF-8"))
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

/// The one record of a text that is a single object over several lines.
fn of_one_object(text: &str) -> Option<Records> {
    let body = text.trim();
    let first = body.lines().next().filter(|first| first.starts_with('{') && first.len() < body.len())?;
    if body.len() > MAX_RECORD_BYTES
        || !serde_json::from_str::<Value>(first).is_err_and(|error| error.is_eof())
    {
        return None;
    }
    let parsed: Parsed = serde_json::from_str(body).ok()?;
    let before = &text[..text.len() - text.trim_start().len()];
    let mut records = Records::default();
    records.add(1 + count_lines(before.as_bytes()), Ok(parsed));
    Some(records)
}

fn of_lines(text: &str) -> Records {
    let mut records = Records::default();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        // Files put together of several have such marks at lines within.
        let line = line.strip_prefix('\u{FEFF}').unwrap_or(line);
        let parsed: Result<Parsed, String> = match line.len() > MAX_RECORD_BYTES {
            true => Err(format!(
                "the line has {} bytes, and no record has more than {MAX_RECORD_BYTES}: is it one array, or are line ends missing?",
                line.len()
            )),
            false => serde_json::from_str(line).map_err(|error| not_json(line, &error)),
        };
        records.add(number as u64 + 1, parsed.map_err(|reason| Fault::new(BadKind::NotJson, reason)));
    }
    records
}

/// What is wrong with a line, of which the column is enough, and what to do where that is known.
fn not_json(line: &str, error: &serde_json::Error) -> String {
    let reason = error.to_string().replace("at line 1 column", "at column");
    let is_record = |text: &str| serde_json::from_str::<Map<String, Value>>(text).is_ok();
    if line.trim_end().strip_suffix(',').is_some_and(is_record) {
        return format!(
            "{reason}: a comma stands behind the record; take it away, or make the file one array in brackets"
        );
    }
    if error.is_eof() {
        return format!(
            "{reason}: the line ends before its record does; a record must stand on one line, or all records in one array in \
             brackets"
        );
    }
    reason
}

fn of_array(text: &str, start: usize) -> Result<Records, String> {
    let mut records = Records::default();
    let mut behind_comma = false;
    let (mut position, mut line, mut counted) = (start, 1 + count_lines(&text.as_bytes()[..start]), start);
    loop {
        position += text[position..].len() - text[position..].trim_start().len();
        line += count_lines(&text.as_bytes()[counted..position]);
        counted = position;
        match text.as_bytes().get(position) {
            None => return Err(format!("the array does not end: `]` is missing behind line {line}")),
            Some(b']') if behind_comma => {
                return Err(format!(
                    "the array is not JSON: at line {line} it ends behind a comma; is its last record missing?"
                ));
            }
            Some(b']') => break,
            Some(b',') if behind_comma || records.records.is_empty() => {
                return Err(format!(
                    "the array is not JSON: at line {line} a comma stands where a record should; is one missing?"
                ));
            }
            Some(b',') => {
                behind_comma = true;
                position += 1;
                continue;
            }
            Some(_) if !behind_comma && !records.records.is_empty() => {
                return Err(format!(
                    "the array is not JSON: at line {line} a comma is missing between two records"
                ));
            }
            Some(_) => behind_comma = false,
        }
        let mut values = serde_json::Deserializer::from_str(&text[position..]).into_iter::<Parsed>();
        match values.next() {
            Some(Ok(parsed)) => records.add(line, Ok(parsed)),
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
        Ok(records.records.into_iter().map(|(line, value)| (line, value.is_ok())).collect())
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
            // These were once read as if nothing were wrong, though a record may be missing.
            ("[{},\n,{}]", "at line 2 a comma stands where a record should"),
            ("[{}\n{}]", "at line 2 a comma is missing between two records"),
            ("[{},\n]", "at line 2 it ends behind a comma"),
        ] {
            let message = lines(text.as_bytes()).expect_err(text);
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    /// The last of two equal keys once won without a word.
    #[test]
    fn a_key_that_stands_twice_is_named_and_costs_its_record_alone() {
        let twice = "{\"a\": 1, \"messages\": [{\"c\": 1, \"c\": 2}]}";
        for text in [format!("{{}}\n{twice}\n{{}}"), format!("[{{}},\n{twice},\n{{}}]")] {
            let mut file = tempfile::NamedTempFile::new().expect("a file");
            file.write_all(text.as_bytes()).expect("a write");
            let Records { records, with_key_twice } = read(file.path(), 1 << 20).expect("records");
            let [(1, Ok(_)), (2, Err(fault)), (3, Ok(_))] = &records[..] else { panic!("{records:?}") };
            assert_eq!(with_key_twice, 0);
            assert_eq!(fault.kind, BadKind::WrongField);
            assert!(fault.reason.contains("the field `c` stands twice in one object"), "{}", fault.reason);
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

    #[test]
    fn other_encodings_are_named() {
        let utf16 = |bytes: fn(u16) -> [u8; 2], mark: bool| {
            let mark = mark.then_some('\u{FEFF}');
            let text: String =
                mark.into_iter().chain("{\"a\": \"詩 of a long line of text\"}\n".chars()).collect();
            text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>()
        };
        for bytes in [
            utf16(u16::to_le_bytes, true),
            utf16(u16::to_be_bytes, true),
            utf16(u16::to_le_bytes, false),
            utf16(u16::to_be_bytes, false),
        ] {
            let message = lines(&bytes).expect_err("UTF-16");
            assert!(message.contains("it is UTF-16"), "{message}");
        }
        let utf32 = [0xFF, 0xFE, 0, 0, b'{', 0, 0, 0, b'}', 0, 0, 0];
        assert!(lines(&utf32).is_err_and(|message| message.contains("UTF-32")));
        assert!(lines(&[0; 500]).is_err_and(|message| message.contains("zero bytes")));
        assert!(lines(b"{}\r{}\r").is_err_and(|message| message.contains("carriage returns")));
        assert_eq!(lines(b"{}\r\n{}\r\n"), Ok(vec![(1, true), (2, true)]));
        // Two files with marks put together.
        assert_eq!(lines("\u{FEFF}{}\n\u{FEFF}{}\n".as_bytes()), Ok(vec![(1, true), (2, true)]));
    }

    /// "line 1 is not UTF-8" once was all that was said of the commonest encoding of Chinese files beside UTF-8.
    #[test]
    fn gbk_is_named_and_a_wrong_byte_is_not_taken_for_it() {
        // "{"a": "诗歌"}" in GBK, and a character of four bytes of GB18030.
        let gbk = b"{\"a\": \"\xCA\xAB\xB8\xE8\"}\n{}\n";
        let gb18030 = b"{\"a\": \"\xCA\xAB\x82\x35\x8F\x33\"}\n";
        for bytes in [&gbk[..], gb18030] {
            let message = lines(bytes).expect_err("GBK");
            assert!(
                message.contains("line 1 is not UTF-8; the file is probably GBK or GB18030"),
                "{message}"
            );
            assert!(message.contains("write it anew as UTF-8"), "{message}");
        }
        let latin = b"{}\n{\"a\": \"caf\xE9\"}";
        let cut = "{\"a\": \"诗歌诗歌\"}\n{\"a\": \"\u{20AC}".as_bytes();
        for bytes in [&latin[..], &cut[..cut.len() - 1]] {
            let message = lines(bytes).expect_err("no UTF-8");
            assert!(message.contains("line 2 is not UTF-8; write it anew as UTF-8"), "{message}");
        }
    }

    /// Such lines once had the parser's words alone: "trailing characters", "EOF while parsing an object".
    #[test]
    fn commas_behind_records_and_records_over_several_lines_are_named() {
        let reason = |text: &str| -> String {
            let Records { records, .. } = of_lines(text);
            records.into_iter().find_map(|(_, record)| record.err()).expect("a fault").reason
        };
        let comma = reason("{\"a\": 1},\n{\"a\": 2}");
        assert!(comma.contains("a comma stands behind the record; take it away, or make"), "{comma}");
        for text in ["{\n \"a\": 1\n}\n{\n \"a\": 2\n}", "{\"a\": [\n1]},\n{\"a\": 2}"] {
            let several = reason(text);
            assert!(several.contains("a record must stand on one line"), "{several}");
        }
        assert!(!reason("{\"a\": 1} x,").contains("a comma stands"));
    }

    /// A single indented object was once as many bad records as it has lines.
    #[test]
    fn one_object_over_several_lines_is_one_record() {
        assert_eq!(lines(b"\n{\n  \"a\": [\n    1\n  ]\n}\n"), Ok(vec![(2, true)]));
        assert_eq!(lines(b"\n{\n  \"a\": 1,\n  \"a\": 2\n}\n"), Ok(vec![(2, false)]));
        assert_eq!(lines(b"{\"a\": 1\n}\n{}"), Ok(vec![(1, false), (2, false), (3, true)]));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said_with_its_column() {
        let line = format!("{{\"a\": \"{}\"}}", "x".repeat(MAX_RECORD_BYTES));
        let Records { records, .. } =
            of_lines(&format!("{{}}\n{{\"a\": NaN}}\n{line}\n{}", "[".repeat(200_000)));
        let reason = |place: usize| &records[place].1.as_ref().expect_err("no record").reason;
        assert!(records[0].1.is_ok());
        assert!(reason(1).ends_with("at column 7"), "{}", reason(1));
        assert!(reason(2).contains("67108873 bytes"), "{}", reason(2));
        assert!(reason(3).contains("recursion limit"), "{}", reason(3));
    }
}
