"""Clients that mean harm, against a real server. While each goes on, an honest customer buys within
a bounded time, memory stays bounded, and whoever is refused is told so in the right words.

FAIRSALE_ROUNDS makes more of it."""

import base64
import contextlib
import hashlib
import hmac
import json
import multiprocessing
import os
import re
import resource
import select
import socket
import struct
import subprocess
import time

from gateway import new_payment_secret, signed
from harness import PATIENCE, Case, eventually, figure, main
from openapi_test import Document, Mismatch, document_file
from shoppers import Crowd, Wire, request, take_answer

ROUNDS = int(os.environ.get("FAIRSALE_ROUNDS", "1"))
BOUND = 1.0  # seconds in which an honest purchase is answered, connecting included
MIB = 1 << 20
FORK = multiprocessing.get_context("fork")


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def mint(key, customer, expires):
    """A customer's token, as anybody can make who has the key."""
    text = f"ct1.{base64url(customer.encode())}.{expires}"
    return f"{text}.{base64url(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest())}"


def shop_honestly(port, key, stop, results, newcomer):
    """Buys one thing after the other until told to stop; every other one on a new connection, if it
    is to come as a newcomer."""
    took, wrong = [], []
    kept = socket.create_connection(("127.0.0.1", port), PATIENCE, ("127.0.0.9", 0))
    n = 0
    while not stop.wait(0.02) or n < 10:
        n += 1
        begun = time.monotonic()
        fresh = newcomer and n % 2 == 0
        connection = socket.create_connection(("127.0.0.1", port), PATIENCE,
                                              ("127.0.0.9", 0)) if fresh else kept
        connection.sendall(request("POST", "/v1/sales/honest/purchases",
                                   mint(key, f"honest-{n}", int(time.time()) + 60), "{}",
                                   f"Idempotency-Key: h{n}\r\n"))
        received = bytearray()
        answer = None
        while answer is None:
            chunk = connection.recv(65536)
            if not chunk:
                break
            received += chunk
            answer, _ = take_answer(received, 0)
        took.append(time.monotonic() - begun)
        if answer is None or answer.status != 201:
            wrong.append(repr(answer))
        if fresh:
            connection.close()
    kept.close()
    results.send((took, wrong[:5]))


