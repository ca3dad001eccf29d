#!/usr/bin/env bash
# A real Slurm on this machine's loopback: one controller and two nodes, for tests. Needs root and
# Debian's slurm-wlm and munge; touches no other Slurm, as it has ports, keys and folders of its own.
#
#   tests/workflow/cluster.sh start FOLDER          prints what to `export` to use it
#   tests/workflow/cluster.sh kill FOLDER NODE      a power cut: all that runs on kaem1 or kaem2 dies
#   tests/workflow/cluster.sh boot FOLDER NODE      the node comes back
#   tests/workflow/cluster.sh stop FOLDER
set -euo pipefail

NODES=(kaem1 kaem2)
export PATH="/usr/sbin:/sbin:$PATH"

fail() {
    echo "cluster.sh: $*" >&2
    exit 1
}

# The first of as many ports on which nothing answers as there are daemons.
free_ports() {
    local first i
    for first in $(shuf --input-range=20000-29000 --head-count=100); do
        for i in $(seq 0 ${#NODES[@]}); do
            (: </dev/tcp/127.0.0.1/$((first + i))) 2>/dev/null && continue 2
        done
        echo "$first"
        return
    done
    fail "no free ports"
}

configure() {
    local i port cpus=$(($(nproc) / ${#NODES[@]}))
    port=$(free_ports)
    mkdir -p "$FOLDER/etc"
    cat >"$SLURM_CONF" <<CONF
ClusterName=kaem
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
AuthType=auth/munge
# A job of a lost node waits as long as its credential is valid before it runs anew.
AuthInfo=socket=$FOLDER/munge/socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
# Seconds without a word after which a node is lost; a real cluster waits minutes.
SlurmdTimeout=10
KillWait=5
MinJobAge=3600
GresTypes=gpu
StateSaveLocation=$FOLDER/state
SlurmctldPidFile=$FOLDER/slurmctld.pid
SlurmctldLogFile=$FOLDER/slurmctld.log
SlurmdPidFile=$FOLDER/slurmd-%n.pid
SlurmdLogFile=$FOLDER/slurmd-%n.log
SlurmdSpoolDir=$FOLDER/spool-%n
CONF
    for i in "${!NODES[@]}"; do
        echo "NodeName=${NODES[i]} NodeHostname=localhost NodeAddr=127.0.0.1 Port=$((port + 1 + i))" \
            "CPUs=$((cpus > 0 ? cpus : 1)) RealMemory=64000" >>"$SLURM_CONF"
    done
    # A GPU for the scheduler, which no program could use.
    sed -i "/^NodeName=${NODES[0]} /s|$| Gres=gpu:1|" "$SLURM_CONF"
    echo "NodeName=${NODES[0]} Name=gpu File=/dev/null" >"$FOLDER/etc/gres.conf"
    echo "PartitionName=kaem Nodes=ALL Default=YES MaxTime=INFINITE State=UP" \
        >>"$SLURM_CONF"
}

# Debian's munged wants a user and folders of its own.
start_munge() {
    install -d -o munge -g munge -m 711 "$FOLDER/munge"
    as_munge mungekey --create --keyfile="$FOLDER/munge/key"
    as_munge munged --key-file="$FOLDER/munge/key" --socket="$FOLDER/munge/socket" \
        --pid-file="$FOLDER/munge/pid" --log-file="$FOLDER/munge/log" \
        --seed-file="$FOLDER/munge/seed"
}

as_munge() {
    setpriv --reuid=munge --regid=munge --clear-groups -- "$@"
}

# A node is a namespace of processes: whoever kills its first process kills all of them, at once.
# It has a name and an /etc/slurm of its own: what runs there does not inherit SLURM_CONF.
boot() {
    mkdir -p "$FOLDER/spool-$1"
    setsid unshare --fork --pid --mount-proc --uts --kill-child=KILL bash -c '
        hostname "$0" && mount --bind "$1" /etc/slurm && exec slurmd -D -N "$0"
    ' "$1" "$FOLDER/etc" </dev/null >"$FOLDER/$1.out" 2>&1 &
    echo $! >"$FOLDER/$1.unshare"
}

cut_power() {
    kill -KILL "$(cat "$FOLDER/$1.unshare")"
    rm "$FOLDER/$1.unshare"
}

await_nodes() {
    local _
    for _ in $(seq 100); do
        [ "$(sinfo --noheader --states=idle --format=%D 2>/dev/null)" = "${#NODES[@]}" ] && return
        sleep 0.2
    done
    sinfo --long >&2 || true
    tail -n 5 "$FOLDER"/*.log "$FOLDER"/*.out >&2
    fail "the nodes did not become idle"
}

start() {
    local program
    [ "$(id -u)" = 0 ] || fail "a Slurm that runs jobs needs root"
    for program in munged slurmctld slurmd unshare setpriv; do
        command -v "$program" >/dev/null || fail "no $program: apt-get install slurm-wlm munge"
    done
    [ ! -e "$SLURM_CONF" ] || fail "$FOLDER is in use: stop that cluster first"
    trap stop EXIT # unless all goes well
    mkdir -p "$FOLDER/state"
    chmod 755 "$FOLDER"
    configure
    start_munge
    slurmctld
    for node in "${NODES[@]}"; do boot "$node"; done
    await_nodes
    trap - EXIT
    echo "SLURM_CONF=$SLURM_CONF"
}

stop() {
    local pidfile
    for node in "${NODES[@]}"; do
        if [ -e "$FOLDER/$node.unshare" ]; then cut_power "$node"; fi
    done
    for pidfile in "$FOLDER/slurmctld.pid" "$FOLDER/munge/pid"; do
        if [ -s "$pidfile" ]; then kill "$(cat "$pidfile")" || true; fi
    done
    rm -f "$SLURM_CONF"
}

[ $# -ge 2 ] || fail "see the head of this file for what it can do"
mkdir -p "$2"
FOLDER=$(realpath "$2")
export SLURM_CONF="$FOLDER/etc/slurm.conf"
case "$1" in
    start) start ;;
    stop) stop ;;
    kill) cut_power "${3:?which node}" ;;
    boot) boot "${3:?which node}" ;;
    *) fail "unknown command $1" ;;
esac
