#!/usr/bin/env bash
# Makes the Python environments of `make bench` and the llama-server of `make bench-server` in a cache outside the tree, once.
# What cannot be made is not fatal: the reason goes into a file NAME.missing, and the tables tell it.
# Sourced; sets: cache, python_options (for compare.py), missing_options, llama_server.
set -euo pipefail

LLAMA_CPP=0.3.36
IK_LLAMA_CPP=0.1.5
OPENVINO=2026.4.1

source "$(dirname "${BASH_SOURCE[0]}")/make_environment.sh"
python_options=()
missing_options=()

# The libraries' own build systems use as many jobs as there are cores.
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
export CMAKE_ARGS="-DGGML_NATIVE=ON"

# The llama-server of the same sources as the library.
make_llama_server() {
  llama_server=$cache/llama-server-$LLAMA_CPP/bin/llama-server
  [ -x "$llama_server" ] && return 0
  say "building llama-server $LLAMA_CPP (minutes; the log is $cache/llama-server.log)"
  rm -f "$cache/llama-server.missing"
  local sources=$cache/sources
  mkdir -p "$sources"
  if {
    [ -f "$sources/llama_cpp_python-$LLAMA_CPP.tar.gz" ] || "$python" -m pip download --disable-pip-version-check --no-deps \
      --no-binary :all: --dest "$sources" "llama-cpp-python==$LLAMA_CPP"
    tar -xzf "$sources/llama_cpp_python-$LLAMA_CPP.tar.gz" -C "$sources"
    cmake=$(command -v cmake || { "$python" -m pip install --quiet cmake ninja && echo "$(dirname "$python")/cmake"; })
    "$cmake" -S "$sources/llama_cpp_python-$LLAMA_CPP/vendor/llama.cpp" -B "$cache/llama-server-$LLAMA_CPP" \
      -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_UI=OFF \
      -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF
    "$cmake" --build "$cache/llama-server-$LLAMA_CPP" --parallel "$CMAKE_BUILD_PARALLEL_LEVEL" --target llama-server
  } >"$cache/llama-server.log" 2>&1; then
    return 0
  fi
  say "llama-server cannot be built; see $cache/llama-server.log"
  return 1
}

if [ -n "${ZHENJIN_BENCH_ENV:-}" ]; then
  # An environment that already has everything.
  python=$ZHENJIN_BENCH_ENV/bin/python
  python_options+=(--python "default=$python")
else
  # Without the driver's own packages there is no plot, but there are numbers.
  make_environment driver "numpy matplotlib" numpy matplotlib || true
  python=$cache/driver/bin/python
  present() { python_options+=(--python "$1=$cache/$2/bin/python"); }
  missing() { missing_options+=(--missing "$1=could not be installed: $(cat "$cache/$2.missing")"); }
  if make_environment llama-cpp "$LLAMA_CPP" numpy --no-binary llama-cpp-python "llama-cpp-python==$LLAMA_CPP"; then
    present llama_cpp llama-cpp
  else
    missing llama_cpp llama-cpp
  fi
  # The wheel is built for AVX2; the source package lacks a file that its build needs. The table tells the instructions.
  if make_environment ik-llama-cpp "$IK_LLAMA_CPP" numpy --only-binary ik-llama-cpp-python "ik-llama-cpp-python==$IK_LLAMA_CPP"; then
    present ik_llama_cpp ik-llama-cpp
  else
    missing ik_llama_cpp ik-llama-cpp
  fi
  if make_environment openvino "$OPENVINO" numpy "openvino-genai==$OPENVINO"; then
    present openvino openvino
  else
    missing openvino openvino
  fi
  python_options+=(--python "default=$python")
fi
