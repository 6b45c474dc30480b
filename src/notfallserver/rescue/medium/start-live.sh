#!/bin/sh
# PID 1 of the rescue system: hardware, then our program again and again.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 PYTHONPATH=/opt/notfall/program
mount -t tmpfs -o mode=0755 tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /dev/pts /run/lock
mount -t devpts devpts /dev/pts
mount -t efivarfs efivarfs /sys/firmware/efi/efivars 2>/dev/null
echo 3 >/proc/sys/kernel/printk
hostname notfall-rescue
ip link set lo up
/usr/lib/systemd/systemd-udevd --daemon
udevadm trigger --action=add --type=subsystems
udevadm trigger --action=add --type=devices
udevadm settle --timeout=60
(while :; do setsid busybox getty -n -l /bin/sh 38400 tty2 linux; sleep 1; done) >/dev/null 2>&1 &
while :; do
    python3 -m notfallserver.rescue.main </dev/null
    sleep 2
done
