"""A cluster behind HAProxy, with the configuration that users are given: who answers what, and what
clients notice of an edge that is killed, stopped or ended."""

import contextlib
import http.client
import http.server
import signal
import threading
import time
from types import SimpleNamespace

from cluster import Balancer, Cluster, NatsServers
from harness import PATIENCE, Case, eventually, figure, main
from streams import Curl

EDGES = {"edge0", "edge1"}
OUTAGE = 1.0  # seconds that any client may go without an answer


@contextlib.contextmanager
def balanced(programs, **options):
    with NatsServers() as nats, Cluster(programs, nats, **options) as cluster, \
            Balancer(cluster) as balancer:
        yield balancer


def served_by(reply):
    return reply.headers["served-by"]


class Shoppers:
    """Some who buy without a pause, each on a connection that is kept, each purchase for a customer of
    its own. What was refused they ask again, with the same key. When a kept connection is closed and
    brings no answer they send the request once more, as all clients of HTTP do that know it may be
    repeated."""

    def __init__(self, balancer, sku, n=8):
        self.balancer, self.sku = balancer, sku
        self.lock = threading.Lock()
        self.answered = []  # when it was asked first, how long it took, who served it
        self.trouble = []   # what came instead of an answer
        self.sent_again = 0
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self._shop, args=(i,)) for i in range(n)]

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *error):
        self.ending.set()
        for t in self.threads:
            t.join(PATIENCE)

    def _shop(self, me):
        n = 0
        connection = self.balancer.connect()
        while not self.ending.is_set():
            n += 1
            begun = time.monotonic()
            while True:
                try:
                    reply = self.balancer.request(
                        "POST", f"/v1/sales/{self.sku}/purchases", self.balancer.shop,
                        {"customer": f"c{me}-{n}"}, {"Idempotency-Key": f"k{n}"}, connection)
                    wrong = None if reply.status in (201, 202) else reply
                except (OSError, http.client.HTTPException) as e:
                    wrong = e
                    connection.close()
                now = time.monotonic()
                with self.lock:
                    if wrong is None:
                        self.answered.append((begun, now - begun, served_by(reply)))
                        break
                    if isinstance(wrong, http.client.RemoteDisconnected):
                        self.sent_again += 1
                    else:
                        self.trouble.append(wrong)
                if now - begun > PATIENCE:
                    return
        connection.close()

    def since(self, moment):
        with self.lock:
            return [a for a in self.answered if a[0] >= moment]

    def until_each_edge_answers(self, edges=EDGES):
        """Since now, many times."""
        now = time.monotonic()
        def enough():
            names = [by for _, _, by in self.since(now)]
            return set(names) == edges and len(names) >= 200
        eventually(f"{edges} answer", enough)

    def longest_since(self, moment):
        """The longest that anybody waited for an answer, counting those who wait still."""
        with self.lock:
            return max(took for begun, took, _ in self.answered if begun + took >= moment)


class Crowded(http.server.ThreadingHTTPServer):
    """None of those who look after it at once is turned away."""
    request_queue_size = 128


