"""A cluster whose parts are killed, stopped, cut off and restarted while sales go on all the time: how
long nobody can buy, and that nothing acknowledged is lost, changed, doubled or sold too often.

FAIRSALE_FAULTS is how many faults of each kind, and ten times how often everything is restarted;
FAIRSALE_SEED repeats the choices of a run."""

import collections
import concurrent.futures
import contextlib
import http.client
import json
import os
import random
import signal
import statistics
import threading
import time

from cluster import HEALS, Balancer, Cluster, InBackground, NatsServers, Rushes
from harness import PATIENCE, Case, Reply, eventually, figure, main, seed_of_this_run
from network import Network

FAULTS = int(os.environ.get("FAIRSALE_FAULTS", "1"))
SKU, OTHER = "probe", "opera"  # of two partitions
STOCK = 8_000  # after that one waits in line
ATTEMPTS = 4_000  # of each rush, at 1,000 a second
EDGES = {"edge0", "edge1"}


class Client(InBackground):
    """Asks for something every 20 ms, and again until there is an answer, waiting for one at most a
    second."""

    def __init__(self, balancer):
        super().__init__(PATIENCE)
        self.balancer = balancer
        self.lock = threading.Lock()
        self.moments = []                   # when, and by whom it was answered
        self.again = collections.Counter()  # why it was asked again
        self.wrong = []                     # answers that no failure explains

    def _connect(self):
        return contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.balancer.plain_port, timeout=1))

    def _until_answered(self, connection, method, path, body=None, headers=None):
        while not self.wrong:
            try:
                connection.request(method, path, body, {
                    "Authorization": f"Bearer {self.balancer.shop}", **(headers or {})})
                response = connection.getresponse()
                reply = Reply(response.status, response.getheaders(), response.read())
            except (OSError, http.client.HTTPException) as e:
                self.again[type(e).__name__] += 1
                connection.close()
                continue
            if reply.status in (200, 201, 202):
                return reply
            if reply.status in (502, 503, 504):
                self.again[f"{reply.status} {reply.problem}"] += 1
                time.sleep(0.02)  # so as not to ask without a pause
            else:
                self.wrong.append((path, body, reply))

    def _run(self):
        n = 0
        with self._connect() as connection:
            while not self.ending.wait(0.02) and not self.wrong:
                n += 1
                reply = self._ask(connection, n)
                if reply is not None:
                    with self.lock:
                        self.moments.append((time.monotonic(), reply.headers["served-by"]))

    def since(self, moment):
        with self.lock:
            return [by for at, by in self.moments if at >= moment]

    def goes_on(self, since, count=20):
        eventually("somebody is answered", lambda: len(self.since(since)) >= count)

    def longest_since(self, moment):
        """The longest time without an answer since then, and when it began."""
        with self.lock:
            before = max((at for at, _ in self.moments if at < moment), default=moment)
            at = [before, *(at for at, _ in self.moments if at >= moment), time.monotonic()]
        return max((b - a, a) for a, b in zip(at, at[1:]))


class Buyer(Client):
    """Buys each time as another customer."""

    def __init__(self, balancer, sku):
        super().__init__(balancer)
        self.sku = sku
        self.answers = {}  # by customer

    def _buy(self, connection, customer):
        return self._until_answered(
            connection, "POST", f"/v1/sales/{self.sku}/purchases", json.dumps({"customer": customer}),
            {"Content-Type": "application/json", "Idempotency-Key": "k"})

    def _ask(self, connection, n):
        reply = self._buy(connection, f"c{n}")
        if reply is not None:
            self.answers[f"c{n}"] = reply
        return reply

    def ask_again(self):
        """The customers who are told something else now."""
        def told(reply):
            return reply.status, reply.json

        def changed(answers):
            with self._connect() as connection:
                return [(customer, before, now) for customer, before in answers
                        if told(now := self._buy(connection, customer)) != told(before)]
        answers = list(self.answers.items())
        with concurrent.futures.ThreadPoolExecutor(16) as askers:
            return [c for some in askers.map(changed, (answers[i::16] for i in range(16)))
                    for c in some]