class Hostile(Case):
    honest = kinds = 0  # over all tests
    slowest = most_grown = 0.0

    @classmethod
    def tearDownClass(cls):
        figure("kinds of malformed, forged and injected requests refused", cls.kinds)
        figure("honest purchases among hostile clients, all served", cls.honest)
        figure("slowest of these", f"{cls.slowest * 1000:.0f} ms")
        figure("most that memory grew under hostile clients", f"{cls.most_grown / MIB:.1f} MiB")

    @contextlib.contextmanager
    def beset(self, *options, idle=8, memory=48, limit=None, bound=BOUND, newcomer=True,
              environment=None, **terms):
        """A server with a sale "demo" and one at which somebody honest buys meanwhile; gives the
        server. `memory`: the MiB by which it may grow; `limit`: of its descriptors; `bound`: the
        seconds that an honest purchase may take."""
        server = self.server("--idle-timeout", str(idle), *options)
        server.environment.update(environment or {})
        if limit is not None:
            server.popen["preexec_fn"] = lambda: resource.setrlimit(resource.RLIMIT_NOFILE,
                                                                    (limit, limit))
        with server:
            server.open_sale("demo", **terms)
            server.open_sale("honest", stock=1_000_000, hold_seconds=600)
            before = self.memory(server, "VmRSS")
            stop = FORK.Event()
            results, sender = FORK.Pipe()
            honest = FORK.Process(target=shop_honestly, args=(
                server.port, server.read("customer-key").strip(), stop, sender, newcomer),
                daemon=True)
            honest.start()
            try:
                yield server
            finally:
                stop.set()
                took, wrong = results.recv() if results.poll(PATIENCE) else ([], ["silence"])
                honest.join(PATIENCE)
            grown = self.memory(server, "VmHWM") - before
            name = self.id().rsplit(".", 1)[1].removeprefix("test_").replace("_", " ")
            took.sort()
            print(f"{name}: {len(took)} honest purchases, slowest {took[-1] * 1000:.0f} ms, memory "
                  f"+{grown / MIB:.1f} MiB", flush=True)
            self.assertEqual(wrong, [])
            if not self.sanitized():
                self.assertLess(took[-1], bound)
                self.assertLess(grown, memory * MIB)
            self.assertIsNone(server.process.poll())
            self.assertNotRegex(server.log, " (error|critical) ")
            self.assertEqual(server.stop(), 0)
            Hostile.honest += len(took)
            Hostile.slowest = max(Hostile.slowest, took[-1])
            Hostile.most_grown = max(Hostile.most_grown, grown)

    @staticmethod
    def memory(server, what):
        with open(f"/proc/{server.process.pid}/status") as f:
            return int(re.search(what + r":\s+(\d+) kB", f.read()).group(1)) * 1024

    def sale(self, server, sku="demo"):
        return server.request("GET", f"/v1/sales/{sku}").json

    def purchase(self, server, customer="mallory", fields=""):
        return request("POST", "/v1/sales/demo/purchases", server.shop,
                       f'{{"customer":"{customer}"}}',
                       f"Idempotency-Key: {customer}\r\n{fields}")

    def say(self, server, data, end=True):
        """Sends bytes on a connection of their own, and gives the answers and whether the server
        then closed it. `end`: it must close; otherwise one answer is waited for."""
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as s:
            s.sendall(data)
            received = bytearray()
            answers = []
            at = 0
            closed = False
            while not closed and (end or not answers):
                try:
                    chunk = s.recv(65536)
                except ConnectionResetError:
                    chunk = b""
                closed = not chunk
                received += chunk
                while True:
                    answer, at = take_answer(received, at)
                    if answer is None:
                        break
                    answers.append(answer)
            self.assertEqual(bytes(received[at:]), b"", "an answer broke off")
            return answers, closed

    # ---- too slow, too much, or gone

    def test_slow_clients(self):
        """They send a byte now and then, or never take their answers. Each is let go in time."""
        with self.beset("--header-timeout", "0.5", "--body-timeout", "0.5", "--write-timeout",
                        "0.5", memory=64 + 16 * ROUNDS) as server:
            n = 200 * ROUNDS
            kinds = {
                "header": [b"GET /v1/sales/demo HTTP/1.1\r\nHost: x\r\n", b"X"],
                "line": [b"", b"G"],
                "body": [b"POST /v1/sales/demo/purchases HTTP/1.1\r\nHost: x\r\n"
                         b"Content-Length: 16000\r\n\r\n", b" "],
                "chunks": [b"POST /v1/sales/demo/purchases HTTP/1.1\r\nHost: x\r\n"
                           b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"],
            }
            sockets = {}
            for i in range(n):
                name = list(kinds)[i % len(kinds)]
                s = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
                s.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    s.send(kinds[name][0] or b"G")
                sockets[s] = (name, time.monotonic(), bytearray())
            deaf = []
            for _ in range(8 * ROUNDS):
                s = socket.socket()
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                s.connect(("127.0.0.1", server.port))
                s.setblocking(False)
                deaf.append((s, bytearray(request("GET", "/openapi.json") * 300)))

            def all_let_go():
                for s, data in deaf:
                    with contextlib.suppress(OSError):
                        del data[:s.send(data)]
                for s in list(sockets):
                    name, begun, received = sockets[s]
                    with contextlib.suppress(OSError):
                        s.send(kinds[name][1])
                    try:
                        chunk = s.recv(65536)
                    except BlockingIOError:
                        continue
                    except ConnectionError:
                        chunk = b""
                    received += chunk
                    if not chunk:
                        answer, _ = take_answer(received, 0)
                        self.assertIsNotNone(answer, f"{name}: closed without a word")
                        self.assertEqual((answer.status, answer.problem), (408, "timeout"))
                        self.assertTrue(answer.closes)
                        self.assertLess(time.monotonic() - begun, 0.5 + BOUND + 2)
                        s.close()
                        del sockets[s]
                return not sockets

            eventually("all slow ones are let go", all_let_go)

            def connections():
                text = server.request("GET", "/metrics", server.operator).body.decode()
                return float(re.search(r"^fairsale_http_connections (\S+)", text, re.M)[1])

            # The deaf are cut off, whatever they have not taken.
            eventually("nobody is left but the honest", lambda: connections() <= 3)
            for s, _ in deaf:
                s.close()
            figure("slow clients let go in time", n + len(deaf))

    def test_oversized(self):
        """Without an end, or beyond a bound; each in a dialect of its own."""
        with self.beset() as server:
            post = b"POST /v1/sales/demo/purchases HTTP/1.1\r\nHost: x\r\n"
            endless = {
                414: (b"GET /", b"x" * 4096),
                431: (b"GET / HTTP/1.1\r\nHost: x\r\n", b"X-Field: y\r\n" * 300),
                4131: (post + b"Content-Length: 99999999999\r\n\r\n", b"x" * 4096),
                4132: (post + b"Transfer-Encoding: chunked\r\n\r\n", b"fff\r\n" + b"x" * 0xfff +
                       b"\r\n"),
                4133: (post + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 4096),
            }
            for _ in range(5 * ROUNDS):
                for code, (begin, more) in endless.items():
                    status = code if code < 1000 else code // 10
                    with self.subTest(code), socket.create_connection(
                            ("127.0.0.1", server.port), PATIENCE) as s:
                        s.sendall(begin)
                        received = bytearray()
                        answer = None
                        sent = 0
                        while answer is None and sent < 64 * MIB:
                            with contextlib.suppress(ConnectionError):
                                s.sendall(more)
                            sent += len(more)
                            if select.select([s], [], [], 0)[0]:
                                received += s.recv(65536)
                            answer, _ = take_answer(received, 0)
                        self.assertIsNotNone(answer)
                        self.assertEqual(answer.status, status)
                        self.assertTrue(answer.problem)
                        self.assertTrue(answer.closes)
            Hostile.kinds += len(endless)

    def test_half_closed_and_reset(self):
        with self.beset("--customer-rate", "0", stock=100_000) as server:
            # Whoever has said all it has to say still gets all its answers.
            with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as s:
                for i in range(60):
                    s.sendall(self.purchase(server, f"half-{i}"))
                s.shutdown(socket.SHUT_WR)
                received = bytearray()
                while chunk := s.recv(65536):
                    received += chunk
            self.assertEqual(received.count(b"HTTP/1.1 201 "), 60)
            sold = self.sale(server)["held"]
            self.assertEqual(sold, 60)
            for i in range(100 * ROUNDS):
                # In the middle of a request: nothing is done, and the connection is gone.
                whole = self.purchase(server, f"cut-{i}")
                with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as s:
                    s.sendall(whole[:(i * 7) % (len(whole) - 1) + 1])
                    s.shutdown(socket.SHUT_WR)
                    while s.recv(65536):
                        pass
                # Hung up on with answers under way: done or not, but not half.
                s = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
                s.sendall(self.purchase(server, f"reset-{i}") * 3)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                s.close()
            sale = self.sale(server)
            self.assertLessEqual(sale["held"], 60 + 100 * ROUNDS)
            self.assertEqual(sale["held"] + sale["available"], sale["stock"])
            for i in range(0, 100 * ROUNDS, 9):
                reply = server.buy("demo", f"cut-{i}", f"cut-{i}")
                self.assertNotIn("idempotent-replayed", reply.headers)

    # ---- many

    def test_idle_connections(self):
        wanted = 20_000 if ROUNDS > 1 else 2_000
        spare = 1_000  # of the log and of whoever is refused
        limit = wanted + spare
        if not may_open(limit):
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            wanted = min(wanted, limit - spare)
            print(f"{wanted} connections: no more than {limit} descriptors are allowed here")
        # All places are taken for a while, so a newcomer may rightly be told that there is none.
        with self.beset("--max-connections", str(wanted + 10), idle=600, limit=limit,
                        memory=wanted * 8192 / MIB + 16, bound=3.0,
                        newcomer=False) as server:
            before = self.memory(server, "VmRSS")
            # Each by a process of its own, since they have limits too.
            end, ready = FORK.Event(), FORK.Semaphore(0)
            crowds = [FORK.Process(target=sit_idle, daemon=True, args=(
                server.port, wanted // 4, end, ready, f"127.0.1.{i + 1}")) for i in range(4)]
            for crowd in crowds:
                crowd.start()
            try:
                for _ in crowds:
                    self.assertTrue(ready.acquire(timeout=PATIENCE))
                each = (self.memory(server, "VmRSS") - before) / wanted
                # Some more fill it up. Over the bound one is told so, and those within are served.
                more = [socket.create_connection(("127.0.0.1", server.port), PATIENCE)
                        for _ in range(100)]
                told = 0
                for s in more[12:]:
                    said = s.recv(4096)
                    if said:
                        answer, _ = take_answer(bytearray(said), 0)
                        self.assertEqual((answer.status, answer.problem), (503, "overloaded"))
                        self.assertIn(b"Retry-After: 1", answer.head)
                        told += 1
                self.assertGreater(told, 10)
                for s in more:
                    s.close()
                eventually("there is room again",
                           lambda: server.request("GET", "/v1/sales/demo").status == 200)
            finally:
                end.set()
                for crowd in crowds:
                    crowd.join(PATIENCE)
            eventually("all have left",
                       lambda: len(os.listdir(f"/proc/{server.process.pid}/fd")) < 200)
            figure("idle connections at once", wanted)
            figure("memory of an idle connection", f"{each:,.0f} B")

    def test_flood_from_one_customer(self):
        with self.beset(stock=100_000, limit_per_customer=1_000_000) as server:
            token = server.customer_token("mallory")
            answers = self.flood(server, seconds=1.0 * ROUNDS, sources=["127.0.0.1"], make=lambda i:
                                 request("POST", "/v1/sales/demo/purchases", token, "{}",
                                         f"Idempotency-Key: f{i}\r\n"))
            self.assertEqual(set(answers), {201, 429})
            # The burst, and ten a second.
            self.assertLessEqual(answers[201], 20 + 10 * (ROUNDS + 2))
            self.assertGreater(answers[429], 1000)
            self.assertEqual(self.sale(server)["held"], answers[201])
            figure("requests in a flood from one customer", sum(answers.values()))

    def test_flood_from_many_customers(self):
        """Each from hardly anybody, over many addresses. The line is full before memory is."""
        n = 100_000 if ROUNDS > 1 else 20_000
        with self.beset("--address-rate", "100000", "--address-burst", "100000", stock=1000,
                        line_limit=500, memory=96) as server:
            key = server.read("customer-key").strip()
            expires = int(time.time()) + 600
            answers = self.flood(
                server, count=n, sources=[f"127.0.2.{i + 1}" for i in range(32)], make=lambda i:
                request("POST", "/v1/sales/demo/purchases", mint(key, f"m{i}", expires), "{}",
                        "Idempotency-Key: k\r\n"))
            self.assertEqual(answers, {201: 1000, 202: 500, 409: n - 1500})
            sale = self.sale(server)
            self.assertEqual((sale["held"], sale["waiting"], sale["available"]), (1000, 500, 0))
            figure("customers in a flood", n)

    def test_flood_from_one_address(self):
        """With a name for each request, and with forged ones: the address pays."""
        with self.beset(stock=100_000) as server:
            key = server.read("customer-key").strip()
            expires = int(time.time()) + 600

            def make(i):
                token = mint(key if i % 2 else "0" * 32, f"m{i}", expires)
                return request("POST", "/v1/sales/demo/purchases", token, "{}",
                               "Idempotency-Key: k\r\n")

            answers = self.flood(server, seconds=1.0 * ROUNDS, sources=["127.0.0.1"], make=make)
            self.assertEqual(set(answers), {201, 401, 429})
            self.assertLessEqual(answers[201] + answers[401], 400 + 200 * (ROUNDS + 2))
            self.assertGreater(answers[429], 500)

    def flood(self, server, sources, make, seconds=None, count=None):
        """How often each status was answered."""
        answers = {}

        def heard(_, answer):
            answers[answer.status] = answers.get(answer.status, 0) + 1
            if answer.status == 429 and answers[429] % 100 == 1:
                self.assertEqual(answer.problem, "rate_limited")
                self.assertRegex(answer.head, rb"\r\nRetry-After: \d+")

        def lost(what, sent):
            raise AssertionError("a request without an answer")

        with Crowd(server.port, 0, heard, lost) as crowd:
            crowd.wires = [Wire(server.port, source) for source in sources for _ in
                           range(1 + 8 // len(sources))]
            end = time.monotonic() + (seconds or 4 * PATIENCE)
            i = 0

            class One:
                pass

            def more():
                nonlocal i
                if count is not None and i >= count:
                    return None
                i += 1
                one = One()
                one.request = make(i)
                return one

            while time.monotonic() < end and (count is None or i < count):
                crowd.ask(more, 16)
                crowd.move(0.1)
            crowd.settle()
        return answers

    # ---- lies

    def test_smuggled_requests(self):
        """Behind or within each of these stands a purchase. Nobody is to see it as one."""
        with self.beset("--header-timeout", "1", "--body-timeout", "1") as server:
            hidden = self.purchase(server)
            post = b"POST /v1/sales/demo/purchases HTTP/1.1\r\nHost: x\r\n"
            chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(hidden), hidden)
            size = b"Content-Length: %d\r\n" % len(hidden)
            te = b"Transfer-Encoding: chunked\r\n"
            # Refused at sight: one answer, and the end.
            refused = {
                "CL.TE": post + size + te + b"\r\n0\r\n\r\n" + hidden,
                "TE.CL": post + te + size + b"\r\n" + chunk,
                "CL.CL": post + size + b"Content-Length: 0\r\n\r\n" + hidden,
                "CL twice": post + size + size + b"\r\n" + hidden,
                "CL list": post + b"Content-Length: 0, %d\r\n\r\n" % len(hidden) + hidden,
                "CL signed": post + b"Content-Length: +0\r\n\r\n" + hidden,
                "CL hex": post + b"Content-Length: 0x0\r\n\r\n" + hidden,
                "CL with a space": post + b"Content-Length: 0 0\r\n\r\n" + hidden,
                "CL negative": post + b"Content-Length: -1\r\n\r\n" + hidden,
                "CL beyond 64 bits":
                    post + b"Content-Length: 18446744073709551616\r\n\r\n" + hidden,
                "TE unknown": post + b"Transfer-Encoding: xchunked\r\n\r\n" + chunk,
                "TE identity": post + b"Transfer-Encoding: identity\r\n" + size + b"\r\n" + hidden,
                "TE list": post + b"Transfer-Encoding: chunked, identity\r\n\r\n" + chunk,
                "TE gzip": post + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunk,
                "TE twice": post + te + te + b"\r\n" + chunk,
                "TE quoted": post + b'Transfer-Encoding: "chunked"\r\n\r\n' + chunk,
                "TE tab": post + b"Transfer-Encoding:\x0bchunked\r\n\r\n" + chunk,
                "TE with a NUL": post + b"Transfer-Encoding: chunked\0\r\n\r\n" + chunk,
                "TE in HTTP/1.0": post.replace(b"1.1", b"1.0") + te + b"\r\n" + chunk,
                "TE and a space before the colon":
                    post + b"Transfer-Encoding : chunked\r\n\r\n" + chunk,
                "CL and a space before the colon":
                    post + b"Content-Length : 0\r\n" + size + b"\r\n" + hidden,
                "TE folded": post + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + chunk,
                "folded": post + b"X: a\r\n " + size + b"\r\n" + hidden,
                "bare LF": post.replace(b"\r\n", b"\n") + b"\n" + hidden,
                "bare LF after a field": post + b"X: y\n" + size + b"\r\n" + hidden,
                "bare CR": post + b"X: y\r" + size + b"\r\n" + hidden,
                "NUL in a value": post + b"X: \0y\r\n\r\n" + hidden,
                "NUL in a name": post + b"X\0: y\r\n\r\n" + hidden,
                "NUL in the target": b"GET /v1/sales/demo\0 HTTP/1.1\r\nHost: x\r\n\r\n" + hidden,
                "no host": post.replace(b"Host: x\r\n", b"") + b"\r\n" + hidden,
                "two hosts": post + b"Host: y\r\n\r\n" + hidden,
                "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + hidden,
                "HTTP/0.9": b"GET /v1/sales/demo\r\n" + hidden,
                "HTTP/9.9": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n" + hidden,
                "CONNECT": b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n" + hidden,
                "a colon first": post + b": x\r\n\r\n" + hidden,
                "chunk size signed": post + te + b"\r\n+0\r\n\r\n" + hidden,
                "chunk size with 0x": post + te + b"\r\n0x0\r\n\r\n" + hidden,
                "chunk size beyond 64 bits": post + te + b"\r\n10000000000000000\r\n\r\n" + hidden,
                "chunk ended by LF": post + te + b"\r\n0\n\n" + hidden,
                "chunk longer than said": post + te + b"\r\n1\r\nxx\r\n0\r\n\r\n" + hidden,
            }
            for name, data in refused.items():
                with self.subTest(name):
                    answers, closed = self.say(server, data)
                    self.assertEqual(len(answers), 1, answers)
                    self.assertEqual(answers[0].status, 400, answers)
                    self.assertEqual(answers[0].problem, "bad_request")
                    self.assertTrue(answers[0].closes and closed)
            # Whole requests whose body it is: one answer, and the connection goes on.
            token = f"Authorization: Bearer {server.shop}\r\nIdempotency-Key: w\r\n".encode()
            swallowed = {
                "in a body": post + token + size + b"\r\n" + hidden,
                "in a chunk": post + token + te + b"\r\n" + chunk,
                "in a body of GET":
                    b"GET /v1/sales/demo HTTP/1.1\r\nHost: x\r\n" + size + b"\r\n" + hidden,
                "in a body of DELETE":
                    b"DELETE /v1/purchases/demo:9 HTTP/1.1\r\nHost: x\r\n" + token + size +
                    b"\r\n" + hidden,
                "in a trailer": post + token + te + b"\r\n2\r\n{}\r\n0\r\nX: " +
                    hidden[:40].replace(b"\r\n", b" ") + b"\r\n\r\n",
            }
            goodbye = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            for name, data in swallowed.items():
                with self.subTest(name):
                    answers, closed = self.say(server, data + goodbye)
                    self.assertEqual(len(answers), 2, answers)
                    self.assertEqual(answers[1].body, b"ok\n")
                    self.assertIn(answers[0].status, (200, 400, 404))
            # The target's own host counts, as RFC 9112 has it, and one answer is one answer.
            absolute = b"GET http://other/v1/sales/demo HTTP/1.1\r\nHost: x\r\n\r\n"
            answers, _ = self.say(server, absolute + goodbye)
            self.assertEqual([a.status for a in answers], [200, 200])
            self.assertEqual((self.sale(server)["held"], self.sale(server)["position"]), (0, 1))
            Hostile.kinds += len(refused) + len(swallowed)

    def test_forged_tokens(self):
        with self.beset("--address-rate", "0") as server:
            key = server.read("customer-key").strip()
            good = server.customer_token("alice")
            later = int(time.time()) + 600
            self.assertEqual(mint(key, "alice", good.split(".")[2]), good)
            prefix, name, expires, signature = good.split(".")

            def jwt(head, claims, secret=b""):
                text = ".".join(base64url(json.dumps(part).encode()) for part in (head, claims))
                return text + "." + (base64url(hmac.new(secret, text.encode(),
                                                        hashlib.sha256).digest()) if secret else "")

            claims = {"sub": "alice", "role": "operator", "aud": "fairsale", "exp": later}
            forged = {
                "JWT without algorithm": jwt({"alg": "none"}, claims),
                "JWT with the key": jwt({"alg": "HS256"}, claims, key.encode()),
                "no signature": f"{prefix}.{name}.{expires}.",
                "no signature at all": f"{prefix}.{name}.{expires}",
                "another key": mint("k" * 48, "alice", later),
                "an empty key": mint("", "alice", later),
                "the shop's token as the key": mint(server.shop, "alice", later),
                "another customer": f"{prefix}.{base64url(b'bob')}.{expires}.{signature}",
                "a later end": f"{prefix}.{name}.{int(expires) + 1}.{signature}",
                "another version": f"ct2.{name}.{expires}.{signature}",
                "more behind": good + "A",
                "less of it": good[:-1],
                "padded": good + "=",
                "a dot more": good.replace(".", "..", 1),
                "an end before all time": mint(key, "alice", -1),
                "an end beyond 64 bits": mint(key, "alice", 1 << 64),
                "an end that is no number": mint(key, "alice", "1e99"),
                "an end with zeros and a sign": mint(key, "alice", f"+0{later}"),
                "ended": mint(key, "alice", int(time.time()) - 1),
                "ended at the beginning of time": mint(key, "alice", 0),
                "no name": mint(key, "", later),
                "a name with a quote": mint(key, 'a"b', later),
                "a name with a line end": mint(key, "a\r\nb", later),
                "a long name": mint(key, "x" * 65, later),
                "the prefix": "ct1.",
                "nothing": "",
                "a part of the operator's": server.operator[:-1],
                "the operator's and more": server.operator + "0",
                "another case": server.operator.upper() if server.operator.upper() !=
                    server.operator else server.operator.swapcase() + "x",
                "a long one": "x" * 7000,
            }
            operations = [("POST", "/v1/sales/demo/purchases", '{"customer":"alice"}'),
                          ("PUT", "/v1/sales/demo", "{}"), ("GET", "/metrics", None),
                          ("POST", "/v1/tokens", '{"customer":"alice"}'),
                          ("DELETE", "/v1/purchases/demo:2", None)]
            at = self.sale(server)["position"]
            for kind, token in forged.items():
                for method, path, body in operations:
                    with self.subTest(kind, path=path):
                        reply = server.request(method, path, None, body, {
                            "Authorization": f"Bearer {token}", "Idempotency-Key": "k"})
                        self.assertEqual((reply.status, reply.problem), (401, "unauthorized"))
                        self.assertTrue(reply.headers["www-authenticate"].startswith("Bearer"))
            for scheme in ("Basic", "Bearer Bearer", "Digest", "", "Token"):
                reply = server.request("GET", "/metrics", None, None,
                                       {"Authorization": f"{scheme} {server.operator}"})
                self.assertEqual(reply.status, 401, scheme)
            self.assertEqual(self.sale(server)["position"], at)
            # A good token does only what it is for.
            for method, path, body in [("PUT", "/v1/sales/demo", "{}"), ("GET", "/metrics", None),
                                       ("POST", "/v1/tokens", '{"customer":"alice"}'),
                                       ("POST", "/v1/purchases/demo:2/payment", "{}"),
                                       ("POST", "/v1/purchases/demo:2/refund", "{}"),
                                       ("GET", "/v1/sales/demo/line", None),
                                       ("GET", "/v1/sales/demo/audit-head", None),
                                       ("GET", "/v1/projections", None)]:
                reply = server.request(method, path, good, body)
                self.assertEqual((reply.status, reply.problem), (403, "forbidden"), path)
            self.assertEqual(self.sale(server)["position"], at)
            Hostile.kinds += len(forged)

    def test_keys_and_purchases_of_others(self):
        with self.beset() as server:
            alice, mallory = server.customer_token("alice"), server.customer_token("mallory")

            def buy(token, body, key="alices-key"):
                return server.request("POST", "/v1/sales/demo/purchases", token, body,
                                      {"Idempotency-Key": key})

            hers = buy(alice, {})
            self.assertEqual(hers.status, 201)
            # The same key is another customer's own.
            his = buy(mallory, {})
            self.assertEqual(his.status, 201)
            self.assertNotIn("idempotent-replayed", his.headers)
            self.assertNotEqual(his.json["purchase"], hers.json["purchase"])
            self.assertNotIn(b"alice", his.body)
            other = buy(mallory, {"customer": "alice"})
            self.assertEqual((other.status, other.problem), (403, "forbidden"))
            # Her purchase is not there for him, whatever he tries.
            purchase = "/v1/purchases/" + hers.json["purchase"]
            unknown = server.request("GET", "/v1/purchases/demo:999", mallory)
            for method in ("GET", "HEAD", "DELETE"):
                reply = server.request(method, purchase, mallory)
                self.assertEqual(reply.status, 404)
                self.assertNotIn(b"alice", reply.body)
                if method == "GET":
                    self.assertEqual(reply.body, unknown.body)
            reply = server.request("GET", "/v1/sales/demo/purchases?customer=alice", mallory)
            self.assertEqual((reply.status, reply.problem), (403, "forbidden"))
            again = buy(alice, {})
            self.assertEqual((again.status, again.body), (201, hers.body))
            self.assertEqual(server.request("GET", purchase, alice).json["status"], "reserved")
            self.assertEqual(self.sale(server)["held"], 2)

    def test_paths_and_headers(self):
        with self.beset("--address-rate", "0") as server:
            at = self.sale(server)["position"]
            not_found = ["/v1/sales/%2e%2e", "/v1/sales/..%2f..%2fetc%2fpasswd", "/v1/../metrics",
                         "/v1/sales/demo%00", "/v1/sales/demo%00.html", "/v1/sales/%0d%0aEvil:%201",
                         "/v1/sales/demo%0a", "//v1/sales", "/v1//sales", "/v1/sales/demo;x=y",
                         "/v1/sales/%c0%ae%c0%ae", "/v1/sales/%ff", "/v1/sales/demo%20",
                         "/v1/sales/" + "x" * 65, "/v1/sales/" + "%64" * 60, "/V1/sales/demo",
                         "/v1/sales/de%252Fmo", "/v1/sales/demo/../demo/line", "/%2e/v1/sales",
                         "/v1/projections/..%2f", "/.git/config", "/v1/sales/demo/%6cine/x",
                         "/data/ACKED", "/proc/self/environ"]
            for path in not_found:
                for token in (None, server.operator):
                    with self.subTest(path):
                        reply = server.request("GET", path, token)
                        self.assertEqual(reply.status, 404, reply)
                        self.assertIn(reply.problem, ("not_found", "unknown_sale"))
                        self.assertNotIn("evil", reply.headers)
            # The same under other names is the same.
            self.assertEqual(server.request("GET", "/v1/sales/d%65mo").json["sku"], "demo")
            purchases = ("/v1/purchases/demo:2%0d%0aEvil:%201", "/v1/purchases/..:2",
                         "/v1/purchases/demo:2%00", "/v1/purchases/", "/v1/purchases/demo",
                         "/v1/purchases/:2", "/v1/purchases/demo:", "/v1/purchases/demo:0",
                         "/v1/purchases/demo:-1", "/v1/purchases/demo:+2", "/v1/purchases/demo:0x2",
                         "/v1/purchases/demo:18446744073709551617",
                         "/v1/purchases/demo:" + "9" * 80)
            for path in purchases:
                for method in ("GET", "DELETE"):
                    with self.subTest(path, method=method):
                        reply = server.request(method, path, server.shop)
                        self.assertEqual(reply.status, 404, reply)
                        self.assertIn(reply.problem, ("unknown_purchase", "not_found"))
                        self.assertNotIn("evil", reply.headers)
            evil = "x\r\nEvil: 1\r\n\r\n<script>"
            why = {"actor": "olga", "reason": "because"}
            bodies = [
                ("POST", "/v1/sales/demo/purchases", {"customer": evil}),
                ("POST", "/v1/sales/demo/purchases", {"customer": "alice", evil: 1}),
                ("POST", "/v1/sales/demo/purchases", {"customer": "a\u0000b"}),
                ("POST", "/v1/sales/demo/purchases", {"customer": "\u202egnp"}),
                ("POST", "/v1/tokens", {"customer": evil}),
                ("PATCH", "/v1/sales/demo", {"action": evil, **why}),
                ("PATCH", "/v1/sales/demo", {"action": "pause", **why, "actor": evil}),
                ("PATCH", "/v1/sales/demo", {"action": "pause", **why, "reason": evil}),
                ("PATCH", "/v1/sales/demo", {"action": "pause", **why, "reason": "x" * 161}),
                ("PATCH", "/v1/sales/demo", {"action": "pause", **why, "reason": "\u001b[2J"}),
                ("PUT", "/v1/sales/new", {"stock": 1, "hold_seconds": 1, "price":
                                          {"amount": 1, "currency": "E\r\n"}}),
                ("PUT", "/v1/sales/new", {"stock": 1, "hold_seconds": 1, "price":
                                          {"amount": 1, "currency": "EUR"}, "starts_at": evil}),
                ("POST", "/v1/purchases/demo:2/payment",
                 {"reference": evil, "amount": 1, "currency": "EUR"}),
            ]
            for method, path, body in bodies:
                with self.subTest(path, body=body):
                    reply = server.request(method, path, server.operator, body,
                                           {"Idempotency-Key": "k"})
                    self.assertEqual((reply.status, reply.problem), (400, "bad_request"), reply)
                    self.assertNotIn("evil", reply.headers)
            garbage = (b"", b"null", b"[]", b'"x"', b"{", b'{"a":1}}', b"{}{}", b"\xff\xfe{}",
                        b'{"customer":"\xc3\x28"}', b'{"customer":"\xed\xa0\x80"}',
                        b'{"customer":"a","customer":"b"}', b'{"customer":{"a":"b"}}',
                        b"[" * 8000, b'{"customer":' * 1300, b"\0" * 100, b'{"customer":"a"}\0')
            for raw in garbage:
                with self.subTest(raw=raw[:30]):
                    reply = server.request("POST", "/v1/sales/demo/purchases", server.shop, raw,
                                           {"Idempotency-Key": "k"})
                    self.assertEqual((reply.status, reply.problem), (400, "bad_request"), reply)
            for key in ("", " ", "a b", "x" * 256, "\x7f", "k\u00e9"):
                with self.subTest(key=key):
                    answers, _ = self.say(server, request(
                        "POST", "/v1/sales/demo/purchases", server.shop, '{"customer":"alice"}',
                        f"Idempotency-Key: {key}\r\n"), end=False)
                    self.assertEqual(answers[0].status, 400)
                    self.assertIn(answers[0].problem, ("bad_request", "idempotency_key_missing"))
            self.assertEqual(self.sale(server)["position"], at)
            Hostile.kinds += len(not_found) + len(purchases) + len(bodies) + len(garbage)
            self.assertNotRegex(server.log, "(?m)^Evil")
            self.assertEqual(sorted(os.listdir(server.directory)),
                             ["customer-key", "data", "log-1", "operator-token", "shop-token"])

    # ---- numbers

    VALUES = ["-1", "0", "-0", "1", "1.5", "-1.5", "65535", "65536", "2147483647", "2147483648",
              "4294967295", "4294967296", "9007199254740992", "9007199254740993",
              "9223372036854775807", "9223372036854775808", "-9223372036854775808",
              "-9223372036854775809", "18446744073709551615", "18446744073709551616", "1e308",
              "-1e308", "1e999", "1e-999", "1e2", "9" * 400, "0." + "0" * 400 + "1", "01", "+1",
              "1.", ".5", "0x10", "NaN", "Infinity", "-", '"1"', "null", "true", "[]", "{}", "[1]",
              ""]

    def test_numbers_in_bodies_and_queries(self):
        """Every number of every body and query that the document names, at and beyond its ends. At
        them it is taken; beyond them the request is refused, and never half understood."""
        document = Document(json.loads(document_file()))
        self.secret = new_payment_secret()
        with self.beset("--customer-rate", "0", "--address-rate", "0", stock=1_000_000,
                        limit_per_customer=1_000_000,
                        environment={"FAIRSALE_PAYMENT_SECRET": self.secret}) as server:
            self.ids = {"sku": "demo", "projection": "orders", "generation": "1", "webhook": "wh_none",
                        "purchase": server.buy("demo", "alice", "k").json["purchase"]}
            self.n = self.sent = 0
            fields = queries = 0
            with contextlib.closing(Lasting(server)) as wire:
                for path, method in document.operations():
                    operation = document.tree["paths"][path][method]
                    for trail, examples in numbers_of_body(document, operation).items():
                        fields += 1
                        taken = set()
                        for base in examples:
                            ends = ends_of(document, operation, trail)
                            for text in self.VALUES + ends:
                                if self.try_body(document, wire, method, path, operation, base,
                                                 trail, text):
                                    taken.add(text)
                        self.assertEqual(set(ends) - taken, set(), f"{path}: {trail}")
                    for name, schema in numbers_of_query(document, path, operation):
                        queries += 1
                        for text in self.VALUES:
                            self.try_query(document, wire, method, path, name, schema, text)
                for text in self.VALUES:
                    for path in (f"/v1/purchases/demo:{text}", "/v1/projections/orders/generations/"
                                 + text):
                        if re.fullmatch(r"[-.\w+]*", text):
                            answer = wire.ask(request("GET", path, server.operator))
                            self.assertIn(answer.status, (200, 404, 405), (path, answer))
                            self.sent += 1
            self.assertGreaterEqual(fields, 10)
            self.assertGreaterEqual(queries, 8)
            # All of it is in a log that folds to the same.
            head = server.audit_head("demo")
            replayed = server.replay("demo", "--until", str(head["position"]))
            self.assertEqual(replayed["state_digest"], head["state_digest"])
            figure("numeric fields and parameters tried", fields + queries)
            figure("numbers sent", self.sent)

    def try_body(self, document, wire, method, path, operation, base, trail, text):
        tree = json.loads(json.dumps(base))
        at = tree
        for name in trail[:-1]:
            at = at[name]
        at[trail[-1]] = "@"
        if "{sku}/purchases" in path:
            tree["customer"] = f"n{self.n}"
        if "reference" in tree:
            tree["reference"] = f"r{self.n}"
        self.n += 1
        body = json.dumps(tree).replace('"@"', text)
        # A sale of its own for each, since terms stay as they are.
        names = {**self.ids, **({"sku": f"n{self.n}"} if method == "put" else {})}
        fields = {"Idempotency-Key": f"n{self.n}"}
        if path == "/v1/payments/callback":
            fields |= signed(self.secret, body)
        answer = wire.ask(request(method.upper(), path.format(**names), wire.server.operator, body,
                                  "".join(f"{k}: {v}\r\n" for k, v in fields.items())))
        self.sent += 1
        where = f"{method} {path} {'.'.join(trail)}={text[:40]}: {answer}"
        schema = document.resolve(operation["requestBody"])["content"]["application/json"]["schema"]
        try:
            document.validate(strict_json(body), schema)
            valid = True
        except (ValueError, Mismatch):
            valid = False
        if not valid:
            self.assertEqual(answer.status, 400, where)
        self.hold(document, method, path, answer, where)
        return answer.status != 400

    def try_query(self, document, wire, method, path, name, schema, text):
        if name == "min_seq" and text in ("65535", "65536"):
            return  # so near that it would be waited for
        query = "".join(c if c.isalnum() or c in "-." else f"%{ord(c):02x}" for c in text)
        answer = wire.ask(request(method.upper(), path.format(**self.ids) + f"?{name}={query}&"
                                  "customer=alice", wire.server.operator))
        self.sent += 1
        where = f"{method} {path}?{name}={text[:40]}: {answer}"
        number = int(text) if re.fullmatch(r"\d+", text) else None
        if number is None or number < schema.get("minimum", 0) or number > schema.get(
                "maximum", (1 << 64) - 1):
            self.assertEqual((answer.status, answer.problem), (400, "bad_request"), where)
        else:
            self.assertIn(answer.status, (200, 503), where)
            if answer.status == 503:
                self.assertEqual((name, answer.problem), ("min_seq", "position_not_reached"), where)
        self.hold(document, method, path, answer, where)

    def hold(self, document, method, path, answer, where):
        """Whatever it is, it is as the document has it."""
        self.assertLess(answer.status, 504, where)
        self.assertNotEqual(answer.status, 500, where)
        self.assertFalse(answer.closes, where)
        if answer.status >= 400:
            self.assertTrue(answer.problem, where)
        content = document.response(path, method, answer.status).get("content")
        if content:
            document.validate(answer.json, next(iter(content.values()))["schema"], where)


class Lasting:
    """One connection for one request after the other."""

    def __init__(self, server):
        self.server = server
        self.wire = Wire(server.port)

    def ask(self, data):
        self.wire.ask(data)
        end = time.monotonic() + PATIENCE
        while True:
            select.select([self.wire.socket], [], [], PATIENCE)
            heard = self.wire.listen()
            if heard:
                assert len(heard) == 1, heard
                return heard[0][1]
            assert not self.wire.over, f"closed upon {data!r}"
            assert time.monotonic() < end, f"no answer to {data!r}"

    def close(self):
        self.wire.close()


def strict_json(text):
    """Python's reader knows some words that JSON does not, and no end of a number."""
    def no(word):
        raise ValueError(word)

    def finite(digits):
        value = float(digits)
        if value in (float("inf"), float("-inf")):
            raise ValueError(digits)
        return value

    return json.loads(text, parse_constant=no, parse_float=finite)


def numbers_of_body(document, operation):
    """By the way to it, each number that the schema of the body names: the examples that have all
    that is around it."""
    if "requestBody" not in operation:
        return {}
    content = document.resolve(operation["requestBody"])["content"]["application/json"]
    examples = [content["example"]] if "example" in content else [
        document.resolve(e)["value"] for e in content["examples"].values()]
    out = {}
    for trail, schema in numbers_of_schema(document, content["schema"]):
        fitting = [e for e in examples if fits(document, schema, e)]
        assert fitting, f"no example is like that of {trail}"
        known = out.setdefault(trail, [])
        known += [e for e in fitting if e not in known]
    return out


def numbers_of_schema(document, schema, trail=(), whole=None):
    """Ways to numbers, each with the one of several schemas of the body that it belongs to."""
    schema = document.resolve(schema)
    choices = schema.get("oneOf", []) + schema.get("anyOf", [])
    whole = whole or schema
    for inner in choices:
        yield from numbers_of_schema(document, inner, trail, None if not trail else whole)
    if is_number(schema):
        yield trail, whole
    for name, inner in schema.get("properties", {}).items():
        yield from numbers_of_schema(document, inner, (*trail, name), whole)


def is_number(schema):
    kinds = schema.get("type", ())
    return bool({"integer", "number"} & set([kinds] if isinstance(kinds, str) else kinds))


def ends_of(document, operation, trail):
    """The least and the most that the schema allows at the end of that way, as far as it says."""
    schema = document.resolve(operation["requestBody"])["content"]["application/json"]["schema"]
    out = []
    for way, whole in numbers_of_schema(document, schema):
        if way == trail:
            at = whole
            for name in trail:
                at = document.resolve(document.resolve(at)["properties"][name])
            out += [str(at[end]) for end in ("minimum", "maximum") if end in at]
    return out


def fits(document, schema, example):
    try:
        document.validate(example, schema)
        return True
    except Mismatch:
        return False


def numbers_of_query(document, path, operation):
    for p in document.tree["paths"][path].get("parameters", []) + operation.get("parameters", []):
        p = document.resolve(p)
        schema = document.resolve(p["schema"])
        if p["in"] == "query" and schema.get("type") in ("integer", "number"):
            yield p["name"], schema


def may_open(descriptors):
    """Whether a process that is started from here can be given so many."""
    def ask():
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    try:
        return subprocess.run(["true"], preexec_fn=ask, check=False).returncode == 0
    except (subprocess.SubprocessError, ValueError):
        return False


def sit_idle(port, count, end, ready, source):
    """Holds `count` connections from an address of its own, until it may go."""
    with contextlib.suppress(ValueError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sockets = [socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0))
               for _ in range(count)]
    for s in sockets[::97]:  # not all of them have been silent for ever
        s.sendall(request("GET", "/livez"))
        assert s.recv(4096).startswith(b"HTTP/1.1 200")
    ready.release()
    end.wait()
    for s in sockets:
        s.close()


if __name__ == "__main__":
    main()
