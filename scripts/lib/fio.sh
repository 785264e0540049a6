# A fio with the libiscsi engine, which Debian's package leaves out: built from Debian's own source, once, in the cache.
# shellcheck shell=bash
#
# fio_with_libiscsi VARIABLE: builds it unless it is there; puts its path into VARIABLE.

fio_with_libiscsi() {
    local key made
    key=$(sha256sum "$LIB/fio.sh" | cut -c1-12)
    made=$CACHE/fio-$key/fio
    if [ ! -x "$made" ]; then
        scripts/setup --fio
        mkdir -p "$CACHE"
        fio_build "$CACHE/fio-$key"
    fi
    printf -v "$1" %s "$made"
}

# In a subshell, so that its own clean-up is done whatever happens.
fio_build() (
    local folder=$1 work log sources tarball
    say "fio with the libiscsi engine: making $folder (a minute or so, once)"
    work=$(mktemp -d "$CACHE/fio.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    log=$CACHE/fio-build.log
    # This machine's own lists of packages stay as they are.
    mkdir -p "$work/lists/partial" "$work/download"
    printf 'deb-src %s %s main\n' "$(debian_mirror)" "$DEBIAN_SUITE" >"$work/sources.list"
    sources=(-qq -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$work/lists"
        -o APT::Sandbox::User=root)
    {
        as_root apt-get update "${sources[@]}" &&
            (cd "$work/download" && as_root apt-get source "${sources[@]}" --download-only fio) &&
            tarball=$(echo "$work"/download/fio_*.orig.tar.*z) &&
            mkdir "$work/source" &&
            tar -C "$work/source" --strip-components=1 -xf "$tarball" &&
            cd "$work/source" &&
            # Only what the job files need; nothing that only this machine's processor has.
            ./configure --enable-libiscsi --disable-native &&
            grep -q '^CONFIG_LIBISCSI=y' config-host.mak &&
            make -j "$(nproc)" fio
    } >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "fio could not be built: $log"; }
    ./fio --enghelp | grep -qw libiscsi || die "the fio that was built has no libiscsi engine: $log"
    mkdir -p "$folder"
    mv fio "$folder/fio.part"
    mv "$folder/fio.part" "$folder/fio"
    say "  done: $("$folder/fio" --version)"
)
