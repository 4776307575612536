"""A cluster on this one machine: three NATS servers, three processors and some edges."""
import concurrent.futures
import copy
import json
import re
import time

from contenders import Fairsale, fill
from loads import Load, accepted, check_answers, check_counts, plain_load
from processes import Failed, Process, accepts, free_ports

NATS, PROCESSORS = 3, 3
# Three servers that would each take the whole machine only get into each other's way; and their
# garbage is collected a quarter as often.
FOR_ONE_MACHINE = ("env", "GOMAXPROCS=1", "GOGC=400")


class Cluster(Fairsale):
    """Asked at `port`, its first edge."""
    name = "cluster"

    def __init__(self, bench, skus=1, edges=1, partitions=4, shares=None, groups=False):
        """With `shares`, each process of a role gets only so much of a core. With `groups` each partition
        has processors of its own."""
        super().__init__(bench, skus)
        self.edges, self.partitions, self.shares = edges, partitions, shares or {}
        self.groups = partitions if groups else 1
        self.processes = {"nats": [], "processor": [], "edge": []}
        self.ports = {}

    def launch(self):
        clients, routes = free_ports(NATS), free_ports(NATS)
        for i in range(NATS):
            self.processes["nats"].append(Process(
                [*FOR_ONE_MACHINE, "nats-server", "-a", "127.0.0.1", "-p", str(clients[i]), "-js", "-sd",
                 str(self.directory / f"nats{i}"), "-n", f"n{i}", "--cluster_name", "bench",
                 "--cluster", f"nats://127.0.0.1:{routes[i]}", "--routes",
                 ",".join(f"nats://127.0.0.1:{p}" for p in routes)], self.directory / f"n{i}.log",
                share=self.shares.get("nats")))
        for server, port in zip(self.processes["nats"], clients):
            server.wait_until(lambda port=port: accepts(port), "nats-server")
        nats = ",".join(f"nats://127.0.0.1:{p}" for p in clients)
        for role, count in (("processor", PROCESSORS * self.groups), ("edge", self.edges)):
            self.ports[role] = free_ports(count)
            for i, port in enumerate(self.ports[role]):
                self._launch_node(role, i, port, nats)
        for role in ("processor", "edge"):
            for process, port in zip(self.processes[role], self.ports[role]):
                self.port = port
                process.wait_until(self.ready, f"a {role}", timeout=60)
                if role == "processor":
                    process.wait_until(self.next_streams_ready, "its next streams", timeout=60)
        self.port = self.ports["edge"][0]

    def next_streams_ready(self):
        """As a cluster is that was not started this moment."""
        status, said = self.request("GET", "/v1/cluster", token=self.operator)
        partitions = json.loads(said)["partitions"] if status == 200 else []
        return len(partitions) == self.partitions // self.groups and all(
            p["next_ready"] and p["generation"] % 2 == 0 for p in partitions)

    def _launch_node(self, role, i, port, nats):
        config = self.directory / f"{role}{i}.toml"
        config.write_text(fill("fairsaled.toml", port=port, directory=self.directory).replace(
            f"{self.directory}/data", f"{self.directory}/{role}{i}"))
        self.processes[role].append(Process(
            [str(self.bench.binaries / "fairsaled"), "--config", str(config), "--role", role,
             "--node", f"{role}{i}", "--nats", nats, "--partitions", str(self.partitions),
             "--processors", str(PROCESSORS), "--durable-on", "2",
             *(("--takes", str(i % self.groups)) if self.groups > 1 else ())],
            self.directory / f"{role}{i}.log", share=self.shares.get(role)))

    def all(self):
        return [p for of in self.processes.values() for p in of]

    def stop(self):
        for p in reversed(self.all()):
            p.stop()

    def cpu_seconds(self):
        return sum(p.cpu_seconds() for p in self.all())

    def log(self):
        """How many events and blocks a processor has written."""
        text = at(self, self.ports["processor"][0]).request(
            "GET", "/metrics", token=self.operator)[1].decode()
        return [float(re.search(rf"^fairsale_log_{what}_total (\S+)", text, re.M)[1])
                for what in ("events", "blocks")]

    def cpu_by_role(self):
        return {role: sum(p.cpu_seconds() for p in of) for role, of in self.processes.items()}

    def sold(self):
        """As all processors say, once they say the same."""
        end = time.monotonic() + 10
        while True:
            said = set()
            for self.port in self.ports["processor"]:
                said.add(super().sold())
            self.port = self.ports["edge"][0]
            if len(said) == 1:
                return said.pop()
            if time.monotonic() > end:
                raise Failed(f"processors differ: {sorted(said)} units sold")
            time.sleep(0.05)


def at(cluster, port):
    one = copy.copy(cluster)
    one.port = port
    return one


def clustered(connections, edges=1, **options):
    """`connections` in all, spread over the edges, each asked by a client of its own."""
    def measured(bench):
        load = dict(connections=connections // edges, warmup=1)
        with Cluster(bench, edges=edges, **options) as cluster, \
                concurrent.futures.ThreadPoolExecutor(edges) as clients:
            before, log_before = cluster.cpu_by_role(), cluster.log()
            reports = list(clients.map(
                lambda i: plain_load(bench, at(cluster, cluster.ports["edge"][i]),
                                     Load(first=i * 100_000_000, **load)), range(edges)))
            after, log_after = cluster.cpu_by_role(), cluster.log()
            for report in reports:
                check_answers(report, cluster.answers)
            check_counts(cluster, sum(accepted(r, cluster) for r in reports), None)
        answered = sum(r["answered"] for r in reports)
        events, blocks = (b - a for a, b in zip(log_before, log_after))
        return {"per_second": sum(r["per_second"] for r in reports), "answered": answered,
                "p50": max(r["p50"] for r in reports), "p99": max(r["p99"] for r in reports),
                "batch": events / blocks,
                "server_us_per_answer": 1e6 * sum(after[r] - before[r] for r in after) / answered,
                **{f"{role}_us": 1e6 * (after[role] - before[role]) / answered for role in after}}
    return measured


CLUSTERS = {
    "cluster.c50": clustered(50),
    "cluster.c128": clustered(128),
    "cluster.c192": clustered(192),
    "cluster.c256": clustered(256),
    "cluster.e2": clustered(256, edges=2),
    "cluster.p1": clustered(256, skus=8, partitions=1),
    "cluster.p4": clustered(256, skus=8, partitions=4),
    # What a layer carries that has little of the machine, so that the others do not hold it up.
    "cluster.slow-e1": clustered(128, shares={"edge": 0.1}),
    "cluster.slow-e2": clustered(128, edges=2, shares={"edge": 0.1}),
    "cluster.slow-p1": clustered(256, skus=16, partitions=1, groups=True, shares={"processor": 0.06}),
    "cluster.slow-p4": clustered(256, skus=16, partitions=4, groups=True, shares={"processor": 0.06}),
}
