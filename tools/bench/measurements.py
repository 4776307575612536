"""What is measured, by name. Each function takes the bench, starts what it needs, and returns its
figures as a dictionary."""
import json
import re
import resource
import socket
import subprocess
import tempfile
import time

from contenders import Fairsale, Floor, Nginx, Postgres, Redis
from loads import (Load, accepted, arguments, check_answers, check_counts, fill_sale, measure_fresh,
                   plain_load)
from processes import Failed, free_port, run

SMALL_STOCK = 1000
MIXED = (("fresh", 60), ("retry", 10), ("over", 10), ("read", 20))
READS = (("read", 1),)


def loaded(contender, load, **options):
    return lambda bench: measure_fresh(bench, contender(bench, **options), load)


def nginx(load):
    def measured(bench):
        return measure_fresh(bench, Nginx(bench, workers=nginx_workers(bench)), load)
    return measured


def nginx_workers(bench):
    """1 or 2, whatever is faster here; tried once."""
    if "nginx_workers" not in bench.facts:
        trial = Load(seconds=max(0.5, bench.seconds / 2))
        rates = {n: measure_fresh(bench, Nginx(bench, workers=n), trial)["per_second"]
                 for n in (1, 2)}
        bench.facts["nginx_workers"] = max(rates, key=rates.get)
        bench.facts["nginx_trial"] = rates
    return bench.facts["nginx_workers"]


def postgres(connections, skus=1):
    def measured(bench):
        with Postgres(bench, skus) as server:
            warm, _ = server.purchases(connections, 1, run_number=1)
            before = server.cpu_seconds()
            done, rate = server.purchases(connections, max(1, round(bench.seconds)), run_number=2)
            cpu = server.cpu_seconds() - before
            check_counts(server, warm + done, warm + done)
            return {"per_second": rate, "answers": done, "server_us_per_answer": 1e6 * cpu / done}
    return measured


def append(batch):
    def measured(bench):
        out = run([bench.binaries / "fairsale-append", "--directory", bench.directory,
                   "--batch", str(batch), "--seconds", str(bench.seconds)], bench.seconds * 4 + 60)
        figures = json.loads(out)
        figures["ratio"] = figures["log_events_per_second"] / figures["raw_events_per_second"]
        figures["per_second"] = figures["log_events_per_second"]
        return figures
    return measured


def store_of_events(bench):
    """A data directory with a sale of bench.events attempts, made once a run, of a stopped server."""
    if "store" not in bench.facts:
        server = Fairsale(bench)
        bench.keep(server)
        server.start()
        fill_sale(bench, server, bench.events)
        server.stop()
        bench.facts["store"] = server.directory / "data"
    return bench.facts["store"]


def replay(*options):
    def measured(bench):
        store = store_of_events(bench)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        report = json.loads(run([bench.binaries / "fairsale", "replay", store, "--json", *options],
                                600))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        sale = report["sales"][0]
        if sale["position"] < bench.events:
            raise Failed(f"replay saw {sale['position']} events of {bench.events}")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"per_second": sale["position"] / sale["seconds"], "answers": sale["position"],
                "process_cpu_seconds": cpu}
    return measured


def closed_rate(bench, name, contender):
    """What the contender does at 50 connections: of this round, or of a trial."""
    measured = bench.current.get(name) or bench.facts.get(f"trial of {name}")
    if measured is None:
        measured = measure_fresh(bench, contender(bench), Load(seconds=1))
        bench.facts[f"trial of {name}"] = measured
    return measured["per_second"]


def open_loop(contender):
    """At half of what fairsaled does in a closed loop, but at a rate that Redis can keep up with."""
    def measured(bench):
        if "open_rate" not in bench.current:
            bench.current["open_rate"] = {"per_second": round(min(
                closed_rate(bench, "ours.c50", Fairsale) / 2,
                closed_rate(bench, "redis.c50", Redis) * 0.7), -2)}
        rate = bench.current["open_rate"]["per_second"]
        return measure_fresh(bench, contender(bench), Load(connections=256, rate=rate, give_up=2))
    return measured


