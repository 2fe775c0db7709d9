#!/bin/sh
# Runs once in a new Debian root, after its packages: makes it a machine that boots fast and tells all.
set -e

# --- the test driver's shell
systemctl --quiet enable backdoor.service hotbed-coldplug.service

# --- what a machine without a keyboard, a clock to adjust or a life after the test has no use for
for timer in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer; do
    systemctl --quiet disable "$timer" 2>/dev/null || true
done
systemctl --quiet disable getty@tty1.service systemd-pstore.service 2>/dev/null || true
systemctl --quiet set-default multi-user.target

# Programs that would run at every boot and change nothing: the root comes back as it was with every boot.
for unit in \
    e2scrub_reap.service kmod-static-nodes.service proc-sys-fs-binfmt_misc.automount \
    systemd-boot-random-seed.service systemd-boot-update.service systemd-firstboot.service \
    systemd-hwdb-update.service systemd-journal-catalog-update.service systemd-journal-flush.service \
    systemd-journald-audit.socket systemd-machine-id-commit.service systemd-random-seed.service \
    systemd-repart.service systemd-sysusers.service systemd-tmpfiles-setup-dev.service \
    systemd-tmpfiles-setup-dev-early.service systemd-update-done.service systemd-update-utmp.service \
    systemd-update-utmp-runlevel.service systemd-user-sessions.service; do
    [ ! -e "/usr/lib/systemd/system/$unit" ] || ln -sf /dev/null "/etc/systemd/system/$unit"
done
# Without the unit that removes it, nobody may make the file that keeps users out.
ln -sf /dev/null /etc/tmpfiles.d/systemd-nologin.conf

# These come when they are asked for, by their sockets and bus names.
for unit in dbus.service systemd-logind.service getty.target systemd-ask-password-wall.path; do
    rm -f "/usr/lib/systemd/system/multi-user.target.wants/$unit"
done
rm -f /usr/lib/systemd/system/sysinit.target.wants/systemd-ask-password-console.path
rm -f /usr/lib/systemd/system/sysinit.target.wants/systemd-udev-trigger.service

# Generators are programs too; none of these finds anything here.
mkdir -p /etc/systemd/system-generators
for path in /usr/lib/systemd/system-generators/*; do
    case "${path##*/}" in
    systemd-debug-generator | systemd-fstab-generator | systemd-run-generator | systemd-sysv-generator) ;;
    systemd-*) ln -sf /dev/null "/etc/systemd/system-generators/${path##*/}" ;;
    esac
done

passwd --quiet --delete root
rm -f /etc/fstab /etc/apt/apt.conf.d/99mmdebstrap
