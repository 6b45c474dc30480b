#!/bin/sh
# PID 1 of a target in the matrix: starts as the rescue system does, udev included, but has its one
# order and its answer from the appliance's disks and ports. Part of the lab only.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 PYTHONPATH=/opt/notfall/program
mount -t tmpfs -o mode=0755 tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /dev/pts /run/lock
mount -t devpts devpts /dev/pts
/usr/lib/systemd/systemd-udevd --daemon
udevadm trigger --action=add --type=subsystems
udevadm trigger --action=add --type=devices
udevadm settle --timeout=60
python3 /opt/notfall/target_work.py </dev/null
sync
busybox poweroff -f
