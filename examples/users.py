"""A user has a program that root has not."""
# /// hotbed
# [machines.machine]
# image = "debian"
# run = [
#   "useradd --create-home --shell /bin/bash alice",
#   "install -D -m 0755 -o alice -g alice /usr/share/hello /home/alice/.local/bin/hello",
# ]
#
# [machines.machine.files."/usr/share/hello"]
# content = '''
# #!/bin/sh
# echo "Hello, $(id -un)!"
# '''
#
# # Every login session, also one by su, gets its own user's programs.
# [machines.machine.files."/etc/security/pam_env.conf"]
# content = '''
# PATH DEFAULT=@{HOME}/.local/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
# '''
# ///

machine.wait_for_unit("multi-user.target")

machine.succeed("su -- alice -c 'which hello'")
machine.fail("su -- root -c 'which hello'")
t.assertEqual(machine.succeed("su -- alice -c hello"), "Hello, alice!\n")
