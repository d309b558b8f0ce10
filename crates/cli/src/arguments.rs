//! The command line: every command, option and example.

use crate::commands::align::{AlignArguments, DistillArguments, OnlineArguments};
use crate::commands::export::ExportArguments;
use crate::commands::generate::GenerateCommand;
use crate::commands::plan::PlanArguments;
use crate::commands::pretrain::PretrainArguments;
use crate::commands::quantize::QuantizeArguments;
use crate::commands::report::ReportArguments;
use crate::commands::tokenize::{TOKENIZE_EXAMPLES, TokenizeArguments};
use crate::commands::tokenizer::TokenizerCommand;
use crate::memory_size::MemorySize;
use crate::text;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;
use zhenjin_engine::Speculation;
use zhenjin_model::KvCacheDtype;
use zhenjin_store::KeyRole;

/// Your own ChatGPT on your own machine: fetch a model, chat with it, serve it with the OpenAI API.
#[derive(Debug, Parser)]
#[command(name = "zhenjin", version, propagate_version = true, max_term_width = 100, after_help = MAIN_EXAMPLES)]
pub(crate) struct Arguments {
    /// Folder of models, conversations and keys [default: the platform's data folder]
    #[arg(long, global = true, env = "ZHENJIN_HOME", value_name = "DIR", hide_env_values = true)]
    pub(crate) home: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or a filter such as zhenjin_engine=debug
    #[arg(long, global = true, env = "ZHENJIN_LOG", value_name = "FILTER", hide_env_values = true)]
    pub(crate) log: Option<String>,
    /// How log lines look
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const MAIN_EXAMPLES: &str = "Examples:
  zhenjin pull smollm2:135m          fetch a small English model (98 MB)
  zhenjin chat smollm2:135m          talk with it in the terminal
  zhenjin serve smollm2:135m         the chat page and the OpenAI API at http://127.0.0.1:8080";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Fetch a model of the catalogue, or any GGUF or safetensors model of a hub
    #[command(after_help = "Examples:
  zhenjin pull smollm2:135m
  zhenjin pull qwen3:0.6b
  zhenjin pull hf:bartowski/SmolLM2-360M-Instruct-GGUF:SmolLM2-360M-Instruct-Q8_0.gguf
  HF_ENDPOINT=https://hf-mirror.com zhenjin pull qwen3:0.6b")]
    Pull(PullArguments),
    /// List the models that are here and those of the catalogue
    #[command(after_help = "Examples:\n  zhenjin models\n  zhenjin models --json")]
    Models(ModelsArguments),
    /// Remove a fetched model's files
    #[command(name = "rm", after_help = "Examples:\n  zhenjin rm smollm2:135m")]
    Remove(RemoveArguments),
    /// Show what a model file holds and the memory that serving it needs
    #[command(after_help = "Examples:
  zhenjin inspect smollm2:135m
  zhenjin inspect ./model.gguf --context 8192 --max-batch 16 --tensors")]
    Inspect(InspectArguments),
    /// Serve the chat page and the OpenAI API
    #[command(after_help = "Examples:
  zhenjin serve smollm2:135m
  zhenjin serve smollm2:135m qwen3:0.6b --memory 8GiB
  zhenjin serve smollm2:135m --adapter poet=./poet-lora
  zhenjin key new laptop && zhenjin serve smollm2:135m --addr 0.0.0.0:8080")]
    Serve(ServeArguments),
    /// Chat in the terminal, or answer one prompt
    #[command(after_help = "Examples:
  zhenjin chat smollm2:135m
  zhenjin chat -p 'Name three primes.' --temperature 0
  cat notes.txt | zhenjin chat -p 'Summarise this:' --json")]
    Chat(ChatArguments),
    /// Turn texts into vectors with an embedding model: embeddings for search, clustering, comparison
    #[command(after_help = crate::commands::embed::EXAMPLES)]
    Embed(crate::commands::embed::EmbedArguments),
    /// Measure a model's perplexity on a text (llama.cpp's method)
    #[command(after_help = "Examples:
  zhenjin perplexity smollm2:135m book.txt --ctx 512 --chunks 40")]
    Perplexity(PerplexityArguments),
    /// Write a model as a Hugging Face folder or as a GGUF file, in floats
    #[command(after_help = "Examples:
  zhenjin export runs/poet --to hf poet
  zhenjin export poet --to gguf --dtype f16 poet.gguf")]
    Export(ExportArguments),
    /// Write a model as a GGUF file with fewer bits a weight, and measure what that costs
    #[command(after_help = "Examples:
  zhenjin quantize runs/poet poet.gguf --type q8_0 --text held-out.txt
  zhenjin quantize model-f16.gguf model-q4_k_m.gguf --type q4_k_m --text book.txt --chunks 40")]
    Quantize(QuantizeArguments),
    /// Measure this machine's speed with a model
    #[command(after_help = "Examples:
  zhenjin bench smollm2:135m
  zhenjin bench ./model.gguf --prefill 512,4096 --decode 64 --batch 1,16,32 --json")]
    Bench(BenchArguments),
    /// Measure what a model writes
    #[command(
        subcommand,
        after_help = "Examples:
  zhenjin evaluate poems ./poet.gguf --data ./shards --samples 500"
    )]
    Evaluate(crate::commands::evaluate::EvaluateCommand),
    /// Say what training costs before it begins: memory, time, energy, money; here or on other machines
    #[command(after_help = crate::commands::plan::EXAMPLES)]
    Plan(PlanArguments),
    /// Write a training run's report: one HTML file with curves, samples, cost and configuration
    #[command(after_help = crate::commands::report::EXAMPLES)]
    Report(ReportArguments),
    /// Train a language model from scratch, on text or token shards
    #[command(after_help = crate::commands::pretrain::EXAMPLES)]
    Pretrain(PretrainArguments),
    /// Fine-tune a model on answers: an adapter, or with --full all weights
    #[command(after_help = crate::commands::align::SFT_EXAMPLES)]
    Sft(AlignArguments),
    /// Train a reward model on preference pairs
    #[command(after_help = crate::commands::align::PAIR_EXAMPLES)]
    Reward(AlignArguments),
    /// Train on preference pairs: DPO, IPO and relatives
    #[command(after_help = crate::commands::align::PAIR_EXAMPLES)]
    Dpo(AlignArguments),
    /// Train on answers with thumbs: KTO
    #[command(after_help = crate::commands::align::PAIR_EXAMPLES)]
    Kto(AlignArguments),
    /// Train on answers that the model writes, with a critic: PPO
    #[command(after_help = crate::commands::align::ONLINE_EXAMPLES)]
    Ppo(OnlineArguments),
    /// Train on groups of answers that the model writes: GRPO
    #[command(after_help = crate::commands::align::ONLINE_EXAMPLES)]
    Grpo(OnlineArguments),
    /// Train a model to say what another one, the teacher, would say: distillation
    #[command(after_help = crate::commands::align::DISTILL_EXAMPLES)]
    Distill(DistillArguments),
    /// Write several answers to each prompt and keep the best, as examples for `sft` or pairs for `dpo`: best-of-n, rejection sampling
    #[command(name = "best-of-n", after_help = crate::commands::best_of_n::EXAMPLES)]
    BestOfN(crate::commands::best_of_n::BestOfArguments),
    /// Make a tokenizer from text
    #[command(subcommand)]
    Tokenizer(TokenizerCommand),
    /// Turn text into token shards, the data that training reads
    #[command(after_help = TOKENIZE_EXAMPLES)]
    Tokenize(TokenizeArguments),
    /// Look at examples for alignment before training on them: what they hold, and their exact tokens
    #[command(subcommand)]
    Data(crate::commands::data::DataCommand),
    /// Make data for experiments: arithmetic, short stories, excerpts of texts
    #[command(subcommand)]
    Generate(GenerateCommand),
    /// What people say of answers in the chat page: counted, written as data for training, erased
    #[command(subcommand, after_help = crate::commands::feedback::EXAMPLES)]
    Feedback(crate::commands::feedback::FeedbackCommand),
    /// Make a model better by what people judged in the chat, measured before it may answer
    #[command(after_help = crate::commands::improve::EXAMPLES)]
    Improve(crate::commands::improve::ImproveArguments),
    /// Let trained weights answer under a model's name, also in a server that is running
    #[command(after_help = crate::commands::promote::PROMOTE_EXAMPLES)]
    Promote(crate::commands::promote::PromoteArguments),
    /// Take a promotion back: what answered before answers again
    #[command(after_help = "Examples:\n  zhenjin rollback smollm2:135m")]
    Rollback(crate::commands::promote::RollbackArguments),
    /// Keys for clients of a server that others can reach
    #[command(
        subcommand,
        after_help = "Examples:
  zhenjin key new laptop                       the first key: the operator's, for the chats of this machine
  zhenjin key new anna                         a user's, with chats of its own
  zhenjin key new anna-phone --chats-of anna   another key for the same chats
  zhenjin key list"
    )]
    Key(KeyCommand),
    /// Print a shell's completion script
    #[command(after_help = "Examples:\n  zhenjin completions bash > /etc/bash_completion.d/zhenjin")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder
    #[command(after_help = "Examples:\n  zhenjin man /usr/local/share/man/man1")]
    Man {
        /// The folder, made where it is missing
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PullArguments {
    /// A catalogue name (see `zhenjin models`) or hf:OWNER/REPO[:FILE]
    #[arg(required = true, value_name = "MODEL")]
    pub(crate) models: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ModelsArguments {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArguments {
    /// The model's name
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// A fetched model's name, a GGUF file or a Hugging Face folder
    #[arg(value_name = "MODEL")]
    pub(crate) model: OsString,
    /// The settings of `serve` for which memory is estimated
    #[command(flatten)]
    pub(crate) engine: EngineArguments,
    /// Chats that the model works on at the same time, as in `serve` [default: 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    pub(crate) max_batch: Option<u16>,
    /// List every tensor
    #[arg(long)]
    pub(crate) tensors: bool,
    /// Print JSON (always with every tensor)
    #[arg(long)]
    pub(crate) json: bool,
}

/// How the engine uses the machine.
#[derive(Debug, Clone, Args)]
pub(crate) struct EngineArguments {
    #[command(flatten)]
    pub(crate) compute: ComputeArguments,
    /// Longest context, in tokens [default: the model's own, as far as memory allows]
    #[arg(long, value_name = "TOKENS", value_parser = at_least_one)]
    pub(crate) context: Option<usize>,
    /// Memory for models and their KV caches, such as 4GiB [default: 60 % of what is free]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<MemorySize>,
}

/// What computes, and with which keys and values.
#[derive(Debug, Clone, Args)]
pub(crate) struct ComputeArguments {
    /// Threads [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Instructions to use: scalar, avx2, avxvnni, avx512vnni, amx; on AArch64 neon, dotprod, i8mm [default: the best that this machine has]
    #[arg(long, env = "ZHENJIN_SIMD", value_name = "LEVEL", hide_env_values = true)]
    pub(crate) simd: Option<String>,
    /// How keys and values are kept: f32, int8 (a quarter of the memory, faster, slightly less exact), or auto: int8 with quantised weights
    #[arg(long, value_name = "TYPE", default_value_t = KvCacheDtype::Auto)]
    pub(crate) kv_cache_dtype: KvCacheDtype,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// Models to serve: names or paths; the first is the default [default: every fetched model]
    #[arg(value_name = "MODEL")]
    pub(crate) models: Vec<OsString>,
    /// A LoRA adapter (a folder that `peft` saved) to serve beside the first MODEL, as MODEL+NAME; MODEL+NAME=PATH for
    /// another one (repeatable)
    #[arg(long, value_name = "NAME=PATH", value_parser = OsStringValueParser::new().try_map(|argument| adapter(&argument)))]
    pub(crate) adapter: Vec<AdapterArgument>,
    /// Address to listen on; anything but loopback needs a key (`zhenjin key new NAME`)
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "HOST:PORT")]
    pub(crate) addr: SocketAddr,
    #[command(flatten)]
    pub(crate) engine: EngineArguments,
    /// Chats that a model works on at the same time
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    pub(crate) max_batch: u16,
    /// Requests that may wait; one more gets 429
    #[arg(long, default_value_t = 256, value_name = "N")]
    pub(crate) queue: usize,
    /// Answers that may be generated, waited for or streamed at once, over all models; one more gets 429 [default: --max-batch plus
    /// --queue]
    #[arg(long, value_name = "N")]
    pub(crate) streams: Option<NonZeroUsize>,
    /// Guess the next tokens by what came before them in the chat and check several at once: ngram, or off.
    /// Answers that repeat or quote come faster; no answer changes
    #[arg(long, default_value = "ngram", value_name = "HOW")]
    pub(crate) speculation: Speculation,
    /// A small model with the same tokenizer that guesses the next tokens of the first MODEL, for the first MODEL to check several at once;
    /// MODEL=SMALL for another one (repeatable). Used only where it makes answers faster, by measurement; no answer changes
    #[arg(long, value_name = "SMALL", value_parser = OsStringValueParser::new().try_map(|argument| draft(&argument)))]
    pub(crate) draft: Vec<DraftArgument>,
    /// Let answers go on that repeat themselves without end, where a request does not ask for an end of them
    #[arg(long)]
    pub(crate) no_repetition_detection: bool,
    /// Ask for a key on loopback too
    #[arg(long)]
    pub(crate) require_key: bool,
    /// Another host name under which browsers may reach the server; it then asks for a key (repeatable)
    #[arg(long, value_name = "HOST")]
    pub(crate) allowed_host: Vec<String>,
    /// A page's origin that may call the API from a browser: https://example.org, app://name, null (repeatable)
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) cors_origin: Vec<String>,
    /// How long running answers may take to end when the server stops
    #[arg(long, default_value = "20", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) shutdown_limit: Duration,
}

