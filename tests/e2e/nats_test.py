"""The outbox and a real nats-server with JetStream: killed in mid-rush, not there, hanging, and with
streams that are not as they should be."""

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from harness import PATIENCE, Case, ended, eventually, finish, main
from receiver import Receiver, once, order

ORDERS, NOTIFICATIONS = "FAIRSALE_ORDERS", "FAIRSALE_NOTIFICATIONS"


class Nats:
    """A nats-server of its own; keeps its port and its store through a kill."""

    def __init__(self, *options):
        self.options = options
        self.directory = tempfile.mkdtemp(prefix="fairsale-nats-")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self.process = None
        self.token = None

    def start(self):
        with open(os.path.join(self.directory, "log"), "ab") as log:
            self.process = subprocess.Popen(
                ["nats-server", "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd",
                 self.directory, *self.options], stdout=log, stderr=log)
        eventually("nats-server answers", self._ready)
        return self

    def _ready(self):
        assert self.process.poll() is None, "nats-server ended"
        with contextlib.suppress(OSError, AssertionError):
            # Servers of a cluster say nothing while they have no leader.
            return "memory" in self.call("$JS.API.INFO", patience=1)

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE)

    def call(self, subject, body=None, patience=PATIENCE):
        """A request of JetStream's API, in the protocol of NATS."""
        with self.requests(patience) as request:
            return request(subject, body)

    @contextlib.contextmanager
    def listening(self, subject, patience=PATIENCE):
        """A client of the subject: how to publish, and to hear the next message."""
        with socket.create_connection(("127.0.0.1", self.port), patience) as s, \
                s.makefile("rwb") as f:
            assert f.readline().startswith(b"INFO ")
            connect = {"verbose": False, "pedantic": False, "headers": True,
                       "no_responders": True, "lang": "python", "version": "0"}
            if self.token:
                connect["auth_token"] = self.token
            f.write(b"CONNECT " + json.dumps(connect).encode() + b"\r\n" +
                    f"SUB {subject} 1\r\n".encode())
            f.flush()

            def publish(to, payload, reply=""):
                f.write(f"PUB {to} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n")
                f.flush()

            def hear():
                while True:
                    line = f.readline()
                    assert line, "nats-server closed the connection"
                    if line.startswith(b"PING"):
                        f.write(b"PONG\r\n")
                        f.flush()
                    elif line.startswith(b"MSG"):
                        return f.read(int(line.split()[-1]) + 2)[:-2]
                    else:
                        assert not line.startswith((b"-ERR", b"HMSG")), line

            yield publish, hear

    @contextlib.contextmanager
    def requests(self, patience=PATIENCE):
        with self.listening("_INBOX.1", patience) as (publish, hear):
            def request(subject, body=None):
                payload = b"" if body is None else body
                publish(subject, payload if isinstance(payload, bytes) else
                        json.dumps(body).encode(), "_INBOX.1")
                return json.loads(hear())

            yield request

    def count(self, stream):
        with contextlib.suppress(OSError):
            return self.call(f"$JS.API.STREAM.INFO.{stream}").get("state", {}).get("messages", 0)
        return 0

    def messages(self, stream):
        """All of a stream: (subject, headers, event), in its order."""
        out = []
        with self.requests() as request:
            state = request(f"$JS.API.STREAM.INFO.{stream}")["state"]
            for seq in range(state["first_seq"], state["last_seq"] + 1):
                m = request(f"$JS.API.STREAM.MSG.GET.{stream}", {"seq": seq})["message"]
                lines = base64.b64decode(m["hdrs"]).decode().split("\r\n")[1:]
                headers = dict(line.split(": ", 1) if ": " in line else line.split(":", 1)
                               for line in lines if line)
                out.append((m["subject"], headers, json.loads(base64.b64decode(m["data"]))))
        return out

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class JetStream(Case):
    def nats_consumer(self, s):
        return next(c for c in s.request("GET", "/v1/outbox", s.operator).json["consumers"]
                    if c["name"] == "nats")

    def caught_up(self, s):
        """Nothing is left for NATS once the outbox itself is complete."""
        def done():
            outbox = s.request("GET", "/v1/projections", s.operator).json["projections"][3]
            c = self.nats_consumer(s)
            return outbox["lag"] == 0 and c["skus_behind"] == 0 and c["trouble"] is None
        eventually("NATS has all", done)

    def test_nats_killed_in_mid_rush_loses_and_doubles_nothing_and_keeps_the_order(self):
        with Nats() as nats, Receiver() as witness:
            nats.start()
            with self.server("--nats", nats.url, "--customer-rate", "0", "--address-rate", "0",
                             "--webhook-private-addresses") as s:
                kinds = ["scheduled", "opened", "reserved", "waiting", "offered", "expired",
                         "cancelled", "declined", "ordered", "refund_due", "refunded", "sold_out",
                         "released", "line_released", "closed", "ended"]
                reply = s.request("POST", "/v1/webhooks", s.shop,
                                  {"url": witness.url, "kinds": kinds, "past": True})
                self.assertEqual(reply.status, 201, reply)
                rush = s.rush("--sku", "rush", "--create", "stock=400,hold=2", "--attempts", "6000",
                              "--customers", "1500", "--rate", "1500", "--until-settled",
                              "--expect-sold", "400")
                with ended(rush):
                    eventually("some is published", lambda: nats.count(NOTIFICATIONS) >= 100)
                    nats.kill()
                    eventually("the outbox waits", lambda: self.nats_consumer(s)["trouble"])
                    # Nobody but the crowd may buy: its checks know of no other attempts.
                    def position():
                        return s.request("GET", "/v1/sales/rush").json["position"]
                    then = position()
                    eventually("sales go on", lambda: position() > then)
                    nats.start()
                    before = nats.count(NOTIFICATIONS)
                    eventually("it goes on", lambda: nats.count(NOTIFICATIONS) > before)
                    nats.kill()
                    nats.start()
                    finish(rush)
                self.caught_up(s)
                orders, other = nats.messages(ORDERS), nats.messages(NOTIFICATIONS)
                listed, after = set(), 0
                while after is not None:
                    page = s.request("GET", f"/v1/sales/rush/orders?after={after}", s.shop).json
                    listed |= {o["purchase"] for o in page["orders"]}
                    after = page["next"]
                # Reminders have no place in this order, and go with their holds.
                reminders = [m for m in other if m[2]["data"]["type"] == "about_to_expire"]
                other = [m for m in other if m not in reminders]
                def known():
                    published = [e["data"] for _, _, e in orders + other]
                    witnessed = once(witness.messages())
                    return {m["id"] for m in witnessed} == {m["id"] for m in published}
                eventually("the witness has the same", known)
            for stream in (orders, other):
                events = once([e["data"] for _, _, e in stream])
                ids = [order(e["id"]) for e in events]
                self.assertEqual(ids, sorted(ids), "in the order of the sale")
                # Within JetStream's own window even the repeats are gone.
                self.assertEqual(len(stream), len(events))
            self.assertEqual({e["subject"] for _, _, e in orders
                              if e["type"] == "fairsale.purchase.ordered"}, listed)
            self.assertEqual(len(listed), 400)
            for subject, headers, event in orders + other + reminders:
                kind = event["data"]["type"]
                self.assertEqual(subject, "fairsale.orders.rush" if kind in
                                 ("ordered", "refund_due") else f"fairsale.notifications.rush.{kind}")
                self.assertRegex(headers["Nats-Msg-Id"], f"^{event['id']}/[0-9a-f]{{16}}$")
                self.assertRegex(headers["traceparent"], "^00-[0-9a-f]{32}-[0-9a-f]{16}-01$")

    def test_who_has_not_paid_is_reminded_once_also_when_the_server_is_killed(self):
        with Nats() as nats:
            nats.start()
            with self.server("--nats", nats.url) as s:
                s.open_sale("a.b", stock=2, hold_seconds=9, grace_seconds=0)
                held, paid = (s.buy("a.b", c, "k").json["purchase"] for c in ("ann", "ben"))
                s.pay(paid, "pay-1")
                s.kill()
                s.start()
                subject = "fairsale.notifications.a%2Eb.about_to_expire"
                def reminders():
                    return [(h["Nats-Msg-Id"], e) for to, h, e in nats.messages(NOTIFICATIONS)
                            if to == subject]
                eventually("ann is reminded", lambda: nats.count(NOTIFICATIONS) and reminders())
                s.kill()
                s.start()  # it tells again, and JetStream knows that it has been told
                eventually("the hold ends", lambda: s.request(
                    "GET", f"/v1/purchases/{held}", s.shop).json["status"] == "expired")
                self.caught_up(s)
                (message_id, event), = reminders()
                self.assertEqual(event["type"], "fairsale.purchase.about_to_expire")
                self.assertEqual((event["subject"], event["data"]["customer"]), (held, "ann"))
                self.assertEqual(event["id"], f"{held}:about_to_expire")
                self.assertRegex(message_id, f"^{event['id']}/[0-9a-f]{{16}}$")

    def test_messages_of_another_log_are_no_repeats(self):
        """Two servers with a sale of the same name: what the second says comes within the time in
        which JetStream drops repeats, at the same positions."""
        with Nats() as nats:
            nats.start()
            for customer in ("ann", "ben"):
                with self.server("--nats", nats.url) as s:
                    s.open_sale("demo")
                    s.pay(s.buy("demo", customer, "k").json["purchase"], f"pay-{customer}")
                    self.caught_up(s)
            told = [(e["id"], e["data"]["customer"]) for _, _, e in nats.messages(ORDERS)]
            self.assertEqual(told, [("demo:3:0", "ann"), ("demo:3:0", "ben")])

    def test_a_server_that_comes_late_asks_for_credentials_and_has_another_stream(self):
        with Nats("--auth", "a-token") as nats:
            nats.token = "a-token"
            s = self.server("--nats", nats.url)
            s.environment["FAIRSALE_NATS_CREDENTIALS"] = "a-token"
            with s:
                s.open_sale("a.b")
                bought = s.buy("a.b", "ann", "k").json["purchase"]
                s.pay(bought, "pay-1")
                eventually("it is not there", lambda: self.nats_consumer(s)["trouble"])
                nats.start()
                made = nats.call(f"$JS.API.STREAM.CREATE.{ORDERS}",
                                 {"name": ORDERS, "subjects": ["fairsale.orders.*"],
                                  "retention": "limits", "storage": "memory"})
                self.assertNotIn("error", made)
                self.caught_up(s)
                self.assertEqual([(subject, e["subject"]) for subject, _, e in
                                  nats.messages(ORDERS)], [("fairsale.orders.a%2Eb", bought)])
                self.assertIn(f"The stream {ORDERS} of NATS is not as fairsale would make it",
                              s.log)
                self.assertNotIn("a-token", s.log)
                config = nats.call(f"$JS.API.STREAM.INFO.{ORDERS}")["config"]
                self.assertEqual((config["retention"], config["subjects"]),
                                 ("limits", ["fairsale.orders.*"]))
                self.assertEqual(nats.call(f"$JS.API.STREAM.INFO.{NOTIFICATIONS}")["config"]
                                 ["retention"], "limits")
                s.kill()
                s.start()
                s.pay(s.buy("a.b", "bob", "k2").json["purchase"], "pay-2")
                eventually("it goes on after a restart", lambda: nats.count(ORDERS) == 2)

    def test_a_server_that_hangs_holds_up_no_sale_and_no_stop(self):
        with Nats() as nats:
            nats.start()
            with self.server("--nats", nats.url) as s:
                s.open_sale("demo")
                eventually("NATS is used", lambda: nats.count(NOTIFICATIONS) >= 2)
                nats.process.send_signal(signal.SIGSTOP)
                for i in range(20):
                    self.assertEqual(s.buy("demo", f"c{i}", f"k{i}").status, 201)
                begun = time.monotonic()
                s.stop()
                self.assertLess(time.monotonic() - begun, 8)
                s.start()
                self.assertEqual(s.buy("demo", "last", "k").status, 201)
                nats.process.send_signal(signal.SIGCONT)
                eventually("all is there", lambda: len({h["Nats-Msg-Id"] for _, h, _ in
                                                        nats.messages(NOTIFICATIONS)}) == 23)

    def test_settings_that_cannot_be_are_told_why(self):
        for options, why in ((["--nats", "nats://user:secret@host:4222"], "credentials"),
                             (["--nats", "http://host"], "nats://HOST:PORT"),
                             (["--nats", "nats://host:4222", "--in-memory"], "data directory")):
            s = self.server(*options)
            done = subprocess.run(s.command(), capture_output=True, text=True, timeout=PATIENCE,
                                  check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(why, done.stderr)
            shutil.rmtree(s.directory)


if __name__ == "__main__":
    main()
