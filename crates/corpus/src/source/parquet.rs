//! Rows of a Parquet file.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{ConvertedType, Type as PhysicalType};
use parquet::data_type::ByteArray;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::serialized_reader::ReadOptionsBuilder;
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::{SchemaDescriptor, Type};
use serde_json::{Map, Value};

use super::footer;
use super::format::is_beyond_whole_numbers;

/// A row group that says it is larger than this when unpacked is not believed.
const MAX_ROW_GROUP_BYTES: i64 = 16 << 30;

/// Rows of which the library holds a column's values at once: with its own 1,024, rows of long lists take gigabytes.
const ROWS_AT_ONCE: usize = 128;

/// A row's number, counted from 1, and its columns, or why it is broken.
pub(super) type NumberedRow = (u64, Result<Map<String, Value>, String>);

/// Reads the columns that a format names.
pub(super) struct Rows {
    rows: RowIter<'static>,
    row: u64,
}

impl Rows {
    /// # Errors
    /// What is wrong with the file, in words.
    pub(super) fn open(path: &Path, columns: &[&str]) -> Result<Rows, String> {
        let rows = guarded(|| {
            let file = File::open(path).map_err(|error| error.to_string())?;
            footer::check(&file)?;
            let reader = reader_of_bytes(file)?;
            check_sizes(&reader)?;
            let schema = projection(reader.metadata().file_metadata().schema(), columns)?;
            RowIter::from_file_into(Box::new(reader))
                .project(Some(schema))
                .map(|rows| rows.with_batch_size(ROWS_AT_ONCE))
                .map_err(|error| error.to_string())
        })?;
        Ok(Rows { rows, row: 0 })
    }

    /// The next row.
    ///
    /// # Errors
    /// What is wrong with the file; no row can be read after that.
    pub(super) fn next(&mut self) -> Result<Option<NumberedRow>, String> {
        let rows = &mut self.rows;
        let row = guarded(|| rows.next().transpose().map_err(|error| error.to_string()))
            .map_err(|reason| format!("{reason} (after row {})", self.row))?;
        let Some(row) = row else { return Ok(None) };
        self.row += 1;
        Ok(Some((self.row, columns_of(&row))))
    }
}

/// Some damaged files make the library panic instead of returning an error.
fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err("it is not a good Parquet file: its reader gave up".to_owned()))
}

/// A reader that gives text as bytes, which are looked at row by row: what is no UTF-8 would end the library's own reading of text, and no
/// row behind it could be read.
fn reader_of_bytes(file: File) -> Result<SerializedFileReader<File>, String> {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).map_err(|error| error.to_string())?;
    let schema = Arc::new(SchemaDescriptor::new(without_text(metadata.file_metadata().schema())));
    let options = ReadOptionsBuilder::new().with_parquet_schema(schema).build();
    SerializedFileReader::new_with_options(file, options).map_err(|error| error.to_string())
}

/// The type with columns of bytes for those of text.
fn without_text(of: &Type) -> Arc<Type> {
    let info = of.get_basic_info();
    let id = info.has_id().then(|| info.id());
    let changed = match of {
        Type::PrimitiveType { physical_type: PhysicalType::BYTE_ARRAY, .. } => match info.converted_type() {
            ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON => {
                Type::primitive_type_builder(of.name(), PhysicalType::BYTE_ARRAY)
                    .with_repetition(info.repetition())
                    .with_id(id)
                    .build()
            }
            _ => return Arc::new(of.clone()),
        },
        Type::PrimitiveType { .. } => return Arc::new(of.clone()),
        Type::GroupType { fields, .. } => {
            let group = Type::group_type_builder(of.name())
                .with_converted_type(info.converted_type())
                .with_logical_type(info.logical_type_ref().cloned())
                .with_fields(fields.iter().map(|field| without_text(field)).collect())
                .with_id(id);
            // The schema itself has none.
            match info.has_repetition() {
                true => group.with_repetition(info.repetition()).build(),
                false => group.build(),
            }
        }
    };
    // Of some groups the library knows what must be in them.
    Arc::new(changed.unwrap_or_else(|_| of.clone()))
}

