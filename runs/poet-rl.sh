#!/bin/bash
# The poet learns form: runs/poet-rl.sh POEMS [--steps N] [--model MODEL] [--out FOLDER]; about 25 minutes.
#
# GRPO on a model that writes classical poems (runs/poet.sh made the one that the program carries): the reward is the form of regulated verse,
# its rhymes and its tone pattern, 1 for a perfect poem. POEMS are JSON lines with `kind` and `title`, plain or .zst (the program zstd reads
# those); titles of Tang and Song shi are the prompts. Then poems to held-out titles by both models, measured side by side.
# Cut off at any moment, the same command goes on where it was.
cd "$(dirname "$0")/.."
. runs/common.sh

steps=150 model=poet out=out/poet-rl
poems=${1:?POEMS: poems as JSON lines}
shift
begin "steps model out" "$@"

if [ ! -e "$out/prompts.jsonl" ]; then
    step "prompts"
    reader=(cat)
    [[ "$poems" != *.zst ]] || reader=(zstd -dc)
    "${reader[@]}" "$poems" | python3 -c '
import hashlib, json, sys
seen = set()
for line in sys.stdin:
    poem = json.loads(line)
    title = poem["title"].strip()
    if poem["kind"] not in ("tang", "song") or not 2 <= len(title) <= 8 or title in seen or "\n" in title or " " in title:
        continue
    seen.add(title)
order = sorted(seen, key=lambda title: hashlib.sha256(title.encode()).digest())
for title in order[:6000]:
    print(json.dumps({"prompt": title}, ensure_ascii=False))
' > "$out/prompts.part"
    mv "$out/prompts.part" "$out/prompts.jsonl"
fi
head -3 "$out/prompts.jsonl"

step "GRPO"
resume=()
[ ! -e "$out/run/run.toml" ] || resume=(--resume auto)
# All weights: the model is small. A step keeps the poet near what it was, so that it goes on to write as its poets did.
"$zhenjin" grpo "$model" --full --data "$out/prompts.jsonl" --out "$out/run" "${resume[@]}" --steps "$steps" --batch 24 --answers 8 \
    --max-tokens 100 --learning-rate 5e-5 --reward 'poem' --held-out-share 0.05 \
    --set policy.kl=0.02 --set rollout.temperature=1 --set schedule.final_share=0.2

step "report"
"$zhenjin" report "$out/run"
"$zhenjin" report "$out/run" --language zh --out "$out/run/report.zh.html"

step "the model"
last=$(ls -d "$out"/run/checkpoints/step-* | tail -1)
[ -e "$out/poet-rl.gguf" ] || "$zhenjin" quantize "$last" "$out/poet-rl.gguf" --type q8_0
echo
echo "talk with it: $zhenjin chat $out/poet-rl.gguf -p '春夜'"
echo "measure both: $zhenjin evaluate poems $out/poet-rl.gguf --data SHARDS, where SHARDS are those of runs/poet.sh"
