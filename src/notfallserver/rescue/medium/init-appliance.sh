#!/bin/busybox sh
# /init of the appliance: the squashfs is the virtio disk with the serial "notfall-root".
export PATH=/bin
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /lower /room /root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
modprobe -qa virtio_pci virtio_blk virtio_console squashfs overlay
for disk in /sys/block/vd*; do
    [ "$(cat "$disk/serial")" = notfall-root ] && mount -r -t squashfs "/dev/${disk##*/}" /lower
done
mount -t tmpfs tmpfs /room
mkdir -p /room/upper /room/work
mount -t overlay -o lowerdir=/lower,upperdir=/room/upper,workdir=/room/work overlay /root
mkdir -p /root/opt/notfall
cp -a /notfall/. /root/opt/notfall/
for directory in dev sys proc; do
    mount --move "/$directory" "/root/$directory"
done
exec switch_root /root /bin/sh /opt/notfall/start-appliance.sh
