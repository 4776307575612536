"""The overload curve: what a crowd of open-loop clients gets when it asks for more than can be
served."""
import json
import statistics
import subprocess
import tempfile
import time

import svg
from contenders import Fairsale
from loads import Load, arguments, check_counts, measure_fresh
from processes import Failed

FACTORS = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10)
CONNECTIONS = 2048
DEPTH = 8
GIVE_UP = 0.05
PUSHED_BACK = {"429", "503"}


def sustainable(bench):
    """Purchases a second of that many connections with one request each, in a closed loop; the
    median of three trials."""
    load = Load(connections=CONNECTIONS, seconds=max(2, bench.seconds))
    return statistics.median(measure_fresh(bench, Fairsale(bench), load)["per_second"]
                             for _ in range(3))


def point(bench, rate):
    """One offered rate for as long as a measurement is, with a few reads beside it."""
    with Fairsale(bench) as server, tempfile.TemporaryDirectory(dir=bench.directory) as place, \
            tempfile.TemporaryDirectory(dir=bench.directory) as read_place:
        crowd = Load(connections=CONNECTIONS, depth=DEPTH, rate=rate, give_up=GIVE_UP)
        reads = Load(connections=8, rate=200, weights=(("read", 1),))
        before = server.process.rss_bytes()
        running = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for argv in
                   (arguments(bench, server, crowd, place),
                    arguments(bench, server, reads, read_place))]
        try:
            most = before
            end = time.monotonic() + bench.seconds + 30
            while any(p.poll() is None for p in running) and time.monotonic() < end:
                most = max(most, server.process.rss_bytes())
                time.sleep(0.02)
            bought, read = (json.loads(p.communicate(timeout=1)[0] or "null") for p in running)
        except subprocess.TimeoutExpired:
            raise Failed("a load of the overload curve does not end") from None
        finally:
            for p in running:
                p.kill()
                p.wait()
        if not bought or not read:
            raise Failed("a load of the overload curve failed")
        answers = bought["whole"].get("fresh", {})
        strange = set(answers) - PUSHED_BACK - {"201"}
        if strange:
            raise Failed(f"answers under overload: {answers}")
        # An answer that was lost on the way may have been a purchase.
        if not bought["lost"] and not bought["unanswered"]:
            check_counts(server, answers.get("201", 0), None)
        measured = bought["measured"].get("fresh", {})
        good = measured.get("201", 0)
        pushed = sum(measured.get(kind, 0) for kind in PUSHED_BACK)
        return {"offered": rate, "goodput": good / bought["seconds"],
                "answered_share": (good + pushed) / max(bought["due"], 1),
                "pushed_back": pushed / max(good + pushed, 1),
                "not_sent": bought["abandoned"] / max(bought["sent"] + bought["abandoned"], 1),
                "p50_ms": bought["latency_us"]["p50"] / 1000,
                "p99_ms": bought["latency_us"]["p99"] / 1000,
                "pushed_back_p99_ms": bought["pushed_back_p99"] / 1000,
                "read_p99_ms": read["latency_us"]["p99"] / 1000,
                "lost": bought["lost"], "unanswered": bought["unanswered"],
                "rss_mib": most / 2**20}


def curve(bench, note):
    """The points, each with the multiple of what is sustainable that it offers."""
    base = sustainable(bench)
    points = []
    for factor in FACTORS:
        p = {"factor": factor, **point(bench, base * factor)}
        note(f"overload x{factor:<5g} {p['offered']:>10,.0f}/s offered {p['goodput']:>10,.0f}/s "
             f"served, {100 * p['pushed_back']:.0f} % 429/503, p99 {p['p99_ms']:.1f} ms, "
             f"read p99 {p['read_p99_ms']:.1f} ms, {p['rss_mib']:.0f} MiB")
        points.append(p)
    return base, points


def table(points):
    head = ("offered", "served/s", "429/503 of answers", "not sent by the client", "p50 ms",
            "p99 ms", "p99 of a 429/503, ms", "p99 of a read, ms", "RSS MiB", "lost")
    rows = [(f"{p['factor']:g}x = {p['offered']:,.0f}/s", f"{p['goodput']:,.0f}",
             f"{100 * p['pushed_back']:.1f} %", f"{100 * p['not_sent']:.1f} %",
             f"{p['p50_ms']:.1f}", f"{p['p99_ms']:.1f}", f"{p['pushed_back_p99_ms']:.1f}",
             f"{p['read_p99_ms']:.1f}", f"{p['rss_mib']:.0f}",
             f"{p['lost'] + p['unanswered']:,}") for p in points]
    return head, rows


def picture(base, points):
    x = [p["factor"] for p in points]

    def line(name, key, scale=1.0):
        return svg.Line(name, [p[key] * scale for p in points])
    offered = svg.Line("offered", [p["offered"] / 1000 for p in points], dashed=True)
    # What is offered beyond leaves the picture.
    top = svg.ceiling(max(p["goodput"] for p in points) * 1.2 / 1000)
    return svg.panels(
        f"fairsaled under overload: 1x = {base:,.0f} purchases/s",
        "offered load, multiples of what can be sustained", x, [
            svg.Panel("thousand purchases a second", [offered, line("served", "goodput", 1e-3)], top),
            svg.Panel("share, %", [line("answered 429 or 503", "pushed_back", 100),
                                   line("not sent: client's bound", "not_sent", 100)], top=100),
            svg.Panel("p99, ms", [line("purchase", "p99_ms"), line("read", "read_p99_ms")]),
            svg.Panel("resident memory, MiB", [line("RSS", "rss_mib")]),
        ])
