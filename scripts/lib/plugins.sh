# How plugins are made components: scripts/plugins.
# shellcheck shell=bash
#
# Each plugin's crate is built as a module for wasm32-unknown-unknown, without a standard library, and wrapped into a component. Two compilers will do:
#   rustup   with the target wasm32-unknown-unknown, or with the component rust-src, from which `core` and `alloc` are built
#   debian   with the packages DEBIAN_PLUGIN_PACKAGES, which have that source and a linker
DEBIAN_PLUGIN_PACKAGES="rustc-web cargo-web rust-web-src lld-$GUEST_LLVM"
PLUGIN_TARGET=wasm32-unknown-unknown
# Plugins that are part of the product, and those that only tests load.
SHIPPED_PLUGINS=(format-raw format-vhd format-qcow2)
TEST_PLUGINS=(test-evil)

has_wasm_target() { [ -d "$(rustc --print sysroot)/lib/rustlib/$PLUGIN_TARGET/lib" ]; }

# plugin_compiler: prints `rustup`, `rustup-src` or `debian`, or fails when there is none.
plugin_compiler() {
    local wanted=${STAMPEDE_GUEST_COMPILER:-}
    if [ "$wanted" != debian ] && command -v rustup >/dev/null && has_wasm_target; then
        echo rustup
    elif [ "$wanted" != debian ] && command -v rustup >/dev/null && has_source rustc; then
        echo rustup-src
    elif [ "$wanted" != rustup ] && [ -x "$DEBIAN_RUSTC" ] && has_source "$DEBIAN_RUSTC" &&
        command -v "wasm-ld-$GUEST_LLVM" >/dev/null; then
        echo debian
    else
        return 1
    fi
}

# What plugins are made of, the scripts included: a line `SHA-256  path` for each file.
plugin_sources() {
    {
        find plugins -type f \( -name '*.rs' -o -name '*.toml' -o -name '*.wit' -o -name '*.lock' \) \
            -not -path '*/tests/*' -not -path '*/fuzz/*' -not -name tests.rs -print0
        printf '%s\0' scripts/lib/plugins.sh
    } | LC_ALL=C sort -z | xargs -0 sha256sum
}

plugins_up_to_date() {
    local plugin
    for plugin in "${SHIPPED_PLUGINS[@]}"; do [ -s "$GUESTS/plugins/$plugin.wasm" ] || return 1; done
    for plugin in "${TEST_PLUGINS[@]}"; do [ -s "$GUESTS/test-plugins/$plugin.wasm" ] || return 1; done
    [ "$(cat "$GUESTS/plugins.sum" 2>/dev/null)" = "$(plugin_sources)" ]
}

# plugin_module CRATE: builds its module.
plugin_module() {
    local compiler cargo build_std=()
    compiler=$(plugin_compiler) || die "there is no compiler for $PLUGIN_TARGET: run scripts/setup --build"
    case $compiler in
        rustup) cargo=(cargo) ;;
        rustup-src) cargo=(cargo) build_std=(-Zbuild-std=core,alloc) ;;
        debian)
            cargo=(env RUSTC="$DEBIAN_RUSTC" CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="wasm-ld-$GUEST_LLVM" /usr/bin/cargo)
            build_std=(-Zbuild-std=core,alloc)
            ;;
    esac
    # Names of functions stay, for backtraces; what a debugger wants would only make our binary larger.
    RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$GUEST_BUILD/plugins-$compiler" CARGO_PROFILE_RELEASE_PANIC=abort \
        CARGO_PROFILE_RELEASE_DEBUG=false "${cargo[@]}" rustc --manifest-path plugins/Cargo.toml --package "$1" --lib \
        --crate-type cdylib --release --locked --quiet --target "$PLUGIN_TARGET" "${build_std[@]}"
}

# plugin_component PLUGIN FOLDER: builds its component into a folder.
plugin_component() {
    local crate=stampede-$1 compiler
    compiler=$(plugin_compiler)
    plugin_module "$crate"
    mkdir -p "$2"
    "$GUEST_BUILD/host/release/component" \
        "$GUEST_BUILD/plugins-$compiler/$PLUGIN_TARGET/release/${crate//-/_}.wasm" "$2/$1.wasm.new"
    mv "$2/$1.wasm.new" "$2/$1.wasm"
}

build_plugins() {
    local plugin began
    ! plugins_up_to_date || return 0
    began=$(seconds)
    plugin_compiler >/dev/null || die "there is no compiler for $PLUGIN_TARGET: run scripts/setup --build"
    CARGO_TARGET_DIR=$GUEST_BUILD/host cargo build --manifest-path plugins/Cargo.toml --release --locked --quiet \
        --package stampede-component
    rm -rf "$GUESTS/plugins.sum" "$GUESTS/plugins" "$GUESTS/test-plugins"
    for plugin in "${SHIPPED_PLUGINS[@]}"; do plugin_component "$plugin" "$GUESTS/plugins"; done
    for plugin in "${TEST_PLUGINS[@]}"; do plugin_component "$plugin" "$GUESTS/test-plugins"; done
    plugin_sources >"$GUESTS/plugins.sum"
    say "plugins: ${SHIPPED_PLUGINS[*]} built with the compiler of $(plugin_compiler) in $(since "$began") s, in $GUESTS/plugins"
}
