"""A machine that fails in other ways than by a kill: it stops for a while, its disk is full, its
descriptors run out, its clock is set. The sale goes on or says clearly why it does not, and what
was acknowledged stays so.

FAIRSALE_ROUNDS makes more of it; FAIRSALE_SEED repeats the choices of a run."""

import contextlib
import json
import os
import random
import resource
import select
import signal
import socket
import subprocess
import tempfile
import time

from harness import PATIENCE, Case, eventually, figure, main, seed_of_this_run
from shoppers import Crowd, Ledger, Wire, request, seconds

FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
ROUNDS = int(os.environ.get("FAIRSALE_ROUNDS", "1"))
MIB = 1 << 20


def passed(deadline):
    """For eventually(): the wall clock has come to `deadline`."""
    return lambda: time.time() > deadline


def log_times(server, sku):
    """The times of a sale's blocks, in the order of its log, in seconds."""
    lines = server.tool("log", "export", server.data, "--sku", sku).splitlines()
    return [seconds(json.loads(line)["time"]) for line in lines if line.startswith('{"block":')]


class Rush:
    """A crowd at one sale, with its ledger; `go()` keeps it going until something is so."""

    def __init__(self, case, server, seed, **terms):
        self.case, self.server = case, server
        self.ledger = Ledger(random.Random(seed), server)
        self.ledger.terms.update(terms)
        self.sku = "rush"
        self.lost = []  # what stayed without an answer, and whether all of it had been sent

    def crowd(self, connections=6):
        return Crowd(self.server.port, connections, self.ledger.heard, self.note_lost)

    def note_lost(self, ask, sent):
        self.lost.append((ask, sent))
        self.ledger.lost(ask, sent)

    def open(self, crowd, stock):
        self.ledger.ask_all(crowd, [self.ledger.open(self.sku, stock)])

    def go(self, crowd, until, depth=16):
        end = time.monotonic() + PATIENCE
        while not until():
            self.case.assertLess(time.monotonic(), end, "the rush waits in vain")
            crowd.ask(lambda: self.ledger.something([self.sku]), depth)
            crowd.move(0.02)

    def told(self, n):
        """For go(): until `n` more answers have acknowledged something."""
        goal = self.ledger.told + n
        return lambda: self.ledger.told >= goal

    def check(self):
        """Everything that was told is so."""
        with self.crowd() as crowd:
            self.ledger.check(crowd)
        self.case.assertEqual(self.ledger.faults[:20], [])


class Pause(Case):
    def test_nothing_is_lost_when_the_process_stands_still(self):
        seed = seed_of_this_run()
        chance = random.Random(seed)
        with self.server("--customer-rate", "0") as server:
            rush = Rush(self, server, seed, hold_seconds=0.5)
            with rush.crowd() as crowd:
                rush.open(crowd, 400)
                for _ in range(4 * ROUNDS):
                    rush.go(crowd, rush.told(chance.randrange(50, 400)))
                    server.process.send_signal(signal.SIGSTOP)
                    resumed = time.time() + chance.uniform(0.01, 0.8)
                    # The kernel takes it for the process.
                    crowd.ask(lambda: rush.ledger.something([rush.sku]), 40)
                    eventually("the pause is over", passed(resumed))
                    server.process.send_signal(signal.SIGCONT)
                crowd.settle()
            self.assertEqual(rush.lost, [])
            rush.check()
        figure("pauses of the process in mid-rush", 4 * ROUNDS)

    def test_holds_end_in_order_before_what_arrived_after_them(self):
        with self.server("--customer-rate", "0") as server:
            server.open_sale("demo", stock=5, hold_seconds=0.6)
            first = [server.buy("demo", f"a{i}", "k").json for i in range(5)]
            line = [server.buy("demo", f"b{i}", "k").json for i in range(6)]
            self.assertEqual([p["status"] for p in line], ["waiting"] * 6)
            server.process.send_signal(signal.SIGSTOP)
            eventually("all holds have ended", passed(seconds(first[-1]["until"]) + 0.05))
            # Sent while nobody could know: a payment that is too late, and one more who wants one.
            wire = Wire(server.port)
            due = {"reference": "late", "amount": 4900, "currency": "EUR"}
            wire.ask(request("POST", f"/v1/purchases/{first[0]['purchase']}/payment", server.shop,
                             json.dumps(due)), "pay")
            wire.ask(request("POST", "/v1/sales/demo/purchases", server.shop,
                             '{"customer":"new"}', "Idempotency-Key: k\r\n"), "buy")
            server.process.send_signal(signal.SIGCONT)
            answers = {}

            def answered():
                answers.update(wire.listen())
                return len(answers) == 2

            eventually("both are answered", answered)
            wire.close()
            self.assertEqual((answers["pay"].json["status"], answers["pay"].json["reason"]),
                             ("refund_due", "hold_expired"))
            self.assertEqual((answers["buy"].status, answers["buy"].json["place"]), (202, 2))
            events = json.loads(server.tool("log", "show", server.data, "--sku", "demo",
                                            "--decisions", "--json"))["events"]
            decided = [(d["kind"], f"demo:{d['purchase']}") for e in events
                       for d in e["decisions"] if d["kind"] in ("expired", "offered")]
            self.assertEqual(decided, [("expired", p["purchase"]) for p in first] +
                             [("offered", p["purchase"]) for p in line[:5]])


