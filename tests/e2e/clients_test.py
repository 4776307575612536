"""Clients that others wrote find nothing to complain about: wrk, hey and curl."""

import re
import subprocess

from harness import Case, main

WRK_POST = """
local thread = 0
function setup(t) t:set("id", thread) thread = thread + 1 end
local n = 0
request = function()
  n = n + 1
  local who = id .. "-" .. n
  return wrk.format("POST", "/v1/sales/demo/purchases",
    {["Authorization"] = "Bearer TOKEN", ["Idempotency-Key"] = who,
     ["Content-Type"] = "application/json"},
    '{"quantity":1,"customer":"c' .. who .. '"}')
end
"""


class Clients(Case):
    def run_wrk(self, *arguments):
        out = subprocess.run(["wrk", "-t2", "-c64", "-d2s", *arguments], capture_output=True,
                             text=True, check=True).stdout
        self.assertNotIn("Socket errors", out)
        self.assertNotIn("Non-2xx", out)
        return int(re.search(r"(\d+) requests in", out).group(1))

    def test_wrk(self):
        with self.server() as server:
            server.open_sale("demo", stock=10_000_000)
            self.assertGreater(self.run_wrk(server.url + "/v1/sales/demo"), 1000)
            script = server.path("post.lua")
            with open(script, "w") as f:
                f.write(WRK_POST.replace("TOKEN", server.shop))
            served = self.run_wrk("-s", script, server.url)
            self.assertGreater(served, 1000)
            # wrk cuts its last requests off, so the log may hold a few more than it counted.
            sale = server.request("GET", "/v1/sales/demo").json
            self.assertGreaterEqual(sale["held"], served)
            self.assertLessEqual(sale["held"], served + 64)
            self.assertEqual(sale["available"] + sale["held"], sale["stock"])

    def run_hey(self, server, n, *arguments):
        out = subprocess.run(["hey", "-n", str(n), "-c", "20", *arguments], capture_output=True,
                             text=True, check=True).stdout
        self.assertNotIn("Error distribution", out)
        return {int(s): int(c) for s, c in re.findall(r"\[(\d+)\]\s+(\d+) responses", out)}

    def test_hey(self):
        with self.server("--customer-rate", "0") as server:
            server.open_sale("demo")
            self.assertEqual(self.run_hey(server, 2000, server.url + "/v1/sales/demo"),
                             {200: 2000})
            # 2,000 times the same click, 20 at once: one purchase.
            statuses = self.run_hey(
                server, 2000, "-m", "POST", "-T", "application/json", "-H",
                f"Authorization: Bearer {server.shop}", "-H", "Idempotency-Key: one", "-d",
                '{"customer":"alice"}', server.url + "/v1/sales/demo/purchases")
            self.assertEqual(statuses, {201: 2000})
            self.assertEqual(server.request("GET", "/v1/sales/demo").json["held"], 1)
            # The same without keep-alive.
            self.assertEqual(
                self.run_hey(server, 500, "-disable-keepalive", server.url + "/v1/sales/demo"),
                {200: 500})

    def curl(self, *arguments):
        return subprocess.run(["curl", "-sS", "--max-time", "60", *arguments],
                              capture_output=True, text=True, check=True)

    def test_curl(self):
        with self.server() as server:
            server.open_sale("demo")
            url = server.url + "/v1/sales/demo"
            # Several requests on one connection.
            out = self.curl("-v", url, url, url)
            self.assertEqual(out.stderr.count("Re-using existing connection"), 2, out.stderr)
            # HEAD promises the length of GET and sends nothing.
            head = self.curl("-I", url).stdout
            length = int(re.search(r"(?i)content-length: (\d+)", head).group(1))
            self.assertEqual(length, len(self.curl(url).stdout))
            # HTTP/1.0, and a client that asks before it sends its body.
            self.assertIn('"sku":"demo"', self.curl("--http1.0", url).stdout)
            out = self.curl("-v", "-H", "Expect: 100-continue", "-H", "Idempotency-Key: k", "-H",
                            f"Authorization: Bearer {server.shop}", "-d", '{"customer":"alice"}',
                            url + "/purchases")
            self.assertIn("100 Continue", out.stderr)
            self.assertIn('"status":"reserved"', out.stdout)
            # A body in chunks.
            out = self.curl("-H", "Transfer-Encoding: chunked", "-H", "Idempotency-Key: k", "-H",
                            f"Authorization: Bearer {server.shop}", "-d", '{"customer":"bob"}',
                            url + "/purchases")
            self.assertIn('"status":"reserved"', out.stdout)


if __name__ == "__main__":
    main()
