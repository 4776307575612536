#!/usr/bin/env python3
"""Measures fairsale beside its peers; started by tools/bench.sh."""
import argparse
import contextlib
import json
import pathlib
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time

import machine
import overload
import report
from clusters import CLUSTERS
from long_runs import LONG
from measurements import MEASUREMENTS
from processes import Failed
from rows import chosen, plan_of

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Bench:
    """What all measurements share."""

    def __init__(self, options, directory, kept):
        self.root, self.directory, self.kept = ROOT, directory, kept
        self.binaries = pathlib.Path(options.binaries).resolve()
        self.seconds, self.rounds = options.seconds, options.rounds
        self.events = options.events
        self.large_events = options.large_events
        self.waiting_customers = min(1_000_000, options.large_events)
        self.idle_skus = min(100_000, options.large_events)
        self.facts = {}    # found out once in a run
        self.current = {}  # results of this round
        self.failures = []
        self.command = "bash tools/bench.sh " + shlex.join(sys.argv[1:])

    def keep(self, contender):
        """Removes the contender at the end of the run rather than of the measurement."""
        self.kept.callback(contender.__exit__)


def parse(argv):
    p = argparse.ArgumentParser(prog="tools/bench.sh", description="Measures fairsale beside Redis, "
                                "nginx with Lua, PostgreSQL and raw floors, on loopback.")
    p.add_argument("--rounds", type=int, default=5, help="rounds (5)")
    p.add_argument("--seconds", type=float, default=4, help="of each measurement (4)")
    p.add_argument("--only", metavar="REGEX", help="only the rows or groups that match; leaves docs/ as it is")
    p.add_argument("--list", action="store_true", help="list the rows and stop")
    p.add_argument("--no-write", action="store_true", help="leave docs/ as it is")
    p.add_argument("--json", metavar="FILE", help="write every figure of every round")
    p.add_argument("--long", action="store_true",
                   help="a sale of 10 M attempts, restart and memory as well (some minutes more)")
    p.add_argument("--overload", action="store_true",
                   help="the overload curve as well; with --only overload nothing else")
    p.add_argument("--events", type=int, default=2_000_000, help="of the replayed store (2 M)")
    p.add_argument("--large-events", type=int, default=10_000_000, help="of --long (10 M)")
    p.add_argument("--directory", help="where stores are made (build/bench); a real disk")
    p.add_argument("--binaries", default=ROOT / "build/release/bin", help=argparse.SUPPRESS)
    options = p.parse_args(argv)
    try:
        re.compile(options.only or "")
    except re.error as e:
        p.error(f"--only takes a regular expression: {e}")
    if not 1 <= options.rounds <= 100 or not 0.2 <= options.seconds <= 600:
        p.error("--rounds is 1 to 100, --seconds 0.2 to 600")
    if not 10_000 <= options.events <= 50_000_000 or not 100_000 <= options.large_events:
        p.error("--events is 10,000 to 50,000,000, --large-events at least 100,000")
    return options


def list_rows(groups):
    for title, rows in groups:
        print(title)
        for row in rows:
            print(f"  {row.name:<20} {row.title:<60} {row.goal}{'  (--long)' if row.long else ''}")
    print("overload curve\n  overload             0.25 to 10 times what can be sustained"
          "                     (--overload)")


def measure_rounds(bench, plan):
    """The results of every round: by measurement, its figures. What fails is noted, and the others
    are measured all the same."""
    measurements = MEASUREMENTS | CLUSTERS | LONG
    rounds = []
    for n in range(bench.rounds):
        bench.current = {}
        for _, names in plan:
            turn = n % max(len(names), 1)
            for name in names[turn:] + names[:turn]:
                if name in LONG and n > 0:
                    continue  # once is long enough
                start = time.monotonic()
                try:
                    result = measurements[name](bench)
                except Failed as e:
                    bench.failures.append(f"round {n + 1}, {name}: {e}")
                    note(bench.failures[-1])
                    continue
                bench.current[name] = result
                rate = f"{result['per_second']:>12,.0f}/s" if "per_second" in result else ""
                p99 = f"  p99 {result['p99']:,.0f} us" if "p99" in result else ""
                note(f"round {n + 1}  {name:<24}{rate}{p99}  ({time.monotonic() - start:.1f} s)")
        rounds.append(bench.current)
    return rounds


def write_docs(bench, described, rounds, goals, plain, base, points):
    """docs/benchmarks.md and, when the curve was taken, docs/overload.svg. Without a curve the
    part about it stays as it is."""
    target = ROOT / "docs/benchmarks.md"
    if points:
        (ROOT / "docs/overload.svg").write_text(overload.picture(base, points))
        part = report.overload_part(base, overload.table(points))
    else:
        part = report.overload_part_of(target)
    target.write_text(report.markdown(bench, described, rounds, goals, plain, part))
    print(f"\nWritten to {target}")


def note(text):
    print(text, file=sys.stderr, flush=True)


def run_all(options, kept):
    parent = pathlib.Path(options.directory or ROOT / "build/bench")
    parent.mkdir(parents=True, exist_ok=True)
    if machine.mount_of(parent)[2] in ("tmpfs", "ramfs", "overlay") and not options.directory:
        note(f"Note: {parent} is on {machine.mount_of(parent)[2]}; --directory names a real disk")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="run-", dir=parent))
    directory.chmod(0o755)
    kept.callback(shutil.rmtree, directory, ignore_errors=True)
    bench = Bench(options, directory, kept)
    described = machine.describe(bench)
    groups = chosen(options.only, options.long)
    plan = plan_of(groups)
    rounds = measure_rounds(bench, plan)
    goals, plain = report.tables(groups, rounds, [m for _, names in plan for m in names])
    report.print_tables(goals, plain, sys.stdout)
    base, points = overload.curve(bench, note) if options.overload else (0, [])
    if points:
        report.print_overload(*overload.table(points), sys.stdout)
    if options.json:
        summaries = [report.summary(r, rounds) for _, rows in groups for r in rows]
        pathlib.Path(options.json).write_text(json.dumps(
            {"machine": described, "facts": {k: str(v) for k, v in bench.facts.items()},
             "rows": [s for s in summaries if s], "rounds": rounds, "overload": points},
            indent=1) + "\n")
    if bench.failures:
        raise Failed("\n  ".join(("these measurements failed; docs/ stays as it is:",
                                 *bench.failures)))
    if not options.no_write and not options.only:
        write_docs(bench, described, rounds, goals, plain, base, points)


def main():
    options = parse(sys.argv[1:])
    if options.list:
        list_rows(chosen(options.only, long=True))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with contextlib.ExitStack() as kept:
            run_all(options, kept)
        return 0
    except Failed as e:
        print(f"tools/bench.sh: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
