"""A cluster of real processes on loopback: nats-servers with JetStream, processors, edges, and HAProxy
in front of them."""

import contextlib
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

from harness import PATIENCE, Reply, Server, ended, eventually, finish
from nats_test import Nats

BALANCER = os.path.join(os.path.dirname(__file__), "../../docs/haproxy.cfg")
# Seconds until a cluster is whole again: nats-server 2.9.10 may leave a server behind for minutes.
HEALS = 3 * PATIENCE


def sku_id(name):
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


GIVEN = set()  # ports


def free_ports(n):
    """Free, each given once, and not among those that connections get: nobody takes them while a process
    is down."""
    with contextlib.ExitStack() as stack:
        ports = []
        while len(ports) < n:
            port = random.SystemRandom().randrange(20000, 32000)
            if port in GIVEN:
                continue
            with contextlib.suppress(OSError):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
                ports.append(port)
                GIVEN.add(port)
        return ports


class NatsServers:
    """Some nats-servers that are one cluster. Each keeps its ports and its store through a kill. With a
    network they reach each other through that only, as n0, n1 and so on."""

    def __init__(self, n=3, network=None):
        routes = free_ports(n)
        self.network = network
        self.servers = []
        for i, route in enumerate(routes):
            options = ["-n", f"n{i}"]
            peers = routes
            if network:
                # Nobody is told of a way around it.
                options += ["--no_advertise=true", "--cluster_advertise", "127.0.0.1:1"]
                peers = [network.link(f"n{i}", f"n{j}", p) for j, p in enumerate(routes) if j != i]
            if n > 1:
                options += ["--cluster_name", "test", "--cluster", f"nats://127.0.0.1:{route}",
                            "--routes", ",".join(f"nats://127.0.0.1:{p}" for p in peers)]
            self.servers.append(Nats(*options))
        for s, port in zip(self.servers, free_ports(n)):
            s.port, s.url = port, f"nats://127.0.0.1:{port}"
        self.url = ",".join(s.url for s in self.servers)

    def __enter__(self):
        threads = [threading.Thread(target=s.start) for s in self.servers]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        eventually("JetStream has a leader", self.leads)
        return self

    def __exit__(self, kind, *error):
        for s in self.servers:
            if kind is not None:
                with open(os.path.join(s.directory, "log"), errors="replace") as log:
                    print(f"---- log of nats-server ----\n{log.read()}", file=sys.stderr)
            s.__exit__(kind, *error)

    def url_for(self, node):
        """Where a node finds them."""
        if not self.network:
            return self.url
        return ",".join(f"nats://127.0.0.1:{self.network.link(node, f'n{i}', s.port)}"
                        for i, s in enumerate(self.servers))

    def leads(self):
        """Whether some server can make streams."""
        for s in self.servers:
            with contextlib.suppress(OSError):
                if "error" not in s.call("$JS.API.STREAM.NAMES", {}, patience=1):
                    return True
        return False

    def streams(self):
        return self.servers[0].call("$JS.API.STREAM.NAMES", {})["streams"] or []

    def delete(self, stream):
        done = self.servers[0].call(f"$JS.API.STREAM.DELETE.{stream}")
        assert done.get("success"), done

    def _about(self, stream):
        """What its leader says of the stream; nothing while there is none."""
        for s in self.servers:
            with contextlib.suppress(OSError, AssertionError):
                about = s.call(f"$JS.API.STREAM.INFO.{stream}", patience=1).get("cluster", {})
                if about.get("leader"):
                    return about
        return {}

    def leader(self, stream):
        """The server that leads the stream; None while there is none."""
        about = self._about(stream)
        return self.servers[int(about["leader"][1:])] if about else None

    def meta_leader(self):
        """The number of the server by which streams and consumers are made, by what they log."""
        logged = []
        for i, s in enumerate(self.servers):
            with open(os.path.join(s.directory, "log"), errors="replace") as log:
                logged += [(line.split("]", 1)[1][:28], i) for line in log
                           if "Self is new JetStream cluster metadata leader" in line]
        return max(logged)[1]

    def replicated(self, stream):
        """Whether all servers that have it have all of it."""
        about = self._about(stream)
        return bool(about) and all(r.get("current") for r in about.get("replicas") or [])


