#!/bin/sh
# Runs in a Debian root after the base system's packages and our files: gives it the test driver's shell.
set -e

systemctl --quiet enable backdoor.service hotbed-agent.service hotbed-coldplug.service
systemctl --quiet set-default multi-user.target
passwd --quiet --delete root
# The unit that takes it away again does not run: nobody may make the file that keeps users out.
ln -sf /dev/null /etc/tmpfiles.d/systemd-nologin.conf
rm -f /etc/fstab