class Deaf(http.server.BaseHTTPRequestHandler):
    """A node that is ready, takes requests and never answers them: it closes the connection."""
    asked = []

    def do_GET(self):
        if self.path == "/readyz":
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.take()

    def take(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append((self.command, self.path))
        self.close_connection = True

    do_POST = do_PUT = do_PATCH = do_DELETE = take

    def log_message(self, *arguments):
        pass


class Balanced(Case):
    def test_only_what_may_be_sent_twice_is(self):
        with contextlib.ExitStack() as stack:
            node = stack.enter_context(Crowded(("127.0.0.1", 0), Deaf))
            stack.callback(node.shutdown)
            threading.Thread(target=node.serve_forever).start()
            place = SimpleNamespace(port=node.server_port, operator="o", shop="s")
            b = stack.enter_context(Balancer(SimpleNamespace(edges=[place] * 2,
                                                             processors=[place] * 3)))
            key = {"Idempotency-Key": "k"}
            for method, path, headers, times in (
                    ("GET", "/v1/sales/tour", {}, 3),
                    ("POST", "/v1/sales/tour/purchases", key, 3),
                    ("POST", "/v1/sales/tour/purchases", {}, 1),
                    ("POST", "/v1/purchases/tour:2/payment", {}, 3),
                    ("POST", "/v1/purchases/tour:2/refund", {}, 1),
                    ("POST", "/v1/tokens", {}, 3),
                    ("DELETE", "/v1/purchases/tour:2", {}, 1),
                    ("PUT", "/v1/sales/tour", {}, 1),
                    ("PATCH", "/v1/sales/tour", {}, 1),
                    ("POST", "/v1/webhooks", {}, 1),
                    ("GET", "/v1/webhooks", {}, 3)):
                Deaf.asked.clear()
                body = None if method in ("GET", "DELETE") else {"customer": "ann"}
                reply = b.request(method, path, "s", body, headers)
                self.assertEqual((reply.status, reply.problem), (502, "unconfirmed"))
                self.assertEqual(Deaf.asked, [(method, path)] * times)

    def test_who_answers_what(self):
        with balanced(self.programs) as b:
            self.assertEqual(b.check().strip(), "Configuration file is valid")
            b.open_sale("tour", stock=1000, limit_per_customer=20)
            version, status, by, body = b.curl(
                "/v1/sales/tour/purchases", "-H", f"Authorization: Bearer {b.shop}", "-H",
                "Idempotency-Key: k", "-d", '{"customer":"ann"}')
            self.assertEqual((version, status), ("2", "201"), body)
            self.assertIn('"status":"reserved"', body)
            # Ann's edge, whoever asks, how often, and with which token.
            tokens = [b.customer_token("ann", ttl) for ttl in (300, 600)]
            asked = [b.request("GET", "/v1/sales/tour/purchases", t) for t in tokens]
            asked += [b.request("GET", "/v1/sales/tour/purchases?customer=ann", b.shop)]
            asked += [b.buy("tour", "ann", f"k{i}") for i in range(5)]
            asked += [b.request("POST", "/v1/sales/tour/purchases", t, {"quantity": 1},
                                {"Idempotency-Key": t[-20:]}) for t in tokens]
            self.assertEqual({served_by(r) for r in asked}, {by}, asked)
            self.assertTrue(all(r.status in (200, 201) for r in asked), asked)
            # Others' are spread.
            self.assertEqual({served_by(b.buy("tour", f"c{i}", "k")) for i in range(40)}, EDGES)
            self.assertEqual({served_by(b.request("GET", "/v1/sales/tour")) for _ in range(4)},
                             EDGES)
            bought = asked[3].json["purchase"]
            self.assertEqual(b.pay(bought, "pay-1").json["status"], "ordered")
            for path in ("/v1/sales", f"/v1/purchases/{bought}", "/v1/sales/tour/audit-head",
                         "/v1/sales/tour/line", "/openapi.json"):
                reply = b.request("GET", path, b.operator)
                self.assertEqual(reply.status, 200, reply)
                self.assertIn(served_by(reply), EDGES, path)
            for path in ("/", "/console", "/s/tour", "/v1/sales/tour/orders",
                         "/v1/sales/tour/timeline", f"/v1/purchases/{bought}/explanation"):
                reply = b.request("GET", path, b.operator, headers={"Accept": "text/html"})
                self.assertEqual(reply.status, 200, (path, reply))
                self.assertIn("processor", served_by(reply), path)
            # What is each processor's own comes from the same one.
            for path in ("/v1/projections", "/v1/webhooks", "/v1/outbox", "/v1/audits", "/v1/stats",
                         "/v1/cluster", "/metrics"):
                reply = b.request("GET", path, b.operator)
                self.assertEqual((reply.status, served_by(reply)), (200, "processor0"), path)
            b.cluster.processors[0].kill()
            eventually("another takes its place", lambda: b.request(
                "GET", "/v1/outbox", b.operator).headers.get("served-by") == "processor1")

    def test_a_customer_is_limited_whichever_edges_are_asked(self):
        with balanced(self.programs, customer_rate=1, options=("--customer-burst", "3")) as b:
            b.open_sale("tour", stock=1000)
            # How often one asks is counted by one edge, whichever of its tokens a customer uses.
            tokens = [b.customer_token("ann", ttl) for ttl in (300, 600, 900)]
            began = time.monotonic()
            replies = [b.request("POST", "/v1/sales/tour/purchases", t, {"quantity": 1},
                                 {"Idempotency-Key": f"k{i}"})
                       for i, t in enumerate(tokens * 4)]
            most = 3 + 1 + int(time.monotonic() - began)
            limited = [r for r in replies if r.status == 429]
            self.assertEqual({r.problem for r in limited}, {"rate_limited"}, replies)
            self.assertTrue(all("retry-after" in r.headers for r in limited))
            self.assertGreaterEqual(len(limited), len(replies) - most)
            self.assertEqual({served_by(r) for r in replies[:1]}, {served_by(r) for r in replies})
            self.assertEqual(b.buy("tour", "ben", "k").status, 201)
            # How much one buys is decided in the log: exactly, also when all edges are asked at once.
            for round_ in range(10):
                customer, replies = f"c{round_}", []
                threads = [threading.Thread(target=lambda s=s: replies.append(
                    s.buy("tour", customer, s.url))) for s in b.cluster.all()]
                for t in threads:
                    t.start()
                for t in threads:
                    t.join()
                self.assertEqual(sorted(r.status for r in replies), [201, 403, 403, 403, 403])
                self.assertEqual({r.problem for r in replies if r.status == 403}, {"over_limit"})

    def test_a_stream_is_a_processors_and_goes_on_at_another(self):
        with balanced(self.programs) as b:
            b.open_sale("tour", stock=1000, limit_per_customer=20)
            def decisions(last):
                return Curl(b, "/v1/sales/tour/decisions", b.shop, last,
                            ("--http2", "--cacert", b.path("certificate")))
            def who(stream):
                return {n.lower(): v for n, v in stream.begun().headers}["served-by"]
            b.buy("tour", "ann", "k0")
            with decisions("0") as first:
                first.wait_for("reserved")
                by = who(first)
                self.assertRegex(by, "^processor[0-2]$")
                b.cluster.processors[int(by[-1])].kill()
                for i in range(1, 10):
                    self.assertEqual(b.buy("tour", "ann", f"k{i}").status, 201)
                first.end()
            with decisions(first.last) as second:
                left = 10 - len(first.of("reserved"))
                second.wait_for("reserved", left)
                self.assertNotEqual(who(second), by)
                ids = [e.id for e in first.events + second.events]
                self.assertEqual(len(set(ids)), len(ids), "each message once")

    def test_an_edge_that_ends_fails_no_request(self):
        with balanced(self.programs) as b:
            b.open_sale("tour", stock=1_000_000)
            with Shoppers(b, "tour") as shoppers:
                for i, edge in list(enumerate(b.cluster.edges)) * 2:
                    shoppers.until_each_edge_answers()
                    then = time.monotonic()
                    self.assertEqual(edge.stop(), 0)
                    shoppers.until_each_edge_answers(EDGES - {f"edge{i}"})
                    self.assertLess(shoppers.longest_since(then), OUTAGE)
                    edge.start()
                figure("requests that were sent again, edges ended", shoppers.sent_again)
                # Not more than were on their way.
                self.assertLessEqual(shoppers.sent_again, 4 * len(shoppers.threads))
                shoppers.until_each_edge_answers()
                before = shoppers.sent_again
                for i, edge in enumerate(b.cluster.edges):
                    b.tell(f"set server edges/edge{i} state drain")
                    shoppers.until_each_edge_answers(EDGES - {f"edge{i}"})
                    self.assertEqual(edge.stop(), 0)
                    shoppers.until_each_edge_answers(EDGES - {f"edge{i}"})
                    edge.start()
                    b.tell(f"set server edges/edge{i} state ready")
                    shoppers.until_each_edge_answers()
                self.assertEqual(shoppers.sent_again, before, "none, when it was emptied")
            self.assertEqual(shoppers.trouble, [])
            figure("answers while edges were ended and started again",
                   len(shoppers.answered))

    def test_an_edge_that_is_killed_or_stopped_is_done_without_at_once(self):
        with balanced(self.programs) as b:
            b.open_sale("tour", stock=1_000_000)
            with Shoppers(b, "tour") as shoppers:
                for i, edge in enumerate(b.cluster.edges):
                    other = EDGES - {f"edge{i}"}
                    shoppers.until_each_edge_answers()
                    then = time.monotonic()
                    edge.kill()
                    shoppers.until_each_edge_answers(other)
                    killed = shoppers.longest_since(then)
                    edge.start()
                    shoppers.until_each_edge_answers()
                    then = time.monotonic()
                    edge.process.send_signal(signal.SIGSTOP)
                    eventually("the other answers", lambda: len(shoppers.since(then + OUTAGE)) > 100)
                    stopped = shoppers.longest_since(then)
                    edge.process.send_signal(signal.SIGCONT)
                    shoppers.until_each_edge_answers()
                    figure("longest wait for an answer, an edge killed", f"{killed:.2f} s")
                    figure("longest wait for an answer, an edge stopped", f"{stopped:.2f} s")
                    self.assertLess(killed, OUTAGE)
                    self.assertLess(stopped, OUTAGE)
            figure("requests that were sent again, edges killed and stopped", shoppers.sent_again)
            figure("requests that were refused, edges killed and stopped", len(shoppers.trouble))
            for wrong in shoppers.trouble:
                self.assertEqual(getattr(wrong, "problem", None), "unconfirmed", wrong)
            # Each customer bought once, however often it was asked.
            eventually("the sale has all", lambda: b.request(
                "GET", "/v1/sales/tour").json["held"] == len(shoppers.answered))

    def test_an_address_is_limited_and_a_shop_is_not(self):
        with balanced(self.programs) as b:
            b.open_sale("tour", stock=1000)
            token = b.customer_token("ann")
            stop = threading.Event()
            replies = []
            def ask():
                with contextlib.closing(b.connect()) as connection:
                    while not stop.is_set():
                        replies.append(b.request("GET", "/v1/sales/tour", token,
                                                 connection=connection))
            threads = [threading.Thread(target=ask) for _ in range(4)]
            for t in threads:
                t.start()
            try:
                eventually("it is limited", lambda: replies and replies[-1].status == 429)
                self.assertEqual(b.buy("tour", "ben", "k").status, 201)
                self.assertEqual(b.request("GET", "/v1/sales/tour").status, 200)
            finally:
                stop.set()
                for t in threads:
                    t.join(PATIENCE)
            limited = next(r for r in replies if r.status == 429)
            self.assertEqual((limited.problem, limited.headers["retry-after"]),
                             ("rate_limited", "1"))
            self.assertGreaterEqual(sum(r.status == 200 for r in replies), 400)
            eventually("it may go on", lambda: b.request(
                "GET", "/v1/sales/tour", token).status == 200)

    def test_without_edges_processors_serve(self):
        with balanced(self.programs) as b:
            b.open_sale("tour", stock=1000)
            for edge in b.cluster.edges:
                edge.kill()
            eventually("purchases go on", lambda: b.buy("tour", "ann", "k").status == 201)
            by = {served_by(b.buy("tour", f"c{i}", "k")) for i in range(40)}
            self.assertEqual(by, {"processor0", "processor1", "processor2"})


if __name__ == "__main__":
    main()
