#!/usr/bin/env bash
# The first training, in about five minutes: little stories that the program makes up, a tokenizer, token shards, a model of three
# layers, and what it writes. Runs again where it was cut off.
#
#   runs/tiny.sh [FOLDER]          (default: runs/tiny, where nothing is overwritten)
#   TINY_MINUTES=0.5 runs/tiny.sh  (another time for the training)
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-runs/tiny}
minutes=${TINY_MINUTES:-4}
stories=${TINY_STORIES:-60000}
zhenjin=${ZHENJIN_BIN:-target/release/zhenjin}
[ -x "$zhenjin" ] || { echo "$zhenjin is not there; make build" >&2; exit 1; }
mkdir -p "$folder"

if [ ! -f "$folder/stories.txt" ]; then
  "$zhenjin" generate stories --count "$stories" --out "$folder/stories.txt.part"
  mv "$folder/stories.txt.part" "$folder/stories.txt"
fi
[ -f "$folder/tokenizer/tokenizer.json" ] ||
  "$zhenjin" tokenizer train "$folder/stories.txt" --split line --vocabulary 512 --out "$folder/tokenizer"
"$zhenjin" tokenize "$folder/stories.txt" --split line --tokenizer "$folder/tokenizer" --out "$folder/shards" --licence CC0-1.0
"$zhenjin" pretrain --data "$folder/shards" --out "$folder/run" --depth 3 --minutes "$minutes" --resume auto \
  --sample-tokens 64

newest=$(ls -d "$folder"/run/checkpoints/step-* | tail -1)
echo "The model is in $newest. Its answers, through the server:"
echo "  $zhenjin serve $newest"
echo "  curl -s http://127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' -d '{\"model\": \"$newest\", \"prompt\": \"One day\", \"max_tokens\": 40}'"
