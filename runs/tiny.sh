#!/bin/bash
# The first training, in about five minutes: runs/tiny.sh [--minutes N] [--stories N] [--out FOLDER]
#
# Little stories that the program makes up, a tokenizer, token shards, a model of three layers that trains for N minutes [4], its
# report, and what it answers when it is served. Cut off at any moment, the same command goes on where it was.
cd "$(dirname "$0")/.."
. runs/common.sh

minutes=4 stories=60000 out=out/tiny
begin "minutes stories out" "$@"

step "stories"
[ -e "$out/stories.txt" ] || "$zhenjin" generate stories --count "$stories" --out "$out/stories.txt"
head -2 "$out/stories.txt"

step "tokenizer"
[ -e "$out/tokenizer/tokenizer.json" ] ||
    "$zhenjin" tokenizer train "$out/stories.txt" --split line --vocabulary 512 --out "$out/tokenizer"

step "token shards"
"$zhenjin" tokenize "$out/stories.txt" --split line --tokenizer "$out/tokenizer" --licence CC0-1.0 --out "$out/shards"

step "pretraining"
resume=()
[ ! -e "$out/run/run.toml" ] || resume=(--resume auto)
"$zhenjin" pretrain --data "$out/shards" --depth 3 --minutes "$minutes" --out "$out/run" "${resume[@]}" --sample-tokens 64

step "report"
"$zhenjin" report "$out/run" --data "$out/shards"

step "served"
model=$(ls -d "$out"/run/checkpoints/step-* | tail -1)
serve "$model"
curl --silent --show-error --fail "http://$address/v1/completions" --header 'Content-Type: application/json' \
    --data "{\"model\": \"$model\", \"prompt\": \"One day\", \"max_tokens\": 40, \"temperature\": 0.7, \"seed\": 1}" | tee "$out/answer.json"
echo

echo
echo "complete more:  $zhenjin serve $model"
echo "go on training: $zhenjin pretrain --data $out/shards --depth 3 --tokens 50000000 --out $out/longer"
