"""A small HTTP API in Python, checked with curl from another machine."""
# /// hotbed
# [machines.server]
# image = "debian"
# packages = ["python3"]
# run = ["systemctl enable api.service"]
#
# [machines.server.files."/opt/api/api.py"]
# content = '''
# import http.server
# import json
#
# class Api(http.server.BaseHTTPRequestHandler):
#     def do_GET(self):
#         found = self.path == "/"
#         body = json.dumps({"message": "Nix is cool!"} if found else {"detail": "Not Found"}).encode()
#         self.send_response(200 if found else 404)
#         self.send_header("Content-Type", "application/json")
#         self.send_header("Content-Length", str(len(body)))
#         self.end_headers()
#         self.wfile.write(body)
#
# http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Api).serve_forever()
# '''
#
# [machines.server.files."/etc/systemd/system/api.service"]
# content = '''
# [Unit]
# Description=A small HTTP API
#
# [Service]
# ExecStart=/usr/bin/python3 /opt/api/api.py
# DynamicUser=yes
#
# [Install]
# WantedBy=multi-user.target
# '''
#
# [machines.client]
# image = "debian"
# packages = ["curl"]
# ///
import json

start_all()

server.wait_for_unit("api.service")
server.wait_for_open_port(8000)

answer = json.loads(client.succeed("curl --fail --silent --show-error http://server:8000/"))
t.assertEqual(answer, {"message": "Nix is cool!"})

with subtest("an unknown path is a 404"):
    status = client.succeed("curl --silent --output /dev/null --write-out '%{http_code}' http://server:8000/nothing")
    t.assertEqual(status, "404")
