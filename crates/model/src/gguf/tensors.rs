//! The tensor directory of a GGUF file: names, shapes, types and where the data lies.

use std::ops::Range;

use zhenjin_tensor::Dtype;

use super::cursor::{At, Cursor, Problem};
use crate::errors::{FormatError, quoted};

/// The largest number of dimensions in the format.
pub const MAX_RANK: usize = 4;

/// The longest tensor name, in bytes. llama.cpp refuses 64 and more.
const MAX_NAME_BYTES: usize = 255;

/// The fewest bytes that a directory entry takes: name length, rank, one dimension, type and offset.
pub(super) const MIN_ENTRY_BYTES: u64 = 8 + 4 + 8 + 4 + 8;

/// One tensor of the directory. Names and data stay in the file's bytes.
#[derive(Debug, Clone)]
pub(super) struct TensorRecord {
    pub(super) name: Range<usize>,
    pub(super) dtype: Dtype,
    /// Outermost dimension first: `[rows, columns]` for a matrix.
    shape: [usize; MAX_RANK],
    rank: usize,
    /// The data's place in the file; relative to the data section until [`locate`] has run.
    pub(super) data: Range<usize>,
}

impl TensorRecord {
    pub(super) fn shape(&self) -> &[usize] {
        &self.shape[..self.rank]
    }
}

/// The types that ggml numbers, by number; empty where a number was never used or has been removed.
const GGML_TYPES: [&str; 40] = [
    "F32",
    "F16",
    "Q4_0",
    "Q4_1",
    "Q4_2",
    "Q4_3",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "Q8_1",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "Q8_K",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ3_XXS",
    "IQ1_S",
    "IQ4_NL",
    "IQ3_S",
    "IQ2_S",
    "IQ4_XS",
    "I8",
    "I16",
    "I32",
    "I64",
    "F64",
    "IQ1_M",
    "BF16",
    "Q4_0_4_4",
    "Q4_0_4_8",
    "Q4_0_8_8",
    "TQ1_0",
    "TQ2_0",
    "IQ4_NL_4_4",
    "IQ4_NL_4_8",
    "IQ4_NL_8_8",
    "MXFP4",
];

/// The supported types by their numbers.
const TYPES: [(u32, Dtype); 14] = [
    (0, Dtype::F32),
    (1, Dtype::F16),
    (2, Dtype::Q4_0),
    (3, Dtype::Q4_1),
    (6, Dtype::Q5_0),
    (7, Dtype::Q5_1),
    (8, Dtype::Q8_0),
    (12, Dtype::Q4K),
    (13, Dtype::Q5K),
    (14, Dtype::Q6K),
    (20, Dtype::Iq4Nl),
    (23, Dtype::Iq4Xs),
    (30, Dtype::Bf16),
    (39, Dtype::Mxfp4),
];

fn dtype(number: u32) -> Result<Dtype, Problem> {
    let known = TYPES.iter().find(|(known, _)| *known == number);
    known.map(|(_, dtype)| *dtype).ok_or_else(|| {
        let name = usize::try_from(number).ok().and_then(|number| GGML_TYPES.get(number));
        Problem(format!(
            "type {} is not supported; supported are {}",
            name.map_or_else(|| format!("number {number}"), |name| format!("{name} (number {number})")),
            Dtype::ALL.map(Dtype::name).join(", ")
        ))
    })
}

/// The number by which files know `dtype`.
pub(crate) fn type_number(dtype: Dtype) -> u32 {
    TYPES.iter().find(|(_, known)| *known == dtype).map_or(0, |(number, _)| *number)
}

/// Reads directory entry number `index`.
pub(super) fn read_record(
    cursor: &mut Cursor<'_>,
    index: u64,
    alignment: usize,
) -> Result<TensorRecord, FormatError> {
    let name = cursor.string().at(|| format!("name of tensor {index}"))?;
    let name_range = cursor.position() - name.len()..cursor.position();
    let place = || format!("tensor {}", quoted(name));
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(FormatError::new(
            format!("name of tensor {index}"),
            format!("must have 1 to {MAX_NAME_BYTES} bytes, found {}", name.len()),
        ));
    }
    read_placement(cursor, alignment, name_range).at(place)
}

