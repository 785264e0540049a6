# Diskless QEMU guests: iPXE, iBFT, Linux's own initiator; their serial consoles with times; their orders.
# shellcheck shell=bash
#
# guest_start ID INITIATOR PORT IQN LUN ORDERS    through iPXE, over user networking
# guest_start_direct ID INITIATOR URL ORDERS      through QEMU's own initiator
# Afterwards GUEST_PID[ID], and $GUESTS/ID/{serial.log,stages}. GUEST_PROGRESS=yes prints the stages as they come.

declare -A GUEST_PID=()
GUESTS=${GUESTS:-$ROOT/build/boot-test}
GUEST_MEMORY_MIB=512
GUEST_PROGRESS=${GUEST_PROGRESS:-no}
# A stock kernel does not run on every /dev/kvm, so acceleration is asked for by hand: STAMPEDE_ACCEL=kvm.
GUEST_ACCEL=${STAMPEDE_ACCEL:-tcg}

guest_start() {
    local id=$1 initiator=$2 port=$3 iqn=$4 lun=$5 orders=$6 folder=$GUESTS/$1
    mkdir -p "$folder/tftp"
    # A refused login is a result, not a shell prompt; after it the guest stays where it is.
    cat >"$folder/tftp/boot.ipxe" <<END
#!ipxe
set initiator-iqn $initiator
set keep-san 1
${GUEST_IPXE:-}
sanboot iscsi:10.0.2.2::$port:$lun:$iqn || echo STAMPEDE san-refused
sleep 3600
END
    guest_qemu "$id" "$orders" \
        -netdev "user,id=net,tftp=$folder/tftp,bootfile=boot.ipxe" -device virtio-net-pci,netdev=net,bootindex=1
}

guest_start_direct() {
    local id=$1 initiator=$2 portal=$3 iqn=$4 lun=$5 orders=$6
    mkdir -p "$GUESTS/$id"
    guest_qemu "$id" "$orders" \
        -blockdev "driver=iscsi,node-name=disk,transport=tcp,portal=$portal,target=$iqn,lun=$lun,initiator-name=$initiator" \
        -device virtio-scsi-pci -device scsi-hd,drive=disk,bootindex=1 \
        -netdev user,id=net -device virtio-net-pci,netdev=net
}

guest_qemu() {
    local id=$1 orders=$2 folder=$GUESTS/$1 name=''
    shift 2
    mkdir -p "$folder"
    [ "$GUEST_PROGRESS" = no ] || name=$id
    rm -f "$folder/stages" "$folder/serial.log"
    : >"$folder/stages"
    : >"$folder/serial.log"
    nice qemu-system-x86_64 -name "$id" -machine "pc,accel=$GUEST_ACCEL" -m $GUEST_MEMORY_MIB -nodefaults \
        -no-user-config -nographic -smbios "type=3,asset=${orders//,/,,}" -monitor "unix:$folder/monitor,server=on,wait=off" \
        -chardev stdio,id=serial,signal=off -serial chardev:serial "$@" \
        </dev/null > >(exec python3 "$LIB/serial.py" "$folder/serial.log" "$folder/stages" "$name") 2>&1 &
    GUEST_PID[$id]=$!
    clean_pid "${GUEST_PID[$id]}"
}

# guest_wait ID PATTERN SECONDS [COUNT]: until the console has shown PATTERN COUNT times (default once).
guest_wait() {
    local id=$1 pattern=$2 left=$(($3 * 4)) count=${4:-1} log=$GUESTS/$1/serial.log
    while [ $left -gt 0 ]; do
        if [ "$(grep -cE -- "$pattern" "$log")" -ge "$count" ]; then return 0; fi
        pid_alive "${GUEST_PID[$id]}" || break
        sleep 0.25
        left=$((left - 1))
    done
    [ "$(grep -cE -- "$pattern" "$log")" -ge "$count" ] && return 0
    say "    $id: no '$pattern' within $3 s; its console ended with:"
    tail -n 4 "$log" | sed 's/^/      /'
    return 1
}

# guest_off ID SECONDS: until it has powered itself off.
guest_off() {
    local left=$(($2 * 4))
    while [ $left -gt 0 ]; do
        if ! pid_alive "${GUEST_PID[$1]}"; then
            wait "${GUEST_PID[$1]}" 2>/dev/null || true
            return 0
        fi
        sleep 0.25
        left=$((left - 1))
    done
    say "    $1: not off within $2 s"
    return 1
}

guest_line() { grep -E -- "$2" "$GUESTS/$1/serial.log" | tail -n "${3:-1}" | sed 's/^\[[^]]*\] //'; }
guest_reset() { timeout 10 python3 "$LIB/monitor.py" "$GUESTS/$1/monitor" system_reset; }
guest_stop() { stop_pid "${GUEST_PID[$1]}" 5; }

# guest_stage ID STAGE [BOOT]: seconds from the start of that boot (default the first), or "-".
guest_stage() {
    awk -v stage="$2" -v boot="${3:-1}" '$1 == boot && $2 == stage { print $3; found = 1; exit } END { if (!found) print "-" }' \
        "$GUESTS/$1/stages"
}

# --- What a guest has to report --------------------------------------------------------------------------------------
problem() {
    say "    $*"
    return 1
}
# reports ID PATTERN: the guest said so.
reports() { grep -qE -- "$2" <<<"$(guest_line "$1" STAMPEDE 1000)" || problem "$1: no report '$2'"; }

# A guest that booted from an untouched clone, wrote, verified and found its own files alone.
own_disk() { # own_disk ID
    reports "$1" "seen: gap:\$" && reports "$1" "wrote: $1" && reports "$1" "done: $1 kept=yes files: $1\$" || return 1
    if guest_line "$1" 'STAMPEDE (BAD|steady end .*bad=[1-9])' | grep .; then problem "$1: bad data"; fi
}
