# PID 1 until the image's own init: loads the modules and gives the machine its identity. What comes before this text
# sets $MODULES, what follows it hands over.
#
# Under emulation a fork costs milliseconds and an exec ten: builtins are used wherever there is one, and busybox runs
# most of its own applets without an exec.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin

fail() {
    echo "<0>hotbed: $1" >/dev/kmsg
    exec /bin/busybox poweroff -f
}

mount -t devtmpfs -o mode=0755 devtmpfs /dev
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys

read -r command_line </proc/cmdline

# The kernel would look twice a second whether to compact its memory: three quarters of what an idle guest costs its host.
[ ! -e /proc/sys/vm/compaction_proactiveness ] || echo 0 >/proc/sys/vm/compaction_proactiveness

# The addresses are the machine's alone: detecting duplicates would only hold them back. Interfaces that are made later
# detect them as usual; those that are there now keep this, as the kernel looks at it again when a link comes up.
echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
modprobe -a $MODULES || fail "a kernel module does not load"

[ -f /etc/hostname ] || fail "the initramfs has no identity"
read -r hostname </etc/hostname
echo "$hostname" >/proc/sys/kernel/hostname

# Interfaces get their names by MAC address; where a wanted name is another's, all go through passing names.
passing=
final=
taken=
number=0
while read -r name mac rest; do
    for path in /sys/class/net/*; do
        read -r found <"$path/address"
        if [ "$found" = "$mac" ] && [ "${path##*/}" != "$name" ]; then
            passing="$passing hotbed$number $mac"
            final="$final $name $mac"
            number=$((number + 1))
            [ -e "/sys/class/net/$name" ] && taken=yes
        fi
    done
done </etc/hotbed/interfaces
[ -z "$taken" ] || nameif $passing || fail "an interface cannot be renamed"
[ -z "$final" ] || nameif $final || fail "an interface cannot be renamed"

ifconfig lo up
while read -r name mac ipv4 netmask ipv6; do
    if [ -e "/sys/class/net/$name" ]; then
        echo 0 >"/proc/sys/net/ipv6/conf/$name/accept_dad" # The card may have been there before the default was set.
        ifconfig "$name" "$ipv4" netmask "$netmask" add "$ipv6" up || fail "$name gets no address"
    else
        echo "<4>hotbed: there is no card for $name ($mac)" >/dev/kmsg
    fi
done </etc/hotbed/interfaces
echo 1 >/proc/sys/net/ipv6/conf/default/accept_dad

# A virtio console cannot print what the kernel said before it was there: it is silent (loglevel=1) until it is told all.
case $command_line in *console=hvc1*)
    tries=0
    until [ -c /dev/hvc1 ]; do
        tries=$((tries + 1))
        [ $tries -lt 5000 ] || fail "there is no second virtio console for the log"
        usleep 1000
    done
    dmesg >/dev/hvc1
    echo 7 >/proc/sys/kernel/printk
    ;;
esac