/// How tokens are chosen; what is not given is the model's own default.
#[derive(Debug, Clone, Args)]
pub(crate) struct SamplingArguments {
    /// 0 always takes the likeliest token
    #[arg(long, value_name = "T")]
    pub(crate) temperature: Option<f32>,
    /// Keep the likeliest tokens up to this probability
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<f32>,
    /// Keep this many tokens; 0 keeps all
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<u32>,
    /// Keep tokens of at least this share of the likeliest one's probability
    #[arg(long, value_name = "P")]
    pub(crate) min_p: Option<f32>,
    /// Divide the logits of tokens already seen (1 = off)
    #[arg(long, value_name = "R")]
    pub(crate) repetition_penalty: Option<f32>,
    /// The same seed gives the same answer [default: random, and shown]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Longest answer, in tokens [default: what the context leaves]
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct ChatArguments {
    /// A fetched model's name, a GGUF file or a Hugging Face folder [default: the first fetched model]
    #[arg(value_name = "MODEL")]
    pub(crate) model: Option<OsString>,
    /// Answer this prompt and exit; with a pipe on standard input, what comes from it follows the prompt
    #[arg(short, long, value_name = "TEXT", value_parser = text::argument())]
    pub(crate) prompt: Option<String>,
    /// The system message
    #[arg(long, value_name = "TEXT", value_parser = text::argument())]
    pub(crate) system: Option<String>,
    /// Print one JSON object with the answer and its numbers
    #[arg(long)]
    pub(crate) json: bool,
    /// Let an answer go on that repeats itself without end
    #[arg(long)]
    pub(crate) no_repetition_detection: bool,
    /// A small model with the same tokenizer that guesses the next tokens, for MODEL to check several at once. Used only where it makes
    /// answers faster, by measurement; no answer changes
    #[arg(long, value_name = "SMALL")]
    pub(crate) draft: Option<OsString>,
    #[command(flatten)]
    pub(crate) sampling: SamplingArguments,
    #[command(flatten)]
    pub(crate) engine: EngineArguments,
}

#[derive(Debug, Args)]
pub(crate) struct PerplexityArguments {
    /// A fetched model's name, a GGUF file or a Hugging Face folder
    #[arg(value_name = "MODEL")]
    pub(crate) model: OsString,
    /// A UTF-8 text file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// A folder with an adapter (PEFT's format) that is added to the weights
    #[arg(long, value_name = "FOLDER")]
    pub(crate) adapter: Option<PathBuf>,
    /// Tokens in a window; the second half of each is scored
    #[arg(long, default_value_t = 512, value_name = "TOKENS")]
    pub(crate) ctx: usize,
    /// Stop after this many windows
    #[arg(long, value_name = "N")]
    pub(crate) chunks: Option<usize>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) compute: ComputeArguments,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    /// A fetched model's name, a GGUF file or a Hugging Face folder
    #[arg(value_name = "MODEL")]
    pub(crate) model: OsString,
    /// Prompt lengths; 0 leaves this kind out
    #[arg(long, value_delimiter = ',', default_value = "512", value_name = "TOKENS")]
    pub(crate) prefill: Vec<usize>,
    /// Lengths of prompts whose tokens' log-probabilities are computed; 0 leaves this kind out
    #[arg(long, value_delimiter = ',', default_value = "0", value_name = "TOKENS")]
    pub(crate) score: Vec<usize>,
    /// New tokens of each sequence, without a prompt; 0 leaves this kind out
    #[arg(long, value_delimiter = ',', default_value = "64", value_name = "TOKENS")]
    pub(crate) decode: Vec<usize>,
    /// New tokens of each answer, computed with its prompt by the engine that serves; 0 leaves this kind out
    #[arg(long, value_delimiter = ',', default_value = "0", value_name = "TOKENS")]
    pub(crate) answers: Vec<usize>,
    /// Prompt length of each answer
    #[arg(long, default_value_t = 100, value_name = "TOKENS")]
    pub(crate) prompt: usize,
    /// Temperature at which answers are sampled, from 0 (greedy) to 2
    #[arg(long, default_value_t = 0.0, value_name = "T")]
    pub(crate) temperature: f32,
    /// Sequences at once
    #[arg(long, value_delimiter = ',', default_value = "1,16", value_name = "N")]
    pub(crate) batch: Vec<usize>,
    /// A LoRA adapter (a folder that `peft` saved) for prefill and decode
    #[arg(long, value_name = "PATH")]
    pub(crate) adapter: Option<PathBuf>,
    /// Measurements of each kind
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) repeat: u32,
    /// Repeat each measurement for at least so long, however often that is
    #[arg(long, default_value_t = 0, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub(crate) seconds: u64,
    /// Do not measure this machine's limits, which takes longer than a short test
    #[arg(long)]
    pub(crate) no_limits: bool,
    /// Print one JSON line a measurement
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) compute: ComputeArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key and print it once; only its hash is kept
    New {
        /// Whose key it is
        name: String,
        /// What its holder may do [default: operator for the first key that is ever made, user for every later one]
        #[arg(long, value_enum)]
        role: Option<RoleArgument>,
        /// Whose chats it opens: those of another key (name or id), or of this machine (local) [default: local for an
        /// operator, its own for a user]
        #[arg(long, value_name = "KEY")]
        chats_of: Option<String>,
    },
    /// List the keys: id, state, role, whose chats they open (own, local, or another key's id), name
    List,
    /// Give a key another role; the chats that it opens stay the same
    Role {
        /// Its name or id
        name: String,
        /// What its holder may do
        #[arg(value_enum)]
        role: RoleArgument,
    },
    /// Take a key back
    Revoke {
        /// Its name or id
        name: String,
    },
}

