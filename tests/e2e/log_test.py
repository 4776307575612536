"""The log as people read it: shown, followed, exported, imported and compared, beside a running
server, through a kill -9 and afterwards; and what the command line tells about itself."""

import json
import os
import shutil
import signal
import subprocess
import threading

from harness import PATIENCE, Case, ended, eventually, finish, main


class Follower:
    """fairsale log tail --follow, read line by line."""

    def __init__(self, server, *arguments):
        self.process = subprocess.Popen(
            [server.programs.fairsale, "log", "tail", server.data, "--follow", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def stop(self, number):
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self.reader.join()
        return code, self.process.stderr.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        self.process.stderr.close()


def position(server, sku):
    reply = server.request("GET", f"/v1/sales/{sku}")
    return reply.json["position"] if reply.status == 200 else 0


def shown(server, *arguments):
    return json.loads(server.tool("log", "show", server.data, "--json", *arguments))["events"]


class Log(Case):
    def test_rush_with_a_kill_followed_exported_imported_and_compared(self):
        with self.server() as server:
            server.open_sale("other", stock=1)
            rush = server.rush("--sku", "rush", "--create", "stock=100,hold=1,limit=1", "--attempts",
                               "9000", "--customers", "3000", "--connections", "32", "--rate",
                               "3000", "--until-settled")
            with ended(rush):
                eventually("the rush has begun", lambda: position(server, "rush") > 100)
                with Follower(server, "--sku", "rush", "-n", "100000", "--json") as follower:
                    # Beside the busy server, provisional or not: all in order, without a gap.
                    for _ in range(3):
                        seen = shown(server, "--sku", "rush")
                        self.assertEqual([e["seq"] for e in seen], list(range(1, len(seen) + 1)))
                        flags = [e["provisional"] for e in seen]
                        self.assertEqual(flags, sorted(flags))
                    then = server.path("then.jsonl")
                    self.export(server, then)
                    eventually("a third is decided",
                               lambda: position(server, "rush") > 3000 or rush.poll() is not None)
                    server.kill()
                    server.start()
                    finish(rush)
                    head = server.audit_head("rush")
                    eventually("the follower has seen all of it",
                               lambda: len(follower.lines) >= head["position"])
                    code, said = follower.stop(signal.SIGTERM)
                self.assertEqual(code, 0, said)
                events = [json.loads(line) for line in follower.lines]
            self.assertEqual(events, shown(server, "--sku", "rush", "--to", str(len(events))))
            self.assertEqual([e["seq"] for e in events], list(range(1, len(events) + 1)))
            self.assertFalse(any(e["provisional"] for e in events))

            # What was exported in the middle of it is a prefix of what there is now.
            old = server.path("old")
            server.tool("log", "import", then, old)
            parts = json.loads(server.tool("diff", server.data, old, "--json", code=1))["sales"]
            by_sku = {s["sku"]: s for s in parts}
            self.assertEqual(by_sku["rush"]["relation"], "b_is_prefix")
            self.assertEqual(by_sku["rush"]["seq"], by_sku["rush"]["b"]["position"] + 1)
            self.assertEqual(by_sku["other"]["relation"], "equal")
            self.assertIn("B is a prefix of A", server.tool("diff", server.data, old, code=1))

            # All of it comes out the same: digests as the server itself tells them.
            self.assertEqual(server.stop(), 0)
            now = server.path("now.jsonl")
            self.export(server, now)
            new = server.path("new")
            sales = json.loads(server.tool("log", "import", now, new, "--json"))["sales"]
            rushed = next(s for s in sales if s["sku"] == "rush")
            self.assertEqual(rushed["position"], head["position"])
            self.assertEqual(rushed["head"], head["head"])
            self.assertEqual(rushed["state_digest"], head["state_digest"])
            compared = json.loads(server.tool("diff", server.data, new, "--json"))
            self.assertTrue(compared["equal"])
            for sale in compared["sales"]:
                self.assertEqual(sale["a"], sale["b"])
            server.tool("diff", server.data, new, "--sku", "rush")
            again = server.path("again.jsonl")
            with open(again, "w") as out:
                out.write(server.tool("log", "export", new))
            with open(now) as a, open(again) as b:
                self.assertEqual(a.read(), b.read())

            # A server goes on from an import; its answers are those of before.
            shutil.rmtree(server.data)
            os.rename(new, server.data)
            server.start()
            self.assertEqual(server.audit_head("rush"), head)

    def export(self, server, path, *arguments):
        with open(path, "w") as out:
            out.write(server.tool("log", "export", server.data, *arguments))

    def test_a_purchase_and_a_customer_are_found(self):
        with self.server() as server:
            server.open_sale("tour-2027", stock=1, hold_seconds=0.2)
            server.open_sale("other", stock=1)
            anna = server.buy("tour-2027", "anna", "k1").json["purchase"]
            ben = server.buy("tour-2027", "ben", "k2").json["purchase"]
            server.buy("tour-2027", "ben", "k2")

            def status():
                return server.request("GET", f"/v1/purchases/{ben}", server.shop).json["status"]
            eventually("ben is offered anna's unit and lets it go", lambda: status() == "expired")

            kinds = [e["event"] for e in shown(server, "--purchase", ben)]
            self.assertEqual(kinds, ["PurchaseAttempted", "PurchaseAttempted"])
            decided = [d["kind"] for e in shown(server, "--purchase", ben, "--decisions")
                       for d in e["decisions"]]
            self.assertEqual(decided, ["waiting", "waiting", "offered", "expired"])
            decided = [d["kind"] for e in shown(server, "--customer", "anna", "--decisions")
                       for d in e["decisions"]]
            self.assertEqual(decided, ["reserved", "expired"])
            text = server.tool("log", "show", server.data, "--purchase", anna)
            self.assertRegex(text, rf"^{anna}  \d{{4}}-\S+Z  PurchaseAttempted customer=anna "
                                   r"quantity=1 key=[0-9a-f]{32}\n$")
            self.assertEqual(len(shown(server, "--limit", "2")), 2)
            self.assertEqual(len(shown(server, "--sku", "other", "--sku", "tour-2027",
                                       "--to", "1")), 2)
            tail = server.tool("log", "tail", server.data, "-n", "1")
            self.assertIn("TimePassed", tail)
            for arguments, code in [
                    (["--purchase", "tour-2027:1"], 3),
                    (["--purchase", "tour-2027:02"], 2),
                    (["--purchase", "tour-2027:2", "--sku", "other"], 2),
                    (["--purchase", "nothing:2"], 3),
                    (["--since", "yesterday"], 2),
                    (["--sku", "nothing"], 3),
                    (["--from", "0"], 2)]:
                with self.subTest(arguments):
                    out = server.tool("log", "show", server.data, *arguments, code=code)
                    self.assertEqual(out, "")

    def test_what_nobody_was_promised_is_provisional(self):
        with self.server() as server:
            server.open_sale("demo", stock=5)
            acked = server.acked()
            purchase = server.buy("demo", "anna", "k").json["purchase"]
            server.kill()
            server.set_acked(acked)
            self.assertEqual([e["provisional"] for e in shown(server)], [False, True])
            self.assertTrue(server.tool("log", "tail", server.data, "-n", "1")
                            .endswith(" (provisional)\n"))
            self.assertIn('"events":1}', server.tool("log", "export", server.data))
            with Follower(server) as follower:
                eventually("the durable event is shown", lambda: follower.lines)
                server.start()
                eventually("the server took over the other",
                           lambda: any("anna" in line for line in follower.lines))
                code, said = follower.stop(signal.SIGINT)
            self.assertEqual(code, 0, said)
            self.assertEqual(len(follower.lines), 2)
            self.assertNotIn("provisional", "".join(follower.lines))
            self.assertTrue(follower.lines[1].startswith(purchase + "  "), follower.lines)
            self.assertEqual([e["provisional"] for e in shown(server)], [False, False])

    def test_stores_that_differ(self):
        with self.server() as server, self.server() as other:
            for s in (server, other):
                s.open_sale("demo", stock=5, starts_at="2026-01-01T00:00:00Z")
            server.open_sale("extra", stock=5)
            self.assertIn("sku demo: different from seq 1 on",
                          server.tool("diff", server.data, other.data, code=1))
            only = server.tool("diff", server.data, other.data, "--sku", "extra", code=1)
            self.assertIn("only A has it", only)
            out = json.loads(server.tool("diff", server.data, other.data, "--json", code=1))
            demo = next(s for s in out["sales"] if s["sku"] == "demo")
            self.assertEqual(demo["relation"], "events_differ")
            self.assertEqual(demo["a"]["at"]["event"], "SaleScheduled")
            self.assertFalse(out["equal"])
            self.assertEqual(server.tool("diff", server.data, other.data, "--sku", "x", code=3), "")

    def test_a_changed_file_is_refused_and_nothing_is_left(self):
        with self.server() as server:
            server.open_sale("demo", stock=5)
            server.buy("demo", "anna", "k")
            lines = server.tool("log", "export", server.data).splitlines()
            file = server.path("log.jsonl")
            before = sorted(os.listdir(server.directory) + ["log.jsonl"])

            def refused(changed, code):
                with open(file, "w") as out:
                    out.write("\n".join(changed) + "\n")
                done = subprocess.run([self.programs.fairsale, "log", "import", file,
                                       server.path("new")], capture_output=True, text=True,
                                      timeout=PATIENCE, check=False)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertEqual(done.stdout, "")
                self.assertEqual(sorted(os.listdir(server.directory)), before)
                return done.stderr
            at = next(i for i, line in enumerate(lines) if "anna" in line)
            said = refused([line.replace("anna", "anne") for line in lines], 1)
            self.assertIn(f"{file}, line {at + 1}: ", said)
            refused(lines[:-1], 1)
            said = refused([lines[0].replace('"version":1', '"version":2'), *lines[1:]], 3)
            self.assertIn("line 1: ", said)
            # Not into what is there already.
            server.tool("log", "import", file, server.data, code=2)

    def test_a_full_disk_is_no_whole_export(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        with self.server() as server:
            server.open_sale("demo", stock=5)
            with open("/dev/full", "w") as full:
                done = subprocess.run([self.programs.fairsale, "log", "export", server.data],
                                      stdout=full, stderr=subprocess.PIPE, text=True,
                                      timeout=PATIENCE, check=False)
            self.assertEqual(done.returncode, 3)
            self.assertIn("No space left", done.stderr)


class Manual(Case):
    def fairsale(self, *arguments):
        return subprocess.run([self.programs.fairsale, *arguments], capture_output=True, text=True,
                              timeout=PATIENCE, check=True).stdout

    def test_bash_completes(self):
        script = f"""
            set -eu
            source <("$1" completions bash)
            try() {{
              COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
              _fairsale
              echo "${{COMPREPLY[*]}}"
            }}
            complete -p fairsale
            try fairsale ""
            try fairsale re
            try fairsale log ""
            try fairsale log show --s
            try fairsale log tail --follow --
            try fairsale completions ""
            try fairsale completions = z
            cd "$2"
            try fairsale log show ACK
            try fairsale log show --sku ACK
        """
        with self.server() as server:
            server.stop()
            done = subprocess.run(["bash", "--norc", "-c", script, "bash", self.programs.fairsale,
                                   server.data], capture_output=True, text=True, timeout=PATIENCE,
                                  check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr, "")
        out = done.stdout.splitlines()
        self.assertIn("-F _fairsale fairsale", out[0])
        top = out[1].split()
        for command in ("rush", "check", "replay", "log", "diff", "token", "completions", "man"):
            self.assertIn(command, top)
        self.assertIn("replay", out[2].split())
        self.assertEqual(out[3].split(), ["show", "tail", "export", "import"])
        self.assertEqual(out[4].split(), ["--sku", "--since"])
        self.assertIn("--json", out[5].split())
        self.assertEqual(out[6].split(), ["bash", "zsh", "fish"])
        self.assertEqual(out[8:], ["ACKED", "ACKED"])
        # Whatever --help knows is completed.
        for command in top:
            options = {w.strip(",") for w in self.fairsale(command, "--help").split()
                       if w.startswith("--")}
            bash = self.fairsale("completions", "bash")
            for option in options:
                if option.strip("-").isalpha():
                    self.assertIn(option, bash)

    def test_other_shells_read_their_scripts(self):
        for shell in ("zsh", "fish"):
            script = self.fairsale("completions", shell)
            self.assertIn("fairsale", script)
            if shutil.which(shell):
                subprocess.run([shell, "-n"], input=script, text=True, timeout=PATIENCE, check=True)

    def test_the_manual_page(self):
        page = self.fairsale("man")
        self.assertTrue(page.startswith('.TH FAIRSALE 1 "" "fairsale '))
        for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "EXIT STATUS",
                        "FILES", "EXAMPLES"):
            self.assertIn(f"\n.SH {section}\n", page)
        for command in ("rush", "replay", "log show", "log import", "diff", "completions"):
            self.assertIn(f"\n.SS fairsale {command}\n", page)
        self.assertTrue(page.isascii())
        if shutil.which("groff"):
            done = subprocess.run(["groff", "-man", "-ww", "-z"], input=page, capture_output=True,
                                  text=True, timeout=PATIENCE, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
        if shutil.which("mandoc"):
            subprocess.run(["mandoc", "-T", "lint", "-W", "error"], input=page, text=True,
                           timeout=PATIENCE, check=True)


if __name__ == "__main__":
    main()
