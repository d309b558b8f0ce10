//! Parquet columns as documents, and damaged Parquet files.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use parquet::data_type::ByteArrayType;
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
    let input =
        InputOptions { format: DocumentFormat::parse(format).expect("a format"), ..InputOptions::default() };
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
