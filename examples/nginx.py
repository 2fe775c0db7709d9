"""A web server and a client: nginx's welcome page, fetched with curl from another machine."""
# /// hotbed
# [machines.server]
# image = "debian"
# packages = ["nginx-light"]
#
# [machines.client]
# image = "debian"
# packages = ["curl"]
# ///

start_all()

server.wait_for_unit("nginx.service")
server.wait_for_open_port(80)

page = client.succeed("curl --fail --silent --show-error http://server/")
t.assertIn("Welcome to nginx!", page)

with subtest("the page comes over IPv6 too"):
    client.succeed("curl --fail --silent --show-error -6 http://server/ >/dev/null")

with subtest("a stopped server refuses, a started one answers"):
    server.stop_job("nginx.service")
    server.wait_for_closed_port(80)
    client.fail("curl --fail --silent --max-time 5 http://server/")
    server.start_job("nginx.service")
    server.wait_for_open_port(80)
    client.succeed("curl --fail --silent http://server/ >/dev/null")
