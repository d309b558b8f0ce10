#!/bin/bash
# Does a model learn to calculate from its own tries? runs/reason-rl.sh [--model MODEL] [--steps N] [--rl N] [--problems N] [--out FOLDER]
#
# Sums and differences that the program makes up. SFT: N steps on worked solutions with numbers of 2 and 3 digits. GRPO: N steps on questions
# alone, of the same lengths; the reward is whether the last number is right. Then both models answer held-out questions, N for each
# number of digits: those of 4 and 5 digits are longer than anything that either training had.
# Cut off at any moment, the same command goes on where it was.
cd "$(dirname "$0")/.."
. runs/common.sh

model=smollm2:135m steps=70 rl=30 problems=80 out=out/reason-rl
begin "model steps rl problems out" "$@"

step "problems"
generate() { # NAME COUNT OF-EACH KIND DIGITS OPTIONS
    local name=$1 count=$2 each=$3 kind=$4 digits=$5
    shift 5
    [ ! -e "$out/$name.jsonl" ] || return 0
    "$zhenjin" generate arithmetic --count "$count" --out "$out/problems.jsonl" "$@"
    python3 runs/arithmetic_tasks.py "$out/problems.jsonl" "$out/$name.part" "$each" "$kind" "$digits"
    mv "$out/$name.part" "$out/$name.jsonl"
    rm "$out/problems.jsonl"
}
# Of each number of digits as many as are needed.
generate solved 20000 $((steps * 10)) solved 2,3 --digits 3
generate asked 30000 $((rl * 6 + 60)) asked 2,3 --digits 3 --seed 5
generate test 30000 "$problems" asked 2,3,4,5 --digits 5 --seed 7 --test
# Held-out questions that the run looks at while it goes; nothing is chosen by them.
generate watched 30000 12 asked 2,3,4 --digits 4 --seed 9 --test
head -1 "$out/solved.jsonl"
head -1 "$out/asked.jsonl"

newest() { ls -d "$out/$1"/checkpoints/step-* | tail -1; }
resume() { [ ! -e "$out/$1/run.toml" ] || echo --resume auto; }

step "SFT"
"$zhenjin" sft "$model" --data "$out/solved.jsonl" --out "$out/sft" $(resume sft) --steps "$steps" --batch 16 --learning-rate 5e-4 \
    --held-out-share 0.02

step "GRPO"
"$zhenjin" grpo "$model" --adapter "$(newest sft)" --data "$out/asked.jsonl" --held-out "$out/watched.jsonl" --out "$out/grpo" \
    $(resume grpo) --steps "$rl" --batch 8 --answers 8 --max-tokens 80 --reward number --learning-rate 2e-4

step "reports"
for name in sft grpo; do
    "$zhenjin" report "$out/$name" --name "reason-rl: $name" --out "$out/reason-$name.en.html"
    "$zhenjin" report "$out/$name" --name "reason-rl: $name" --language zh --out "$out/reason-$name.zh.html"
done

step "held-out questions"
"$zhenjin" evaluate rewards "$model" --adapter "$(newest grpo)" --against "$(newest sft)" --data "$out/test.jsonl" --reward number \
    --by digits --temperature 0 --max-tokens 96 --save "$out/results.json" | tee "$out/results.md"
