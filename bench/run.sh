#!/usr/bin/env bash
# Compares Zhenjin with llama.cpp, ik_llama.cpp and OpenVINO GenAI; writes docs/bench/ and the table in README.md.
# Arguments go to compare.py (--rounds 5, --tests EXPRESSION, …).
#   ZHENJIN_BIN          the program [target/release/zhenjin]
#   ZHENJIN_BENCH_MODEL  the model, a name or a file [smollm2:135m]; other types of weights are made from it
#   ZHENJIN_BENCH_LARGER  larger models, names or files, with spaces between them [qwen2.5:0.5b]
#   ZHENJIN_BENCH_SHAPES  shapes of random_model.py, with spaces between them [qwen3-1.7b]
#   ZHENJIN_BENCH_MODEL_2  a second model for the table of perplexities, a name or a file [none]
#   ZHENJIN_BENCH_TEXTS  UTF-8 texts for that table, with colons between them [this project's documents]
#   ZHENJIN_BENCH_ENV    a Python environment that has all the other programs, instead of making them
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
source "$here/environment.sh"
program=${ZHENJIN_BIN:-$root/target/release/zhenjin}
model=$("$program" inspect "${ZHENJIN_BENCH_MODEL:-smollm2:135m}" --json | sed -n 's/^  "path": "\(.*\)",$/\1/p')
quantiser=${ZHENJIN_BENCH_ENV:-$cache/llama-cpp}/bin/python

"$python" -m unittest discover --quiet "$here"
models=("$model")
for type in Q8_0 Q4_0 Q4_K_M F32; do
  made=$cache/models/$(basename "$model" .gguf).$type.gguf
  if [ -e "$made" ] || "$quantiser" "$here/requantise.py" "$model" "$type" "$made"; then
    models+=("$made")
  else
    say "no $type model: it is made by llama.cpp's library, which is missing"
  fi
done
for larger in ${ZHENJIN_BENCH_LARGER-qwen2.5:0.5b}; do
  if [ -e "$larger" ] || "$program" pull "$larger" >&2; then models+=("$larger"); else say "no rows of $larger: it cannot be fetched"; fi
done
for shape in ${ZHENJIN_BENCH_SHAPES-qwen3-1.7b}; do
  made=$cache/models/$shape-random.Q4_K_M.gguf
  [ -e "$made" ] || "$python" "$here/random_model.py" "$shape" "$made" >&2
  models+=("$made")
done
accuracy_options=()
if [ -n "${ZHENJIN_BENCH_MODEL_2:-}" ]; then accuracy_options+=(--second-model "$ZHENJIN_BENCH_MODEL_2"); fi
IFS=: read -ra texts <<<"${ZHENJIN_BENCH_TEXTS:-}"
for text in "${texts[@]}"; do accuracy_options+=(--text "$text"); done
exec "$python" "$here/compare.py" "${models[@]}" --zhenjin "$program" --readme "$root/README.md" \
  "${python_options[@]}" "${missing_options[@]}" "${accuracy_options[@]}" "$@"