def reads_in_a_rush(bench):
    """Reads at a low fixed rate while 50 connections buy as fast as they can."""
    with Fairsale(bench) as server, tempfile.TemporaryDirectory(dir=bench.directory) as directory:
        argv = arguments(bench, server, Load(seconds=bench.seconds + 1), directory)
        rush = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        try:
            report = measure_reads(bench, server)
            rush_report = json.loads(rush.communicate(timeout=bench.seconds + 60)[0])
        finally:
            rush.kill()
            rush.wait()
        check_answers(rush_report, server.answers)
        check_counts(server, rush_report["whole"]["fresh"]["201"], None)
        report["purchases_per_second"] = rush_report["per_second"]
        del report["server_us_per_answer"]  # most of it was for the purchases
        return report


WATCHED_PURCHASES = 5_000
WATCHED_FULL = Load(connections=50, first=WATCHED_PURCHASES)
WATCHED_FIXED = Load(connections=256, rate=10_000, give_up=2, first=WATCHED_PURCHASES)


def unwatched(load):
    """What is compared with watched(): the same, while nobody watches."""
    def measured(bench):
        with Fairsale(bench) as server:
            fill_sale(bench, server, WATCHED_PURCHASES)
            return measure_filled(bench, server, load)
    return measured


def watched(load):
    """Purchases while 10,000 event streams are open, half of them of the sale that sells, half of
    purchases in it, and each message goes to two webhooks: one where nobody listens, one that takes
    connections and says nothing. Who reads the streams would be on other machines; here it gets what
    time others leave."""
    def measured(bench):
        with Fairsale(bench, flags=("--webhook-private-addresses",)) as server, \
                socket.create_server(("127.0.0.1", 0)) as silent:
            for port in (free_port(), silent.getsockname()[1]):
                add_webhook(server, port)
            fill_sale(bench, server, WATCHED_PURCHASES)
            paths = server.directory / "paths"
            paths.write_text("".join(
                f"/v1/sales/s0/events\n/v1/purchases/s0:{n + 2}/events {server.shop}\n"
                for n in range(WATCHED_PURCHASES)))
            listeners = subprocess.Popen(
                ["chrt", "--idle", "0", bench.binaries / "fairsale-listen", "--port",
                 str(server.port), "--paths", paths],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            try:
                if listeners.stdout.readline() != "open\n":
                    raise Failed("the event streams did not open")
                time.sleep(3)  # opening them is over, and their first looks
                report = measure_filled(bench, server, load)
                out, _ = listeners.communicate(timeout=60)
            finally:
                listeners.kill()
                listeners.wait()
            if listeners.returncode != 0:
                raise Failed("an event stream was cut off")
            seen = json.loads(out)
            if seen["streams"] != 2 * WATCHED_PURCHASES:
                raise Failed(f"only {seen['streams']} event streams were open")
            report["stream_lines"] = seen["lines"]
            return report
    return measured


def add_webhook(server, port):
    status, body = server.request(
        "POST", "/v1/webhooks",
        {"url": f"http://127.0.0.1:{port}/", "kinds": ["reserved", "ordered"]}, server.shop)
    if status != 201:
        raise Failed(f"a webhook was not taken: {status} {body[:300]}")


def measure_filled(bench, server, load):
    report = plain_load(bench, server, load)
    check_answers(report, server.answers)
    check_counts(server, WATCHED_PURCHASES + accepted(report, server), None)
    return report


def measure_reads(bench, server):
    report = plain_load(bench, server, Load(connections=32, rate=1000, weights=READS))
    check_answers(report, server.answers)
    return report


WRK_SCRIPT = """
local n = 0
local head = { ["Authorization"] = "Bearer %s", ["Content-Type"] = "application/json" }
function request()
  n = n + 1
  head["Idempotency-Key"] = "k" .. n
  return wrk.format("POST", "/v1/sales/s0/purchases", head, '{"customer":"c' .. n .. '","quantity":1}')
end
"""


def wrk_buys(bench):
    with Fairsale(bench) as server:
        script = server.directory / "buy.lua"
        script.write_text(WRK_SCRIPT % server.shop)
        seconds = max(1, round(bench.seconds))
        out = run(["wrk", "-t1", "-c50", f"-d{seconds}s", "--latency", "-s", script,
                   f"http://127.0.0.1:{server.port}"], seconds + 60)
        if "Non-2xx" in out or "Socket errors" in out:
            raise Failed(f"wrk: {out}")
        requests = int(re.search(r"(\d+) requests in", out).group(1))
        # wrk stops without waiting for the last answers.
        if not requests <= server.sold() <= requests + 50:
            raise Failed(f"wrk counts {requests} purchases, the sale {server.sold()}")
        return {"per_second": float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)),
                "answers": requests}


