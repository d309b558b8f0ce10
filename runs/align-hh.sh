#!/bin/bash
# A model learns from people's preferences: runs/align-hh.sh PAIRS [--model MODEL] [--steps N] [--reward N] [--ppo N] [--context N]
# [--answers N] [--tokens N] [--kl WEIGHT] [--out FOLDER]
#
# PAIRS are preference pairs of dialogues, such as hh-rlhf's harmless ones (JSON lines, plain or .gz). By a hash of how a dialogue begins they
# become three parts: half A teaches, half B teaches a judge that nothing else sees, and the rest is held out. On half A: SFT, a reward
# model, PPO by that model, and DPO beside it. Then the held-out accuracy of the reward models and of DPO, and how often the judge prefers
# the answers of PPO and of DPO to those of SFT, for held-out prompts. --steps are those of SFT and
# of DPO, --reward of the reward models; --context leaves out longer dialogues, --tokens is an answer's most, --kl
# the weight of the divergence in PPO.
# Cut off at any moment, the same command goes on where it was.
cd "$(dirname "$0")/.."
. runs/common.sh

model=smollm2:135m steps=80 reward=80 ppo=40 context=256 answers=1 tokens=64 kl=0.2 out=out/align-hh
pairs=${1:?PAIRS: preference pairs, as JSON lines}
shift
begin "model steps reward ppo context answers tokens kl out" "$@"
fetch "$model"

if [ ! -e "$out/parts.txt" ]; then
    step "three parts"
    python3 - "$pairs" "$out" <<'PYTHON' | tee "$out/parts.part"
import gzip, hashlib, json, sys
path, out = sys.argv[1:]
with open(path, "rb") as file:
    packed = file.read(2) == b"\x1f\x8b"
parts = {"half-a": [], "half-b": [], "held-out": []}
left_out = 0
for line in gzip.open(path, "rt") if packed else open(path):
    record = json.loads(line)
    turns = [turn.partition("\n\nAssistant:") for turn in record["chosen"].split("\n\nHuman:")]
    # Two turns of one side in a row, or an empty turn, are no dialogue.
    texts = [record["chosen"], record["rejected"]]
    whole = all(
        all(turn.count("\n\nAssistant:") == 1 and turn.split("\n\nAssistant:")[1].strip() for turn in text.split("\n\nHuman:")[1:])
        for text in texts
    )
    if not whole or record["chosen"].strip() == record["rejected"].strip():
        left_out += 1
        continue
    opening = turns[1][0].strip()
    place = int.from_bytes(hashlib.sha256(opening.encode()).digest()[:4], "big") % 20
    part = "held-out" if place < 4 else "half-a" if place < 12 else "half-b"
    parts[part].append(record)
for name, records in parts.items():
    with open(f"{out}/{name}.jsonl", "w") as file:
        for record in records:
            file.write(json.dumps(record) + "\n")
print(", ".join(f"{name}: {len(records)} pairs" for name, records in parts.items()) + f"; {left_out} that are no dialogues left out")
PYTHON
    mv "$out/parts.part" "$out/parts.txt"
fi

newest() { ls -d "$out/$1"/checkpoints/step-* | tail -1; }
train() { # METHOD NAME OPTIONS
    local method=$1 name=$2 resume=()
    shift 2
    [ ! -e "$out/$name/run.toml" ] || resume=(--resume auto)
    step "$method: $name"
    "$zhenjin" "$method" "$model" --out "$out/$name" "${resume[@]}" --context "$context" --overlong drop "$@"
    "$zhenjin" report "$out/$name" --out "$out/$name.en.html"
    "$zhenjin" report "$out/$name" --language zh --out "$out/$name.zh.html"
}

accuracy() { # NAME OPTIONS
    local name=$1
    shift
    step "held-out accuracy: $name"
    "$zhenjin" evaluate preferences "$model" "$@" --data "$out/held-out.jsonl" --context "$context" --overlong drop \
        --save "$out/accuracy-$name.json" | tee "$out/accuracy-$name.md"
}
wins() { # NAME
    step "answers to held-out prompts: $1 against sft, judged by what learnt from half B"
    "$zhenjin" evaluate wins "$model" --adapter "$(newest "$1")" --against "$(newest sft)" --judge-model "$(newest judge)" \
        --data "$out/held-out.jsonl" --context "$context" --overlong drop --answers "$answers" --max-tokens "$tokens" \
        --save "$out/wins-$1.json" | tee "$out/wins-$1.md"
}

train sft sft --data "$out/half-a.jsonl" --held-out "$out/held-out.jsonl" --learn last --steps "$steps" --batch 16
# What is held out is measured at the end, with intervals.
at_end=(--held-out "$out/held-out.jsonl" --set intervals.held_out=0)
train reward reward --data "$out/half-a.jsonl" "${at_end[@]}" --adapter "$(newest sft)" --steps "$reward" --batch 8 --learning-rate 3e-4
# The judge has other data, another beginning and another order.
train reward judge --data "$out/half-b.jsonl" "${at_end[@]}" --steps "$reward" --batch 8 --learning-rate 3e-4 --seed 1
train ppo ppo --data "$out/half-a.jsonl" "${at_end[@]}" --adapter "$(newest sft)" --reward-model "$(newest reward)" \
    --judge-model "$(newest judge)" --steps "$ppo" --batch 16 --max-tokens "$tokens" --learning-rate 3e-4 --set policy.kl="$kl"
accuracy reward --reward-model "$(newest reward)"
wins ppo
accuracy judge --reward-model "$(newest judge)"

train dpo dpo --data "$out/half-a.jsonl" "${at_end[@]}" --adapter "$(newest sft)" --steps "$steps" --batch 8 --learning-rate 1e-4
accuracy dpo --adapter "$(newest dpo)" --against "$(newest sft)"
wins dpo
