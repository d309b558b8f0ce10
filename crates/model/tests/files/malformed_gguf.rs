//! Hand-made malformed GGUF files: each must give an error that names the place, without a panic and without much memory.

use std::path::Path;

use zhenjin_model::ModelFile;

use super::gguf_writer::{GgufWriter, RawTensor, RawValue, string, tiny_llama};

/// What a case does to the well-formed file.
type Fault = fn(&mut GgufWriter);

/// Every fault with two parts of the message that it must give: the place and the problem.
const FAULTS: &[(&str, Fault, &str, &str)] = &[
    ("other magic", |file| file.magic = *b"GGML", "header", "begin with `GGUF`"),
    ("zip archive", |file| file.magic = *b"PK\x03\x04", "header", "`PK\u{FFFD}\u{FFFD}`"),
    ("version 0", |file| file.version = 0, "header", "version 0"),
    ("version 1", |file| file.version = 1, "header", "version 1 is not supported"),
    ("version of the future", |file| file.version = 99, "header", "version 99"),
    ("big-endian", |file| file.version = 3_u32.swap_bytes(), "header", "big-endian"),
    ("2^64 - 1 tensors", |file| file.tensor_count = Some(u64::MAX), "header", "18446744073709551615 tensors"),
    (
        "more tensors than bytes",
        |file| file.tensor_count = Some(60_000),
        "header",
        "60000 tensors, more than the",
    ),
    (
        "one tensor too many",
        |file| file.tensor_count = Some(12),
        "name of tensor 11",
        "must have 1 to 255 bytes",
    ),
    ("2^63 metadata entries", |file| file.metadata_count = Some(1 << 63), "header", "metadata entries"),
    (
        "more entries than bytes",
        |file| file.metadata_count = Some(65_000),
        "header",
        "65000 metadata entries",
    ),
    ("one entry too many", |file| file.metadata_count = Some(12), "tensor 0", "left in the file"),
    (
        "empty key",
        |file| file.metadata.push((Vec::new(), RawValue::u32(1))),
        "key of metadata entry 11",
        "must have 1 to 65535 bytes",
    ),
    (
        "key that is not UTF-8",
        |file| file.metadata.push((b"k\xff\xfe".to_vec(), RawValue::u32(1))),
        "key of metadata entry 11",
        "not UTF-8",
    ),
    (
        "key twice",
        |file| file.metadata.push((b"llama.block_count".to_vec(), RawValue::u32(2))),
        "metadata `llama.block_count`",
        "occurs twice",
    ),
    (
        "unknown value type",
        |file| file.set("k", RawValue { type_number: 13, payload: vec![0; 8] }),
        "metadata `k`",
        "value type 13 is unknown",
    ),
    (
        "string of 2^64 - 1 bytes",
        |file| file.set("k", RawValue { type_number: 8, payload: vec![0xff; 8] }),
        "metadata `k`",
        "needs 18446744073709551615 bytes",
    ),
    (
        "string that is not UTF-8",
        |file| file.set("general.name", RawValue::string(b"\xc3\x28")),
        "metadata `general.name`",
        "not UTF-8",
    ),
    ("bool of 2", |file| file.set("k", RawValue::bool(2)), "metadata `k`", "must be 0 or 1, found 2"),
    (
        "array of 2^61 numbers",
        |file| file.set("k", RawValue::array(10, 1 << 61, vec![0; 64])),
        "metadata `k`",
        "2305843009213693952 elements",
    ),
    (
        "array of 2^64 - 1 empty strings",
        |file| file.set("k", RawValue::array(8, u64::MAX, vec![0; 64])),
        "metadata `k`",
        "18446744073709551615 elements",
    ),
    (
        "array of unknown type",
        |file| file.set("k", RawValue::array(77, 1, vec![0; 8])),
        "metadata `k`",
        "value type 77 is unknown",
    ),
    (
        "array of bools of 3",
        |file| file.set("k", RawValue::array(7, 2, vec![1, 3])),
        "metadata `k`",
        "must be 0 or 1, found 3",
    ),
    (
        "string in an array that is not UTF-8",
        |file| file.set("k", RawValue::array(8, 2, [string(b"fine"), string(b"\x80")].concat())),
        "metadata `k`",
        "element 1: the string",
    ),
    (
        "arrays nested 100,000 deep",
        |file| {
            let mut nested = RawValue::array(0, 0, Vec::new()).payload;
            nested.reverse();
            for _ in 0..100_000 {
                // An array of one array, written back to front.
                nested.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9]);
            }
            nested.reverse();
            file.metadata.push((b"k".to_vec(), RawValue { type_number: 9, payload: nested }));
        },
        "metadata `k`",
        "nested deeper than 4 levels",
    ),
    (
        "alignment 0",
        |file| file.set("general.alignment", RawValue::u32(0)),
        "general.alignment",
        "power of two",
    ),
    (
        "alignment 24",
        |file| file.set("general.alignment", RawValue::u32(24)),
        "general.alignment",
        "power of two",
    ),
    (
        "alignment 2^31",
        |file| file.set("general.alignment", RawValue::u32(1 << 31)),
        "general.alignment",
        "power of two",
    ),
    (
        "alignment as text",
        |file| file.set("general.alignment", RawValue::string("32")),
        "general.alignment",
        "must be an unsigned integer, found a string",
    ),
    (
        "no architecture",
        |file| file.remove("general.architecture"),
        "metadata `general.architecture`",
        "the key is missing",
    ),
    (
        "unknown architecture",
        |file| file.set("general.architecture", RawValue::string("gpt2")),
        "metadata `general.architecture`",
        "`gpt2` is not supported; supported are llama, qwen2, qwen3",
    ),
    (
        "architecture as a number",
        |file| file.set("general.architecture", RawValue::u32(1)),
        "general.architecture",
        "must be a string, found an unsigned integer",
    ),
    (
        "no block count",
        |file| file.remove("llama.block_count"),
        "metadata `llama.block_count`",
        "the key is missing",
    ),
    (
        "no epsilon",
        |file| file.remove("llama.attention.layer_norm_rms_epsilon"),
        "llama.attention.layer_norm_rms_epsilon",
        "the key is missing",
    ),
    (
        "block count as a float",
        |file| file.set("llama.block_count", RawValue::f32(1.0)),
        "metadata `llama.block_count`",
        "must be an unsigned integer",
    ),
    (
        "no layers",
        |file| file.set("llama.block_count", RawValue::u32(0)),
        "metadata",
        "the number of layers must be 1 to 1024, found 0",
    ),
    (
        "2^32 - 1 layers",
        |file| file.set("llama.block_count", RawValue::u32(u32::MAX)),
        "metadata",
        "the number of layers must be",
    ),
    (
        "a layer too many",
        |file| file.set("llama.block_count", RawValue::u32(2)),
        "tensor `blk.1.attn_norm.weight`",
        "is missing",
    ),
    (
        "no heads",
        |file| file.set("llama.attention.head_count", RawValue::u32(0)),
        "metadata `llama.attention.head_count`",
        "must not be 0",
    ),
    (
        "no key/value heads",
        |file| file.set("llama.attention.head_count_kv", RawValue::u32(0)),
        "metadata",
        "key/value heads must be 1",
    ),
    (
        "key/value heads per layer",
        |file| file.set("llama.attention.head_count_kv", RawValue::array(4, 2, vec![1, 0, 0, 0, 1, 0, 0, 0])),
        "metadata `llama.attention.head_count_kv`",
        "has 2 values for 1 layers",
    ),
    (
        "heads that do not divide the width",
        |file| file.set("llama.attention.head_count", RawValue::u32(3)),
        "metadata `llama.attention.head_count`",
        "do not divide",
    ),
    (
        "epsilon that is not a number",
        |file| file.set("llama.attention.layer_norm_rms_epsilon", RawValue::f32(f32::NAN)),
        "metadata",
        "epsilon",
    ),
    (
        "infinite RoPE base",
        |file| file.set("llama.rope.freq_base", RawValue::f32(f32::INFINITY)),
        "metadata",
        "the base of RoPE",
    ),
    (
        "RoPE over more than a head",
        |file| file.set("llama.rope.dimension_count", RawValue::u32(10)),
        "metadata",
        "RoPE must rotate",
    ),
    (
        "unknown RoPE scaling",
        |file| file.set("llama.rope.scaling.type", RawValue::string("longrope")),
        "metadata `llama.rope.scaling.type`",
        "`longrope` is not supported",
    ),
    (
        "linear RoPE scaling without a factor",
        |file| {
            file.set("llama.rope.scaling.type", RawValue::string("linear"));
        },
        "metadata `llama.rope.scaling.factor`",
        "the key is missing",
    ),
    (
        "linear RoPE scaling by 0",
        |file| {
            file.set("llama.rope.scaling.type", RawValue::string("linear"));
            file.set("llama.rope.scaling.factor", RawValue::f32(0.0));
        },
        "metadata `llama.rope.scaling.factor`",
        "must be positive, found 0",
    ),
    (
        "RoPE scaling by 0 under its older name",
        |file| {
            file.set("llama.rope.scale_linear", RawValue::f32(0.0));
        },
        "metadata `llama.rope.scale_linear`",
        "must be positive, found 0",
    ),
    (
        "two factors of RoPE scaling",
        |file| {
            file.set("llama.rope.scaling.type", RawValue::string("linear"));
            file.set("llama.rope.scaling.factor", RawValue::f32(2.0));
            file.set("llama.rope.scale_linear", RawValue::f32(4.0));
        },
        "metadata `llama.rope.scaling.factor`",
        "only one of them can be meant",
    ),
    (
        "YaRN without a factor",
        |file| {
            file.set("llama.rope.scaling.type", RawValue::string("yarn"));
        },
        "metadata `llama.rope.scaling.factor`",
        "the key is missing",
    ),
    (
        "YaRN from a context of 0",
        |file| {
            file.set("llama.rope.scaling.type", RawValue::string("yarn"));
            file.set("llama.rope.scaling.factor", RawValue::f32(2.0));
            file.set("llama.rope.scaling.original_context_length", RawValue::u32(0));
        },
        "metadata",
        "original context length of RoPE scaling must be 1 to",
    ),
    (
        "experts",
        |file| file.set("llama.expert_count", RawValue::u32(8)),
        "metadata `llama.expert_count`",
        "experts are not supported for models of this family",
    ),
    (
        "attention scale",
        |file| file.set("llama.attention.scale", RawValue::f32(0.1)),
        "metadata `llama.attention.scale`",
        "not supported",
    ),
    (
        "tokens as numbers",
        |file| file.set("tokenizer.ggml.tokens", RawValue::u32(8)),
        "metadata `tokenizer.ggml.tokens`",
        "must be an array",
    ),
    (
        "a token too many",
        |file| file.set("tokenizer.ggml.tokens", RawValue::strings(&["x"; 9])),
        "tensor `token_embd.weight`",
        "implies shape [9, 16], but the file has [8, 16]",
    ),
    ("unnamed tensor", |file| file.tensors[3].name.clear(), "name of tensor 3", "must have 1 to 255 bytes"),
    ("endless tensor name", |file| file.tensors[3].name = vec![b'x'; 300], "name of tensor 3", "found 300"),
    (
        "tensor name that is not UTF-8",
        |file| file.tensors[3].name = vec![0xff],
        "name of tensor 3",
        "not UTF-8",
    ),
    (
        "tensor twice",
        |file| file.tensors[3].name = b"output_norm.weight".to_vec(),
        "tensor `output_norm.weight`",
        "occurs twice",
    ),
    ("no dimensions", |file| file.tensors[2].dimensions.clear(), "tensor `blk.0.attn_q.weight`", "found 0"),
    (
        "2^16 dimensions",
        |file| file.tensors[2].dimensions = vec![1; 1 << 16],
        "tensor `blk.0.attn_q.weight`",
        "must have 1 to 4 dimensions, found 65536",
    ),
    (
        "dimension 0",
        |file| file.tensors[2].dimensions = vec![16, 0],
        "tensor `blk.0.attn_q.weight`",
        "dimension 0 is 0",
    ),
    (
        "dimensions that multiply to 0 modulo 2^64",
        |file| file.tensors[2].dimensions = vec![1 << 32, 1 << 32],
        "tensor `blk.0.attn_q.weight`",
        "multiply beyond 64 bits",
    ),
    (
        "bytes beyond 2^64",
        |file| file.tensors[2].dimensions = vec![1 << 31, 1 << 32],
        "tensor `blk.0.attn_q.weight`",
        "beyond 64 bits",
    ),
    (
        "tensor larger than the file",
        |file| file.tensors[2].dimensions = vec![16, 1 << 20],
        "tensor `blk.0.attn_q.weight`",
        "the file is cut off or its header is wrong",
    ),
    (
        "unsupported type",
        |file| file.tensors[2].type_number = 16,
        "tensor `blk.0.attn_q.weight`",
        "type IQ2_XXS (number 16) is not supported",
    ),
    (
        "unknown type",
        |file| file.tensors[2].type_number = 0xdead,
        "tensor `blk.0.attn_q.weight`",
        "type number 57005 is not supported",
    ),
    (
        "rows that are not whole blocks",
        |file| file.tensors[2].type_number = 8,
        "tensor `blk.0.attn_q.weight`",
        "rows of 16 elements are not whole blocks of 32",
    ),
    (
        "offset off the alignment",
        |file| file.tensors[2].offset = Some(33),
        "tensor `blk.0.attn_q.weight`",
        "offset 33 is not a multiple of the alignment 32",
    ),
    (
        "offset beyond the file",
        |file| file.tensors[2].offset = Some(1 << 40),
        "tensor `blk.0.attn_q.weight`",
        "the file is cut off",
    ),
    (
        "offset near 2^64",
        |file| file.tensors[2].offset = Some(u64::MAX - 31),
        "tensor `blk.0.attn_q.weight`",
        "beyond 64 bits",
    ),
    (
        "overlapping tensors",
        |file| file.tensors[3].offset = Some(512),
        "overlaps that of tensor",
        "blk.0.attn_norm.weight",
    ),
    (
        "all tensors at one place",
        |file| file.tensors.iter_mut().for_each(|tensor| tensor.offset = Some(0)),
        "overlaps that of tensor",
        "",
    ),
    (
        "wrong shape",
        |file| file.tensor("blk.0.ffn_down.weight").dimensions = vec![16, 24],
        "tensor `blk.0.ffn_down.weight`",
        "implies shape [16, 24], but the file has [24, 16]",
    ),
    (
        "vector with a second dimension",
        |file| file.tensor("output_norm.weight").dimensions = vec![16, 1],
        "tensor `output_norm.weight`",
        "implies shape [16], but the file has [1, 16]",
    ),
    (
        "missing tensor",
        |file| file.tensors.retain(|tensor| tensor.name != b"blk.0.attn_v.weight"),
        "tensor `blk.0.attn_v.weight`",
        "is missing",
    ),
    ("no tensors", |file| file.tensors.clear(), "tensor `token_embd.weight`", "is missing"),
    (
        "half a set of biases",
        |file| file.tensor_f32("blk.0.attn_q.bias", &[16], &[0.0; 16]),
        "tensor `blk.0.attn_k.bias`",
        "is missing",
    ),
    (
        "weight of a layer that is not there",
        |file| file.tensor_f32("blk.7.attn_norm.weight", &[16], &[0.0; 16]),
        "tensor `blk.7.attn_norm.weight`",
        "has no such weight",
    ),
    (
        "wrong number of RoPE divisors",
        |file| file.tensor_f32("rope_freqs.weight", &[5], &[1.0; 5]),
        "metadata",
        "RoPE needs 4 frequency divisors, found 5",
    ),
    (
        "RoPE divisors of 0",
        |file| file.tensor_f32("rope_freqs.weight", &[4], &[0.0; 4]),
        "metadata",
        "a frequency divisor of RoPE is 0",
    ),
    (
        "RoPE divisors of type F16",
        |file| {
            file.tensors.push(RawTensor {
                name: b"rope_freqs.weight".to_vec(),
                dimensions: vec![4],
                type_number: 1,
                data: vec![0; 8],
                offset: None,
            });
        },
        "tensor `rope_freqs.weight`",
        "must be a vector of type F32",
    ),
    (
        "claims to be one of many files",
        |file| file.set("split.count", RawValue::u32(u32::MAX)),
        "metadata `split.count`",
        "claims 4294967295 files",
    ),
    (
        "claims to be one of two files",
        |file| file.set("split.count", RawValue::u32(2)),
        "not a model",
        "-00001-of-00002.gguf",
    ),
];