class FullDisk(Case):
    @contextlib.contextmanager
    def small_disk(self):
        """A directory on a file system of its own."""
        where = tempfile.mkdtemp(prefix="fairsale-e2e-disk-")
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", where],
                                 capture_output=True, text=True, check=False)
        try:
            if mounted.returncode != 0:
                self.skipTest(f"no file system can be mounted here: {mounted.stderr.strip()}; the "
                              f"limit of a file's size is tried all the same")
            yield where
        finally:
            if mounted.returncode == 0:
                subprocess.run(["umount", "--lazy", where], check=True)
            os.rmdir(where)

    def fail_and_recover(self, server, seed, fill, make_room):
        """The disk fills up in mid-rush, the server ends; with room again it serves on."""
        rush = Rush(self, server, seed)
        with rush.crowd() as crowd:
            rush.open(crowd, 400)
            rush.go(crowd, rush.told(500))
            fill()
            rush.go(crowd, lambda: server.process.poll() is not None)
            crowd.settle()
        self.assertEqual(server.process.wait(), 3, server.log)
        server.process.stdout.close()
        server.process = None
        said = server.log
        self.assertIn("The log failed and the server stops", said)
        self.assertIn("Nothing that was not durable has been acknowledged", said)
        make_room()
        server.start()
        rush.check()
        with rush.crowd() as crowd:
            rush.go(crowd, rush.told(200))
            crowd.settle()
        self.assertEqual(server.stop(), 0)
        server.tool("audit", server.data, "--fairness")
        return said

    def test_a_small_disk(self):
        seed = seed_of_this_run()
        with self.small_disk() as disk:
            server = self.server("--customer-rate", "0", "--snapshot-every", "2000")
            server.data = os.path.join(disk, "data")
            ballast = os.path.join(disk, "ballast")

            def fill():
                with open(ballast, "wb", buffering=0) as f, contextlib.suppress(OSError):
                    while True:
                        f.write(bytes(MIB))

            def refuses_a_start():
                """With no room at all it may start or not, but it must say why not, and lose
                nothing."""
                refusal = server.try_start()
                if refusal is None:
                    server.kill()
                else:
                    self.assertRegex(refusal, "(?i)no space|free some space")
                os.remove(ballast)

            with server:
                said = self.fail_and_recover(server, seed, fill, refuses_a_start)
                self.assertRegex(said, "(?i)no space left.*free some space")

    def test_a_limit_of_the_size_of_files(self):
        """The same without a file system of one's own: a write that the kernel refuses."""
        seed = seed_of_this_run()
        server = self.server("--customer-rate", "0", "--snapshot-every", "2000")
        server.popen["restore_signals"] = False  # SIGXFSZ stays ignored, so that writes fail

        def fill():
            ends = []
            for file in os.scandir(os.path.join(server.data, "log")):
                if file.name.endswith(".log"):
                    with open(file, "rb") as f:
                        ends.append(len(f.read().rstrip(b"\0")))  # zeros are laid out ahead
            most = max(ends) + 65536
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (most, most))

        with server:
            said = self.fail_and_recover(server, seed, fill, lambda: None)
            self.assertRegex(said, "(?i)file too large")


