#!/bin/bash
# A Slurm cluster of two nodes on this host, for tests: cluster.sh start FOLDER, cluster.sh stop FOLDER, cluster.sh stop-node FOLDER N.
# Everything lies in FOLDER: keys, configuration, state, logs. It runs as root and touches no other Slurm of this machine.
set -euo pipefail
command=$1 folder=$(mkdir -p "$2" && cd "$2" && pwd)
export SLURM_CONF=$folder/slurm.conf

pid_of() { cat "$folder/$1.pid" 2>/dev/null; }

write_configuration() {
    local host cpus memory
    host=$(hostname -s) cpus=$(nproc) memory=$(awk '/MemTotal/ { print int($2 / 1024) - 64 }' /proc/meminfo)
    mkdir -p "$folder/state" "$folder/spool-n1" "$folder/spool-n2"
    head -c 1024 /dev/urandom > "$folder/munge.key"
    chmod 400 "$folder/munge.key"
    cat > "$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits until the credentials of its first start have expired.
AuthInfo=socket=$folder/munge.socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmctldPort=17917
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
SlurmctldTimeout=10
SlurmdTimeout=10
InactiveLimit=0
KillWait=5
MinJobAge=300
JobRequeue=1
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17918 CPUs=$cpus RealMemory=$memory
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=17919 CPUs=$cpus RealMemory=$memory
PartitionName=test Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
CONF
}

start_node() {
    rm -f "$folder/slurmd-$1.pid"
    slurmd -N "$1" -f "$SLURM_CONF" -c
}

wait_for_nodes() {
    for _ in $(seq 60); do
        [ "$(sinfo -h -o %T | sort -u)" = idle ] && [ "$(sinfo -h -N | wc -l)" = 2 ] && return
        sleep 0.5
    done
    echo "the nodes did not become idle:" >&2
    sinfo >&2
    tail -n 20 "$folder"/*.log >&2
    exit 1
}

case $command in
start)
    write_configuration
    chown -R root "$folder"
    # munged refuses files that others could change.
    chmod 755 "$folder"
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munged.seed"
    slurmctld -f "$SLURM_CONF" -c
    start_node n1
    start_node n2
    wait_for_nodes
    echo "export SLURM_CONF=$SLURM_CONF"
    ;;
start-node) start_node "$3" ;;
# The node's death: its daemon, and the steps of jobs that run on it with everything that they started. Both nodes are on this host: a process says in its environment to
# which one it belongs, and the daemon of its step is its parent.
stop-node)
    kill -9 "$(pid_of "slurmd-$3")"
    doomed=()
    for process in /proc/[0-9]*; do
        environment=$(tr '\0' '\n' < "$process/environ" 2>/dev/null || true)
        grep -qx "SLURMD_NODENAME=$3" <<< "$environment" && grep -qx "SLURM_CONF=$SLURM_CONF" <<< "$environment" || continue
        parent=$(awk '/^PPid:/ { print $2 }' "$process/status" 2>/dev/null || true)
        grep -q slurmstepd "/proc/$parent/comm" 2>/dev/null && doomed+=("$parent")
        doomed+=("${process#/proc/}")
    done
    kill -9 "${doomed[@]}" 2>/dev/null || true
    ;;
stop)
    for daemon in slurmd-n1 slurmd-n2 slurmctld munged; do
        pid=$(pid_of "$daemon") && kill "$pid" 2>/dev/null || true
    done
    ;;
*) echo "usage: cluster.sh start|stop|start-node|stop-node FOLDER [NODE]" >&2; exit 2 ;;
esac
