#!/bin/sh
# PID 1 of the appliance: one job, then power off. No udev, no network: the nodes of devtmpfs do.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 PYTHONPATH=/opt/notfall/program
mount -t tmpfs -o mode=0755 tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /dev/pts /run/lock /run/lvm
mount -t devpts devpts /dev/pts
ip link set lo up
python3 -m notfallserver.rescue.appliance </dev/null
sync
busybox poweroff -f
