#!/bin/sh
# Runs last in every Debian root, after the test's own packages, files and commands.
set -e

# Two generators cost a program each at every boot: they stay where they have work.
generators=/etc/systemd/system-generators
has_sysv=
for script in /etc/init.d/*; do
    name=${script##*/}
    [ -x "$script" ] && [ ! -e "/usr/lib/systemd/system/${name%.sh}.service" ] \
        && [ ! -e "/etc/systemd/system/${name%.sh}.service" ] && has_sysv=yes
done
[ -n "$has_sysv" ] || ln -sf /dev/null "$generators/systemd-sysv-generator"
[ -z "$has_sysv" ] || rm -f "$generators/systemd-sysv-generator"
[ -s /etc/fstab ] || ln -sf /dev/null "$generators/systemd-fstab-generator"
[ ! -s /etc/fstab ] || rm -f "$generators/systemd-fstab-generator"

# Device nodes of modules that are loaded when they are opened, such as /dev/net/tun: with the other temporary files.
for list in /usr/lib/modules/*/modules.devname; do
    while read -r module node type; do
        case "$module" in '#'*) continue ;; esac
        case "$type" in
        c*) echo "c! /dev/$node 0600 - - - ${type#c}" ;;
        b*) echo "b! /dev/$node 0600 - - - ${type#b}" ;;
        esac
    done <"$list"
done >/etc/tmpfiles.d/static-nodes.conf

# What kept services from starting while packages were installed goes; the root is packed before mmdebstrap would see to it.
rm -f /usr/sbin/policy-rc.d
[ ! -e /sbin/start-stop-daemon.REAL ] || mv -f /sbin/start-stop-daemon.REAL /sbin/start-stop-daemon

systemd-sysusers
rm -rf /var/cache/apt/* /var/lib/apt/lists/* /tmp/* /run/*
# Packages bring directories for their logs, and their services want them: only what was logged goes.
find /var/log -type f -delete
rm -f /etc/resolv.conf /etc/hostname /etc/machine-id /var/lib/dbus/machine-id /etc/ld.so.cache~
ldconfig
# Nothing was changed since the caches were made: systemd need not look.
touch -r /usr /etc/.updated /var/.updated
