//! Opening well-formed models of every kind, and paths that are not models.

use std::path::Path;
use std::sync::Arc;

use zhenjin_model::gguf::Value;
use zhenjin_model::{
    FileFormat, KvCacheDtype, LayerWeightName, LoadOptions, Model, ModelFile, Runner, ServingLimits,
    TensorSource, WeightName,
};
use zhenjin_tensor::{SimdLevel, ThreadTeam};

use super::gguf_writer::{GgufWriter, RawValue, tiny_llama};
use super::hugging_face_writer::{FolderTensor, safetensors_bytes, tiny_config, tiny_tensors, write_folder};

const DOWN: WeightName = WeightName::Layer(0, LayerWeightName::Down);

#[test]
fn both_formats_give_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    std::fs::write(&path, tiny_llama().bytes()).unwrap();
    let gguf = ModelFile::open(&path).unwrap();
    write_folder(folder.path(), &tiny_config(), &tiny_tensors());
    let hugging_face = ModelFile::open(folder.path()).unwrap();
    assert_eq!((gguf.format(), hugging_face.format()), (FileFormat::Gguf, FileFormat::HuggingFace));
    for weight in gguf.config().weights() {
        let (a, b) = (gguf.tensor(weight).unwrap(), hugging_face.tensor(weight).unwrap());
        assert_eq!((a.dtype, a.shape, a.bytes), (b.dtype, b.shape, b.bytes));
    }
    assert_eq!(gguf.config().parameters(), hugging_face.config().parameters());
    assert!(!gguf.contains(WeightName::Head) && !hugging_face.contains(WeightName::Head));
    assert_eq!(gguf.tensors().count(), 11);
}

#[test]
fn version_2_and_other_alignments_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    for alignment in [8, 64, 4096] {
        let mut file = tiny_llama();
        file.version = 2;
        file.alignment = alignment;
        file.set("general.alignment", RawValue::u32(alignment as u32));
        file.tensor("blk.0.ffn_down.weight").data[..4].copy_from_slice(&7_f32.to_le_bytes());
        std::fs::write(&path, file.bytes()).unwrap();
        let opened = ModelFile::open(&path).unwrap();
        assert_eq!(opened.tensor(DOWN).unwrap().bytes[..4], 7_f32.to_le_bytes());
    }
}

#[test]
fn metadata_is_read_back() {
    let mut file = tiny_llama();
    file.set("numbers", RawValue::array(5, 2, [(-1_i32).to_le_bytes(), 7_i32.to_le_bytes()].concat()));
    file.set("scores", RawValue::array(6, 1, 0.5_f32.to_le_bytes().to_vec()));
    let file = zhenjin_model::gguf::parse(file.bytes()).unwrap();
    let tokens: Vec<&str> = file.strings("tokenizer.ggml.tokens").unwrap().unwrap().collect();
    assert_eq!(tokens, ["a", "b", "c", "d", "e", "f", "g", "真"]);
    assert_eq!(file.integers("numbers").unwrap().unwrap(), [-1, 7]);
    assert_eq!(file.floats("scores").unwrap().unwrap(), [0.5]);
    assert!(matches!(file.get("tokenizer.ggml.model"), Some(Value::String("gpt2"))));
    assert_eq!(file.string("absent").unwrap(), None);
    assert!(file.strings("numbers").is_err_and(|error| error.to_string().contains("array of strings")));
    assert!(file.floats("numbers").is_err_and(|error| error.to_string().contains("array of i32")));
}

#[test]
fn released_weights_can_be_read_again() {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &tiny_config(), &tiny_tensors());
    let file = ModelFile::open(folder.path()).unwrap();
    let before = file.tensor(DOWN).unwrap().bytes.to_vec();
    file.release(DOWN);
    assert_eq!(file.tensor(DOWN).unwrap().bytes, before);
}

#[test]
fn folders_with_several_weights_files() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = tiny_tensors();
    let mut map = serde_json::Map::new();
    for (file, tensors) in
        [("model-00001-of-00002.safetensors", &tensors[..4]), ("b.safetensors", &tensors[4..])]
    {
        let mut tensors = tensors.to_vec();
        tensors.iter().for_each(|tensor| drop(map.insert(tensor.name.clone(), file.into())));
        // Each file also has a tensor that the index does not name.
        tensors.push(FolderTensor::f32("extra", &[1], &[0.0]));
        std::fs::write(folder.path().join(file), safetensors_bytes(&tensors)).unwrap();
    }
    let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
    std::fs::write(folder.path().join("config.json"), tiny_config().to_string()).unwrap();
    std::fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    let file = ModelFile::open(folder.path()).unwrap();
    assert!(file.config().weights().all(|weight| file.contains(weight)));
    assert_eq!(file.unused_tensors(), ["`extra`", "`extra`"]);
}

#[test]
fn split_gguf_models() {
    let folder = tempfile::tempdir().unwrap();
    let first_path = folder.path().join("tiny-00001-of-00002.gguf");
    let second_path = folder.path().join("tiny-00002-of-00002.gguf");
    let mut first = tiny_llama();
    let mut second = GgufWriter::new();
    second.tensors = first.tensors.split_off(5);
    for (number, file) in [(0, &mut first), (1, &mut second)] {
        file.set("split.no", RawValue { type_number: 2, payload: vec![number, 0] });
        file.set("split.count", RawValue { type_number: 2, payload: vec![2, 0] });
    }
    std::fs::write(&first_path, first.bytes()).unwrap();
    assert!(open_error(&first_path).contains("tiny-00002-of-00002.gguf: cannot open"));
    std::fs::write(&second_path, second.bytes()).unwrap();
    assert_eq!(ModelFile::open(&first_path).unwrap().tensors().count(), 11);
    // A folder that holds nothing else stands for the model in it.
    assert_eq!(ModelFile::open(folder.path()).unwrap().tensors().count(), 11);
    std::fs::write(folder.path().join("config.json"), tiny_config().to_string()).unwrap();
    assert_eq!(ModelFile::open(folder.path()).unwrap().format(), FileFormat::Gguf);
    assert!(open_error(&second_path).contains("give the one whose name ends with"));

    second.tensors.push(first.tensors[0].clone());
    std::fs::write(&second_path, second.bytes()).unwrap();
    assert!(
        open_error(&first_path)
            .contains("tensor `token_embd.weight`: another file of the model holds it too")
    );
    second.set("split.no", RawValue::u32(7));
    std::fs::write(&second_path, second.bytes()).unwrap();
    assert!(
        open_error(&first_path).contains("metadata `split.no`: by the file's name it should be 1, found 7")
    );
}

