#!/usr/bin/env python3
"""Steps of a method by TRL, each timed: `trl_peer.py MODEL WORKLOAD EXAMPLES STEPS THREADS` prints a line of JSON."""

import json
import resource
import sys
import time

started = time.perf_counter()

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

sys.path.insert(0, str(__import__("pathlib").Path(__file__).resolve().parent.parent))
from align.workloads import WORKLOADS

model_path, name, examples, steps, threads = sys.argv[1:6]
steps = int(steps)
torch.set_num_threads(int(threads))
workload = next(workload for workload in WORKLOADS if workload.name == name)
tokenizer = AutoTokenizer.from_pretrained(model_path)
model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
records = [] if workload.method == "rollouts" else [json.loads(line) for line in open(examples)]
loaded = time.perf_counter() - started
projections = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
lora = None if workload.full else LoraConfig(r=16, lora_alpha=32, target_modules=projections, task_type="CAUSAL_LM")


class Clock(TrainerCallback):
    seconds = []

    def on_step_begin(self, *_, **__):
        self.start = time.perf_counter()

    def on_step_end(self, *_, **__):
        self.seconds.append(time.perf_counter() - self.start)


if workload.method == "rollouts":
    prompts = torch.randint(100, 40_000, (workload.batch, workload.length), generator=torch.Generator().manual_seed(1))
    seconds = []
    for _ in range(steps):
        begun = time.perf_counter()
        with torch.no_grad():
            model.generate(
                prompts, attention_mask=torch.ones_like(prompts), do_sample=True, temperature=1.0, top_k=0, min_new_tokens=workload.answer_tokens,
                max_new_tokens=workload.answer_tokens, pad_token_id=0,
            )
        seconds.append(time.perf_counter() - begun)
    print(json.dumps({"seconds": seconds, "loaded": loaded, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
    sys.exit()

common = dict(
    output_dir="unused", max_steps=steps, learning_rate=1e-4, report_to=[], save_strategy="no", logging_strategy="no",
    use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True, warmup_steps=0,
)
if workload.method == "sft":
    from trl import SFTConfig, SFTTrainer

    config = SFTConfig(per_device_train_batch_size=workload.batch, max_length=workload.length, **common)
    trainer = SFTTrainer(model=model, args=config, train_dataset=Dataset.from_list(records), processing_class=tokenizer, peft_config=lora)
elif workload.method == "dpo":
    from trl import DPOConfig, DPOTrainer

    config = DPOConfig(per_device_train_batch_size=workload.batch, precompute_ref_log_probs=True, **common)
    trainer = DPOTrainer(model=model, args=config, train_dataset=Dataset.from_list(records), processing_class=tokenizer, peft_config=lora)
else:
    from trl import GRPOConfig, GRPOTrainer

    # All answers are generated together and learnt from in quarters: the logits of 64 at once take more than 24 GB.
    config = GRPOConfig(
        per_device_train_batch_size=workload.batch * workload.answers // 4, gradient_accumulation_steps=4, num_generations=workload.answers,
        max_completion_length=workload.answer_tokens, temperature=1.0, beta=0.0, **common,
    )
    reward = lambda completions, **_: [float(len(str(completion)) % 7) for completion in completions]
    trainer = GRPOTrainer(
        model=model, args=config, train_dataset=Dataset.from_list(records), processing_class=tokenizer, reward_funcs=reward,
        peft_config=lora,
    )
clock = Clock()
trainer.add_callback(clock)
begun = time.perf_counter()
trainer.train()
total = time.perf_counter() - begun
# GRPO writes its answers before a step begins, as the callbacks see it: the whole time tells.
seconds = [total / steps] * steps if workload.method == "grpo" else clock.seconds
print(json.dumps({"seconds": seconds, "loaded": loaded, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
