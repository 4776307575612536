"""Streams that have lost what they had acknowledged: the processors notice, and a cluster goes on from
their logs."""

import base64
import json
import os
import shutil
import signal

from cluster import Cluster, NatsServers
from harness import Case, eventually, main

SKUS = ("tour", "fair", "opera")  # opera is of partition 0, the others of partition 1


class Streams:
    """What nats-servers have stored, which a test takes away or puts back while they are down."""

    def __init__(self, nats):
        self.nats = nats

    def stop(self):
        for s in self.nats.servers:
            s.process.send_signal(signal.SIGTERM)
        for s in self.nats.servers:
            s.process.wait(60)

    def kill(self):
        for s in self.nats.servers:
            s.kill()

    @staticmethod
    def stores(server):
        return os.path.join(server.directory, "jetstream"), os.path.join(server.directory, "kept")

    def keep(self):
        for s in self.nats.servers:
            shutil.copytree(*self.stores(s))

    def lose(self):
        for s in self.nats.servers:
            shutil.rmtree(self.stores(s)[0])

    def put_back(self):
        self.lose()
        for s in self.nats.servers:
            shutil.copytree(*reversed(self.stores(s)))

    def start(self):
        # Each waits for the others until there is a leader.
        self.nats.__enter__()


class Reseed(Case):
    def sell(self, cluster, customers):
        """Purchases by these customers at every sale: what was answered, by key."""
        answers = {}
        for i, customer in enumerate(customers):
            for sku in SKUS:
                reply = eventually("a purchase is answered", lambda: self.answered(
                    cluster.edges[i % len(cluster.edges)], sku, customer))
                answers[sku, customer] = reply.json
        return answers

    def answered(self, edge, sku, customer):
        reply = edge.buy(sku, customer, "k")
        self.assertIn(reply.status, (201, 202, 503), reply)
        return reply if reply.status != 503 else None

    def stop_all(self, cluster):
        for s in cluster.all():
            if s.process is not None:
                s.kill()

    def start_all(self, cluster):
        for s in cluster.all():
            s.launch()
        for s in cluster.all():
            s.await_ready()

    def status(self, cluster, *arguments, code=0):
        first = cluster.processors[0]
        out = first.tool("cluster", "status", *(s.url for s in cluster.all()), "--token-file",
                         first.path("operator-token"), "--json", *arguments, code=code)
        return json.loads(out)

    def reseed(self, cluster, *arguments, code=0, replicas=1):
        first = cluster.processors[0]
        return first.tool("cluster", "reseed", *(p.data for p in cluster.processors), "--nats",
                          cluster.nats.url, "--partitions", "2", "--processors", "3",
                          "--durable-on", "2", "--stream-replicas", str(replicas), *arguments,
                          code=code)

    def await_stop(self, cluster, why):
        """Every processor says of both partitions that it has stopped, or waits, and why."""
        for p in cluster.processors:
            def seen(p=p):
                partitions = p.request("GET", "/v1/cluster", p.operator).json["partitions"]
                return len(partitions) == 2 and all(
                    why in (s["stopped"] or s["waits"] or "") for s in partitions)
            eventually("both partitions stop", seen)
            ready = p.request("GET", "/readyz")
            self.assertEqual(ready.status, 503)
            self.assertIn(why.encode(), ready.body)
        for e in cluster.edges:
            eventually("the edges know", lambda e=e: e.request("GET", "/readyz").status == 503)

    def await_generation(self, cluster, number):
        """All processors have taken the opening of both streams of that generation."""
        eventually("the openings are taken", lambda: {
            p["generation"] for n in self.status(cluster)["nodes"] for p in n["partitions"]
        } == {number})

    def check(self, cluster, answers):
        """Everything acknowledged is there, everywhere, and the copies are the same."""
        for (sku, customer), answer in answers.items():
            again = eventually("the same key is answered", lambda: self.answered(
                cluster.edges[0], sku, customer))
            self.assertEqual(again.json, answer, "the same key, the same answer")
        for sku in SKUS:
            cluster.settled(sku)
        status = self.status(cluster, *(a for sku in SKUS for a in ("--heads", sku)))
        self.assertTrue(status["well"])
        self.assertTrue(all(h["agree"] and len(h["processors"]) == 3 for h in status["heads"]))
        self.stop_all(cluster)
        first = cluster.processors[0]
        for p in cluster.processors:
            p.tool("audit", p.data)
        for p in cluster.processors[1:]:
            p.tool("diff", first.data, p.data)

    def test_all_streams_are_lost(self):
        with NatsServers() as nats, Cluster(self.programs, nats) as c:
            streams = Streams(nats)
            for sku in SKUS:
                c.edges[0].open_sale(sku, stock=3, hold_seconds=600)
            answers = self.sell(c, ["ann", "ben"])
            before = self.status(c)
            self.assertEqual({n["node"] for n in before["nodes"]}, {"p0", "p1", "p2", "e0", "e1"})
            # One of them is behind, and will have to be brought up.
            for sku in SKUS:
                c.settled(sku)
            behind = c.processors[2]
            behind.kill()
            answers |= self.sell(c, ["cleo", "dan"])
            self.reseed(c, "--yes", code=3)  # they run
            self.stop_all(c)
            streams.kill()
            streams.lose()
            streams.start()
            plan = json.loads(self.reseed(c, "--json", code=1, replicas=3))
            self.assertEqual([s["copies"][2]["lacks"] for s in plan["sales"]], [2, 2, 2])
            self.assertEqual([p["generation"] for p in plan["partitions"]], [1, 1])
            text = self.reseed(c, code=1, replicas=3)
            self.assertIn("lacks 2 events, from position 4 on", text)
            behind.tool("diff", c.processors[0].data, behind.data, code=1)  # nothing has changed
            self.assertIn("Done: 6 events copied", self.reseed(c, "--yes", replicas=3))
            self.assertIn("has been opened already", self.reseed(c, "--yes", replicas=3))

            self.start_all(c)
            answers |= self.sell(c, ["fay"])
            after = self.status(c)
            self.assertEqual({p["generation"] for n in after["nodes"] for p in n["partitions"]}, {1})
            self.check(c, answers)

            # A restart finds its place in the new generation, as in the first.
            self.start_all(c)
            answers |= self.sell(c, ["gil"])
            self.check(c, answers)

    def test_all_streams_are_lost_while_processors_run(self):
        """They have all of it, and go over to new streams by themselves."""
        with NatsServers() as nats, Cluster(self.programs, nats) as c:
            streams = Streams(nats)
            for sku in SKUS:
                c.edges[0].open_sale(sku, stock=3, hold_seconds=600)
            answers = self.sell(c, ["ann", "ben"])
            streams.kill()
            streams.lose()
            streams.start()
            answers |= self.sell(c, ["cleo", "dan"])
            self.assertGreater(min(p["generation"] for n in self.status(c)["nodes"]
                                   for p in n["partitions"]), 0)
            self.check(c, answers)

    def test_a_stream_that_was_rolled_back_and_one_that_was_only_opened(self):
        with NatsServers(1) as nats, Cluster(self.programs, nats, edges=1, replicas=1) as c:
            streams = Streams(nats)
            for sku in SKUS:
                c.edges[0].open_sale(sku, stock=3, hold_seconds=600)
            answers = self.sell(c, ["ann"])
            streams.stop()
            streams.keep()
            streams.start()
            answers |= self.sell(c, ["ben", "cleo"])
            # Whoever was behind as far as the stream will be would have nothing to complain about.
            for sku in SKUS:
                c.settled(sku)
            streams.kill()
            streams.put_back()
            streams.start()
            self.await_stop(c, "the stream has lost what it had acknowledged")
            self.stop_all(c)
            self.reseed(c, "--yes")
            self.start_all(c)
            self.await_generation(c, 1)
            # Lost again, before anything was sold: the opening has left no trace in the logs.
            streams.kill()
            streams.lose()
            streams.start()
            self.await_stop(c, "its stream")
            self.stop_all(c)
            self.reseed(c, "--yes")
            self.start_all(c)
            self.await_generation(c, 2)
            # Whoever has taken nothing but the opening knows it again. Consumers are gone with the
            # server, so nothing is sold before all have looked.
            streams.stop()
            streams.start()
            answers |= self.sell(c, ["dan"])
            self.check(c, answers)

    def test_replicated_streams_are_rolled_back_and_use_positions_again(self):
        """As after a power cut of all NATS servers, while no processor is there to see it."""
        with NatsServers() as nats, Cluster(self.programs, nats) as c:
            streams = Streams(nats)
            for sku in SKUS:
                c.edges[0].open_sale(sku, stock=5, hold_seconds=600)
            answers = self.sell(c, ["ann"])
            for sku in SKUS:
                c.settled(sku)
            # Nobody is there to go over to other streams.
            self.stop_all(c)
            streams.stop()
            streams.keep()
            streams.start()
            self.start_all(c)
            answers |= self.sell(c, ["ben", "cleo"])
            for sku in SKUS:
                c.settled(sku)
            before = {p: (c.generation(p), self.messages(nats, c, p)) for p in range(2)}
            self.stop_all(c)
            streams.kill()
            streams.put_back()
            streams.start()
            # What others would have bought: a batch once more stands for theirs.
            for p, (generation, messages) in before.items():
                stream = f"FAIRSALE_LOG_{p}_{generation}"
                with nats.servers[0].requests() as request:
                    def asked(what, key, body=None):
                        # It has no leader yet, at first, and has not read what it has.
                        return eventually("the stream answers",
                                          lambda: request(what, body).get(key))
                    first = asked(f"$JS.API.STREAM.MSG.GET.{stream}", "message", {"seq": 1})
                    kept = asked(f"$JS.API.STREAM.INFO.{stream}", "state")["last_seq"]
                    self.assertLess(kept, messages, "it was rolled back")
                    while kept < messages + 3:
                        kept = asked(f"fairsale.log.{p}.{generation}", "seq",
                                     base64.b64decode(first["data"]))
            for s in c.all():
                s.launch()
            for s in c.all():
                s.await_listening()
            self.await_stop(c, "is not the one that this log was made of")
            self.stop_all(c)
            self.reseed(c, "--yes", replicas=3)
            self.start_all(c)
            answers |= self.sell(c, ["dan"])
            self.check(c, answers)

    @staticmethod
    def messages(nats, cluster, partition):
        return nats.servers[0].call("$JS.API.STREAM.INFO.FAIRSALE_LOG_"
                                    f"{partition}_{cluster.generation(partition)}")["state"]["last_seq"]

    def test_a_copy_that_has_parted_is_left_alone(self):
        with NatsServers(1) as nats, Cluster(self.programs, nats, edges=1, replicas=1) as c:
            for sku in SKUS:
                c.edges[0].open_sale(sku, stock=3, hold_seconds=600)
            answers = self.sell(c, ["ann"])
            for sku in SKUS:
                c.settled(sku)
            parted = c.processors[2]
            parted.kill()
            answers |= self.sell(c, ["ben"])
            self.stop_all(c)
            # Somebody starts it alone for a while, and it sells by itself.
            alone = self.server()
            shutil.move(parted.data, alone.data)
            with alone:
                self.assertEqual(alone.buy("tour", "mallory", "k").status, 201)
                alone.stop()
                shutil.move(alone.data, parted.data)
            text = self.reseed(c, "--yes", code=1)
            self.assertIn("stays as it is, since it has parted", text)
            self.assertIn("has parted from position 3 on", text)
            parted.tool("diff", c.processors[0].data, parted.data, code=1)
            # Restored from another it is one of them again.
            shutil.rmtree(parted.data)
            backup = parted.path("backup")
            parted.tool("backup", c.processors[0].data, backup)
            parted.tool("restore", backup, parted.data)
            self.start_all(c)
            answers |= self.sell(c, ["cleo"])
            self.check(c, answers)


if __name__ == "__main__":
    main()
