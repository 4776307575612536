"""The servers that are measured. Each starts with an empty store in a new directory, and knows how
to count what it has sold, so that its answers can be checked."""
import hashlib
import http.client
import json
import os
import pathlib
import pwd
import re
import shutil
import secrets
import signal
import socket
import tempfile
import time

from processes import Failed, Process, accepts, free_port, run

HERE = pathlib.Path(__file__).resolve().parent
PEERS = HERE / "peers"
STOCK = 100_000_000
LIMIT = 1
HOLD_SECONDS = 600


def fill(name, **values):
    """A file of peers/ with its {{places}} filled."""
    text = (PEERS / name).read_text()
    return re.sub(r"\{\{(\w+)\}\}", lambda m: str(values[m.group(1)]), text)


class Contender:
    """Use as a context: started at the beginning; ended, and its directory removed, at the end."""
    name = ""
    protocol = "http"
    process = None
    port = 0

    def __init__(self, bench, skus=1, stock=STOCK):
        self.bench, self.skus, self.stock = bench, skus, stock
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=bench.directory))

    def __enter__(self):
        os.sync()  # what others left to be written is not this one's burden
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self):
        raise NotImplementedError

    def stop(self):
        if self.process:
            self.process.stop()

    def cpu_seconds(self):
        return self.process.cpu_seconds()

    def sold(self):
        """Units taken off the stock since the start, of all SKUs; None when it does not count."""
        return None

    def attempts(self):
        """Attempts recorded since the start, or None."""
        return None


def http_purchase(token):
    body = '{"customer":"c@@@@@@@@@@","quantity":1}'
    return (f"POST /v1/sales/s#/purchases HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {token}\r\nIdempotency-Key: k~~~~~~~~~~\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}")


