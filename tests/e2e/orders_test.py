"""Order processors, a gateway with all faults of real ones, and callbacks of payments: at the end
the gateway's ledger and the sale say the same, to the last payment."""

import collections
import json
import os
import random
import signal
import threading
import time

from gateway import Gateway, Orders, new_payment_secret, signed
from harness import Case, eventually, figure, main, seed_of_this_run
from nats_test import ORDERS, Nats

CUSTOMERS = int(os.environ.get("FAIRSALE_CUSTOMERS", "90"))
KILLS = int(os.environ.get("FAIRSALE_KILLS", "6"))
CALLBACK = "/v1/payments/callback"


class Shopper(threading.Thread):
    """Buys for some customers, one after the other: reserves or waits, and pays at the gateway,
    some of them twice."""

    def __init__(self, server, gateway, customers, chance):
        super().__init__()
        self.server, self.gateway = server, gateway
        self.customers, self.chance = customers, chance
        self.trouble = None

    def run(self):
        try:
            waiting = [p for p in map(self.buy, self.customers) if p]
            end = time.monotonic() + 60
            while waiting:
                assert time.monotonic() < end, waiting
                waiting = [p for p in waiting if self.watch(p)]
                time.sleep(0.02)
        except Exception as e:
            self.trouble = e

    def buy(self, customer):
        reply = self.server.buy("rush", customer, "k")
        assert reply.status in (201, 202, 409, 410), reply
        if reply.status == 201:
            return self.pay(reply.json["purchase"])
        return reply.json.get("purchase") if reply.status == 202 else None

    def pay(self, purchase):
        self.gateway.charge(purchase, f"{purchase} first")
        if self.chance.random() < 0.2:
            self.gateway.charge(purchase, f"{purchase} second")

    def watch(self, purchase):
        """Whether it still waits; pays when it is offered."""
        reply = self.server.request("GET", f"/v1/purchases/{purchase}", self.server.shop)
        assert reply.status == 200, reply
        if reply.json["status"] == "offered":
            self.pay(purchase)
            return False
        return reply.json["status"] == "waiting"