class Descriptors(Case):
    LIMIT = 256
    SALES = 60

    def test_connections_leave_the_log_its_descriptors(self):
        """The log opens its next file when it must; a crowd that holds every descriptor of the
        process by then would end the sale. With FAIRSALE_ROUNDS, until it has."""
        seed = seed_of_this_run()
        server = self.server("--customer-rate", "0", "--snapshot-every", "300")
        server.popen["preexec_fn"] = lambda: resource.setrlimit(
            resource.RLIMIT_NOFILE, (self.LIMIT, self.LIMIT))
        with server:
            self.assertIn("connections at most", server.log)
            rush = Rush(self, server, seed)
            with rush.crowd(connections=3) as crowd:
                rush.open(crowd, 400)
                rush.go(crowd, rush.told(100))
                for sku in range(self.SALES):
                    server.open_sale(f"s{sku}", stock=10)
                alone = Wire(server.port)
                idle = [socket.create_connection(("127.0.0.1", server.port), PATIENCE)
                        for _ in range(2 * self.LIMIT)]
                # Each of them has been let in, refused with an answer, or closed.
                outcomes = self.outcomes(idle)
                self.assertGreater(outcomes.count("open"), 20)
                self.assertLess(self.descriptors(server), self.LIMIT - 50)
                rush.go(crowd, rush.told(500))
                if ROUNDS > 1:
                    self.make_the_log_go_on(server, alone)
                alone.close()
                crowd.settle()
                self.assertEqual(rush.lost, [])
                for one in idle:
                    one.close()
            self.assertNotIn("Too many open files", server.log)
            eventually("somebody new is served",
                       lambda: server.request("GET", "/v1/sales/rush").status == 200)
            rush.check()
            server.kill()
            server.start()
            rush.check()

    def make_the_log_go_on(self, server, wire):
        """Commits until the log has begun another file. Each touches many sales, which fills what
        is kept of their heads soonest."""
        def files():
            return {f.name for f in os.scandir(os.path.join(server.data, "log"))
                    if f.name.endswith(".log")}

        before = files()
        end = time.monotonic() + 2 * PATIENCE
        n = 0
        while files() == before:
            self.assertLess(time.monotonic(), end, "the log begins no other file")
            for _ in range(50):
                n += 1
                for sku in range(self.SALES):
                    wire.ask(request("POST", f"/v1/sales/s{sku}/purchases", server.shop,
                                     f'{{"customer":"c{n % 1000}"}}', "Idempotency-Key: k\r\n"))
                while wire.under_way:
                    select.select([wire.socket], [], [], PATIENCE)
                    for _, answer in wire.listen():
                        self.assertIn(answer.status, (201, 202), answer)

    @staticmethod
    def descriptors(server):
        return len(os.listdir(f"/proc/{server.process.pid}/fd"))

    def outcomes(self, sockets):
        """What became of each connection: a connection that is let in hears nothing."""
        out = {}
        poll = select.poll()
        by_fd = {s.fileno(): s for s in sockets}
        for fd in by_fd:
            poll.register(fd, select.POLLIN)

        def all_but_those_let_in():
            for fd, _ in poll.poll(100):
                try:
                    said = by_fd[fd].recv(4096)
                except ConnectionError:
                    said = b""
                out[fd] = "503" if said.startswith(b"HTTP/1.1 503 ") else "closed"
                poll.unregister(fd)
            # Those that are closed at once may hear of it before those that get an answer.
            return (len(out) >= len(sockets) - self.LIMIT
                    and list(out.values()).count("503") > 20)

        eventually("the others are refused", all_but_those_let_in)
        return [out.get(fd, "open") for fd in by_fd]


