#!/usr/bin/env python3
"""Walks the API that a server documents and checks that it keeps to it.

    openapi_check.py BASE_URL --operator-token-file FILE --shop-token-file FILE [-v]

Reads /openapi.json from the server, checks the document itself (references, examples against their
schemas, unique operation ids), and then acts a scenario through every documented path and method.
Each answer must have a documented status, media type, header fields and a body of the documented
schema; each problem must be one that is documented for that operation. Every documented success
must have been seen. Routes that are not documented must be 404, methods 405 with the right Allow.

Makes sales of its own (openapi-check-…) and leaves them closed. Exit code 0: all as documented;
1: not so; 2: wrong usage; 3: no connection. Standard library only.
"""

import argparse
import http.client
import json
import re
import secrets
import sys
import urllib.parse

METHODS = ("get", "put", "post", "patch", "delete", "head", "options")
PROBLEM = "urn:fairsale:problem:"


class Schema:
    """As much of JSON Schema 2020-12 as the document uses; anything else is an error in it."""

    KNOWN = {
        "$ref", "type", "enum", "const", "properties", "required", "additionalProperties", "items",
        "oneOf", "allOf", "minimum", "maximum", "exclusiveMinimum", "minLength", "maxLength",
        "pattern", "format", "description", "default", "examples",
    }
    TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
             "integer": int, "number": (int, float)}

    def __init__(self, document):
        self.document = document

    def resolve(self, thing):
        while isinstance(thing, dict) and "$ref" in thing:
            target = self.document
            for part in thing["$ref"].removeprefix("#/").split("/"):
                target = target[part.replace("~1", "/").replace("~0", "~")]
            thing = target
        return thing

    def errors(self, schema, value, at="body"):
        schema = self.resolve(schema)
        unknown = set(schema) - self.KNOWN
        if unknown:
            yield f"{at}: the schema uses {', '.join(sorted(unknown))}, which this check ignores"
        if "const" in schema and value != schema["const"]:
            yield f"{at}: {value!r} is not {schema['const']!r}"
        if "enum" in schema and value not in schema["enum"]:
            yield f"{at}: {value!r} is none of {schema['enum']}"
        if "type" in schema:
            types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            fits = any(isinstance(value, self.TYPES[t]) and
                       (t == "boolean" or not isinstance(value, bool)) for t in types)
            if not fits:
                yield f"{at}: {value!r} is not of type {'/'.join(types)}"
                return
        for part in schema.get("allOf", []):
            yield from self.errors(part, value, at)
        if "oneOf" in schema:
            tried = [list(self.errors(option, value, at)) for option in schema["oneOf"]]
            if sum(not e for e in tried) != 1:
                yield f"{at}: fits {sum(not e for e in tried)} of {len(tried)} alternatives: {tried}"
        if isinstance(value, str):
            if "pattern" in schema and not re.search(schema["pattern"], value):
                yield f"{at}: {value!r} does not match {schema['pattern']}"
            if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
                yield f"{at}: {value!r} is too short or too long"
            if schema.get("format") == "date-time" and not re.fullmatch(
                    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", value):
                yield f"{at}: {value!r} is no RFC 3339 time"
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if value < schema.get("minimum", value) or value > schema.get("maximum", value) or (
                    "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]):
                yield f"{at}: {value} is out of range"
        if isinstance(value, list) and "items" in schema:
            for i, item in enumerate(value):
                yield from self.errors(schema["items"], item, f"{at}[{i}]")
        if isinstance(value, dict):
            for name in schema.get("required", []):
                if name not in value:
                    yield f"{at}: {name} is missing"
            properties = schema.get("properties", {})
            for name, item in value.items():
                if name in properties:
                    yield from self.errors(properties[name], item, f"{at}.{name}")
                elif schema.get("additionalProperties", True) is False:
                    yield f"{at}: {name} is not documented"


class Reply:
    def __init__(self, response, body):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.media = self.headers.get("content-type")
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)


class Check:
    def __init__(self, base, operator, shop, verbose):
        url = urllib.parse.urlsplit(base)
        self.host, self.port = url.hostname, url.port or 80
        self.tokens = {"operator": operator, "shop": shop, "wrong": "not-a-token-of-anybody"}
        self.verbose = verbose
        self.failures = []
        self.seen = {}  # (path, method) -> statuses
        self.document = None
        self.schema = None

    def fail(self, what):
        self.failures.append(what)
        print(f"FAIL {what}")

    def send(self, method, target, who=None, body=None, headers=None):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            head = dict(headers or {})
            if who:
                head["Authorization"] = f"Bearer {self.tokens[who]}"
            if body is not None and not isinstance(body, str):
                body = json.dumps(body)
                head.setdefault("Content-Type", "application/json")
            connection.request(method.upper(), target, body=body, headers=head)
            response = connection.getresponse()
            return Reply(response, response.read())
        finally:
            connection.close()

    # ---- The document ----

    def check_document(self):
        reply = self.send("get", "/openapi.json")
        if reply.status != 200:
            raise ConnectionError(f"GET /openapi.json: {reply.status}")
        self.document = reply.json
        self.schema = Schema(self.document)
        if not re.match(r"3\.1\.\d+$", self.document["openapi"]):
            self.fail(f"openapi is {self.document['openapi']}")
        self.check_references(self.document, "#")
        ids = set()
        for path, method, operation in self.operations():
            where = f"{method.upper()} {path}"
            if operation["operationId"] in ids:
                self.fail(f"{where}: operationId {operation['operationId']} is not unique")
            ids.add(operation["operationId"])
            named = set(re.findall(r"{(\w+)}", path))
            declared = {p["name"] for p in self.parameters(path, operation) if p["in"] == "path"}
            if named != declared:
                self.fail(f"{where}: path parameters {named} but {declared} declared")
            if "requestBody" in operation:
                for media, content in operation["requestBody"]["content"].items():
                    self.check_examples(content, f"{where} request {media}")
            for status, response in operation["responses"].items():
                for media, content in self.schema.resolve(response).get("content", {}).items():
                    self.check_examples(content, f"{where} {status} {media}")

    def check_references(self, thing, at):
        if isinstance(thing, dict):
            if "$ref" in thing:
                try:
                    self.schema.resolve(thing)
                except KeyError:
                    self.fail(f"{at}: {thing['$ref']} does not exist")
            for name, item in thing.items():
                self.check_references(item, f"{at}/{name}")
        elif isinstance(thing, list):
            for i, item in enumerate(thing):
                self.check_references(item, f"{at}/{i}")

    def check_examples(self, content, where):
        examples = [("example", content["example"])] if "example" in content else []
        for name, example in content.get("examples", {}).items():
            examples.append((name, self.schema.resolve(example)["value"]))
        if not examples and "openapi" not in where:
            self.fail(f"{where}: has no example")
        for name, value in examples:
            for error in self.schema.errors(content["schema"], value, f"{where} example {name}"):
                self.fail(error)

    def operations(self):
        for path, item in self.document["paths"].items():
            for method in METHODS:
                if method in item:
                    yield path, method, item[method]

    def parameters(self, path, operation):
        listed = self.document["paths"][path].get("parameters", []) + operation.get("parameters", [])
        return [self.schema.resolve(p) for p in listed]

    # ---- Answers ----

    def call(self, method, path, expect, who=None, body=None, headers=None, query="", **parameters):
        """Sends a request to a documented path and checks the answer against the document."""
        target = path
        for name, value in parameters.items():
            target = target.replace("{" + name + "}", urllib.parse.quote(value, safe=":"))
        reply = self.send(method, target + query, who, body, headers)
        where = f"{method.upper()} {target + query}"
        self.seen.setdefault((path, method), set()).add(reply.status)
        if self.verbose:
            print(f"     {where}: {reply.status} {reply.body[:100]!r}")
        if reply.status != expect:
            self.fail(f"{where}: {reply.status} instead of {expect}: {reply.body[:300]!r}")
        responses = self.document["paths"][path][method]["responses"]
        if str(reply.status) not in responses:
            self.fail(f"{where}: status {reply.status} is not documented: {reply.body[:300]!r}")
            return reply
        self.check_response(self.schema.resolve(responses[str(reply.status)]), reply,
                            f"{where} {reply.status}")
        return reply

    def check_response(self, response, reply, where):
        for name, header in response.get("headers", {}).items():
            header = self.schema.resolve(header)
            value = reply.headers.get(name.lower())
            if value is not None:
                for error in self.schema.errors(header["schema"], value, f"{where} {name}"):
                    self.fail(error)
            elif header.get("required"):
                self.fail(f"{where}: the header field {name} is missing")
        content = response.get("content", {})
        if not content:
            if reply.body:
                self.fail(f"{where}: has a body, but none is documented")
            return
        if reply.media not in content:
            self.fail(f"{where}: media type {reply.media} instead of {', '.join(content)}")
            return
        is_json = reply.media.endswith("json")
        try:
            value = reply.json if is_json else reply.body.decode()
        except ValueError as error:
            self.fail(f"{where}: the body is not what its media type says: {error}")
            return
        for error in self.schema.errors(content[reply.media]["schema"], value, where):
            self.fail(error)
        if reply.media == "application/problem+json" and value.get("status") != reply.status:
            self.fail(f"{where}: the problem says status {value.get('status')}")

    def problem(self, expect_type, method, path, expect, **arguments):
        reply = self.call(method, path, expect, **arguments)
        try:
            actual = reply.json.get("type")
        except ValueError:
            actual = None
        if actual != PROBLEM + expect_type:
            self.fail(f"{method.upper()} {path}: problem {actual} instead of {expect_type}")
        return reply

    # ---- The scenario ----

    def run_scenario(self):
        name = "openapi-check-" + secrets.token_hex(4)
        sale, buy = "/v1/sales/{sku}", "/v1/sales/{sku}/purchases"
        purchase = "/v1/purchases/{purchase}"
        payment, refund = purchase + "/payment", purchase + "/refund"
        audit, line = sale + "/audit-head", sale + "/line"
        terms = {"stock": 2, "price": {"amount": 4900, "currency": "EUR"}, "hold_seconds": 600,
                 "limit_per_customer": 3, "units_per_purchase": 2, "line_limit": 1}
        key = lambda k: {"Idempotency-Key": f"{name}-{k}"}
        act = {"actor": "check", "reason": "openapi_check.py"}

        for path in ("/", "/livez", "/readyz", "/openapi.json", "/v1/sales"):
            self.call("get", path, 200)
        self.call("get", "/metrics", 200, who="operator")
        self.problem("unauthorized", "get", "/metrics", 401, who="wrong")
        for query in ("?limit=0", "?limit=x", "?limit=1001"):
            self.problem("bad_request", "get", "/v1/sales", 400, query=query)

        # Tokens.
        token = self.call("post", "/v1/tokens", 201, who="shop",
                          body={"customer": "alice", "ttl_seconds": 60})
        self.tokens["alice"] = token.json["token"]
        self.problem("bad_request", "post", "/v1/tokens", 400, who="shop", body={"ttl_seconds": 60})
        self.problem("unauthorized", "post", "/v1/tokens", 401, body={"customer": "alice"})
        self.problem("forbidden", "post", "/v1/tokens", 403, who="alice", body={"customer": "bob"})
        self.problem("unsupported_media_type", "post", "/v1/tokens", 415, who="shop", body="<a/>",
                     headers={"Content-Type": "text/xml"})
        self.problem("body_too_large", "post", "/v1/tokens", 413, who="shop",
                     body={"customer": "x" * 1_000_000})
        self.problem("forbidden", "get", "/metrics", 403, who="alice")

        # A sale.
        self.problem("unknown_sale", "get", sale, 404, sku=name)
        self.problem("not_found", "get", sale, 404, sku="not a sku")
        self.call("put", sale, 201, who="operator", body=terms, sku=name)
        self.call("put", sale, 200, who="operator", body=terms, sku=name)
        self.problem("bad_request", "put", sale, 400, who="operator",
                     body={**terms, "colour": "red"}, sku=name)
        self.problem("unauthorized", "put", sale, 401, body=terms, sku=name)
        self.problem("forbidden", "put", sale, 403, who="shop", body=terms, sku=name)
        self.problem("not_found", "put", sale, 404, who="operator", body=terms, sku="not a sku")
        self.problem("not_changeable", "put", sale, 409, who="operator",
                     body={**terms, "hold_seconds": 5}, sku=name)
        self.problem("unsupported_media_type", "put", sale, 415, who="operator", body="<a/>",
                     headers={"Content-Type": "text/xml"}, sku=name)
        etag = self.call("get", sale, 200, sku=name).headers["etag"]
        self.call("get", sale, 304, sku=name, headers={"If-None-Match": etag})
        self.problem("bad_request", "get", sale, 400, sku=name, query="?min_seq=x")
        self.problem("position_not_reached", "get", sale, 503, sku=name, query="?min_seq=999999")
        self.call("get", "/v1/sales", 200, query="?limit=1")
        self.call("get", "/v1/sales", 200, query="?after=a&limit=1000")

        # Purchases.
        first = self.call("post", buy, 201, who="alice", body={}, headers=key(1), sku=name)
        again = self.call("post", buy, 201, who="alice", body={}, headers=key(1), sku=name)
        if again.body != first.body or again.headers.get("idempotent-replayed") != "true":
            self.fail("a repeated attempt was answered differently")
        second = self.call("post", buy, 201, who="shop", body={"customer": "bob"}, headers=key(1),
                           sku=name)
        waiting = self.call("post", buy, 202, who="shop", body={"customer": "carol"},
                            headers=key(1), sku=name)
        for problem, status, arguments in [
                ("bad_request", 400, {"who": "shop", "body": {}, "headers": key(2)}),
                ("idempotency_key_missing", 400, {"who": "alice", "body": {}}),
                ("unauthorized", 401, {"body": {}, "headers": key(2)}),
                ("forbidden", 403, {"who": "alice", "body": {"customer": "bob"},
                                    "headers": key(2)}),
                ("line_full", 409, {"who": "shop", "body": {"customer": "dave"},
                                    "headers": key(4)}),
                ("quantity_invalid", 422, {"who": "shop",
                                           "body": {"customer": "dave", "quantity": 9},
                                           "headers": key(5)}),
                ("key_reused", 422, {"who": "alice", "body": {"quantity": 2}, "headers": key(1)}),
                ("unsupported_media_type", 415, {"who": "alice", "body": "<a/>", "headers":
                                                 {"Content-Type": "text/xml", **key(6)}}),
                ("body_too_large", 413, {"who": "alice", "body": "x" * 1_000_000,
                                         "headers": key(7)})]:
            self.problem(problem, "post", buy, status, sku=name, **arguments)
        self.problem("unknown_sale", "post", buy, 404, who="alice", body={}, headers=key(9),
                     sku=name + "-not")
        self.over_the_limit(name + "-small", terms, act)

        # Reading them.
        ids = {"purchase": first.json["purchase"]}
        self.call("get", purchase, 200, who="alice", **ids)
        self.call("get", purchase, 200, who="shop", purchase=waiting.json["purchase"])
        self.problem("bad_request", "get", purchase, 400, who="alice", query="?min_seq=x", **ids)
        self.problem("unauthorized", "get", purchase, 401, **ids)
        self.problem("unknown_purchase", "get", purchase, 404, who="alice",
                     purchase=second.json["purchase"])
        self.problem("position_not_reached", "get", purchase, 503, who="shop",
                     query="?min_seq=999999", **ids)
        self.call("get", buy, 200, who="alice", sku=name)
        self.call("get", buy, 200, who="shop", sku=name, query="?customer=carol")
        self.problem("bad_request", "get", buy, 400, who="shop", sku=name)
        self.problem("unauthorized", "get", buy, 401, sku=name)
        self.problem("forbidden", "get", buy, 403, who="alice", sku=name, query="?customer=bob")
        self.problem("unknown_sale", "get", buy, 404, who="alice", sku=name + "-not")
        self.call("get", line, 200, who="shop", sku=name, query="?limit=10")
        self.problem("bad_request", "get", line, 400, who="shop", sku=name, query="?limit=0")
        self.problem("unauthorized", "get", line, 401, sku=name)
        self.problem("forbidden", "get", line, 403, who="alice", sku=name)
        self.problem("unknown_sale", "get", line, 404, who="shop", sku=name + "-not")
        self.call("get", audit, 200, who="operator", sku=name)
        self.problem("unauthorized", "get", audit, 401, sku=name)
        self.problem("forbidden", "get", audit, 403, who="alice", sku=name)
        self.problem("unknown_sale", "get", audit, 404, who="shop", sku=name + "-not")

        # Payments and refunds.
        paid = {"reference": "pay_1", "amount": 4900, "currency": "EUR"}
        self.problem("not_ordered", "post", refund, 409, who="shop", body={"restock": True, **act},
                     **ids)
        self.call("post", payment, 200, who="shop", body={"reference": "pay_0", "status": "failed"},
                  **ids)
        for _ in range(2):
            self.call("post", payment, 200, who="shop", body=paid, **ids)
        self.problem("reference_reused", "post", payment, 422, who="shop",
                     body={**paid, "amount": 1}, **ids)
        for n in range(2, 9):  # as many payments as a purchase may have
            self.call("post", payment, 200, who="shop", body={**paid, "reference": f"pay_{n}"},
                      **ids)
        self.problem("too_many_payments", "post", payment, 409, who="shop",
                     body={**paid, "reference": "pay_9"}, **ids)
        for path, body in ((payment, paid), (refund, {"restock": True, **act})):
            self.problem("bad_request", "post", path, 400, who="shop", body={}, **ids)
            self.problem("unauthorized", "post", path, 401, body=body, **ids)
            self.problem("forbidden", "post", path, 403, who="alice", body=body, **ids)
            self.problem("unknown_purchase", "post", path, 404, who="shop", body=body,
                         purchase=f"{name}:999999")
            self.problem("unsupported_media_type", "post", path, 415, who="shop", body="<a/>",
                         headers={"Content-Type": "text/xml"}, **ids)
        self.problem("already_ordered", "delete", purchase, 409, who="alice", **ids)
        self.problem("unauthorized", "delete", purchase, 401, **ids)
        self.problem("unknown_purchase", "delete", purchase, 404, who="alice",
                     purchase=second.json["purchase"])
        self.call("delete", purchase, 200, who="shop", purchase=second.json["purchase"])
        self.call("get", purchase, 200, who="shop", purchase=waiting.json["purchase"])
        self.call("delete", purchase, 200, who="shop", purchase=waiting.json["purchase"])
        for _ in range(2):
            self.call("post", refund, 200, who="shop", body={"restock": True, **act}, **ids)
        self.problem("not_held", "delete", purchase, 409, who="alice", **ids)

        # The operator's actions.
        self.call("patch", sale, 200, who="operator", body={"action": "pause", **act}, sku=name)
        self.problem("paused", "post", buy, 409, who="alice", body={}, headers=key(10), sku=name)
        self.call("patch", sale, 200, who="operator", body={"action": "resume", **act}, sku=name)
        self.call("post", buy, 201, who="alice", body={}, headers=key(11), sku=name)
        self.problem("stock_committed", "patch", sale, 409, who="operator",
                     body={"stock": 0, **act}, sku=name)
        self.call("patch", sale, 200, who="operator", body={"stock": 3, **act}, sku=name)
        self.problem("bad_request", "patch", sale, 400, who="operator", body={"action": "dance"},
                     sku=name)
        self.problem("unauthorized", "patch", sale, 401, body={"action": "close", **act}, sku=name)
        self.problem("forbidden", "patch", sale, 403, who="shop", body={"action": "close", **act},
                     sku=name)
        self.problem("unknown_sale", "patch", sale, 404, who="operator",
                     body={"action": "close", **act}, sku=name + "-not")
        self.problem("unsupported_media_type", "patch", sale, 415, who="operator", body="<a/>",
                     headers={"Content-Type": "text/xml"}, sku=name)
        self.call("patch", sale, 200, who="operator", body={"action": "close", **act}, sku=name)
        self.problem("closed", "post", buy, 409, who="alice", body={}, headers=key(12), sku=name)
        self.problem("closed", "patch", sale, 409, who="operator", body={"action": "pause", **act},
                     sku=name)

        # A sale that has not started.
        later = name + "-later"
        self.call("put", sale, 201, who="operator", sku=later,
                  body={**terms, "starts_at": "2099-01-01T00:00:00Z",
                        "ends_at": "2099-01-02T00:00:00+01:00"})
        self.problem("not_started", "post", buy, 425, who="alice", body={}, headers=key(1),
                     sku=later)
        self.call("get", sale, 200, sku=later)
        self.call("patch", sale, 200, who="operator", body={"action": "close", **act}, sku=later)

        # Too many requests of one customer, if the server limits them at all.
        for n in range(200):
            reply = self.send("post", buy.replace("{sku}", name), "shop", {"customer": "eager"},
                              key(f"eager-{n}"))
            if reply.status == 429:
                self.problem("rate_limited", "post", buy, 429, who="shop",
                             body={"customer": "eager"}, headers=key("eager"), sku=name)
                break

    def over_the_limit(self, name, terms, act):
        """A customer who has one unit, at a limit of one."""
        sale, buy = "/v1/sales/{sku}", "/v1/sales/{sku}/purchases"
        self.call("put", sale, 201, who="operator", sku=name,
                  body={**terms, "limit_per_customer": 1, "units_per_purchase": 1})
        self.call("post", buy, 201, who="alice", body={}, sku=name,
                  headers={"Idempotency-Key": "1"})
        self.problem("over_limit", "post", buy, 403, who="alice", body={}, sku=name,
                     headers={"Idempotency-Key": "2"})
        self.call("patch", sale, 200, who="operator", body={"action": "close", **act}, sku=name)

    # ---- What is not documented ----

    def check_undocumented(self):
        for target in ("/v1", "/v2/sales", "/v1/sales/demo/purchases/1", "/v1/sales/demo/secret",
                       "/v1/purchases", "/v1/purchases/demo:1/payments", "/admin", "/livez/",
                       "/v1/tokens/1", "/index.html", "/openapi.yaml", "/v1/sales//purchases"):
            for method in ("get", "post"):
                reply = self.send(method, target, "operator", {} if method == "post" else None)
                if reply.status != 404:
                    self.fail(f"{method.upper()} {target}: {reply.status} instead of 404")
                self.check_response(
                    self.schema.resolve({"$ref": "#/components/responses/Edge"}), reply,
                    f"{method.upper()} {target}")
        for path, item in self.document["paths"].items():
            target = path.replace("{sku}", "demo").replace("{purchase}", "demo:1")
            allowed = {m.upper() for m in METHODS if m in item}
            if "GET" in allowed:
                allowed.add("HEAD")
            for method in ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"):
                if method in allowed:
                    continue
                reply = self.send(method, target, "operator",
                                  {} if method in ("PUT", "POST", "PATCH") else None)
                if reply.status != 405:
                    self.fail(f"{method} {target}: {reply.status} instead of 405")
                    continue
                said = {m.strip() for m in reply.headers.get("allow", "").split(",")}
                if said != allowed:
                    self.fail(f"{method} {target}: Allow says {sorted(said)}, the document "
                              f"{sorted(allowed)}")

    def check_coverage(self):
        missing = []
        for path, method, operation in self.operations():
            documented = {s for s in operation["responses"] if s != "default"}
            seen = {str(s) for s in self.seen.get((path, method), set())}
            for status in sorted(s for s in documented - seen if s < "400"):
                self.fail(f"{method.upper()} {path}: the documented {status} was never seen")
            if documented - seen:
                missing.append(f"{method.upper()} {path}: {', '.join(sorted(documented - seen))}")
        print(f"{len(self.seen)} operations, "
              f"{sum(len(s) for s in self.seen.values())} documented answers seen")
        if self.verbose:
            print("documented, but not provoked:", *missing, sep="\n  ")

    def run(self):
        self.check_document()
        self.run_scenario()
        self.check_undocumented()
        self.check_coverage()
        print(f"{len(self.failures)} failures" if self.failures else "all as documented")
        return 1 if self.failures else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base_url")
    parser.add_argument("--operator-token-file", required=True)
    parser.add_argument("--shop-token-file", required=True)
    parser.add_argument("-v", "--verbose", action="store_true")
    arguments = parser.parse_args()
    try:
        with open(arguments.operator_token_file) as f:
            operator = f.read().strip()
        with open(arguments.shop_token_file) as f:
            shop = f.read().strip()
        return Check(arguments.base_url, operator, shop, arguments.verbose).run()
    except OSError as error:
        print(f"openapi_check.py: {error}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