class Reader(Client):
    """Reads what the balancer has processors answer from their stores."""

    def _ask(self, connection, n):
        return self._until_answered(connection, "GET", f"/v1/sales/{SKU}/orders?limit=1")


class Load:
    """A cluster in which sales go on, and what the faults did to them."""

    def __init__(self, cluster, nats, balancer, rushes, buyer, other, reader, network):
        self.cluster, self.nats, self.balancer = cluster, nats, balancer
        self.rushes, self.buyer, self.other, self.reader = rushes, buyer, other, reader
        self.network = network
        self.outages = collections.defaultdict(list)
        self.unread = collections.defaultdict(list)
        self.healed = collections.defaultdict(list)
        self.too_long = []

    def _ready(self):
        with contextlib.suppress(OSError):  # a processor may start again by itself, here as below
            return all(s.request("GET", "/readyz").status == 200 for s in self.cluster.all())
        return False

    def _position(self, processor, sku):
        with contextlib.suppress(OSError):
            reply = processor.request("GET", f"/v1/sales/{sku}/audit-head", processor.operator)
            if reply.status == 200:
                return reply.json["position"]
        return 0

    def _have_what_one_has(self):
        """All processors have at least what some processor has now. They are never equal for long."""
        for sku in (SKU, OTHER, *self.rushes.skus[-2:]):
            def positions(sku=sku):
                return [self._position(p, sku) for p in self.cluster.processors]
            most = max(positions())
            eventually(f"all have {most} events of {sku}", lambda: min(positions()) >= most, HEALS)

    def wrong(self):
        return self.buyer.wrong + self.other.wrong + self.reader.wrong

    def whole(self):
        """The cluster is as it was made."""
        try:
            eventually("all nodes are ready", self._ready, HEALS)
            self.cluster.next_streams_ready()
            self._have_what_one_has()
            now = time.monotonic()
            for buyer in (self.buyer, self.other):
                eventually("both edges answer, and nobody else", lambda buyer=buyer:
                           self.wrong() or set(buyer.since(now)[-20:]) == EDGES)
            assert not self.wrong(), self.wrong()
        except BaseException:
            self.tell()
            raise

    def tell(self):
        """What all nodes have to say about the cluster."""
        for s in self.cluster.all():
            with contextlib.suppress(OSError):
                said = s.request("GET", "/v1/cluster", s.operator).json
                print(json.dumps(said), s.request("GET", "/readyz").body, flush=True)

    @contextlib.contextmanager
    def fault(self, kind, most):
        """What is done inside may keep everybody from buying or reading for so many seconds at most."""
        self.whole()
        began = time.strftime("%X")
        before = self.buyer.again + self.other.again
        begun = time.monotonic()
        yield begun
        undone = time.monotonic()
        self.whole()
        healed = time.monotonic() - undone
        self.healed[kind].append(healed)
        outage, at = max(b.longest_since(begun) for b in (self.buyer, self.other))
        unread, _ = self.reader.longest_since(begun)
        self.outages[kind].append(outage)
        self.unread[kind].append(unread)
        again = dict(self.buyer.again + self.other.again - before)
        told = (f"{began} to {time.strftime('%X')} {kind}: {outage:.2f} s without an answer, "
                f"{at - begun:.2f} s after it, {unread:.2f} s without one to a read; asked again: "
                f"{again}; whole {healed:.1f} s after its end")
        print(told, flush=True)
        assert not self.wrong(), self.wrong()
        if max(outage, unread) > most:  # the others are measured all the same
            self.too_long.append(told)
            self.tell()

    def kill(self, kind, what, most):
        """SIGKILL, and a start once somebody has bought."""
        with self.fault(f"{kind} killed", most) as begun:
            what.kill()
            self.buyer.goes_on(begun)
            what.start()

    def stop(self, kind, what, most, chance, longest=10):
        """SIGSTOP for 1 s or longer: up to when others have taken its place for good."""
        with self.fault(f"{kind} stopped", most):
            what.process.send_signal(signal.SIGSTOP)
            time.sleep(chance.uniform(1, longest))
            what.process.send_signal(signal.SIGCONT)

    def cut(self, kind, names, most, chance, reached=()):
        """Off the network for 1 to 6 s; these still reach each other. Sometimes they still send, or
        still hear; and sometimes the balancer reaches no node among them, by the names it has."""
        lost = chance.choice(((), reached))
        way = chance.choice(({}, {}, {"sends": True}, {"hears": True}))
        self.off(f"{kind} cut off", [*names, *lost], most, chance.uniform(1, 6), **way)

    def unheard(self, kind, names, most, chance):
        """For longer than the bound nobody hears these, which hear all others; the balancer reaches
        them."""
        self.off(kind, names, most, most + chance.uniform(0.5, 1.5), hears=True)

    def off(self, kind, names, most, seconds, **way):
        with self.fault(kind, most):
            print(*names, *way, flush=True)
            self.network.cut(*names, **way)
            time.sleep(seconds)
            self.network.heal()

    def slow(self, kind, name, most, chance):
        """Its connections are 20 to 100 ms late for 1 to 4 s, and then they break."""
        with self.fault(f"{kind} far away", most):
            self.network.slow_down(name, chance.uniform(0.02, 0.1))
            time.sleep(chance.uniform(1, 4))
            self.network.heal()
            self.network.break_off(name)

    def restart(self, kind, what, most, stop):
        with self.fault(f"{kind} restarted", most):
            stop()
            what.start()


