#!/bin/bash
# A node dies in the middle of a training job of two ranks on two nodes: the job ends, is queued again, goes on from the newest checkpoint when the node is back, and the weights
# are those of a run of one rank that nobody disturbed, bit for bit. Needs root, slurmctld, slurmd, munge (scripts/setup slurm), mpirun, and zhenjin with the feature mpi.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
zhenjin=$(realpath "${ZHENJIN_BIN:-$here/../../target/release/zhenjin}")
folder=$(mktemp -d /tmp/zhenjin-slurm-XXXXXX)
cleanup() { "$here/cluster.sh" stop "$folder/cluster" >/dev/null 2>&1 || true; rm -rf "$folder"; }
trap cleanup EXIT
fail() { echo "tests/slurm: $*" >&2; tail -n 20 "$folder"/job-*.log "$folder"/cluster/*.log >&2 || true; exit 1; }

options=(--depth 2 --tokens 1500000 --threads 1 --set batch.micro_batches=4 --set batch.sequences=4 --set intervals.checkpoint=5 --set intervals.samples=0)
"$zhenjin" generate stories --count 4000 --out "$folder/stories.txt"
"$zhenjin" tokenizer train "$folder/stories.txt" --split line --vocabulary 1024 --out "$folder/tokenizer" 2>/dev/null
"$zhenjin" tokenize "$folder/stories.txt" --split line --tokenizer "$folder/tokenizer" --out "$folder/shards" 2>/dev/null
"$zhenjin" pretrain --data "$folder/shards" --out "$folder/undisturbed" "${options[@]}" 2>/dev/null

"$here/cluster.sh" start "$folder/cluster" >/dev/null
export SLURM_CONF=$folder/cluster/slurm.conf ZHENJIN=$zhenjin
# The test runs as root, which mpirun wants to hear twice.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
job=$(sbatch --parsable --nodes=2 --ntasks-per-node=1 --ntasks=2 --output="$folder/job-%j.log" "$here/../../deploy/slurm/pretrain.sbatch" \
    "$folder/shards" "$folder/run" "${options[@]}")
for _ in $(seq 240); do
    compgen -G "$folder/run/checkpoints/step-*" >/dev/null && break
    sleep 0.25
done
nodes=$(squeue -h -j "$job" -o %N)
[ "$nodes" = "n[1-2]" ] || fail "the job runs on '$nodes', not on both nodes, or it ended before one could be stopped"
# The script runs on the other node.
node=$([ "$(squeue -h -j "$job" -o %B)" = n1 ] && echo n2 || echo n1)
"$here/cluster.sh" stop-node "$folder/cluster" "$node"
echo "node $node stopped at $(ls "$folder/run/checkpoints" | tail -1)"
restarts() { scontrol show job "$job" | sed -n 's/.*Restarts=\([0-9]*\).*/\1/p'; }
for _ in $(seq 60); do
    [ "$(restarts)" = 0 ] || break
    sleep 1
done
"$here/cluster.sh" start-node "$folder/cluster" "$node"

for _ in $(seq 240); do
    state=$(scontrol show job "$job" | sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p')
    [ "$state" != COMPLETED ] || break
    sleep 1
done
[ "$state" = COMPLETED ] || fail "the job is $state"
[ "$(restarts)" -ge 1 ] || fail "the job was not queued again"

last_start=$(grep '^start' "$folder/job-$job.log" | tail -1)
sums() { (cd "$1/checkpoints/$(ls "$1/checkpoints" | tail -1)" && sha256sum model.safetensors optimiser.safetensors); }
diff <(sums "$folder/undisturbed") <(sums "$folder/run") || fail "the weights differ from those of the undisturbed run"
echo "$last_start"
echo "requeued $(restarts) time(s); weights and optimiser state equal those of the undisturbed run"
