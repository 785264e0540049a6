# A minimal Debian 12 root tree with the cloud kernel and open-iscsi, as a tarball in the cache.
# shellcheck shell=bash
#
# Both the golden image and the kernel initiator's initramfs are cut from it. debootstrap and chroot need root.

DEBIAN_SUITE=bookworm
DEBIAN_PACKAGES=systemd-sysv,udev,kmod,iproute2,open-iscsi,initramfs-tools,lz4,e2fsprogs

# debian_tree_tar VARIABLE: makes the tarball unless it is there; puts its path into VARIABLE.
debian_tree_tar() {
    local key file
    key=$(sha256sum "$LIB/debian-tree.sh" | cut -c1-12)
    file="$CACHE/debian-tree-$key.tar.zst"
    if [ ! -s "$file" ]; then
        debian_tree_make "$file"
    fi
    printf -v "$1" %s "$file"
}

# The mirror that this machine's apt takes the suite from; nothing, for debootstrap's own default, when it has none.
debian_mirror() {
    if [ -n "${STAMPEDE_DEBIAN_MIRROR:-}" ]; then
        printf '%s\n' "$STAMPEDE_DEBIAN_MIRROR"
    else
        apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $DEBIAN_SUITE" | sed -n 1p
    fi
}

debian_tree_make() {
    local tar=$1 tree=$CACHE/tree.$$ mirror
    mirror=$(debian_mirror)
    mkdir -p "$CACHE/debs"
    say "  debootstrap $DEBIAN_SUITE (two minutes or so)"
    as_root rm -rf "$tree"
    if ! as_root timeout 1200 debootstrap --variant=minbase --cache-dir="$(realpath "$CACHE")/debs" \
        --include="$DEBIAN_PACKAGES" "$DEBIAN_SUITE" "$tree" ${mirror:+"$mirror"} >"$CACHE/debootstrap.log" 2>&1; then
        tail -n 20 "$CACHE/debootstrap.log" >&2
        die "debootstrap failed: $CACHE/debootstrap.log"
    fi
    say "  installing the kernel"
    debian_tree_configure "$tree"
    if ! in_tree "$tree" sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends linux-image-cloud-amd64' \
        >"$CACHE/kernel-install.log" 2>&1; then
        tail -n 20 "$CACHE/kernel-install.log" >&2
        die "the kernel could not be installed: $CACHE/kernel-install.log"
    fi
    say "  packing the tree"
    as_root tar -C "$tree" --exclude=./var/cache/apt/archives/*.deb --one-file-system -I 'zstd -3 -T0' -cf "$tar.part" .
    as_root mv "$tar.part" "$tar"
    as_root rm -rf "$tree"
}

# in_tree TREE COMMAND...: in the chroot with /proc, without the host's environment, never starting a service.
in_tree() {
    local tree=$1
    shift
    as_root unshare --mount --pid --fork --mount-proc="$tree/proc" -- \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive \
        chroot "$tree" "$@"
}

# What has to be there before the kernel's post-install script makes the initramfs: the initiator logs in from
# the iBFT, and the initramfs holds only what a diskless virtual machine needs (it is read through the BIOS).
debian_tree_configure() {
    local tree=$1 stage
    stage=$(mktemp -d)
    mkdir -p "$stage/etc/iscsi" "$stage/etc/initramfs-tools/conf.d" "$stage/etc/apt/apt.conf.d" "$stage/usr/sbin"
    printf 'ISCSI_AUTO=true\n' >"$stage/etc/iscsi/iscsi.initramfs"
    printf 'MODULES=list\nCOMPRESS=lz4\n' >"$stage/etc/initramfs-tools/conf.d/stampede"
    printf '%s\n' virtio_pci virtio_net virtio_blk virtio_scsi ata_piix sd_mod ext4 crc32c_generic crc32c_intel \
        iscsi_ibft iscsi_tcp af_packet >"$stage/etc/initramfs-tools/modules"
    printf 'APT::Install-Recommends "false";\n' >"$stage/etc/apt/apt.conf.d/99stampede"
    printf '#!/bin/sh\nexit 101\n' >"$stage/usr/sbin/policy-rc.d"
    chmod 755 "$stage/usr/sbin/policy-rc.d"
    # The host may reach its mirror by other rules than a fresh Debian: hand them on.
    local conf
    for conf in $(grep -lsE '^ *Acquire::(http|https|Check)' /etc/apt/apt.conf.d/* || true); do
        cp "$conf" "$stage/etc/apt/apt.conf.d/98host-${conf##*/}"
    done
    as_root cp -r --no-preserve=ownership "$stage/." "$tree/"
    rm -rf "$stage"
}
