//! The errors of this crate. They carry shapes and types; they do not know files or tensor names (callers add those).

use crate::{Dtype, SimdLevel};

/// What can be wrong with the arguments of an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// A byte or element buffer does not have the length that its type and shape ask for.
    #[error("{what}: {dtype} data for {elements} elements takes {expected} bytes, but {actual} were given")]
    ByteLength {
        /// The operation or operand.
        what: &'static str,
        /// Element type of the data.
        dtype: Dtype,
        /// Number of elements asked for.
        elements: usize,
        /// Bytes that this number of elements takes.
        expected: usize,
        /// Bytes that were given.
        actual: usize,
    },
    /// The number of elements of a row is not a whole number of quantised blocks.
    #[error(
        "{what}: {elements} elements are not a multiple of the {block} elements in a block of {dtype}; \
         the row cannot be stored in this type"
    )]
    PartialBlock {
        /// The operation or operand.
        what: &'static str,
        /// Quantised type.
        dtype: Dtype,
        /// Elements in the row.
        elements: usize,
        /// Elements per block.
        block: usize,
    },
    /// An operand has another length than the shapes ask for.
    #[error("{what}: expected {expected} elements, got {actual}")]
    Length {
        /// The operation and operand.
        what: &'static str,
        /// Elements that the shapes ask for.
        expected: usize,
        /// Elements given.
        actual: usize,
    },
    /// Rows × columns does not fit in memory addresses.
    #[error("{what}: a matrix of {rows} rows × {columns} columns is larger than this machine can address")]
    TooLarge {
        /// The operation or operand.
        what: &'static str,
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        columns: usize,
    },
    /// The system has no room for this many f32 values.
    #[error("{what}: no memory for {elements} values of 4 bytes; use a smaller model, context or batch")]
    OutOfMemory {
        /// What the memory was for.
        what: &'static str,
        /// Values asked for.
        elements: usize,
    },
    /// Heads of this width cannot be kept in a KV cache of 8 bits.
    #[error(
        "KV cache: heads of {head_dim} dimensions cannot be kept in int8, which takes multiples of {multiple_of} up to \
         {at_most}; use f32"
    )]
    KvHeadDim {
        /// Width of a head.
        head_dim: usize,
        /// What it would have to be a multiple of.
        multiple_of: usize,
        /// And how wide it may be.
        at_most: usize,
    },
    /// A matrix of another type than F32 was to be used in place.
    #[error(
        "{what}: its elements are {dtype}, and only those of F32 matrices can be used in place; load it as F32"
    )]
    NotF32 {
        /// The operation.
        what: &'static str,
        /// Element type of the matrix.
        dtype: Dtype,
    },
    /// A block of values cannot be quantised.
    #[error(
        "quantise: elements {start}..{end} need a scale that is not a finite f16 number, so {dtype} cannot hold \
         them; look for NaN, infinite or huge values"
    )]
    NotRepresentable {
        /// Quantised type.
        dtype: Dtype,
        /// First element of the block.
        start: usize,
        /// Element after the block.
        end: usize,
    },
    /// The processor lacks an instruction set that was asked for by name.
    #[error("this processor does not support {asked}; it supports {}", names(.available))]
    UnsupportedSimd {
        /// Level that was asked for.
        asked: SimdLevel,
        /// Levels that would work here.
        available: Vec<SimdLevel>,
    },
    /// The name of an instruction set is not known.
    #[error(
        "unknown instruction set `{name}`; known are scalar, avx2, avxvnni, avx512vnni, amx, neon, dotprod, i8mm"
    )]
    UnknownSimd {
        /// The name given.
        name: String,
    },
    /// A number of threads that no team can have.
    #[error("{asked} threads were asked for; ask for between 1 and {most}")]
    ThreadCount {
        /// Threads asked for.
        asked: usize,
        /// The most there can be.
        most: usize,
    },
    /// A row of a table was asked for that it does not have.
    #[error("row {row} was asked for, but there are only {rows}")]
    RowOutOfRange {
        /// Row asked for.
        row: usize,
        /// Rows that exist.
        rows: usize,
    },
    /// A rotary table that the batch did not begin with.
    #[error("rope: rotary table {table} was asked for, but the batch began with {tables}")]
    NoRotaryTable {
        /// The table, counted from 0.
        table: usize,
        /// Tables that the batch began with.
        tables: usize,
    },
    /// The heads of an attention layer do not fit together.
    #[error(
        "attention with {heads} heads, {kv_heads} key/value heads and {head_dim} values per head cannot be computed: \
         heads must be a multiple of key/value heads, a head a multiple of 8 values, and both as the cache was made"
    )]
    HeadShape {
        /// Query heads.
        heads: usize,
        /// Key/value heads.
        kv_heads: usize,
        /// Values per head.
        head_dim: usize,
    },
    /// A sequence came with fewer pages than its positions need.
    #[error("sequence {sequence}: {positions} positions need {needed} KV pages, but {given} were given")]
    MissingPages {
        /// Index of the sequence in the batch.
        sequence: usize,
        /// Positions of the sequence, new ones included.
        positions: usize,
        /// Pages that they need.
        needed: usize,
        /// Pages given.
        given: usize,
    },
    /// A page number that the pool does not have.
    #[error("sequence {sequence}: KV page {page} does not exist; the pool has {pages} pages")]
    PageOutOfRange {
        /// Index of the sequence in the batch.
        sequence: usize,
        /// The page.
        page: u32,
        /// Pages of the pool.
        pages: usize,
    },
    /// Attention reaches a position whose key and value nobody has computed.
    #[error(
        "attention reaches position {position}, whose key and value have not been computed; compute the rows before it first"
    )]
    NotComputed {
        /// The position.
        position: usize,
    },
    /// A page would be written although it is used elsewhere in the same step.
    #[error(
        "KV page {page} is written by sequence {first} and also used by sequence {second}; only full pages may be shared"
    )]
    SharedPage {
        /// The page.
        page: u32,
        /// Index of the sequence that writes it.
        first: usize,
        /// Index of the other sequence (or the same, when a page stands twice in its list).
        second: usize,
    },
    /// A weight that is no parameter of the model has no place for its gradient.
    #[error(
        "{what}: the weight is no parameter of the model, so its gradient has no place; load it with its model"
    )]
    NotAParameter {
        /// The operation.
        what: &'static str,
    },
    /// An operation without a gradient.
    #[error("{what}: no gradient can be computed through it; compute it without recording")]
    NotRecorded {
        /// The operation.
        what: &'static str,
    },
    /// A backward pass without the forward pass that belongs to it.
    #[error(
        "{what}: the tensor does not belong to what was recorded since the batch began; run the forward pass first"
    )]
    NotOnTape {
        /// The operation.
        what: &'static str,
    },
    /// The operating system refused a thread.
    #[error("cannot start worker thread {worker} of {threads}: {reason}; ask for fewer threads")]
    Thread {
        /// Index of the worker that could not start.
        worker: usize,
        /// Threads asked for.
        threads: usize,
        /// The system's reason.
        reason: String,
    },
}

/// That an operand has the length that the shapes ask for.
pub(crate) fn expect(what: &'static str, expected: usize, actual: usize) -> Result<(), TensorError> {
    if expected == actual { Ok(()) } else { Err(TensorError::Length { what, expected, actual }) }
}

/// That a row is made of whole parts of `part` values.
pub(crate) fn expect_whole(what: &'static str, width: usize, part: usize) -> Result<(), TensorError> {
    if part > 0 && width.is_multiple_of(part) {
        Ok(())
    } else {
        Err(TensorError::Length { what, expected: width.next_multiple_of(part.max(1)), actual: width })
    }
}

fn names(levels: &[SimdLevel]) -> String {
    levels.iter().map(|level| level.name()).collect::<Vec<_>>().join(", ")
}