#[test]
fn tensors_that_are_not_weights_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = tiny_tensors();
    tensors.push(FolderTensor::f32("model.layers.0.self_attn.rotary_emb.inv_freq", &[4], &[0.0; 4]));
    tensors.push(FolderTensor::f32("lm_head.weight", &[8, 16], &[0.25; 128]));
    write_folder(folder.path(), &tiny_config(), &tensors);
    let file = ModelFile::open(folder.path()).unwrap();
    assert_eq!(file.unused_tensors(), ["`lm_head.weight`", "`model.layers.0.self_attn.rotary_emb.inv_freq`"]);
}

#[test]
fn files_beside_the_weights_are_found() {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &tiny_config(), &tiny_tensors());
    for name in ["tokenizer.json", "chat_template.jinja"] {
        std::fs::write(folder.path().join(name), "{}").unwrap();
    }
    let file = ModelFile::open(folder.path()).unwrap();
    let files = file.hugging_face().unwrap();
    assert_eq!(files.tokenizer, Some(folder.path().join("tokenizer.json")));
    assert_eq!(files.chat_template, Some(folder.path().join("chat_template.jinja")));
    assert_eq!((&files.tokenizer_config, &files.generation_config), (&None, &None));
}

#[test]
fn paths_that_are_not_models() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert!(open_error(&path("absent.gguf")).contains("absent.gguf: cannot open"));
    assert!(open_error(folder.path()).contains("neither config.json nor a .gguf file"));
    std::fs::write(path("empty.gguf"), "").unwrap();
    assert!(open_error(&path("empty.gguf")).contains("header: needs 4 bytes at offset 0"));
    std::fs::write(path("b.gguf"), "").unwrap();
    assert!(open_error(folder.path()).contains("holds 2 GGUF models"));
    for name in ["empty.gguf", "b.gguf"] {
        std::fs::remove_file(path(name)).unwrap();
    }
    std::fs::write(path("config.json"), tiny_config().to_string()).unwrap();
    assert!(open_error(folder.path()).contains("neither model.safetensors nor"));
    std::fs::write(path("pytorch_model.bin"), "").unwrap();
    assert!(open_error(folder.path()).contains("PyTorch pickles"));
    assert!(open_error(&path("config.json")).contains("give the folder"));
    #[cfg(unix)]
    assert!(open_error(Path::new("/dev/zero")).contains("not a regular file"));
}

#[test]
fn a_git_lfs_pointer_says_what_it_is() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 270590880\n";
    let folder = tempfile::tempdir().unwrap();
    let says = |path: &Path, file: &str| {
        let error = open_error(path);
        assert!(
            error.contains(&format!("{file}: it is a Git LFS pointer, not the file itself, which has 270590880 bytes; run `git lfs pull`")),
            "{error}"
        );
    };
    let gguf = folder.path().join("model.gguf");
    std::fs::write(&gguf, pointer).unwrap();
    says(&gguf, "model.gguf");
    says(folder.path(), "model.gguf");
    std::fs::remove_file(&gguf).unwrap();
    write_folder(folder.path(), &tiny_config(), &tiny_tensors());
    std::fs::write(folder.path().join("model.safetensors"), pointer).unwrap();
    says(folder.path(), "model.safetensors");
    std::fs::write(folder.path().join("config.json"), pointer).unwrap();
    says(folder.path(), "config.json");
}

fn open_error(path: &Path) -> String {
    match ModelFile::open(path) {
        Ok(_) => panic!("{} was accepted", path.display()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn planned_memory_is_what_loading_takes() {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &tiny_config(), &tiny_tensors());
    let file = ModelFile::open(folder.path()).unwrap();
    let limits = ServingLimits {
        context: Some(50),
        max_batch: 3,
        max_rows: 64,
        max_logits_rows: 4,
        threads: 1,
        kv_cache_dtype: KvCacheDtype::default(),
        tokenizer_bytes_per_token: 0,
    };
    let estimate = file.memory_estimate(&limits).unwrap();
    let team = Arc::new(ThreadTeam::new(1).unwrap());
    let model = Model::load(folder.path(), &LoadOptions { simd: SimdLevel::Scalar, team }).unwrap();
    assert_eq!(estimate.weights, model.weights.bytes() as u64);
    assert_eq!(estimate.workspace, Runner::workspace_bytes(file.config(), 64, 4, 1) as u64);
    // Keys and values of one head of 8 in one layer, in f32; 50 positions are two pages, three times 50 are five.
    assert_eq!((estimate.kv_per_token(), estimate.page), (2 * 8 * 4, 32 * 2 * 8 * 4));
    let plan = estimate.plan(1 << 40).unwrap();
    let fixed = estimate.weights + estimate.workspace;
    assert_eq!((plan.pages, plan.context, plan.bytes), (5, 50, fixed + 5 * estimate.page));
    assert_eq!(estimate.least(), fixed + 2 * estimate.page);
}
