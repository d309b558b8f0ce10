#!/usr/bin/env bash
# Times steps of alignment beside TRL; writes docs/bench/align.md. Arguments go to align/compare.py (--rounds 3, --workloads dpo-lora, …).
#   ZHENJIN_BIN, ZHENJIN_BENCH_MODEL  the program, and the GGUF file whose weights both programs train in f32
#   ZHENJIN_BENCH_ENV                 a Python environment that has trl, instead of making one
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
source "$here/make_environment.sh"

TRL=1.16.0

if [ -n "${ZHENJIN_BENCH_ENV:-}" ]; then
  python=$ZHENJIN_BENCH_ENV/bin/python
else
  make_environment trl "$TRL" --only-binary :all: numpy torch==2.15.0 "trl==$TRL" peft==0.21.2 gguf
  python=$cache/trl/bin/python
fi
file=$("${ZHENJIN_BIN:-$root/target/release/zhenjin}" inspect "${ZHENJIN_BENCH_MODEL:?the model}" --json | sed -n 's/^  "path": "\(.*\)",$/\1/p')
model=$(mktemp -d)
trap 'rm -rf "$model"' EXIT
"$python" - "$file" "$model" <<'PYTHON'
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

path = Path(sys.argv[1])
given = dict(gguf_file=path.name)
expanded = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **given)
config = expanded.config
# The weights are in f32 now, whatever their file says.
del config.quantization_config
model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
model.load_state_dict(expanded.state_dict())
model.save_pretrained(sys.argv[2])
AutoTokenizer.from_pretrained(path.parent, **given).save_pretrained(sys.argv[2])
PYTHON
"$python" "$here/align/compare.py" --python "$python" --zhenjin "${ZHENJIN_BIN:-$root/target/release/zhenjin}" --model "$model" --gguf "$file" "$@"
