#!/bin/sh
# Runs in each system of the matrix when it is up: tells on the serial line what came up, and then
# its addresses for a while, which may come later.
say() { printf 'proof %s\n' "$*" >/dev/ttyS0; }
state=$(systemctl is-system-running --wait)
echo >/dev/ttyS0
say begin "$(hostname)"
say kernel "$(uname -r)"
systemctl --failed --no-legend --plain | while read -r unit _; do say failed "$unit"; done
findmnt -rn -o TARGET,SOURCE,FSTYPE / | while read -r line; do say mount "$line"; done
findmnt -rn -o TARGET,SOURCE,FSTYPE /boot | while read -r line; do say mount "$line"; done
findmnt -rn -o TARGET,SOURCE,FSTYPE /boot/efi | while read -r line; do say mount "$line"; done
findmnt -rn -o TARGET,SOURCE,FSTYPE /srv | while read -r line; do say mount "$line"; done
[ -e /srv/data ] && say data "$(cat /srv/data)"
swapon --noheadings --show=NAME | while read -r line; do say swap "$line"; done
say role "$(cat /etc/notfall-agent/role 2>/dev/null)"
[ -e /proc/mdstat ] && say arrays "$(grep -c '\[UU\]' /proc/mdstat)"
[ -e /proc/mdstat ] && say members "$(grep -o '\[[U_]*\]' /proc/mdstat)"
say size "$(df -B1 --output=size / | tail -n 1)"
for file in /sys/firmware/efi/efivars/SecureBoot-*; do
    [ -e "$file" ] && say secure "$(od -An -tu1 -j4 -N1 "$file" | tr -d ' ')"
done
for line in /sys/class/net/*; do
    [ -e "$line/device" ] && say card "${line##*/}" "$(cat "$line/address")"
done
say state "$state"
say end
count=0
while [ $count -lt 60 ]; do
    ip -o -4 addr show scope global | while read -r _ name _ address _; do say address "$name" "$address"; done
    say told
    count=$((count + 1))
    sleep 2
done
