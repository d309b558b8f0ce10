//! The schema in a Parquet file's footer, looked through before the library reads it: the library calls itself for each group inside a group
//! and believes every count of children, so that a footer of some hundred kilobytes could end the program, which nothing can catch.
//!
//! A footer is a structure of Thrift's compact protocol (thrift-compact-protocol.md of Apache Thrift); its fields are in parquet.thrift of
//! Apache Parquet. The library reads the fields that it knows by their numbers, whatever their types are. Here a field of another type than
//! its own is refused, so that both read the same.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// A file ends with the length of its footer and these.
const MAGIC: [u8; 4] = *b"PAR1";
const TAIL_BYTES: usize = 8;

/// A footer that says it is larger than this is not believed.
const MAX_FOOTER_BYTES: u32 = 64 << 20;
/// The most columns and groups of a schema.
const MAX_ELEMENTS: u64 = 1 << 16;
/// The most groups inside each other, the schema itself included.
const MAX_DEPTH: usize = 64;
/// The library holds the names of all groups around a column for each column: this many bytes, roughly, may they take.
const MAX_PATH_BYTES: u64 = 64 << 20;
/// What a name takes beside its letters.
const NAME_BYTES: u64 = 32;
/// Structures inside each other in fields that are not known.
const MAX_SKIPPED_DEPTH: usize = 8;

// Types of fields; a boolean's value is in its type.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
// 5 has 32 bits.
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCTURE: u8 = 12;

/// What is in a known field.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Bool,
    Byte,
    Integer,
    Text,
    Fields(Fields),
}

/// The known fields of a structure, by number.
type Fields = &'static [(i16, Shape)];

const EMPTY: Shape = Shape::Fields(&[]);
const TIME_UNIT: Shape = Shape::Fields(&[(1, EMPTY), (2, EMPTY), (3, EMPTY)]);
const TIME: Shape = Shape::Fields(&[(1, Shape::Bool), (2, TIME_UNIT)]);
/// What a column's values mean: one of these.
const LOGICAL_TYPE: Shape = Shape::Fields(&[
    (1, EMPTY),
    (2, EMPTY),
    (3, EMPTY),
    (4, EMPTY),
    (5, Shape::Fields(&[(1, Shape::Integer), (2, Shape::Integer)])),
    (6, EMPTY),
    (7, TIME),
    (8, TIME),
    (10, Shape::Fields(&[(1, Shape::Byte), (2, Shape::Bool)])),
    (11, EMPTY),
    (12, EMPTY),
    (13, EMPTY),
    (14, EMPTY),
    (15, EMPTY),
    (16, Shape::Fields(&[(1, Shape::Byte)])),
    (17, Shape::Fields(&[(1, Shape::Text)])),
    (18, Shape::Fields(&[(1, Shape::Text), (2, Shape::Integer)])),
    (19, EMPTY),
]);

const CUT: &str = "it is cut off";
const NUMBER: &str = "a number is too large";
const OTHER_TYPE: &str = "a field has another type than its own";

/// Refuses a file whose schema the library could not read without ending the program. What else is wrong with a file, the library says.
///
/// # Errors
/// What is wrong with the schema, in words.
pub(super) fn check(file: &File) -> Result<(), String> {
    match read(file)? {
        Some(footer) => check_schema(&footer),
        None => Ok(()),
    }
}

/// The footer's bytes; `None` where the file has none.
fn read(mut file: &File) -> Result<Option<Vec<u8>>, String> {
    let failed = |error: std::io::Error| error.to_string();
    let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
    let Some(before_tail) = length.checked_sub(TAIL_BYTES as u64) else { return Ok(None) };
    file.seek(SeekFrom::Start(before_tail)).map_err(failed)?;
    let mut tail = [0; TAIL_BYTES];
    file.read_exact(&mut tail).map_err(failed)?;
    let [a, b, c, d, magic @ ..] = tail;
    let bytes = u32::from_le_bytes([a, b, c, d]);
    let Some(start) = before_tail.checked_sub(bytes.into()).filter(|_| magic == MAGIC) else {
        return Ok(None);
    };
    if bytes > MAX_FOOTER_BYTES {
        return Err(format!("a footer of {bytes} bytes cannot be"));
    }
    file.seek(SeekFrom::Start(start)).map_err(failed)?;
    let mut footer = Vec::new();
    file.take(bytes.into()).read_to_end(&mut footer).map_err(failed)?;
    Ok(Some(footer))
}

