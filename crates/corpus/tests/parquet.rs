//! Parquet columns as documents, and damaged Parquet files.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, FloatType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use zhenjin_corpus::{DocumentFormat, Input, InputOptions, SampleOptions, TextSample, discover, sample};

/// Two text columns in two row groups.
fn write(path: &Path, titles: &[&str], texts: &[&str]) {
    let schema = "message m { required binary title (UTF8); required binary text (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let properties = WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build();
    let file = std::fs::File::create(path).expect("a file");
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).expect("a writer");
    for (titles, texts) in titles.chunks(2).zip(texts.chunks(2)) {
        let mut group = writer.next_row_group().expect("a row group");
        for values in [titles, texts] {
            let values: Vec<_> = values.iter().map(|value| value.as_bytes().to_vec().into()).collect();
            let mut column = group.next_column().expect("a column").expect("a column");
            column.typed::<ByteArrayType>().write_batch(&values, None, None).expect("values");
            column.close().expect("a column");
        }
        group.close().expect("a row group");
    }
    writer.close().expect("a file");
}

fn read(path: &Path, format: &str) -> Result<(TextSample, Vec<String>), String> {
    read_within(InputOptions::default().max_document_bytes, path, format)
}

fn read_within(
    max_document_bytes: usize,
    path: &Path,
    format: &str,
) -> Result<(TextSample, Vec<String>), String> {
    let format = DocumentFormat::parse(format).expect("a format");
    let input = InputOptions { format, max_document_bytes, ..InputOptions::default() };
    let files =
        discover(&Input { path: path.to_owned(), licence: String::new() }, None).expect("a file").files;
    let threads = NonZeroUsize::MIN;
    let options =
        SampleOptions { input, limit_bytes: 1 << 20, special_tokens: vec!["<|t|>".to_owned()], threads };
    let mut broken = Vec::new();
    let sample = sample(&[files], &options, &mut |record| broken.push(record.to_string()));
    sample.map(|sample| (sample, broken)).map_err(|error| error.to_string())
}

#[test]
fn columns_become_documents_and_broken_rows_are_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("poems.parquet");
    write(&path, &["one", "two", "three"], &["春眠不覺曉", " ", "text"]);
    let (sample, broken) = read(&path, "<|t|>{title}: {text}").expect("documents");
    let mut texts = [sample.training, sample.held_out].concat();
    texts.sort();
    assert_eq!(texts, ["one: 春眠不覺曉", "three: text", "two:  "]);
    assert!(broken.is_empty(), "{broken:?}");
    let (_, broken) = read(&path, "{text}").expect("documents");
    assert_eq!(broken, ["poems.parquet:2: it has no text"]);
    let error = read(&path, "{body}").expect_err("no such column");
    assert!(error.contains("no column `body` (there are title, text)"), "{error}");
}

/// One column of lists of texts: as many elements for each row as `lengths` says.
fn write_lists(path: &Path, lengths: &[usize]) {
    let schema = "message m { required group lines (LIST) { \
                  repeated group list { required binary element (UTF8); } } }";
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let file = std::fs::File::create(path).expect("a file");
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).expect("a writer");
    let mut group = writer.next_row_group().expect("a row group");
    let mut column = group.next_column().expect("a column").expect("a column");
    let values = vec![ByteArray::from("line"); lengths.iter().sum()];
    // An element that is not its row's first repeats the list.
    let repeats: Vec<i16> =
        lengths.iter().flat_map(|&length| (0..length).map(|index| i16::from(index > 0))).collect();
    let defined = vec![1i16; values.len()];
    column.typed::<ByteArrayType>().write_batch(&values, Some(&defined), Some(&repeats)).expect("values");
    column.close().expect("a column");
    group.close().expect("a row group");
    writer.close().expect("a file");
}

/// One column, as `binary text`.
fn write_column<T: DataType>(path: &Path, column: &str, values: &[T::T]) {
    let schema = parse_message_type(&format!("message m {{ required {column}; }}")).expect("a schema");
    let file = std::fs::File::create(path).expect("a file");
    let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::default()).expect("a writer");
    let mut group = writer.next_row_group().expect("a row group");
    let mut column = group.next_column().expect("a column").expect("a column");
    column.typed::<T>().write_batch(values, None, None).expect("values");
    column.close().expect("a column");
    group.close().expect("a row group");
    writer.close().expect("a file");
}

/// Regression: bytes that are no UTF-8 became U+FFFD, and were trained on.
#[test]
fn a_row_whose_column_is_no_utf8_text_is_broken() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("poems.parquet");
    let gbk = b"ab\xB4\xBA\xC3\xDF".to_vec();
    let values = ["春眠".as_bytes().to_vec(), gbk, b"text".to_vec()].map(ByteArray::from);
    write_column::<ByteArrayType>(&path, "binary text", &values);
    let (sample, broken) = read(&path, "{text}").expect("documents");
    assert_eq!(broken, ["poems.parquet:2: the column `text` is not UTF-8 text (byte 3)"]);
    let mut texts = [sample.training, sample.held_out].concat();
    texts.sort();
    assert_eq!(texts, ["text", "春眠"]);
}

