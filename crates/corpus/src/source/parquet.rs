//! Rows of a Parquet file.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Value};

/// A row group that says it is larger than this when unpacked is not believed.
const MAX_ROW_GROUP_BYTES: i64 = 16 << 30;

/// Rows of which the library holds a column's values at once: with its own 1,024, rows of long lists take gigabytes.
const ROWS_AT_ONCE: usize = 128;

/// A row's number, counted from 1, and its columns.
pub(super) type NumberedRow = (u64, Map<String, Value>);

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
            let reader = SerializedFileReader::new(file).map_err(|error| error.to_string())?;
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
        Ok(Some((self.row, fields(&row))))
    }
}

/// Some damaged files make the library panic instead of returning an error.
fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err("it is not a good Parquet file: its reader gave up".to_owned()))
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

fn fields(row: &Row) -> Map<String, Value> {
    row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect()
}

fn value(field: &Field) -> Value {
    match field {
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
        Field::Float(value) => (*value).into(),
        Field::Double(value) => (*value).into(),
        Field::Str(value) => value.clone().into(),
        // Files of older writers hold text without saying that it is text.
        Field::Bytes(bytes) => String::from_utf8_lossy(bytes.data()).into_owned().into(),
        Field::ListInternal(list) => Value::Array(list.elements().iter().map(value).collect()),
        Field::Group(row) => Value::Object(fields(row)),
        other => other.to_string().into(),
    }
}
