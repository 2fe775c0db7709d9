
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
# The agent is an init: it keeps the shell on hvc0, too.
[ ! -x /hotbed-agent ] || exec /hotbed-agent init
exec /bin/busybox init