class Cluster:
    """Processors and edges at the given NATS. All have the same secrets. `takes` names the partitions of
    each processor, when not all take all, of which `copies` take each. `role` is theirs: processor, or
    all."""

    def __init__(self, programs, nats, processors=3, edges=2, partitions=2, durable_on=2,
                 replicas=3, options=(), takes=None, copies=None, customer_rate=0, role="processor"):
        common = ["--partitions", str(partitions), "--processors", str(copies or processors),
                  "--durable-on", str(durable_on), "--stream-replicas", str(replicas),
                  "--customer-rate", str(customer_rate), "--address-rate", "0", *options]
        self.nats = nats
        self.partitions = partitions
        self.programs, self.common = programs, common
        self.processors, self.edges = [], []
        for i in range(processors):
            own = ("--takes", takes[i]) if takes else ()
            self.processors.append(self._node(role, f"p{i}", *own))
        for i in range(edges):
            self.edges.append(self._node("edge", f"e{i}"))

    def _node(self, role, name, *own):
        node = Server(self.programs, "--role", role, "--node", name, "--nats",
                      self.nats.url_for(name), *self.common, *own)
        node.port, = free_ports(1)
        for first in self.processors[:1]:
            for secret in ("operator-token", "shop-token", "customer-key"):
                shutil.copyfile(first.path(secret), node.path(secret))
            node.operator, node.shop = first.operator, first.shop
        return node

    def another_edge(self):
        """Beside the others, while they serve."""
        self.edges.append(self._node("edge", f"e{len(self.edges)}"))
        return self.edges[-1].start()

    def another_processor(self, *own):
        """Under a new name."""
        self.processors.append(self._node("processor", f"p{len(self.processors)}", *own))
        return self.processors[-1].start()

    @staticmethod
    def lose_disk(processor):
        processor.kill()
        shutil.rmtree(processor.data)

    @staticmethod
    def restore(processor, source):
        """Its data directory, from a backup of another's that runs."""
        backup = processor.path("backup")
        processor.tool("backup", source.data, backup)
        processor.tool("restore", backup, processor.data)
        shutil.rmtree(backup)

    def caught_up(self, processor):
        """It is ready, and has what another had then, however sales go on."""
        eventually("it is ready", lambda: processor.request("GET", "/readyz").status == 200)
        other = next(p for p in self.processors if p is not processor and p.process is not None)
        def at(p):
            return {s["partition"]: (s["generation"], s["message"])
                    for s in p.request("GET", "/v1/cluster", p.operator).json["partitions"]}
        then = at(other)
        eventually("it has caught up", lambda: all(at(processor)[p] >= m for p, m in then.items()))

    def all(self):
        return self.processors + self.edges

    def __enter__(self):
        try:
            # A node is ready when enough others are.
            for s in self.all():
                s.launch()
            for s in self.all():
                s.await_ready()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
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
        """Each partition has a stream with all its replicas, and one to go over to, led by another
        server."""
        why = set()
        patient = time.monotonic() + 15
        def lacking():
            for partition in range(self.partitions):
                g = self.generation(partition)
                if g % 2 == 1:
                    return f"partition {partition} is on the bridge of generation {g}"
                now, then = (self.nats.leader(f"FAIRSALE_LOG_{partition}_{n}") for n in (g, g + 1))
                if now is None or then is None:
                    return f"a stream of partition {partition} from generation {g} has no leader"
                # nats-server 2.9.10 sometimes leaves a replica behind for minutes.
                if time.monotonic() < patient and not self.nats.replicated(
                        f"FAIRSALE_LOG_{partition}_{g}"):
                    return f"the stream of partition {partition} lacks replicas"
                if now is then:
                    return (f"n{self.nats.servers.index(now)} leads both streams of partition "
                            f"{partition} from generation {g}")
            for s in self.processors:
                if s.process is not None:
                    for p in s.request("GET", "/v1/cluster", s.operator).json["partitions"]:
                        if not p["next_ready"]:
                            return f"{s.url} has no next stream of partition {p['partition']}"
            return None
        def ready():
            try:
                lacks = lacking()
            except OSError as e:  # one that starts again by itself
                lacks = str(e)
            why.add(lacks)
            return lacks is None
        try:
            eventually("the next streams are ready", ready, HEALS)
        except AssertionError:
            print("what was lacking:", *sorted(why), sep="\n  ", flush=True)
            raise

    def heads(self, sku):
        return [p.audit_head(sku) for p in self.processors if p.process is not None]

    def settled(self, sku):
        """All processors' heads of the sale, once they are equal."""
        def same():
            replies = [p.request("GET", f"/v1/sales/{sku}/audit-head", p.operator)
                       for p in self.processors if p.process is not None]
            if any(r.status == 404 for r in replies):
                return None  # it has not heard of the sale yet
            heads = [r.json for r in replies]
            return heads[0] if all(h == heads[0] for h in heads) else None
        try:
            return eventually("all processors have the same", same)
        except AssertionError:
            for p in self.processors:
                print(p.request("GET", "/v1/cluster", p.operator).json, flush=True)
            raise


