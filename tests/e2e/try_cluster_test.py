"""`tools/run.sh --cluster`, as somebody tries it: what it prints is typed in."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile

from harness import PATIENCE, Case, eventually, main

RUN = os.path.join(os.path.dirname(__file__), "../../tools/run.sh")
PORTS = 13


def free_range():
    """The first of as many free ports in a row, of those that the system does not give away."""
    for first in range(20_000, 32_000, PORTS):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + PORTS):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise AssertionError("no free ports")


class Trial:
    def __init__(self, programs):
        self.directory = tempfile.mkdtemp(prefix="fairsale-trial-")
        self.port = free_range()
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("FAIRSALE_")}
        self.environment |= {"FAIRSALE_BIN": os.path.dirname(os.path.abspath(programs.fairsaled)),
                             "FAIRSALE_DATA": os.path.join(self.directory, "data"),
                             "FAIRSALE_SECRETS": os.path.join(self.directory, "secrets")}
        self.process = None
        self.pids = set()

    def start(self):
        with open(os.path.join(self.directory, "out"), "wb") as out:
            self.process = subprocess.Popen(
                [RUN, "--cluster", "--listen", f"127.0.0.1:{self.port}"], stdin=subprocess.PIPE,
                stdout=out, stderr=out, env=self.environment)
        def told():
            assert self.process.poll() is None, self.said
            return "Ctrl-C stops all of it" in self.said
        eventually("it says what to try", told)
        self.pids |= set(self.running().values())

    @property
    def said(self):
        with open(os.path.join(self.directory, "out"), errors="replace") as f:
            return f.read()

    def running(self):
        """The process of each server, by the file that it is told to be in."""
        data = self.environment["FAIRSALE_DATA"]
        out = {}
        for name in os.listdir(data):
            with open(os.path.join(data, name, "pid")) as f:
                out[name] = int(f.read())
        return out

    def type(self, pattern, key="1"):
        """Runs the command that was printed and has this in it, perhaps with another key."""
        said = re.sub(r"\\\n\s*", "", self.said)  # commands of two lines
        command = re.search(rf"^ +(.*{pattern}.*)$", said, re.M).group(1)
        command = command.replace("Idempotency-Key: 1", f"Idempotency-Key: {key}")
        return subprocess.run(["bash", "-c", command], capture_output=True, text=True,
                              timeout=PATIENCE, check=True).stdout

    def ended(self):
        """Whether all that ever ran has ended."""
        return not any(os.path.exists(f"/proc/{pid}") for pid in self.pids)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        self.process.stdin.close()
        with contextlib.suppress(AssertionError):
            eventually("all has ended", self.ended)
        shutil.rmtree(self.directory, ignore_errors=True)


class Trials(Case):
    def test_what_it_says_can_be_tried(self):
        with Trial(self.programs) as t:
            first = t.type("/purchases")
            self.assertRegex(first, "HTTP/1.1 201")
            self.assertIn("HTTP/2 200", t.type("--http2"))
            before = t.running()
            self.assertEqual(len(before), 9)
            t.type("kill -9 .*processor1/pid")
            self.assertIn("HTTP/1.1 201", t.type("/purchases", key="2"), "two of three are enough")
            served = re.search("served-by: (edge[01])", first).group(1)
            os.kill(before[served], signal.SIGKILL)
            again = t.type("/purchases")
            self.assertIn("idempotent-replayed: true", again)
            self.assertNotIn(served, again)
            self.assertEqual(again.splitlines()[-1], first.splitlines()[-1])
            eventually("they start again", lambda: "processor1 starts again" in t.said and
                       f"{served} starts again" in t.said)
            eventually("the processor is back", lambda: '"processor1"' in t.type("/v1/cluster"))
            t.pids |= set(t.running().values())
            t.process.stdin.close()
            self.assertEqual(t.process.wait(PATIENCE), 0, t.said)
            self.assertTrue(t.ended(), "nothing is left")
            # What was acknowledged stays; and nothing is left of one that is killed either.
            t.start()
            eventually("the same key gets the same answer",
                       lambda: t.type("/purchases").splitlines()[-1] == first.splitlines()[-1])
            t.process.kill()
            eventually("nothing is left", t.ended)

    def test_ctrl_c_stops_it(self):
        with Trial(self.programs) as t:
            t.process.send_signal(signal.SIGINT)
            self.assertEqual(t.process.wait(PATIENCE), 0, t.said)
            self.assertTrue(t.ended())


if __name__ == "__main__":
    main()