def http_read():
    return "GET /v1/sales/s# HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class Fairsale(Contender):
    name = "fairsale"
    answers = {"fresh": {"201"}, "retry": {"201 replayed"}, "over": {"403"}, "read": {"200"}}
    sold_out = "409"

    def __init__(self, bench, skus=1, stock=STOCK, in_memory=False, line_limit=0, flags=()):
        super().__init__(bench, skus, stock)
        self.in_memory, self.line_limit, self.flags = in_memory, line_limit, flags
        self.operator, self.shop = secrets.token_hex(24), secrets.token_hex(24)

    def start(self):
        for file, text in (("operator-token", self.operator), ("shop-token", self.shop),
                           ("customer-key", secrets.token_hex(24))):
            (self.directory / file).write_text(text)
            (self.directory / file).chmod(0o600)
        self.launch()
        for sku in range(self.skus):
            self.schedule(f"s{sku}", self.stock, self.line_limit)

    def launch(self):
        """Starts the server over what is in the directory."""
        self.port = free_port()
        config = self.directory / "fairsaled.toml"
        config.write_text(fill("fairsaled.toml", port=self.port, directory=self.directory))
        argv = [self.bench.binaries / "fairsaled", "--config", config, *self.flags]
        if self.in_memory:
            argv.append("--in-memory")
        self.process = Process([str(a) for a in argv], self.directory / "log")
        self.process.wait_until(self.ready, "fairsaled", timeout=120)

    def ready(self):
        try:
            return self.request("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def request(self, method, path, body=None, token=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def schedule(self, sku, stock, line_limit):
        status, body = self.request("PUT", f"/v1/sales/{sku}", self.terms(stock, line_limit),
                                    self.operator)
        if status != 201:
            raise Failed(f"fairsaled did not take the sale: {status} {body[:300]}")

    @staticmethod
    def terms(stock, line_limit):
        return {"stock": stock, "price": {"amount": 100, "currency": "EUR"},
                "hold_seconds": HOLD_SECONDS, "limit_per_customer": LIMIT,
                "line_limit": line_limit}

    def purchase(self):
        return http_purchase(self.shop)

    def read(self):
        return http_read()

    def raw_answer(self, request):
        """The bytes of the answer to one request."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as s:
            s.sendall(request.encode())
            got = b""
            while True:
                got += s.recv(65536)
                head, found, body = got.partition(b"\r\n\r\n")
                length = re.search(rb"Content-Length: (\d+)", head)
                if found and length and len(body) >= int(length.group(1)):
                    return got

    def sale(self, sku):
        return json.loads(self.request("GET", f"/v1/sales/{sku}")[1])

    def sold(self):
        sold = 0
        for n in range(self.skus):
            sale = self.sale(f"s{n}")
            if sale["available"] + sale["held"] + sale["sold"] != sale["stock"]:
                raise Failed(f"the counts of a sale do not add up: {sale}")
            sold += sale["held"] + sale["sold"]
        return sold


class Redis(Contender):
    name = "redis"
    protocol = "resp"
    answers = {"fresh": {"reserved"}, "retry": {"reserved"}, "over": {"over_limit"},
               "read": {"*digits"}}
    sold_out = "sold_out"

    def start(self):
        self.port = free_port()
        config = self.directory / "redis.conf"
        config.write_text(fill("redis.conf", port=self.port, directory=self.directory))
        self.process = Process(["redis-server", str(config)], self.directory / "log")
        self.process.wait_until(lambda: accepts(self.port), "redis-server")
        script = (PEERS / "reserve.lua").read_text()
        self.sha = self.command("SCRIPT", "LOAD", script).strip()
        assert self.sha == hashlib.sha1(script.encode()).hexdigest()
        for sku in range(self.skus):
            self.command("SET", f"stock:{sku}", str(self.stock))

    def command(self, *words):
        return run(["redis-cli", "-p", str(self.port), *words], 30)

    def eval_words(self, customer, key, sku):
        return ["EVALSHA", self.sha, "5",
                *(f"{kind}:{sku}" for kind in ("answers", "taken", "stock", "holds", "attempts")),
                customer, key, "1", str(LIMIT), str(HOLD_SECONDS * 1000)]

    def purchase(self):
        return resp(self.eval_words("c@@@@@@@@@@", "k~~~~~~~~~~", "#"))

    def read(self):
        return resp(["GET", "stock:#"])

    def sold(self):
        left = sum(int(self.command("GET", f"stock:{n}")) for n in range(self.skus))
        held = sum(int(self.command("ZCARD", f"holds:{n}")) for n in range(self.skus))
        sold = self.skus * self.stock - left
        if held != sold:
            raise Failed(f"Redis has sold {sold}, but holds {held}")
        return sold

    def attempts(self):
        return sum(int(self.command("XLEN", f"attempts:{n}")) for n in range(self.skus))


def resp(words):
    return f"*{len(words)}\r\n" + "".join(f"${len(w.encode())}\r\n{w}\r\n" for w in words)


class Nginx(Contender):
    """nginx with Lua in front of a Redis of its own."""
    name = "nginx"
    answers = {"fresh": {"201"}, "retry": {"201"}, "over": {"403"}}
    sold_out = "409"

    def __init__(self, bench, skus=1, stock=STOCK, workers=1, unix=True):
        super().__init__(bench, skus, stock)
        self.workers, self.unix = workers, unix
        self.token = secrets.token_hex(24)
        self.redis = Redis(bench, skus, stock)

    def start(self):
        self.redis.start()
        self.port = free_port()
        socket_path = self.redis.directory / "redis.sock"
        # The path of a Unix socket is at most 107 bytes.
        unix = self.unix and len(str(socket_path)) < 100
        where = f'"unix:{socket_path}"' if unix else f'"127.0.0.1", {self.redis.port}'
        root = os.geteuid() == 0
        (self.directory / "nginx.conf").write_text(fill(
            "nginx.conf", user="user root;" if root else "", workers=self.workers,
            directory=self.directory, port=self.port,
            reuseport=" reuseport" if self.workers > 1 else ""))
        (self.directory / "purchase.lua").write_text(fill(
            "purchase.lua", token=self.token, redis=where, sha=self.redis.sha, limit=LIMIT,
            hold_ms=HOLD_SECONDS * 1000))
        self.process = Process(
            ["/usr/sbin/nginx", "-p", str(self.directory), "-e", str(self.directory / "error.log"),
             "-c", str(self.directory / "nginx.conf")], self.directory / "log")
        self.process.wait_until(lambda: accepts(self.port), "nginx")

    def stop(self):
        super().stop()
        self.redis.__exit__()

    def cpu_seconds(self):
        return super().cpu_seconds() + self.redis.cpu_seconds()

    def purchase(self):
        return http_purchase(self.token)

    def sold(self):
        return self.redis.sold()

    def attempts(self):
        return self.redis.attempts()


class Postgres(Contender):
    """Driven by its own pgbench, with prepared statements."""
    name = "postgres"
    bin = pathlib.Path("/usr/lib/postgresql/15/bin")

    def start(self):
        # PostgreSQL refuses to run as root.
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            account = pwd.getpwnam(self.user)
            if not reachable(self.directory, self.user):
                self.directory.rmdir()
                self.directory = pathlib.Path(tempfile.mkdtemp(prefix="fairsale-bench-",
                                                               dir="/var/tmp"))
            os.chown(self.directory, account.pw_uid, account.pw_gid)
        self.port = free_port()
        data = self.directory / "data"
        run(as_user(self.user, [self.bin / "initdb", "-D", data, "-U", "bench", "--auth=trust",
                                "--encoding=UTF8", "--locale=C.UTF-8"]), 120)
        with open(data / "postgresql.conf", "a") as f:
            f.write(fill("postgresql.conf", port=self.port, directory=self.directory))
        self.process = Process([str(self.bin / "postgres"), "-D", str(data)],
                               self.directory.parent / f"{self.directory.name}.log", self.user)
        self.process.wait_until(self.ready, "postgres")
        schema = fill("schema.sql", stock=self.stock, skus=self.skus)
        self.sql(schema)
        self.sql("VACUUM ANALYZE")

    def stop(self):
        if self.process:
            self.process.stop(signal.SIGINT)  # a fast shutdown
            os.unlink(self.process.log)

    def connection(self):
        return ["-h", "127.0.0.1", "-p", str(self.port), "-U", "bench"]

    def ready(self):
        try:
            run([self.bin / "pg_isready", *self.connection()], 10)
            return True
        except Failed:
            return False

    def sql(self, text):
        return run(["psql", *self.connection(), "-d", "postgres", "-qAt", "-v", "ON_ERROR_STOP=1",
                    "-c", text], 60).strip()

    def purchases(self, connections, seconds, run_number):
        """Runs pgbench; its transactions and their rate."""
        out = run([self.bin / "pgbench", *self.connection(), "-n", "-M", "prepared",
                   "-c", str(connections), "-j", "1", "-T", str(seconds), "-D", "n=0",
                   "-D", f"skus={self.skus}", "-D", f"run={run_number}", "-D", f"limit={LIMIT}",
                   "-D", f"hold={HOLD_SECONDS}", "-f", str(PEERS / "purchase.sql"), "postgres"],
                  seconds + 60)
        done = re.search(r"actually processed: (\d+)", out)
        failed = re.search(r"failed transactions: (\d+)", out)
        rate = re.search(r"tps = ([\d.]+)", out)
        if not done or not rate or (failed and int(failed.group(1))):
            raise Failed(f"pgbench: {out[-800:]}")
        return int(done.group(1)), float(rate.group(1))

    def cpu_seconds(self):
        # A backend's time counts once: while it runs, or when it has been waited for.
        end = time.monotonic() + 5
        while time.monotonic() < end and self.sql(
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'") != "1":
            time.sleep(0.05)
        return super().cpu_seconds()

    def sold(self):
        left = int(self.sql("SELECT sum(available) FROM stock"))
        held = int(self.sql("SELECT count(*) FROM holds"))
        sold = self.skus * self.stock - left
        if held != sold:
            raise Failed(f"PostgreSQL has sold {sold}, but holds {held}")
        return sold

    def attempts(self):
        return int(self.sql("SELECT count(*) FROM attempts"))


def as_user(user, argv):
    switch = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"] if user else []
    return [*switch, *(str(a) for a in argv)]


def reachable(directory, user):
    try:
        run(as_user(user, ["test", "-x", directory.parent]), 10, cwd="/")
        return True
    except Failed:
        return False


class Floor(Contender):
    """fairsale-floor with the answers that fairsaled gave to one purchase and one read."""
    name = "floor"
    answers = {"fresh": {"201"}, "read": {"200"}}

    def start(self):
        with Fairsale(self.bench, in_memory=True) as model:
            read = model.raw_answer(model.read().replace("#", "0"))
            bought = model.raw_answer(re.sub("[@~]", "7", model.purchase()).replace("#", "0"))
        (self.directory / "get").write_bytes(read)
        (self.directory / "post").write_bytes(bought)
        port = self.directory / "port"
        self.process = Process([str(self.bench.binaries / "fairsale-floor"),
                                str(self.directory / "get"), str(self.directory / "post")], port)
        self.process.wait_until(lambda: port.read_text().endswith("\n"), "fairsale-floor")
        self.port = int(port.read_text())

    def purchase(self):
        return http_purchase(secrets.token_hex(24))

    def read(self):
        return http_read()
