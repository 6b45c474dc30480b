#!/bin/sh
# Hook of mkinitramfs: /lab-boot of the initrd mounts the squashfs and goes on there. Nothing else
# runs in the initrd, above all no udev: under emulation it costs more than the kernel itself.
set -eu
[ "${1:-}" = prereqs ] && exit 0
cat >"$DESTDIR/lab-boot" <<'END'
#!/bin/sh
export PATH=/sbin:/usr/sbin:/bin:/usr/bin
mkdir -p /proc /sys /dev /new
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
modprobe -a virtio_pci virtio_blk squashfs
mount -t squashfs -o ro /dev/vda /new
for directory in dev sys proc; do
    mount -o move "/$directory" "/new/$directory"
done
exec run-init /new /lab-init
END
chmod 755 "$DESTDIR/lab-boot"
