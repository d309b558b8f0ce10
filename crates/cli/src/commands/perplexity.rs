//! `zhenjin perplexity`: how well a model predicts a text, by llama.cpp's method.

use crate::arguments::{ComputeArguments, PerplexityArguments};
use crate::home::Home;
use crate::machine;
use crate::text;
use anyhow::Result;
use serde_json::json;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use zhenjin_hub::ModelStore;
use zhenjin_model::perplexity::{self, Perplexity, PerplexityOptions};
use zhenjin_model::{LoadOptions, Model};
use zhenjin_tensor::KvDtype;
use zhenjin_tokenizer::Specials;

/// How a model is measured on a text.
pub(crate) struct Measurement<'a> {
    /// The folder of an adapter that is added to the weights.
    pub(crate) adapter: Option<&'a Path>,
    pub(crate) text: &'a str,
    pub(crate) ctx: usize,
    pub(crate) windows: Option<usize>,
    pub(crate) compute: &'a ComputeArguments,
    /// Whether to show on standard error how far it is, where that is a terminal.
    pub(crate) shows_progress: bool,
}

/// What was measured, and what it depends on.
pub(crate) struct Measured {
    pub(crate) result: Perplexity,
    pub(crate) kv_dtype: KvDtype,
    pub(crate) tokens: Vec<u32>,
}

impl Measurement<'_> {
    /// The perplexity of the model at `path`.
    pub(crate) fn of(&self, path: &Path) -> Result<Measured> {
        let opened = zhenjin_hub::open(path)?;
        let tokens = opened.tokenizer.encode(self.text, Specials::AsText)?;
        let bos = opened.tokenizer.bos().filter(|_| opened.tokenizer.adds_bos());
        let compute = machine::compute(self.compute)?;
        let (simd, team) = (compute.simd, Arc::new(compute.start_team()?));
        let model = Arc::new(Model::load(path, &LoadOptions { simd, team: Arc::clone(&team) })?);
        let adapter = match self.adapter {
            Some(folder) => Some(Arc::new(machine::open_adapter(folder, &opened.file)?.pack(simd, &team)?)),
            None => None,
        };
        let kv_dtype = model.kv_dtype(self.compute.kv_cache_dtype);
        let options = PerplexityOptions {
            context: self.ctx,
            windows: self.windows,
            bos,
            usable_vocabulary: Some(opened.tokenizer.vocabulary_size()),
            adapter,
            kv_dtype,
            simd,
            team,
        };
        let shows_progress = self.shows_progress && std::io::stderr().is_terminal();
        let result = perplexity::measure(model, &tokens, &options, &mut |progress| {
            if shows_progress {
                eprint!(
                    "\r{}/{} windows, perplexity {:.4} ",
                    progress.window, progress.windows, progress.perplexity
                );
            }
        })?;
        if shows_progress {
            eprintln!();
        }
        Ok(Measured { result, kv_dtype, tokens })
    }
}

/// A text to measure on.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    text::of_file(path)
}

pub(crate) fn run(home: &Home, arguments: &PerplexityArguments) -> Result<()> {
    let local = machine::resolve(&ModelStore::new(home.models()), &arguments.model)?;
    let measurement = Measurement {
        adapter: arguments.adapter.as_deref(),
        text: &read_text(&arguments.file)?,
        ctx: arguments.ctx,
        windows: arguments.chunks,
        compute: &arguments.compute,
        shows_progress: !arguments.json,
    };
    let Measured { result, .. } = measurement.of(&local.path)?;
    if arguments.json {
        let line = json!({
            "perplexity": result.perplexity, "standard_error": result.standard_error,
            "scored_tokens": result.scored_tokens, "windows": result.windows, "ctx": arguments.ctx,
        });
        println!("{line}");
        return Ok(());
    }
    println!(
        "perplexity {:.4} ± {:.4} over {} scored tokens in {} windows of {}",
        result.perplexity, result.standard_error, result.scored_tokens, result.windows, arguments.ctx
    );
    Ok(())
}