fn check_sizes(reader: &SerializedFileReader<File>) -> Result<(), String> {
    for group in reader.metadata().row_groups() {
        let size = group.total_byte_size();
        if !(0..=MAX_ROW_GROUP_BYTES).contains(&size) {
            return Err(format!("a row group of {size} bytes cannot be"));
        }
    }
    Ok(())
}

fn projection(schema: &Type, columns: &[&str]) -> Result<Type, String> {
    let names: Vec<&str> = schema.get_fields().iter().map(|field| field.name()).collect();
    if let Some(missing) = columns.iter().find(|column| !names.contains(column)) {
        return Err(format!("it has no column `{missing}` (there are {})", names.join(", ")));
    }
    let fields: Vec<Arc<Type>> =
        schema.get_fields().iter().filter(|field| columns.contains(&field.name())).cloned().collect();
    Type::group_type_builder(schema.name()).with_fields(fields).build().map_err(|error| error.to_string())
}

/// # Errors
/// Which column holds what is no text.
fn columns_of(row: &Row) -> Result<Map<String, Value>, String> {
    let column = |(name, field): (&String, &Field)| match value(field) {
        Ok(value) => Ok((name.clone(), value)),
        Err(valid) => Err(format!("the column `{name}` is not UTF-8 text (byte {})", valid + 1)),
    };
    row.get_column_iter().map(column).collect()
}

/// # Errors
/// How many bytes of something that must be text are UTF-8, where it is no text in whole.
fn value(field: &Field) -> Result<Value, usize> {
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Byte(value) => (*value).into(),
        Field::Short(value) => (*value).into(),
        Field::Int(value) => (*value).into(),
        Field::Long(value) => (*value).into(),
        Field::UByte(value) => (*value).into(),
        Field::UShort(value) => (*value).into(),
        Field::UInt(value) => (*value).into(),
        Field::ULong(value) => (*value).into(),
        // Its own shortest digits: 0.1 is 0.10000000149011612 as a number of 64 bits.
        Field::Float(value) => float(value.to_string().parse().unwrap_or(f64::NAN)),
        Field::Double(value) => float(*value),
        Field::Str(value) => value.clone().into(),
        Field::Bytes(bytes) => text_of(bytes)?.into(),
        Field::ListInternal(list) => {
            Value::Array(list.elements().iter().map(value).collect::<Result<_, _>>()?)
        }
        Field::Group(row) => {
            let field = |(name, field): (&String, &Field)| value(field).map(|value| (name.clone(), value));
            Value::Object(row.get_column_iter().map(field).collect::<Result<_, _>>()?)
        }
        other => shown(other)?.into(),
    })
}

/// Text, whether the file says that it is text or not: those of older writers do not.
///
/// # Errors
/// How many of its bytes are UTF-8, where it is no text in whole.
fn text_of(bytes: &ByteArray) -> Result<&str, usize> {
    str::from_utf8(bytes.data()).map_err(|error| error.valid_up_to())
}

/// What has no form of its own here, such as a map, as the library writes it.
///
/// # Errors
/// As for [`value`].
fn shown(field: &Field) -> Result<String, usize> {
    let all = |parts: Vec<String>| parts.join(", ");
    Ok(match field {
        Field::Bytes(bytes) => format!("\"{}\"", text_of(bytes)?),
        Field::ListInternal(list) => {
            format!("[{}]", all(list.elements().iter().map(shown).collect::<Result<_, _>>()?))
        }
        Field::Group(row) => {
            let field =
                |(name, field): (&String, &Field)| shown(field).map(|shown| format!("{name}: {shown}"));
            format!("{{{}}}", all(row.get_column_iter().map(field).collect::<Result<_, _>>()?))
        }
        Field::MapInternal(map) => {
            let entry = |(key, value): &(Field, Field)| -> Result<String, usize> {
                Ok(format!("{} -> {}", shown(key)?, shown(value)?))
            };
            format!("{{{}}}", all(map.entries().iter().map(entry).collect::<Result<_, _>>()?))
        }
        other => other.to_string(),
    })
}

/// A number with a fraction. One that could as well be a whole number beyond 64 bits is text already: such numbers are refused in JSON, where
/// their digits are lost.
fn float(value: f64) -> Value {
    let number = Value::from(value);
    if is_beyond_whole_numbers(&number) { number.to_string().into() } else { number }
}
