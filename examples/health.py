"""One machine, a health page on port 3000."""
# /// hotbed
# [machines.machine]
# image = "debian"
# packages = ["python3", "curl"]
# run = ["systemctl enable health.service"]
#
# [machines.machine.files."/srv/health/health"]
# content = '''
# OK
# '''
#
# [machines.machine.files."/etc/systemd/system/health.service"]
# content = '''
# [Unit]
# Description=Health page
#
# [Service]
# ExecStart=/usr/bin/python3 -m http.server --directory /srv/health 3000
# DynamicUser=yes
#
# [Install]
# WantedBy=multi-user.target
# '''
# ///

machine.wait_for_unit("health.service")
machine.wait_for_open_port(3000)
t.assertEqual(machine.succeed("curl --fail --silent http://localhost:3000/health").strip(), "OK")