class InBackground:
    """Works in a thread of its own, until it is left."""

    def __init__(self, patience):
        self.patience = patience
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.ending.set()
        self.thread.join(self.patience)


class Rushes(InBackground):
    """One sale after another, each with a crowd of its own, which comes within 4 s, and checked by it."""

    def __init__(self, cluster, seed, url=None, attempts=1000):
        super().__init__(15 * PATIENCE)
        self.cluster, self.seed, self.url, self.attempts = cluster, seed, url, attempts
        self.skus, self.failed = [], []

    def _record(self, sku):
        return self.cluster.edges[0].path(f"record-{sku}")

    def _rush(self, sku):
        stock = self.attempts * 15 // 100
        return self.cluster.edges[0].rush(
            "--sku", sku, "--create", f"stock={stock},hold=2", "--attempts", str(self.attempts),
            "--customers", str(self.attempts * 3 // 10), "--rate", str(self.attempts // 4),
            "--repeats", str(self.attempts // 5), "--listings", "50", "--connections", "64",
            "--seed", str(self.seed + len(self.skus)), "--until-settled", "--expect-sold",
            str(stock), "--record", self._record(sku), url=self.url)

    def check_again(self, most):
        """What crowds were told is still so; of so many of the sales. Returns how many."""
        edge = self.cluster.edges[0]
        chosen = random.Random(self.seed).sample(self.skus, min(most, len(self.skus)))
        for sku in chosen:
            edge.tool("check", edge.url, "--record", self._record(sku), "--token-file",
                      edge.path("shop-token"))
        return len(chosen)

    def _run(self):
        while not self.ending.is_set():
            sku = f"rush-{len(self.skus)}"
            self.skus.append(sku)
            with ended(self._rush(sku)) as rush:
                try:
                    finish(rush)
                except Exception as e:  # whatever it is, the test has to hear of it
                    print(f"{time.strftime('%X')} {sku} failed: {e}", flush=True)
                    self.failed.append(sku)


class Balancer:
    """HAProxy with the configuration that users are given, before a cluster that has started. Clients
    come by TLS, with a certificate that is made for it."""

    def __init__(self, cluster, network=None):
        self.cluster = cluster
        self.operator, self.shop = cluster.edges[0].operator, cluster.edges[0].shop
        self.directory = tempfile.mkdtemp(prefix="fairsale-balancer-")
        self.port, self.plain_port = free_ports(2)
        self.url = f"https://127.0.0.1:{self.port}"
        self.process = None
        nodes = {f"EDGE{i}": s.port for i, s in enumerate(cluster.edges)}
        nodes |= {f"PROCESSOR{i}": s.port for i, s in enumerate(cluster.processors)}
        if network:
            # Cut off as a node of its own name: others can lose a node that clients still reach.
            nodes = {name: network.link("balancer", name, port) for name, port in nodes.items()}
        self.environment = {
            "PATH": os.environ["PATH"],
            "HTTPS": f"127.0.0.1:{self.port}",
            "HTTP": f"127.0.0.1:{self.plain_port}",
            "CERTIFICATE": self.path("certificate-and-key"),
            "BALANCER_SOCKET": self.path("socket"),
            **{name: f"127.0.0.1:{port}" for name, port in nodes.items()}}

    def path(self, name):
        return os.path.join(self.directory, name)

    @property
    def log(self):
        with open(self.path("log"), errors="replace") as f:
            return f.read()

    def check(self):
        """What HAProxy has to say about its configuration."""
        done = subprocess.run(["haproxy", "-c", "-f", BALANCER], env=self.environment, text=True,
                              capture_output=True, timeout=PATIENCE, check=False)
        return done.stdout + done.stderr

    def __enter__(self):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                        "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
                        "-keyout", self.path("key"), "-out", self.path("certificate")],
                       check=True, capture_output=True, timeout=PATIENCE)
        with open(self.path("certificate-and-key"), "w") as out:
            for name in ("certificate", "key"):
                with open(self.path(name)) as f:
                    out.write(f.read())
        self.trust = ssl.create_default_context(cafile=self.path("certificate"))
        with open(self.path("log"), "wb") as log:
            self.process = subprocess.Popen(["haproxy", "-W", "-db", "-f", BALANCER], stdout=log,
                                            stderr=log, env=self.environment)
        eventually("HAProxy serves", self._ready)
        return self

    def __exit__(self, kind, *error):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(PATIENCE)
        if kind is not None:
            print(f"---- log of HAProxy ----\n{self.log}", file=sys.stderr)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _ready(self):
        assert self.process.poll() is None, self.log
        with contextlib.suppress(OSError):
            return self.request("GET", "/readyz").status == 200
        return False

    def _workers(self):
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as f:
            return set(f.read().split())

    def reload(self):
        """It begins anew with its configuration. Those before it go when their clients have."""
        before = self._workers()
        self.process.send_signal(signal.SIGUSR2)
        eventually("a new HAProxy serves", lambda: self._workers() - before and self._ready())

    def tell(self, command):
        """What the operator can do at its socket."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(PATIENCE)
            s.connect(self.path("socket"))
            s.sendall(command.encode() + b"\n")
            s.shutdown(socket.SHUT_WR)
            said = s.makefile().read().strip()
        assert not said, f"{command}: {said}"

    def connect(self, patience=PATIENCE):
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=patience,
                                           context=self.trust)

    def request(self, method, path, token=None, body=None, headers=None, connection=None):
        """On a connection that is kept, or else on one of its own."""
        head = dict(headers or {})
        if token:
            head["Authorization"] = f"Bearer {token}"
        if body is not None:
            body = json.dumps(body)
            head.setdefault("Content-Type", "application/json")
        with contextlib.ExitStack() as stack:
            if connection is None:
                connection = stack.enter_context(contextlib.closing(self.connect()))
            connection.request(method, path, body=body, headers=head)
            response = connection.getresponse()
            return Reply(response.status, response.getheaders(), response.read())

    # What every client does.
    open_sale, buy, pay, customer_token = (Server.open_sale, Server.buy, Server.pay,
                                           Server.customer_token)

    def curl(self, path, *options):
        """The answer to curl by HTTP/2: version, status, who served it, body."""
        done = subprocess.run(
            ["curl", "-sS", "--http2", "--cacert", self.path("certificate"), "--max-time",
             str(PATIENCE), "-w", "\n%{http_version} %{http_code} %header{served-by}", *options,
             self.url + path], capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
        assert done.returncode == 0, done.stderr
        body, _, last = done.stdout.rpartition("\n")
        return (*last.split(" "), body)
