"""The OpenAPI document is what the server does: every operation in it is tried, and every answer is
held against it."""

import json
import os
import re

from gateway import new_payment_secret, signed
from harness import Case, eventually, main
from streams import Curl, Reader

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
METHODS = ("get", "put", "post", "patch", "delete", "options")
PROBLEM = "urn:fairsale:problem:"

# The answer to another method is none of an operation's; "default" describes it.
DEFAULT = {405}

ANNOTATIONS = {"description", "example", "examples", "default", "format", "title", "deprecated"}


class Mismatch(AssertionError):
    pass


def is_type(value, name):
    if name == "null":
        return value is None
    if name == "boolean":
        return isinstance(value, bool)
    if name == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if name == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, {"string": str, "array": list, "object": dict}[name])


class Document:
    def __init__(self, tree):
        self.tree = tree

    def resolve(self, node):
        while "$ref" in node:
            assert node["$ref"].startswith("#/"), node
            target = self.tree
            for part in node["$ref"][2:].split("/"):
                target = target[part]
            node = target
        return node

    def operations(self):
        for path, item in self.tree["paths"].items():
            for method in item:
                if method in METHODS:
                    yield path, method

    def allowed(self, path):
        methods = {m.upper() for m in self.tree["paths"][path] if m in METHODS}
        return methods | ({"HEAD"} if "GET" in methods else set())

    def response(self, path, method, status):
        responses = self.tree["paths"][path][method]["responses"]
        found = responses.get(str(status))
        if found is None and status in DEFAULT:
            found = responses.get("default")
        if found is None:
            raise Mismatch(f"{method} {path}: {status} is not documented")
        return self.resolve(found)

    def validate(self, value, schema, where="$"):
        """The part of JSON Schema that the document uses; another keyword is an error, so that
        none is passed over in silence."""
        def fail(why):
            raise Mismatch(f"{where}: {why}: {json.dumps(value)[:200]}")

        for word, rule in schema.items():
            if word == "$ref":
                self.validate(value, self.resolve(schema), where)
            elif word == "type":
                if not any(is_type(value, t) for t in ([rule] if isinstance(rule, str) else rule)):
                    fail(f"is not of type {rule}")
            elif word == "enum":
                if value not in rule:
                    fail("is not in the enum")
            elif word == "const":
                if value != rule:
                    fail(f"is not {rule!r}")
            elif word == "required":
                for name in rule:
                    if isinstance(value, dict) and name not in value:
                        fail(f"lacks {name}")
            elif word == "properties":
                for name, inner in rule.items():
                    if isinstance(value, dict) and name in value:
                        self.validate(value[name], inner, f"{where}.{name}")
            elif word == "additionalProperties":
                assert rule is False, "only false is known here"
                extra = set(value) - set(schema["properties"]) if isinstance(value, dict) else ()
                if extra:
                    fail(f"has undocumented members {sorted(extra)}")
            elif word == "items":
                for i, item in enumerate(value if isinstance(value, list) else ()):
                    self.validate(item, rule, f"{where}[{i}]")
            elif word == "allOf":
                for inner in rule:
                    self.validate(value, inner, where)
            elif word in ("oneOf", "anyOf"):
                fits, misfits = 0, []
                for inner in rule:
                    try:
                        self.validate(value, inner, where)
                        fits += 1
                    except Mismatch as e:
                        misfits.append(str(e))
                if fits == 0 or (word == "oneOf" and fits > 1):
                    fail(f"fits {fits} of {word}; {misfits}")
            elif word == "pattern":
                if isinstance(value, str) and not re.search(rule, value, re.ASCII):
                    fail(f"does not match {rule}")
            elif word in ("minLength", "maxLength"):
                if isinstance(value, str) and (len(value) < rule if word == "minLength"
                                               else len(value) > rule):
                    fail(f"is against {word} {rule}")
            elif word in ("minimum", "maximum", "exclusiveMinimum"):
                if is_type(value, "number") and {"minimum": value < rule, "maximum": value > rule,
                                                 "exclusiveMinimum": value <= rule}[word]:
                    fail(f"is against {word} {rule}")
            elif word not in ANNOTATIONS and not word.startswith("x-"):
                raise AssertionError(f"{where}: the test does not know the keyword {word}")


PAYMENT_SECRET = new_payment_secret()


def document_file():
    with open(os.path.join(ROOT, "api", "openapi.json"), "rb") as f:
        return f.read()