/// What the holder of a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArgument {
    /// Everything that a user may, and fetch, remove, load and unload models and adapters
    Operator,
    /// Use models, and have chats
    User,
}

impl From<RoleArgument> for KeyRole {
    fn from(role: RoleArgument) -> KeyRole {
        match role {
            RoleArgument::Operator => KeyRole::Operator,
            RoleArgument::User => KeyRole::User,
        }
    }
}

/// An adapter that `--adapter` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AdapterArgument {
    /// The model that it belongs to; `None` for the first one served.
    pub(crate) model: Option<String>,
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// `NAME=PATH`, where the path may hold any bytes.
fn adapter(argument: &OsStr) -> Result<AdapterArgument, String> {
    let wrong = || format!("`{}` is not NAME=PATH, as in poet=./poet-lora", argument.display());
    let bytes = argument.as_encoded_bytes();
    let equals = bytes.iter().position(|&byte| byte == b'=').ok_or_else(wrong)?;
    let name = std::str::from_utf8(&bytes[..equals]).map_err(|_| wrong())?;
    let path = after(argument, equals + 1).ok_or_else(wrong)?;
    if name.is_empty() || path.as_os_str().is_empty() {
        return Err(wrong());
    }
    let (model, name) = match name.rsplit_once('+') {
        Some((model, name)) => (Some(model.to_owned()), name),
        None => (None, name),
    };
    Ok(AdapterArgument { model, name: name.to_owned(), path })
}

