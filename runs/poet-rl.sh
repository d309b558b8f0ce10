#!/bin/bash
# The poet learns form: runs/poet-rl.sh POEMS [--steps N] [--samples N] [--ci N] [--model MODEL] [--out FOLDER]; about 4 minutes.
#
# GRPO on a model that writes classical poems (runs/poet.sh made the one that the program carries). POEMS are JSON lines with `kind`, `title`,
# `author` and `lines`, plain or .zst (the program zstd reads those). The prompts are heads of 6,000 poems: of shi, whose reward is the mean
# of form, rhymes and tones of regulated verse, and --ci of them of ci, whose reward is the form of the tune: the characters of each line, as
# three or more of POEMS have them. Then poems by both models from the same heads of held-out poems, shi and ci, --samples of each.
# Held out is 1 % of POEMS, by a hash of the lines, as the poet's own training had it: these poems give no prompts and no forms, and neither does
# any other poem with the head of one of them (runs/poem_prompts.py).
# Cut off at any moment, the same command goes on where it was.
cd "$(dirname "$0")/.."
. runs/common.sh

steps=100 samples=1000 ci=0 model=poet out=out/poet-rl
poems=${1:?POEMS: poems as JSON lines}
shift
begin "steps samples ci model out" "$@"
fetch "$model"

# Another name than before: prompts.jsonl of an earlier version of this script has heads of held-out poems. A run with them does not go on:
# give another --out.
if [ ! -e "$out/training-prompts.jsonl" ]; then
    step "prompts"
    reader=(cat)
    [[ "$poems" != *.zst ]] || reader=(zstd -dc)
    "${reader[@]}" "$poems" | python3 runs/poem_prompts.py 6000 "$ci" > "$out/prompts.part"
    mv "$out/prompts.part" "$out/training-prompts.jsonl"
fi
head -3 "$out/training-prompts.jsonl"

step "GRPO"
resume=()
[ ! -e "$out/run/run.toml" ] || resume=(--resume auto)
# All weights: the model is small. A step keeps the poet near what it was, so that it goes on to write as its poets did.
"$zhenjin" grpo "$model" --full --data "$out/training-prompts.jsonl" --out "$out/run" "${resume[@]}" --steps "$steps" --batch 24 --answers 8 \
    --max-tokens 128 --learning-rate 5e-5 --reward 'poem' --held-out-share 0.01 \
    --set policy.kl=0.03 --set rollout.temperature=1 --set schedule.final_share=0.2

step "report"
"$zhenjin" report "$out/run"
"$zhenjin" report "$out/run" --language zh --out "$out/run/report.zh.html"

step "the model"
last=$(ls -d "$out"/run/checkpoints/step-* | tail -1)
[ -e "$out/poet-rl.gguf" ] || "$zhenjin" quantize "$last" "$out/poet-rl.gguf" --type q8_0

step "poems from heads of held-out poems"
# As runs/poet.sh makes them, with the model's own tokenizer.
format='<|kind|>{kind}<|title|>{title}<|author|>{author}\n<|poem|>{lines}'
"$zhenjin" tokenize "$poems" --format "$format" --identity '{lines}' --tokenizer "$last" --licence MIT --out "$out/shards" > "$out/tokenize.txt"
for name in before after; do
    [ "$name" = before ] && judged=$model || judged=$out/poet-rl.gguf
    [ -e "$out/poems-$name.txt" ] || {
        "$zhenjin" evaluate poems "$judged" --data "$out/shards" --samples "$samples" --scored 1000 --show 8 --temperature 0.7 --top-p 0.95 \
            > "$out/poems-$name.part" && mv "$out/poems-$name.part" "$out/poems-$name.txt"
    }
    step "$name"
    cat "$out/poems-$name.txt"
done

echo
echo "talk with it: $zhenjin chat $out/poet-rl.gguf -p '春夜'"
