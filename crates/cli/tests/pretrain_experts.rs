//! A model with experts as a person trains it: planned, trained with `--experts` and `--active`, written for other programs, and quantised.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::shards::make_shards;
use zhenjin_train::metrics::{Event, read_events};

fn zhenjin(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
    let command = command.env_remove("ZHENJIN_LOG").stdin(Stdio::null()).args(arguments);
    let output = command.output().expect("the program starts");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

#[test]
fn a_model_with_experts_is_planned_trained_written_and_quantised() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("a name in UTF-8").to_owned();
    let (out, gguf, hugging_face) = (path("run"), path("experts.gguf"), path("exported"));
    let shards = make_shards(&folder.path().join("shards"), 200);
    let shards = shards.to_str().expect("a name in UTF-8");
    let mut arguments =
        vec!["pretrain", "--data", shards, "--out", &out, "--depth", "2", "--experts", "4", "--active", "2"];
    for setting in [
        "model.hidden_size=64",
        "model.intermediate_size=64",
        "model.heads=2",
        "model.kv_heads=1",
        "model.head_dim=32",
        "data.sequence_length=32",
        "data.validation_share=0.1",
        "batch.sequences=2",
        "batch.micro_batches=2",
        "schedule.steps=6",
        "intervals.samples=0",
    ] {
        arguments.extend(["--set", setting]);
    }
    let said = zhenjin(&arguments);
    assert!(said.contains("of which a token uses"), "{said}");
    assert!(said.contains("busiest expert"), "{said}");
    let log = read_events(&Path::new(&out).join("metrics.jsonl")).expect("a log");
    let steps = log.events.iter().filter_map(|event| match event {
        Event::Step(metrics) => metrics.routers.as_ref(),
        _ => None,
    });
    assert_eq!(steps.filter(|routers| routers.shares.len() == 2 && routers.shares[0].len() == 4).count(), 6);
    let written = std::fs::read_to_string(Path::new(&out).join("run.toml")).expect("the configuration");
    assert!(written.contains("expert_intermediate_size = 32"), "{written}");

    zhenjin(&["export", &out, &hugging_face, "--to", "hf"]);
    let config = std::fs::read_to_string(Path::new(&hugging_face).join("config.json")).expect("a file");
    assert!(config.contains("Qwen3MoeForCausalLM"), "{config}");
    zhenjin(&["quantize", &out, &gguf, "--type", "q8_0"]);
    let said = zhenjin(&["inspect", &gguf]);
    assert!(said.contains("qwen3moe"), "{said}");
}