class Faults(Case):
    @contextlib.contextmanager
    def load(self, partitions=False):
        seed = seed_of_this_run()
        chance = random.Random(seed)
        with contextlib.ExitStack() as stack:
            network = stack.enter_context(Network()) if partitions else None
            nats = stack.enter_context(NatsServers(network=network))
            c = stack.enter_context(Cluster(self.programs, nats))
            b = stack.enter_context(Balancer(c, network))
            for sku in (SKU, OTHER):
                b.open_sale(sku, stock=STOCK, hold_seconds=36_000)
            # Links are slow programs of this test's own.
            attempts = ATTEMPTS // 4 if partitions else ATTEMPTS
            with Rushes(c, seed, f"http://127.0.0.1:{b.plain_port}", attempts) as rushes, \
                    Buyer(b, SKU) as buyer, Buyer(b, OTHER) as other, Reader(b) as reader:
                load = Load(c, nats, b, rushes, buyer, other, reader, network)
                yield load, chance
                load.whole()
            self.check(load)

    def check(self, load):
        c, buyers = load.cluster, (load.buyer, load.other)
        self.assertEqual(load.wrong(), [])
        for kind, outages in load.outages.items():
            figure(f"{kind} in a rush: times", len(outages))
            figure(f"{kind} in a rush: nobody could buy, median of the longest",
                   f"{statistics.median(outages):.2f} s")
            figure(f"{kind} in a rush: nobody could buy, longest", f"{max(outages):.2f} s")
            figure(f"{kind} in a rush: nobody could read, longest", f"{max(load.unread[kind]):.2f} s")
            figure(f"{kind} in a rush: until all is whole again, longest",
                   f"{max(load.healed[kind]):.1f} s")
        print("asked again:", *(dict(b.again) for b in buyers), flush=True)
        changed = [c for b in buyers for c in b.ask_again()]
        figure("answers acknowledged in a cluster with faults",
               sum(len(b.answers) for b in buyers))
        figure("of these lost or changed", len(changed))
        self.assertEqual(changed[:10], [])
        self.assertEqual(load.wrong(), [])
        for b in buyers:
            answers = [a.json for a in b.answers.values()]
            self.assertEqual(len({a["purchase"] for a in answers}), len(answers),
                             "each customer's own")
            reserved = sum(a["status"] == "reserved" for a in answers)
            self.assertEqual(reserved, min(STOCK, len(answers)))
            self.assertEqual(sum(a["status"] == "waiting" for a in answers), len(answers) - reserved)
        self.assertEqual(load.rushes.failed, [])
        figure("rushes of which all that was told was looked at again",
               load.rushes.check_again(most=20))
        for sku in (SKU, OTHER, *load.rushes.skus):
            c.settled(sku)
        figure("sales in a cluster with faults", len(load.rushes.skus))
        for s in c.processors:
            self.assertEqual(s.stop(), 0)
        first = c.processors[0]
        for s in c.processors:
            audit = json.loads(s.tool("audit", s.data, "--json"))
            self.assertEqual(len(audit["sales"]), 2 + len(load.rushes.skus))
            if s is not first:
                s.tool("diff", first.data, s.data)
        self.assertEqual(load.too_long, [])

    def test_edges_killed_and_stopped(self):
        with self.load() as (load, chance):
            for _ in range(FAULTS):
                load.kill("an edge", chance.choice(load.cluster.edges), most=1)
                load.stop("an edge", chance.choice(load.cluster.edges), most=1, chance=chance,
                          longest=3)

    def test_processors_killed_and_stopped(self):
        with self.load() as (load, chance):
            for _ in range(FAULTS):
                load.kill("a processor", chance.choice(load.cluster.processors), most=5)
                load.stop("a processor", chance.choice(load.cluster.processors), most=5,
                          chance=chance)

    def test_leaders_of_the_stream_killed_and_stopped(self):
        with self.load() as (load, chance):
            def leader():
                return eventually("the stream has a leader", lambda: load.nats.leader(
                    load.cluster.stream_of(SKU)))
            for _ in range(FAULTS):
                load.whole()
                load.kill("a stream's leader", leader(), most=5)
                load.whole()
                load.stop("a stream's leader", leader(), most=5, chance=chance)

    def test_nodes_and_nats_servers_cut_off(self):
        with self.load(partitions=True) as (load, chance):
            for _ in range(FAULTS):
                i = chance.choice([0, 1])
                load.cut("an edge", [f"e{i}"], most=1, chance=chance, reached=[f"EDGE{i}"])
                i = chance.choice([0, 1, 2])
                load.cut("a processor", [f"p{i}"], most=5, chance=chance,
                         reached=[f"PROCESSOR{i}"])
                load.cut("a NATS server", [chance.choice(["n0", "n1", "n2"])], most=5, chance=chance)

    def test_machines_cut_off(self):
        """With one of each."""
        with self.load(partitions=True) as (load, chance):
            for _ in range(FAULTS):
                i = chance.choice([0, 1])
                load.cut("a machine", [f"n{i}", f"p{i}", f"e{i}"], most=5, chance=chance,
                         reached=[f"EDGE{i}", f"PROCESSOR{i}"])
                i = chance.choice([0, 1])
                load.unheard("a machine not heard", [f"n{i}", f"p{i}", f"e{i}"], most=5,
                             chance=chance)

    def test_slow_and_broken_connections(self):
        with self.load(partitions=True) as (load, chance):
            for _ in range(FAULTS):
                load.slow("an edge", chance.choice(["e0", "e1"]), most=1, chance=chance)
                load.slow("a processor", chance.choice(["p0", "p1", "p2"]), most=5, chance=chance)
                load.slow("a NATS server", chance.choice(["n0", "n1", "n2"]), most=5, chance=chance)

    def test_everything_restarted_one_after_another(self):
        with self.load() as (load, _):
            def end(nats):
                nats.process.send_signal(signal.SIGTERM)
                nats.process.wait(PATIENCE)
            for _ in range(max(1, FAULTS // 10)):
                for s in load.cluster.processors:
                    load.restart("a processor", s, 5, lambda s=s: self.assertEqual(s.stop(), 0))
                for s in load.cluster.edges:
                    load.restart("an edge", s, 1, lambda s=s: self.assertEqual(s.stop(), 0))
                for s in load.nats.servers:
                    load.restart("a NATS server", s, 5, lambda s=s: end(s))
                with load.fault("HAProxy reloaded", most=1):
                    load.balancer.reload()


if __name__ == "__main__":
    main()
