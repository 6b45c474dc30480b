#!/bin/sh
# Run by mmdebstrap when all packages are in: unpacks the kernel without its package's hooks
# (no initramfs-tools needed, the initrds are ours) and leaves out what only costs space.
# $1 root directory, $2 kernel package, $3.. module directories to leave out
set -eu
root=$1 package=$2
shift 2
real=$(chroot "$root" apt-cache depends --important "$package" |
    sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
chroot "$root" sh -c "cd /tmp && apt-get -qq -o APT::Sandbox::User=root download '$real'"
set -- $(for directory; do echo "--exclude=./lib/modules/*/kernel/$directory"; done)
dpkg-deb --fsys-tarfile "$root"/tmp/linux-image-*.deb |
    tar -x -C "$root" --keep-directory-symlink --exclude=./usr/share "$@"
rm -f "$root"/tmp/linux-image-*.deb
version=$(ls "$root/lib/modules")
chroot "$root" depmod "$version"

# Perl serves only packages' scripts; the hardware database only names things
rm -rf "$root"/usr/lib/python3*/test "$root"/usr/share/perl* "$root"/usr/share/zoneinfo \
    "$root"/usr/lib/x86_64-linux-gnu/perl* "$root"/usr/lib/x86_64-linux-gnu/libperl.so* \
    "$root"/usr/lib/udev/hwdb* "$root"/usr/share/grub/*.pf2 "$root"/boot/System.map*
find "$root" -xdev -name __pycache__ -type d -prune -exec rm -rf {} +
chroot "$root" python3 -m compileall -q /usr/lib/python3.11 /usr/lib/python3/dist-packages || true

echo notfall-rescue >"$root/etc/hostname"
ln -sf /proc/mounts "$root/etc/mtab"
mkdir -p "$root/opt/notfall" "$root/volumes"
