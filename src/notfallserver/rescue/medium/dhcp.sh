#!/bin/sh
# Called by udhcpc with what the DHCP server said.
case "$1" in
deconfig) ip address flush dev "$interface" scope global ;;
bound | renew)
    ip address replace "$ip/${mask:-24}" dev "$interface"
    for gateway in $router; do
        ip route replace default via "$gateway" dev "$interface"
        break
    done
    : >/etc/resolv.conf
    for server in $dns; do echo "nameserver $server" >>/etc/resolv.conf; done
    ;;
esac
