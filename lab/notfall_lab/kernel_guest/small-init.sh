#!/busybox sh
# Init of a small guest: takes its addresses, serves one page, and calls the emergency server again
# and again, as an agent would. What it reaches is told on the serial console.
/busybox mkdir -p /bin /proc /sys /dev
/busybox --install -s /bin
export PATH=/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
. /settings
for module in $MODULES; do insmod "/modules/$module" || echo "no $module" >/dev/ttyS0; done
ip link set lo up
ip link set eth0 up
ip -6 address add "$ADDRESS6" dev eth0
if [ "$ADDRESS" ]; then
    ip address add "$ADDRESS" dev eth0
    ip route add default via "$GATEWAY"
else
    udhcpc -i eth0 -b -t 60 -s /lease >/dev/null 2>&1
fi
printf '\n\n   %s\n\n   Debian GNU/Linux, small guest of the tests\n\n   login: ' "$NAME" >/dev/tty0
mkdir /page
echo "$NAME works" >/page/index.html
httpd -p "[::]:$PORT" -h /page
echo UP >/dev/ttyS0
echo "$REPORT" >/dev/ttyS0
while :; do
    nc -w 1 "$SERVER" "$SERVER_PORT" </dev/null >/dev/null 2>&1 && echo REACHED >/dev/ttyS0
    echo ASKED >/dev/ttyS0
    sleep 1
done
