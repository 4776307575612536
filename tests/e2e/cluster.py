"""A cluster of real processes on loopback: nats-servers with JetStream, processors and edges."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

from harness import PATIENCE, Server, eventually
from nats_test import Nats


def free_ports(n):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


class NatsServers:
    """Some nats-servers that are one cluster. Each keeps its ports and its store through a kill."""

    def __init__(self, n=3):
        routes = free_ports(n)
        peers = ",".join(f"nats://127.0.0.1:{p}" for p in routes)
        self.servers = []
        for i, route in enumerate(routes):
            options = ["-n", f"n{i}"]
            if n > 1:
                options += ["--cluster_name", "test", "--cluster", f"nats://127.0.0.1:{route}",
                            "--routes", peers]
            self.servers.append(Nats(*options))
        self.url = ",".join(s.url for s in self.servers)

    def __enter__(self):
        threads = [threading.Thread(target=s.start) for s in self.servers]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        eventually("JetStream has a leader", self.leads)
        return self

    def __exit__(self, *error):
        for s in self.servers:
            s.__exit__(*error)

    def leads(self):
        """Whether some server can make streams."""
        for s in self.servers:
            with contextlib.suppress(OSError):
                if "error" not in s.call("$JS.API.STREAM.NAMES", {}, patience=1):
                    return True
        return False

    def leader(self, stream):
        """The server that leads the stream; None while there is none."""
        for s in self.servers:
            with contextlib.suppress(OSError, AssertionError):
                info = s.call(f"$JS.API.STREAM.INFO.{stream}", patience=1)
                name = info.get("cluster", {}).get("leader")
                if name:
                    return self.servers[int(name[1:])]
        return None


class Cluster:
    """Processors and edges at the given NATS. All have the same secrets."""

    def __init__(self, programs, nats, processors=3, edges=2, partitions=2, durable_on=2,
                 replicas=3, options=()):
        common = ["--nats", nats.url, "--partitions", str(partitions), "--processors",
                  str(processors), "--durable-on", str(durable_on), "--stream-replicas", str(replicas), "--customer-rate", "0",
                  "--address-rate", "0", *options]
        self.nats = nats
        self.partitions = partitions
        self.processors = [Server(programs, "--role", "processor", "--node", f"p{i}", *common)
                           for i in range(processors)]
        self.edges = [Server(programs, "--role", "edge", "--node", f"e{i}", *common)
                      for i in range(edges)]
        first = self.processors[0]
        for s in self.all()[1:]:
            for name in ("operator-token", "shop-token", "customer-key"):
                shutil.copyfile(first.path(name), s.path(name))
            s.operator, s.shop = first.operator, first.shop

    def all(self):
        return self.processors + self.edges

    def __enter__(self):
        # A node is ready when enough others are.
        for s in self.all():
            s.launch()
        for s in self.all():
            s.await_ready()
        return self

    def __exit__(self, *error):
        for s in self.all():
            if s.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    s.process.send_signal(signal.SIGCONT)
            s.__exit__(*error)

    def generation(self, partition):
        seen = [p for s in self.processors if s.process is not None
                for p in s.request("GET", "/v1/cluster", s.operator).json["partitions"]]
        return max(p["generation"] for p in seen if p["partition"] == partition)

    def stream_of(self, sku):
        """The stream that orders a sale's batches now."""
        partition = sku_id(sku) % self.partitions
        return f"FAIRSALE_LOG_{partition}_{self.generation(partition)}"

    def next_streams_ready(self):
        """Each partition has a stream to go over to, led by another server than its own."""
        def ready():
            for partition in range(self.partitions):
                g = self.generation(partition)
                now, then = (self.nats.leader(f"FAIRSALE_LOG_{partition}_{n}") for n in (g, g + 1))
                if now is None or then is None or now is then:
                    return False
            return True
        eventually("the next streams are ready", ready)

    def heads(self, sku):
        return [p.audit_head(sku) for p in self.processors if p.process is not None]

    def settled(self, sku):
        """All processors' heads of the sale, once they are equal."""
        def same():
            heads = self.heads(sku)
            return heads[0] if all(h == heads[0] for h in heads) else None
        return eventually("all processors have the same", same)
