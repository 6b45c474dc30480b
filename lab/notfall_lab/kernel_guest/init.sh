#!/bin/sh
# Init of a kernel guest: runs main.py of the payload, whose answer goes out by the second serial
# port, then powers off. No udev: the nodes of devtmpfs do.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /mnt
mkdir -p /run/lock /run/lvm /run/cryptsetup /mnt/payload
for disk in /sys/block/vd*; do
    [ "$(cat "$disk/serial")" = payload ] && mount -r -t squashfs "/dev/${disk##*/}" /mnt/payload
done
stty -F /dev/ttyS1 raw
python3 /mnt/payload/main.py >/dev/ttyS1
sync
exec python3 -c 'import ctypes; ctypes.CDLL(None).reboot(0x4321FEDC)'
