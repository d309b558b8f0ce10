#!/usr/bin/env bash
# Compares `zhenjin serve` with llama-server under load; writes docs/bench/server.* and the table in README.md.
# Arguments go to server_compare.py (--rounds 5, …). Variables as in run.sh, and
#   ZHENJIN_BENCH_LLAMA_SERVER  a built llama-server, instead of building one
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
source "$here/environment.sh"
if [ -n "${ZHENJIN_BENCH_LLAMA_SERVER:-}" ]; then
  llama_server=$ZHENJIN_BENCH_LLAMA_SERVER
else
  make_llama_server
fi
"$python" -m unittest discover --quiet "$here"
exec "$python" "$here/server_compare.py" "${ZHENJIN_BENCH_MODEL:-smollm2:135m}" \
  --zhenjin "${ZHENJIN_BIN:-$root/target/release/zhenjin}" --llama-server "$llama_server" --readme "$root/README.md" "$@"
