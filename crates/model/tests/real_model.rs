//! The real SmolLM2 file: what it holds, and its perplexity beside llama.cpp's on the same tokens.

use std::sync::Arc;

use crate::support;
use serde::Deserialize;
use zhenjin_model::perplexity::{self, PerplexityOptions};
use zhenjin_model::{KvCacheDtype, LoadOptions, Model, ModelFile};
use zhenjin_tensor::{KvDtype, SimdLevel, ThreadTeam};

/// Tokens of an English text, and what `scripts/perplexity_llama_cpp.py` measured on them.
#[derive(Deserialize)]
struct Reference {
    context: usize,
    windows: usize,
    perplexity: f64,
    tokens: Vec<u32>,
}

#[test]
fn everything_in_the_file_is_read() {
    let file = ModelFile::open(&support::real_model()).unwrap();
    assert_eq!((file.config().layers, file.config().parameters()), (30, 134_515_008));
    assert_eq!(file.tensors().count(), 272);
    assert!(file.unread_settings().is_empty() && file.unused_tensors().is_empty());
}

#[test]
fn perplexity_is_within_one_percent_of_llama_cpp() {
    let reference: Reference = serde_json::from_str(include_str!("golden/smollm2_perplexity.json")).unwrap();
    let simd = SimdLevel::detect();
    let team = Arc::new(ThreadTeam::new(2).unwrap());
    let options = LoadOptions { simd, team: Arc::clone(&team) };
    let model = Arc::new(Model::load(&support::real_model(), &options).unwrap());
    let served = model.kv_dtype(KvCacheDtype::default());
    assert_eq!(served, KvDtype::Int8);
    let [in_f32, as_served] = [KvDtype::F32, served].map(|kv_dtype| {
        let options = PerplexityOptions {
            context: reference.context,
            windows: None,
            bos: None,
            usable_vocabulary: None,
            adapter: None,
            kv_dtype,
            simd,
            team: Arc::clone(&team),
        };
        let model = Arc::clone(&model);
        let measured = perplexity::measure(model, &reference.tokens, &options, &mut |_| {}).unwrap();
        assert_eq!(measured.windows, reference.windows);
        let ratio = measured.perplexity / reference.perplexity;
        assert!((0.99..=1.01).contains(&ratio), "{kv_dtype}: {ratio} of {}", reference.perplexity);
        measured.perplexity
    });
    let ratio = as_served / in_f32;
    // Two windows: chance alone moves their perplexity by a few tenths of a per cent.
    assert!((0.99..=1.01).contains(&ratio), "{as_served} with {served}, {in_f32} in f32");
}
