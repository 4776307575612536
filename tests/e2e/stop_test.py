"""SIGTERM in the middle of a rush: every request is answered whole or not at all, the server ends
by itself with code 0, and the next one serves the same state."""

import json
import socket
import threading

from harness import PATIENCE, Case, ended, eventually, finish, main


class Shopper(threading.Thread):
    """Buys one thing after the other on one connection and notes how each request ended."""

    def __init__(self, server, name):
        super().__init__()
        self.server = server
        self.name = name
        self.answered = []  # (key, status, body)
        self.unanswered = []  # keys
        self.cut_off = []  # answers that broke off
        self.refused = 0  # 503

    def run(self):
        connection = socket.create_connection(("127.0.0.1", self.server.port), PATIENCE)
        try:
            n = 0
            while True:
                key = f"{self.name}-{n}"
                n += 1
                if not self.buy(connection, key):
                    return
        finally:
            connection.close()

    def buy(self, connection, key):
        """Returns whether the connection is still good."""
        body = json.dumps({"customer": key})
        request = (f"POST /v1/sales/rush/purchases HTTP/1.1\r\nHost: x\r\n"
                   f"Authorization: Bearer {self.server.shop}\r\nIdempotency-Key: {key}\r\n"
                   f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}")
        received = b""
        try:
            connection.sendall(request.encode())
            while not self.whole(received):
                chunk = connection.recv(65536)
                if not chunk:
                    break
                received += chunk
        except ConnectionError:
            pass
        if self.whole(received):
            head, _, content = received.partition(b"\r\n\r\n")
            status = int(head.split()[1])
            if status == 503:
                self.refused += 1
                self.unanswered.append(key)
            else:
                self.answered.append((key, status, content))
            return b"connection: close" not in head.lower()
        if received:
            self.cut_off.append(received)
        self.unanswered.append(key)
        return False

    @staticmethod
    def whole(received):
        head, found, body = received.partition(b"\r\n\r\n")
        if not found:
            return False
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                return len(body) >= int(line.split(b":")[1])
        return False


class Stop(Case):
    def test_every_request_is_answered_whole_or_not_at_all(self):
        with self.server() as server:
            server.open_sale("rush", stock=500, hold_seconds=600, line_limit=1_000_000)
            shoppers = [Shopper(server, f"s{i}") for i in range(16)]
            for shopper in shoppers:
                shopper.start()
            eventually("the rush is on",
                       lambda: server.request("GET", "/v1/sales/rush").json["position"] > 2000)
            self.assertEqual(server.stop(), 0)
            for shopper in shoppers:
                shopper.join(PATIENCE)
                self.assertFalse(shopper.is_alive())
            self.assertEqual([s.cut_off for s in shoppers if s.cut_off], [])
            stopped = server.replay("rush")

            server.start()
            head = server.audit_head("rush")
            self.assertEqual(head["position"], stopped["position"])
            self.assertEqual(head["state_digest"], stopped["state_digest"])
            # What was answered is answered the same; what was not is decided now, or was then.
            unanswered = 0
            for shopper in shoppers:
                for key, status, body in shopper.answered[-20:]:
                    again = server.buy("rush", key, key)
                    self.assertEqual((again.status, again.body), (status, body))
                    self.assertEqual(again.headers["idempotent-replayed"], "true")
                for key in shopper.unanswered:
                    unanswered += 1
                    self.assertIn(server.buy("rush", key, key).status, (201, 202))
            print(f"{sum(len(s.answered) for s in shoppers)} answered, {unanswered} not, "
                  f"{sum(s.refused for s in shoppers)} of these with 503")

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

    def test_second_signal_and_not_ready_while_stopping(self):
        """A connection that never finishes its request does not hold the server up for long."""
        with self.server("--drain-timeout", "1") as server:
            with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as slow:
                slow.sendall(b"POST /v1/sales/rush/purchases HTTP/1.1\r\nHost: x\r\n")
                self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    main()