class ClockSet(Case):
    def setUp(self):
        if not os.path.exists(FAKETIME):
            self.skipTest(f"{FAKETIME} is missing: apt-get install faketime")
        if self.sanitized():
            self.skipTest("a sanitizer lets no other library be loaded before it")

    def clocked(self, server, offset):
        """Sets the clock that the server will see, by `offset` seconds."""
        path = server.path("clock")
        with open(path + ".new", "w") as f:
            f.write(f"{offset:+d}\n")
        os.replace(path + ".new", path)  # so that the server never reads half of it
        server.environment = {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": path,
                              "FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1"}

    def ends(self, server, held, promised):
        """A hold ends after the time that was promised, by a clock that nobody sets. `held`: the
        purchase, and when it was asked for."""
        purchase, begun = held
        statuses = []

        def ended():
            statuses.append(server.request("GET", f"/v1/purchases/{purchase}",
                                           server.shop).json["status"])
            return statuses[-1] == "expired"

        eventually("the hold ends", ended)
        took = time.monotonic() - begun
        self.assertGreater(took, promised - 0.01, "the hold ended too early")
        self.assertLess(took, promised + 10, "the hold ended too late")

    def test_set_back_and_forward(self):
        server = self.server("--customer-rate", "0")
        self.clocked(server, 0)
        with server:
            def buy(n):
                begun = time.monotonic()
                return server.buy("demo", f"c{n}", "k").json["purchase"], begun

            server.open_sale("demo", stock=100, hold_seconds=0.4)
            self.ends(server, buy(0), 0.4)
            # Back by an hour: the log's time goes on from where it was.
            held = buy(1)
            self.clocked(server, -3600)
            self.ends(server, held, 0.4)
            self.ends(server, buy(2), 0.4)
            # Through a restart as well.
            held = buy(3)
            server.kill()
            server.start()
            self.ends(server, held, 0)
            self.ends(server, buy(4), 0.4)
            # Forward by an hour: the deadline of a hold is a time of day, and it has passed.
            held = buy(5)
            self.clocked(server, 3600)
            self.ends(server, held, 0)
            held = buy(6)
            # And back again. The log stays where it was, and holds last as long as ever.
            self.clocked(server, 0)
            self.ends(server, held, 0.4)
            self.ends(server, buy(7), 0.4)
            times = log_times(server, "demo")
            self.assertEqual(times, sorted(times))
            self.assertGreater(times[-1], time.time() + 3500)
            server.kill()
            server.start()
            self.ends(server, buy(8), 0.4)
            server.kill()
            server.tool("audit", server.data, "--fairness")

    def test_a_clock_that_jumps_in_a_rush(self):
        seed = seed_of_this_run()
        chance = random.Random(seed)
        server = self.server("--customer-rate", "0")
        self.clocked(server, 0)
        with server:
            rush = Rush(self, server, seed)
            # What is early or late by whose clock is the other test's business.
            rush.ledger.clock = lambda: None
            with rush.crowd() as crowd:
                rush.open(crowd, 400)
                for _ in range(8 * ROUNDS):
                    self.clocked(server, chance.choice([-86400, -3600, -1, 0, 1, 2, 60]))
                    rush.go(crowd, rush.told(chance.randrange(30, 150)))
                crowd.settle()
            self.assertEqual(rush.lost, [])
            rush.check()
            server.kill()
            server.start()
            rush.check()
            times = log_times(server, rush.sku)
            self.assertEqual(times, sorted(times))
            server.kill()
            server.tool("audit", server.data, "--fairness")
        figure("times that the clock was set in mid-rush", 8 * ROUNDS)


if __name__ == "__main__":
    main()
