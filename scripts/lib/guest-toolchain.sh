# The compiler and linker of the guests (programs that run inside something else, such as the kernel): which, and where.
# shellcheck shell=bash
#
# Two compilers will do, and the first that is there is taken:
#   rustup   rustup's own, with the component rust-src, from which cargo builds `core` for the guest's target
#   debian   the packages DEBIAN_GUEST_PACKAGES, which bring a ready-built `core`
# The linker is bpf-linker on Debian's LLVM, built once into the cache. A compiler with a newer LLVM than the linker's
# writes what that cannot read, so such a rustup is passed over.

GUEST_LLVM=22
BPF_LINKER_VERSION=0.13.0
BPF_LINKER="${STAMPEDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stampede}/bpf-linker/$BPF_LINKER_VERSION-llvm$GUEST_LLVM"
LLVM_PREFIX=/usr/lib/llvm-$GUEST_LLVM
DEBIAN_RUSTC=/usr/bin/rustc
DEBIAN_GUEST_PACKAGES="rustc-web cargo-web libstd-rust-web-dev-bpf"

# llvm_of RUSTC: the major version of its LLVM, or 0.
llvm_of() { "$1" -vV 2>/dev/null | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p' | grep . || echo 0; }

# STAMPEDE_GUEST_COMPILER=rustup or =debian forces one.
rustup_may_do() {
    [ "${STAMPEDE_GUEST_COMPILER:-}" != debian ] || return 1
    command -v rustup >/dev/null && command -v rustc >/dev/null || return 1
    local llvm
    llvm=$(llvm_of rustc)
    [ "$llvm" -gt 0 ] && [ "$llvm" -le $GUEST_LLVM ]
}

has_source() { [ -f "$("$1" --print sysroot)/lib/rustlib/src/rust/library/core/Cargo.toml" ]; }

# guest_compiler: prints `rustup` or `debian`, or fails when there is neither.
guest_compiler() {
    if rustup_may_do && has_source rustc; then
        echo rustup
    elif [ "${STAMPEDE_GUEST_COMPILER:-}" != rustup ] && [ -x "$DEBIAN_RUSTC" ] &&
        [ -d "$("$DEBIAN_RUSTC" --print sysroot)/lib/rustlib/bpfel-unknown-none/lib" ]; then
        echo debian
    else
        return 1
    fi
}
