# Slurm: a controller and two nodes on this machine. Debian: slurm-wlm munge.
example=$kind
environment=", SLURM_CONF: '$scratch/slurm/slurm.conf'"

adapted() { cat; }

engine_up() {
    local here=$scratch/slurm host
    host=$(hostname -s)
    mkdir -p "$here/munge" "$here/state"
    head -c 1024 /dev/urandom > "$here/munge/key"
    chmod 700 "$here/munge"
    chmod 400 "$here/munge/key"
    # munged wants no directory that others may write to above its own; a scratch directory is below /tmp.
    munged --force --foreground --socket="$here/munge/socket" --key-file="$here/munge/key" \
        --log-file="$here/munge/log" --pid-file="$here/munge/pid" --seed-file="$here/munge/seed" \
        > "$here/munge/out" 2>&1 &
    daemons=$!
    cat > "$here/slurm.conf" << C
ClusterName=engines
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$here/munge/socket
CredType=cred/munge
StateSaveLocation=$here/state
SlurmdSpoolDir=$here/spool-%n
SlurmctldPidFile=$here/controller.pid
SlurmdPidFile=$here/%n.pid
SlurmctldLogFile=$here/controller.log
SlurmdLogFile=$here/%n.log
SlurmctldPort=26817
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=5
MessageTimeout=30
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=26821 CPUs=8
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=26822 CPUs=8
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
C
    export SLURM_CONF=$here/slurm.conf
    slurmctld -D > "$here/controller.out" 2>&1 &
    daemons="$daemons $!"
    for node in n1 n2; do
        slurmd -D -N $node > "$here/$node.out" 2>&1 &
        daemons="$daemons $!"
    done
    for _ in $(seq 120); do
        [ "$(sinfo --noheader --states=idle --format=%D 2> /dev/null)" = 2 ] && return
        sleep 0.5
    done
    sinfo
    tail -3 "$here"/*.log "$here"/*.out
    return 1
}

engine_down() {
    scancel --user=root 2> /dev/null
    for pid in $daemons; do kill "$pid" 2> /dev/null; done
    wait $daemons 2> /dev/null
}
