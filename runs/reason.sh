#!/bin/bash
# Do small models gain from worked steps? runs/reason.sh [--minutes N] [--depth N] [--problems N] [--out FOLDER]
#
# Two models of one shape learn the same arithmetic on as many tokens: one with the worked steps between question and answer, one
# with the answer alone. Then both solve problems that neither has seen. N minutes in all, on two cores; of them, 2 are not training.
# Cut off at any moment, the same command goes on where it was.
cd "$(dirname "$0")/.."
. runs/common.sh

minutes=25 depth=4 problems=2000 out=out/reason
begin "minutes depth problems out" "$@"
# What a share of the minutes is, as a number.
part() { calculate "minutes = $minutes; print $1"; }

step "problems"
# About as many as the training reads once with answers alone: 12 tokens each.
count=$(part 'int(40000 * minutes) + 20000')
[ -e "$out/train.jsonl" ] || "$zhenjin" generate arithmetic --count "$count" --out "$out/train.jsonl"
[ -e "$out/test.jsonl" ] || "$zhenjin" generate arithmetic --count "$problems" --seed 2 --test --out "$out/test.jsonl"

# The 256 bytes and three control tokens: every digit is a token.
[ -e "$out/tokenizer/tokenizer.json" ] || "$zhenjin" tokenizer train "$out/train.jsonl" \
    --format '{question}\n{steps}\n{answer}' --max-text 1MiB --vocabulary 259 --out "$out/tokenizer"

shards() { # NAME FORMAT
    step "token shards: $1"
    "$zhenjin" tokenize "$out/train.jsonl" --format "$2" --identity '{question}' --tokenizer "$out/tokenizer" \
        --licence CC0-1.0 --out "$out/shards-$1"
}
shards steps '{question}\n{steps}\n{answer}'
shards answers '{question}\n{answer}'

pretrain() { # NAME OPTIONS
    local name=$1
    shift
    local resume=()
    [ ! -e "$out/$name/run.toml" ] || resume=(--resume auto)
    step "pretraining: $name"
    "$zhenjin" pretrain --data "$out/shards-$name" --out "$out/$name" "${resume[@]}" --sample-tokens 40 --sample-prompt '47*36=' "$@"
    "$zhenjin" report "$out/$name"
}
half=$(part '(minutes > 6 ? minutes - 2 : minutes * 0.7) / 2')
pretrain steps --minutes "$half" --depth "$depth" --set data.sequence_length=256
# The same shape, steps, batches and rates: the same tokens.
pretrain answers --config "$out/steps/run.toml"

step "evaluation"
newest() { ls -d "$out/$1"/checkpoints/step-* | tail -1; }
setting() { sed -n "s/^$1 = \([0-9]*\).*/\1/p" "$out/steps/run.toml" | head -1; }
tokens=$(($(setting steps) * $(setting sequences) * $(setting micro_batches) * $(setting sequence_length)))
{
    echo "Two models of $(setting layers) layers, $(setting hidden_size) wide, each trained on $tokens tokens of sums, differences and products of numbers of up to three digits."
    echo
    "$zhenjin" evaluate arithmetic "$(newest steps)" --name 'worked steps' "$(newest answers)" --name 'answers only' \
        --data "$out/test.jsonl" --training "$out/train.jsonl" --save "$out/results.json"
} | tee "$out/results.md"
