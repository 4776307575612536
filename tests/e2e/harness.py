"""Starts the real fairsaled for a test and talks to it. Standard library only.

Every server has a directory of its own under $TMPDIR, listens on a free port of 127.0.0.1, and is
ended by its process id. Nothing here sleeps to wait for something: it polls, with a bound.
"""

import argparse
import contextlib
import datetime
import http.client
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

PATIENCE = 60  # seconds; generous, since sanitizers and a busy machine are slow


def eventually(what, condition, patience=PATIENCE):
    """Polls until condition() is true and returns its value."""
    end = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {patience} s in vain: {what}")
        time.sleep(0.02)


def problem_name(reply):
    """The name of the type of a reply's problem document; fails when the document is none as it
    should be."""
    document = reply.json
    prefix = "urn:fairsale:problem:"
    assert document["type"].startswith(prefix), document
    assert document["status"] == reply.status, document
    assert document["title"] and document["detail"], document
    return document["type"][len(prefix):]


class Reply:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = {name.lower(): value for name, value in headers}
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def problem(self):
        """The name of the problem's type; fails when the answer is none as it should be."""
        assert self.headers["content-type"] == "application/problem+json", self
        return problem_name(self)

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body[:500]!r}"


class Server:
    def __init__(self, programs, *options):
        self.programs = programs
        self.options = options
        self.directory = tempfile.mkdtemp(prefix="fairsale-e2e-")
        self.data = os.path.join(self.directory, "data")
        self.port = 0
        self.process = None
        self.starts = 0
        self.environment = {}  # besides this process's
        self.popen = {}        # further arguments of Popen
        for name in ("operator-token", "shop-token", "customer-key"):
            with open(os.open(self.path(name), os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
                f.write(secrets.token_hex(24) + "\n")
        self.operator = self.read("operator-token").strip()
        self.shop = self.read("shop-token").strip()

    def path(self, name):
        return os.path.join(self.directory, name)

    def read(self, name):
        with open(self.path(name), errors="replace") as f:
            return f.read()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self):
        parts = []
        for i in range(1, self.starts + 1):
            with contextlib.suppress(FileNotFoundError):
                parts.append(self.read(f"log-{i}"))
        return "".join(parts)

    def command(self):
        return [
            self.programs.fairsaled, "--data", self.data, "--listen", f"127.0.0.1:{self.port}",
            "--operator-token-file", self.path("operator-token"),
            "--shop-token-file", self.path("shop-token"),
            "--customer-key-file", self.path("customer-key"), *self.options,
        ]

    def start(self):
        """Starts the server and waits until it is ready; a restart keeps the port."""
        self.launch()
        return self.await_ready()

    def launch(self):
        self.starts += 1
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FAIRSALE_")}
        environment.update(self.environment)
        with open(self.path(f"log-{self.starts}"), "wb") as log:
            self.process = subprocess.Popen(self.command(), stdout=subprocess.PIPE, stderr=log,
                                            env=environment, **self.popen)

    def await_listening(self):
        line = self._first_line()
        self.port = int(line.rsplit(":", 1)[1])

    def await_ready(self):
        self.await_listening()
        eventually("the server is ready", self._ready)
        return self

    def _first_line(self):
        end = time.monotonic() + PATIENCE
        text = b""
        while b"\n" not in text:
            ready, _, _ = select.select([self.process.stdout], [], [], end - time.monotonic())
            chunk = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            if not chunk:
                code = self.process.poll()
                raise AssertionError(f"fairsaled did not start (exit code {code}):\n{self.log}")
            text += chunk
        return text.split(b"\n")[0].decode()

    def _ready(self):
        try:
            return self.request("GET", "/readyz").status == 200
        except OSError:
            return False

    def try_start(self):
        """Starts a server that may refuse: returns None when it is ready, else what it said."""
        try:
            self.start()
            return None
        except AssertionError:
            self.process.wait(PATIENCE)
            self.process.stdout.close()
            code, self.process = self.process.returncode, None
            said = self.read(f"log-{self.starts}")
            assert code == 1, f"exit code {code} instead of a refusal:\n{said}"
            return said

    def acked(self):
        """What is on record as acknowledged; for set_acked()."""
        with open(os.path.join(self.data, "ACKED"), "rb") as f:
            return f.read()

    def set_acked(self, acked):
        """Once it is down: as if it had ended before it could acknowledge what came since then."""
        with open(os.path.join(self.data, "ACKED"), "wb") as f:
            f.write(acked)

    def kill(self):
        """As the power cut or the OOM killer would."""
        self.process.kill()
        self._gone()

    def stop(self):
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self._gone()

    def _gone(self):
        code = self.process.wait(PATIENCE)
        self.process.stdout.close()
        self.process = None
        return code

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, error, trace):
        if self.process is not None:
            self.kill()
        if kind is not None:
            print(f"---- log of fairsaled ----\n{self.log}", file=sys.stderr)
        shutil.rmtree(self.directory, ignore_errors=True)

    def request(self, method, path, token=None, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            head = dict(headers or {})
            if token:
                head["Authorization"] = f"Bearer {token}"
            if body is not None and not isinstance(body, (str, bytes)):
                body = json.dumps(body)
                head.setdefault("Content-Type", "application/json")
            connection.request(method, path, body=body, headers=head)
            response = connection.getresponse()
            return Reply(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def open_sale(self, sku, **terms):
        body = {"stock": 1000, "hold_seconds": 120,
                "price": {"amount": 4900, "currency": "EUR"}, **terms}
        reply = self.request("PUT", f"/v1/sales/{sku}", self.operator, body)
        assert reply.status == 201, reply
        return reply.json

    @staticmethod
    def soon(seconds):
        """The time in so many seconds, as the API wants it."""
        moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def buy(self, sku, customer, key, quantity=1):
        return self.request("POST", f"/v1/sales/{sku}/purchases", self.shop,
                            {"quantity": quantity, "customer": customer},
                            {"Idempotency-Key": key})

    def pay(self, purchase, reference, amount=4900):
        return self.request("POST", f"/v1/purchases/{purchase}/payment", self.shop,
                            {"reference": reference, "amount": amount, "currency": "EUR"})

    def customer_token(self, customer, ttl=600):
        reply = self.request("POST", "/v1/tokens", self.shop,
                             {"customer": customer, "ttl_seconds": ttl})
        assert reply.status == 201, reply
        return reply.json["token"]

    def metrics(self):
        """What it tells Prometheus: the value by name and labels, as they are written."""
        reply = self.request("GET", "/metrics", self.operator)
        assert reply.status == 200, reply
        lines = [line for line in reply.body.decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def audit_head(self, sku):
        reply = self.request("GET", f"/v1/sales/{sku}/audit-head", self.operator)
        assert reply.status == 200, reply
        return reply.json

    def tool(self, *arguments, code=0):
        """Runs fairsale to its end and returns what it wrote to stdout."""
        done = subprocess.run([self.programs.fairsale, *arguments], capture_output=True, text=True,
                              timeout=15 * PATIENCE, check=False)
        assert done.returncode == code, (
            f"fairsale {' '.join(arguments)}: exit code {done.returncode}\n"
            f"{done.stdout}\n{done.stderr}")
        return done.stdout

    def rush(self, *arguments, url=None):
        """Starts fairsale rush, at this server or at what is before it; see finish()."""
        return subprocess.Popen(
            [self.programs.fairsale, "rush", url or self.url, "--json", "--quiet",
             "--token-file", self.path("shop-token"),
             "--operator-token-file", self.path("operator-token"), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def replay(self, sku, *arguments):
        """What fairsale replay says about one sale in this server's data directory."""
        out = json.loads(self.tool("replay", self.data, "--sku", sku, "--json", *arguments))
        assert len(out["sales"]) == 1, out
        return out["sales"][0]


def seed_of_this_run():
    """From FAIRSALE_SEED if it is set; printed, so that a failure can be repeated."""
    seed = int(os.environ.get("FAIRSALE_SEED") or secrets.randbits(32))
    print(f"FAIRSALE_SEED={seed}", flush=True)
    return seed


def figure(what, value):
    """A figure of a test's run, printed and kept in the file that FAIRSALE_FIGURES names."""
    text = f"{value:,}" if isinstance(value, int) else str(value)
    print(f"{what}: {text}", flush=True)
    name = os.environ.get("FAIRSALE_FIGURES")
    if name:
        with open(name, "a") as f:
            f.write(f"{what}\t{text}\n")


def finish(rush):
    """The JSON summary of a rush that must find nothing wrong."""
    out, err = rush.communicate(timeout=15 * PATIENCE)
    assert rush.returncode == 0, f"rush: exit code {rush.returncode}\n{out}\n{err}"
    summary = json.loads(out)
    assert summary["checks"]["passed"], summary["checks"]
    return summary


@contextlib.contextmanager
def ended(process):
    """Ends a process that a failed test left running."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


class Case(unittest.TestCase):
    programs = None
    maxDiff = None

    def sanitized(self):
        """Whether the server is built with a sanitizer, which takes memory and time of its own."""
        with open(self.programs.fairsaled, "rb") as f:
            code = f.read()
        return b"__asan_init" in code or b"__tsan_init" in code

    def server(self, *options):
        return Server(self.programs, *options)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--fairsaled", required=True)
    parser.add_argument("--fairsale", required=True)
    Case.programs, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], "-v", *rest])
