"""fairsale-load against fairsale-floor, fairsale-append, and the list of bench.py. No figure of time
is judged."""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATHS = None

GET = "GET /v1/sales/s# HTTP/1.1\r\nHost: x\r\n\r\n"
POST = "POST /buy HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\nc@@@@@ k~~~~"
READ_ANSWER = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345"
BUY_ANSWER = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"


class Load(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = pathlib.Path(temporary.name)
        for name, text in (("get", READ_ANSWER), ("post", BUY_ANSWER), ("read", GET),
                           ("buy", POST)):
            (self.directory / name).write_text(text, newline="")
        self.floor = subprocess.Popen([PATHS.floor, self.directory / "get",
                                       self.directory / "post"], stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.end_floor)
        self.port = self.floor.stdout.readline().strip()

    def end_floor(self):
        self.floor.kill()
        self.floor.wait()
        self.floor.stdout.close()

    def load(self, *options, port=None):
        return subprocess.run([PATHS.load, "--port", port or self.port, "--connections", "5",
                               "--warmup", "0", *options], capture_output=True, text=True,
                              timeout=60)

    def report(self, *options):
        done = self.load(*options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def request(self, role, weight, name):
        return ["--request", f"{role}:{weight}:{self.directory / name}"]

    def test_a_bounded_number_of_requests_is_sent_and_answered(self):
        for depth in ("1", "16"):
            report = self.report(*self.request("fresh", 1, "buy"), "--depth", depth, "--seconds",
                                 "30", "--requests-at-most", "1001", "--first", "500")
            self.assertEqual(report["sent"], 1001)
            self.assertEqual(report["whole"], {"fresh": {"201": 1001}})
            self.assertEqual(report["next"], 1501)
            self.assertEqual(report["answers"], 1001)

    def test_a_mix_counts_answers_by_role(self):
        report = self.report(*self.request("fresh", 6, "buy"), *self.request("retry", 2, "buy"),
                             *self.request("read", 2, "read"), "--seconds", "30",
                             "--requests-at-most", "1000")
        self.assertEqual(set(report["whole"]), {"fresh", "retry", "read"})
        self.assertEqual(report["whole"]["read"], {"200": 200})
        self.assertEqual(sum(sum(kinds.values()) for kinds in report["whole"].values()), 1000)

    def test_a_fixed_rate_sends_what_falls_due(self):
        report = self.report(*self.request("fresh", 1, "buy"), "--rate", "2000", "--seconds",
                             "0.5")
        self.assertEqual(report["due"], 1000)
        self.assertEqual(report["sent"], 1000)
        self.assertEqual(report["whole"], {"fresh": {"201": 1000}})
        self.assertEqual((report["lost"], report["unanswered"], report["abandoned"]), (0, 0, 0))
        latency = report["latency_us"]
        self.assertLessEqual(latency["p50"], latency["p99"])
        self.assertLessEqual(latency["p99"], latency["max"])

    def test_another_protocol_is_an_error(self):
        done = self.load(*self.request("fresh", 1, "buy"), "--protocol", "resp", "--seconds", "1")
        self.assertEqual(done.returncode, 1)
        self.assertIn("not RESP", done.stderr)

    def test_a_server_that_is_not_there_is_an_error(self):
        self.end_floor()
        done = self.load(*self.request("fresh", 1, "buy"), "--seconds", "1")
        self.assertEqual(done.returncode, 1)
        self.assertIn("connect", done.stderr)

    def test_repeats_need_first_attempts(self):
        done = self.load(*self.request("retry", 1, "buy"), "--seconds", "1")
        self.assertEqual(done.returncode, 2)


class Append(unittest.TestCase):
    def test_both_sides_are_measured_and_nothing_is_left(self):
        with tempfile.TemporaryDirectory() as directory:
            done = subprocess.run([PATHS.append, "--directory", directory, "--batch", "16",
                                   "--seconds", "0.1"], capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
            report = json.loads(done.stdout)
            self.assertGreater(report["raw_blocks"], 0)
            self.assertEqual(report["raw_blocks"], report["log_blocks"])
            self.assertEqual(list(pathlib.Path(directory).iterdir()), [])


class Bench(unittest.TestCase):
    def bench(self, *options):
        return subprocess.run([sys.executable, ROOT / "tools/bench/bench.py", *options],
                              capture_output=True, text=True, timeout=60)

    def test_the_list_names_the_rows(self):
        done = self.bench("--list")
        self.assertEqual(done.returncode, 0, done.stderr)
        for name in ("redis-50", "postgres-8", "append-1024", "restart", "overload"):
            self.assertIn(name, done.stdout)
        self.assertNotIn("append-16 ", self.bench("--list", "--only", "redis").stdout)

    def test_every_row_is_measured_and_no_measurement_is_for_nothing(self):
        sys.path.insert(0, str(ROOT / "tools/bench"))
        from clusters import CLUSTERS
        from long_runs import LONG
        from measurements import MEASUREMENTS
        from rows import GROUPS, Row, chosen, plan_of
        planned = [name for _, names in plan_of(chosen(None, long=True)) for name in names]
        self.assertEqual(sorted(planned), sorted(MEASUREMENTS | CLUSTERS | LONG))
        names = [row.name for _, rows in GROUPS for row in rows]
        self.assertEqual(len(names), len(set(names)))
        row = Row("x", "x", "a", peer="b", goal="<= 0.7")
        self.assertEqual(row.value({"a": {"per_second": 1}, "b": {"per_second": 2}}), 0.5)
        self.assertIsNone(row.value({"a": {"per_second": 1}}))
        self.assertEqual([row.met(0.7), row.met(0.71)], [True, False])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for program in ("load", "floor", "append"):
        parser.add_argument(f"--{program}", required=True)
    PATHS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])