/// A draft model that `--draft` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DraftArgument {
    /// The model that it drafts for; `None` for the first one served.
    pub(crate) model: Option<String>,
    /// Its name, or where its files are.
    pub(crate) draft: OsString,
}

/// `SMALL` or `MODEL=SMALL`, where the draft model's path may hold any bytes.
fn draft(argument: &OsStr) -> Result<DraftArgument, String> {
    let Some(equals) = argument.as_encoded_bytes().iter().position(|&byte| byte == b'=') else {
        return Ok(DraftArgument { model: None, draft: argument.to_owned() });
    };
    let wrong = || format!("`{}` is not SMALL or MODEL=SMALL", argument.display());
    let model = std::str::from_utf8(&argument.as_encoded_bytes()[..equals]).map_err(|_| wrong())?;
    let draft = after(argument, equals + 1).ok_or_else(wrong)?.into_os_string();
    if model.is_empty() || draft.is_empty() {
        return Err(wrong());
    }
    Ok(DraftArgument { model: Some(model.to_owned()), draft })
}

/// What follows the first bytes of an argument, as a path.
#[cfg(unix)]
fn after(argument: &OsStr, bytes: usize) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    Some(PathBuf::from(OsStr::from_bytes(argument.as_bytes().get(bytes..)?)))
}

/// What follows the first bytes of an argument, as a path.
#[cfg(not(unix))]
fn after(argument: &OsStr, bytes: usize) -> Option<PathBuf> {
    argument.to_str()?.get(bytes..).map(PathBuf::from)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// A count that is not 0.
pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}
