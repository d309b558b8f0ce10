#!/usr/bin/env bash
# Python environments in a cache outside the tree, made once. Sourced; sets: cache, say, make_environment.
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/zhenjin-bench
mkdir -p "$cache"

say() { printf 'bench: %s\n' "$*" >&2; }

# make_environment NAME VERSION PIP_ARGUMENTS…: installs into $cache/NAME; the packages' versions are its stamp.
make_environment() {
  local name=$1 version=$2
  shift 2
  local folder=$cache/$name
  [ "$(cat "$folder/installed" 2>/dev/null)" = "$version" ] && return 0
  say "installing $name $version (a library built from source takes minutes; the log is $cache/$name.log)"
  rm -f "$cache/$name.missing"
  if python3 -m venv --clear "$folder" >"$cache/$name.log" 2>&1 \
    && "$folder/bin/python" -m pip install --disable-pip-version-check "$@" >>"$cache/$name.log" 2>&1; then
    echo "$version" >"$folder/installed"
  else
    grep -v '^ *$' "$cache/$name.log" | tail -1 | cut -c1-200 >"$cache/$name.missing"
    say "$name cannot be installed: $(cat "$cache/$name.missing")"
    return 1
  fi
}
