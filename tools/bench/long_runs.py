"""Measurements that take minutes: a sale with ten million attempts, and memory."""
import json
import signal
import time

from contenders import Fairsale
from loads import Load, check_answers, fill_sale, plain_load
from processes import Failed

PART = 100_000


def cost_of(bench, server, first, parts):
    """CPU and time of a purchase over some parts of PART attempts each."""
    cpu = seconds = 0.0
    for part in range(parts):
        report = fill_sale(bench, server, PART, first + part * PART)
        cpu += report["server_cpu_seconds"]
        seconds += report["seconds"]
    return 1e6 * cpu / (parts * PART), 1e6 * seconds / (parts * PART)


def ten_million(bench):
    events = bench.large_events
    small_cpu, small_time = [], []
    for _ in range(5):
        with Fairsale(bench) as server:
            fill_sale(bench, server, PART)
            cpu, seconds = cost_of(bench, server, PART, 1)
            small_cpu.append(cpu)
            small_time.append(seconds)
    with Fairsale(bench) as server:
        fill = fill_sale(bench, server, events)
        cpu, seconds = cost_of(bench, server, events, 5)
        sold = server.sold()
        restarts = [restart(server) for _ in range(3)]
        if server.sold() != sold:
            raise Failed(f"after kill -9 {server.sold()} units are sold, before {sold}")
        rss = server.process.rss_bytes()
    small_cpu, small_time = sorted(small_cpu)[2], sorted(small_time)[2]
    return {"cpu_ratio": cpu / small_cpu, "time_ratio": seconds / small_time,
            "cpu_us": cpu, "cpu_us_small": small_cpu, "time_us": seconds,
            "time_us_small": small_time, "per_second": fill["per_second"],
            "answers": fill["answered"], "restart_seconds": sorted(restarts)[1],
            "restarts": restarts, "rss_bytes": rss, "events": events}


def restart(server):
    """Seconds from the start of the program until it is ready, after a kill -9."""
    server.process.stop(signal.SIGKILL)
    start = time.monotonic()
    server.launch()
    return time.monotonic() - start


def waiting(bench):
    """Growth of the resident memory by customers in line, after a warm-up that lets the buffers of
    the server and of RocksDB reach their size."""
    customers = bench.waiting_customers
    with Fairsale(bench, skus=1, stock=0, line_limit=2_000_000_000) as server:
        accept = {"fresh": {"202"}}
        load = dict(depth=16, warmup=0, seconds=600)

        def more(first, n):
            report = plain_load(bench, server, Load(requests=n, first=first, **load))
            check_answers(report, accept)
            return server.process.rss_bytes()
        before = more(0, customers)
        after = more(customers, customers)
        line = server.sale("s0")["waiting"]
        if line != 2 * customers:
            raise Failed(f"{line} customers wait, not {2 * customers}")
    return {"bytes_each": (after - before) / customers, "answers": customers,
            "rss_bytes": after}


def idle_skus(bench):
    """Growth of the resident memory by sales that nobody buys from."""
    count = bench.idle_skus
    with Fairsale(bench) as server:
        body = json.dumps(server.terms(1000, 0))
        fill_sale(bench, server, 3 * count, first=0)
        before = server.process.rss_bytes()
        server.skus = count
        request = (f"PUT /v1/sales/idle-###### HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                   f"Authorization: Bearer {server.operator}\r\n"
                   f"Content-Length: {len(body)}\r\n\r\n{body}")
        report = plain_load(bench, server,
                            Load(depth=16, requests=count, weights=(("read", 1),), warmup=0,
                                 seconds=600), request)
        check_answers(report, {"read": {"201"}})
        after = server.process.rss_bytes()
    return {"bytes_each": (after - before) / count, "answers": count,
            "per_second": report["per_second"], "rss_bytes": after}


LONG = {"long.ten-million": ten_million, "long.waiting": waiting, "long.idle-skus": idle_skus}
