#!/bin/bash
# Does a model learn to calculate from its own tries? runs/reason-rl.sh [--pretraining N] [--sft N] [--rl N] [--problems N] [--out FOLDER]
#
# Sums and differences that the program makes up, for a small model (4 layers, 256 wide, a token for each byte). Pretraining: N steps of 16 times
# 256 tokens of worked solutions with numbers of up to 6 digits. SFT: N steps on chats with worked solutions of 2 and 3 digits. GRPO: N steps on questions
# alone, of 2, 3 and 4 digits; the reward is whether the last number is right. Then the models before and after GRPO answer the same held-out
# questions, N for each number of digits: those of 5 and 6 digits are longer than anything that SFT or GRPO had.
# Cut off at any moment, the same command goes on where it was.
cd "$(dirname "$0")/.."
. runs/common.sh

pretraining=200 sft=40 rl=250 problems=400 out=out/reason-rl
begin "pretraining sft rl problems out" "$@"

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
if [ ! -e "$out/worked.jsonl" ]; then
    "$zhenjin" generate arithmetic --count 260000 --digits 6 --out "$out/problems.jsonl"
    # Products have other steps, and very long ones.
    grep -v '\*' "$out/problems.jsonl" > "$out/worked.part"
    mv "$out/worked.part" "$out/worked.jsonl"
fi
# Of each number of digits as many as are needed.
generate solved 30000 $((sft * 16 + 20)) solved 2,3 --digits 3 --seed 4
generate asked 80000 3000 asked 2,3,4 --digits 4 --seed 5
generate test 200000 "$problems" asked 2,3,4,5,6 --digits 6 --seed 7 --test
# Held-out questions that the run looks at while it goes; nothing is chosen by them.
generate watched 30000 24 asked 3,4,5 --digits 5 --seed 9 --test
head -1 "$out/solved.jsonl"
head -1 "$out/asked.jsonl"

newest() { ls -d "$out/$1"/checkpoints/step-* | tail -1; }
resume() { [ ! -e "$out/$1/run.toml" ] || echo --resume auto; }

step "pretraining"
format='{question}\n{steps}\n{answer}'
# The 256 bytes and three control tokens: every digit is a token.
[ -e "$out/tokenizer/tokenizer.json" ] || "$zhenjin" tokenizer train "$out/worked.jsonl" \
    --format "$format" --max-text 1MiB --vocabulary 259 --out "$out/tokenizer"
"$zhenjin" tokenize "$out/worked.jsonl" --format "$format" --identity '{question}' --tokenizer "$out/tokenizer" \
    --licence CC0-1.0 --out "$out/shards"
# Training takes the tokenizer and the chat template from beside the shards into the run: a chat is a question and its solution.
cat > "$out/shards/chat_template.jinja" <<'TEMPLATE'
{%- set question = (messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list | last).strip() -%}
{{ question + '\n' }}
TEMPLATE
"$zhenjin" pretrain --data "$out/shards" --out "$out/base" $(resume base) --depth 4 \
    --set schedule.steps="$pretraining" --set batch.sequences=16 --set batch.micro_batches=1 --set data.sequence_length=256 --sample-tokens 40 --sample-prompt '47+36='

step "SFT"
"$zhenjin" sft "$(newest base)" --full --data "$out/solved.jsonl" --out "$out/sft" $(resume sft) --steps "$sft" --batch 32 \
    --learning-rate 1e-4 --held-out-share 0.02

step "GRPO"
"$zhenjin" grpo "$(newest sft)" --full --data "$out/asked.jsonl" --held-out "$out/watched.jsonl" --out "$out/grpo" $(resume grpo) \
    --steps "$rl" --batch 16 --answers 16 --max-tokens 64 --reward number --learning-rate 3e-5

step "reports"
for name in sft grpo; do
    "$zhenjin" report "$out/$name" --name "reason-rl: $name" --out "$out/reason-$name.en.html"
    "$zhenjin" report "$out/$name" --name "reason-rl: $name" --language zh --out "$out/reason-$name.zh.html"
done

step "held-out questions"
"$zhenjin" evaluate rewards "$(newest grpo)" --against "$(newest sft)" --data "$out/test.jsonl" --reward number --by digits \
    --temperature 0 --max-tokens 96 --save "$out/results.json" | tee "$out/results.md"