class OpenApi(Case):
    def setUp(self):
        self.document = Document(json.loads(document_file()))
        self.seen = set()  # (path, method, status)
        self.types = set(self.document.resolve(
            self.document.tree["components"]["schemas"]["Problem"])["properties"]["type"]["enum"])

    def server(self, *options):
        server = super().server(*options)
        server.environment["FAIRSALE_PAYMENT_SECRET"] = PAYMENT_SECRET
        return server

    def check(self, path, method, reply):
        """Holds an answer against what the document says of the operation."""
        where = f"{method} {path} {reply.status}"
        response = self.document.response(path, method, reply.status)
        self.seen.add((path, method, reply.status))
        for name, header in response.get("headers", {}).items():
            header = self.document.resolve(header)
            value = reply.headers.get(name.lower())
            if value is None:
                self.assertFalse(header.get("required"), f"{where}: no {name}")
            else:
                schema = self.document.resolve(header["schema"])
                number = schema.get("type") == "integer"
                self.document.validate(int(value) if number else value, schema, f"{where} {name}")
        content = response.get("content")
        if content is None:
            self.assertEqual(reply.body, b"", where)
            return
        media = reply.headers["content-type"]
        self.assertIn(media, content, where)
        value = reply.json if "json" in media else reply.body.decode()
        self.document.validate(value, content[media]["schema"], where)
        if media == "application/problem+json":
            self.assertIn(value["type"], self.types, where)
            self.assertEqual(value["status"], reply.status, where)

    def call(self, server, method, path, status, token=None, body=None, headers=None, **names):
        """`path` is the document's; `names` fill it, a query is given as query="a=b". A body with a
        good answer must be one that the document allows."""
        query = names.pop("query", "")
        reply = server.request(method.upper(), path.format(**names) + (query and "?" + query),
                               token, body, headers)
        self.assertEqual(reply.status, status, f"{method} {path}: {reply}")
        self.check(path, method, reply)
        if body is not None and status < 300:
            wanted = self.document.resolve(self.document.tree["paths"][path][method]["requestBody"])
            value = json.loads(body) if isinstance(body, str) else body
            self.document.validate(value, wanted["content"]["application/json"]["schema"],
                                   f"body of {method} {path}")
        return reply

    def events(self, content, events, where):
        """Holds the events of a stream against what is documented of them."""
        for e in events:
            kinds = [k for k in content["x-events"] if self.fits(e.name, k["event"])]
            self.assertEqual(len(kinds), 1, f"{where}: {e}")
            self.assertEqual(e.id is not None, kinds[0]["id"], f"{where}: {e}")
            self.document.validate(e.json, kinds[0]["data"], f"{where} {e.name}")

    def fits(self, value, schema):
        try:
            self.document.validate(value, schema)
            return True
        except Mismatch:
            return False

    def follow(self, server, path, names, token=None, last=None, **fill):
        """Reads a stream until the events of these names have come, and no others."""
        with Curl(server, path.format(**fill), token, last) as stream:
            stream.until("an answer", lambda s: s.status is not None)
            if names:
                stream.until(f"the events {names}", lambda s: len(s.events) >= len(names))
            self.check(path, "get", stream.reply())
            content = self.document.response(path, "get", 200)["content"]["text/event-stream"]
            self.events(content, stream.events, path)
            self.assertEqual(stream.names[:len(names)], names)
        return stream.events

    def test_the_server_serves_the_file(self):
        with self.server() as server:
            reply = server.request("GET", "/openapi.json")
            self.assertEqual(reply.body, document_file())
            self.assertEqual(reply.headers["content-type"], "application/json")
            self.assertTrue(reply.json["openapi"].startswith("3.1."))

    def test_it_is_whole(self):
        """All references lead somewhere, all examples fit, every operation has its own name."""
        tree = self.document.tree

        def walk(node):
            if isinstance(node, dict):
                if "$ref" in node and isinstance(node["$ref"], str):
                    self.document.resolve(node)
                schema = node.get("schema")
                if isinstance(schema, dict):
                    if "example" in node:
                        self.document.validate(node["example"], schema, "example")
                    for name, example in node.get("examples", {}).items():
                        self.document.validate(self.document.resolve(example)["value"], schema,
                                               f"example {name}")
                if "x-events" in node:
                    self.assertEqual(node["schema"], {"type": "string"})
                    reader = Reader()
                    reader.feed(node["example"].encode())
                    self.assertEqual((reader.rest, reader.fields), (b"", {}))
                    self.events(node, reader.events, "example")
                for inner in node.values():
                    walk(inner)
            elif isinstance(node, list):
                for inner in node:
                    walk(inner)

        walk(tree)
        names = [tree["paths"][p][m]["operationId"] for p, m in self.document.operations()]
        self.assertEqual(len(names), len(set(names)))
        for path, method in self.document.operations():
            item = tree["paths"][path]
            given = {self.document.resolve(p)["name"]
                     for p in item.get("parameters", []) + item[method].get("parameters", [])
                     if self.document.resolve(p)["in"] == "path"}
            self.assertEqual(given, set(re.findall(r"{(\w+)}", path)), path)
            # Who needs a token may be told that it is wrong.
            secured = item[method].get("security", tree.get("security", []))
            self.assertEqual(bool(secured), "401" in item[method]["responses"], (method, path))
        self.assertEqual({s.get("scheme", s.get("name"))
                          for s in tree["components"]["securitySchemes"].values()},
                         {"bearer", "webhook-signature"})

    def test_every_reason_is_a_problem_type(self):
        with open(os.path.join(ROOT, "core", "domain", "names.cpp")) as f:
            reasons = set(re.findall(r'case Reason::\w+: return "(\w+)"', f.read())) - {"none"}
        self.assertGreater(len(reasons), 20)
        self.assertEqual({r for r in reasons if PROBLEM + r not in self.types}, set())

    def test_every_operation_answers_as_documented(self):
        with self.server() as server:
            operator, shop = server.operator, server.shop
            sale, purchases = "/v1/sales/{sku}", "/v1/sales/{sku}/purchases"
            purchase, tokens = "/v1/purchases/{purchase}", "/v1/tokens"
            payment, refund = purchase + "/payment", purchase + "/refund"

            def call(method, path, status, **more):
                return self.call(server, method, path, status, **more)

            for path in ("/", "/livez", "/readyz", "/openapi.json"):
                call("get", path, 200)
            call("get", "/metrics", 200, token=shop)
            call("get", "/metrics", 401)
            call("get", "/v1/cluster", 200, token=operator)
            call("get", "/v1/cluster", 403, token=shop)

            terms = {"stock": 2, "hold_seconds": 120, "price": {"amount": 4900, "currency": "EUR"}}
            call("put", sale, 201, sku="demo", token=operator, body=terms)
            call("put", sale, 200, sku="demo", token=operator, body=terms)
            call("put", sale, 409, sku="demo", token=operator, body={**terms, "hold_seconds": 60})
            call("put", sale, 400, sku="demo", token=operator, body={**terms, "colour": "red"})
            call("put", sale, 401, sku="demo", body=terms)
            call("put", sale, 403, sku="demo", token=shop, body=terms)
            call("put", sale, 415, sku="demo", token=operator, body="<a/>",
                 headers={"Content-Type": "text/xml"})
            call("put", sale, 413, sku="demo", token=operator, body={"stock": "x" * 20_000})
            call("put", sale, 404, sku="no%20sku", token=operator, body=terms)
            full = {**terms, "starts_at": "2100-01-01T00:00:00Z", "ends_at": "2100-01-02T00:00:00Z",
                    "grace_seconds": 0.5, "hold_seconds": 1.5, "limit_per_customer": 2,
                    "units_per_purchase": 2, "line_limit": 0, "line_policy": "skip_if_unfit"}
            call("put", sale, 201, sku="later", token=operator, body=full)

            read = call("get", sale, 200, sku="demo")
            call("get", sale, 200, sku="later")
            call("get", sale, 304, sku="demo", headers={"If-None-Match": read.headers["etag"]})
            call("get", sale, 404, sku="nothing")
            call("get", sale, 404, sku="no%20sku")
            call("get", sale, 400, sku="demo", query="min_seq=x")
            call("get", sale, 503, sku="demo", query="min_seq=1000000")
            self.assertEqual(call("get", "/v1/sales", 200, query="limit=1").json["next"], "demo")
            self.assertIsNone(call("get", "/v1/sales", 200, query="after=demo").json["next"])
            call("get", "/v1/sales", 400, query="limit=0")

            alice = call("post", tokens, 201, token=shop,
                         body={"customer": "alice", "ttl_seconds": 600}).json["token"]
            call("post", tokens, 400, token=shop, body={"customer": ""})
            call("post", tokens, 401, body={"customer": "alice"})
            call("post", tokens, 403, token=alice, body={"customer": "alice"})
            call("post", tokens, 415, token=shop, body="<a/>", headers={"Content-Type": "text/xml"})
            call("get", "/metrics", 403, token=alice)

            def buy(customer, key, status, sku="demo", quantity=1):
                return call("post", purchases, status, sku=sku, token=shop,
                            body={"customer": customer, "quantity": quantity},
                            headers={"Idempotency-Key": key})

            first = call("post", purchases, 201, sku="demo", token=alice, body={},
                         headers={"Idempotency-Key": "k"})
            again = call("post", purchases, 201, sku="demo", token=alice, body={},
                         headers={"Idempotency-Key": "k"})
            self.assertEqual(again.headers["idempotent-replayed"], "true")
            bob = buy("bob", "k", 201).json["purchase"]
            carol = buy("carol", "k", 202).json["purchase"]
            dave = buy("dave", "k", 202).json["purchase"]
            buy("alice", "k", 422, quantity=2)
            refused = buy("alice", "k2", 403).json["purchase"]
            buy("alice", "k3", 422, quantity=0)
            buy("alice", "k", 425, sku="later")
            buy("alice", "k", 404, sku="nothing")
            call("post", purchases, 400, sku="demo", token=shop, body={"customer": "alice"})
            call("post", purchases, 401, sku="demo", body={}, headers={"Idempotency-Key": "k"})
            call("post", purchases, 403, sku="demo", token=alice, body={"customer": "bob"},
                 headers={"Idempotency-Key": "k"})
            call("post", purchases, 415, sku="demo", token=shop, body="<a/>",
                 headers={"Idempotency-Key": "k", "Content-Type": "text/xml"})

            # Every kind of purchase, alone and listed.
            alices = first.json["purchase"]
            call("get", purchase, 200, purchase=alices, token=alice)
            call("get", purchase, 200, purchase=carol, token=shop)
            self.assertEqual(call("get", purchase, 200, purchase=refused, token=operator)
                             .json["status"], "refused")
            call("get", purchase, 404, purchase=carol, token=alice)
            call("get", purchase, 404, purchase="demo:999", token=shop)
            call("get", purchase, 400, purchase=alices, token=shop, query="min_seq=x")
            call("get", purchase, 503, purchase=alices, token=shop, query="min_seq=1000000")
            call("get", purchase, 401, purchase=alices)
            call("get", purchases, 200, sku="demo", token=shop, query="customer=carol")
            call("get", purchases, 200, sku="demo", token=alice)
            call("get", purchases, 400, sku="demo", token=shop)
            call("get", purchases, 401, sku="demo")
            call("get", purchases, 403, sku="demo", token=alice, query="customer=bob")
            call("get", purchases, 404, sku="nothing", token=shop, query="customer=bob")
            line = call("get", sale + "/line", 200, sku="demo", token=shop, query="limit=10").json
            self.assertEqual([p["purchase"] for p in line["line"]], [carol, dave])
            call("get", sale + "/line", 400, sku="demo", token=shop, query="limit=0")
            call("get", sale + "/line", 401, sku="demo")
            call("get", sale + "/line", 403, sku="demo", token=alice)
            call("get", sale + "/line", 404, sku="nothing", token=shop)
            call("get", sale + "/audit-head", 200, sku="demo", token=operator)
            call("get", sale + "/audit-head", 401, sku="demo")
            call("get", sale + "/audit-head", 403, sku="demo", token=alice)
            call("get", sale + "/audit-head", 404, sku="nothing", token=shop)

            # Why: of every way that a purchase can go, as it stands now and once more at the end.
            explanation = purchase + "/explanation"
            told = call("get", explanation, 200, purchase=carol, token=operator).json
            self.assertEqual(told["purchases"][0]["ahead"]["holding"]["purchases"], 2)
            for one in (alices, bob, dave, refused):
                call("get", explanation, 200, purchase=one, token=shop)
            call("get", explanation, 401, purchase=carol)
            call("get", explanation, 403, purchase=carol, token=alice)
            call("get", explanation, 404, purchase="demo:999", token=shop)
            call("get", explanation, 404, purchase="nothing:1", token=shop)
            call("get", explanation, 404, purchase="demo", token=shop)

            # Paid, paid twice, failed, given up, refunded.
            money = {"amount": 4900, "currency": "EUR"}
            call("post", payment, 200, purchase=bob, token=shop,
                 body={"reference": "p1", "status": "failed"})
            call("post", payment, 200, purchase=bob, token=shop,
                 body={"reference": "p2", "status": "received", **money})
            call("post", payment, 200, purchase=bob, token=shop, body={"reference": "p2", **money})
            call("post", payment, 200, purchase=bob, token=shop, body={"reference": "p3", **money})
            call("post", payment, 422, purchase=bob, token=shop,
                 body={"reference": "p2", "amount": 1, "currency": "EUR"})
            call("post", payment, 400, purchase=bob, token=shop, body={"reference": "p4"})
            call("post", payment, 401, purchase=bob, body={"reference": "p4", **money})
            call("post", payment, 403, purchase=bob, token=alice, body={"reference": "p4", **money})
            call("post", payment, 404, purchase="demo:999", token=shop,
                 body={"reference": "p4", **money})
            callback = "/v1/payments/callback"

            def called(status, body, headers=None, secret=PAYMENT_SECRET):
                text = body if isinstance(body, str) else json.dumps(body)
                return call("post", callback, status, body=text,
                            headers={"Content-Type": "application/json",
                                     **signed(secret, text), **(headers or {})})

            told = {"purchase": bob, "outcome": "received", "reference": "p2", **money}
            called(200, told)
            called(200, {"purchase": bob, "outcome": "failed", "reference": "p5"})
            called(422, {**told, "amount": 1})
            called(400, {"purchase": bob, "reference": "p6", **money})
            called(401, told, secret=new_payment_secret())
            called(404, {**told, "purchase": "demo:999"})
            called(415, "<a/>", headers={"Content-Type": "text/xml"})
            for i in range(20):
                reply = server.pay(bob, f"more{i}")
                self.check(payment, "post", reply)
                if reply.status == 409:
                    break
            called(409, {**told, "reference": "more-than-may-be"})
            call("delete", purchase, 409, purchase=bob, token=shop)
            call("delete", purchase, 404, purchase=bob, token=alice)
            call("delete", purchase, 401, purchase=bob)
            gone = call("delete", purchase, 200, purchase=alices, token=alice).json
            call("delete", purchase, 200, purchase=alices, token=alice)
            self.assertEqual(gone["status"], "cancelled")
            offered = call("get", purchase, 200, purchase=carol, token=shop).json
            self.assertEqual(offered["status"], "offered")
            declined = call("delete", purchase, 200, purchase=carol, token=shop).json
            self.assertEqual(declined["status"], "declined")
            why = {"actor": "olga", "reason": "returned"}
            call("post", refund, 200, purchase=bob, token=shop, body={"restock": False, **why})
            call("post", refund, 409, purchase=dave, token=shop, body={"restock": True, **why})
            call("post", refund, 400, purchase=bob, token=shop, body={"restock": True})
            call("post", refund, 401, purchase=bob, body={"restock": True, **why})
            call("post", refund, 403, purchase=bob, token=alice, body={"restock": True, **why})
            call("post", refund, 404, purchase="demo:999", token=shop,
                 body={"restock": True, **why})

            # What is stored of it.
            orders, timeline = sale + "/orders", sale + "/timeline"
            now = server.audit_head("demo")["position"]
            for path, list_of in ((orders, "orders"), (timeline, "timeline")):
                read = call("get", path, 200, sku="demo", token=shop, query=f"min_seq={now}").json
                self.assertGreaterEqual(read["position"], now)
                self.assertGreaterEqual(len(read[list_of]), 1)
                call("get", path, 200, sku="later", token=operator)
                call("get", path, 400, sku="demo", token=shop, query="limit=101")
                call("get", path, 400, sku="demo", token=shop, query="after=yesterday")
                call("get", path, 401, sku="demo")
                call("get", path, 403, sku="demo", token=alice)
                call("get", path, 404, sku="nothing", token=shop)
                call("get", path, 503, sku="demo", token=shop, query=f"min_seq={now + 50}")
            self.assertEqual(read["next"], None)
            order = call("get", orders, 200, sku="demo", token=shop).json["orders"][0]
            self.assertEqual((order["purchase"], order["reference"]), (bob, "p2"))
            self.assertLess(order["position"], order["refunded"]["position"])
            self.assertEqual(call("get", orders, 200, sku="demo", token=shop,
                                  query=f"after={order['position']}").json["orders"], [])
            end = read["timeline"][-1]["time"]
            self.assertEqual(call("get", timeline, 200, sku="demo", token=shop,
                                  query=f"after={end}").json["timeline"], [])

            projections, rebuild = "/v1/projections", "/v1/projections/{projection}/rebuild"
            generation = "/v1/projections/{projection}/generations/{generation}"
            call("get", projections, 200, token=operator)
            call("get", projections, 401)
            call("get", projections, 403, token=shop)
            for body in ({}, {"force": True}, None):
                call("post", rebuild, 202, projection="orders", token=operator, body=body)
                eventually("it is rebuilt", lambda: call("get", projections, 200, token=operator)
                           .json["projections"][2]["state"] == "live")
            call("post", rebuild, 400, projection="orders", token=operator, body={"force": 1})
            call("post", rebuild, 401, projection="orders", body={})
            call("post", rebuild, 403, projection="orders", token=shop, body={})
            call("post", rebuild, 404, projection="line", token=operator, body={})
            call("post", rebuild, 415, projection="orders", token=operator, body="<a/>",
                 headers={"Content-Type": "text/xml"})
            call("delete", generation, 204, projection="orders", generation=1, token=operator)
            call("delete", generation, 404, projection="orders", generation=1, token=operator)
            call("delete", generation, 404, projection="orders", generation="x", token=operator)
            call("delete", generation, 409, projection="orders", generation=4, token=operator)
            call("delete", generation, 401, projection="orders", generation=2)
            call("delete", generation, 403, projection="orders", generation=2, token=shop)

            outbox, webhooks, webhook = "/v1/outbox", "/v1/webhooks", "/v1/webhooks/{webhook}"
            attempts, redeliver = webhook + "/attempts", webhook + "/redeliver"
            for body in ({"url": "http://127.0.0.1:9/", "kinds": ["ordered"], "sku": "demo"},
                         {"url": "https://shop.example/hook", "past": False}):
                hook = call("post", webhooks, 201, token=shop, body=body).json["id"]
            call("post", webhooks, 400, token=shop, body={"url": "shop.example"})
            call("post", webhooks, 401, body={"url": "https://shop.example/"})
            call("post", webhooks, 415, token=shop, body="<a/>",
                 headers={"Content-Type": "text/xml"})
            call("get", webhooks, 200, token=operator)
            call("get", webhook, 200, webhook=hook, token=shop)
            call("get", webhook, 404, webhook="wh_none", token=shop)
            for action in ("rotate_secret", "drop_old_secret", "disable", "enable"):
                call("patch", webhook, 200, webhook=hook, token=shop, body={"action": action})
            call("patch", webhook, 400, webhook=hook, token=shop, body={"action": "x"})
            call("patch", webhook, 404, webhook="wh_none", token=shop, body={"action": "enable"})
            call("post", redeliver, 202, webhook=hook, token=shop, body={"sku": "demo", "from": 1})
            call("post", redeliver, 200, webhook=hook, token=shop, body={"message": "demo:1:0"})
            call("post", redeliver, 400, webhook=hook, token=shop, body={"message": "demo:1:9"})
            call("post", redeliver, 400, webhook=hook, token=shop, body={"sku": "demo"})
            call("get", attempts, 200, webhook=hook, token=shop)
            call("get", outbox, 200, token=operator)
            call("get", outbox, 403, token=shop)
            call("delete", webhook, 204, webhook=hook, token=shop)
            call("delete", webhook, 404, webhook=hook, token=shop)
            for _ in range(15):
                call("post", webhooks, 201, token=shop, body={"url": "https://shop.example/"})
            call("post", webhooks, 409, token=shop, body={"url": "https://shop.example/"})

            call("patch", sale, 200, sku="demo", token=operator, body={"stock": 5, **why})
            call("patch", sale, 409, sku="demo", token=operator, body={"stock": 0, **why})
            call("patch", sale, 200, sku="demo", token=operator, body={"action": "pause", **why})
            buy("erin", "k", 409)
            call("patch", sale, 200, sku="demo", token=operator, body={"action": "resume", **why})
            call("patch", sale, 400, sku="demo", token=operator, body={"action": "stop", **why})
            call("patch", sale, 401, sku="demo", body={"action": "close", **why})
            call("patch", sale, 403, sku="demo", token=shop, body={"action": "close", **why})
            call("patch", sale, 404, sku="nothing", token=operator, body={"action": "pause", **why})
            call("patch", sale, 200, sku="demo", token=operator, body={"action": "close", **why})
            for one in (alices, bob, carol, dave, refused):
                call("get", explanation, 200, purchase=one, token=operator)

            stats, audits = "/v1/stats", "/v1/audits"
            call("get", stats, 200, token=operator)
            call("get", stats, 401)
            call("get", stats, 403, token=shop)
            self.assertEqual(call("get", audits, 200, token=operator).json, {"state": "none"})
            for body in ({"fairness": True}, None):
                call("post", audits, 202, token=operator, body=body)
                audit = eventually("it is audited", lambda: (found := call(
                    "get", audits, 200, token=operator).json)["state"] != "running" and found)
                self.assertTrue(audit["sound"] and audit["sales"] == 2, audit)
            call("get", audits, 401)
            call("get", audits, 403, token=shop)
            call("post", audits, 400, token=operator, body={"fairness": 1})
            call("post", audits, 401, body={})
            call("post", audits, 403, token=shop, body={})
            call("post", audits, 415, token=operator, body="<a/>",
                 headers={"Content-Type": "text/xml"})
            self.demo_answers_as_documented()
            self.streams_answer_as_documented()

            good = {(p, m, int(s)) for p, m in self.document.operations()
                    for s in self.document.tree["paths"][p][m]["responses"]
                    if s.isdigit() and s < "400"}
            self.assertEqual(good - self.seen, set(), "documented, but not seen here")

    def demo_answers_as_documented(self):
        guests, pay = "/v1/guests", "/v1/purchases/{purchase}/demo-payment"
        with self.server("--demo") as server:
            guest = self.call(server, "post", guests, 201).json["token"]
            bought = self.call(server, "post", "/v1/sales/{sku}/purchases", 201, sku="demo",
                               token=guest, body={}, headers={"Idempotency-Key": "k"})
            names = {"purchase": bought.json["purchase"]}
            self.call(server, "post", pay, 200, token=guest, body={"outcome": "declined"}, **names)
            self.call(server, "post", pay, 200, token=guest, **names)
            self.call(server, "post", pay, 400, token=guest, body={"outcome": 1}, **names)
            self.call(server, "post", pay, 401, **names)
            self.call(server, "post", pay, 404, token=guest, purchase="demo:999")
            self.call(server, "get", "/", 200, headers={"Accept": "text/html"})

    def streams_answer_as_documented(self):
        sale, decisions = "/v1/sales/{sku}/events", "/v1/sales/{sku}/decisions"
        purchase = "/v1/purchases/{purchase}"
        of_purchase = purchase + "/events"
        kinds = set(self.document.tree["components"]["schemas"]["MessageKind"]["enum"])
        with self.server() as server:
            operator, shop = server.operator, server.shop
            alice = server.customer_token("alice")
            why = {"actor": "olga", "reason": "returned"}

            def call(method, path, status, **more):
                return self.call(server, method, path, status, token=operator, **more).json

            def follow(path, names, **more):
                return self.follow(server, path, names, **more)

            def bought(key, status, sku="demo"):
                reply = server.buy(sku, "alice", key)
                self.assertEqual(reply.status, status, reply)
                return reply.json["purchase"]

            # All that a message can say, a purchase each.
            terms = {"stock": 1, "price": {"amount": 4900, "currency": "EUR"}, "hold_seconds": 120,
                     "limit_per_customer": 9}
            server.open_sale("demo", **terms)
            for change in ({"action": "pause"}, {"action": "resume"}, {"stock": 2}):
                call("patch", "/v1/sales/{sku}", 200, sku="demo", body={**change, **why})
            call("put", "/v1/sales/{sku}", 200, sku="demo",
                 body={**terms, "stock": 2, "line_limit": 9})
            given_up, paid = bought("k1", 201), bought("k2", 201)
            declined, late, bored, sad = (bought(f"k{i}", 202) for i in range(3, 7))
            self.assertEqual(call("get", purchase, 200, purchase=late)["line"], {
                "place": 2, "units_ahead": 1, "units_may_return": 2, "eta_seconds": None})
            follow(of_purchase, ["purchase", "place"], token=alice, purchase=late)
            for one in (given_up, declined, bored):
                call("delete", purchase, 200, purchase=one)
            for one, reference in ((paid, "p1"), (paid, "p2"), (late, "p3")):
                self.assertEqual(server.pay(one, reference).status, 200)
            call("post", purchase + "/refund", 200, purchase=paid, body={"restock": True, **why})
            call("patch", "/v1/sales/{sku}", 200, sku="demo", body={"action": "close", **why})
            for one, names in ((given_up, ["reserved", "cancelled"]),
                               (declined, ["waiting", "offered", "declined"]),
                               (paid, ["reserved", "ordered", "refund_due", "refunded"]),
                               (sad, ["waiting", "released"])):
                follow(of_purchase, names, token=alice, last="0", purchase=one)

            soon = server.soon(3.5)
            server.open_sale("brief", stock=1, hold_seconds=2.4, ends_at=soon)
            brief = bought("k", 201, sku="brief")
            follow(of_purchase, ["purchase", "about_to_expire", "expired"], token=shop,
                   purchase=brief)
            told = {e.name for e in follow(decisions, ["scheduled", "opened", "reserved", "expired",
                                                       "ended"], token=shop, last="0", sku="brief")}
            everything = call("get", "/v1/sales/{sku}", 200, sku="demo")["position"]
            with Curl(server, decisions.format(sku="demo"), shop, "0") as stream:
                stream.until("all has come", lambda s: s.last and int(s.last.split(".")[0])
                             >= everything)
                told |= set(stream.names)
                self.events(self.document.response(decisions, "get", 200)["content"]
                            ["text/event-stream"], stream.events, decisions)
            self.assertEqual(told, kinds)

            follow(sale, ["sale"], sku="demo")
            follow(sale, ["sale"], sku="demo", last="3")
            for path, fill in ((sale, {"sku": "demo"}), (decisions, {"sku": "demo"}),
                               (of_purchase, {"purchase": paid})):
                call("get", path, 400, headers={"Last-Event-ID": "yesterday"}, **fill)
                call("get", path, 400, query="last_event_id=1.x", **fill)
            call("get", sale, 404, sku="nothing")
            call("get", decisions, 404, sku="nothing")
            call("get", of_purchase, 404, purchase="demo:999")
            self.call(server, "get", decisions, 401, sku="demo")
            self.call(server, "get", decisions, 403, sku="demo", token=alice)
            self.call(server, "get", of_purchase, 401, purchase=paid)
            self.call(server, "get", of_purchase, 404, purchase=paid,
                      token=server.customer_token("bob"))
        with self.server("--max-streams", "1", "--demo") as server:
            one = server.buy("demo", "alice", "k").json["purchase"]
            with Curl(server, sale.format(sku="demo")) as stream:
                stream.begun()
                for path, fill in ((sale, {"sku": "demo"}), (decisions, {"sku": "demo"}),
                                   (of_purchase, {"purchase": one})):
                    reply = self.call(server, "get", path, 503, token=server.shop, **fill)
                    self.assertEqual(reply.problem, "too_many_streams")
        with self.server("--in-memory", "--demo") as server:
            one = server.buy("demo", "alice", "k").json["purchase"]
            self.follow(server, sale, ["sale"], sku="demo")
            for path, fill in ((decisions, {"sku": "demo"}), (of_purchase, {"purchase": one})):
                reply = self.call(server, "get", path, 503, token=server.shop, **fill)
                self.assertEqual(reply.problem, "not_kept")

    def test_too_many_requests(self):
        with self.server("--customer-rate", "1", "--customer-burst", "2", "--address-rate", "1",
                         "--address-burst", "2", "--demo") as server:
            replies = [server.buy("demo", "alice", f"k{i}") for i in range(4)]
            self.assertEqual(replies[-1].status, 429)
            for reply in replies:
                self.check("/v1/sales/{sku}/purchases", "post", reply)
            # Whoever guesses tokens is slowed down wherever one is needed.
            for path, method in self.document.operations():
                if not self.document.tree["paths"][path][method].get("security"):
                    continue
                concrete = path.format(sku="demo", purchase="demo:2", projection="orders",
                                       generation=1, webhook="wh_1")
                for _ in range(4):
                    reply = server.request(method.upper(), concrete, "wrong", body=b"{}" if
                                           method in ("put", "post", "patch") else None)
                    self.assertIn(reply.status, (401, 429), reply)
                    self.check(path, method, reply)

    def test_other_methods_and_paths(self):
        with self.server("--demo") as server:
            bought = server.buy("demo", "alice", "k").json["purchase"]
            hook = server.request("POST", "/v1/webhooks", server.shop,
                                  {"url": "https://shop.example/"}).json["id"]
            names = {"sku": "demo", "purchase": bought, "projection": "orders", "generation": 1,
                     "webhook": hook}
            for path in self.document.tree["paths"]:
                allowed = self.document.allowed(path)
                for method in {m.upper() for m in METHODS} - allowed | {"TRACE", "BREW"}:
                    with self.subTest(path, method=method):
                        reply = server.request(method, path.format(**names), server.operator)
                        self.assertEqual(reply.status, 405, reply)
                        self.assertEqual(reply.problem, "method_not_allowed")
                        self.assertEqual(set(reply.headers["allow"].split(", ")), allowed)
                        documented = next(m for m in METHODS
                                          if m in self.document.tree["paths"][path])
                        self.check(path, documented, reply)
                with self.subTest(path, method="HEAD"):
                    head = server.request("HEAD", path.format(**names) + "?customer=alice",
                                          server.operator)
                    self.assertEqual(head.status, 200 if "HEAD" in allowed else 405)
                    self.assertEqual(head.body, b"")
                    if head.status == 405:
                        self.assertEqual(set(head.headers["allow"].split(", ")), allowed)
            for path in ("/v1", "/v1/", "/v2/sales", "/v1/nowhere", "/favicon.ico", "/livez/x",
                         "/v1/purchases", "/v1/tokens/x", "/v1/sales/demo/other",
                         "/v1/sales/demo/line/x", "/v1/projections/orders",
                         "/v1/projections/orders/other", "/v1/projections/orders/generations",
                         "/v1/projections/orders/rebuild/1", f"/v1/purchases/{bought}/other", "/v1/sales//"):
                for method in ("GET", "POST"):
                    with self.subTest(path, method=method):
                        reply = server.request(method, path, server.operator)
                        self.assertEqual((reply.status, reply.problem), (404, "not_found"))
                        self.assertIn(PROBLEM + reply.problem, self.types)

    def test_what_the_edge_refuses(self):
        with self.server() as server:
            for status, arguments in [
                (414, ("GET", "/v1/sales?after=" + "x" * 2000)),
                (431, ("GET", "/v1/sales", None, None, {"X-Long": "x" * 10_000})),
                (417, ("GET", "/v1/sales", None, None, {"Expect": "a miracle"})),
            ]:
                with self.subTest(status=status):
                    reply = server.request(*arguments)
                    self.assertEqual(reply.status, status, reply)
                    self.check("/v1/sales", "get", reply)


if __name__ == "__main__":
    main()
