# Runs a user's systemd that neither sees nor touches anything of this machine: it has a group of control groups of its own,
# which is all that it sees of them, and the folder XDG_RUNTIME_DIR. Ends with an error where that can not be had.
set -e
groups=/sys/fs/cgroup/unified
[ -d $groups ] || groups=/sys/fs/cgroup
[ "$(stat -f -c %T $groups)" = cgroup2fs ]
mkdir "$groups/$GROUP"
echo $$ > "$groups/$GROUP/cgroup.procs"
exec unshare --mount --cgroup sh -ec '
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  # Whatever is in its group, it takes for its own.
  for process in $(cat /sys/fs/cgroup/cgroup.procs); do
    [ "$process" = $$ ] || [ ! -e "/proc/$process" ] || exit 1
  done
  # It only starts where systemd has booted the system, or says so.
  mount -t tmpfs tmpfs /run
  mkdir -p /run/systemd/system
  exec /usr/lib/systemd/systemd --user --log-target=null'