fn check_schema(footer: &[u8]) -> Result<(), String> {
    let mut reader = Reader { rest: footer };
    let elements = reader.begin_schema().map_err(bad)?;
    if elements > MAX_ELEMENTS {
        return Err(format!("its schema has {elements} columns and groups; at most {MAX_ELEMENTS} are read"));
    }
    let mut open: Vec<Group> = Vec::new();
    let mut all_paths = 0;
    for following in (0..elements).rev() {
        let element = reader.element().map_err(bad)?;
        let around = open.last_mut().map_or(0, Group::take_child);
        let path_bytes = around + element.name_bytes + NAME_BYTES;
        if element.children > following {
            return Err(bad("a group has more children than there are"));
        }
        if element.children > 0 {
            open.push(Group { children: element.children, path_bytes });
        } else {
            all_paths += path_bytes;
        }
        if open.len() > MAX_DEPTH {
            return Err(format!("its schema has more than {MAX_DEPTH} groups inside each other"));
        }
        if path_bytes.max(all_paths) > MAX_PATH_BYTES {
            return Err("the names of its columns and of the groups around them are too long".to_owned());
        }
        while open.pop_if(|group| group.children == 0).is_some() {}
    }
    Ok(())
}

fn bad(problem: &str) -> String {
    format!("it is not a good Parquet file: the schema in its footer: {problem}")
}

/// A group whose children are being read.
struct Group {
    /// Children that are still to come.
    children: u64,
    /// The names up to and with its own.
    path_bytes: u64,
}

impl Group {
    /// Counts a child, and gives the bytes of the names around it.
    fn take_child(&mut self) -> u64 {
        self.children -= 1;
        self.path_bytes
    }
}

/// A column or a group of a schema, which is a list of them, each group before its children.
#[derive(Default)]
struct Element {
    name_bytes: u64,
    children: u64,
}

/// The bytes of a footer that are still to be read.
struct Reader<'a> {
    rest: &'a [u8],
}

/// What was read, or what is wrong.
type Outcome<T> = Result<T, &'static str>;

