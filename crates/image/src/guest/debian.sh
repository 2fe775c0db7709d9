
root=
for path in /sys/block/vd*; do
    serial=
    read -r serial <"$path/serial" # There is no newline at its end, and so no success.
    [ "$serial" = root ] && root="/dev/${path##*/}"
done
[ -n "$root" ] || fail "there is no disk with the serial root"
mkdir /lower /upper /merged
mount -t erofs -o ro "$root" /lower || fail "the root does not mount"
mount -t tmpfs -o mode=0755,size=80% tmpfs /upper
mkdir /upper/data /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work overlay /merged || fail "no overlay"
cp /etc/hostname /etc/hosts /etc/machine-id /merged/etc/
if [ -x /hotbed-agent ]; then
    mkdir -p /merged/usr/local/lib/hotbed
    cp /hotbed-agent /merged/usr/local/lib/hotbed/
fi
mount -o move /dev /merged/dev
mount -o move /proc /merged/proc
mount -o move /sys /merged/sys

while read -r path value; do
    [ ! -e "/merged/proc/sys/$path" ] || echo "$value" >"/merged/proc/sys/$path"
done </lower/etc/hotbed/sysctl

# systemd has units for these, each of which would start a program.
mkdir /merged/dev/mqueue /merged/dev/hugepages
mount -t mqueue -o nosuid,nodev,noexec mqueue /merged/dev/mqueue
mount -t hugetlbfs hugetlbfs /merged/dev/hugepages
mount -t tracefs -o nosuid,nodev,noexec tracefs /merged/sys/kernel/tracing
mount -t debugfs -o nosuid,nodev,noexec debugfs /merged/sys/kernel/debug
exec /bin/busybox switch_root /merged /sbin/init
