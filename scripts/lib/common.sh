# Shared by every script: the repository root, the cache, free ports, clean-up by pid, PASS/FAIL lines.
# shellcheck shell=bash
#
# Source it first: `. "$(dirname "$0")/lib/common.sh"`. It changes to the repository root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/build}"
ROOT=$PWD
LIB=$ROOT/scripts/lib
CACHE="${STAMPEDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stampede}"
# Python would leave its byte code beside the sources.
export PYTHONDONTWRITEBYTECODE=1
STAMPEDE="${STAMPEDE:-$CARGO_TARGET_DIR/release/stampede}"
# rustup's Rust before Debian's, which is there for the eBPF programs alone.
export PATH="$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin"

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# The header comment of the calling script is its --help.
usage() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; }

# --- Clean-up: processes by pid, then folders; in the order opposite to registration ---------------------------------
CLEAN_PIDS=()
CLEAN_DIRS=()
clean_pid() { CLEAN_PIDS+=("$1"); }
clean_dir() { CLEAN_DIRS+=("$1"); }

# stop_pid PID [SECONDS]: SIGTERM, wait up to SECONDS (default 10), then SIGKILL.
stop_pid() {
    local pid=$1 left=$((${2:-10} * 10))
    kill -TERM "$pid" 2>/dev/null || return 0
    while [ $left -gt 0 ] && pid_alive "$pid"; do
        sleep 0.1
        left=$((left - 1))
    done
    if pid_alive "$pid"; then
        kill -KILL "$pid" 2>/dev/null || true
    fi
    wait "$pid" 2>/dev/null || true
}

# A zombie does not count as alive.
pid_alive() {
    local stat
    read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
    # After the name in parentheses, which may hold anything, comes the state.
    stat=${stat##*) }
    [ "${stat:0:1}" != Z ]
}

cleanup() {
    local status=$? i
    trap - EXIT INT TERM
    for ((i = ${#CLEAN_PIDS[@]} - 1; i >= 0; i--)); do stop_pid "${CLEAN_PIDS[i]}" 5; done
    for ((i = ${#CLEAN_DIRS[@]} - 1; i >= 0; i--)); do rm -rf -- "${CLEAN_DIRS[i]}"; done
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# new_dir VARIABLE: a temporary folder that is removed at the end.
new_dir() {
    local made
    made=$(mktemp -d "${TMPDIR:-/tmp}/stampede.XXXXXX")
    clean_dir "$made"
    printf -v "$1" %s "$made"
}

# --- Ports -----------------------------------------------------------------------------------------------------------
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# wait_port PORT PID SECONDS: until something listens; fails at once when PID is gone.
wait_port() {
    local port=$1 pid=$2 left=$(($3 * 10))
    while [ $left -gt 0 ]; do
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return 0; fi
        pid_alive "$pid" || return 1
        sleep 0.1
        left=$((left - 1))
    done
    return 1
}

# --- Results ---------------------------------------------------------------------------------------------------------
PASSED=0
FAILED=0
pass() { PASSED=$((PASSED + 1)); say "PASS $*"; }
fail() { FAILED=$((FAILED + 1)); say "FAIL $*"; }

# check NAME COMMAND...: runs it quietly, one PASS or FAIL line; its output is shown when it fails.
check() {
    local name=$1 out
    shift
    if out=$("$@" 2>&1); then
        pass "$name"
    else
        fail "$name"
        printf '%s\n' "$out" | tail -n 15 | sed 's/^/    /'
    fi
}

# The closing line that CI reads; non-zero when anything failed or nothing ran.
summary() {
    say "$PASSED passed, $FAILED failed"
    [ "$FAILED" -eq 0 ] && [ "$PASSED" -gt 0 ]
}

seconds() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(seconds)" 'BEGIN { printf "%.1f", b - a }'; }

# Builds the daemon unless STAMPEDE_NO_BUILD is set.
build_stampede() {
    if [ -z "${STAMPEDE_NO_BUILD:-}" ]; then
        cargo build --release --workspace --quiet
    fi
    [ -x "$STAMPEDE" ] || die "$STAMPEDE is missing: run cargo build --release"
}

# Builds the daemon and the measuring tools unless STAMPEDE_NO_BUILD is set.
build_perf() {
    local tool
    if [ -z "${STAMPEDE_NO_BUILD:-}" ]; then
        cargo build --release --quiet -p stampede -p storm -p stampede-null-target -p compare
    fi
    for tool in stampede storm null-target floor compare; do
        [ -x "$CARGO_TARGET_DIR/release/$tool" ] || die "$CARGO_TARGET_DIR/release/$tool is missing: run cargo build --release"
    done
}

# Runs a command as root: as it is, or through sudo with this environment's cache.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        command -v sudo >/dev/null || die "needs root (or sudo) for: $1"
        sudo "$@"
    fi
}