class OrderProcessors(Case):
    def sale_with(self, *options):
        server = self.server("--customer-rate", "0", "--address-rate", "0",
                             "--webhook-private-addresses", *options)
        server.environment["FAIRSALE_PAYMENT_SECRET"] = self.secret = new_payment_secret()
        return server

    def gateway(self, server, *options):
        return Gateway(self.programs, self.secret, server.url + CALLBACK, *options)

    def rush(self, server, gateway, processors, seed):
        """A crowd buys and pays while processors are killed, each time another."""
        server.open_sale("rush", stock=CUSTOMERS // 2, hold_seconds=1.5, grace_seconds=0.3,
                         line_limit=CUSTOMERS)
        chance = random.Random(seed)
        names = [f"c{i}" for i in range(CUSTOMERS)]
        shoppers = [Shopper(server, gateway, names[i::6], random.Random(seed + i))
                    for i in range(6)]
        for s in shoppers:
            s.start()
        for _ in range(KILLS):
            p = chance.choice(processors)
            before = p.metrics()["fairsale_orders_reached_total{state=\"captured\"}"]
            # In the middle of its work, or when there is none left.
            eventually("it works or there is nothing to do", lambda p=p, before=before: (
                p.metrics()["fairsale_orders_reached_total{state=\"captured\"}"] > before
                or p.idle()))
            p.kill()
            p.start()
        for s in shoppers:
            s.join()
            if s.trouble:
                raise s.trouble
        eventually("every callback was answered",
                   lambda: gateway.ledger()["callbacks_pending"] == 0)

    def check(self, server, gateway):
        """The referee: what the sale decided against what the gateway did."""
        ledger = gateway.ledger()
        status = {}
        due = collections.Counter()
        for charge in ledger["charges"]:
            purchase, reference = charge["purchase"], charge["reference"]
            self.assertEqual(len(set(charge["callbacks"])), 1, charge)
            answer = charge["callbacks"][0]
            if charge["outcome"] == "failed":
                self.assertEqual(answer, "failure_noted", charge)
                continue
            self.assertIn(answer, ("ordered", "refund_due"), charge)
            if answer == "refund_due":
                due[purchase, reference] += 1
                continue
            self.assertNotIn(purchase, status, "one purchase is ordered once")
            reply = server.request("GET", f"/v1/purchases/{purchase}", server.shop)
            status[purchase] = (reference, reply.json["status"])
        handed = {p: r for p, (r, s) in status.items() if s == "ordered"}
        returned = {p: r for p, (r, s) in status.items() if s == "refunded"}
        self.assertEqual(len(handed) + len(returned), len(status), status)
        due.update({(p, r): 1 for p, r in returned.items()})

        deeds = {kind: collections.Counter((d["purchase"], d["reference"]) for d in ledger[kind])
                 for kind in ("captures", "handovers", "refunds")}
        self.assertEqual(deeds["handovers"], collections.Counter(handed.items()))
        self.assertEqual(deeds["refunds"], due)
        self.assertEqual(max(deeds["captures"].values(), default=1), 1)
        self.assertLessEqual(set(handed.items()), set(deeds["captures"]))
        self.assertLessEqual(set(deeds["captures"]), set(status_references(status)))
        for kind in ("captures", "handovers", "refunds"):
            for deed in ledger[kind]:
                self.assertEqual((deed["amount"], deed["currency"]), (4900, "EUR"))
        self.assertGreater(len(handed), 0)
        return ledger, handed, returned, due

    def told(self, what, ledger, handed, returned, due):
        figure(f"{what}: handed over", len(handed))
        figure(f"{what}: compensated", len(returned))
        figure(f"{what}: refunds", sum(due.values()))
        figure(f"{what}: calls repeated under the same key", ledger["repeats"])
        figure(f"{what}: faults", json.dumps(ledger["faults"]))

    FAULTS = ("--errors", "0.1", "--timeouts", "0.05", "--lost", "0.15", "--duplicates", "0.3",
              "--late", "0.15", "--late-delay", "2.5", "--delay", "0.2", "--decline-charges", "0.1",
              "--decline-captures", "0.1", "--decline-handovers", "0.15", "--hang", "2")

    def test_processors_killed_in_a_rush_on_the_work_queue(self):
        seed = seed_of_this_run()
        with Nats() as nats:
            nats.start()
            with self.sale_with("--nats", nats.url) as s, \
                    self.gateway(s, *self.FAULTS, "--seed", str(seed)) as g:
                how = ("--nats", nats.url, "--ack-wait", "1", "--max-deliver", "1000")
                with Orders(self.programs, s.url, s.shop, g.url, *how) as a, \
                        Orders(self.programs, s.url, s.shop, g.url, *how) as b:
                    processors = [a.start(), b.start()]
                    self.rush(s, g, processors, seed)
                    self.published(s, nats)
                    for p in processors:
                        p.settle()
                    found = self.check(s, g)
                    self.told("work queue", *found)
                    self.assertEqual([c for p in processors for c in p.cases("--open")], [])
                    # Both had a share of it.
                    self.assertTrue(a.cases() and b.cases())
                    self.assertEqual(a.stop(), 0)

    def published(self, server, nats):
        """Everything has left the outbox and the queue."""
        def done():
            outbox = server.request("GET", "/v1/projections", server.operator).json
            consumers = server.request("GET", "/v1/outbox", server.operator).json["consumers"]
            consumer = next(c for c in consumers if c["name"] == "nats")
            return (outbox["projections"][3]["lag"] == 0 and consumer["skus_behind"] == 0
                    and nats.count(ORDERS) == 0)
        eventually("the queue is empty", done)

    def test_processors_killed_in_a_rush_on_the_streams_of_fairsaled(self):
        """Both read everything: who is late finds it done."""
        seed = seed_of_this_run()
        with self.sale_with() as s, self.gateway(s, *self.FAULTS, "--seed", str(seed)) as g:
            with Orders(self.programs, s.url, s.shop, g.url) as a, \
                    Orders(self.programs, s.url, s.shop, g.url) as b:
                processors = [a.start(), b.start()]
                self.rush(s, g, processors, seed)
                charges = [c for c in g.ledger()["charges"] if c["outcome"] == "received"]
                for p in processors:
                    eventually("it has all", lambda p=p: len(p.cases()) == len(charges))
                    p.settle()
                found = self.check(s, g)
                self.told("streams", *found)
                ends = [{c["id"]: c["state"] for c in p.cases()} for p in processors]
                self.assertEqual(ends[0], ends[1])

    def test_a_message_delivered_in_vain_is_listed_and_can_be_delivered_again(self):
        with Nats() as nats:
            nats.start()
            with self.sale_with("--nats", nats.url) as s, self.gateway(s) as g:
                how = ("--nats", nats.url, "--ack-wait", "0.3", "--max-deliver", "1")
                with Orders(self.programs, s.url, s.shop, g.url, *how) as p:
                    p.start()
                    s.open_sale("demo")
                    one = s.buy("demo", "alice", "k").json["purchase"]
                    two = s.buy("demo", "bob", "k").json["purchase"]
                    g.charge(one, "k1")
                    eventually("the first is handed over", lambda: g.ledger()["handovers"])
                    # Hangs while the second is delivered, and never gets to it.
                    p.process.send_signal(signal.SIGSTOP)
                    g.charge(two, "k2")
                    eventually("it was delivered in vain",
                               lambda: nats.count("FAIRSALE_ORDERS_DEAD") == 1)
                    p.kill()
                    p.start()
                    dead = json.loads(p.run("dead", "--nats", nats.url, "--json", codes=(1,)))
                    self.assertEqual(dead["kind"], "undelivered")
                    self.assertEqual(json.loads(dead["content"])["data"]["purchase"], two)
                    self.assertEqual(len(p.cases()), 1)
                    p.run("dead", "--nats", nats.url, "--again")
                    eventually("the second is handed over",
                               lambda: len(g.ledger()["handovers"]) == 2)
                    eventually("it is settled", lambda: nats.count(ORDERS) == 0)
                    self.assertEqual(p.run("dead", "--nats", nats.url), "")

                    # What is no message is set aside, and stops nothing.
                    nats.call("fairsale.orders.demo", {"not": "a CloudEvent"})
                    letter = json.loads(eventually("it is listed", lambda: p.run(
                        "dead", "--store", p.store, "--json", codes=(0, 1))))
                    self.assertEqual(letter["kind"], "set_aside")
                    three = s.buy("demo", "carol", "k").json["purchase"]
                    g.charge(three, "k3")
                    eventually("the third is handed over",
                               lambda: len(g.ledger()["handovers"]) == 3)
                    shown = json.loads(p.run("show", three, "--store", p.store, "--json"))
                    self.assertEqual(shown["state"], "handed_over")
                    p.run("show", "demo:999", "--store", p.store, codes=(1,))

    def test_a_gateway_that_is_down_loses_no_refund(self):
        """A refund that is due outlives the gateway's absence, kills, and the message's end."""
        with Nats() as nats:
            nats.start()
            with self.sale_with("--nats", nats.url) as s, self.gateway(s) as g:
                nowhere = "http://127.0.0.1:9"
                with Orders(self.programs, s.url, s.shop, nowhere, "--nats", nats.url) as p:
                    p.start()
                    s.open_sale("demo")
                    bought = s.buy("demo", "alice", "k").json["purchase"]
                    self.assertEqual(s.pay(bought, "p1").json["status"], "ordered")
                    self.assertEqual(s.pay(bought, "p2").json["status"], "refund_due")
                    eventually("both are taken", lambda: len(p.cases("--open")) == 2)
                    self.published(s, nats)
                    stuck = eventually("somebody is told", lambda: p.run(
                        "dead", "--store", p.store, "--json", codes=(0, 1)))
                    self.assertEqual(json.loads(stuck.splitlines()[0])["kind"], "unanswered")
                    p.kill()
                    p.arguments[p.arguments.index(nowhere)] = g.url
                    p.start().settle()
                    self.assertEqual([d["reference"] for d in g.ledger()["refunds"]], ["p2"])
                    self.assertEqual([d["reference"] for d in g.ledger()["handovers"]], ["p1"])
                    self.assertEqual({c["reference"]: c["state"] for c in p.cases()},
                                     {"p1": "handed_over", "p2": "refunded"})


