"""The rows of the table: a figure of one measurement, or its ratio to that of another measured
beside it in the same round; and the goal, if there is one."""
import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    title: str
    ours: str  # measurement
    figure: str = "per_second"
    peer: str = ""  # measurement; empty: the row shows ours' figure alone
    goal: str = ""  # ">= 1.7" or "<= 0.7"
    unit: str = ""
    long: bool = False

    def measurements(self):
        return [m for m in (self.ours, self.peer) if m]

    def value(self, results):
        """The figure of one round, or None when it was not measured."""
        ours = results.get(self.ours)
        peer = results.get(self.peer) if self.peer else None
        if ours is None or (self.peer and peer is None):
            return None
        if not self.peer:
            return ours[self.figure]
        return ours[self.figure] / peer[self.figure]

    def met(self, value):
        """True or False by the goal; None without one."""
        if not self.goal:
            return None
        sign, number = self.goal.split()
        return value >= float(number) if sign == ">=" else value <= float(number)


# Measurements of a group run one after another in each round, each round beginning with the next.
GROUPS = [
    ("50 connections, one SKU", [
        Row("redis-50", "purchases, ours durable / Redis always", "ours.c50", peer="redis.c50",
            goal=">= 1.7"),
        Row("p99-50", "p99 of a purchase, ours / Redis", "ours.c50", "p99", "redis.c50",
            goal="<= 0.7"),
        Row("nginx-50", "purchases over HTTP, ours / nginx-Lua-Redis", "ours.c50",
            peer="nginx.c50", goal=">= 3"),
        Row("postgres-1", "purchases, ours / PostgreSQL", "ours.c50", peer="postgres.c50",
            goal=">= 12"),
        Row("postgres-1-few", "purchases, ours / PostgreSQL with 2 connections", "ours.c50",
            peer="postgres.c2"),
        Row("no-log-50", "purchases, durable / no log, same server", "ours.c50",
            peer="memory.c50", goal=">= 0.75"),
        Row("floor-50", "purchases / raw epoll floor without a log", "ours.c50",
            peer="floor.c50"),
    ]),
    ("256 connections, one SKU", [
        Row("redis-256", "purchases, ours durable / Redis always", "ours.c256",
            peer="redis.c256", goal=">= 1.9"),
        Row("nginx-256", "purchases over HTTP, ours / nginx-Lua-Redis", "ours.c256",
            peer="nginx.c256", goal=">= 3"),
        Row("no-log-256", "purchases, durable / no log, same server", "ours.c256",
            peer="memory.c256", goal=">= 0.75"),
    ]),
    ("50 connections, pipelines of 16, one SKU", [
        Row("redis-pipelined", "purchases, ours durable / Redis always", "ours.p16",
            peer="redis.p16", goal=">= 4.7"),
        Row("no-log-pipelined", "purchases, durable / no log, same server", "ours.p16",
            peer="memory.p16", goal=">= 0.75"),
        Row("floor-pipelined", "purchases / raw epoll floor without a log", "ours.p16",
            peer="floor.p16"),
    ]),
    ("50 connections, 8 SKUs", [
        Row("postgres-8", "purchases, ours / PostgreSQL", "ours.skus8", peer="postgres.skus8",
            goal=">= 3.5"),
        Row("postgres-8-few", "purchases, ours / PostgreSQL with 8 connections", "ours.skus8",
            peer="postgres.skus8-c8"),
        Row("redis-8", "purchases, ours durable / Redis always", "ours.skus8",
            peer="redis.skus8"),
    ]),
    ("the log alone", [
        Row("append-1024", "append + sync of 1,024 events / raw file", "append.1024", "ratio",
            goal=">= 0.6"),
        Row("append-128", "append + sync of 128 events / raw file", "append.128", "ratio"),
        Row("append-16", "append + sync of 16 events / raw file", "append.16", "ratio"),
    ]),
    ("replay", [
        Row("replay", "replay, events a second and core", "replay.fold", goal=">= 3000000",
            unit="/s"),
        Row("replay-scan", "replay / scan of the chain alone", "replay.fold",
            peer="replay.scan", goal=">= 0.5"),
    ]),
    ("reads of the availability", [
        Row("read", "GET, 50 connections / raw epoll floor", "ours.get", peer="floor.get",
            goal=">= 0.95"),
        Row("read-pipelined", "GET, pipelines of 16 / raw epoll floor", "ours.get16",
            peer="floor.get16", goal=">= 0.7"),
        Row("read-cpu", "server CPU of a GET, ours / floor", "ours.get", "server_us_per_answer",
            "floor.get"),
        Row("read-pipelined-cpu", "server CPU of a GET, pipelines of 16, ours / floor",
            "ours.get16", "server_us_per_answer", "floor.get16"),
        Row("read-in-rush", "p99 of a GET while 50 connections buy", "ours.get-in-rush", "p99",
            unit="us"),
    ]),
    ("sold out after 1,000 units, 50 connections", [
        Row("sold-out", "answers, ours / Redis", "ours.soldout", peer="redis.soldout"),
    ]),
    ("60 % first attempts, 10 % repeats, 10 % over the limit, 20 % reads; 50 connections", [
        Row("mixed", "answers, ours / Redis", "ours.mixed", peer="redis.mixed"),
    ]),
    ("a fixed rate that both can keep up with, 256 connections", [
        Row("open-p50", "p50 of a purchase, ours / Redis", "ours.open", "p50", "redis.open"),
        Row("open-p99", "p99 of a purchase, ours / Redis", "ours.open", "p99", "redis.open"),
    ]),
    ("10,000 event streams and two dead webhooks, with / without", [
        Row("watched", "purchases, 50 connections", "ours.watched", peer="ours.unwatched"),
        Row("watched-p99", "p99 of a purchase, 50 connections", "ours.watched", "p99",
            "ours.unwatched", goal="<= 1.2"),
        Row("watched-fixed-p50", "p50 of a purchase, 10,000 a second", "ours.watched-fixed", "p50",
            "ours.unwatched-fixed"),
        Row("watched-fixed-p99", "p99 of a purchase, 10,000 a second", "ours.watched-fixed", "p99",
            "ours.unwatched-fixed"),
    ]),
    ("a cluster on this machine: 3 NATS servers, 3 processors, one edge", [
        Row("cluster-192", "purchases, 192 connections, cluster / one server alone, 256 connections",
            "cluster.c192", peer="ours.c256", goal=">= 0.3"),
        Row("cluster-192-p99", "p99 of a purchase, 192 connections", "cluster.c192", "p99",
            goal="<= 25000", unit="us"),
        Row("cluster-256", "purchases, cluster / one server alone, 256 connections",
            "cluster.c256", peer="ours.c256", goal=">= 0.3"),
        Row("cluster-256-p99", "p99 of a purchase, 256 connections", "cluster.c256", "p99",
            unit="us"),
        Row("cluster-50", "purchases, cluster / one server alone, 50 connections", "cluster.c50",
            peer="ours.c50"),
        Row("cluster-edges", "purchases, two edges / one", "cluster.e2", peer="cluster.c256"),
        Row("cluster-partitions", "purchases in 8 SKUs, 4 partitions / 1", "cluster.p4",
            peer="cluster.p1"),
        Row("cluster-slow-edges", "purchases, two edges / one, each with a tenth of a core",
            "cluster.slow-e2", peer="cluster.slow-e1"),
        Row("cluster-slow-partitions",
            "purchases in 16 SKUs, 4 partitions / 1, each with 3 processors of 0.06 of a core",
            "cluster.slow-p4", peer="cluster.slow-p1"),
        Row("cluster-batch-256", "purchases in a batch, 256 connections", "cluster.c256", "batch",
            unit=""),
        Row("cluster-batch-128", "purchases in a batch, 128 connections", "cluster.c128", "batch",
            unit=""),
        Row("cluster-batch-50", "purchases in a batch, 50 connections", "cluster.c50", "batch",
            unit=""),
        *(Row(f"cluster-cpu-{role}-{n}", f"CPU of a purchase, {n} connections: {what}",
              f"cluster.c{n}", f"{role}_us", unit="us")
          for n in (256, 128, 50) for role, what in (
              ("nats", "the NATS servers"), ("processor", "the three processors"),
              ("edge", "the edge"))),
    ]),
    ("cross-checks: the same by clients of other making, 50 connections", [
        Row("wrk", "ours: fairsale-load / wrk", "ours.c50", peer="ours.wrk"),
        Row("redis-benchmark", "Redis: fairsale-load / redis-benchmark", "redis.c50",
            peer="redis.redis-benchmark"),
        Row("redis-benchmark-16", "Redis, pipelines of 16: fairsale-load / redis-benchmark",
            "redis.p16", peer="redis.redis-benchmark16"),
    ]),
    ("a large sale", [
        Row("cost-cpu", "CPU of a purchase after 10 M attempts / after 100 k", "long.ten-million",
            "cpu_ratio", goal="<= 1.2", long=True),
        Row("cost-rate", "time of a purchase after 10 M attempts / after 100 k",
            "long.ten-million", "time_ratio", goal="<= 1.2", long=True),
        Row("restart", "kill -9 with 10 M events until ready", "long.ten-million",
            "restart_seconds", goal="<= 2", unit="s", long=True),
    ]),
    ("memory", [
        Row("memory-waiting", "a waiting customer (goal: 64 B + key and customer, 27 B)",
            "long.waiting", "bytes_each", goal="<= 91", unit="B", long=True),
        Row("memory-waiting-restarted", "the same, without what RocksDB buffers: after a restart",
            "long.waiting", "bytes_each_restarted", goal="<= 91", unit="B", long=True),
        Row("memory-sku", "an idle SKU, of 100,000", "long.idle-skus", "bytes_each",
            goal="<= 2048", unit="B", long=True),
        Row("memory-sku-restarted", "the same, without what RocksDB buffers: after a restart",
            "long.idle-skus", "bytes_each_restarted", goal="<= 2048", unit="B", long=True),
    ]),
]


def chosen(only, long):
    """The groups with the rows whose group or name matches, long ones only when asked for."""
    pattern = re.compile(only) if only else None
    groups = []
    for title, rows in GROUPS:
        kept = [r for r in rows if (long or not r.long) and
                (not pattern or pattern.search(r.name) or pattern.search(title))]
        if kept:
            groups.append((title, kept))
    return groups


def plan_of(groups):
    """By group, the measurements its rows need that no earlier group has made."""
    seen, plan = set(), []
    for title, rows in groups:
        names = [m for m in dict.fromkeys(n for r in rows for n in r.measurements())
                 if m not in seen]
        seen.update(names)
        plan.append((title, names))
    return plan
