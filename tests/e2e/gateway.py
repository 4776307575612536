"""The fake gateway, the order processors, and callbacks of payments, for tests."""

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import secrets
import select
import shutil
import subprocess
import tempfile
import time

from harness import PATIENCE, eventually


def new_payment_secret():
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def signed(secret, body, name="evt-1", at=None):
    """The headers that sign a body (text) by Standard Webhooks."""
    at = int(time.time()) if at is None else at
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{name}.{at}.{body}".encode(), hashlib.sha256).digest()
    return {"webhook-id": name, "webhook-timestamp": str(at),
            "webhook-signature": "v1," + base64.b64encode(mac).decode()}


def first_line(process, what):
    end = time.monotonic() + PATIENCE
    text = b""
    while b"\n" not in text:
        ready, _, _ = select.select([process.stdout], [], [], max(0, end - time.monotonic()))
        chunk = os.read(process.stdout.fileno(), 4096) if ready else b""
        assert chunk, f"{what} did not start (exit code {process.poll()})"
        text += chunk
    return text.split(b"\n")[0].decode()


class Process:
    """A program with a directory of its own, ended by its process id."""

    def __init__(self, programs, name):
        self.program = os.path.join(os.path.dirname(programs.fairsaled), name)
        self.directory = tempfile.mkdtemp(prefix=f"{name}-")
        self.process = None
        self.environment = {}

    def launch(self, *arguments):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FAIRSALE_")}
        environment.update(self.environment)
        with open(os.path.join(self.directory, "log"), "ab") as log:
            self.process = subprocess.Popen([self.program, *arguments], stdout=subprocess.PIPE,
                                            stderr=log, env=environment)
        return first_line(self.process, self.program)

    @property
    def log(self):
        with contextlib.suppress(FileNotFoundError), \
                open(os.path.join(self.directory, "log"), errors="replace") as f:
            return f.read()
        return ""

    def kill(self):
        self.process.kill()
        return self._gone()

    def stop(self):
        self.process.terminate()
        return self._gone()

    def _gone(self):
        code = self.process.wait(PATIENCE)
        self.process.stdout.close()
        self.process = None
        return code

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if self.process is not None:
            self.kill()
        if kind is not None:
            print(f"---- log of {self.program} ----\n{self.log[-20_000:]}")
        shutil.rmtree(self.directory, ignore_errors=True)


class Gateway(Process):
    def __init__(self, programs, secret, callback, *options):
        super().__init__(programs, "fairsale-gateway")
        self.environment = {"FAIRSALE_PAYMENT_SECRET": secret}
        line = self.launch("--listen", "127.0.0.1:0", "--callback", callback, *options)
        self.port = int(line.rsplit(":", 1)[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def request(self, method, path, body=None, key=None, timeout=PATIENCE):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/json"}
            if key:
                headers["Idempotency-Key"] = key
            connection.request(method, path, json.dumps(body) if body is not None else None,
                               headers)
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())

    def charge(self, purchase, key, amount=4900):
        """Starts a payment; asks until it is sure that it has been started."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, body = self.request("POST", "/charges", {
                    "purchase": purchase, "amount": amount, "currency": "EUR"}, key, 0.5)
                if status == 202:
                    return body["reference"]
        raise AssertionError("the gateway does not take a charge")

    def ledger(self):
        status, body = self.request("GET", "/ledger")
        assert status == 200, body
        return body


class Orders(Process):
    """One order processor; keeps its store through a kill."""

    def __init__(self, programs, server_url, shop_token, gateway_url, *options):
        super().__init__(programs, "fairsale-orders")
        self.store = os.path.join(self.directory, "store")
        self.environment = {"FAIRSALE_SHOP_TOKEN": shop_token}
        self.arguments = ["run", "--store", self.store, "--gateway", gateway_url,
                          "--server", server_url, "--metrics", "127.0.0.1:0",
                          "--gateway-timeout", "0.4", "--retry-first", "0.05",
                          "--retry-most", "0.5", *options]
        self.port = 0

    def start(self):
        self.port = int(self.launch(*self.arguments).rsplit(" ", 1)[1])
        return self

    def run(self, *arguments, codes=(0,)):
        """One of the commands that look at a store."""
        done = subprocess.run([self.program, *arguments], capture_output=True, text=True,
                              timeout=PATIENCE, check=False)
        assert done.returncode in codes, (arguments, done)
        return done.stdout

    def complain(self, *arguments):
        """A command that is to fail; all that it said."""
        environment = {**os.environ, **self.environment}
        return subprocess.run([self.program, *arguments], capture_output=True, text=True,
                              timeout=PATIENCE, check=False, env=environment)

    def cases(self, *options):
        out = self.run("list", "--store", self.store, "--json", *options)
        return [json.loads(line) for line in out.splitlines()]

    def metrics(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        return {k: float(v) for k, v in
                (line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#")}

    def idle(self):
        return self.metrics()["fairsale_orders_open"] == 0

    def settle(self):
        eventually("nothing is open", self.idle)
