#!/bin/bash
# A model learns a house's JSON format: runs/json.sh [--model MODEL] [--steps N] [--notes N] [--out FOLDER]; two to five minutes.
#
# Order notes that the script makes up, and the house's records of them; an adapter that learns N steps of them [60]; then notes of other
# customers, answered by the model with and without the adapter, freely and held to the schema by the server.
# Cut off at any moment, the same command goes on where it was.
cd "$(dirname "$0")/.."
. runs/common.sh

model=smollm2:135m steps=60 notes=100 out=out/json
begin "model steps notes out" "$@"
fetch "$model"

step "notes"
[ -e "$out/schema.json" ] ||
    python3 runs/house_format.py make "$out/train.jsonl" 2000 "$out/held-out.jsonl" "$notes" "$out/schema.json"
head -1 "$out/train.jsonl"

step "SFT"
resume=()
[ ! -e "$out/run/run.toml" ] || resume=(--resume auto)
"$zhenjin" sft "$model" --data "$out/train.jsonl" --held-out "$out/held-out.jsonl" --out "$out/run" "${resume[@]}" \
    --steps "$steps" --batch 8 --learning-rate 1e-3 --set intervals.held_out=30

step "report"
"$zhenjin" report "$out/run" --name json --out "$out/json.en.html"
"$zhenjin" report "$out/run" --name json --language zh --out "$out/json.zh.html"

step "answers"
adapter=$(ls -d "$out"/run/checkpoints/step-* | tail -1)
# The server has a home of its own, which does not know the model's name.
path=$(path_of "$model")
serve "$path" --adapter "house=$adapter"
python3 runs/house_format.py measure "$address" "$out/held-out.jsonl" "$out/schema.json" "$out/results.json" \
    "the model=$path" "with the adapter=$path+house" | tee "$out/results.md"

echo
echo "talk with it: $zhenjin serve $model --adapter house=$adapter"