#[test]
fn every_fault_is_named_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("malformed.gguf");
    let mut wrong = Vec::new();
    for (case, fault, place, problem) in FAULTS {
        let mut file = tiny_llama();
        fault(&mut file);
        std::fs::write(&path, file.bytes()).unwrap();
        let message = open_error(&path, case);
        let says_where = message.starts_with(path.to_str().unwrap()) && message.contains(place);
        if !says_where || !message.contains(problem) || message.len() > 1000 {
            wrong.push(format!("{case}: {message}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn open_error(path: &Path, case: &str) -> String {
    match ModelFile::open(path) {
        Ok(_) => panic!("{case}: the file was accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_file_cut_off_anywhere_is_an_error() {
    let layout = tiny_llama().layout();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.gguf");
    std::fs::write(&path, &layout.bytes).unwrap();
    ModelFile::open(&path).expect("the whole file is well-formed");
    for length in (0..layout.bytes.len()).rev() {
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(length as u64).unwrap();
        let message = open_error(&path, &format!("cut at byte {length}"));
        if length >= layout.data_start {
            assert!(message.contains("tensor `"), "{message}");
        } else if (24..layout.metadata_end).contains(&length) {
            assert!(message.contains("metadata") || message.contains("header: claims 11"), "{message}");
        } else if (layout.metadata_end..layout.directory_end).contains(&length) {
            assert!(message.contains("tensor"), "{message}");
        }
    }
}

/// A file that makes the most of every byte: memory must stay below the file's size and 100 MB.
#[test]
#[cfg(target_os = "linux")]
fn memory_stays_bounded_by_the_file() {
    const MEGABYTE: u64 = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.gguf");
    // 8 million empty strings, or nested arrays, or tensors: the smallest things there are.
    let empty_strings = |file: &mut GgufWriter| {
        let array = RawValue::array(8, 8 << 20, vec![0; 64 << 20]);
        file.set("tokenizer.ggml.tokens", array.clone());
        file.set("tokenizer.ggml.merges", array);
    };
    let empty_arrays = |file: &mut GgufWriter| {
        file.set("k", RawValue::array(9, 5 << 20, vec![0; (5 << 20) * 12]));
    };
    let tensors = |file: &mut GgufWriter| {
        file.tensors = (0..65_536)
            .map(|index| RawTensor {
                name: format!("{index:0>255}").into_bytes(),
                dimensions: vec![8],
                type_number: 0,
                data: vec![0; 32],
                offset: None,
            })
            .collect();
    };
    let keys = |file: &mut GgufWriter| {
        file.metadata.extend(
            (0..60_000).map(|index| (format!("llama.{index:0>900}").into_bytes(), RawValue::bool(1))),
        );
    };
    let faults: [fn(&mut GgufWriter); 4] = [empty_strings, empty_arrays, tensors, keys];
    let mut largest = 0;
    for fault in faults {
        let bytes = {
            let mut file = tiny_llama();
            fault(&mut file);
            file.bytes()
        };
        std::fs::write(&path, &bytes).unwrap();
        largest = largest.max(bytes.len() as u64);
        drop(bytes);
        // What was needed to make the file does not count.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = peak_memory();
        let outcome = ModelFile::open(&path).map(|file| file.tensors().count());
        let used = peak_memory().saturating_sub(before);
        let limit = std::fs::metadata(&path).unwrap().len() + 100 * MEGABYTE;
        assert!(used <= limit, "{outcome:?}: {used} bytes for a file of {limit} - 100 MB");
    }
    assert!(largest > 60 * MEGABYTE);
}

/// The largest resident set of this process since it was last reset, in bytes.
#[cfg(target_os = "linux")]
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
