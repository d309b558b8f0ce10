#!/usr/bin/env bash
# Times training steps beside PyTorch; writes docs/bench/training.md. Arguments go to training/compare.py (--rounds 5, --shapes 512, …).
#   ZHENJIN_TRAIN_SPEED  the program that takes our steps [target/release/examples/train_speed]
#   ZHENJIN_BENCH_ENV    a Python environment that has torch, instead of making one
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
source "$here/make_environment.sh"

TORCH=2.15.0

if [ -n "${ZHENJIN_BENCH_ENV:-}" ]; then
  python=$ZHENJIN_BENCH_ENV/bin/python
else
  make_environment torch "$TORCH" --only-binary :all: numpy "torch==$TORCH"
  python=$cache/torch/bin/python
fi
exec "$python" "$here/training/compare.py" --python "$python" \
  --zhenjin "${ZHENJIN_TRAIN_SPEED:-$root/target/release/examples/train_speed}" "$@"
