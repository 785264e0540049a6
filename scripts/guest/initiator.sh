# What every guest with Linux's own initiator does: mounts, the network, iscsid, its node, its disk. Sourced by /init.
# shellcheck shell=sh
# The kernel command line says portal=ADDRESS:PORT, iqn=NAME, lun=N, and perhaps chap=USER:SECRET:NAME:SECRET, the latter two
# the target's own.
PATH=/bin:/sbin:/usr/bin:/usr/sbin
export PATH LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu/ceph
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /run/lock /tmp /var/lib/iscsi
mount -t tmpfs tmp /tmp
for word in $(cat /proc/cmdline); do
    case $word in portal=* | iqn=* | lun=* | chap=*) export "${word?}" ;; esac
done

# Modules, the network, iscsid.
initiator_up() {
    for module in virtio_pci virtio_net sd_mod sg crc32c_generic iscsi_tcp; do modprobe $module; done
    ip link set lo up
    ip addr add 10.0.2.15/24 dev eth0
    ip link set eth0 up
    echo InitiatorName=iqn.2026-11.test:kernel >/etc/iscsi/initiatorname.iscsi
    iscsid -c /etc/iscsi/iscsid.conf
    sleep 1
}

node() { iscsiadm -m node -T "$iqn" -p "$portal" "$@"; }

# The portal in SendTargets is the host's own 127.0.0.1, so the record is made by hand.
node_new() {
    rm -rf /etc/iscsi/nodes /var/lib/iscsi/nodes
    node -o new >/dev/null
}

# The LUN's block device, as $disk.
find_disk() {
    disk=''
    for path in /sys/class/scsi_disk/*:"$lun"; do disk=$(ls "$path/device/block"); done
}
