# Starts and stops the iSCSI target under test: `stampede`, or Debian's tgt to compare with.
# shellcheck shell=bash
#
# target_start NAME=FILE[,clone=ephemeral|,ro]...   TARGET_KIND says which: stampede (default), tgt, tgt-aio; null, the null
# target, which serves no file.
# Afterwards: TARGET_PID, TARGET_PORT, TARGET_LOG, TARGET_LUN; target_iqn NAME and target_url NAME.

TARGET_KIND=${TARGET_KIND:-stampede}
TARGET_CORES=${TARGET_CORES:-0}
TARGET_PID='' TARGET_PORT='' TARGET_LOG='' TARGET_LUN=0 TARGET_DIR='' TARGET_STATE='' TARGET_CONTROL=''

target_iqn() { printf 'iqn.2026-11.io.stampede:%s' "$1"; }
target_url() { printf 'iscsi://127.0.0.1:%s/%s/%s' "$TARGET_PORT" "$(target_iqn "$1")" "$TARGET_LUN"; }

# TARGET_DIR and TARGET_PORT, when set before, are kept: that is how a restart is tested.
target_start() {
    target_try_start "$@" && return 0
    tail -n 20 "$TARGET_LOG" >&2
    die "$TARGET_KIND did not start: $TARGET_LOG"
}

target_try_start() {
    [ -n "$TARGET_DIR" ] || new_dir TARGET_DIR
    TARGET_STATE=$TARGET_DIR/state
    mkdir -p "$TARGET_STATE"
    TARGET_PORT=${TARGET_PORT:-$(free_port)}
    TARGET_LOG=${TARGET_LOG:-$TARGET_DIR/target.log}
    case $TARGET_KIND in
        stampede) stampede_start "$@" ;;
        tgt) tgt_start rdwr "$@" ;;
        tgt-aio) tgt_start aio "$@" ;;
        null) null_start ;;
        *) die "TARGET_KIND=$TARGET_KIND: stampede, tgt, tgt-aio or null" ;;
    esac
}

stampede_start() {
    local arguments=() spec
    for spec in "$@"; do arguments+=(--target "$spec"); done
    TARGET_LUN=0
    TARGET_CONTROL=$TARGET_DIR/control
    # shellcheck disable=SC2086 # STAMPEDE_OPTIONS is a list of words
    "$STAMPEDE" serve --listen "127.0.0.1:$TARGET_PORT" --cores "$TARGET_CORES" --state-dir "$TARGET_STATE" \
        --control "$TARGET_CONTROL" ${STAMPEDE_OPTIONS:-} "${arguments[@]}" >>"$TARGET_LOG" 2>&1 &
    TARGET_PID=$!
    clean_pid $TARGET_PID
    wait_port "$TARGET_PORT" "$TARGET_PID" 15
}

# tgt has no clones: a spec with clone=ephemeral gets one sparse copy of the image, for whoever logs in.
tgt_start() {
    local backing=$1 spec name file tid=0 control
    shift
    TARGET_LUN=1
    control=$((TARGET_PORT % 30000 + 1))
    TARGET_CONTROL=$control
    mkdir -p /var/run/tgtd
    taskset -c "$TARGET_CORES" tgtd -f -C "$control" --iscsi "portal=127.0.0.1:$TARGET_PORT" >>"$TARGET_LOG" 2>&1 &
    TARGET_PID=$!
    clean_pid $TARGET_PID
    wait_port "$TARGET_PORT" "$TARGET_PID" 15 || return 1
    for spec in "$@"; do
        tid=$((tid + 1)) name=${spec%%=*} file=${spec#*=}
        file=$(realpath "${file%%,*}")
        case $spec in
            *,clone=ephemeral*)
                cp --sparse=always "$file" "$TARGET_DIR/$name.copy"
                file=$TARGET_DIR/$name.copy
                ;;
        esac
        tgtadm -C "$control" --lld iscsi --op new --mode target --tid $tid -T "$(target_iqn "$name")"
        tgtadm -C "$control" --lld iscsi --op new --mode logicalunit --tid $tid --lun 1 -b "$file" --bstype "$backing"
        # tgt takes digests only where it is told to.
        if [ -n "${TGT_DIGESTS:-}" ]; then
            tgtadm -C "$control" --lld iscsi --op update --mode target --tid $tid -n HeaderDigest -v CRC32C
            tgtadm -C "$control" --lld iscsi --op update --mode target --tid $tid -n DataDigest -v CRC32C
        fi
        tgtadm -C "$control" --lld iscsi --op bind --mode target --tid $tid -I ALL
    done
}

null_start() {
    TARGET_LUN=0
    # shellcheck disable=SC2086 # NULL_OPTIONS is a list of words
    "$CARGO_TARGET_DIR/release/null-target" --listen "127.0.0.1:$TARGET_PORT" --cores "$TARGET_CORES" ${NULL_OPTIONS:-} >>"$TARGET_LOG" 2>&1 &
    TARGET_PID=$!
    clean_pid $TARGET_PID
    wait_port "$TARGET_PORT" "$TARGET_PID" 15
}

# tgtd ignores SIGTERM while sessions are open: target_stop falls back to SIGKILL after its limit.
target_stop() {
    local limit=15
    [ "$TARGET_KIND" = stampede ] || limit=1
    stop_pid "$TARGET_PID" $limit
}

target_kill9() {
    kill -KILL "$TARGET_PID"
    wait "$TARGET_PID" 2>/dev/null || true
    # The kernel takes a killed process's rings down a moment later, and its listener with them.
    local left=100
    while [ $left -gt 0 ] && (exec 3<>"/dev/tcp/127.0.0.1/$TARGET_PORT") 2>/dev/null; do
        sleep 0.05
        left=$((left - 1))
    done
}

# target_status: the JSON of `stampede status`, or {} for another target.
target_status() {
    if [ "$TARGET_KIND" = stampede ]; then
        timeout 10 "$STAMPEDE" status --json --control "$TARGET_CONTROL"
    else
        echo '{}'
    fi
}

# CPU seconds of a process with all its threads, to the nanosecond where the kernel has schedstat; and what it holds.
cpu_seconds() {
    if [ -r "/proc/$1/task/$1/schedstat" ]; then
        cat /proc/"$1"/task/*/schedstat | awk '{ ns += $1 } END { printf "%.6f\n", ns / 1e9 }'
    else
        awk -v hz="$(getconf CLK_TCK)" '{ sub(/^.*\) /, ""); print ($12 + $13) / hz }' "/proc/$1/stat"
    fi
}
rss_kib() { awk '/^VmRSS:/ { print $2 }' "/proc/$1/status"; }
open_files() { find "/proc/$1/fd" -mindepth 1 2>/dev/null | wc -l; }
