"""SIGTERM in the middle of a rush: every request is answered whole or not at all, the server ends
by itself with code 0, and the next one serves the same state."""

import json
import os
import random
import signal
import socket

from harness import PATIENCE, Case, ended, eventually, figure, finish, main, seed_of_this_run
from shoppers import Ask, Crowd, request

ROUNDS = int(os.environ.get("FAIRSALE_ROUNDS", "1"))


class Shoppers:
    """Buy and pay without a pause, on one server, and note how each request ended."""

    def __init__(self, server, name, chance, connections):
        self.server, self.name, self.chance = server, name, chance
        self.n = 0
        self.to_pay = []
        self.answered = []  # what was asked, and the answer
        self.refused = []   # with 503
        self.dropped = []   # without an answer
        self.crowd = Crowd(server.port, connections, self.heard, self.lost)

    def next(self):
        self.n += 1
        key = f"{self.name}-{self.n}"
        if self.to_pay and self.chance.random() < 0.5:
            body = {"reference": key, "amount": 4900, "currency": "EUR"}
            return Ask("pay", None, request(
                "POST", f"/v1/purchases/{self.to_pay.pop()}/payment", self.server.shop,
                json.dumps(body)))
        return Ask("buy", None, request(
            "POST", "/v1/sales/rush/purchases", self.server.shop, f'{{"customer":"{key}"}}',
            f"Idempotency-Key: {key}\r\n"))

    def heard(self, ask, answer):
        if answer.status == 503:
            self.refused.append(ask)
            return
        self.answered.append((ask, answer))
        if answer.status == 201:
            self.to_pay.append(answer.json["purchase"])

    def lost(self, ask, sent):
        self.dropped.append((ask, sent))


class Stop(Case):
    def test_every_request_is_answered_whole_or_not_at_all(self):
        """One request at a time on many connections, and many at a time on some."""
        seed = seed_of_this_run()
        chance = random.Random(seed)
        dropped = refused = answered = 0
        with self.server("--customer-rate", "0") as server:
            server.open_sale("rush", stock=100_000, hold_seconds=600, line_limit=1_000_000)
            for i in range(4 * ROUNDS):
                connections, depth = ((32, 1), (8, 48), (2, 64), (16, 4))[i % 4]
                shoppers = self.stop_in_mid_rush(server, f"r{i}", chance, connections, depth)
                answered += len(shoppers.answered)
                refused += len(shoppers.refused)
                dropped += len(shoppers.dropped)
                stopped = server.replay("rush")
                server.start()
                head = server.audit_head("rush")
                self.assertEqual(head["position"], stopped["position"])
                self.assertEqual(head["state_digest"], stopped["state_digest"])
                self.ask_again(server, shoppers)
        figure("requests answered before and in a stop", answered)
        figure("requests refused with 503 in a stop, none of them recorded", refused)
        figure("requests that a stop left without an answer, none of them recorded", dropped)

    def stop_in_mid_rush(self, server, name, chance, connections, depth):
        shoppers = Shoppers(server, name, chance, connections)
        goal = chance.randrange(200, 1500)
        with shoppers.crowd as crowd:
            while len(shoppers.answered) < goal:
                crowd.ask(shoppers.next, depth)
                crowd.move(PATIENCE)
            server.process.send_signal(signal.SIGTERM)
            # They go on until nobody listens any more.
            while not all(wire.over for wire in crowd.wires):
                crowd.ask(shoppers.next, depth)
                crowd.move(PATIENCE)
            self.assertEqual([bytes(w.received) for w in crowd.wires if w.received], [],
                             "answers that broke off")
        self.assertEqual(server.process.wait(PATIENCE), 0)
        server.process.stdout.close()
        server.process = None
        return shoppers

    def ask_again(self, server, shoppers):
        """What was answered is answered the same; what was not had never been taken up."""
        pairs = []

        def heard(what, answer):
            pairs.append((*what, answer))

        class Again:
            def __init__(self, ask, before):
                self.request, self.what = ask.request, (ask, before)

        again = [Again(ask, answer) for ask, answer in shoppers.answered[-300:]]
        again += [Again(ask, None) for ask in shoppers.refused]
        again += [Again(ask, None) for ask, _ in shoppers.dropped]
        left = iter(again)
        with Crowd(server.port, 4, lambda a, answer: heard(a.what, answer), None) as crowd:
            while crowd.ask(lambda: next(left, None), 32):
                crowd.move(PATIENCE)
            crowd.settle()
        self.assertEqual(len(pairs), len(again))
        for ask, before, answer in pairs:
            self.assertEqual(answer.replayed, before is not None, (ask.request, answer))
            if before is None:
                self.assertIn(answer.status, (200, 201, 202), answer)
            elif ask.kind == "buy":
                self.assertEqual((answer.status, answer.body), (before.status, before.body))
            else:
                self.assertEqual(answer.json["status"], before.json["status"])

    def test_rush_survives_a_restart(self):
        with self.server() as server:
            rush = server.rush("--sku", "rush", "--create", "stock=100,hold=1", "--attempts",
                               "10000", "--customers", "5000", "--connections", "64", "--rate",
                               "5000", "--until-settled", "--expect-sold", "100")
            with ended(rush):
                eventually("the rush is on", lambda: self.position(server) > 3000)
                self.assertEqual(server.stop(), 0)
                server.start()
                summary = finish(rush)
            self.assertEqual(summary["answered"], 10_000)

    @staticmethod
    def position(server):
        reply = server.request("GET", "/v1/sales/rush")
        return reply.json["position"] if reply.status == 200 else 0

    def test_who_asks_while_it_stops_is_told_so(self):
        with self.server() as server:
            server.open_sale("rush", stock=5)
            whole = request("POST", "/v1/sales/rush/purchases", server.shop, '{"customer":"late"}',
                            "Idempotency-Key: late\r\n")
            with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as slow:
                # Both arrive at once, so with the answer the server has the half one as well.
                slow.sendall(request("GET", "/v1/sales/rush", server.shop) + whole[:-1])
                slow.recv(65536)
                server.process.send_signal(signal.SIGTERM)
                eventually("nobody listens", lambda: not self.listens(server))
                slow.sendall(whole[-1:])
                answer = b"".join(iter(lambda: slow.recv(65536), b""))
            self.assertIn(b" 503 ", answer.splitlines()[0])
            self.assertIn(b"problem:stopping", answer)
            self.assertEqual(server.process.wait(PATIENCE), 0)
            server.stop()

    @staticmethod
    def listens(server):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", server.port)) == 0

    def test_second_signal_and_not_ready_while_stopping(self):
        """A connection that never finishes its request does not hold the server up for long."""
        with self.server("--drain-timeout", "1") as server:
            with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as slow:
                slow.sendall(b"POST /v1/sales/rush/purchases HTTP/1.1\r\nHost: x\r\n")
                self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    main()
