#!/bin/bash
# Preferences in Chinese, and in English: runs/align-zh.sh CHINESE ENGLISH [--model MODEL] [--steps N] [--pairs N] [--longest N]
# [--held N] [--longest-held N] [--out FOLDER]
#
# CHINESE and ENGLISH are files of preference pairs (ShareGPT's form; several with commas between). For each language: DPO of an adapter on
# the frozen model in the type of its file, one pass (or N steps) over at most --pairs pairs of at most --longest characters; then the
# accuracy on --held pairs (of at most --longest-held characters) whose questions it has not seen, beside the model's own, with 95 % intervals and with the length controlled.
# Cut off at any moment, the same command goes on where it was.
cd "$(dirname "$0")/.."
. runs/common.sh

model=qwen2.5:0.5b steps= pairs=600 longest=800 held=120 longest_held=600 out=out/align-zh
chinese=${1:?CHINESE: preference pairs} english=${2:?ENGLISH: preference pairs}
shift 2
begin "model steps pairs longest held longest-held out" "$@"
fetch "$model"

newest() { ls -d "$out/$1"/checkpoints/step-* | tail -1; }
align() { # NAME FILES TIMES
    local name=$1 files resume=()
    IFS=, read -ra files <<< "$2"
    step "$name: pairs"
    mkdir -p "$out/data-$name"
    [ -e "$out/data-$name/parts.txt" ] ||
        { python3 runs/pairs_parts.py "$out/data-$name" "$pairs" $((longest * $3)) "$held" $((longest_held * $3)) "${files[@]}" > "$out/data-$name/parts.part" &&
            mv "$out/data-$name/parts.part" "$out/data-$name/parts.txt"; }
    cat "$out/data-$name/parts.txt"
    step "$name: DPO"
    [ ! -e "$out/$name/run.toml" ] || resume=(--resume auto)
    # What is held out is measured once, at the end, with intervals.
    "$zhenjin" dpo "$model" --data "$out/data-$name/train.jsonl" --held-out-share 0 --out "$out/$name" "${resume[@]}" \
        ${steps:+--steps "$steps"} --batch 8 --learning-rate 2e-4
    "$zhenjin" report "$out/$name" --name "align-zh: $name" --out "$out/align-$name.en.html"
    "$zhenjin" report "$out/$name" --name "align-zh: $name" --language zh --out "$out/align-$name.zh.html"
    step "$name: held-out pairs"
    "$zhenjin" evaluate preferences "$model" --adapter "$(newest "$name")" --data "$out/data-$name/held-out.jsonl" \
        --save "$out/accuracy-$name.json" | tee "$out/accuracy-$name.md"
}
align chinese "$chinese" 1
# As many tokens are four times as many letters as characters; dialogues of several turns, of which there are many, are long.
align english "$english" 5
