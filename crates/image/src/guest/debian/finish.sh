#!/bin/sh
# Runs last in every Debian root, after the test's own packages, files and commands.
set -e

wants=/usr/lib/systemd/system
unwant() {
    target=$1
    shift
    for unit; do rm -f "$wants/$target.wants/$unit" "/etc/systemd/system/$target.wants/$unit"; done
}

# Each of these is a program that would run at every boot and change nothing: the root comes back as it was with every
# boot, stage 1 has mounted what is to be mounted, and nobody sits at a keyboard. They can be started by hand.
unwant sysinit.target \
    dev-hugepages.mount dev-mqueue.mount kmod-static-nodes.service ldconfig.service proc-sys-fs-binfmt_misc.automount \
    sys-fs-fuse-connections.mount sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    systemd-ask-password-console.path systemd-boot-random-seed.service systemd-firstboot.service \
    systemd-hibernate-clear.service systemd-hwdb-update.service systemd-journal-catalog-update.service \
    systemd-journal-flush.service systemd-machine-id-commit.service systemd-pstore.service \
    systemd-random-seed.service systemd-repart.service systemd-sysctl.service systemd-sysusers.service \
    systemd-tmpfiles-setup-dev-early.service systemd-tmpfiles-setup-dev.service systemd-update-done.service \
    systemd-update-utmp.service
unwant local-fs.target run-lock.mount tmp.mount
unwant sockets.target systemd-journald-audit.socket
unwant multi-user.target getty.target systemd-ask-password-wall.path systemd-update-utmp-runlevel.service \
    systemd-user-sessions.service
unwant timers.target apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
unwant getty.target getty@tty1.service
# These come when they are asked for, by their sockets and bus names.
unwant multi-user.target dbus.service systemd-logind.service

# Modules and kernel settings that the image asks for; stage 1 applies the settings.
grep -qsv '^ *\(#\|;\|$\)' /etc/modules /etc/modules-load.d/* /usr/lib/modules-load.d/* \
    || unwant sysinit.target systemd-modules-load.service
mkdir -p /etc/hotbed
/usr/lib/systemd/systemd-sysctl --cat-config | grep -v '^ *\(#\|;\|$\)' | while IFS='=' read -r name value; do
    name=$(echo "$name" | sed 's/^ *-\? *//; s/ *$//')
    case $name in */*) ;; *) name=$(echo "$name" | tr ./ /.) ;; esac
    case $name in *'*'*) continue ;; esac
    echo "$name $(echo "$value" | sed 's/^ *//')"
done >/etc/hotbed/sysctl

# udev looks at what is there once the shell is, unless the root's own mounts wait for it.
if [ ! -s /etc/fstab ]; then
    unwant sysinit.target systemd-udev-trigger.service systemd-udevd.service
    unwant sockets.target systemd-udevd-control.socket systemd-udevd-kernel.socket
fi

# Generators are programs too: those stay that have work here.
generators=/etc/systemd/system-generators
mkdir -p "$generators"
for path in /usr/lib/systemd/system-generators/systemd-*; do
    ln -sf /dev/null "$generators/${path##*/}"
done
[ ! -s /etc/fstab ] || rm -f "$generators/systemd-fstab-generator"
for script in /etc/init.d/*; do
    name=${script##*/}
    [ -x "$script" ] || continue
    for folder in /usr/lib/systemd/system /etc/systemd/system; do
        [ ! -e "$folder/$name.service" ] && [ ! -e "$folder/${name%.sh}.service" ] || continue 2
    done
    rm -f "$generators/systemd-sysv-generator"
done

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
# What is in /tmp is mmdebstrap's, which still needs it; it is not packed.
rm -rf /var/cache/apt/* /var/lib/apt/lists/*
# Packages bring directories for their logs, and their services want them: only what was logged goes.
find /var/log -type f -delete
rm -f /etc/apt/apt.conf.d/99mmdebstrap /etc/resolv.conf /etc/hostname /etc/machine-id /var/lib/dbus/machine-id
ldconfig
# Nothing was changed since the caches were made: systemd need not look.
touch -r /usr /etc/.updated /var/.updated
