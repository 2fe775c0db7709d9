"""A systemd service of one's own: an echo server on port 8222, and a client that gets its line back."""
# /// hotbed
# timeout = 300  # the whole test, in seconds
#
# [machines.server]
# image = "debian"
# packages = ["python3"]
# run = ["systemctl enable echo.service"]
#
# [machines.server.files."/usr/local/bin/echo-server"]
# mode = "0755"
# content = '''
# #!/usr/bin/python3
# import socketserver
#
# class Echo(socketserver.StreamRequestHandler):
#     def handle(self):
#         for line in self.rfile:
#             self.wfile.write(line)
#
# socketserver.ThreadingTCPServer.allow_reuse_address = True
# socketserver.ThreadingTCPServer(("0.0.0.0", 8222), Echo).serve_forever()
# '''
#
# [machines.server.files."/etc/systemd/system/echo.service"]
# content = '''
# [Unit]
# Description=Echo server
#
# [Service]
# ExecStart=/usr/local/bin/echo-server
# DynamicUser=yes
#
# [Install]
# WantedBy=multi-user.target
# '''
#
# [machines.client]
# ///

PORT = 8222

start_all()

server.wait_for_unit("echo.service")
server.wait_for_open_port(PORT)
client.wait_for_open_port(PORT, addr="server")

for line in ["hello", "a line with spaces", "ümläut €"]:
    answer = client.succeed(f"echo '{line}' | nc -w 2 server {PORT} | head -n 1")
    t.assertEqual(answer.rstrip("\n"), line)

t.assertEqual(server.get_unit_property("echo.service", "ActiveState"), "active")
