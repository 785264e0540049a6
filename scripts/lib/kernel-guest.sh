# A small guest with Linux's own initiator: Debian's cloud kernel, and an initramfs of Debian's own programs.
# shellcheck shell=bash
#
# kernel_guest VARIABLE              makes its folder (vmlinuz, initramfs without /init) in the cache, once
# kernel_guest_initramfs FOLDER OUT SOURCE=PLACE...   OUT: its initramfs with further files, /init among them
# Needs debian-tree.sh.

PROGRAMS=(/bin/busybox /sbin/iscsid /usr/bin/iscsiadm /usr/bin/sg_reset /usr/bin/fio
    /sbin/multipathd /sbin/multipath /sbin/dmsetup /lib/systemd/systemd-udevd /bin/udevadm /lib/udev/scsi_id)
MODULES=(virtio_pci virtio_net sd_mod sg crc32c_generic crc32c_intel iscsi_tcp dm-multipath dm-service-time dm-round-robin)
# What udev must know of disks and of device-mapper's; other rules would only ask for programs that are not there.
UDEV_RULES='*-dm.rules *-dm-*.rules *multipath*.rules 60-block.rules 60-persistent-storage.rules'

kernel_guest() {
    local key made
    key=$(cat "$LIB/kernel-guest.sh" "$LIB/debian-tree.sh" | sha256sum | cut -c1-12)
    made=$CACHE/kernel-guest-$key
    [ -d "$made" ] || kernel_guest_make "$made"
    printf -v "$1" %s "$made"
}

kernel_guest_initramfs() {
    local base=$1 out=$2 stage file place
    shift 2
    new_dir stage
    for file in "$@"; do
        place=$stage/${file#*=}
        mkdir -p "$(dirname "$place")"
        install -m 755 "${file%%=*}" "$place"
    done
    # The kernel unpacks one archive after the other.
    {
        cat "$base/initramfs"
        (cd "$stage" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet)
    } >"$out"
}

# Makes the kernel and the initramfs in $work from the tree in which the programs are installed.
kernel_guest_compose() {
    local tree=$1 root=$1/compose kernel file link applet
    kernel=$(basename "$(readlink "$tree/vmlinuz")")
    kernel=${kernel#vmlinuz-}
    as_root install -d -o "$(id -u)" "$root"
    mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,proc,sys,dev,run,etc/iscsi,tmp,var/lib/iscsi}
    ln -s usr/lib "$root/lib"
    ln -s usr/lib64 "$root/lib64"
    mkdir -p "$root/usr/lib" "$root/usr/lib64"
    {
        printf '%s\n' "${PROGRAMS[@]}"
        for file in "${PROGRAMS[@]}"; do in_tree "$tree" ldd "$file" 2>/dev/null | grep -o '/[^ ]*' || true; done
        # fio, libc and multipathd load these by name when it comes to it.
        in_tree "$tree" sh -c 'ls /lib/x86_64-linux-gnu/libgcc_s.so.1 /lib/x86_64-linux-gnu/libnss_files.so.2 /lib/multipath/*.so' || true
        in_tree "$tree" sh -c "cd /lib/udev/rules.d && ls $UDEV_RULES" | sed 's|^|/lib/udev/rules.d/|'
        for file in "${MODULES[@]}"; do
            in_tree "$tree" modprobe -S "$kernel" --show-depends "$file" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
        done
    } | sort -u >"$work/files"
    while read -r file; do
        link=$(in_tree "$tree" readlink -f "$file")
        mkdir -p "$root$(dirname "$file")"
        as_root cat "$tree$link" >"$root$file"
        chmod 755 "$root$file"
    done <"$work/files"
    as_root cat "$tree/etc/iscsi/iscsid.conf" >"$root/etc/iscsi/iscsid.conf"
    printf 'root:x:0:0:root:/:/bin/sh\n' >"$root/etc/passwd"
    for file in modules.order modules.builtin modules.builtin.modinfo; do
        cp "$tree/lib/modules/$kernel/$file" "$root/usr/lib/modules/$kernel/"
    done
    in_tree "$tree" depmod -b /compose "$kernel"
    for applet in $("$root/bin/busybox" --list); do
        [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
    done
    # The kernel asks for modules (a digest's algorithm) by this path.
    ln -sf ../bin/busybox "$root/sbin/modprobe"
    # Not compressed: the guest's processor is emulated, and unpacking would be the slowest part of its start.
    (cd "$root" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) >"$work/initramfs"
    as_root cat "$tree/boot/vmlinuz-$kernel" >"$work/vmlinuz"
}

kernel_guest_make() {
    local folder=$1 tree tar
    say "kernel initiator's guest: making $folder (a minute or so, once)"
    debian_tree_tar tar
    work=$(mktemp -d "$CACHE/kernel-guest.XXXXXX")
    trap 'as_root rm -rf "$work"; cleanup' EXIT
    tree=$work/tree
    mkdir "$tree"
    as_root tar -C "$tree" -I zstd -xpf "$tar"
    say "  installing fio and its friends"
    in_tree "$tree" sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends fio sg3-utils busybox-static multipath-tools dmsetup' \
        >"$work/install.log" 2>&1 || { tail -n 20 "$work/install.log"; die "fio could not be installed"; }
    say "  composing the initramfs"
    kernel_guest_compose "$tree"
    mkdir -p "$folder.part"
    mv "$work/initramfs" "$work/vmlinuz" "$folder.part/"
    mv "$folder.part" "$folder"
    as_root rm -rf "$work"
    trap cleanup EXIT
    say "  done: $(du -sh "$folder" | cut -f1)"
}
