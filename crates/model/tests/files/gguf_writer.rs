//! Writes GGUF files, well-formed or with chosen faults.

/// A metadata value as the file spells it: type number and payload.
#[derive(Clone)]
pub(super) struct RawValue {
    pub(super) type_number: u32,
    pub(super) payload: Vec<u8>,
}

impl RawValue {
    pub(super) fn u32(value: u32) -> RawValue {
        RawValue { type_number: 4, payload: value.to_le_bytes().to_vec() }
    }

    pub(super) fn f32(value: f32) -> RawValue {
        RawValue { type_number: 6, payload: value.to_le_bytes().to_vec() }
    }

    pub(super) fn bool(value: u8) -> RawValue {
        RawValue { type_number: 7, payload: vec![value] }
    }

    pub(super) fn string(value: impl AsRef<[u8]>) -> RawValue {
        RawValue { type_number: 8, payload: string(value.as_ref()) }
    }

    pub(super) fn strings(values: &[&str]) -> RawValue {
        RawValue::array(
            8,
            values.len() as u64,
            values.iter().flat_map(|value| string(value.as_bytes())).collect(),
        )
    }

    /// An array with any claim about its element type and count.
    pub(super) fn array(element_type: u32, count: u64, elements: Vec<u8>) -> RawValue {
        let mut payload = element_type.to_le_bytes().to_vec();
        payload.extend(count.to_le_bytes());
        payload.extend(elements);
        RawValue { type_number: 9, payload }
    }
}

/// A string as the file spells it.
pub(super) fn string(text: &[u8]) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    bytes
}

/// A tensor, with every claim about it open to change.
#[derive(Clone)]
pub(super) struct RawTensor {
    pub(super) name: Vec<u8>,
    /// Innermost dimension first, as in the file.
    pub(super) dimensions: Vec<u64>,
    pub(super) type_number: u32,
    pub(super) data: Vec<u8>,
    /// Overrides the offset that follows from the tensors before.
    pub(super) offset: Option<u64>,
}

/// A whole file, with every claim about it open to change.
#[derive(Clone)]
pub(super) struct GgufWriter {
    pub(super) magic: [u8; 4],
    pub(super) version: u32,
    pub(super) metadata: Vec<(Vec<u8>, RawValue)>,
    pub(super) tensors: Vec<RawTensor>,
    pub(super) alignment: usize,
    /// Overrides the true count in the header.
    pub(super) metadata_count: Option<u64>,
    /// Overrides the true count in the header.
    pub(super) tensor_count: Option<u64>,
}

/// The places of a file's sections.
pub(super) struct Layout {
    pub(super) bytes: Vec<u8>,
    pub(super) metadata_end: usize,
    pub(super) directory_end: usize,
    pub(super) data_start: usize,
}

impl GgufWriter {
    pub(super) fn new() -> GgufWriter {
        GgufWriter {
            magic: *b"GGUF",
            version: 3,
            metadata: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
            metadata_count: None,
            tensor_count: None,
        }
    }

    /// Sets a metadata value, replacing an earlier one of the same key.
    pub(super) fn set(&mut self, key: &str, value: RawValue) {
        match self.metadata.iter_mut().find(|(known, _)| known == key.as_bytes()) {
            Some((_, old)) => *old = value,
            None => self.metadata.push((key.as_bytes().to_vec(), value)),
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.metadata.retain(|(known, _)| known != key.as_bytes());
    }

    /// Adds an f32 tensor; `shape` has the outermost dimension first.
    pub(super) fn tensor_f32(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        self.tensors.push(RawTensor {
            name: name.as_bytes().to_vec(),
            dimensions: shape.iter().rev().map(|size| *size as u64).collect(),
            type_number: 0,
            data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            offset: None,
        });
    }

    pub(super) fn tensor(&mut self, name: &str) -> &mut RawTensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name.as_bytes()).expect("the tensor was added")
    }

    pub(super) fn layout(&self) -> Layout {
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        bytes.extend(self.metadata_count.unwrap_or(self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            bytes.extend(string(key));
            bytes.extend(value.type_number.to_le_bytes());
            bytes.extend(&value.payload);
        }
        let metadata_end = bytes.len();
        let mut data = Vec::new();
        for tensor in &self.tensors {
            bytes.extend(string(&tensor.name));
            bytes.extend((tensor.dimensions.len() as u32).to_le_bytes());
            for size in &tensor.dimensions {
                bytes.extend(size.to_le_bytes());
            }
            bytes.extend(tensor.type_number.to_le_bytes());
            data.resize(data.len().next_multiple_of(self.alignment), 0);
            bytes.extend(tensor.offset.unwrap_or(data.len() as u64).to_le_bytes());
            data.extend(&tensor.data);
        }
        let directory_end = bytes.len();
        bytes.resize(directory_end.next_multiple_of(self.alignment), 0);
        let data_start = bytes.len();
        bytes.extend(data);
        Layout { bytes, metadata_end, directory_end, data_start }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.layout().bytes
    }
}

/// A well-formed Llama of one layer: hidden size 16, two heads of 8 with one key/value head, 8 tokens, tied embeddings.
pub(super) fn tiny_llama() -> GgufWriter {
    let mut file = GgufWriter::new();
    for (key, value) in [
        ("general.architecture", RawValue::string("llama")),
        ("llama.block_count", RawValue::u32(1)),
        ("llama.context_length", RawValue::u32(64)),
        ("llama.embedding_length", RawValue::u32(16)),
        ("llama.feed_forward_length", RawValue::u32(24)),
        ("llama.attention.head_count", RawValue::u32(2)),
        ("llama.attention.head_count_kv", RawValue::u32(1)),
        ("llama.attention.layer_norm_rms_epsilon", RawValue::f32(1e-5)),
        ("llama.rope.freq_base", RawValue::f32(10_000.0)),
        ("tokenizer.ggml.model", RawValue::string("gpt2")),
        ("tokenizer.ggml.tokens", RawValue::strings(&["a", "b", "c", "d", "e", "f", "g", "真"])),
    ] {
        file.set(key, value);
    }
    for (name, shape) in [
        ("token_embd.weight", &[8, 16][..]),
        ("blk.0.attn_norm.weight", &[16]),
        ("blk.0.attn_q.weight", &[16, 16]),
        ("blk.0.attn_k.weight", &[8, 16]),
        ("blk.0.attn_v.weight", &[8, 16]),
        ("blk.0.attn_output.weight", &[16, 16]),
        ("blk.0.ffn_norm.weight", &[16]),
        ("blk.0.ffn_gate.weight", &[24, 16]),
        ("blk.0.ffn_up.weight", &[24, 16]),
        ("blk.0.ffn_down.weight", &[16, 24]),
        ("output_norm.weight", &[16]),
    ] {
        let count = shape.iter().product();
        file.tensor_f32(name, shape, &vec![0.25; count]);
    }
    file
}
