#!/busybox sh
# What the small guest does with an address that it got by DHCP.
[ "$1" = bound ] || exit 0
ip address add "$ip/$mask" dev "$interface"
[ -z "$router" ] || ip route add default via "${router%% *}"
echo LEASED >/dev/ttyS0
