#!/bin/bash
# Two ranks in two network namespaces with a shaped link between them: seconds of a step, with and without overlap, and the bytes on the wire, beside what
# `zhenjin plan` predicts for that link. Needs root, iproute2, python3, /dev/net/tun, mpirun, and zhenjin with the feature mpi (scripts/setup test).
#
#   tests/link/run.sh [BYTES-PER-SECOND [LATENCY-SECONDS]]        1 Gbit/s and 10 ms unless something else is said
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
zhenjin=$(realpath "${ZHENJIN_BIN:-$here/../../target/release/zhenjin}")
speed=${1:-125000000} latency=${2:-0.010}
# Steps that take about as long to compute as to exchange.
options=(--depth 4 --threads 1 --set batch.sequences=8 --set batch.micro_batches=2 --set data.sequence_length=256 --set model.vocabulary_size=4096)
run=("${options[@]}" --set schedule.steps="${LINK_STEPS:-20}" --set intervals.validation=0 --set intervals.samples=0 --set intervals.checkpoint=0)
folder=$(mktemp -d /tmp/zhenjin-link-XXXXXX)
first=zjl$$-1 second=zjl$$-2
export LINK_NAMESPACE=$second
relay=
cleanup() {
    [ -z "$relay" ] || kill "$relay" 2>/dev/null || true
    ip netns del $first 2>/dev/null || true
    ip netns del $second 2>/dev/null || true
    rm -rf "$folder"
}
trap cleanup EXIT
fail() { echo "tests/link: $*" >&2; cat "$folder"/*.log >&2 || true; exit 1; }

[ "$(id -u)" = 0 ] || fail "network namespaces need root"
ip netns add $first
ip netns add $second
# Before the programs that compute: a packet that the relay delivers late would count as the link's.
nice -n -10 "$here/relay.py" $first $second "$speed" "$latency" > "$folder/relay.log" 2>&1 &
relay=$!
for _ in $(seq 50); do grep -q ready "$folder/relay.log" && break; sleep 0.1; done
grep -q ready "$folder/relay.log" || fail "the link did not come up"
for namespace in $first $second; do
    # The link is idle between steps; TCP must not begin slowly each time.
    ip netns exec $namespace sysctl -q -w net.ipv4.tcp_slow_start_after_idle=0
done
ip netns exec $second python3 "$here/probe.py" serve 10.77.0.2 &
sleep 0.5
echo "link: $speed bytes/s, $latency s one way; one TCP connection measures $(ip netns exec $first python3 "$here/probe.py" 10.77.0.2)"

"$zhenjin" generate stories --count 4000 --out "$folder/stories.txt"
"$zhenjin" tokenizer train "$folder/stories.txt" --split line --vocabulary 1024 --out "$folder/tokenizer" 2>/dev/null
"$zhenjin" tokenize "$folder/stories.txt" --split line --tokenizer "$folder/tokenizer" --out "$folder/shards" 2>/dev/null

# mpirun in the first namespace starts its daemon in the second: two machines as far as it can see, with TCP between them.
train() { # folder, more options
    local out=$1
    shift
    ip netns exec $first unshare --uts bash -c 'hostname machine-1; exec "$@"' - \
        mpirun --allow-run-as-root --bind-to none -n 2 --host 10.77.0.1,10.77.0.2 --mca plm_rsh_agent "$here/agent.sh" -x LINK_NAMESPACE \
        --mca btl tcp,self --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24 \
        "$zhenjin" pretrain --plain --data "$folder/shards" --out "$folder/$out" "${run[@]}" "$@" > "$folder/$out.log" 2>&1 || fail "$out"
}
# Two processes side by side without any exchange: what a rank's computing takes while the other one computes.
alone() {
    "$zhenjin" pretrain --plain --data "$folder/shards" --out "$folder/$1" "${run[@]}" > "$folder/$1.log" 2>&1 || fail "$1"
}
alone alone-1 & other=$!
alone alone-2
wait $other
train overlap
train behind --no-overlap
sums() { (cd "$folder/$1/checkpoints" && cat "$(ls | tail -1)"/{model,optimiser}.safetensors | sha256sum); }
for ranks in overlap behind; do
    [ "$(sums alone-1)" = "$(sums $ranks)" ] || fail "the weights of $ranks are not those of one rank"
done
"$here/compare.py" "$folder" "$zhenjin" "$speed" "$latency" -- "${options[@]}"
