"""A purchase from the opening of the sale to its payment, by curl, as a shop's developer would
try it; and what is refused on the way."""

import json
import subprocess

from harness import Case, main


class Purchase(Case):
    def curl(self, server, path, *arguments):
        """Returns the status, the headers (lower-case names) and the body."""
        out = subprocess.run(
            ["curl", "-sS", "-i", "--http1.1", "--max-time", "60", server.url + path, *arguments],
            capture_output=True, text=True, check=True).stdout
        head, _, body = out.partition("\n\n" if "\r\n\r\n" not in out else "\r\n\r\n")
        lines = head.splitlines()
        headers = dict(line.split(": ", 1) for line in lines[1:])
        return (int(lines[0].split()[1]), {k.lower(): v for k, v in headers.items()}, body)

    def problem(self, answer):
        status, headers, body = answer
        self.assertEqual(headers["content-type"], "application/problem+json")
        document = json.loads(body)
        self.assertEqual(document["status"], status)
        self.assertTrue(document["type"].startswith("urn:fairsale:problem:"))
        self.assertTrue(document["title"])
        self.assertTrue(document["detail"])
        return status, document["type"].rsplit(":", 1)[1]

    def test_from_the_opening_to_the_payment(self):
        with self.server() as server:
            operator = ["-H", f"Authorization: Bearer {server.operator}"]
            shop = ["-H", f"Authorization: Bearer {server.shop}"]
            terms = json.dumps({"stock": 2, "hold_seconds": 120,
                                "price": {"amount": 4900, "currency": "EUR"}})
            status, _, body = self.curl(server, "/v1/sales/demo", "-X", "PUT", *operator, "-H",
                                        "Content-Type: application/json", "-d", terms)
            self.assertEqual(status, 201, body)
            self.assertEqual(self.curl(server, "/v1/sales/demo", "-X", "PUT", *operator, "-H",
                                       "Content-Type: application/json", "-d", terms)[0], 200)

            # The public page of the sale, and its cache.
            status, headers, body = self.curl(server, "/v1/sales/demo")
            self.assertEqual(status, 200)
            self.assertEqual(headers["cache-control"], "public, max-age=1")
            sale = json.loads(body)
            self.assertEqual((sale["state"], sale["stock"], sale["available"]), ("open", 2, 2))
            self.assertEqual(headers["etag"], f'"{sale["position"]}"')
            self.assertEqual(self.curl(server, "/v1/sales/demo", "-H",
                                       f'If-None-Match: {headers["etag"]}')[0], 304)

            # Alice buys with a token of her own.
            status, _, body = self.curl(server, "/v1/tokens", *shop, "-d", '{"customer":"alice"}')
            self.assertEqual(status, 201, body)
            alice = ["-H", f'Authorization: Bearer {json.loads(body)["token"]}']
            buy = ["-H", "Idempotency-Key: first", "-d", '{"quantity":1}']
            status, headers, first = self.curl(server, "/v1/sales/demo/purchases", *alice, *buy)
            self.assertEqual(status, 201, first)
            self.assertNotIn("idempotent-replayed", headers)
            purchase = json.loads(first)
            self.assertEqual(purchase["status"], "reserved")
            self.assertEqual(purchase["amount"], {"amount": 4900, "currency": "EUR"})
            self.assertEqual(purchase["purchase"], f'demo:{purchase["position"]}')
            self.assertEqual(headers["location"], f'/v1/purchases/{purchase["purchase"]}')

            # A retry is the same answer, byte for byte; another body under the key is not.
            status, headers, again = self.curl(server, "/v1/sales/demo/purchases", *alice, *buy)
            self.assertEqual((status, again), (201, first))
            self.assertEqual(headers["idempotent-replayed"], "true")
            self.assertEqual(
                self.problem(self.curl(server, "/v1/sales/demo/purchases", *alice, "-H",
                                       "Idempotency-Key: first", "-d", '{"quantity":2}')),
                (422, "key_reused"))
            self.assertEqual(
                self.problem(self.curl(server, "/v1/sales/demo/purchases", *alice, "-H",
                                       "Idempotency-Key: second", "-d", '{"quantity":1}')),
                (403, "over_limit"))

            # The rest goes to bob; carol waits.
            self.assertEqual(server.buy("demo", "bob", "k").status, 201)
            carol = server.buy("demo", "carol", "k")
            self.assertEqual((carol.status, carol.json["place"]), (202, 1))

            # Alice reads it, the shop takes the payment, once.
            path = headers["location"]
            status, headers, body = self.curl(server, path, *alice)
            self.assertEqual((status, json.loads(body)["status"]), (200, "reserved"))
            self.assertEqual(headers["cache-control"], "no-store")
            pay = [*shop, "-d", '{"reference":"pay_1","amount":4900,"currency":"EUR"}']
            for _ in range(2):
                status, _, body = self.curl(server, path + "/payment", *pay)
                self.assertEqual((status, json.loads(body)["status"]), (200, "ordered"), body)
            self.assertEqual(
                self.problem(self.curl(server, path, "-X", "DELETE", *alice)),
                (409, "already_ordered"))

            # Bob gives up, so carol is offered his unit.
            listing = json.loads(
                self.curl(server, "/v1/sales/demo/purchases?customer=bob", *shop)[2])
            bob = listing["purchases"][0]["purchase"]
            status, _, body = self.curl(server, f"/v1/purchases/{bob}", "-X", "DELETE", *shop)
            self.assertEqual((status, json.loads(body)["status"]), (200, "cancelled"))
            position = json.loads(body)["position"]
            status, _, body = self.curl(
                server, f'/v1/purchases/{carol.json["purchase"]}?min_seq={position}', *shop)
            self.assertEqual((status, json.loads(body)["status"]), (200, "offered"))

            # The refund puts alice's unit back.
            status, _, body = self.curl(server, path + "/refund", *shop, "-d",
                                        '{"restock":true,"actor":"shop","reason":"returned"}')
            self.assertEqual((status, json.loads(body)["status"]), (200, "refunded"), body)
            sale = json.loads(self.curl(
                server, f'/v1/sales/demo?min_seq={json.loads(body)["position"]}')[2])
            self.assertEqual((sale["available"], sale["held"], sale["sold"]), (1, 1, 0))

    def test_refused_with_the_reason(self):
        with self.server() as server:
            server.open_sale("demo")
            shop = ["-H", f"Authorization: Bearer {server.shop}"]
            mallory = ["-H", f'Authorization: Bearer {server.customer_token("mallory")}']
            key = ["-H", "Idempotency-Key: k"]
            purchases = "/v1/sales/demo/purchases"
            for arguments, expected in [
                # Who is asking?
                ([purchases, *key, "-d", "{}"], (401, "unauthorized")),
                ([purchases, *key, "-H", "Authorization: Bearer wrong", "-d", "{}"],
                 (401, "unauthorized")),
                ([purchases, *mallory, *key, "-d", '{"customer":"alice"}'], (403, "forbidden")),
                (["/v1/sales/other", "-X", "PUT", *shop, "-d", "{}"], (403, "forbidden")),
                # What for?
                ([purchases, *shop, *key, "-d", "not json"], (400, "bad_request")),
                ([purchases, *shop, *key, "-d", '{"customer":"a","colour":"red"}'],
                 (400, "bad_request")),
                ([purchases, *shop, *key, "-d", '{"quantity":1}'], (400, "bad_request")),
                ([purchases, *shop, "-d", '{"customer":"a"}'], (400, "idempotency_key_missing")),
                ([purchases, *shop, *key, "-d", '{"customer":"a","quantity":0}'],
                 (422, "quantity_invalid")),
                ([purchases, *shop, *key, "-H", "Content-Type: text/xml", "-d", "<a/>"],
                 (415, "unsupported_media_type")),
                # Where?
                (["/v1/nowhere"], (404, "not_found")),
                (["/v1/sales/nothing"], (404, "unknown_sale")),
                (["/v1/sales/nothing/purchases", *shop, *key, "-d", '{"customer":"a"}'],
                 (404, "unknown_sale")),
                (["/v1/purchases/demo:999", *shop], (404, "unknown_purchase")),
                (["/v1/sales/demo", "-X", "POST", *shop, "-d", "{}"], (405, "method_not_allowed")),
                (["/livez", "-X", "POST", "-d", "{}"], (405, "method_not_allowed")),
                ([purchases, *shop, *key, "-d", '{"customer":"' + "x" * 20_000 + '"}'],
                 (413, "body_too_large")),
            ]:
                with self.subTest(arguments[0], expected=expected):
                    self.assertEqual(self.problem(self.curl(server, *arguments)), expected)
            self.assertEqual(self.curl(server, "/v1/sales/demo", "-X", "POST", *shop, "-d",
                                       "{}")[1]["allow"], "GET, HEAD, PUT, PATCH")
            self.assertIn("Bearer", self.curl(server, purchases, *key, "-d", "{}")[1]
                          ["www-authenticate"])

    def test_too_many_requests_of_one_customer(self):
        with self.server("--customer-rate", "1", "--customer-burst", "3") as server:
            server.open_sale("demo")
            answers = [server.buy("demo", "alice", f"k{i}") for i in range(5)]
            self.assertEqual([a.status for a in answers], [201, 403, 403, 429, 429])
            self.assertEqual(answers[3].problem, "rate_limited")
            self.assertGreaterEqual(int(answers[3].headers["retry-after"]), 1)
            self.assertIn("ratelimit", answers[3].headers)
            self.assertIn("ratelimit-policy", answers[3].headers)
            # Somebody else is not slowed down, and what was refused left no trace.
            self.assertEqual(server.buy("demo", "bob", "k").status, 201)
            listing = server.request("GET", "/v1/sales/demo/purchases?customer=alice", server.shop)
            self.assertEqual(len(listing.json["purchases"]), 1)


if __name__ == "__main__":
    main()