class Commands(Case):
    """fairsale-orders without a fairsaled."""

    def orders(self):
        return Orders(self.programs, "http://127.0.0.1:9", "a-shop-token-0123",
                      "http://127.0.0.1:9")

    def test_a_queue_that_cannot_be_read_is_not_an_empty_one(self):
        with Nats() as nats, self.orders() as p:
            settings, credentials = (os.path.join(nats.directory, n) for n in ("conf", "looker"))
            with open(settings, "w") as f:
                f.write("""authorization { users: [
                             {user: all, password: x},
                             {user: looker, password: s3cret, permissions:
                               {publish: {deny: "$JS.API.STREAM.MSG.GET.>"}}}] }
                           no_auth_user: all""")
            # A password of NATS may be shorter than a secret of fairsale.
            with open(os.open(credentials, os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
                f.write("looker:s3cret")
            nats.options = ("-c", settings)
            nats.start()
            dead = "FAIRSALE_ORDERS_DEAD"
            nats.call(f"$JS.API.STREAM.CREATE.{dead}", {"name": dead, "subjects": ["dead"]})
            nats.call("dead", {"stream_seq": 1})
            self.assertEqual(nats.count(dead), 1)
            done = p.complain("dead", "--nats", nats.url, "--nats-credentials-file", credentials)
            self.assertEqual(done.returncode, 3, done)
            self.assertIn(f"the stream {dead} cannot be read", done.stderr)

    def test_addresses_that_cannot_be_are_refused_and_credentials_in_them_kept_quiet(self):
        with self.orders() as p:
            nats, gateway = "nats://shop:hunter2@nats.example:4222", "http://shop:hunter2@pay.example"
            at = p.arguments.index("--gateway") + 1
            for arguments, why in (
                    ([*p.arguments, "--nats", nats], "must not hold credentials"),
                    ([*p.arguments, "--nats", "nats.example"], "nats://HOST:PORT"),
                    ([*p.arguments[:at], gateway, *p.arguments[at + 1:]], "go into a file"),
                    (["dead", "--nats", nats], "must not hold credentials")):
                done = p.complain(*arguments)
                self.assertEqual(done.returncode, 2, done)
                self.assertIn(why, done.stderr)
                self.assertNotIn("hunter2", done.stderr)


def status_references(status):
    return ((purchase, reference) for purchase, (reference, _) in status.items())


class Callbacks(Case):
    def test_only_what_is_signed_is_believed_and_only_once(self):
        secret = new_payment_secret()
        server = self.server("--address-rate", "0")
        server.environment["FAIRSALE_PAYMENT_SECRET"] = secret
        with server as s:
            s.open_sale("demo", hold_seconds=120, grace_seconds=0)
            bought = s.buy("demo", "alice", "k").json["purchase"]
            told = json.dumps({"purchase": bought, "outcome": "received", "reference": "p1",
                               "amount": 4900, "currency": "EUR"})

            def send(body, headers):
                return s.request("POST", CALLBACK, None, body,
                                 {"Content-Type": "application/json", **headers})

            good = signed(secret, told)
            now = int(time.time())
            for wrong in ({}, signed(new_payment_secret(), told), signed(secret, told + " "),
                          signed(secret, told, at=now - 330), signed(secret, told, at=now + 330),
                          {**good, "webhook-id": "evt-2"}, {**good, "webhook-timestamp": "soon"},
                          {**good, "webhook-timestamp": "0" + good["webhook-timestamp"]},
                          {**good, "webhook-signature": good["webhook-signature"][3:]},
                          {**good, "webhook-signature": "v1," + "A" * 44}):
                reply = send(told, wrong)
                self.assertEqual((reply.status, reply.problem), (401, "unauthorized"), wrong)
            state = s.request("GET", f"/v1/purchases/{bought}", s.shop).json["status"]
            self.assertEqual(state, "reserved")

            # One of several signatures is enough: secrets are changed like that.
            several = {**good, "webhook-signature": "v1,AAAA v2,x " + good["webhook-signature"]}
            first, again = send(told, several), send(told, good)
            self.assertEqual((first.status, first.json["status"]), (200, "ordered"))
            self.assertEqual(again.json["status"], "ordered")
            self.assertEqual(again.headers["idempotent-replayed"], "true")

            silent = json.dumps({"purchase": bought, "reference": "p2", "amount": 4900,
                                 "currency": "EUR"})
            self.assertEqual(send(silent, signed(secret, silent)).status, 400)

    def test_a_callback_after_expiry_is_judged_by_the_grace_rule(self):
        secret = new_payment_secret()
        server = self.server("--address-rate", "0")
        server.environment["FAIRSALE_PAYMENT_SECRET"] = secret
        with server as s:
            s.open_sale("demo", stock=1, hold_seconds=0.2, grace_seconds=0, line_limit=10)
            late = s.buy("demo", "alice", "k").json["purchase"]
            waiting = s.buy("demo", "bob", "k").json["purchase"]
            eventually("the unit goes to the next", lambda: s.request(
                "GET", f"/v1/purchases/{waiting}", s.shop).json["status"] != "waiting")
            body = json.dumps({"purchase": late, "outcome": "received", "reference": "p1",
                               "amount": 4900, "currency": "EUR"})
            reply = s.request("POST", CALLBACK, None, body, signed(secret, body))
            self.assertEqual((reply.status, reply.json["status"]), (200, "refund_due"), reply)

    def test_without_a_secret_there_is_no_such_path(self):
        with self.server() as s:
            self.assertEqual(s.request("POST", CALLBACK, None, {}).status, 404)

    def test_a_secret_that_is_none_is_refused(self):
        server = self.server()
        server.environment["FAIRSALE_PAYMENT_SECRET"] = "not-a-secret-of-webhooks"
        said = server.try_start()
        self.assertIn("payment-secret must be whsec_", said)


if __name__ == "__main__":
    main()
