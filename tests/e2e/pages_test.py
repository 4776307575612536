"""The pages as people meet them: in a headless Chromium, through whole sales and a killed server; and
what they are made of, as curl sees it."""

import contextlib
import json
import os
import re
import subprocess
import sys
import unittest

from harness import PATIENCE, Case, Server, eventually, finish, main
from streams import Curl

HERE = os.path.dirname(os.path.abspath(__file__))
WEB = os.path.join(HERE, "..", "..", "api", "web")
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
          "img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")


def web_files():
    for folder, _, names in os.walk(WEB):
        for name in names:
            if not name.endswith(".md"):
                yield os.path.relpath(os.path.join(folder, name), WEB)


class Pages(Case):
    modules = os.environ.get("FAIRSALE_NODE", "")

    def scenario(self, server, name, steps):
        """Runs a scenario in a browser; `steps` are what it may ask for."""
        images = os.environ.get("FAIRSALE_IMAGES") or os.path.join(self.modules, "images")
        setting = {"url": server.url, "operator": server.operator, "images": images,
                   "modules": self.modules}
        node = subprocess.Popen(["node", os.path.join(HERE, "pages", f"{name}.mjs"),
                                 json.dumps(setting)],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            for line in node.stdout:
                answer = steps[json.loads(line)["ask"]]()
                node.stdin.write(json.dumps(answer if isinstance(answer, dict) else {}) + "\n")
                node.stdin.flush()
            self.assertEqual(node.wait(PATIENCE), 0)
        finally:
            node.kill()
            node.communicate()

    def test_two_shoppers_and_one_unit(self):
        with self.server("--demo") as server:
            hold = 12

            def sale():
                server.open_sale("tour-2027", stock=1, hold_seconds=hold, starts_at=server.soon(10))
                return {"sku": "tour-2027", "hold": hold}

            def second_sale():
                server.open_sale("encore", stock=5, limit_per_customer=2)
                return {"sku": "encore", "stock": 5}

            self.scenario(server, "shoppers", {
                "sale": sale, "second sale": second_sale,
                "kill": server.kill, "start": server.start})
            sale = server.request("GET", "/v1/sales/tour-2027").json
            self.assertEqual((sale["available"], sale["held"], sale["sold"]), (0, 0, 1))

    def test_pages_ask_where_streams_are_refused(self):
        with self.server("--demo", "--max-streams", "1") as server:
            server.open_sale("tour", stock=1)
            bought = server.buy("tour", "rival", "k").json["purchase"]

            def give_up():
                reply = server.request("DELETE", f"/v1/purchases/{bought}", server.shop)
                self.assertEqual(reply.status, 200, reply)

            def close():
                reply = server.request("PATCH", "/v1/sales/tour", server.operator,
                                       {"action": "close", "actor": "olga", "reason": "it is over"})
                self.assertEqual(reply.status, 200, reply)

            with Curl(server, "/v1/sales/tour/events") as only:
                only.begun()
                self.scenario(server, "polling", {"sale": lambda: {"sku": "tour"},
                                                  "the other gives up": give_up,
                                                  "the sale is closed": close})

    def test_an_operators_day(self):
        with self.server("--demo") as server, contextlib.ExitStack() as stack:
            rushes = []

            def rush():
                # One of whom it is known that there is something to explain.
                self.assertEqual(server.buy("autumn-tour", "mia", "k").status, 201)
                process = server.rush("--sku", "autumn-tour", "--attempts", "3000",
                                      "--customers", "1500", "--connections", "16",
                                      "--spike-seconds", "3", "--lead-seconds", "2",
                                      "--tail-seconds", "1", "--no-check")
                rushes.append(process)
                stack.callback(process.kill)

            def webhooks():
                for _ in range(2):
                    reply = server.request("POST", "/v1/webhooks", server.shop,
                                           {"url": "http://127.0.0.1:9/" + "long-path/" * 5})
                    self.assertEqual(reply.status, 201, reply)

            self.scenario(server, "console", {
                "rush": rush, "rush is over": lambda: finish(rushes[0]), "webhooks": webhooks})

    def test_every_file_comes_with_its_type_its_tag_and_the_policy(self):
        with self.server() as server:
            paths = {"index.html": "/", "shop.html": "/s/demo", "console.html": "/console"}
            types = {".html": "text/html", ".js": "text/javascript", ".css": "text/css",
                     ".svg": "image/svg+xml", ".txt": "text/plain"}
            for name in web_files():
                path = paths.get(name, f"/assets/{name}")
                with self.subTest(path):
                    html = {"Accept": "text/html,*/*;q=0.8"}
                    got = server.request("GET", path, headers=html)
                    self.assertEqual(got.status, 200)
                    self.assertEqual(got.headers["content-type"].split(";")[0],
                                     types[os.path.splitext(name)[1]])
                    self.assertEqual(got.headers["content-security-policy"], POLICY)
                    self.assertEqual(got.headers["x-content-type-options"], "nosniff")
                    self.assertEqual(got.headers["referrer-policy"], "no-referrer")
                    if not name.endswith(".html"):
                        with open(os.path.join(WEB, name), "rb") as f:
                            self.assertEqual(got.body, f.read())
                    tag = got.headers["etag"]
                    again = server.request("GET", path, headers={**html, "If-None-Match": tag})
                    self.assertEqual((again.status, again.body, again.headers["etag"]),
                                     (304, b"", tag))
                    head = server.request("HEAD", path, headers=html)
                    self.assertEqual((head.status, head.body, head.headers["content-length"]),
                                     (200, b"", got.headers["content-length"]))
                    posted = server.request("POST", path, headers=html)
                    self.assertEqual((posted.status, posted.problem), (405, "method_not_allowed"))
            for path in ("/assets/", "/assets/nothing.js", "/assets/../console", "/s/", "/s/a%20b",
                         "/s/demo/", "/console/", "/assets/shop.html"):
                self.assertEqual(server.request("GET", path).status, 404, path)

    def test_curl_keeps_an_asset_by_its_tag(self):
        with self.server() as server:
            tag, body = server.path("tag"), server.path("body")
            curl = ["curl", "-sS", "--etag-save", tag, "--etag-compare", tag, "-o", body,
                    "-w", "%{http_code} %{size_download}",
                    server.url + "/assets/vendor/uplot.min.js"]
            first = subprocess.run(curl, capture_output=True, text=True, check=True).stdout
            size = os.path.getsize(os.path.join(WEB, "vendor", "uplot.min.js"))
            self.assertEqual(first, f"200 {size}")
            self.assertEqual(
                subprocess.run(curl, capture_output=True, text=True, check=True).stdout, "304 0")

    def test_programs_get_text_at_the_root_and_browsers_the_index(self):
        with self.server() as server:
            text = server.request("GET", "/")
            self.assertEqual(text.headers["content-type"], "text/plain")
            page = server.request("GET", "/", headers={"Accept": "text/html"})
            self.assertTrue(page.body.startswith(b"<!doctype html>"))
            self.assertEqual(text.headers["vary"], page.headers["vary"])

    def test_guests_and_their_payments_are_there_only_in_a_demo(self):
        with self.server() as server:
            self.assertEqual(server.request("POST", "/v1/guests").status, 404)
            server.open_sale("s", stock=1)
            bought = server.buy("s", "anna", "k").json["purchase"]
            paid = server.request("POST", f"/v1/purchases/{bought}/demo-payment", server.shop)
            self.assertEqual((paid.status, paid.problem), (404, "not_found"))
        with self.server("--demo", "--address-rate", "1", "--address-burst", "12") as server:
            server.open_sale("s", stock=4, price={"amount": 250, "currency": "JPY"},
                             limit_per_customer=2)
            anna, ben = (server.request("POST", "/v1/guests").json for _ in range(2))
            self.assertRegex(anna["customer"], r"^guest-[0-9a-f]{16}$")
            self.assertNotEqual(anna["customer"], ben["customer"])
            bought = server.request("POST", "/v1/sales/s/purchases", anna["token"],
                                    {"quantity": 2}, {"Idempotency-Key": "k"}).json["purchase"]
            where = f"/v1/purchases/{bought}/demo-payment"
            theirs = server.request("POST", where, ben["token"])
            self.assertEqual((theirs.status, theirs.problem), (404, "unknown_purchase"))
            odd = server.request("POST", where, anna["token"], {"outcome": "perhaps"})
            self.assertEqual((odd.status, odd.problem), (400, "bad_request"))
            declined = server.request("POST", where, anna["token"], {"outcome": "declined"})
            self.assertEqual(declined.json["status"], "failure_noted")
            paid = server.request("POST", where, anna["token"])
            self.assertEqual(paid.json["status"], "ordered")
            again = server.request("POST", where, anna["token"])
            self.assertEqual((again.json["status"], again.headers["idempotent-replayed"]),
                             ("ordered", "true"))
            order = eventually("the order is stored", lambda: server.request(
                "GET", "/v1/sales/s/orders", server.shop).json["orders"])[0]
            self.assertEqual(order["amount"], {"amount": 500, "currency": "JPY"})
            statuses = [server.request("POST", "/v1/guests").status for _ in range(12)]
            self.assertEqual(statuses[-1], 429)

    def test_pages_are_told_where_to_pay(self):
        with self.server("--pay-url", 'https://shop.example/pay?a=1&p={purchase}') as server:
            page = server.request("GET", "/s/demo").body.decode()
            self.assertIn('data-demo="no"', page)
            self.assertIn('data-pay-url="https://shop.example/pay?a=1&amp;p={purchase}"', page)

    def test_there_are_words_for_every_reason(self):
        script = """
          const { readFileSync } = await import("node:fs");
          const source = readFileSync(process.argv[1], "base64");
          const { REASONS } = await import("data:text/javascript;base64," + source);
          console.log(JSON.stringify(REASONS));"""
        out = subprocess.run(
            ["node", "--input-type=module", "-e", script, os.path.join(WEB, "lib", "words.js")],
            capture_output=True, text=True, check=True).stdout
        words = json.loads(out)
        # The server counts refusals by each reason that its domain knows.
        with self.server("--public-metrics") as server:
            metrics = server.request("GET", "/metrics").body.decode()
        reasons = set(re.findall(r'fairsale_refusals_total\{reason="(\w+)"\}', metrics))
        self.assertGreater(len(reasons), 20)
        self.assertEqual(reasons, set(words))
        for reason, said in words.items():
            self.assertTrue(said["title"] and said["text"].endswith(".") and "again" in said, reason)


if __name__ == "__main__":
    main()
