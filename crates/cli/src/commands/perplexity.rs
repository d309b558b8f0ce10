//! `zhenjin perplexity`: how well a model predicts a text, by llama.cpp's method.

use crate::arguments::PerplexityArguments;
use crate::home::Home;
use crate::machine;
use anyhow::{Context, Result};
use serde_json::json;
use std::sync::Arc;
use zhenjin_hub::ModelStore;
use zhenjin_model::perplexity::{self, PerplexityOptions};
use zhenjin_model::{LoadOptions, Model};
use zhenjin_tokenizer::Specials;

pub(crate) fn run(home: &Home, arguments: &PerplexityArguments) -> Result<()> {
    let local = ModelStore::new(home.models()).resolve(&arguments.model)?;
    let text = std::fs::read_to_string(&arguments.file)
        .with_context(|| format!("reading {} (it must be UTF-8 text)", arguments.file.display()))?;
    let opened = zhenjin_hub::open(&local.path)?;
    let tokens = opened.tokenizer.encode(&text, Specials::AsText)?;
    let bos = opened.tokenizer.bos().filter(|_| opened.tokenizer.adds_bos());
    let compute = machine::compute(&arguments.engine)?;
    let (simd, team) = (compute.simd, Arc::new(compute.start_team()?));
    let model = Arc::new(Model::load(&local.path, &LoadOptions { simd, team: Arc::clone(&team) })?);
    let options = PerplexityOptions {
        context: arguments.ctx,
        windows: arguments.chunks,
        bos,
        usable_vocabulary: Some(opened.tokenizer.vocabulary_size()),
        kv_dtype: model.kv_dtype(arguments.engine.kv_cache_dtype),
        simd,
        team,
    };
    let result = perplexity::measure(model, &tokens, &options, &mut |progress| {
        if !arguments.json {
            eprint!(
                "\r{}/{} windows, perplexity {:.4} ",
                progress.window, progress.windows, progress.perplexity
            );
        }
    })?;
    if arguments.json {
        let line = json!({
            "perplexity": result.perplexity, "standard_error": result.standard_error,
            "scored_tokens": result.scored_tokens, "windows": result.windows, "ctx": arguments.ctx,
        });
        println!("{line}");
        return Ok(());
    }
    eprintln!();
    println!(
        "perplexity {:.4} ± {:.4} over {} scored tokens in {} windows of {}",
        result.perplexity, result.standard_error, result.scored_tokens, result.windows, arguments.ctx
    );
    Ok(())
}