impl Reader<'_> {
    /// Reads up to the elements of the schema, and gives their number.
    fn begin_schema(&mut self) -> Outcome<u64> {
        const VERSION: i16 = 1;
        const SCHEMA: i16 = 2;
        // Every writer writes fields in the order of their numbers. Of several schemas the library reads the first.
        let mut field = self.field(0)?;
        if matches!(field, Some((VERSION, I16..=I64))) {
            self.integer()?;
            field = self.field(VERSION)?;
        }
        if field != Some((SCHEMA, LIST)) {
            return Err("it is not at the beginning");
        }
        let head = self.byte()?;
        if head & 0x0F != STRUCTURE {
            return Err("it is no list of columns");
        }
        match head >> 4 {
            15 => self.varint(),
            elements => Ok(elements.into()),
        }
    }

    fn element(&mut self) -> Outcome<Element> {
        const NAME: i16 = 4;
        const CHILDREN: i16 = 5;
        const MEANING: i16 = 10;
        let mut element = Element::default();
        let mut last = 0;
        while let Some((number, kind)) = self.field(last)? {
            last = number;
            match (number, kind) {
                (NAME, BINARY) => element.name_bytes = self.text()?,
                (CHILDREN, I16..=I64) => {
                    let children = u64::try_from(self.integer()?);
                    element.children = children.map_err(|_| "a group has less than no children")?;
                }
                (MEANING, _) => self.value(LOGICAL_TYPE, kind)?,
                (1..MEANING, _) if number != NAME => self.value(Shape::Integer, kind)?,
                (NAME, _) => return Err(OTHER_TYPE),
                _ => self.skip(kind, MAX_SKIPPED_DEPTH)?,
            }
        }
        Ok(element)
    }

    /// A known field.
    fn value(&mut self, shape: Shape, kind: u8) -> Outcome<()> {
        match (shape, kind) {
            (Shape::Bool, TRUE | FALSE) => Ok(()),
            (Shape::Byte, BYTE) => self.byte().map(drop),
            // Some writers give them more bits than the format does, which are written alike.
            (Shape::Integer, I16..=I64) => self.integer().map(drop),
            (Shape::Text, BINARY) => self.text().map(drop),
            (Shape::Fields(known), STRUCTURE) => {
                let mut last = 0;
                while let Some((number, kind)) = self.field(last)? {
                    last = number;
                    match known.iter().find(|(known, _)| *known == number) {
                        Some((_, shape)) => self.value(*shape, kind)?,
                        None => self.skip(kind, MAX_SKIPPED_DEPTH)?,
                    }
                }
                Ok(())
            }
            _ => Err(OTHER_TYPE),
        }
    }

    /// A field that is not known, by its type.
    fn skip(&mut self, kind: u8, depth: usize) -> Outcome<()> {
        match kind {
            TRUE | FALSE => Ok(()),
            BYTE => self.byte().map(drop),
            I16..=I64 => self.varint().map(drop),
            DOUBLE => self.pass(8),
            BINARY => self.text().map(drop),
            STRUCTURE if depth > 0 => {
                while let Some((_, kind)) = self.field(0)? {
                    self.skip(kind, depth - 1)?;
                }
                Ok(())
            }
            _ => Err("a field is not known"),
        }
    }

    /// A field's number and type; `None` at the end of a structure. Numbers are written as the distance from the last.
    fn field(&mut self, last: i16) -> Outcome<Option<(i16, u8)>> {
        let head = self.byte()?;
        let kind = head & 0x0F;
        if kind == 0 {
            return Ok(None);
        }
        let number = match i16::from(head >> 4) {
            0 => i16::try_from(self.integer()?).map_err(|_| NUMBER)?,
            distance => last.checked_add(distance).ok_or(NUMBER)?,
        };
        Ok(Some((number, kind)))
    }

    /// A text's length; the text is passed over.
    fn text(&mut self) -> Outcome<u64> {
        let bytes = self.varint()?;
        self.pass(bytes)?;
        Ok(bytes)
    }

    fn integer(&mut self) -> Outcome<i32> {
        let value = self.varint()?;
        // The sign is in the lowest bit.
        let value = (value >> 1).cast_signed() ^ -(value & 1).cast_signed();
        i32::try_from(value).map_err(|_| NUMBER)
    }

    fn varint(&mut self) -> Outcome<u64> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(NUMBER)
    }

    fn byte(&mut self) -> Outcome<u8> {
        let (byte, rest) = self.rest.split_first().ok_or(CUT)?;
        self.rest = rest;
        Ok(*byte)
    }

    fn pass(&mut self, bytes: u64) -> Outcome<()> {
        let bytes = usize::try_from(bytes).map_err(|_| CUT)?;
        self.rest = self.rest.get(bytes..).ok_or(CUT)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use proptest::prelude::*;

    use super::*;
    use crate::source::parquet::Rows;

    /// The error of a file with this footer, as it is opened by all who read rows.
    fn refusal(footer: &[u8]) -> Option<String> {
        let folder = tempfile::tempdir().expect("a folder");
        Rows::open(&write(folder.path(), footer), &["a"]).err()
    }

    fn write(folder: &Path, footer: &[u8]) -> PathBuf {
        let path = folder.join("a.parquet");
        let length = u32::try_from(footer.len()).expect("a short footer").to_le_bytes();
        std::fs::write(&path, [&MAGIC[..], footer, &length, &MAGIC].concat()).expect("a file");
        path
    }

    fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value > 0x7F {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    /// A footer without rows, with a schema of these elements.
    fn footer(elements: &[Vec<u8>]) -> Vec<u8> {
        let count = varint(elements.len() as u64);
        [&[0x15u8, 2, 0x19, 0xFC][..], &count, &elements.concat(), &[0x16, 0, 0x19, 0x0C, 0]].concat()
    }

    /// A required group `a`.
    fn group(children: i32) -> Vec<u8> {
        let children = varint(((children << 1) ^ (children >> 31)).cast_unsigned().into());
        [&[0x35u8, 0, 0x18, 1, b'a', 0x15][..], &children, &[0]].concat()
    }

    /// A required column `a` of bytes.
    fn column() -> Vec<u8> {
        vec![0x15, 12, 0x25, 0, 0x18, 1, b'a', 0]
    }

    fn nested(groups: usize) -> Vec<u8> {
        let mut elements = vec![group(1); groups];
        elements.push(column());
        footer(&elements)
    }

    /// Regression: each group in a group was a call in a call, and a file of a megabyte ended the program.
    #[test]
    fn groups_inside_groups_are_read_up_to_a_depth() {
        assert_eq!(refusal(&nested(1)), None);
        assert_eq!(refusal(&nested(MAX_DEPTH)), None);
        let wide = footer(&[group(2), group(1), group(1), column(), column()]);
        assert_eq!(check_schema(&wide), Ok(()));
        for groups in [MAX_DEPTH + 1, 60_000] {
            let error = refusal(&nested(groups)).expect("refused");
            assert!(error.contains("more than 64 groups inside each other"), "{error}");
        }
        let error = refusal(&nested(100_000)).expect("refused");
        assert!(error.contains("100001 columns and groups"), "{error}");
    }

    /// Regression: room was made for as many children as a group said that it had, gigabytes for each group.
    #[test]
    fn a_group_has_no_more_children_than_follow() {
        for (children, problem) in [
            (2, "a group has more children than there are"),
            (i32::MAX, "a group has more children than there are"),
            (-1, "a group has less than no children"),
        ] {
            let error = refusal(&footer(&[group(1), group(children), column()])).expect("refused");
            assert!(error.contains(problem), "{error}");
        }
        let many = vec![group(i32::MAX); 50];
        assert!(refusal(&footer(&many)).expect("refused").contains("more children than there are"));
    }

    #[test]
    fn long_names_around_many_columns_are_refused() {
        let name = vec![b'a'; 1 << 20];
        let mut long = [&[0x35u8, 0, 0x18][..], &varint(name.len() as u64), &name, &[0x15]].concat();
        long.extend([varint(200), vec![0]].concat());
        let mut elements = vec![group(1), long];
        elements.resize(elements.len() + 100, column());
        let error = refusal(&footer(&elements)).expect("refused");
        assert!(error.contains("the names of its columns"), "{error}");
    }

    /// The library takes fields by their numbers alone, and would read other fields than the types say.
    #[test]
    fn a_field_of_another_type_than_its_own_is_refused() {
        let text_for_children = vec![0x35, 0, 0x18, 1, b'a', 0x18, 1, b'a', 0];
        let number_for_meaning = vec![0x15, 12, 0x25, 0, 0x18, 1, b'a', 0x65, 2, 0];
        let number_for_name = vec![0x15, 12, 0x25, 0, 0x15, 2, 0];
        for element in [text_for_children, number_for_meaning, number_for_name] {
            let error = refusal(&footer(&[group(1), element])).expect("refused");
            assert!(error.contains(OTHER_TYPE), "{error}");
        }
    }

    #[test]
    fn schemas_of_every_kind_of_column_pass() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.parquet");
        let schema = "message m {
            required binary a (UTF8); optional binary object (JSON); optional binary plain; optional boolean is;
            optional int32 small (INTEGER(16,false)); optional int64 large (INTEGER(64,true)); optional int32 day (DATE);
            optional int32 time (TIME(MILLIS,true)); optional int64 at (TIMESTAMP(MICROS,false)); optional double share;
            optional fixed_len_byte_array (16) id (UUID); optional fixed_len_byte_array (2) half (FLOAT16);
            optional int32 price (DECIMAL(9, 2)); optional int96 old; optional float score;
            optional group lines (LIST) { repeated group list { optional binary element (UTF8); } }
            optional group pairs (MAP) { repeated group key_value { required binary key (UTF8); optional int64 value; } }
        }";
        let schema = Arc::new(parse_message_type(schema).expect("a schema"));
        let file = File::create(&path).expect("a file");
        SerializedFileWriter::new(file, schema, Arc::default()).expect("a writer").close().expect("a file");
        check(&File::open(&path).expect("a file")).expect("a good schema");
        assert_eq!(Rows::open(&path, &["a"]).err(), None);
    }

    proptest! {
        #[test]
        fn no_footer_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(check_schema(&bytes));
            drop(check_schema(&[&[0x15u8, 2, 0x19, 0xFC][..], &bytes].concat()));
        }
    }
}
