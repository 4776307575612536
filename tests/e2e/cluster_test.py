"""A cluster of real processes: what clients see of it, and that all processors have one log."""

import concurrent.futures
import contextlib
import json
import os
import random
import signal
import struct
import threading
import time

from cluster import Cluster, NatsServers, Rushes, sku_id
from harness import Case, ended, eventually, figure, finish, main, seed_of_this_run
from network import Network
from receiver import Receiver

OTHER = "demo"  # of another partition than "tour"
KILLS = int(os.environ.get("FAIRSALE_KILLS", "1"))


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def forged(magic, partition, generation, *more):
    """A message of docs/cluster.md that no node has sent."""
    message = struct.pack(f"<4sHHII{len(more)}Q", magic, 1, 0, partition, generation, *more)
    return message + struct.pack("<I", crc32c(message))


def state_of(node, partition):
    """What a node says of a partition."""
    return next(p for p in node.request("GET", "/v1/cluster", node.operator).json["partitions"]
                if p["partition"] == partition)


class Clusters(Case):
    def five_sold(self, cluster):
        """Of ten of "tour"; the head that all processors have then."""
        edge = cluster.edges[0]
        edge.open_sale("tour", stock=10, hold_seconds=60)
        for i in range(5):
            self.assertEqual(edge.buy("tour", f"c{i}", "k").status, 201)
        return cluster.settled("tour")

    def test_what_clients_ask_is_answered_by_any_node(self):
        with NatsServers() as nats, Cluster(self.programs, nats) as c:
            a, b = c.edges
            a.open_sale("tour", stock=2, hold_seconds=60)
            first = a.buy("tour", "ann", "k1")
            self.assertEqual(first.status, 201, first)
            self.assertEqual(first.json["status"], "reserved")
            again = b.buy("tour", "ann", "k1")
            self.assertEqual(again.json, first.json, "the same key, at another edge")
            self.assertEqual(again.headers["idempotent-replayed"], "true")
            second = b.buy("tour", "ben", "k1").json["purchase"]
            waits = a.buy("tour", "cleo", "k1")
            self.assertEqual((waits.status, waits.json["place"]), (202, 1))
            at = waits.json["position"]
            sale = b.request("GET", f"/v1/sales/tour?min_seq={at}")
            self.assertEqual((sale.status, sale.json["available"], sale.json["waiting"]),
                             (200, 0, 1), sale)
            # What an edge cannot know is asked of a processor.
            gone = a.request("DELETE", f"/v1/purchases/{second}", a.shop)
            self.assertEqual((gone.status, gone.json["status"]), (200, "cancelled"), gone)
            offered = b.request("GET", f"/v1/purchases/{waits.json['purchase']}", b.shop)
            self.assertEqual(offered.json["status"], "offered", offered)
            self.assertEqual(a.pay(waits.json["purchase"], "pay-1").json["status"], "ordered")
            self.assertEqual(b.pay(waits.json["purchase"], "pay-1").json["status"], "ordered")
            self.assertEqual(a.request("GET", "/v1/purchases/tour:999", a.shop).problem,
                             "unknown_purchase")
            self.assertEqual(a.buy("none", "ann", "k").problem, "unknown_sale")
            listed = a.request("GET", "/v1/sales/tour/purchases?customer=cleo", a.shop).json
            self.assertEqual([p["status"] for p in listed["purchases"]], ["ordered"])
            c.settled("tour")
            seen = a.request("GET", "/v1/cluster", a.operator).json
            self.assertEqual((seen["node"], seen["role"], seen["not_ready"]), ("e0", "edge", None))
            self.assertEqual({n["node"] for n in seen["others"]}, {"e1", "p0", "p1", "p2"})
            for p in c.processors:
                self.assertEqual(p.replay("tour")["position"], c.heads("tour")[0]["position"])

    def test_without_edges_each_server_is_all_of_it_and_its_data_is_as_any_servers(self):
        with NatsServers() as nats, \
                Cluster(self.programs, nats, edges=0, partitions=1, role="all") as c:
            a, b, _ = c.processors
            a.open_sale("tour", stock=1, hold_seconds=60)
            bought = a.buy("tour", "ann", "k")
            self.assertEqual(bought.status, 201, bought)
            self.assertEqual(b.buy("tour", "ann", "k").json, bought.json)
            self.assertEqual(b.buy("tour", "ben", "k").status, 202)
            self.assertEqual(b.pay(bought.json["purchase"], "p").json["status"], "ordered")
            c.settled("tour")
            for s in c.processors:
                s.stop()
                s.tool("diff", a.data, s.data)
                s.tool("replay", s.data)
                s.tool("rebuild", s.data)
                s.tool("audit", s.data, "--fairness")

    def test_nobody_says_that_something_is_not_there_who_may_only_not_have_heard_of_it(self):
        with NatsServers() as nats, Cluster(self.programs, nats) as c:
            a, b = c.edges
            first, *others = c.processors
            for i in range(20):
                a.open_sale(f"s{i}", hold_seconds=60)
                self.assertEqual(b.request("GET", f"/v1/sales/s{i}").status, 200)
                bought = a.buy(f"s{i}", "ann", "k").json["purchase"]
                for node in (b, first):
                    reply = node.request("GET", f"/v1/purchases/{bought}", node.shop)
                    self.assertEqual(reply.json["status"], "reserved", reply)
            a.open_sale("tour")
            pause = {"action": "pause", "actor": "eve", "reason": "test"}
            self.assertEqual(b.request("PATCH", "/v1/sales/tour", b.operator, pause).status, 200)
            self.assertEqual(b.request("PATCH", "/v1/sales/none", b.operator, pause).status, 404)
            missing = ("/v1/sales/none", "/v1/sales/none/line", "/v1/purchases/tour:999")
            def answers(node):
                return [node.request("GET", path, node.operator).status for path in missing]
            self.assertEqual([answers(n) for n in (a, first)], 2 * [[404, 404, 404]])
            for p in others:
                p.process.send_signal(signal.SIGSTOP)
            self.assertEqual([answers(n) for n in (first, a)], 2 * [[503, 503, 503]])
            for p in others:
                p.process.send_signal(signal.SIGCONT)
            eventually("it is certain again", lambda: answers(a) == [404, 404, 404])

    def test_nothing_is_told_of_what_one_processor_has_alone(self):
        with NatsServers() as nats, Cluster(self.programs, nats) as c:
            a = c.edges[0]
            first, *others = c.processors
            a.open_sale("tour", hold_seconds=60)
            self.assertEqual(a.buy("tour", "ann", "k").status, 201)
            c.settled("tour")
            partition = sku_id("tour") % c.partitions
            before = state_of(first, partition)["message"]
            def told():
                reply = first.request("GET", "/v1/sales/tour/purchases?customer=ben", first.shop)
                return reply.json["purchases"] if reply.status == 200 else None
            self.assertEqual(told(), [])
            for p in others:
                p.process.send_signal(signal.SIGSTOP)
            with concurrent.futures.ThreadPoolExecutor() as buying:
                bought = buying.submit(a.buy, "tour", "ben", "k")
                while (answer := told()) is not None:  # until it has heard of nobody for a while
                    self.assertEqual(answer, [])
                self.assertGreater(state_of(first, partition)["message"], before, "it has it alone")
                for p in others:
                    p.process.send_signal(signal.SIGCONT)
                self.assertEqual(bought.result().status, 201)
            eventually("it is told", lambda: told())

    def test_each_processor_takes_what_it_is_told_and_serves_clients_of_all_sales(self):
        with NatsServers() as nats, \
                Cluster(self.programs, nats, processors=5, copies=3,
                        takes=("0", "0", "0-1", "1", "1")) as c:
            edge = c.edges[0]
            sales = sorted(("tour", OTHER), key=lambda sku: sku_id(sku) % 2)  # by partition
            for sku in sales:
                edge.open_sale(sku, hold_seconds=60)
            def ready():
                return [n for n in c.all() if n.process is not None and
                        n.request("GET", "/readyz").status == 200]
            def buy_everywhere(key):
                for sku in sales:
                    for node in ready():
                        bought = node.buy(sku, f"c{node.port}-{key}", key)
                        self.assertEqual(bought.status, 201, bought)
                        path = f"/v1/purchases/{bought.json['purchase']}"
                        for asked in (node, edge):
                            reply = asked.request("GET", path, asked.shop)
                            self.assertEqual(reply.json["status"], "reserved", reply)
            buy_everywhere("k0")
            for p in (c.processors[0], c.processors[4]):
                p.kill()
            buy_everywhere("k1")
            # Another takes the place of one. With that there would be too many.
            spare = c.another_processor("--takes", "0")
            buy_everywhere("k2")
            c.processors[0].start()
            eventually("they say so", lambda: "stop one at once" in c.processors[1].log)
            self.assertEqual(spare.stop(), 0)
            c.processors.remove(spare)
            spare.__exit__(None, None, None)
            c.processors[4].start()
            for sku in sales:
                c.settled(sku)
            c.next_streams_ready()
            # A store is where the log is.
            for p, orders in zip(c.processors, ((200, 503), (200, 503), (200, 200), (503, 200),
                                                (503, 200))):
                self.assertEqual(tuple(p.request("GET", f"/v1/sales/{sku}/orders", p.shop).status
                                       for sku in sales), orders)
            edge.tool("cluster", "status", *(s.url for s in c.all()), "--token-file",
                      edge.path("operator-token"))
            for p in c.processors:
                self.assertEqual(p.stop(), 0)
            first, second = ({sku} for sku in sales)
            for p, has in zip(c.processors, (first, first, first | second, second, second)):
                audit = json.loads(p.tool("audit", p.data, "--json"))
                self.assertEqual({s["sku"] for s in audit["sales"]}, has)

    def test_time_passes_though_nobody_comes(self):
        with NatsServers() as nats, Cluster(self.programs, nats) as c:
            a = c.edges[0]
            a.open_sale("tour", stock=1, hold_seconds=1)
            held = a.buy("tour", "ann", "k").json["purchase"]
            waits = a.buy("tour", "ben", "k").json["purchase"]
            eventually("the hold expires", lambda: a.request(
                "GET", f"/v1/purchases/{held}", a.shop).json["status"] == "expired")
            self.assertIn(a.request("GET", f"/v1/purchases/{waits}", a.shop).json["status"],
                          ("offered", "expired"))
            c.settled("tour")

    def test_a_processor_that_was_away_reminds_of_no_hold_that_was_paid_meanwhile(self):
        with NatsServers() as nats, Receiver() as r, \
                Cluster(self.programs, nats, options=("--webhook-private-addresses",)) as c:
            a, p = c.edges[0], c.processors[0]
            for kinds in (["about_to_expire"], ["expired"]):
                reply = p.request("POST", "/v1/webhooks", p.shop, {"url": r.url, "kinds": kinds})
                self.assertEqual(reply.status, 201, reply)
            a.open_sale("tour", stock=2, hold_seconds=24, grace_seconds=0)
            held, paid = (a.buy("tour", who, "k").json["purchase"] for who in ("ann", "ben"))
            c.settled("tour")
            p.kill()
            self.assertEqual(a.pay(paid, "pay-1").json["status"], "ordered")
            p.start()
            eventually("the hold ends", lambda: len(r.messages()) >= 2)
            self.assertEqual([(m["type"], m["purchase"]) for m in r.messages()],
                             [("about_to_expire", held), ("expired", held)])

    def test_processors_killed_and_stopped_in_a_rush_lose_and_double_nothing(self):
        random.seed(seed_of_this_run())
        with NatsServers() as nats, Cluster(self.programs, nats) as c:
            rush = c.edges[0].rush("--sku", "rush", "--create", "stock=500,hold=3", "--attempts",
                                   "8000", "--customers", "2000", "--rate", "800",
                                   "--until-settled", "--expect-sold", "500")
            with ended(rush):
                kills = 0
                while rush.poll() is None and kills < KILLS:
                    p = random.choice(c.processors)
                    time.sleep(0.3)  # of the rush: there is nothing to wait for
                    if random.random() < 0.7:
                        p.kill()
                        p.start()
                    else:
                        p.process.send_signal(signal.SIGSTOP)
                        time.sleep(0.5)
                        p.process.send_signal(signal.SIGCONT)
                    kills += 1
                finish(rush)
            c.settled("rush")
            figure("processors of a cluster killed or stopped in a rush", kills)

    def test_a_processor_takes_back_what_the_others_never_had(self):
        with NatsServers() as nats, Cluster(self.programs, nats) as c:
            a = c.edges[0]
            head = self.five_sold(c)
            # As if its last three messages lay beyond a cut, which real faults do not do at will.
            p = c.processors[2]
            partition = sku_id("tour") % c.partitions
            at = state_of(p, partition)
            self.assertEqual(p.stop(), 0)
            g, end = at["generation"], at["message"] - 3
            with open(os.path.join(p.data, "partitions"), "w") as f:
                f.write(f"fairsale partitions 2\n{partition} 0 {g} 0 end {g} {end}\n")
            p.start()
            self.assertIn("3 events in 3 blocks were taken back", p.log)
            self.assertTrue(os.path.exists(os.path.join(
                p.data, f"taken-back-{partition}-{g}-{end}.bin")))
            self.assertEqual(c.settled("tour"), head, "the stream has them still")
            self.assertEqual(a.buy("tour", "c9", "k").status, 201)
            c.settled("tour")
            def stored(server):
                return [server.request("GET", f"/v1/sales/tour/{what}", server.operator).json
                        for what in ("timeline", "orders")]
            eventually("what it has stored is what the others have",
                       lambda: stored(p) == stored(c.processors[0]))

    def test_a_sale_that_was_taken_back_is_opened_again(self):
        with NatsServers() as nats, Cluster(self.programs, nats, edges=1) as c:
            a, = c.edges
            terms = a.open_sale("tour", stock=10, hold_seconds=60)
            partition = sku_id("tour") % c.partitions
            gone = next(name for i in range(1000)
                        if sku_id(name := f"t{i:03}") % c.partitions == partition)
            c.next_streams_ready()
            # As if one processor had shown what it had alone, and what is taken back later.
            with nats.servers[0].listening("fairsale.shown") as (publish, hear):
                self.assertEqual(a.buy("tour", "ann", "k").status, 201)
                while b"tour" not in (shown := hear()):
                    pass
                publish("fairsale.shown", shown.replace(b"tour", gone.encode()))
                path = f"/v1/sales/{gone}"
                eventually("the edge was shown it", lambda: a.request("GET", path).status == 200)
                generation = c.generation(partition)
                nats.leader(c.stream_of("tour")).kill()
                eventually("all have gone over",
                           lambda: self.told(c, partition)[0] > generation)
            asked = []
            def opened():
                asked.append(a.request("PUT", path, a.operator, {
                    name: terms[name] for name in ("stock", "hold_seconds", "price")}))
                return asked[-1].status == 201
            eventually("it is opened", opened)
            self.assertLessEqual({r.problem for r in asked[:-1]}, {"unconfirmed", "overloaded"})
            self.assertEqual(a.buy(gone, "ben", "k").status, 201)

    def test_a_cut_that_nobody_left_the_stream_at_takes_nothing_back(self):
        with NatsServers() as nats, Cluster(self.programs, nats) as c:
            head = self.five_sold(c)
            c.next_streams_ready()
            partition = sku_id("tour") % c.partitions
            # Two processors that nobody has heard of promise less than was acknowledged.
            end = state_of(c.processors[0], partition)["message"] - 2
            next_one = c.generation(partition) + 1
            with nats.servers[0].requests() as request:
                for message in (forged(b"FSCP", partition, next_one, 1, end),
                                forged(b"FSCP", partition, next_one, 2, end),
                                forged(b"FSCX", partition, next_one)):
                    request(f"fairsale.log.{partition}.{next_one}", message)
            for p in c.processors:
                why = eventually("it has stopped", lambda p=p: state_of(p, partition)["stopped"])
                self.assertIn(f"after message {end}", why)
            time.sleep(0.5)  # several heartbeats: it would be too late then
            for p in c.processors:
                self.assertEqual(p.stop(), 0)
                self.assertEqual(p.replay("tour")["position"], head["position"])

    def test_a_machine_that_hears_the_others_but_is_not_heard_is_not_ready(self):
        with Network() as network, NatsServers(network=network) as nats, \
                Cluster(self.programs, nats) as c:
            a, b = c.edges
            a.open_sale("tour", stock=10, hold_seconds=60)
            p1 = c.processors[1]
            takes = 'fairsale_cluster_processor_message{node="p1",partition="0"}'
            own = 'fairsale_cluster_message{partition="0"}'
            eventually("all know how far it is", lambda: {
                n.metrics().get(takes) for n in c.all()} == {p1.metrics()[own]})
            ready = [n.request("GET", "/readyz").body.decode().splitlines() for n in (p1, a)]
            self.assertRegex(ready[0][1], r"^partition 0: at message \d+ of generation \d+, "
                                          r"\d+ messages behind, 2 others$")
            self.assertRegex(ready[1][1], r"^partition 0: 3 processors, the furthest at message "
                                          r"\d+ of generation \d+$")
            network.cut("n1", "p1", "e1", hears=True)
            def why(node):
                reply = node.request("GET", "/readyz")
                return "" if reply.status == 200 else reply.body.decode().splitlines()[0]
            for node in (b, c.processors[1]):
                eventually("it says why", lambda node=node: why(node).endswith(
                    "of the 2 that are needed and hear this node"))
            eventually("the others go on", lambda: not why(a) and a.buy(
                "tour", "ann", "k").status == 201)
            eventually("and show it no more", lambda: takes not in a.metrics())
            self.assertIn(takes, p1.metrics())
            network.heal()
            eventually("it is as good as any", lambda: not why(b) and b.buy(
                "tour", "ann", "k").status == 201)

    def test_another_leader_is_asked_for_when_that_of_an_empty_stream_answers_nobody(self):
        with NatsServers() as nats, contextlib.ExitStack() as ending:
            # It has the name, and listens to something else.
            stream = "FAIRSALE_LOG_0_0"
            made = nats.servers[0].call(f"$JS.API.STREAM.CREATE.{stream}", {
                "name": stream, "subjects": ["nobody"], "num_replicas": 3, "storage": "file",
                "retention": "limits", "discard": "old"})
            self.assertNotIn("error", made)
            first = eventually("it has a leader", lambda: nats.leader(stream))
            c = Cluster(self.programs, nats)
            ending.push(c)
            for s in c.all():
                s.launch()
            eventually("another leads it", lambda: nats.leader(stream) not in (first, None))
            nats.delete(stream)
            for s in c.all():
                s.await_ready()
            self.five_sold(c)

    def test_the_leader_of_a_stream_is_lost_and_sales_go_on(self):
        random.seed(seed_of_this_run())
        with NatsServers() as nats, Cluster(self.programs, nats) as c:
            a = c.edges[0]
            a.open_sale("tour", stock=1000, hold_seconds=60)
            partition = sku_id("tour") % c.partitions
            for round in range(KILLS):
                c.next_streams_ready()
                generation, changes = self.told(c, partition)
                leader = nats.leader(c.stream_of("tour"))
                way = random.choice(["kill", "stop"])
                if way == "kill":
                    leader.kill()
                else:
                    leader.process.send_signal(signal.SIGSTOP)
                begun = time.monotonic()
                eventually("somebody buys", lambda: a.buy(
                    "tour", f"c{round}", "k").status == 201)
                took = time.monotonic() - begun
                print(f"{way}: {took:.2f} s", flush=True)
                if way == "kill":
                    leader.start()
                else:
                    leader.process.send_signal(signal.SIGCONT)
                c.settled("tour")
                self.assertLess(took, 5)
                self.assertGreater(self.told(c, partition)[0], generation)
                def counted():
                    gone_over, more = self.told(c, partition)
                    return [b - a for a, b in zip(changes, more)] == [gone_over - generation] * 3
                eventually("each has counted that it went over", counted)

    def test_the_server_stops_by_which_all_had_a_stream_that_another_leads(self):
        """What was under way to all processors is lost, and NATS can make no consumers."""
        skus = [f"sale-{i}" for i in range(4)]
        with NatsServers() as nats:
            first = nats.servers[nats.meta_leader()]
            other = next(s for s in nats.servers if s is not first)
            # They are told of the others.
            nats.url_for = lambda node: first.url if node.startswith("p") else other.url
            with Cluster(self.programs, nats, edges=1) as c:
                a, = c.edges
                for sku in skus:
                    a.open_sale(sku, stock=1_000_000, hold_seconds=600)
                c.next_streams_ready()
                bought = {sku: [time.monotonic()] for sku in skus}
                ending = threading.Event()
                def buy(sku):
                    while not ending.is_set():
                        with contextlib.suppress(OSError):
                            reply = a.buy(sku, f"c{len(bought[sku])}", "k")
                            if reply.status in (200, 201):
                                bought[sku].append(time.monotonic())
                threads = [threading.Thread(target=buy, args=(sku,)) for sku in skus]
                for thread in threads:
                    thread.start()
                try:
                    eventually("all sell", lambda: all(len(b) > 50 for b in bought.values()))
                    first.process.send_signal(signal.SIGSTOP)
                    stopped = time.monotonic()
                    eventually("all sell again", lambda: all(
                        b[-1] > stopped + 7 for b in bought.values()))
                finally:
                    first.process.send_signal(signal.SIGCONT)
                    ending.set()
                    for thread in threads:
                        thread.join()
                for sku, moments in bought.items():
                    longest = max(b - a for a, b in zip(moments, moments[1:]))
                    print(f"{sku}: {longest:.2f} s", flush=True)
                    self.assertLess(longest, 5)

    def told(self, cluster, partition):
        """The generation of a partition's stream by the metrics of all processors, once it is the same,
        and how often each has changed the stream."""
        def of(p, name):
            return p.metrics()[f'fairsale_cluster_{name}{{partition="{partition}"}}']
        def same():
            first, *others = [(of(p, "generation"), of(p, "stopped"), of(p, "lag_generations"))
                              for p in cluster.processors]
            return [first] if all(o == first for o in others) else None
        (generation, stopped, lag), = eventually("all tell the same generation", same)
        self.assertEqual((stopped, lag), (0, 0))
        return generation, [of(p, "stream_changes_total") for p in cluster.processors]

    def test_nodes_come_and_are_replaced_while_sales_go_on(self):
        with NatsServers() as nats, Cluster(self.programs, nats, edges=1) as c:
            p0, p1, p2 = c.processors
            a, = c.edges
            a.open_sale("tour", hold_seconds=60)
            bought = a.buy("tour", "ann", "k")
            with Rushes(c, seed_of_this_run(), attempts=250) as rushes:
                b = c.another_edge()
                self.assertEqual(b.buy("tour", "ann", "k").json, bought.json)
                self.assertEqual(b.buy("tour", "ben", "k").status, 201)
                self.assertEqual(p0.metrics()['fairsale_cluster_nodes{role="edge"}'], 2)

                c.lose_disk(p2)
                c.restore(p2, p0)
                p2.start()
                c.caught_up(p2)
                # The streams still begin with their first messages, which is as good as a backup.
                c.lose_disk(p1)
                p1.start()
                c.caught_up(p1)
            self.assertEqual(rushes.failed, [])
            for sku in ("tour", *rushes.skus):
                c.settled(sku)
            self.assertEqual(b.buy("tour", "ann", "k").json, bought.json)
            for p in (p1, p2):
                p.tool("diff", p0.data, p.data)
                p.tool("audit", p.data)

    def test_where_streams_have_gone_only_a_backup_makes_up_for_a_disk(self):
        with NatsServers() as nats, Cluster(self.programs, nats, edges=1) as c:
            p0, p1, p2 = c.processors
            a, = c.edges
            a.open_sale("tour", hold_seconds=60)  # of one partition; the other one has no sale
            bought = a.buy("tour", "ann", "k")
            c.next_streams_ready()
            for partition in range(c.partitions):
                nats.delete(f"FAIRSALE_LOG_{partition}_0")
            # By way of the bridge between them.
            for partition in range(c.partitions):
                eventually("it goes over", lambda: self.told(c, partition)[0] == 2)
                nats.delete(f"FAIRSALE_LOG_{partition}_1")
            # Nor do they lend what they had in memory.
            for p in (p0, p2):
                p.kill()
                p.start()

            c.lose_disk(p1)
            p1.launch()
            p1.await_listening()
            def waits(partition):
                seen = p1.request("GET", "/v1/cluster", p1.operator).json["partitions"][partition]
                return "from a backup of one of them" in (seen["waits"] or "")
            eventually("it has heard of the others", lambda: waits(0) and waits(1))
            ready = p1.request("GET", "/readyz")
            self.assertEqual(ready.status, 503)
            self.assertIn(b"generation 0 of its stream is gone", ready.body)
            self.assertEqual([s for s in nats.streams() if s.endswith(("_0", "_1"))], [])
            self.assertEqual(p1.metrics()['fairsale_cluster_lag_generations{partition="0"}'], 2)
            self.assertIn("waits: generation 0", self.status(c, code=1))

            c.lose_disk(p1)
            c.restore(p1, p0)
            p1.start()
            c.caught_up(p1)
            self.assertEqual(a.buy("tour", "ann", "k").json, bought.json)
            self.assertEqual(a.buy("tour", "ben", "k").status, 201)
            c.settled("tour")
            a.open_sale(OTHER)
            c.settled(OTHER)
            eventually("the process without a log is forgotten", lambda: all(
                s.metrics()['fairsale_cluster_nodes{role="processor"}'] == 3 for s in c.all()))
            self.assertIn("goes on", self.status(c, "--heads", "tour", "--heads", OTHER))
            for p in (p1, p2):
                p.tool("diff", p0.data, p.data)

    def status(self, cluster, *arguments, code=0):
        edge = cluster.edges[0]
        return edge.tool("cluster", "status", *(s.url for s in cluster.all()), "--token-file",
                         edge.path("operator-token"), *arguments, code=code)


if __name__ == "__main__":
    main()
