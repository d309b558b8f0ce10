"""What is timed: methods, batches and lengths, and examples that have just so many tokens."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Workload:
    name: str
    title: str
    method: str
    full: bool
    # Examples of a step; prompts of GRPO.
    batch: int
    # Tokens of an example (of each side of a pair; of a prompt).
    length: int
    answers: int = 0
    answer_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of a step, as both programs count them; of rollouts those that are written."""
        if self.method == "rollouts":
            return self.batch * self.answer_tokens
        if self.method == "grpo":
            return self.batch * self.answers * (self.length + self.answer_tokens)
        return self.batch * self.length * (2 if self.method == "dpo" else 1)


WORKLOADS = [
    Workload("rollouts-1", "sampling, 64-token prompt, 64 new, 1 at once", "rollouts", False, 1, 64, 1, 64),
    Workload("rollouts-16", "sampling, 64-token prompts, 64 new, 16 at once", "rollouts", False, 16, 64, 1, 64),
    Workload("sft-lora", "LoRA SFT, r 16, 4 × 256", "sft", False, 4, 256),
    Workload("sft-full", "full fine-tuning, 4 × 256", "sft", True, 4, 256),
    Workload("dpo-lora", "DPO, LoRA, 4 pairs of 157 tokens each side", "dpo", False, 4, 157),
    Workload("grpo-lora", "GRPO, LoRA, 8 prompts × 8 answers × 64 tokens, no KL", "grpo", False, 8, 64, 8, 64),
]


# Ours alone: no other program of the table trains an adapter on a frozen file of 4 bits.
FROZEN = Workload("sft-q4", "LoRA SFT on the frozen Q4_1 file, 1 × 512", "sft", False, 1, 512)


def ids(tokenizer, messages: list, prompt: bool = False) -> list:
    encoded = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=prompt, return_dict=True)
    return encoded["input_ids"]


def filled(tokenizer, length: int, make, prompt: bool = False):
    """The messages that `make` builds around so many words that they have just `length` tokens."""
    for words in range(1, 2 * length):
        messages = make(" ".join(["gold"] * words))
        found = len(ids(tokenizer, messages, prompt))
        if found == length:
            return messages
        if found > length:
            break
    raise SystemExit(f"no example has just {length} tokens")


def write_examples(workload: Workload, tokenizer, path: Path, steps: int) -> None:
    """A JSON line for each example of `steps` steps."""
    count = workload.batch * (steps + 1)
    records = []
    for number in range(count):
        question = {"role": "user", "content": f"Say {number % 10}."}
        answer = lambda text: [question, {"role": "assistant", "content": text}]
        if workload.method == "sft":
            records.append({"messages": filled(tokenizer, workload.length, answer)})
        elif workload.method == "dpo":
            chosen = filled(tokenizer, workload.length, answer)
            rejected = filled(tokenizer, workload.length, lambda text: answer(text.replace("gold", "iron")))
            records.append({"prompt": [question], "chosen": chosen[1:], "rejected": rejected[1:]})
        else:
            ask = lambda text: [{"role": "user", "content": f"{number % 10} {text}"}]
            records.append({"prompt": filled(tokenizer, workload.length, ask, True)})
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
