#!/usr/bin/env bash
# Times embeddings beside sentence-transformers; writes docs/bench/embeddings.md. Arguments go to embeddings/compare.py (--rounds 3, --works together, …).
#   ZHENJIN_BIN, ZHENJIN_EMBED_SPEED  the program, and the one that makes our vectors [in target/release]
#   ZHENJIN_BENCH_ENCODERS            folders of encoders, with spaces between them [the fetched all-minilm:l6]
#   ZHENJIN_BENCH_ENV                 a Python environment that has sentence-transformers and onnxruntime, instead of making one
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
source "$here/make_environment.sh"

SENTENCE_TRANSFORMERS=6.2.0

if [ -n "${ZHENJIN_BENCH_ENV:-}" ]; then
  python=$ZHENJIN_BENCH_ENV/bin/python
else
  make_environment sentence-transformers "$SENTENCE_TRANSFORMERS" --only-binary :all: numpy torch==2.15.0 transformers==5.24.0 \
    "sentence-transformers==$SENTENCE_TRANSFORMERS" onnx onnxscript onnxruntime==1.31.1
  python=$cache/sentence-transformers/bin/python
fi
if [ -n "${ZHENJIN_BENCH_ENCODERS:-}" ]; then
  read -r -a encoders <<<"$ZHENJIN_BENCH_ENCODERS"
else
  bin=${ZHENJIN_BIN:-$root/target/release/zhenjin}
  "$bin" pull all-minilm:l6
  encoders=("$("$bin" inspect all-minilm:l6 --json | sed -n 's/^  "path": "\(.*\)",$/\1/p')")
fi
exec "$python" "$here/embeddings/compare.py" --python "$python" \
  --zhenjin "${ZHENJIN_EMBED_SPEED:-$root/target/release/examples/embed_speed}" "$@" "${encoders[@]}"
