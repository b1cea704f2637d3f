#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What a play may leave on a host, a line each. An interface's number at the other end, and the
# address that follows from its own, are others after each boot.
find / -xdev ! -path '/proc/*' ! -path '/sys/*' ! -path '/root/.ansible*' ! -path '/tmp*' \
    ! -path '/var/tmp*' ! -path '/var/log/*' ! -path '/run/*' ! -path '/var/lib/systemd/*' \
    ! -path '*/__pycache__*' -printf 'file %p %m %l\n' | sort
look() {
    name=$1
    shift
    "$@" 2>&1 | sed "s|^|$name |"
}
look run ls /run
look unit systemctl list-unit-files --no-legend --no-pager
look failed systemctl --failed --no-legend --no-pager
ip -brief link show | sed 's/[@ ].*//; s/^/link /'
ip -details link show eth0 | grep prog
look route ip -4 route show table all
look route ip -6 route show table all | sed 's/fe80::[0-9a-f:]*/fe80::/'
look bpf ls /sys/fs/bpf
cat /proc/sys/net/ipv4/conf/*/forwarding | sort | uniq --count | sed 's/^/forwarding /'
exit 0