/// Regression: in a column that says it is text, one value that is no UTF-8 was the end of the whole file.
#[test]
fn a_row_of_a_text_column_that_is_no_utf8_text_is_broken_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("poems.parquet");
    let gbk = || b"ab\xB4\xBA\xC3\xDF".to_vec();
    for column in ["binary text (UTF8)", "binary text (STRING)", "binary text (JSON)", "binary text (ENUM)"] {
        let values = ["春眠".as_bytes().to_vec(), gbk(), b"text".to_vec(), gbk()].map(ByteArray::from);
        write_column::<ByteArrayType>(&path, column, &values);
        let (sample, broken) = read(&path, "{text}").expect(column);
        let expected =
            [2, 4].map(|row| format!("poems.parquet:{row}: the column `text` is not UTF-8 text (byte 3)"));
        assert_eq!(broken, expected, "{column}");
        let mut texts = [sample.training, sample.held_out].concat();
        texts.sort();
        assert_eq!(texts, ["text", "春眠"], "{column}");
    }
}

/// Two texts in each row, as one entry of a map.
fn write_maps(path: &Path, entries: &[[&[u8]; 2]]) {
    let schema = "message m { required group pairs (MAP) { repeated group key_value { \
                  required binary key (UTF8); required binary value (UTF8); } } }";
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let file = std::fs::File::create(path).expect("a file");
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).expect("a writer");
    let mut group = writer.next_row_group().expect("a row group");
    let (defined, repeats) = (vec![1i16; entries.len()], vec![0i16; entries.len()]);
    for side in 0..2 {
        let values: Vec<ByteArray> = entries.iter().map(|entry| entry[side].to_vec().into()).collect();
        let mut column = group.next_column().expect("a column").expect("a column");
        column.typed::<ByteArrayType>().write_batch(&values, Some(&defined), Some(&repeats)).expect("values");
        column.close().expect("a column");
    }
    group.close().expect("a row group");
    writer.close().expect("a file");
}

/// Regression: it ended the file inside maps as well, which are written as they always were.
#[test]
fn text_inside_maps_is_looked_at_row_by_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("poems.parquet");
    let entries: [[&[u8]; 2]; 3] = [["題".as_bytes(), b"text"], [b"title", b"\xB4\xBA"], [b"a", b"b"]];
    write_maps(&path, &entries);
    let (sample, broken) = read(&path, "{pairs}").expect("documents");
    assert_eq!(broken, ["poems.parquet:2: the column `pairs` is not UTF-8 text (byte 1)"]);
    let mut texts = [sample.training, sample.held_out].concat();
    texts.sort();
    assert_eq!(texts, ["{\"a\" -> \"b\"}", "{\"題\" -> \"text\"}"]);
}

/// Regression: 0.1 in 32 bits was written with the digits that it has in 64.
#[test]
fn numbers_have_the_digits_of_their_own_type() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("poems.parquet");
    let texts = |path: &Path| {
        let (sample, broken) = read(path, "{score}").expect("documents");
        assert_eq!(broken, Vec::<String>::new());
        let mut texts = [sample.training, sample.held_out].concat();
        texts.sort();
        texts
    };
    write_column::<FloatType>(&path, "float score", &[0.1, 2.0, 0.7, 1e30]);
    let found = texts(&path);
    assert_eq!((found.len(), &found[..2]), (4, &["0.1".to_owned(), "0.7".to_owned()][..]));
    assert!(found.contains(&"2.0".to_owned()), "{found:?}");
    // Larger than a whole number of 64 bits, which is refused only where its digits are lost.
    write_column::<DoubleType>(&path, "double score", &[0.1, -1e300]);
    assert_eq!(texts(&path).len(), 2);
}

/// `--max-document` had no meaning for Parquet: whatever a row held was a document.
#[test]
fn rows_that_are_longer_than_a_document_may_be_are_broken() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("poems.parquet");
    let long = "長".repeat(400);
    write(&path, &["one", "two", "three"], &["text", &long, "text"]);
    let (sample, broken) = read_within(1 << 10, &path, "{title}{text}").expect("documents");
    assert_eq!(broken, ["poems.parquet:2: the row has 1203 bytes; the limit is 1024"]);
    assert_eq!(sample.documents, 2);
    // A column that is not read does not count.
    let (sample, broken) = read_within(1 << 10, &path, "{title}").expect("documents");
    assert_eq!((sample.documents, broken.len()), (3, 0));
    write_lists(&path, &[2, 257, 256]);
    let (sample, broken) = read_within(1 << 10, &path, "{lines}").expect("documents");
    assert_eq!(broken, ["poems.parquet:2: the row has 1028 bytes; the limit is 1024"]);
    assert_eq!(sample.documents, 2);
    assert!([sample.training, sample.held_out].concat().contains(&"line\nline".to_owned()));
}

#[test]
fn a_damaged_file_is_an_error_wherever_the_damage_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("poems.parquet");
    write(&path, &["one", "two", "three"], &["春眠不覺曉", "處處聞啼鳥", "夜來風雨聲"]);
    let good = std::fs::read(&path).expect("a file");
    for place in 0..good.len() {
        let mut damaged = good.clone();
        damaged[place] ^= 0xFF;
        std::fs::write(&path, &damaged).expect("a file");
        // Some bytes are text or unused: what matters is that there is an answer.
        drop(read(&path, "{title}{text}"));
        std::fs::write(&path, &good[..place]).expect("a file");
        assert!(read(&path, "{title}{text}").is_err(), "cut at {place}");
    }
}