def redis_benchmark(depth):
    def measured(bench):
        with Redis(bench) as server:
            requests = int(bench.seconds * 30_000 * (1 if depth == 1 else 2))
            words = server.eval_words("c__rand_int__", "k__rand_int__", "0")
            out = run(["redis-benchmark", "-p", str(server.port), "-c", "50", "-P", str(depth),
                       "-n", str(requests), "-r", "100000000000", "--csv", *words],
                      requests / 500 + 60)
            figures = out.strip().splitlines()[-1].replace('"', "").split(",")
            attempts, sold = server.attempts(), server.sold()
            # Random customers: a few may come twice.
            if not requests * 0.999 <= sold <= attempts <= requests:
                raise Failed(f"redis-benchmark: {requests} requests, {attempts} attempts, {sold}")
            return {"per_second": float(figures[-7]), "answers": requests,
                    "p50": 1000 * float(figures[-4]), "p99": 1000 * float(figures[-2]),
                    "max": 1000 * float(figures[-1])}
    return measured


C50, C256, P16 = Load(), Load(connections=256), Load(depth=16)
READ, READ16 = Load(weights=READS), Load(weights=READS, depth=16)

MEASUREMENTS = {
    "ours.c50": loaded(Fairsale, C50),
    "redis.c50": loaded(Redis, C50),
    "nginx.c50": nginx(C50),
    "memory.c50": loaded(Fairsale, C50, in_memory=True),
    "floor.c50": loaded(Floor, C50),
    "postgres.c50": postgres(50),
    "postgres.c2": postgres(2),
    "ours.c256": loaded(Fairsale, C256),
    "redis.c256": loaded(Redis, C256),
    "nginx.c256": nginx(C256),
    "memory.c256": loaded(Fairsale, C256, in_memory=True),
    "ours.p16": loaded(Fairsale, P16),
    "redis.p16": loaded(Redis, P16),
    "memory.p16": loaded(Fairsale, P16, in_memory=True),
    "floor.p16": loaded(Floor, P16),
    "ours.skus8": loaded(Fairsale, C50, skus=8),
    "redis.skus8": loaded(Redis, C50, skus=8),
    "postgres.skus8": postgres(50, skus=8),
    "postgres.skus8-c8": postgres(8, skus=8),
    "append.1024": append(1024),
    "append.128": append(128),
    "append.16": append(16),
    "replay.fold": replay(),
    "replay.scan": replay("--scan-only"),
    "ours.get": loaded(Fairsale, READ),
    "floor.get": loaded(Floor, READ),
    "ours.get16": loaded(Fairsale, READ16),
    "floor.get16": loaded(Floor, READ16),
    "ours.get-in-rush": reads_in_a_rush,
    "ours.soldout": loaded(Fairsale, C50, stock=SMALL_STOCK),
    "redis.soldout": loaded(Redis, C50, stock=SMALL_STOCK),
    "ours.mixed": loaded(Fairsale, Load(weights=MIXED)),
    "redis.mixed": loaded(Redis, Load(weights=MIXED)),
    "ours.open": open_loop(Fairsale),
    "redis.open": open_loop(Redis),
    "ours.watched": watched(WATCHED_FULL),
    "ours.unwatched": unwatched(WATCHED_FULL),
    "ours.watched-fixed": watched(WATCHED_FIXED),
    "ours.unwatched-fixed": unwatched(WATCHED_FIXED),
    "ours.wrk": wrk_buys,
    "redis.redis-benchmark": redis_benchmark(1),
    "redis.redis-benchmark16": redis_benchmark(16),
}
