#!/bin/busybox sh
# /init of the rescue medium: finds the squashfs (in this archive when booted by PXE, else on the
# medium), copies it to memory so that the medium may be taken out, and changes into it.
export PATH=/bin
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /medium /lower /room /root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

say() {
    for console in /dev/tty1 /dev/ttyS0; do
        echo "$1" >"$console" 2>/dev/null
    done
}

load_drivers() {
    find /sys/devices -name modalias -exec cat {} + 2>/dev/null | sort -u |
        xargs modprobe -qa 2>/dev/null
}

find_medium() {
    for device in /dev/sr* /dev/sd* /dev/vd* /dev/nvme*n* /dev/mmcblk*; do
        [ -b "$device" ] || continue
        # the volume label of an ISO, also of one written to a stick or disk
        label=$(dd if="$device" bs=8 skip=4101 count=1 2>/dev/null)
        [ "${label%%" "*}" = NOTFALL ] || continue
        mount -r -t iso9660 "$device" /medium 2>/dev/null || continue
        if [ -f /medium/notfall.squashfs ]; then
            echo "$device" >/room/medium
            return 0
        fi
        umount /medium
    done
    return 1
}

mount -t tmpfs -o size=90% tmpfs /room
modprobe -qa loop squashfs overlay isofs
if [ -f /notfall.squashfs ]; then
    mv /notfall.squashfs /room/notfall.squashfs
else
    say "Notfallserver: looking for the rescue medium ..."
    tries=0
    until load_drivers; find_medium; do
        tries=$((tries + 1))
        if [ "$tries" -gt 60 ]; then
            say "The rescue medium was not found. Plug it in again, or boot by PXE. Shell follows."
            exec sh </dev/console >/dev/console 2>&1
        fi
        sleep 1
    done
    say "Notfallserver: copying the rescue system to memory ..."
    cp /medium/notfall.squashfs /room/notfall.squashfs
    umount /medium
fi

mkdir -p /room/upper /room/work
mount -t squashfs -o loop,ro /room/notfall.squashfs /lower
mount -t overlay -o lowerdir=/lower,upperdir=/room/upper,workdir=/room/work overlay /root
mkdir -p /root/opt/notfall
cp -a /notfall/. /root/opt/notfall/
[ -f /room/medium ] && cp /room/medium /root/opt/notfall/medium
for directory in dev sys proc; do
    mount --move "/$directory" "/root/$directory"
done
exec switch_root /root /bin/sh /opt/notfall/start-live.sh