fn read_placement(
    cursor: &mut Cursor<'_>,
    alignment: usize,
    name: Range<usize>,
) -> Result<TensorRecord, Problem> {
    let rank = cursor.u32()? as usize;
    if !(1..=MAX_RANK).contains(&rank) {
        return Err(Problem(format!("must have 1 to {MAX_RANK} dimensions, found {rank}")));
    }
    let mut shape = [1; MAX_RANK];
    let mut elements: usize = 1;
    // The file has the innermost dimension first.
    for dimension in (0..rank).rev() {
        let size = cursor.u64()?;
        shape[dimension] = usize::try_from(size)
            .ok()
            .filter(|size| *size > 0)
            .ok_or_else(|| Problem(format!("dimension {dimension} is {size}, which cannot be")))?;
        elements = elements.checked_mul(shape[dimension]).ok_or_else(|| {
            Problem(format!("the dimensions multiply beyond 64 bits (dimension {dimension} is {size})"))
        })?;
    }
    let dtype = dtype(cursor.u32()?)?;
    let innermost = shape[rank - 1];
    if innermost % dtype.block_elements() != 0 {
        return Err(Problem(format!(
            "its rows of {innermost} elements are not whole blocks of {} as type {} needs",
            dtype.block_elements(),
            dtype.name()
        )));
    }
    let bytes = (elements / dtype.block_elements())
        .checked_mul(dtype.block_bytes())
        .ok_or_else(|| Problem(format!("{elements} elements of type {} are beyond 64 bits", dtype.name())))?;
    let offset = cursor.u64()?;
    let offset = usize::try_from(offset).ok().filter(|offset| offset % alignment == 0).ok_or_else(|| {
        Problem(format!("its data offset {offset} is not a multiple of the alignment {alignment}"))
    })?;
    let end = offset
        .checked_add(bytes)
        .ok_or_else(|| Problem(format!("its data offset {offset} plus {bytes} bytes is beyond 64 bits")))?;
    Ok(TensorRecord { name, dtype, shape, rank, data: offset..end })
}

/// Turns offsets into the data section into places in the file, and checks that they lie in it and apart.
pub(super) fn locate(
    bytes: &[u8],
    records: &mut [TensorRecord],
    data_start: usize,
) -> Result<(), FormatError> {
    let name =
        |record: &TensorRecord| quoted(std::str::from_utf8(&bytes[record.name.clone()]).unwrap_or_default());
    for record in records.iter_mut() {
        let section = bytes.len().saturating_sub(data_start);
        if record.data.end > section {
            return Err(FormatError::new(
                format!("tensor {}", name(record)),
                format!(
                    "its data is bytes {}..{} of the data section, but the file has only {section} there; \
                     the file is cut off or its header is wrong",
                    record.data.start, record.data.end
                ),
            ));
        }
        record.data = record.data.start + data_start..record.data.end + data_start;
    }
    let mut by_place: Vec<usize> = (0..records.len()).collect();
    by_place.sort_unstable_by_key(|index| records[*index].data.start);
    for pair in by_place.windows(2) {
        let (before, after) = (&records[pair[0]], &records[pair[1]]);
        if before.data.end > after.data.start {
            return Err(FormatError::new(
                format!("tensor {}", name(after)),
                format!(
                    "its data at file offset {} overlaps that of tensor {}, which ends at {}",
                    after.data.start,
                    name(before),
                    before.data.end
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_number() {
        for dtype in Dtype::ALL {
            assert_eq!(super::dtype(type_number(dtype)).ok(), Some(dtype));
            assert_eq!(GGML_TYPES[type_number(dtype) as usize], dtype.name());
        }
    }
}
