#!/usr/bin/env bash
# The real OpenAI clients, and requests made up from /openapi.json, against the real program with the real small model.
# ZHENJIN_BIN is the program; ZHENJIN_TEST_MODEL a model file or name [default: smollm2:135m]. Installs pinned packages
# into target/clients and nothing elsewhere.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
export ZHENJIN_BIN=${ZHENJIN_BIN:-$root/target/release/zhenjin}
export ZHENJIN_TEST_MODEL=${ZHENJIN_TEST_MODEL:-smollm2:135m}
cache=$root/target/clients
mkdir -p "$cache/node"

if [ ! -x "$ZHENJIN_BIN" ]; then
  echo "tests/clients: there is no program at $ZHENJIN_BIN; \`make build\` makes it, ZHENJIN_BIN names another" >&2
  exit 1
fi

# By its path, so that the tests' servers can have homes of their own.
if [ ! -e "$ZHENJIN_TEST_MODEL" ]; then
  ZHENJIN_TEST_MODEL=$("$ZHENJIN_BIN" inspect "$ZHENJIN_TEST_MODEL" --json | sed -n 's/^  "path": "\(.*\)",$/\1/p')
fi

if ! cmp -s "$here/python/requirements.txt" "$cache/requirements.installed"; then
  python3 -m venv --clear "$cache/venv"
  "$cache/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/python/requirements.txt"
  cp "$here/python/requirements.txt" "$cache/requirements.installed"
fi

cp "$here"/node/*.mjs "$here/node/package.json" "$here/node/package-lock.json" "$cache/node/"
if ! cmp -s "$here/node/package-lock.json" "$cache/node.installed"; then
  (cd "$cache/node" && npm ci --silent --no-audit --no-fund)
  cp "$here/node/package-lock.json" "$cache/node.installed"
fi

"$cache/venv/bin/python" -m pytest -q -p no:cacheprovider "$here/python"
(cd "$cache/node" && node --test --test-timeout=300000 .)
