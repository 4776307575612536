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


def restarted_rss(server):
    """Resident bytes after a clean stop and a start."""
    server.process.stop()
    server.launch()
    return server.process.rss_bytes()


def settled_rss(server):
    """Resident bytes when what a background snapshot needed has been given back: the least of some
    seconds."""
    end = time.monotonic() + 5
    least = server.process.rss_bytes()
    while time.monotonic() < end:
        time.sleep(0.05)
        least = min(least, server.process.rss_bytes())
    return least


def memory_of(server, count, add):
    """Resident bytes for each of `count` things that add(1) and add(2) make: as they come, which
    includes what RocksDB buffers of their events; and between two restarts, which does not."""
    before = settled_rss(server)
    loaded = add(1)
    live = settled_rss(server)
    without = restarted_rss(server)
    add(2)
    return {"bytes_each": (live - before) / count,
            "bytes_each_restarted": (restarted_rss(server) - without) / count,
            "answers": count, "per_second": loaded["per_second"], "rss_bytes": live}


def waiting(bench):
    """Memory of customers in line, after as many others so that all buffers have their size."""
    customers = bench.waiting_customers
    # The one unit is held by the first customer, so that the others have something to wait for.
    with Fairsale(bench, stock=1, line_limit=10_000_000) as server:
        def add(part):
            load = Load(depth=16, requests=customers, first=part * customers, warmup=0, seconds=600)
            report = plain_load(bench, server, load)
            check_answers(report, {"fresh": {"201", "202"}})
            return report
        add(0)
        figures = memory_of(server, customers, add)
        line = server.sale("s0")["waiting"]
        if line != 3 * customers - 1:
            raise Failed(f"{line} customers wait, not {3 * customers - 1}")
        return figures


def idle_skus(bench):
    """Memory of sales that nobody buys from, in a server that has sold much of another."""
    count = bench.idle_skus
    with Fairsale(bench) as server:
        body = json.dumps(server.terms(1000, 0))
        fill_sale(bench, server, 5 * count)
        server.skus = count

        def add(part):
            request = (f"PUT /v1/sales/idle{part}-###### HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                       f"Authorization: Bearer {server.operator}\r\n"
                       f"Content-Length: {len(body)}\r\n\r\n{body}")
            load = Load(depth=16, requests=count, weights=(("read", 1),), warmup=0, seconds=600)
            report = plain_load(bench, server, load, request)
            check_answers(report, {"read": {"201"}})
            return report
        return memory_of(server, count, add)


LONG = {"long.ten-million": ten_million, "long.waiting": waiting, "long.idle-skus": idle_skus}
